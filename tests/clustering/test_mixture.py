import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from stand_in import agreement

from huidurep.clustering import mixture
from huidurep.clustering.separation import MergeSettings
from huidurep.clustering.unit_mixture import MixtureSettings

FEW_STARTS = MixtureSettings(num_starts=3)  # the votes have tests of their own


def cluster_embeddings(embeddings, **options):
    return mixture.cluster_embeddings(embeddings, **dict(settings=FEW_STARTS) | options)


def planted_clusters(sizes, *, distance=8.0, num_dimensions=8, seed=0):
    """Gaussian clusters of variance 1 at `distance` from each other: points and true labels, shuffled."""
    rng = np.random.default_rng(seed)
    centres = np.eye(max(num_dimensions, len(sizes)))[: len(sizes), :num_dimensions] * distance / np.sqrt(2)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return centres[labels] + rng.normal(size=(len(labels), num_dimensions)), labels


MANY_SIZES = [(300, 500, 200, 400), (600, 150, 100, 300, 250, 200)]


@pytest.mark.parametrize("sizes", [(400, 400), *MANY_SIZES])
def test_number_of_planted_clusters_is_found(sizes):
    points, truth = planted_clusters(sizes)
    found = cluster_embeddings(points)
    assert found.num_units == len(sizes)
    assert agreement(truth, found.labels) > 0.98
    assert found.labels.dtype == np.int64 and found.posteriors.dtype == np.float32
    assert found.labels.shape == found.posteriors.shape == (len(points),)
    assert np.median(found.posteriors) > 0.99


def test_small_cluster_beside_a_large_one():
    points, truth = planted_clusters((3000, 60), distance=10.0)
    found = cluster_embeddings(points)
    assert found.num_units == 2
    assert agreement(truth, found.labels) > 0.99
    small = found.labels[truth == 1]
    assert np.mean(found.labels == np.bincount(small[small >= 0]).argmax()) < 0.03


@pytest.mark.parametrize("seed", range(2))
def test_one_cluster_is_not_split(seed):
    points, _ = planted_clusters((1500,), seed=seed)
    assert cluster_embeddings(points, seed=seed).num_units == 1


@pytest.mark.parametrize("sizes", [(1500,), (400, 400), *MANY_SIZES, (1500, 60)])
def test_planted_clusters_are_not_mixed(sizes):
    points, truth = planted_clusters(sizes, distance=10.0)
    found = cluster_embeddings(points)
    kept = found.labels >= 0
    assert kept.mean() > 0.99
    # whatever the number of units: each holds spikes of one cluster, and each cluster has a unit with most of it
    largest = [np.bincount(truth[found.labels == unit]).max() for unit in range(found.num_units)]
    assert sum(largest) > 0.99 * kept.sum()
    assert agreement(truth, found.labels) > 0.8


def test_a_stretched_and_bent_cluster_is_not_split():
    rng = np.random.default_rng(0)
    along = rng.uniform(-3, 3, 1500)
    bent = np.stack([4 * along, along**2, np.zeros(1500)], 1) + rng.normal(0, 1, (1500, 3))
    assert cluster_embeddings(bent).num_units == 1


@pytest.mark.parametrize("num_units", [1, 2, 3, 5, 12])
def test_given_num_units(num_units):
    points, _ = planted_clusters((200, 200, 200))
    found = cluster_embeddings(points, num_units=num_units)
    assert found.num_units == num_units
    assert set(found.labels) == set(range(num_units))


@pytest.mark.parametrize("seed", range(2))
def test_outliers_take_no_unit_of_a_given_number(seed):
    points, truth = planted_clusters((100, 100, 100), distance=5.0, seed=seed)
    outliers = np.random.default_rng(seed).normal(15, 1, (12, 8))
    found = cluster_embeddings(np.concatenate([points, outliers]), num_units=3, seed=seed)
    assert (found.labels >= 0).all() and found.num_units == 3
    assert np.bincount(found.labels).min() > 80  # and not one unit of outliers, two clusters in another
    assert agreement(truth, found.labels[: len(truth)]) > 0.9


def test_num_units_may_be_the_number_of_spikes():
    points, _ = planted_clusters((6, 6))
    found = cluster_embeddings(points, num_units=12)
    assert sorted(found.labels) == list(range(12))


def test_num_units_above_max_fit_spikes():
    points, _ = planted_clusters((20, 20))
    found = cluster_embeddings(points, num_units=10, max_fit_spikes=5)
    assert set(found.labels) == set(range(10))


def test_more_units_than_spikes_raise():
    with pytest.raises(ValueError, match="num_units=13.*found 12"):
        cluster_embeddings(np.zeros((12, 3)), num_units=13)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_must_be_finite(bad):
    points, _ = planted_clusters((100,))
    points[7, 3] = bad
    with pytest.raises(ValueError, match="NaN"):
        cluster_embeddings(points)


@pytest.mark.parametrize("num_spikes", [0, 1, 29])
def test_too_few_spikes_are_no_unit(num_spikes):
    found = cluster_embeddings(np.zeros((num_spikes, 8)))
    assert found.num_units == 0
    assert (found.labels == -1).all() and len(found.labels) == num_spikes
    assert (found.posteriors == 0).all()
    labels, posteriors = found.predict(np.zeros((3, 8)))
    assert labels.tolist() == [-1] * 3 and posteriors.tolist() == [0] * 3


def test_equal_spikes_are_one_unit():
    found = cluster_embeddings(np.ones((100, 5)))
    assert found.num_units == 1 and (found.labels == 0).all()


