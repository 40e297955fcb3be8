"""Label-free figures of planted clusters, and the acceptance test."""

import numpy as np
import pytest
import torch
from template_libraries import SMALL
from toy_spikes import draw_spikes

from huidurep import HuiduRep, HuiduRepConfig
from huidurep.adaptation.unsupervised_evaluation import (
    compare_encoders,
    decide_acceptance,
    score_embeddings,
)
from huidurep.models.input_contract import map_waveforms

BEFORE = dict(agreement_under_noise=0.5, agreement_of_halves=0.6)


def two_clusters(distance, num_spikes=60, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.repeat([0.0, distance], num_spikes // 2)
    return rng.normal(size=(num_spikes, 3)) + centres[:, None]


def test_clusters_far_apart_have_full_agreement_and_no_entropy():
    points = two_clusters(30)
    found = score_embeddings(points, noisy_embeddings=points + 0.1)
    assert found["agreement_of_halves"] == found["agreement_under_noise"] == 1
    assert found["posterior_entropy"] < 1e-3 and "short_isi_fraction" not in found


def test_one_cloud_has_less():
    far, one = score_embeddings(two_clusters(30)), score_embeddings(two_clusters(0))
    assert one["agreement_of_halves"] < 0.6 < far["agreement_of_halves"]
    assert one["posterior_entropy"] > far["posterior_entropy"]
    assert "agreement_under_noise" not in one


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


@pytest.mark.parametrize("noise, halves", [(0.6, 0.6), (0.49, 0.9), (0.9, 0.51)])
def test_a_change_that_is_not_worse_is_accepted(noise, halves):
    after = dict(agreement_under_noise=noise, agreement_of_halves=halves)
    result = decide_acceptance(BEFORE, after)
    assert result.adopted and result.reason.startswith("adapted weights taken: ")
    assert f"agreement under noise 0.50 -> {noise:.2f}" in result.reason
    assert result.before == BEFORE and result.after == after


@pytest.mark.parametrize("noise, halves", [(0.47, 0.9), (0.9, 0.49), (0.3, 0.2)])
def test_a_change_for_the_worse_is_rejected(noise, halves):
    result = decide_acceptance(BEFORE, dict(agreement_under_noise=noise, agreement_of_halves=halves))
    assert not result.adopted and result.reason.startswith("pretrained weights kept")


def test_nothing_to_evaluate_is_not_adopted():
    for before, after in (({}, BEFORE), (BEFORE, {}), ({}, {})):
        result = decide_acceptance(before, after)
        assert not result.adopted and "too few" in result.reason


def test_a_model_is_as_good_as_itself():
    torch.manual_seed(0)
    model = HuiduRep(HuiduRepConfig(**SMALL)).eval()
    waveforms, _ = draw_spikes(3, 20)
    mapped = map_waveforms(waveforms, model.config, peak_index=30)
    residuals = np.random.default_rng(0).normal(0, 8, mapped.snippets.shape).astype("f4")
    result = compare_encoders(model, model, mapped, residuals, spike_times_s=np.arange(60.0))
    assert result.adopted and result.before == result.after
    assert set(result.before) == {
        "agreement_of_halves",
        "agreement_under_noise",
        "posterior_entropy",
        "short_isi_fraction",
    }
