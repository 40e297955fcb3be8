import numpy as np
import pytest
from scipy.special import logsumexp
from stand_in import agreement

from huidurep.clustering.mixture import cluster_embeddings
from huidurep.clustering.separation import EVIDENCE, _ashman_d


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
def test_one_cluster_stays_one(seed):
    points, _ = planted_clusters((1500,), seed=seed)
    assert cluster_embeddings(points, seed=seed).num_units == 1


@pytest.mark.parametrize("sizes", [(1500,), (400, 400), *MANY_SIZES, (3000, 60)])
def test_planted_clusters_are_not_mixed(sizes):
    points, truth = planted_clusters(sizes, distance=10.0)
    found = cluster_embeddings(points)
    kept = found.labels >= 0
    assert kept.mean() > 0.99
    # whatever the number of units: each holds spikes of one cluster, and each cluster has a unit with most of it
    largest = [np.bincount(truth[found.labels == unit]).max() for unit in range(found.num_units)]
    assert sum(largest) > 0.99 * kept.sum()
    assert agreement(truth, found.labels) > 0.8


def test_a_stretched_and_bent_cluster_stays_one():
    rng = np.random.default_rng(0)
    along = rng.uniform(-3, 3, 1500)
    bent = np.stack([4 * along, along**2, np.zeros(1500)], 1) + rng.normal(0, 1, (1500, 3))
    assert cluster_embeddings(bent).num_units == 1


@pytest.mark.parametrize("num_units", [1, 2, 3, 5, 12])
def test_num_units_is_honoured(num_units):
    points, _ = planted_clusters((200, 200, 200))
    found = cluster_embeddings(points, num_units=num_units)
    assert found.num_units == num_units
    assert set(found.labels) == set(range(num_units))


def test_num_units_may_be_the_number_of_spikes():
    points, _ = planted_clusters((6, 6))
    found = cluster_embeddings(points, num_units=12)
    assert sorted(found.labels) == list(range(12))


def test_num_units_above_the_spikes_fitted_is_honoured():
    points, _ = planted_clusters((20, 20))
    found = cluster_embeddings(points, num_units=10, max_fit_spikes=5)
    assert set(found.labels) == set(range(10))


def test_more_units_than_spikes_raise():
    with pytest.raises(ValueError, match="at least num_units=13 spikes, found 12: lower num_units"):
        cluster_embeddings(np.zeros((12, 3)), num_units=13)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_must_be_finite(bad):
    points, _ = planted_clusters((100,))
    points[7, 3] = bad
    with pytest.raises(ValueError, match="expected finite embeddings"):
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


def test_groups_below_the_smallest_unit_are_left_out():
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
def test_the_mixture_sees_so_many_principal_axes(max_dimensions, num_units):
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
    found = cluster_embeddings(points)
    assert found.num_units == 4
    assert agreement(truth, found.labels) > 0.9


def plain_ashman_d(a, b):
    """EM as the textbook has it: two Gaussians fitted to the union of two samples, started from them."""
    x = np.concatenate([a, b])
    floor = 1e-3 * x.var() + 1e-12
    mean, variance = np.array([a.mean(), b.mean()]), np.array([a.var(), b.var()]) + floor
    share = np.array([len(a), len(b)]) / len(x)
    for step in range(61):
        logs = np.log(share) - 0.5 * np.log(variance) - 0.5 * (x[:, None] - mean) ** 2 / variance
        part = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        if step < 60:
            size = part.sum(0) + 1e-9
            mean = part.T @ x / size
            variance = (part * (x[:, None] - mean) ** 2).sum(0) / size + floor
            share = size / size.sum()
    gain = logsumexp(logs, axis=1).sum() + 0.5 * len(x) * (np.log(x.var() + 1e-300) + 1)
    if share.min() * len(x) < 2 or gain < EVIDENCE * np.log(len(x)):
        return 0.0
    return abs(mean[0] - mean[1]) / np.sqrt(variance.mean())


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_separation_is_that_of_plain_em(scale):
    rng = np.random.default_rng(0)
    separations = []
    for index in range(24):
        a = rng.standard_t(2, 40 * (1 + index)) if index % 4 == 1 else rng.normal(size=40 * (1 + index))
        b = rng.normal(rng.uniform(0, 9), rng.uniform(0.2, 3), 30 + 5 * index)
        if index % 4 == 2:
            a, b = np.round(a), np.round(b)
        if index % 4 == 3:  # one sample cut in two
            both = np.sort(np.concatenate([a, b]))
            a, b = both[: len(a)], both[len(a) :]
        offset = rng.uniform(-20, 20)
        a, b = scale * (a + offset), scale * (b + offset)
        separations.append(_ashman_d(a, b))
        assert separations[-1] == pytest.approx(plain_ashman_d(a, b), abs=1e-9)
    assert 0 < np.count_nonzero(separations) < 24


@pytest.mark.parametrize("b", [np.ones(30), np.ones(30) + 1e-15, np.ones(1)])
def test_equal_spikes_are_not_separated(b):
    assert _ashman_d(np.ones(40), b) == 0.0
    assert _ashman_d(np.zeros(40), b - 1) == 0.0