def test_groups_below_min_unit_spikes_have_no_unit():
    points, truth = planted_clusters((500, 500, 12), distance=20.0)
    found = cluster_embeddings(points, min_unit_spikes=30)
    assert found.num_units == 2
    assert cluster_embeddings(points, min_unit_spikes=5).num_units == 3


def test_rest_of_the_spikes_is_assigned():
    points, truth = planted_clusters((1000, 1000))
    found = cluster_embeddings(points, max_fit_spikes=400)
    assert found.num_units == 2
    assert agreement(truth, found.labels) > 0.98


@pytest.mark.parametrize("max_dimensions, num_units", [(1, 2), (2, 3), (20, 3)])
def test_max_dimensions(max_dimensions, num_units):
    rng = np.random.default_rng(0)
    centres = np.repeat([[12.0, 0.0], [-12.0, 5.0], [-12.0, -5.0]], 300, axis=0)
    found = cluster_embeddings(centres + rng.normal(size=(900, 2)), max_dimensions=max_dimensions)
    assert found.axes.shape == (2, min(max_dimensions, 2)) and found.num_units == num_units


def test_same_seed_same_clustering_and_global_state_untouched():
    points, _ = planted_clusters((300, 300, 300), distance=4.0)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (cluster_embeddings(points, seed=3, max_fit_spikes=600) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.posteriors, again.posteriors)


def test_input_is_not_changed():
    points, _ = planted_clusters((200, 200))
    before = points.copy()
    cluster_embeddings(points)
    assert np.array_equal(points, before)


def test_posteriors_sum_to_one():
    points, _ = planted_clusters((300, 300, 300), distance=3.5)
    found = cluster_embeddings(points, num_units=3)
    every = np.stack([found.posterior_of(points, np.full(len(points), unit)) for unit in range(3)])
    assert every.sum(0) == pytest.approx(np.ones(len(points)), abs=1e-5)
    assert found.unit_posteriors(points).sum(1) == pytest.approx(np.ones(len(points)), abs=1e-5)
    assert every.max(0) == pytest.approx(found.posteriors, abs=1e-5)
    assert 0.5 < found.posteriors.mean() < 0.999


def test_predict_repeats_the_labels():
    points, _ = planted_clusters((300, 300))
    found = cluster_embeddings(points)
    labels, posteriors = found.predict(points)
    assert np.array_equal(labels, found.labels)
    assert posteriors == pytest.approx(found.posteriors, abs=1e-6)


def test_blocks_of_spikes_have_the_posteriors_of_all_at_once(monkeypatch):
    embeddings, _ = planted_clusters((300, 200))
    times_s = np.sort(np.random.default_rng(0).uniform(0, 100, len(embeddings)))
    found = cluster_embeddings(embeddings, times_s=times_s)
    expected = found.unit_posteriors(embeddings, times_s)
    monkeypatch.setattr("huidurep.clustering.unit_mixture.BLOCK_SPIKES", 7)
    np.testing.assert_allclose(found.unit_posteriors(embeddings, times_s), expected, atol=1e-6)


def test_memory_does_not_grow_with_spikes_times_components(monkeypatch):
    monkeypatch.setattr("huidurep.clustering.unit_mixture.BLOCK_SPIKES", 2000)
    embeddings, _ = planted_clusters((300,) * 4)
    found = cluster_embeddings(embeddings)
    many = np.tile(embeddings, (80, 1)).astype("float32")
    tracemalloc.start()
    found.predict(many)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 0.5 * 8 * len(many) * len(found.weights)


def test_a_greater_merge_bias_never_gives_more_units():
    points, _ = planted_clusters((300, 300, 300, 300), distance=3.2)
    counts = [cluster_embeddings(points, merge_bias=bias).num_units for bias in (-2.5, -0.5, 0.5, 4.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 1


def test_scale_does_not_matter():
    points, _ = planted_clusters((300, 300, 300))
    first, scaled = cluster_embeddings(points), cluster_embeddings(points * 1e-3)
    assert np.array_equal(first.labels, scaled.labels)


@pytest.mark.parametrize("seed", range(3))
def test_a_short_recording_is_split_too(seed):
    points, truth = planted_clusters((60, 70, 60, 65), seed=seed)
    found = mixture.cluster_embeddings(points)
    assert found.num_units == 4
    assert agreement(truth, found.labels) > 0.9


def test_refractory_periods_keep_overlapping_clusters_apart():
    rng = np.random.default_rng(0)
    points, truth = planted_clusters((700, 700), distance=2.6, num_dimensions=4)
    times_s = np.zeros(1400)
    for unit in (0, 1):
        times_s[truth == unit] = np.cumsum(0.003 + rng.exponential(0.002, 700))  # too short to estimate drift
    assert cluster_embeddings(points).num_units == 1
    found = cluster_embeddings(points, times_s=times_s)
    assert found.num_units == 2 and found.drift is None
    assert agreement(truth, found.labels) > 0.85
    # the same clusters with the spike times of one neuron
    one_neuron_s = np.cumsum(0.003 + rng.exponential(0.002, 1400))
    assert cluster_embeddings(points, times_s=one_neuron_s).num_units == 1


def test_parts_of_one_cluster_are_far_below_the_merge_limit():
    points, _ = planted_clusters((1500,), num_dimensions=4)
    assert cluster_embeddings(points, merge_bias=-1.0).num_units == 1


def test_settings():
    points, truth = planted_clusters((300, 300))
    assert cluster_embeddings(points, settings=MixtureSettings(max_components=1)).num_units == 1
    settings = replace(FEW_STARTS, merge=MergeSettings(limit=100.0))
    assert cluster_embeddings(points, settings=settings).num_units == 1
    assert (cluster_embeddings(points, settings=MixtureSettings()).labels == cluster_embeddings(points).labels).all()
