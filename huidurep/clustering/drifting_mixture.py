"""A Gaussian mixture with one covariance for all components, whose means change over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

REGULARISATION = 1e-3  # variance added to every covariance; the first principal axis has variance 1
SLOPE_RIDGE = 5.0  # slopes on drift are shrunk as by this number of spikes, at a drift of 1, of a component at rest

# Receives the weights (num_points,) of a component, fits its mean and returns a callable with the mean at the time of
# each point, (num_points, num_dimensions). It is a callable because the means of all components would fill the memory.
FitMean = Callable[[np.ndarray], Callable[[], np.ndarray]]


@dataclass(frozen=True)
class DriftingMixture:
    """A fitted mixture.

    Parameters
    ----------
    responsibilities : ndarray (num_points, num_components)
        Posterior of every component.
    cholesky_factor : ndarray (num_dimensions, num_dimensions)
        Lower Cholesky factor of the shared covariance.
    log_likelihood : float
        Mean over the points, natural logarithm.
    """

    responsibilities: np.ndarray
    cholesky_factor: np.ndarray
    log_likelihood: float

    def whiten(self, points: np.ndarray) -> np.ndarray:
        """Transform points so that the shared covariance is the identity.

        Parameters
        ----------
        points : ndarray (num_points, num_dimensions)

        Returns
        -------
        ndarray (num_points, num_dimensions)
        """
        return solve_triangular(self.cholesky_factor, points.T, lower=True).T


def fit_drifting_mixture(
    points: np.ndarray,
    responsibilities: np.ndarray,
    fit_mean: FitMean,
    *,
    max_iterations: int = 60,
    tolerance: float = 1e-3,
) -> DriftingMixture:
    """Fit a mixture by expectation maximisation (EM); `fit_mean` decides how a mean may change over time.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    responsibilities : ndarray (num_points, num_components)
        Start of the EM.
    fit_mean : callable
        `constant_means`, `linear_means` or another model of means.
    max_iterations : int
    tolerance : float
        EM ends when the mean log-likelihood grows by less.

    Returns
    -------
    DriftingMixture
    """
    num_points, num_dimensions = points.shape
    before = -np.inf
    for _ in range(max_iterations):
        weights = np.maximum(responsibilities.sum(0), 1e-9) / num_points
        means = [fit_mean(column) for column in responsibilities.T]
        covariance = np.zeros((num_dimensions, num_dimensions))
        for mean, column in zip(means, responsibilities.T, strict=True):
            residuals = points - mean()
            covariance += (residuals * column[:, None]).T @ residuals
        factor = np.linalg.cholesky(covariance / num_points + REGULARISATION * np.eye(num_dimensions))
        log_normaliser = np.log(np.diag(factor)).sum() + 0.5 * num_dimensions * np.log(2 * np.pi)
        logs = np.empty_like(responsibilities)
        for component, (mean, weight) in enumerate(zip(means, weights, strict=True)):
            scaled = solve_triangular(factor, (points - mean()).T, lower=True)
            logs[:, component] = np.log(weight) - log_normaliser - 0.5 * (scaled**2).sum(0)
        totals = logsumexp(logs, axis=1, keepdims=True)
        responsibilities = np.exp(logs - totals)
        after = totals.mean()
        if after - before < tolerance:
            break
        before = after
    return DriftingMixture(responsibilities, factor, float(after))


def constant_means(points: np.ndarray) -> FitMean:
    """Means that do not change over time, for `fit_drifting_mixture`.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)

    Returns
    -------
    callable
    """

    def fit_mean(weights: np.ndarray) -> Callable[[], np.ndarray]:
        mean = weights @ points / max(weights.sum(), 1e-9)
        return lambda: mean

    return fit_mean


def linear_means(points: np.ndarray, design: np.ndarray, slope_ridge: float = SLOPE_RIDGE) -> FitMean:
    """Means that are a linear function of drift, for `fit_drifting_mixture`.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    design : ndarray (num_points, num_terms)
        1 and the drift at the time of each point.
    slope_ridge : float
        As in `fit_line`.

    Returns
    -------
    callable
    """

    def fit_mean(weights: np.ndarray) -> Callable[[], np.ndarray]:
        line = fit_line(points, design, weights, slope_ridge)
        return lambda: design @ line

    return fit_mean


def fit_line(
    points: np.ndarray, design: np.ndarray, weights: np.ndarray | None = None, slope_ridge: float = SLOPE_RIDGE
) -> np.ndarray:
    """Ridge regression of points on drift.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    design : ndarray (num_points, num_terms)
        1 and, if there are two terms, the drift at the time of each point.
    weights : ndarray (num_points,), optional
    slope_ridge : float
        Ridge penalty of the slopes; the first term has none.

    Returns
    -------
    ndarray (num_terms, num_dimensions)
        Intercepts and slopes.
    """
    weighted = design if weights is None else design * weights[:, None]
    ridge = np.full(design.shape[1], slope_ridge)
    ridge[0] = 1e-9
    return np.linalg.solve(weighted.T @ design + np.diag(ridge), weighted.T @ points)


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Responsibilities of points that belong to one component each.

    Parameters
    ----------
    labels : ndarray (num_points,) int
        From 0.

    Returns
    -------
    ndarray (num_points, num_components)
    """
    return np.eye(labels.max() + 1)[labels]
