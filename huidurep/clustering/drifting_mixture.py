"""A Gaussian mixture of one covariance, that of noise, whose means move with time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

REGULARISATION = 1e-3
# So many spikes, at a displacement of one standard deviation, say that a component does not move.
SLOPE_RIDGE = 5.0


@dataclass(frozen=True)
class TrackedMixture:
    """A fitted mixture.

    Parameters
    ----------
    shares : ndarray (num_points, num_components)
        Probability of every component.
    factor : ndarray (num_dimensions, num_dimensions)
        Lower Cholesky factor of the covariance that all components share.
    log_likelihood : float
        Mean over the points, nats.
    """

    shares: np.ndarray
    factor: np.ndarray
    log_likelihood: float

    def whiten(self, points):
        """Points in which the covariance is the identity.

        Parameters
        ----------
        points : ndarray (num_points, num_dimensions)

        Returns
        -------
        ndarray (num_points, num_dimensions)
        """
        return solve_triangular(self.factor, points.T, lower=True).T


def fit_tracks(points, shares, follow, *, max_iterations=60, tolerance=1e-3):
    """Fit by expectation and maximisation; what a mean may do over time is up to the caller.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    shares : ndarray (num_points, num_components)
        To start from.
    follow : callable
        Of weights (num_points,), fits a component, and returns a callable that says where it is at the time of each
        point (num_points, num_dimensions).
    max_iterations : int, default 60
    tolerance : float, default 1e-3
        It ends when the mean log likelihood grows by less, nats.

    Returns
    -------
    TrackedMixture
    """
    num_points, num_dimensions = points.shape
    before = -np.inf
    for _ in range(max_iterations):
        weights = np.maximum(shares.sum(0), 1e-9) / num_points
        # called twice, for where every component is at every point is too much to hold
        places = [follow(share) for share in shares.T]
        covariance = np.zeros((num_dimensions, num_dimensions))
        for place, share in zip(places, shares.T, strict=True):
            residuals = points - place()
            covariance += (residuals * share[:, None]).T @ residuals
        factor = np.linalg.cholesky(covariance / num_points + REGULARISATION * np.eye(num_dimensions))
        size = np.log(np.diag(factor)).sum() + 0.5 * num_dimensions * np.log(2 * np.pi)
        logs = np.empty_like(shares)
        for component, (place, weight) in enumerate(zip(places, weights, strict=True)):
            scaled = solve_triangular(factor, (points - place()).T, lower=True)
            logs[:, component] = np.log(weight) - size - 0.5 * (scaled**2).sum(0)
        totals = logsumexp(logs, axis=1, keepdims=True)
        shares = np.exp(logs - totals)
        after = totals.mean()
        if after - before < tolerance:
            break
        before = after
    return TrackedMixture(shares, factor, float(after))


def stay(points):
    """Components that do not move, for `fit_tracks`.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)

    Returns
    -------
    callable
    """

    def follow(weights):
        mean = weights @ points / max(weights.sum(), 1e-9)
        return lambda: mean

    return follow


def move_along(points, design):
    """Components that depend linearly on what the design says of each point, for `fit_tracks`.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    design : ndarray (num_points, num_terms)

    Returns
    -------
    callable
    """

    def follow(weights):
        track = fit_track(points, design, weights)
        return lambda: design @ track

    return follow


def fit_track(points, design, weights=None):
    """Where a component is, as far as it depends linearly on what the design says of each point.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    design : ndarray (num_points, num_terms)
        The first term is 1; the others are held small by `SLOPE_RIDGE`.
    weights : ndarray (num_points,), optional

    Returns
    -------
    ndarray (num_terms, num_dimensions)
    """
    weighted = design if weights is None else design * weights[:, None]
    ridge = np.full(design.shape[1], SLOPE_RIDGE)
    ridge[0] = 1e-9
    return np.linalg.solve(weighted.T @ design + np.diag(ridge), weighted.T @ points)


def one_hot(labels):
    """Shares of points of which each belongs to one component.

    Parameters
    ----------
    labels : ndarray (num_points,) int
        From 0.

    Returns
    -------
    ndarray (num_points, num_components)
    """
    return np.eye(labels.max() + 1)[labels]
