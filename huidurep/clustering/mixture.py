"""Gaussian mixture with an automatic number of units: over-split, then merge what is not separated.

The rule. A Gaussian mixture with more components than units is fitted to the leading principal components of the
embeddings; its components share one covariance, that of noise, so that none spreads over several units. Where their
spikes say that the tissue moved, components move along (`displacement`). Then the two least separated groups of
components are merged, again and again: `separation` says by Ashman's D how far apart they are, as if they had not
moved. Clouds of two neurons may overlap more than that, and spike times tell: each nat of evidence that two groups fire
independently (the log likelihood ratio of `evidence_of_two`) adds one to D. Merging stops at 3, shifted by
`merge_bias`. A unit is then a mixture of its components (Baudry et al. 2010), each with a covariance of its own, which
follows clusters that are not Gaussian; a long one of even density may stay cut. One broad component more takes what is
far from every unit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from .drift import Displacement, estimate_displacement
from .drifting_mixture import REGULARISATION, SLOPE_RIDGE, fit_track, fit_tracks, move_along, one_hot
from .refractory import evidence_of_two
from .separation import SEPARATION, covariance_of, principal_axes, separation_of_points

MAX_COMPONENTS = 25
SPIKES_PER_COMPONENT = 90
# Short recordings: up to so many components as long as each has so many spikes.
FEW_COMPONENTS, FEWEST_SPIKES = 10, 25
PAIRS_PER_GROUP = 8
# Components with few spikes: their covariance counts as so many more spikes of the covariance that all share.
SHARED_SPIKES = 30
# The broad component: of so many spikes, with so many times the covariance of all.
NOISE_WEIGHT, NOISE_SPREAD = 0.02, 2.0


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
    weights, tracks, factors : ndarray
        (num_components,), the means (num_components, num_terms, num_dimensions) and the lower Cholesky factors of the
        covariances (num_components, num_dimensions, num_dimensions). The second term of a mean, if there is one, is
        how far it moves with the displacement.
    component_units : ndarray (num_components,) int64
        Unit of each component, -1 for a component of no unit.
    displacement : Displacement | None
        Movement of the tissue that the components follow.
    """

    labels: np.ndarray
    posteriors: np.ndarray
    num_units: int
    mean: np.ndarray
    axes: np.ndarray
    weights: np.ndarray
    tracks: np.ndarray
    factors: np.ndarray
    component_units: np.ndarray
    displacement: Displacement | None = None

    def unit_posteriors(self, embeddings, times_s=None):
        """Probability of every unit.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        times_s : ndarray (num_spikes,), optional
            Where components move: without them they are where they are on average.

        Returns
        -------
        ndarray (num_spikes, num_units + 1) float32
            The last column is for components that belong to no unit.
        """
        result = np.zeros((len(embeddings), self.num_units + 1), np.float32)
        if len(embeddings) and len(self.weights):
            points = (np.asarray(embeddings, float) - self.mean) @ self.axes
            # a displacement is 0 on average over the spikes
            design = np.eye(1, self.tracks.shape[1]).repeat(len(points), axis=0)
            if self.displacement is not None and times_s is not None:
                design = self.displacement.design(times_s)
            logs = _log_densities(points, design, self.weights, self.tracks, self.factors)
            shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
            for component, unit in enumerate(self.component_units):
                result[:, unit] += shares[:, component]  # unit -1 is the last column
        return result

    def predict(self, embeddings, times_s=None):
        """Unit of each spike and its probability.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        times_s : ndarray (num_spikes,), optional
            Where components move: without them they are where they are on average.

        Returns
        -------
        labels : ndarray (num_spikes,) int64
        posteriors : ndarray (num_spikes,) float32
        """
        posteriors = self.unit_posteriors(embeddings, times_s)
        if not self.num_units:
            return np.full(len(embeddings), -1), np.zeros(len(embeddings), np.float32)
        labels = posteriors.argmax(1)
        labels[labels == self.num_units] = -1
        return labels, np.where(labels >= 0, posteriors.max(1), 0).astype(np.float32)

    def posterior_of(self, embeddings, labels, times_s=None):
        """Probability of the units that spikes were given to.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        labels : ndarray (num_spikes,) int
        times_s : ndarray (num_spikes,), optional
            Where components move: without them they are where they are on average.

        Returns
        -------
        ndarray (num_spikes,) float32
        """
        return self.unit_posteriors(embeddings, times_s)[np.arange(len(embeddings)), np.asarray(labels, int)]


