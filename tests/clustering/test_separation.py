"""The merge criterion: Ashman's D, the merge statistic and agglomeration."""

import numpy as np
import pytest
from scipy.special import logsumexp

from huidurep.clustering.refractory import RefractorySettings, refractory_log_likelihood_ratio
from huidurep.clustering.separation import (
    MergeSettings,
    _distance_of_two_gaussians,
    merge_groups,
    merge_limit,
    merge_statistic,
    separation,
)

SETTINGS = MergeSettings()


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
    if share.min() * len(x) < 2 or gain < SETTINGS.min_gain_per_log_spikes * np.log(len(x)):
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
        separations.append(_distance_of_two_gaussians(a, b, SETTINGS))
        tolerance = 1e-9 if len(a) + len(b) <= SETTINGS.min_binned_spikes else 0.05
        assert separations[-1] == pytest.approx(plain_ashman_d(a, b), abs=tolerance)
    assert 0 < np.count_nonzero(separations) < 24


@pytest.mark.parametrize("b", [np.ones(30), np.ones(30) + 1e-15, np.ones(1)])
def test_equal_spikes_are_not_separated(b):
    assert _distance_of_two_gaussians(np.ones(40), b, SETTINGS) == 0.0
    assert _distance_of_two_gaussians(np.zeros(40), b - 1, SETTINGS) == 0.0


def test_separation_of_two_clouds_is_their_distance():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 800, 5))
    assert separation(first, second) == 0.0
    assert separation(first, second + [6, 0, 0, 0, 0]) == pytest.approx(6.0, rel=0.05)
    # a gain that no sample reaches
    settings = MergeSettings(min_gain_per_log_spikes=1e6)
    assert separation(first, second + [6, 0, 0, 0, 0], settings=settings) == 0.0


def test_merge_statistic():
    times_s = np.cumsum(np.random.default_rng(0).exponential(0.05, 4000))
    others_s = np.cumsum(np.random.default_rng(1).exponential(0.05, 4000))
    ratio = refractory_log_likelihood_ratio(times_s, others_s)
    assert ratio > 10
    assert merge_statistic(2.5, times_s, others_s) == 2.5 + ratio
    assert merge_statistic(2.5, times_s, others_s, limit=2.0) == 2.5
    settings = MergeSettings(refractory=RefractorySettings(one_neuron_share=0.95))  # one or two: the same hypothesis
    assert merge_statistic(2.5, times_s, others_s, settings=settings) == 2.5
    assert merge_limit() == 3.0 and merge_limit(0.5, MergeSettings(limit=4.0)) == 4.5


def groups_of(num_items, values, limit=3.0, **options):
    """Groups that are merged where the statistic of two groups is the smallest value of their items."""

    def statistic(first, second):
        return min(values.get((min(a, b), max(a, b)), np.inf) for a in first for b in second)

    def candidate_pairs(groups):
        return [(a, b) for a in groups for b in groups if a < b]

    return merge_groups(range(num_items), candidate_pairs, statistic, limit, **options)


def test_the_least_separated_groups_are_merged_first():
    values = {(0, 1): 1.0, (1, 2): 3.5, (2, 3): 2.0}
    assert groups_of(4, values) == {0: [0, 1], 2: [2, 3]}
    assert groups_of(4, values, limit=1.5) == {0: [0, 1], 2: [2], 3: [3]}
    assert groups_of(4, values, limit=3.5) == {0: [0, 1, 2, 3]}
    assert groups_of(4, values, limit=np.inf, min_groups=3) == {0: [0, 1], 2: [2], 3: [3]}


def test_nothing_to_merge():
    assert groups_of(0, {}) == {} and groups_of(1, {}) == {0: [0]}
    assert merge_groups(range(3), lambda groups: [], lambda first, second: 0.0, 3.0) == {0: [0], 1: [1], 2: [2]}


def test_statistics_of_unchanged_groups_are_computed_once():
    asked = []

    def statistic(first, second):
        asked.append((tuple(first), tuple(second)))
        return 0.0 if {*first, *second} == {0, 1} else 5.0

    pairs = [(0, 1), (0, 2), (1, 2), (2, 3)]
    merge_groups(range(4), lambda groups: [each for each in pairs if set(each) <= set(groups)], statistic, 3.0)
    assert asked == [((0,), (1,)), ((0,), (2,)), ((1,), (2,)), ((2,), (3,)), ((0, 1), (2,))]
