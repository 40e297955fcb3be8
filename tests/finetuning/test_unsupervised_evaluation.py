"""Label-free figures of planted clusters."""

import numpy as np
import pytest

from huidurep.finetuning import unsupervised_evaluation
from huidurep.finetuning.settings import UnsupervisedEvaluationSettings
from huidurep.finetuning.unsupervised_evaluation import leading_components


def two_clusters(distance, num_spikes=60, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.repeat([0.0, distance], num_spikes // 2)
    return rng.normal(size=(num_spikes, 3)) + centres[:, None]


def score_embeddings(points, **options):
    """Of one group, without noise and at a spike a second, if not said otherwise."""
    defaults = dict(noisy_embeddings=points, groups=np.zeros(len(points), int), spike_times_s=np.arange(len(points)))
    defaults |= dict(seed=0, settings=UnsupervisedEvaluationSettings())
    return unsupervised_evaluation.score_embeddings(points, **defaults | options)


def test_clusters_far_apart_have_full_agreement_and_no_entropy():
    points = two_clusters(30)
    found = score_embeddings(points, noisy_embeddings=points + 0.1)
    assert found["agreement_of_halves"] == found["agreement_under_noise"] == 1
    assert found["posterior_entropy"] < 1e-3 and found["short_isi_fraction"] == 0


def test_one_cloud_has_less():
    far, one = score_embeddings(two_clusters(30)), score_embeddings(two_clusters(0))
    assert one["agreement_of_halves"] < 0.6 < far["agreement_of_halves"]
    assert one["posterior_entropy"] > far["posterior_entropy"]


def test_noise_that_moves_spikes_to_the_other_cluster_is_seen():
    points = two_clusters(30)
    moved = points.copy()
    moved[:15], moved[30:45] = points[30:45], points[:15]
    assert abs(score_embeddings(points, noisy_embeddings=moved)["agreement_under_noise"]) < 0.05


def test_short_intervals_are_counted_in_each_component():
    points = two_clusters(30)
    # of one cluster 10 ms apart; of the other in pairs 1 ms apart, so that 15 of its 29 intervals are too short
    times = np.concatenate([0.010 * np.arange(30), 5 + 0.1 * (np.arange(30) // 2) + 0.001 * (np.arange(30) % 2)])
    order = np.random.default_rng(0).permutation(60)
    found = score_embeddings(points[order], spike_times_s=times[order])
    assert found["short_isi_fraction"] == pytest.approx(15 / 58)


def test_groups_are_scored_by_themselves_and_small_ones_left_out():
    points = two_clusters(30)
    # together the four clusters would be two: those of the second group lie where those of the first do
    both = np.concatenate([points, points[::-1], points[:39]])
    groups = np.repeat([4, 9, 2], (60, 60, 39))
    assert score_embeddings(both, groups=groups)["agreement_of_halves"] == 1
    assert score_embeddings(points[:39]) == {}
    assert score_embeddings(both, groups=np.arange(len(both))) == {}


def test_figures_are_the_same_under_a_seed():
    points = two_clusters(2)
    assert score_embeddings(points, seed=3) == score_embeddings(points, seed=3)


def test_leading_components_have_a_mean_variance_of_one():
    points = np.random.default_rng(0).normal(size=(50, 4)) * [9, 3, 1, 0.1]
    scores = leading_components(points, 2)
    assert scores.shape == (50, 2) and scores.var(0).mean() == pytest.approx(1)
    assert abs(np.corrcoef(scores[:, 0], points[:, 0])[0, 1]) > 0.95
    assert leading_components(points[:3], 12).shape == (3, 3)
    assert (leading_components(np.ones((5, 3)), 2) == 0).all()
