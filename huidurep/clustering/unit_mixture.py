"""A Gaussian mixture whose components are grouped into units: posteriors of its units, and its fit to given units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from .consensus import log_densities
from .disk_arrays import release
from .drift import Drift, DriftSettings
from .drifting_mixture import REGULARISATION, fit_line
from .separation import MergeSettings, covariance_of

BLOCK_SPIKES = 4000  # whose posteriors are computed at a time: there are hundreds of components


@dataclass(frozen=True)
class MixtureSettings:
    """Settings of `cluster_embeddings`.

    Parameters
    ----------
    max_components : int
        Maximum number of components of the over-split mixture.
    spikes_per_component : int
        There is one component for this number of spikes.
    min_components, min_spikes_per_component : int
        Short recordings have up to `min_components`, as long as each has `min_spikes_per_component`.
    num_neighbours : int
        Number of nearest groups with which each group is compared for merging.
    shared_covariance_spikes : float
        The covariance of a component is shrunk to the average one as by this number of spikes.
    background_weight, background_spread : float
        Weight of the background component, and its covariance in units of the covariance of all spikes.
    num_starts : int
        Number of mixtures, from different starts, whose units vote (`consensus`). One where `num_units` is given. With
        fewer, small changes of a recording change more units (`benchmarks/stability.py`).
    drift : DriftSettings
    merge : MergeSettings
    """

    max_components: int = 25
    spikes_per_component: int = 90
    min_components: int = 10
    min_spikes_per_component: int = 25
    num_neighbours: int = 8
    shared_covariance_spikes: float = 30
    background_weight: float = 0.02
    background_spread: float = 2.0
    num_starts: int = 15
    drift: DriftSettings = DriftSettings()
    merge: MergeSettings = MergeSettings()


DEFAULT_SETTINGS = MixtureSettings()


@dataclass(frozen=True, kw_only=True)
class UnitMixture:
    """A Gaussian mixture whose components are grouped into units.

    Parameters
    ----------
    num_units : int
    mean, axes : ndarray (embedding_size,), (embedding_size, num_dimensions)
        Transform embeddings to the space of the mixture.
    weights : ndarray (num_components,)
    means : ndarray (num_components, num_terms, num_dimensions)
        The second term, if there are two, is the slope on drift.
    cholesky_factors : ndarray (num_components, num_dimensions, num_dimensions)
        Lower Cholesky factors of the covariances.
    component_units : ndarray (num_components,) int64
        Unit of each component, -1 for a component of no unit.
    drift : Drift | None
        Probe drift, on which the means depend.
    """

    num_units: int
    mean: np.ndarray
    axes: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    cholesky_factors: np.ndarray
    component_units: np.ndarray
    drift: Drift | None = None

    def unit_posteriors(self, embeddings: np.ndarray, times_s: np.ndarray | None = None) -> np.ndarray:
        """Posterior of every unit.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        times_s : ndarray (num_spikes,), optional
            Needed with drift: without them components have their average means.

        Returns
        -------
        ndarray (num_spikes, num_units + 1) float32
            The last column is for components that belong to no unit.
        """
        result = np.zeros((len(embeddings), self.num_units + 1), np.float32)
        for rows, found in self._iterate_posteriors(embeddings, times_s):
            result[rows] = found
        return result

    def _iterate_posteriors(
        self, embeddings: np.ndarray, times_s: np.ndarray | None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows of a block of spikes, and its `unit_posteriors`: those of all spikes may not fit into memory."""
        for start in range(0, len(embeddings) if len(self.weights) else 0, BLOCK_SPIKES):
            block = slice(start, min(start + BLOCK_SPIKES, len(embeddings)))
            points = (np.asarray(embeddings[block], float) - self.mean) @ self.axes
            release(embeddings)
            design = np.eye(1, self.means.shape[1]).repeat(len(points), axis=0)  # the average of drift is 0
            if self.drift is not None and times_s is not None:
                design = self.drift.design(times_s[block])
            logs = log_densities(points, design, self.weights, self.means, self.cholesky_factors)
            responsibilities = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
            found = np.zeros((len(points), self.num_units + 1), np.float32)
            for component, unit in enumerate(self.component_units):
                found[:, unit] += responsibilities[:, component]  # unit -1 is the last column
            yield block, found

    def predict(self, embeddings: np.ndarray, times_s: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Most probable unit of each spike, and its posterior.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        times_s : ndarray (num_spikes,), optional
            Needed with drift: without them components have their average means.

        Returns
        -------
        labels : ndarray (num_spikes,) int64
            -1 for spikes of no unit.
        posteriors : ndarray (num_spikes,) float32
        """
        labels, posteriors = np.full(len(embeddings), -1), np.zeros(len(embeddings), np.float32)
        for rows, found in self._iterate_posteriors(embeddings, times_s) if self.num_units else ():
            best = found.argmax(1)
            labels[rows] = np.where(best == self.num_units, -1, best)
            posteriors[rows] = np.where(best == self.num_units, 0, found.max(1))
        return labels, posteriors

    def posterior_of(self, embeddings: np.ndarray, labels: np.ndarray, times_s: np.ndarray | None = None) -> np.ndarray:
        """Posterior of the units that are given in `labels`.

        Parameters
        ----------
        embeddings : ndarray (num_spikes, embedding_size)
        labels : ndarray (num_spikes,) int
        times_s : ndarray (num_spikes,), optional
            Needed with drift: without them components have their average means.

        Returns
        -------
        ndarray (num_spikes,) float32
        """
        posteriors, labels = np.zeros(len(embeddings), np.float32), np.asarray(labels, int)
        for rows, found in self._iterate_posteriors(embeddings, times_s):
            posteriors[rows] = np.take_along_axis(found, labels[rows, None], axis=1)[:, 0]
        return posteriors


def fit_units(
    points: np.ndarray,
    design: np.ndarray,
    components: np.ndarray,
    units: np.ndarray,
    with_background: bool,
    settings: MixtureSettings,
) -> dict:
    """Estimate each component of a mixture from its points.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    design : ndarray (num_points, num_terms)
        Terms of which the means are linear functions.
    components, units : ndarray (num_points,) int
        Component and unit of each point, -1 for none; all points of a component have one unit.
    with_background : bool
        Add the background component.
    settings : MixtureSettings

    Returns
    -------
    dict
        ``num_units``, ``weights``, ``means``, ``cholesky_factors`` and ``component_units`` of `UnitMixture`.
    """
    numbers, sizes = np.unique(components[components >= 0], return_counts=True)
    unit_of_point = renumber(units)
    num_terms, num_dimensions = design.shape[1], points.shape[1]
    ridge = settings.drift.slope_ridge
    means, covariances, owners = [], [], []
    for number in numbers:
        rows = components == number
        own, own_design = points[rows], design[rows]
        means.append(own.mean(0)[None] if num_terms == 1 else fit_line(own, own_design, slope_ridge=ridge))
        covariances.append(covariance_of(own - own_design @ means[-1]))
        owners.append(int(unit_of_point[rows][0]))
    weights = list(sizes / len(points))
    shared = sum(size * each for size, each in zip(sizes, covariances, strict=True)) / max(sizes.sum(), 1)
    num_shared = settings.shared_covariance_spikes
    covariances = [
        (size * each + num_shared * shared) / (size + num_shared) for size, each in zip(sizes, covariances, strict=True)
    ]
    if with_background and len(numbers):
        share = settings.background_weight
        weights = [weight * (1 - share) for weight in weights] + [share]
        means.append(np.eye(num_terms, 1) * points.mean(0))
        covariances.append(settings.background_spread * covariance_of(points))
        owners.append(-1)
    factors = [np.linalg.cholesky(each + REGULARISATION * np.eye(num_dimensions)) for each in covariances]
    return {
        "num_units": int(unit_of_point.max()) + 1 if len(unit_of_point) else 0,
        "weights": np.array(weights),
        "means": np.array(means).reshape(-1, num_terms, num_dimensions),
        "cholesky_factors": np.array(factors).reshape(-1, num_dimensions, num_dimensions),
        "component_units": np.array(owners, int),
    }


def renumber(labels: np.ndarray) -> np.ndarray:
    """Number labels from 0 in their order; -1 is kept.

    Parameters
    ----------
    labels : ndarray (num_points,) int

    Returns
    -------
    ndarray (num_points,) int
    """
    values = np.unique(labels[labels >= 0])
    return np.where(labels >= 0, np.searchsorted(values, labels), -1)
