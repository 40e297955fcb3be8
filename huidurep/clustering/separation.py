"""How far two groups of spikes are apart: Ashman's D on their linear discriminant, which decides on merging.

Both groups are projected on their linear discriminant (Fisher 1936), two Gaussians are fitted to the projection of all
their spikes, and Ashman's D = |m1 - m2| / sqrt((s1^2 + s2^2) / 2) (Ashman, Bird & Zepf 1994) says how far apart they
are. The measure does not depend on how many spikes each group has, as unimodality tests do. The axis was chosen to
separate the groups, so D counts only where two Gaussians explain the projection better than one by 3 log(n) nats, about
twice what BIC asks: pieces of one Gaussian come out at 0.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

SEPARATION = 3.0  # where merging stops, before evidence of times and the user's bias
EVIDENCE = 3.0  # nats per log(number of spikes) that two Gaussians must explain better than one: twice what BIC asks
MAX_PROJECTED = 2000
EMPTY = 1e-9  # spikes at 0 that every Gaussian has, for one without any has no mean


def separation(first, second, *, max_dimensions=20, seed=0):
    """Say how far two groups are apart, by the measure that decides on merging.

    Parameters
    ----------
    first, second : ndarray (num_points, num_features)
        At least two points each.
    max_dimensions : int, default 20
        Most principal components of both groups that are looked at.
    seed : int, default 0
        Of the points that are drawn from large groups.

    Returns
    -------
    float
        Ashman's D of two Gaussians on the linear discriminant; 0 where one Gaussian explains the projection as well.
    """
    mean, axes = principal_axes(np.concatenate([first, second]).astype(float), max_dimensions)
    return separation_of_points((first - mean) @ axes, (second - mean) @ axes, np.random.default_rng(seed))


def separation_of_points(first, second, rng):
    """Say the same of groups that are in the space of a mixture already.

    Parameters
    ----------
    first, second : ndarray (num_points, num_dimensions)
        At least two points each.
    rng : numpy.random.Generator
        Draws from large groups.

    Returns
    -------
    float
    """
    spread = covariance_of(first) + covariance_of(second)
    spread += 1e-6 * np.trace(spread) * np.eye(len(spread)) + 1e-12 * np.eye(len(spread))
    axis = np.linalg.solve(spread, second.mean(0) - first.mean(0))
    a, b = first @ axis, second @ axis
    share = min(1.0, MAX_PROJECTED / (len(a) + len(b)))
    if share < 1:
        a, b = (rng.choice(x, max(2, int(share * len(x))), replace=False) for x in (a, b))
    return _ashman_d(a, b)


def covariance_of(points):
    """Covariance; its diagonal where the points are too few for more.

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


def _ashman_d(a, b, num_iterations=60):
    """Fit two Gaussians to the union of two samples by EM, started from them; their Ashman's D."""
    x = np.concatenate([a, b])
    # Centred and scaled, sums of squares lose no digits, and one exponential an iteration is enough.
    centre, scale = x.mean(), x.std() + 1e-150
    x = (x - centre) / scale
    powers = np.stack([np.ones_like(x), x, x * x])
    whole, total = powers.sum(1), len(x)
    floor = 1e-3 + 1e-12 / scale**2
    mean = (np.array([a.mean(), b.mean()]) - centre) / scale
    variance = np.array([a.var(), b.var()]) / scale**2 + floor
    share = np.array([len(a), len(b)]) / total
    for _ in range(num_iterations):
        part = powers @ _share_of_second(powers, share, mean, variance)
        count, sums, squares = np.stack([whole - part, part], 1)
        size = count + EMPTY
        mean = (sums - EMPTY * centre / scale) / size
        variance = (squares - mean * (2 * sums - mean * count)) / size
        variance = np.maximum(variance, 0) + floor
        share = size / size.sum()
    if share.min() * total < 2:
        return 0.0  # one Gaussian took everything: nothing separates the groups
    gain = logsumexp(_log_shares(x, share, mean, variance), axis=1).sum() + 0.5 * total * (np.log(x.var() + 1e-300) + 1)
    if gain < EVIDENCE * np.log(total):
        return 0.0  # one Gaussian explains both: the axis was chosen to separate them, and cut off its tail
    return float(abs(mean[0] - mean[1]) / np.sqrt(variance.mean()))


def _share_of_second(powers, share, mean, variance):
    """Probability (num_points,) of the second of two Gaussians, whose log odds are a parabola in x."""
    logs = [np.log(share) - 0.5 * np.log(variance) - 0.5 * mean**2 / variance, mean / variance, -0.5 / variance]
    odds = np.diff(logs)[:, 0] @ powers
    return 1 / (1 + np.exp(-np.clip(odds, -700, 700, out=odds)))


def _log_shares(x, share, mean, variance):
    """Log of share times density, up to a constant, of each point under each Gaussian (num_points, 2)."""
    return np.log(share) - 0.5 * np.log(variance) - 0.5 * (x[:, None] - mean) ** 2 / variance


def principal_axes(embeddings, most):
    """Mean and leading principal axes, scaled alike so that the first has variance 1.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    most : int
        So many axes at most, and no more than a quarter of the spikes.

    Returns
    -------
    mean : ndarray (embedding_size,)
    axes : ndarray (embedding_size, num_dimensions)
    """
    mean = embeddings.mean(0)
    _, sizes, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    count = max(1, min(most, len(embeddings) // 4, int((sizes > 1e-6 * (sizes[0] + 1e-12)).sum())))
    scale = sizes[0] / np.sqrt(len(embeddings))
    return mean, axes[:count].T / (scale if scale > 0 else 1.0)
