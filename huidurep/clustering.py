"""Gaussian mixture with an automatic number of units: over-split, then merge what is not separated.

The rule. A Gaussian mixture with more components than units is fitted to the leading principal components of the
embeddings; its components share one covariance, that of noise, so that none spreads over several units. Then the two
least separated groups of components are merged, again and again: both groups are projected on their linear discriminant
(Fisher 1936), two Gaussians are fitted to the projection of all their spikes, and Ashman's D = |m1 - m2| / sqrt((s1^2 +
s2^2) / 2) (Ashman, Bird & Zepf 1994) says how far apart they are. The measure does not depend on how many spikes each
group has, as unimodality tests do. The axis was chosen to separate the groups, so D counts only where two Gaussians
explain the projection better than one by 3 log(n) nats, about twice what BIC asks: pieces of one Gaussian come out at
0. Clouds of two neurons may overlap more than that, and spike times tell: each nat of evidence that two groups fire
independently (the log likelihood ratio of `evidence_of_two`) adds one to D. Merging stops at 3, shifted by
`merge_bias`. A unit is then a mixture of its components (Baudry et al. 2010), each with a covariance of its own, which
follows clusters that are not Gaussian; a long one of even density may stay cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

SEPARATION = 3.0
EVIDENCE = 3.0  # nats per log(number of spikes) that two Gaussians must explain better than one: twice what BIC asks
MAX_COMPONENTS = 25
SPIKES_PER_COMPONENT = 90
# Short recordings: up to so many components as long as each has so many spikes.
FEW_COMPONENTS, FEWEST_SPIKES = 10, 25
PAIRS_PER_GROUP = 8
MAX_PROJECTED = 2000
REGULARISATION = 1e-3
EMPTY = 1e-9  # spikes at 0 that every Gaussian has, for one without any has no mean


@dataclass(frozen=True)
class Clustering:
    """Units found among embeddings: a Gaussian mixture whose components are grouped into units.

    Parameters
    ----------
    labels : ndarray (num_spikes,) int64
        Unit of each spike, -1 for those of groups too small to be a unit.
    posteriors : ndarray (num_spikes,) float32
        Probability of that unit, 0 where the label is -1.
    num_units : int
    mean, axes : ndarray (embedding_size,), (embedding_size, num_dimensions)
        From embeddings to the space of the mixture.
    weights, means, factors : ndarray
        (num_components,), (num_components, num_dimensions) and the lower Cholesky factors of the covariances
        (num_components, num_dimensions, num_dimensions).
    component_units : ndarray (num_components,) int64
        Unit of each component, -1 for a component of no unit.
    """

    labels: np.ndarray
    posteriors: np.ndarray
    num_units: int
    mean: np.ndarray
    axes: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    component_units: np.ndarray

    def unit_posteriors(self, embeddings):
        """Probability of every unit.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)

        Returns
        -------
        ndarray (num_spikes, num_units + 1) float32
            The last column is for components that belong to no unit.
        """
        result = np.zeros((len(embeddings), self.num_units + 1), np.float32)
        if len(embeddings) and len(self.weights):
            points = (np.asarray(embeddings, float) - self.mean) @ self.axes
            logs = _log_densities(points, self.weights, self.means, self.factors)
            shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
            for component, unit in enumerate(self.component_units):
                result[:, unit] += shares[:, component]  # unit -1 is the last column
        return result

    def predict(self, embeddings):
        """Unit of each spike and its probability.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)

        Returns
        -------
        labels : ndarray (num_spikes,) int64
        posteriors : ndarray (num_spikes,) float32
        """
        posteriors = self.unit_posteriors(embeddings)
        if not self.num_units:
            return np.full(len(embeddings), -1), np.zeros(len(embeddings), np.float32)
        labels = posteriors.argmax(1)
        labels[labels == self.num_units] = -1
        return labels, np.where(labels >= 0, posteriors.max(1), 0).astype(np.float32)

    def posterior_of(self, embeddings, labels):
        """Probability of the units that spikes were given to.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        labels : ndarray (num_spikes,) int

        Returns
        -------
        ndarray (num_spikes,) float32
        """
        return self.unit_posteriors(embeddings)[np.arange(len(embeddings)), np.asarray(labels, int)]


def cluster_embeddings(
    embeddings,
    *,
    num_units=None,
    merge_bias=0.0,
    min_unit_spikes=30,
    max_fit_spikes=20000,
    max_dimensions=20,
    seed=0,
    evidence=None,
):
    """Cluster embeddings with a Gaussian mixture; the number of units is found unless it is given.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    num_units : int, optional
        Exactly so many units.
    merge_bias : float, default 0.0
        Added to the limit of Ashman's D: above 0 merges more, below 0 splits more.
    min_unit_spikes : int, default 30
        Smaller groups are no unit (label -1), unless `num_units` is given.
    max_fit_spikes : int, default 20000
        So many at most, drawn at random, fit the mixture; the rest is assigned.
    max_dimensions : int, default 20
        Most principal components that the mixture sees.
    seed : int, default 0
    evidence : callable, optional
        Says, of the rows of two groups, how clearly they are two neurons by their times, as `evidence_of_two`.

    Returns
    -------
    Clustering

    Raises
    ------
    ValueError
        If there are fewer spikes than units asked for, or embeddings are not finite.
    """
    embeddings = _check(np.asarray(embeddings, float), num_units)
    if (num_spikes := len(embeddings)) < (min_unit_spikes if num_units is None else 1):
        return _nothing(embeddings)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(num_spikes)[: max(max_fit_spikes, num_units or 1)])
    smallest = 1 if num_units is not None else max(2, int(min_unit_spikes * len(rows) / num_spikes))
    mean, axes = _principal_axes(embeddings[rows], max_dimensions)
    points = (embeddings[rows] - mean) @ axes
    judge = evidence and (lambda first, second: evidence(rows[first], rows[second]))
    with threadpool_limits(limits=1):
        components = _drop_small(_over_split(points, num_units, rng), smallest // 2)
        components, groups = _merge(points, components, SEPARATION + merge_bias, num_units, rng, judge).T
    units = _drop_small(groups, smallest)
    model = _describe(points, components, units, mean, axes)
    found, posteriors = model.predict(embeddings)
    if num_units is not None and len(np.unique(found[found >= 0])) < num_units:
        # A unit that loses every spike to its neighbours' posteriors keeps those the mixture was fitted with.
        found[rows] = _compact(units)
        posteriors = model.posterior_of(embeddings, found)
    return Clustering(**{**vars(model), "labels": found, "posteriors": posteriors})


def _check(embeddings, num_units):
    if num_units is not None and num_units > len(embeddings):
        raise ValueError(
            f"expected at least num_units={num_units} spikes, found {len(embeddings)}: lower num_units or "
            "detect_threshold."
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("expected finite embeddings, found NaN or infinity: check the recording for invalid samples.")
    return embeddings


def _nothing(embeddings):
    size = embeddings.shape[1]
    none = np.zeros(0)
    return Clustering(
        np.full(len(embeddings), -1), np.zeros(len(embeddings), np.float32), 0, np.zeros(size), np.eye(size),
        none, np.zeros((0, size)), np.zeros((0, size, size)), none.astype(int),
    )  # fmt: skip


def _principal_axes(embeddings, most):
    """Mean and leading principal axes, scaled alike so that the first has variance 1."""
    mean = embeddings.mean(0)
    _, sizes, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    count = max(1, min(most, len(embeddings) // 4, int((sizes > 1e-6 * (sizes[0] + 1e-12)).sum())))
    scale = sizes[0] / np.sqrt(len(embeddings))
    return mean, axes[:count].T / (scale if scale > 0 else 1.0)


def _over_split(points, num_units, rng):
    """Component of each point under a mixture with more components than units."""
    few = min(FEW_COMPONENTS, len(points) // FEWEST_SPIKES)
    wanted = min(MAX_COMPONENTS, max(1, few, len(points) // SPIKES_PER_COMPONENT))
    wanted = min(len(points), max(wanted, 1 if num_units is None else num_units))
    seed = int(rng.integers(2**31))
    options = dict(reg_covar=REGULARISATION, max_iter=100, tol=1e-3, random_state=seed)
    mixture = GaussianMixture(wanted, covariance_type="tied", **options)
    if len(points) >= max(2 * wanted, 2):
        labels = _fit_quietly(mixture, points)
        if num_units is None or len(np.unique(labels)) >= num_units:
            return labels
    return KMeans(wanted, n_init=1, random_state=seed).fit_predict(points)


def _fit_quietly(mixture, points):
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # The over-split mixture is a start, not a result: it need not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit_predict(points)


def _drop_small(labels, smallest):
    values, counts = np.unique(labels[labels >= 0], return_counts=True)
    return np.where(np.isin(labels, values[counts >= smallest]), labels, -1)


def _merge(points, components, limit, num_units, rng, evidence=None):
    """Merge groups of components, least separated first: (num_points, 2) of component and group, -1 for none."""
    groups = components.copy()
    left = list(np.unique(components[components >= 0]))
    separations = {}
    while len(left) > (num_units or 1):
        centres = np.stack([points[groups == group].mean(0) for group in left])
        for pair in _near_pairs(left, centres):
            if pair not in separations:
                first, second = (np.flatnonzero(groups == group) for group in pair)
                separations[pair] = _separation(points[first], points[second], rng)
                if separations[pair] <= limit and evidence is not None:
                    separations[pair] += evidence(first, second)
        first, second = min(separations, key=separations.get)
        if num_units is None and separations[first, second] > limit:
            break
        groups[groups == second] = first
        left.remove(second)
        separations = {pair: d for pair, d in separations.items() if not {first, second} & set(pair)}
    return np.stack([components, groups], 1)


def _near_pairs(left, centres):
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    for row, order in enumerate(distances.argsort(1)):
        for column in order[: PAIRS_PER_GROUP + 1]:
            if column != row:
                yield min(left[row], left[column]), max(left[row], left[column])


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
    mean, axes = _principal_axes(np.concatenate([first, second]).astype(float), max_dimensions)
    return _separation((first - mean) @ axes, (second - mean) @ axes, np.random.default_rng(seed))


def _separation(first, second, rng):
    """Ashman's D of two Gaussians fitted to both groups' projection on their linear discriminant."""
    spread = _covariance(first) + _covariance(second)
    spread += 1e-6 * np.trace(spread) * np.eye(len(spread)) + 1e-12 * np.eye(len(spread))
    axis = np.linalg.solve(spread, second.mean(0) - first.mean(0))
    a, b = first @ axis, second @ axis
    share = min(1.0, MAX_PROJECTED / (len(a) + len(b)))
    if share < 1:
        a, b = (rng.choice(x, max(2, int(share * len(x))), replace=False) for x in (a, b))
    return _ashman_d(a, b)


def _covariance(points):
    """Covariance; its diagonal where the points are too few for more."""
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


def _compact(labels):
    """Labels renumbered from 0, -1 kept."""
    values = np.unique(labels[labels >= 0])
    return np.where(labels >= 0, np.searchsorted(values, labels), -1)


def _describe(points, components, units, mean, axes):
    """The mixture of the kept components, from their points; no labels yet."""
    numbers = np.unique(components[components >= 0])
    compact = _compact(units)
    dimensions = points.shape[1]
    weights, means, factors, owners = [], [], [], []
    for number in numbers:
        rows = components == number
        members = points[rows]
        covariance = _covariance(members) + REGULARISATION * np.eye(dimensions)
        weights.append(len(members) / len(points))
        means.append(members.mean(0))
        factors.append(np.linalg.cholesky(covariance))
        owners.append(int(compact[rows][0]))
    count = int(compact.max()) + 1 if len(compact) else 0
    return Clustering(
        None, None, count, mean, axes, np.array(weights), np.array(means).reshape(-1, dimensions),
        np.array(factors).reshape(-1, dimensions, dimensions), np.array(owners, int),
    )  # fmt: skip


def _log_densities(points, weights, means, factors):
    """Log of weight times density of each component (num_points, num_components)."""
    logs = np.empty((len(points), len(weights)))
    for k, (weight, mean, factor) in enumerate(zip(weights, means, factors, strict=True)):
        scaled = solve_triangular(factor, (points - mean).T, lower=True)
        logs[:, k] = np.log(weight) - np.log(np.diag(factor)).sum() - 0.5 * (scaled**2).sum(0)
    return logs - 0.5 * points.shape[1] * np.log(2 * np.pi)
