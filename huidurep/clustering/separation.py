"""The merge criterion, which decides whether two groups of spikes are one neuron.

It is used by the mixture of a channel group, by template merging and by the report.

1. `separation`: both groups are projected on their linear discriminant (Fisher 1936), two Gaussians are fitted to the
   projection of all spikes, and Ashman's D = |m1 - m2| / sqrt((s1^2 + s2^2) / 2) (Ashman, Bird & Zepf 1994) is their
   distance. Unlike the p value of a unimodality test, D does not grow with the number of spikes. The axis was chosen to
   separate the groups, so D is 0 unless two Gaussians fit better than one by a log-likelihood of 3 log(num_spikes),
   about twice the penalty of the BIC: two parts of one Gaussian have D = 0.
2. `merge_statistic`: D plus the refractory log-likelihood ratio of the spike times.
3. `merge_groups`: the pair with the lowest statistic is merged first, until none is below `merge_limit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.decomposition import PCA

from .refractory import RefractorySettings, refractory_log_likelihood_ratio

MAX_STEP = 1e-11  # standard deviations of a sample: means that move by less have converged
PSEUDO_COUNT = 1e-9  # spikes at 0 that every Gaussian has: one without any spike would have no mean


@dataclass(frozen=True)
class MergeSettings:
    """Settings of the merge criterion.

    Parameters
    ----------
    limit : float
        Groups with a lower merge statistic are merged; `merge_bias` of the sorting parameters is added.
    min_gain_per_log_spikes : float
        Gain in log-likelihood of two Gaussians over one, in units of log(num_spikes), below which D is 0.
    max_projected_spikes : int
        Maximum number of spikes, drawn at random from both groups, to which the two Gaussians are fitted.
    num_em_iterations : int
        Iterations of expectation maximisation (EM).
    bin_width, min_binned_spikes : float, int
        Larger samples than `min_binned_spikes` are binned before the EM, which is then several times faster; width in
        standard deviations of the sample.
    refractory : RefractorySettings
        Lags and rates of the refractory log-likelihood ratio.
    """

    limit: float = 3.0
    min_gain_per_log_spikes: float = 3.0
    max_projected_spikes: int = 2000
    num_em_iterations: int = 60
    bin_width: float = 0.005
    min_binned_spikes: int = 500
    refractory: RefractorySettings = RefractorySettings()


DEFAULT_SETTINGS = MergeSettings()


def merge_limit(merge_bias: float = 0.0, settings: MergeSettings = DEFAULT_SETTINGS) -> float:
    """Value of the merge statistic up to which two groups are merged.

    Parameters
    ----------
    merge_bias : float
        Above 0 merges more, below 0 splits more.
    settings : MergeSettings

    Returns
    -------
    float
    """
    return settings.limit + merge_bias


def merge_statistic(
    distance: float,
    first_times_s: np.ndarray,
    second_times_s: np.ndarray,
    *,
    limit: float = np.inf,
    settings: MergeSettings = DEFAULT_SETTINGS,
) -> float:
    """Ashman's D plus the refractory log-likelihood ratio.

    Parameters
    ----------
    distance : float
        Ashman's D of the two groups.
    first_times_s, second_times_s : ndarray (num_spikes,)
        Spike times of both groups in seconds.
    limit : float
        Spike times can only raise the statistic, so a distance above this limit is returned without looking at them.
    settings : MergeSettings

    Returns
    -------
    float
    """
    if distance > limit:
        return distance
    return distance + refractory_log_likelihood_ratio(first_times_s, second_times_s, settings.refractory)


def merge_groups(
    items: Iterable[int],
    candidate_pairs: Callable[[dict[int, list[int]]], Iterable[tuple[int, int]]],
    statistic: Callable[[list[int], list[int]], float],
    limit: float,
    *,
    min_groups: int = 1,
) -> dict[int, list[int]]:
    """Agglomerate items: merge the pair of groups with the lowest statistic until none is within the limit.

    Parameters
    ----------
    items : iterable of int
        Mixture components or units, in ascending order. Each starts as a group of its own.
    candidate_pairs : callable
        Receives the groups and yields pairs of their keys, the smaller key first, that may be merged.
    statistic : callable
        Receives the items of two groups and returns their merge statistic. It is computed once for each pair.
    limit : float
        Largest statistic of a merge.
    min_groups : int
        The loop stops at this number of groups.

    Returns
    -------
    dict of int to list of int
        Items of each group; the key is the smallest of them.
    """
    groups = {item: [item] for item in items}
    statistics: dict[tuple[int, int], float] = {}
    while len(groups) > min_groups:
        for pair in candidate_pairs(groups):
            if pair not in statistics:
                statistics[pair] = statistic(groups[pair[0]], groups[pair[1]])
        if not statistics:
            break
        first, second = min(statistics, key=statistics.__getitem__)
        # a limit of infinity merges down to `min_groups`, however separated the groups are
        if statistics[first, second] > limit:
            break
        groups[first] = groups[first] + groups.pop(second)
        # pairs of unchanged groups keep their statistics
        statistics = {pair: value for pair, value in statistics.items() if not {first, second} & set(pair)}
    return groups


def separation(
    first: np.ndarray,
    second: np.ndarray,
    *,
    max_dimensions: int = 20,
    seed: int = 0,
    settings: MergeSettings = DEFAULT_SETTINGS,
) -> float:
    """Ashman's D of two groups of feature vectors, in the space of their common principal components.

    Parameters
    ----------
    first, second : ndarray (num_spikes, num_features)
        At least two spikes each.
    max_dimensions : int
        Maximum number of principal components.
    seed : int
        Seed of the draw from large groups.
    settings : MergeSettings

    Returns
    -------
    float
        0 where one Gaussian fits the projection as well as two.
    """
    mean, axes = principal_axes(np.concatenate([first, second]).astype(float), max_dimensions)
    first, second = (first - mean) @ axes, (second - mean) @ axes
    axis = linear_discriminant(first.mean(0), second.mean(0), covariance_of(first), covariance_of(second))
    return distance_along(first @ axis, second @ axis, np.random.default_rng(seed), settings)


def linear_discriminant(
    first_mean: np.ndarray, second_mean: np.ndarray, first_covariance: np.ndarray, second_covariance: np.ndarray
) -> np.ndarray:
    """Axis that separates two groups best (Fisher 1936).

    Parameters
    ----------
    first_mean, second_mean : ndarray (num_dimensions,)
    first_covariance, second_covariance : ndarray (num_dimensions, num_dimensions)

    Returns
    -------
    ndarray (num_dimensions,)
    """
    within = first_covariance + second_covariance
    # equal points have no covariance: the axis must exist all the same
    within += 1e-6 * np.trace(within) * np.eye(len(within)) + 1e-12 * np.eye(len(within))
    return np.linalg.solve(within, second_mean - first_mean)


def distance_along(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, settings: MergeSettings = DEFAULT_SETTINGS
) -> float:
    """Ashman's D of two groups of points that were projected on their linear discriminant.

    Parameters
    ----------
    first, second : ndarray (num_points,)
        At least two points each.
    rng : numpy.random.Generator
        Draws from large groups.
    settings : MergeSettings

    Returns
    -------
    float
        0 where one Gaussian fits the projection as well as two.
    """
    share = min(1.0, settings.max_projected_spikes / (len(first) + len(second)))
    if share < 1:
        first, second = (rng.choice(x, max(2, int(share * len(x))), replace=False) for x in (first, second))
    return _distance_of_two_gaussians(first, second, settings)


def covariance_of(points: np.ndarray) -> np.ndarray:
    """Covariance of points, reduced to its diagonal where the points are too few to estimate more.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)

    Returns
    -------
    ndarray (num_dimensions, num_dimensions)
    """
    if len(points) > 3 * points.shape[1]:
        return np.cov(points.T).reshape(points.shape[1], -1)
    return np.diag(points.var(0) + 1e-6)


def principal_axes(embeddings: np.ndarray, max_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and leading principal axes, all divided by the standard deviation along the first one.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    max_axes : int
        Maximum number of axes. There are never more than a quarter of the spikes.

    Returns
    -------
    mean : ndarray (embedding_size,)
    axes : ndarray (embedding_size, num_axes)
    """
    # equal spikes have no variance, whose shares are NaN
    with np.errstate(invalid="ignore", divide="ignore"):
        pca = PCA(svd_solver="covariance_eigh").fit(embeddings)
    sizes = pca.singular_values_
    num_axes = max(1, min(max_axes, len(embeddings) // 4, int((sizes > 1e-6 * (sizes[0] + 1e-12)).sum())))
    scale = sizes[0] / np.sqrt(len(embeddings))
    return pca.mean_, pca.components_[:num_axes].T / (scale if scale > 0 else 1.0)


def _distance_of_two_gaussians(a: np.ndarray, b: np.ndarray, settings: MergeSettings) -> float:
    """Fit two Gaussians to the union of two samples by EM, started from the samples; their Ashman's D."""
    x = np.concatenate([a, b])
    # centred and scaled, sums of squares lose no digits, and one exponential an iteration is enough
    centre, scale = x.mean(), x.std() + 1e-150
    x = (x - centre) / scale
    counts, total = np.ones_like(x), len(x)
    if total > settings.min_binned_spikes:
        x, counts = np.unique(np.rint(x / settings.bin_width), return_counts=True)
        x = x * settings.bin_width
    powers = np.stack([np.ones_like(x), x, x * x])
    whole = (powers * counts).sum(1)
    # of a spike at 0 in the units of a and b, and of any sample, however narrow
    zero, floor = float(-centre / scale), float(1e-3 + 1e-12 / scale**2)
    start = [(len(each) / total, (each.mean() - centre) / scale, each.var() / scale**2 + floor) for each in (a, b)]
    components = _fit_two_gaussians(powers, powers * counts, start, zero, floor, settings.num_em_iterations)
    weight, mean, variance = np.array(components).T
    if weight.min() * total < 2:
        return 0.0  # one Gaussian has all the spikes
    logs = _log_densities(x, weight, mean, variance)
    spread = whole[2] / total - (whole[1] / total) ** 2
    gain = counts @ np.logaddexp(*logs.T) + 0.5 * total * (np.log(max(spread, 0) + 1e-300) + 1)
    if gain < settings.min_gain_per_log_spikes * np.log(total):
        return 0.0  # one Gaussian fits as well: the discriminant cut off its tail
    return float(abs(mean[0] - mean[1]) / np.sqrt(variance.mean()))


def _fit_two_gaussians(
    powers: np.ndarray,
    weighted: np.ndarray,
    components: list[tuple[float, float, float]],
    zero: float,
    floor: float,
    num_iterations: int,
) -> list[tuple[float, float, float]]:
    """Weight, mean and variance of two Gaussians by EM, from the powers 0 to 2 of the points, times their counts too.

    In single numbers, because a numpy function on two of them takes ten times as long as their arithmetic.
    """
    whole = weighted.sum(1).tolist()
    odds = np.empty(powers.shape[1])
    for _ in range(num_iterations):
        # the log odds of the second are a parabola in x
        (w1, m1, v1), (w2, m2, v2) = components
        constant = math.log(w2 / w1) - 0.5 * (math.log(v2 / v1) + m2 * m2 / v2 - m1 * m1 / v1)
        np.dot((constant, m2 / v2 - m1 / v1, 0.5 / v1 - 0.5 / v2), powers, out=odds)
        second = (weighted @ expit(odds, out=odds)).tolist()
        first = [of_both - of_second for of_both, of_second in zip(whole, second, strict=True)]
        before, components = components, []
        for count, total, squares in (first, second):
            size = max(count, 0.0) + PSEUDO_COUNT
            mean = (total + PSEUDO_COUNT * zero) / size
            components.append((size, mean, max((squares - mean * (2 * total - mean * count)) / size, 0.0) + floor))
        if max(abs(after[1] - old[1]) for after, old in zip(components, before, strict=True)) < MAX_STEP:
            break
    num_points = sum(size for size, *_ in components)
    return [(size / num_points, mean, variance) for size, mean, variance in components]


def _log_densities(x: np.ndarray, weight: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log of weight times density (num_points, 2) under each Gaussian, up to a constant."""
    return np.log(weight) - 0.5 * np.log(variance) - 0.5 * (x[:, None] - mean) ** 2 / variance
