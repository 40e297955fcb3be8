"""Movement of the tissue, estimated from embeddings: what the clusters of all units do in common.

On a dense probe the motion of the tissue is seen in the depths of the peaks. A tetrode has no depth, but when the
tissue moves, the waveforms of all its units change together. Components of a mixture may first wander, each by itself,
as a random walk (Shan, Lubenov & Siapas 2017, doi:10.1016/j.jneumeth.2017.06.017). What their walks have in common, the
leading singular vector, starts a displacement of the tissue over time; then it and the course of each component, which
is a straight line in it, are fitted in turn.

It counts only where the spikes are so much more probable with it than without that the Bayesian information criterion
pays for its parameters, so that nothing follows the noise of tissue that lies still. A mixture with too few components
can take one unit that falls silent and another that begins for one that moves; so it has to be worth its parameters in
a mixture with twice the components, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from .drifting_mixture import fit_track, fit_tracks, move_along, one_hot, stay

BIN_S = 1.0  # tissue can jump within a second
BIN_SPIKES = 10  # of all units
FEWEST_BINS = 16
# Precision of a step of one second, in spikes: components one by one, and the displacement that they share.
WALK_PRECISION, DISPLACEMENT_PRECISION = 100.0, 20.0
NUM_WALK_ITERATIONS, NUM_REFINEMENTS = 40, 15
MOST_COMPONENTS = 50  # more, as many given units are, take minutes


@dataclass(frozen=True)
class Displacement:
    """Displacement of the tissue over time, in its standard deviations over the spikes; what way is up is unknown.

    Parameters
    ----------
    times_s : ndarray (num_bins,)
        Middles of bins.
    values : ndarray (num_bins,)
    gain : float
        By how much it makes a spike more probable, nats.
    """

    times_s: np.ndarray
    values: np.ndarray
    gain: float

    def design(self, times_s):
        """Constant and displacement, on which the places of components depend.

        Parameters
        ----------
        times_s : ndarray (num_spikes,)

        Returns
        -------
        ndarray (num_spikes, 2)
        """
        return _with_constant(np.interp(times_s, self.times_s, self.values))


def _with_constant(values):
    return np.stack([np.ones(len(values)), values], axis=1)


def estimate_displacement(points, times_s, labels, split):
    """Estimate the movement that the clusters of a recording have in common.

    Parameters
    ----------
    points : ndarray (num_spikes, num_dimensions)
        Principal components of embeddings.
    times_s : ndarray (num_spikes,)
    labels : ndarray (num_spikes,) int
        Components, from 0, of an over-split mixture that does not move.
    split : callable
        Of a number, labels like those of a mixture with so many components.

    Returns
    -------
    Displacement or None
        None where the recording is too short or its spikes do not say that anything moved.
    """
    num_spikes, num_components = len(points), labels.max(initial=-1) + 1
    duration = np.ptp(times_s) if num_spikes else 0.0
    num_bins = int(min(duration / BIN_S, num_spikes / BIN_SPIKES))
    if num_bins < FEWEST_BINS or num_components > MOST_COMPONENTS:
        return None
    edges = np.linspace(times_s.min(), times_s.max(), num_bins + 1)
    bins = np.clip(np.searchsorted(edges, times_s, side="right") - 1, 0, num_bins - 1)
    precision = num_bins / duration  # of a step of one bin for each of a step of one second
    walks = _Walks(points, bins, num_bins, WALK_PRECISION * precision)
    wandering = fit_tracks(points, one_hot(labels), walks.follow, max_iterations=NUM_WALK_ITERATIONS)
    values, freedom = _refine(points, bins, wandering, _in_common(wandering, walks), DISPLACEMENT_PRECISION * precision)
    gain = _gain(points, values[bins], labels, freedom)
    if gain is None or _gain(points, values[bins], split(2 * num_components), freedom) is None:
        return None
    return Displacement((edges[:-1] + edges[1:]) / 2, values, gain)


def _gain(points, values, labels, freedom):
    """By how much a spike is more probable where components move along, nats; None if that is not worth it."""
    num_spikes, num_dimensions = points.shape
    shares = one_hot(labels)
    design = _with_constant(values)
    still, moving = (fit_tracks(points, shares, follow) for follow in (stay(points), move_along(points, design)))
    gain = moving.log_likelihood - still.log_likelihood
    num_parameters = shares.shape[1] * num_dimensions + freedom
    return gain if gain * num_spikes > 0.5 * np.log(num_spikes) * num_parameters else None


class _Walks:
    """Random walks of the means of components."""

    def __init__(self, points, bins, num_bins, precision):
        self.points, self.bins, self.num_bins, self.precision = points, bins, num_bins, precision

    def walk(self, weights):
        """Means (num_bins, num_dimensions) of a component with these weights of points."""
        sums = [np.bincount(self.bins, weights * column, self.num_bins) for column in self.points.T]
        return _smooth(np.stack(sums, axis=1), np.bincount(self.bins, weights, self.num_bins), self.precision)

    def follow(self, weights):
        """For `fit_tracks`."""
        means = self.walk(weights)
        return lambda: means[self.bins]


def _smooth(sums, sizes, precision):
    """Most probable random walk (num_bins, ...) given sums of so many observations a bin: a Kalman smoother."""
    bands = np.zeros((2, len(sizes)))
    bands[0, 1:] = -precision
    bands[1] = sizes + 1e-9
    bands[1, 1:] += precision
    bands[1, :-1] += precision
    return solveh_banded(bands, sums)


def _in_common(mixture, walks):
    """What the walks of all components have in common (num_bins,)."""
    courses = []
    for share in mixture.shares.T:
        course = mixture.whiten(walks.walk(share))
        courses.append((course - course.mean(0)) * np.sqrt(share.sum()))
    return np.linalg.svd(np.concatenate(courses, axis=1), full_matrices=False)[0][:, 0]


def _refine(points, bins, mixture, values, precision):
    """Fit the displacement and the straight lines of the components in it, in turn; it, and its degrees of freedom."""
    values = _standardised(values, bins)
    for _ in range(NUM_REFINEMENTS):
        design = _with_constant(values[bins])
        mixture = fit_tracks(points, mixture.shares, move_along(points, design), max_iterations=1)
        sums, sizes = _seen_in_bins(points, bins, len(values), mixture, design)
        values = _standardised(_smooth(sums, sizes, precision), bins)
    # bins that are smoothed are not free: the trace of what makes estimates of observations
    return values, float(np.trace(_smooth(np.diag(sizes), sizes, precision)))


def _seen_in_bins(points, bins, num_bins, mixture, design):
    """What the points of each bin say of the displacement there: sums (num_bins,), and of how much information."""
    sums, sizes = np.zeros(num_bins), np.zeros(num_bins)
    for share in mixture.shares.T:
        start, slope = fit_track(points, design, share)
        slope = mixture.whiten(slope[None])[0]
        sums += np.bincount(bins, share * (mixture.whiten(points - start) @ slope), num_bins)
        sizes += np.bincount(bins, share * (slope @ slope), num_bins)
    return sums, sizes


def _standardised(values, bins):
    spread = values[bins].std()
    return (values - values[bins].mean()) / (spread if spread > 0 else 1.0)
