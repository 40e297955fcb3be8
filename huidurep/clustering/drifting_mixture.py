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
        A model of means; `fit_linear_mixture` is faster for those that are linear in drift.
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


def fit_linear_mixture(
    points: np.ndarray,
    responsibilities: np.ndarray,
    design: np.ndarray,
    slope_ridge: float = SLOPE_RIDGE,
    *,
    max_iterations: int = 60,
    tolerance: float = 1e-3,
) -> DriftingMixture:
    """Fit a mixture whose means are linear functions of drift: `fit_drifting_mixture` in a few matrix products.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    responsibilities : ndarray (num_points, num_components)
        Start of the EM.
    design : ndarray (num_points, num_terms)
        1 and the drift at the time of each point; 1 alone where the means do not move.
    slope_ridge : float
        As in `fit_line`.
    max_iterations, tolerance
        As in `fit_drifting_mixture`.

    Returns
    -------
    DriftingMixture
    """
    (num_points, num_dimensions), num_terms = points.shape, design.shape[1]
    num_components = responsibilities.shape[1]
    squares = (design[:, :, None] * design[:, None]).reshape(num_points, -1)
    products = (design[:, :, None] * points[:, None]).reshape(num_points, -1)
    scatter, ridge = points.T @ points, np.diag(ridge_of_terms(num_terms, slope_ridge))
    before = -np.inf
    for _ in range(max_iterations):
        weights = np.maximum(responsibilities.sum(0), 1e-9) / num_points
        grams = (responsibilities.T @ squares).reshape(-1, num_terms, num_terms)
        moments = (responsibilities.T @ products).reshape(-1, num_terms, num_dimensions)
        lines = np.linalg.solve(grams + ridge, moments)
        # the scatter around the lines, without the residuals of every point from every line
        mixed = np.einsum("ktd,kte->de", lines, moments)
        covariance = scatter - mixed - mixed.T + np.einsum("ktd,ktu,kue->de", lines, grams, lines)
        factor = np.linalg.cholesky(covariance / num_points + REGULARISATION * np.eye(num_dimensions))
        white = solve_triangular(factor, points.T, lower=True).T
        white_lines = solve_triangular(factor, lines.reshape(-1, num_dimensions).T, lower=True).T.reshape(lines.shape)
        crossed = (design[:, :, None] * white[:, None]).reshape(num_points, -1)
        logs = crossed @ white_lines.reshape(num_components, -1).T
        logs -= 0.5 * squares @ np.einsum("ktd,kud->tuk", white_lines, white_lines).reshape(-1, num_components)
        logs += np.log(weights) - np.log(np.diag(factor)).sum() - 0.5 * num_dimensions * np.log(2 * np.pi)
        logs -= 0.5 * (white**2).sum(1, keepdims=True)
        highest = logs.max(1, keepdims=True)
        responsibilities = np.exp(logs - highest)
        totals = responsibilities.sum(1, keepdims=True)
        responsibilities /= totals
        after = (highest + np.log(totals)).mean()
        if after - before < tolerance:
            break
        before = after
    return DriftingMixture(responsibilities, factor, float(after))


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
    ridge = np.diag(ridge_of_terms(design.shape[1], slope_ridge))
    return np.linalg.solve(weighted.T @ design + ridge, weighted.T @ points)


def ridge_of_terms(num_terms: int, slope_ridge: float) -> np.ndarray:
    """Ridge penalty of each term: none of the first, but for one that keeps a mean without points solvable.

    Parameters
    ----------
    num_terms : int
    slope_ridge : float
        As in `fit_line`.

    Returns
    -------
    ndarray (num_terms,)
    """
    return np.array([1e-9] + [slope_ridge] * (num_terms - 1))


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
