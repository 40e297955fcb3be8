"""Units on which several starts of a mixture agree.

A mixture depends on the points from which it starts: near the noise, one start cuts a cluster where another does not.
So several starts are fitted, each is merged into units, and their partitions vote (evidence accumulation, Fred & Jain
2005, doi:10.1109/TPAMI.2005.113): points that most starts put into one unit are one unit. The components of all starts
together are the mixture of these units, which averages the posteriors of the starts.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import solve_triangular
from scipy.spatial.distance import squareform

MAX_SHARE_APART = 0.5  # two points are of one unit where at least half of the starts in which both have one say so


def agreed_units(
    responsibilities: list[np.ndarray],
    component_units: list[np.ndarray],
    *,
    max_points: int = 2000,
    num_iterations: int = 3,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Find the units that most starts have in common.

    Parameters
    ----------
    responsibilities : list of ndarray (num_points, num_components)
        Posterior of the components of each start.
    component_units : list of ndarray (num_components,) int
        Unit of each component in its start, -1 for none.
    max_points : int
        Number of points, evenly spaced, that are compared pair by pair.
    num_iterations : int
        Number of times that points and components are assigned to the units in turn.

    Returns
    -------
    units : ndarray (num_points,) int
        Unit of each point, from 0; -1 for none.
    owners : list of ndarray (num_components,) int
        The agreed unit of every component of each start, -1 for none.
    """
    partitions = [
        _most_probable([each], [owners]) for each, owners in zip(responsibilities, component_units, strict=True)
    ]
    votes = np.stack(partitions, axis=1)
    rows = np.unique(np.linspace(0, len(votes) - 1, min(len(votes), max_points)).astype(int))
    agreed = _vote(votes[rows])
    owners = [_owners(each[rows], agreed) for each in responsibilities]
    for _ in range(num_iterations):
        agreed = _most_probable(responsibilities, owners)
        owners = [_owners(each, agreed) for each in responsibilities]
    return agreed, owners


def log_densities(
    points: np.ndarray, design: np.ndarray, weights: np.ndarray, means: np.ndarray, cholesky_factors: np.ndarray
) -> np.ndarray:
    """Compute the log of weight times density of the components of a Gaussian mixture.

    Parameters
    ----------
    points : ndarray (num_points, num_axes)
    design : ndarray (num_points, num_terms)
        Terms of which the means are linear functions.
    weights : ndarray (num_components,)
    means : ndarray (num_components, num_terms, num_axes)
    cholesky_factors : ndarray (num_components, num_axes, num_axes)
        Lower Cholesky factors of the covariances.

    Returns
    -------
    ndarray (num_points, num_components)
    """
    logs = np.empty((len(points), len(weights)))
    for k, (weight, mean, factor) in enumerate(zip(weights, means, cholesky_factors, strict=True)):
        scaled = solve_triangular(factor, (points - design @ mean).T, lower=True)
        logs[:, k] = np.log(weight) - np.log(np.diag(factor)).sum() - 0.5 * (scaled**2).sum(0)
    return logs - 0.5 * points.shape[1] * np.log(2 * np.pi)


def _vote(votes: np.ndarray) -> np.ndarray:
    """Cluster of each row of votes (num_points, num_starts) by average linkage; -1 where most starts find no unit."""
    is_unit = (votes >= 0).mean(1) > 1 - MAX_SHARE_APART
    agreed = np.full(len(votes), -1)
    if is_unit.sum() < 2:
        agreed[is_unit] = 0
        return agreed
    own = votes[is_unit]
    together, both = np.zeros((2, len(own), len(own)), np.float32)
    for start in own.T:
        # a start in which a point has no unit, because too few went with it, does not say to which it belongs
        has_unit = start >= 0
        both += np.outer(has_unit, has_unit)
        together += (start[:, None] == start) & has_unit
    apart = 1 - together / np.maximum(both, 1)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(apart, checks=False), "average")
    agreed[is_unit] = fcluster(tree, MAX_SHARE_APART, "distance") - 1
    return agreed


def _owners(responsibilities: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The unit that has most of each component's points, -1 for none."""
    masses = np.stack([responsibilities[units == unit].sum(0) for unit in range(-1, units.max(initial=-1) + 1)])
    return masses.argmax(0) - 1


def _most_probable(responsibilities: list[np.ndarray], owners: list[np.ndarray]) -> np.ndarray:
    """The most probable unit of each point, -1 for none, where `owners` are the units of the components."""
    units = np.arange(-1, max(each.max(initial=-1) for each in owners) + 1)
    posteriors = np.zeros((len(responsibilities[0]), len(units)))
    for each, own in zip(responsibilities, owners, strict=True):
        posteriors += each @ (own[:, None] == units).astype(each.dtype)
    return posteriors.argmax(axis=1) - 1
