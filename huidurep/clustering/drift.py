"""Probe drift estimated from embeddings: the change over time that all clusters have in common.

On a dense probe, drift is estimated from the depths of the peaks. A tetrode has no depth axis, but drift changes the
waveforms of all its units together. The estimate has two steps:

1. The mean of each component of a mixture is a random walk (Shan, Lubenov & Siapas 2017,
   doi:10.1016/j.jneumeth.2017.06.017). The first principal component of all walks is the start of the drift over time.
2. Drift and the components' means, which are linear functions of it, are fitted alternately.

Drift is accepted only if it improves the Bayesian information criterion (BIC). A mixture with too few components could
explain one unit that stops firing and another that starts as drift of one component, so drift must also improve the BIC
of a mixture with twice the components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from sklearn.decomposition import PCA

from .drifting_mixture import (
    SLOPE_RIDGE,
    DriftingMixture,
    fit_drifting_mixture,
    fit_line,
    fit_linear_mixture,
    one_hot,
)


@dataclass(frozen=True)
class DriftSettings:
    """Settings of drift tracking in embeddings.

    Parameters
    ----------
    enabled : bool
        False: components do not move.
    bin_s : float
        Smallest time bin. A probe can move within a second.
    spikes_per_bin : int
        Smallest mean number of spikes, of all units, in a bin; bins are longer where fewer spikes are recorded.
    min_bins : int
        A recording with fewer bins is too short to estimate drift.
    max_components : int
        Drift is not estimated with more components, which `num_units` can ask for: it would take minutes.
    walk_precision, drift_precision : float
        Inverse variance of a step of one second, in spikes: of the walk of one component, and of the shared drift.
    num_walk_iterations, num_refinements : int
        Iterations of the two steps.
    slope_ridge : float
        Ridge penalty, in spikes, of the slopes of the means on drift.
    """

    enabled: bool = True
    bin_s: float = 1.0
    spikes_per_bin: int = 10
    min_bins: int = 16
    max_components: int = 50
    walk_precision: float = 100.0
    drift_precision: float = 20.0
    num_walk_iterations: int = 40
    num_refinements: int = 15
    slope_ridge: float = SLOPE_RIDGE


DEFAULT_SETTINGS = DriftSettings()


@dataclass(frozen=True)
class Drift:
    """Drift over time, in units of its standard deviation over the spikes; its sign is arbitrary.

    Parameters
    ----------
    times_s : ndarray (num_bins,)
        Centres of the time bins.
    values : ndarray (num_bins,)
    gain : float
        Gain in mean log-likelihood per spike over a mixture without drift.
    """

    times_s: np.ndarray
    values: np.ndarray
    gain: float

    def design(self, times_s: np.ndarray) -> np.ndarray:
        """1 and drift at the given times, for `fit_linear_mixture`.

        Parameters
        ----------
        times_s : ndarray (num_spikes,)

        Returns
        -------
        ndarray (num_spikes, 2)
        """
        return _with_constant(np.interp(times_s, self.times_s, self.values))


def _with_constant(values: np.ndarray) -> np.ndarray:
    return np.stack([np.ones(len(values)), values], axis=1)


def estimate_drift(
    points: np.ndarray,
    times_s: np.ndarray,
    labels: np.ndarray,
    split: Callable[[int], np.ndarray],
    settings: DriftSettings = DEFAULT_SETTINGS,
) -> Drift | None:
    """Estimate the drift that the clusters of a recording share.

    Parameters
    ----------
    points : ndarray (num_spikes, num_dimensions)
        Principal components of embeddings.
    times_s : ndarray (num_spikes,)
    labels : ndarray (num_spikes,) int
        Components, from 0, of an over-split mixture without drift.
    split : callable
        Receives a number of components and returns the labels of a mixture with that number.
    settings : DriftSettings

    Returns
    -------
    Drift or None
        None where the recording is too short, or drift does not improve the BIC.
    """
    num_spikes, num_components = len(points), labels.max(initial=-1) + 1
    duration = np.ptp(times_s) if num_spikes else 0.0
    num_bins = int(min(duration / settings.bin_s, num_spikes / settings.spikes_per_bin))
    if not settings.enabled or num_bins < settings.min_bins or num_components > settings.max_components:
        return None
    edges = np.linspace(times_s.min(), times_s.max(), num_bins + 1)
    bins = np.clip(np.searchsorted(edges, times_s, side="right") - 1, 0, num_bins - 1)
    bins_per_s = num_bins / duration  # precisions are those of a step of one second
    walks = _RandomWalks(points, bins, num_bins, settings.walk_precision * bins_per_s)
    mixture = fit_drifting_mixture(points, one_hot(labels), walks.fit_mean, max_iterations=settings.num_walk_iterations)
    values, num_free = _refine(points, bins, mixture, _common_walk(mixture, walks), bins_per_s, settings)
    gain = _accepted_gain(points, values[bins], labels, num_free, settings)
    # twice the components: drift must not stand for units that the mixture has no component for
    if gain is None or _accepted_gain(points, values[bins], split(2 * num_components), num_free, settings) is None:
        return None
    return Drift((edges[:-1] + edges[1:]) / 2, values, gain)


def _accepted_gain(
    points: np.ndarray, values: np.ndarray, labels: np.ndarray, num_free: float, settings: DriftSettings
) -> float | None:
    """Gain in mean log-likelihood per spike of means that are linear in drift; None if the BIC rejects them."""
    num_spikes, num_dimensions = points.shape
    start = one_hot(labels)
    design = _with_constant(values)
    without, with_drift = (
        fit_linear_mixture(points, start, terms, settings.slope_ridge) for terms in (design[:, :1], design)
    )
    gain = with_drift.log_likelihood - without.log_likelihood
    num_parameters = start.shape[1] * num_dimensions + num_free
    return gain if gain * num_spikes > 0.5 * np.log(num_spikes) * num_parameters else None


class _RandomWalks:
    """Random walks of the means of components."""

    def __init__(self, points: np.ndarray, bins: np.ndarray, num_bins: int, precision: float):
        self.points, self.bins, self.num_bins, self.precision = points, bins, num_bins, precision

    def walk(self, weights: np.ndarray) -> np.ndarray:
        """Means (num_bins, num_dimensions) of a component with these weights of points."""
        sums = [np.bincount(self.bins, weights * column, self.num_bins) for column in self.points.T]
        return _smooth(np.stack(sums, axis=1), np.bincount(self.bins, weights, self.num_bins), self.precision)

    def fit_mean(self, weights: np.ndarray) -> Callable[[], np.ndarray]:
        """For `fit_drifting_mixture`."""
        means = self.walk(weights)
        return lambda: means[self.bins]


def _smooth(sums: np.ndarray, counts: np.ndarray, precision: float) -> np.ndarray:
    """Most probable random walk (num_bins, ...) given sums and numbers of observations per bin: a Kalman smoother."""
    bands = np.zeros((2, len(counts)))
    bands[0, 1:] = -precision
    bands[1] = counts + 1e-9  # positive definite even without spikes
    bands[1, 1:] += precision
    bands[1, :-1] += precision
    return solveh_banded(bands, sums)


def _common_walk(mixture: DriftingMixture, walks: _RandomWalks) -> np.ndarray:
    """First principal component (num_bins,) of the walks of all components, weighted by their numbers of spikes."""
    centred = []
    for weights in mixture.responsibilities.T:
        walk = mixture.whiten(walks.walk(weights))
        centred.append((walk - walk.mean(0)) * np.sqrt(weights.sum()))
    return PCA(1, svd_solver="full").fit_transform(np.concatenate(centred, axis=1))[:, 0]


def _refine(
    points: np.ndarray,
    bins: np.ndarray,
    mixture: DriftingMixture,
    values: np.ndarray,
    bins_per_s: float,
    settings: DriftSettings,
) -> tuple[np.ndarray, float]:
    """Fit drift and the linear means alternately; drift (num_bins,) and its degrees of freedom."""
    precision = settings.drift_precision * bins_per_s
    # the scale of drift is arbitrary: without a fixed one, drift and slopes could grow and shrink together
    values = _standardise(values, bins)
    for _ in range(settings.num_refinements):
        design = _with_constant(values[bins])
        mixture = fit_linear_mixture(points, mixture.responsibilities, design, settings.slope_ridge, max_iterations=1)
        sums, counts = _observe_drift(points, bins, len(values), mixture, design, settings.slope_ridge)
        values = _standardise(_smooth(sums, counts, precision), bins)
    # smoothed bins are not all free: degrees of freedom are the trace of the smoother
    return values, float(np.trace(_smooth(np.diag(counts), counts, precision)))


def _observe_drift(
    points: np.ndarray,
    bins: np.ndarray,
    num_bins: int,
    mixture: DriftingMixture,
    design: np.ndarray,
    slope_ridge: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Drift that the points of each bin show: weighted sums (num_bins,) and their weights (num_bins,)."""
    sums, counts = np.zeros(num_bins), np.zeros(num_bins)
    white = mixture.whiten(points)
    for weights in mixture.responsibilities.T:
        intercept, slope = mixture.whiten(fit_line(points, design, weights, slope_ridge))
        sums += np.bincount(bins, weights * ((white - intercept) @ slope), num_bins)
        counts += np.bincount(bins, weights * (slope @ slope), num_bins)
    return sums, counts


def _standardise(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    spread = values[bins].std()
    return (values - values[bins].mean()) / (spread if spread > 0 else 1.0)