def cluster_embeddings(
    embeddings,
    *,
    num_units=None,
    merge_bias=0.0,
    min_unit_spikes=30,
    max_fit_spikes=20000,
    max_dimensions=20,
    seed=0,
    times_s=None,
):
    """Cluster embeddings with a Gaussian mixture; the number of units is found unless it is given.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    num_units : int, optional
    merge_bias : float, default 0.0
        Added to the limit of Ashman's D: above 0 merges more, below 0 splits more.
    min_unit_spikes : int, default 30
        Smaller groups are no unit (label -1), unless `num_units` is given.
    max_fit_spikes : int, default 20000
        So many at most, drawn at random, fit the mixture; the rest is assigned.
    max_dimensions : int, default 20
        Most principal components that the mixture sees.
    seed : int, default 0
    times_s : ndarray (num_spikes,), optional
        With them, who fires right after whom says which groups are two neurons, and components follow the tissue.

    Returns
    -------
    Clustering

    Raises
    ------
    ValueError
        Fewer spikes than units, embeddings that are not finite, times of other spikes.
    """
    embeddings, times_s = _check(np.asarray(embeddings, float), times_s, num_units)
    if (num_spikes := len(embeddings)) < (min_unit_spikes if num_units is None else 1):
        return _nothing(embeddings)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(num_spikes)[: max(max_fit_spikes, num_units or 1)])
    smallest = 1 if num_units is not None else max(2, int(min_unit_spikes * len(rows) / num_spikes))
    mean, axes = principal_axes(embeddings[rows], max_dimensions)
    points = (embeddings[rows] - mean) @ axes
    times = None if times_s is None else times_s[rows]
    with threadpool_limits(limits=1):
        components, design, displacement = _follow(points, times, _over_split(points, num_units, rng), num_units)
        components = _drop_small(components, smallest // 2)
        groups = _merge(points, design, components, SEPARATION + merge_bias, num_units, rng, times)
        units = _drop_small(groups, smallest)
        model = _describe(points, design, components, units, num_units is None)
        model = replace(model, mean=mean, axes=axes, displacement=displacement)
    found, posteriors = model.predict(embeddings, times_s)
    if num_units is not None and len(np.unique(found[found >= 0])) < num_units:
        # A unit that loses every spike to its neighbours' posteriors keeps those the mixture was fitted with.
        found[rows] = _compact(units)
        posteriors = model.posterior_of(embeddings, found, times_s)
    return replace(model, labels=found, posteriors=posteriors)


def _check(embeddings, times_s, num_units):
    if num_units is not None and num_units > len(embeddings):
        raise ValueError(
            f"expected at least num_units={num_units} spikes, found {len(embeddings)}: lower num_units or "
            "detect_threshold."
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("expected finite embeddings, found NaN or infinity: check the recording for invalid samples.")
    if times_s is None:
        return embeddings, None
    times_s = np.asarray(times_s, float)
    if times_s.shape != (len(embeddings),) or not np.isfinite(times_s).all():
        raise ValueError(
            f"expected a finite time of each of {len(embeddings)} spikes, found {times_s.shape} times; give times_s of "
            "the same spikes, in seconds"
        )
    return embeddings, times_s


def _nothing(embeddings):
    size = embeddings.shape[1]
    none = np.zeros(0)
    return Clustering(
        np.full(len(embeddings), -1), np.zeros(len(embeddings), np.float32), 0, np.zeros(size), np.eye(size),
        none, np.zeros((0, 1, size)), np.zeros((0, size, size)), none.astype(int),
    )  # fmt: skip


def _over_split(points, num_units, rng):
    """Component of each point under a mixture with more components than units."""
    few = min(FEW_COMPONENTS, len(points) // FEWEST_SPIKES)
    wanted = min(MAX_COMPONENTS, max(1, few, len(points) // SPIKES_PER_COMPONENT))
    wanted = min(len(points), max(wanted, 1 if num_units is None else num_units))
    seed = int(rng.integers(2**31))
    if len(points) >= max(2 * wanted, 2):
        # a start, not a result
        labels = fit_mixture(points, wanted, "tied", seed).predict(points)
        if num_units is None or len(np.unique(labels)) >= num_units:
            return labels
    return KMeans(wanted, n_init=1, random_state=seed).fit_predict(points)


def fit_mixture(points, num_components, covariance_type, seed):
    """Gaussian mixture of scikit-learn, which need not converge.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    num_components : int
    covariance_type : str
        As scikit-learn names them.
    seed : int

    Returns
    -------
    sklearn.mixture.GaussianMixture
    """
    mixture = GaussianMixture(
        num_components, covariance_type=covariance_type, reg_covar=REGULARISATION, max_iter=100, random_state=seed
    )
    # The matrices are small: more threads only wait for each other.
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(points)


def _follow(points, times_s, components, num_units):
    """Components that move along with the tissue, what their places depend on, and its displacement."""
    displacement = None
    if times_s is not None:
        displacement = estimate_displacement(
            points, times_s, components, lambda number: fit_mixture(points, number, "tied", 0).predict(points)
        )
    if displacement is None:
        return components, np.ones((len(points), 1)), None
    design = displacement.design(times_s)
    followed = fit_tracks(points, one_hot(components), move_along(points, design)).shares.argmax(1)
    enough = num_units is None or len(np.unique(followed)) >= num_units
    return followed if enough else components, design, displacement


def _drop_small(labels, smallest):
    values, counts = np.unique(labels[labels >= 0], return_counts=True)
    return np.where(np.isin(labels, values[counts >= smallest]), labels, -1)


def _merge(points, design, components, limit, num_units, rng, times_s):
    """Merge groups of components, least separated first: group of each point, -1 for none."""
    groups = components.copy()
    left = list(np.unique(components[components >= 0]))
    separations = {}
    while len(left) > (num_units or 1):
        centres = np.stack([points[groups == group].mean(0) for group in left])
        for pair in _near_pairs(left, centres):
            if pair not in separations:
                first, second = (np.flatnonzero(groups == group) for group in pair)
                separations[pair] = separation_of_points(*_side_by_side(points, design, first, second), rng)
                if separations[pair] <= limit and times_s is not None:
                    separations[pair] += evidence_of_two(times_s[first], times_s[second])
        first, second = min(separations, key=separations.get)
        if num_units is None and separations[first, second] > limit:
            break
        groups[groups == second] = first
        left.remove(second)
        separations = {pair: d for pair, d in separations.items() if not {first, second} & set(pair)}
    return groups


def _side_by_side(points, design, first, second):
    """Points of two groups as if they had not moved.

    Pieces of a unit that moved lie on one line. Two units, of which one fires when the other is silent, would be drawn
    together by one line through both: where two parallel lines explain them better, those count, and their distance.
    """
    a, b = points[first], points[second]
    if design.shape[1] == 1:
        return a, b
    both = np.concatenate([first, second])
    line = fit_track(points[both], design[both])
    one_line = points[both] - design[both] @ line
    # movement within the groups: a slope for both, a place for each
    centred = [
        (each - each.mean(0), design[rows, 1] - design[rows, 1].mean()) for each, rows in ((a, first), (b, second))
    ]
    slope = sum(course @ each for each, course in centred) / (
        sum(course @ course for _, course in centred) + SLOPE_RIDGE
    )
    two_lines = np.concatenate([each - np.outer(course, slope) for each, course in centred])
    gain = 0.5 * len(both) * (_log_size(one_line) - _log_size(two_lines))
    if gain > points.shape[1] * np.log(len(both)):
        line[1] = slope
    return a - design[first] @ line, b - design[second] @ line


def _log_size(residuals):
    """Log determinant of the covariance of residuals around 0."""
    square = residuals.T @ residuals / len(residuals)
    return np.linalg.slogdet(square + REGULARISATION * np.eye(len(square)))[1]


def _near_pairs(left, centres):
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    for row, order in enumerate(distances.argsort(1)):
        for column in order[: PAIRS_PER_GROUP + 1]:
            if column != row:
                yield min(left[row], left[column]), max(left[row], left[column])


def _compact(labels):
    """Labels renumbered from 0, -1 kept."""
    values = np.unique(labels[labels >= 0])
    return np.where(labels >= 0, np.searchsorted(values, labels), -1)


def _describe(points, design, components, units, with_noise):
    """The mixture of the kept components, from their points, in their space; no labels yet."""
    numbers, sizes = np.unique(components[components >= 0], return_counts=True)
    compact = _compact(units)
    dimensions = points.shape[1]
    tracks, covariances, owners = [], [], []
    for number in numbers:
        rows = components == number
        tracks.append(points[rows].mean(0)[None] if design.shape[1] == 1 else fit_track(points[rows], design[rows]))
        covariances.append(covariance_of(points[rows] - design[rows] @ tracks[-1]))
        owners.append(int(compact[rows][0]))
    weights = list(sizes / len(points))
    shared = sum(size * each for size, each in zip(sizes, covariances, strict=True)) / max(sizes.sum(), 1)
    covariances = [
        (size * each + SHARED_SPIKES * shared) / (size + SHARED_SPIKES)
        for size, each in zip(sizes, covariances, strict=True)
    ]
    if with_noise and len(numbers):
        weights = [weight * (1 - NOISE_WEIGHT) for weight in weights] + [NOISE_WEIGHT]
        tracks.append(np.eye(design.shape[1], 1) * points.mean(0))
        covariances.append(NOISE_SPREAD * covariance_of(points))
        owners.append(-1)
    factors = [np.linalg.cholesky(each + REGULARISATION * np.eye(dimensions)) for each in covariances]
    count = int(compact.max()) + 1 if len(compact) else 0
    return Clustering(
        None, None, count, None, None, np.array(weights), np.array(tracks).reshape(-1, design.shape[1], dimensions),
        np.array(factors).reshape(-1, dimensions, dimensions), np.array(owners, int),
    )  # fmt: skip


def _log_densities(points, design, weights, tracks, factors):
    """Log of weight times density of each component (num_points, num_components)."""
    logs = np.empty((len(points), len(weights)))
    for k, (weight, track, factor) in enumerate(zip(weights, tracks, factors, strict=True)):
        scaled = solve_triangular(factor, (points - design @ track).T, lower=True)
        logs[:, k] = np.log(weight) - np.log(np.diag(factor)).sum() - 0.5 * (scaled**2).sum(0)
    return logs - 0.5 * points.shape[1] * np.log(2 * np.pi)


NUM_STARTS = 10  # one k-means start alone often puts two components into one cluster


def cluster_plainly(embeddings: np.ndarray, *, num_units: int, max_fit_spikes: int, seed: int) -> Clustering:
    """Fit scikit-learn's Gaussian mixture, one component with a full covariance a unit, the best of ten k-means starts.

    Parameters
    ----------
    embeddings : ndarray, (num_spikes, embedding_size)
        At least `num_units` rows.
    num_units : int
        Components.
    max_fit_spikes : int
        At most so many spikes, drawn at random, fit the mixture; the rest is assigned.
    seed : int
        Of the draw and of the starts.

    Returns
    -------
    Clustering
        A component may win no spike: its unit has none.
    """
    embeddings = np.asarray(embeddings, dtype="float64")
    rows = np.arange(len(embeddings))
    if len(rows) > max(max_fit_spikes, num_units):
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[: max(max_fit_spikes, num_units)])
    mixture = GaussianMixture(num_units, covariance_type="full", n_init=NUM_STARTS, random_state=seed)
    mixture.fit(embeddings[rows] if len(rows) > 1 else embeddings[rows].repeat(2, axis=0))  # scikit-learn asks for two
    size = embeddings.shape[1]
    posteriors = mixture.predict_proba(embeddings)
    return Clustering(
        labels=posteriors.argmax(axis=1),
        posteriors=posteriors.max(axis=1).astype("float32"),
        num_units=num_units,
        mean=np.zeros(size),
        axes=np.eye(size),
        weights=mixture.weights_,
        tracks=mixture.means_[:, None],
        factors=np.linalg.cholesky(mixture.covariances_),
        component_units=np.arange(num_units),
    )
