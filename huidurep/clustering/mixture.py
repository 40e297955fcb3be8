"""Gaussian mixture that finds the number of units: over-split, then merge what is not separated.

1. A Gaussian mixture with more components than units is fitted to the leading principal components of the embeddings.
   Its components share one covariance, so that none covers several units.
2. If spike times are given, probe drift is estimated (`drift`) and the means of the components become linear functions
   of it.
3. The groups of components with the lowest merge statistic are merged (`merging`), until all exceed a limit that
   `merge_bias` shifts. Drift is removed before groups are compared.
4. Steps 1 to 3 are repeated from other starts, and units are what most of them find (`consensus`).
5. A unit is a mixture of its components (Baudry et al. 2010, doi:10.1198/jcgs.2010.08111), each with a covariance of
   its own, which fits clusters that are not Gaussian. A long cluster of even density may stay split. One broad
   background component takes the spikes that are far from every unit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from .consensus import agreed_units, log_densities
from .disk_arrays import iterate_blocks, take
from .drift import Drift, DriftSettings, estimate_drift
from .drifting_mixture import REGULARISATION, fit_linear_mixture, one_hot
from .merging import Merging
from .separation import merge_limit, principal_axes
from .unit_mixture import DEFAULT_SETTINGS, MixtureSettings, UnitMixture, fit_units, renumber


@dataclass(frozen=True, kw_only=True)
class Clustering(UnitMixture):
    """A mixture and the units of the embeddings to which it was fitted.

    Parameters
    ----------
    labels : ndarray (num_spikes,) int64
        Unit of each spike, -1 for none.
    posteriors : ndarray (num_spikes,) float32
        Posterior of that unit, 0 where the label is -1.
    small_groups : ndarray (num_spikes,) int64 | None
        Number of the group of each spike whose group has too few to be a unit, else -1; for logs.
    """

    labels: np.ndarray
    posteriors: np.ndarray
    small_groups: np.ndarray | None = None


def cluster_embeddings(  # noqa: PLR0913 (each is a parameter that users set, but for the settings)
    embeddings: np.ndarray,
    *,
    num_units: int | None = None,
    merge_bias: float = 0.0,
    min_unit_spikes: int = 30,
    max_fit_spikes: int = 20000,
    max_dimensions: int = 20,
    seed: int = 0,
    times_s: np.ndarray | None = None,
    settings: MixtureSettings = DEFAULT_SETTINGS,
) -> Clustering:
    """Cluster embeddings with a Gaussian mixture; the number of units is found unless it is given.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    num_units : int, optional
    merge_bias : float, default 0.0
        Added to the limit of the merge statistic: above 0 merges more, below 0 splits more.
    min_unit_spikes : int, default 30
        Smaller groups are no unit (label -1). `num_units` passes over components below half of it, if enough remain.
    max_fit_spikes : int, default 20000
        Maximum number of spikes, drawn at random, to which the mixture is fitted; the others are assigned afterwards.
    max_dimensions : int, default 20
        Maximum number of principal components of the embeddings.
    seed : int, default 0
    times_s : ndarray (num_spikes,), optional
        Spike times in seconds. With them, drift is tracked, and refractory periods help to decide on merges.
    settings : MixtureSettings, optional

    Returns
    -------
    Clustering

    Raises
    ------
    ValueError
        Fewer spikes than `num_units`, embeddings that are not finite, or `times_s` of another length.
    """
    embeddings, times_s = _check(np.asarray(embeddings), times_s, num_units)
    if (num_spikes := len(embeddings)) < (min_unit_spikes if num_units is None else 1):
        return _without_units(embeddings)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(num_spikes)[: max(max_fit_spikes, num_units or 1)])
    smallest = max(2, int(min_unit_spikes * len(rows) / num_spikes))
    drawn, times = take(embeddings, rows).astype(float), None if times_s is None else times_s[rows]
    mean, axes = principal_axes(drawn, max_dimensions)
    points = (drawn - mean) @ axes
    limit = merge_limit(merge_bias, settings.merge)
    with threadpool_limits(limits=1):  # the matrices are small: more threads only wait for each other
        units, small, fitted = _find_units(points, times, num_units, smallest, limit, rng, settings)
    mixture = UnitMixture(mean=mean, axes=axes, **fitted)
    found, posteriors = mixture.predict(embeddings, times_s)
    if num_units is not None and len(np.unique(found[found >= 0])) < num_units:
        # a unit that loses every spike to its neighbours' posteriors keeps those to which the mixture was fitted
        found[rows] = np.where(units >= 0, renumber(units), found[rows])
        posteriors = mixture.posterior_of(embeddings, found, times_s)
    small_groups = _of_all_spikes(small, rows, num_spikes)
    return Clustering(labels=found, posteriors=posteriors, small_groups=small_groups, **vars(mixture))


def _of_all_spikes(labels: np.ndarray, rows: np.ndarray, num_spikes: int) -> np.ndarray:
    of_all = np.full(num_spikes, -1)
    of_all[rows] = labels
    return of_all


def _find_units(
    points: np.ndarray,
    times_s: np.ndarray | None,
    num_units: int | None,
    smallest: int,
    limit: float,
    rng: np.random.Generator,
    settings: MixtureSettings,
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Units (num_points,) of at least `smallest` points, smaller groups (num_points,), and the mixture of the units."""
    components = _over_split(points, num_units, rng, settings)
    components, design, drift = _track_drift(points, times_s, components, num_units, settings.drift)
    starts = [components]
    if num_units is None:
        for _ in range(settings.num_starts - 1):
            components = _over_split(points, num_units, rng, settings)
            starts.append(_follow_drift(points, components, design, settings.drift) if drift else components)
    every_group, fits = [], []
    for components in starts:
        # components of a few outliers would only add noise to the units into which they are merged
        kept = _drop_small(components, smallest // 2)
        if num_units is not None and len(np.unique(kept[kept >= 0])) < num_units:
            kept = components  # a given number of units needs as many components
        groups = Merging(points, design, kept, times_s, rng, limit, settings).run(num_units)
        units = _drop_small(groups, smallest if num_units is None else 1)
        every_group.append(np.where(groups >= 0, groups, groups.max(initial=-1) + 1 + components))
        fits.append(fit_units(points, design, kept, units, num_units is None, settings))
    fitted = fits[0]
    if len(fits) > 1:
        units, fitted = _pool(points, design, fits, smallest)
    small = np.where((units >= 0) | (num_units is not None), -1, every_group[0])
    return units, small, dict(drift=drift, **fitted)


def _pool(points: np.ndarray, design: np.ndarray, fits: list[dict], smallest: int) -> tuple[np.ndarray, dict]:
    """The units (num_points,) on which several fitted mixtures agree, and one mixture of all their components."""
    responsibilities = []
    for fit in fits:
        logs = log_densities(points, design, fit["weights"], fit["means"], fit["cholesky_factors"])
        responsibilities.append(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)).astype("float32"))
    units, owners = agreed_units(responsibilities, [fit["component_units"] for fit in fits])
    units = _drop_small(units, smallest)
    kept = np.unique(units[units >= 0])
    for each in owners:
        each[-1:] = -1  # the background, which may have no point, is last
    every_owner = np.concatenate(owners)
    names = ("weights", "means", "cholesky_factors")
    fitted = {name: np.concatenate([fit[name] for fit in fits]) for name in names}
    fitted["weights"] = fitted["weights"] / len(fits)
    fitted["component_units"] = np.where(np.isin(every_owner, kept), np.searchsorted(kept, every_owner), -1)
    return units, dict(num_units=len(kept), **fitted)


def _check(
    embeddings: np.ndarray, times_s: np.ndarray | None, num_units: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    if embeddings.dtype.kind != "f":  # those of float32 are not copied: there may be millions
        embeddings = embeddings.astype(float)
    if num_units is not None and num_units > len(embeddings):
        raise ValueError(
            f"expected at least num_units={num_units} spikes, found {len(embeddings)}: lower num_units or "
            "detect_threshold."
        )
    if not all(np.isfinite(block).all() for _, block in iterate_blocks(embeddings)):
        raise ValueError("expected finite embeddings, found NaN or infinity: check the recording for invalid samples.")
    if times_s is None:
        return embeddings, None
    times_s = np.asarray(times_s, float)
    if times_s.shape != (len(embeddings),) or not np.isfinite(times_s).all():
        raise ValueError(
            f"expected times_s to have a finite time for each of {len(embeddings)} spikes, found shape "
            f"{times_s.shape}; give the times of the same spikes in seconds"
        )
    return embeddings, times_s


def _without_units(embeddings: np.ndarray) -> Clustering:
    size = embeddings.shape[1]
    return Clustering(
        labels=np.full(len(embeddings), -1),
        posteriors=np.zeros(len(embeddings), np.float32),
        num_units=0,
        mean=np.zeros(size),
        axes=np.eye(size),
        weights=np.zeros(0),
        means=np.zeros((0, 1, size)),
        cholesky_factors=np.zeros((0, size, size)),
        component_units=np.zeros(0, int),
    )


def _over_split(
    points: np.ndarray, num_units: int | None, rng: np.random.Generator, settings: MixtureSettings
) -> np.ndarray:
    """Component of each point in a mixture with more components than units."""
    few = min(settings.min_components, len(points) // settings.min_spikes_per_component)
    wanted = min(settings.max_components, max(1, few, len(points) // settings.spikes_per_component))
    wanted = min(len(points), max(wanted, 1 if num_units is None else num_units))
    seed = int(rng.integers(2**31))
    # k-means where a covariance cannot be estimated, or where components lost all their points
    if len(points) >= max(2 * wanted, 2):
        labels = _split(points, wanted, seed)
        if num_units is None or len(np.unique(labels)) >= num_units:
            return labels
    return KMeans(wanted, n_init=1, random_state=seed).fit_predict(points)


def _split(points: np.ndarray, num_components: int, seed: int) -> np.ndarray:
    """Component of each point in a mixture whose components share one covariance."""
    start = one_hot(KMeans(num_components, n_init=1, random_state=seed).fit_predict(points))
    return fit_linear_mixture(points, start, np.ones((len(points), 1))).responsibilities.argmax(1)


def fit_mixture(points: np.ndarray, num_components: int, covariance_type: str, seed: int) -> GaussianMixture:
    """Fit scikit-learn's Gaussian mixture, without a warning where it does not converge.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    num_components : int
    covariance_type : str
        One of scikit-learn's.
    seed : int

    Returns
    -------
    sklearn.mixture.GaussianMixture
    """
    mixture = GaussianMixture(
        num_components, covariance_type=covariance_type, reg_covar=REGULARISATION, max_iter=100, random_state=seed
    )
    # a mixture that has not converged is good enough as a start; the matrices are too small for several threads
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(points)


def _track_drift(
    points: np.ndarray,
    times_s: np.ndarray | None,
    components: np.ndarray,
    num_units: int | None,
    settings: DriftSettings,
) -> tuple[np.ndarray, np.ndarray, Drift | None]:
    """Component of each point in a mixture that drifts, the design (num_points, num_terms) of its means, and drift."""
    drift = None
    if times_s is not None:
        drift = estimate_drift(points, times_s, components, lambda number: _split(points, number, 0), settings)
    if times_s is None or drift is None:
        return components, np.ones((len(points), 1)), None
    design = drift.design(times_s)
    tracked = _follow_drift(points, components, design, settings)
    # a given number of units needs as many components
    is_enough = num_units is None or len(np.unique(tracked)) >= num_units
    return tracked if is_enough else components, design, drift


def _follow_drift(
    points: np.ndarray, components: np.ndarray, design: np.ndarray, settings: DriftSettings
) -> np.ndarray:
    """Component of each point after the means have become linear functions of drift."""
    return fit_linear_mixture(points, one_hot(components), design, settings.slope_ridge).responsibilities.argmax(1)


def _drop_small(labels: np.ndarray, min_spikes: int) -> np.ndarray:
    values, counts = np.unique(labels[labels >= 0], return_counts=True)
    return np.where(np.isin(labels, values[counts >= min_spikes]), labels, -1)


def cluster_as_in_paper(
    embeddings: np.ndarray, *, num_units: int, max_fit_spikes: int, seed: int, num_starts: int = 10
) -> Clustering:
    """Fit scikit-learn's Gaussian mixture with one component a unit, as the paper does, for comparison.

    Parameters
    ----------
    embeddings : ndarray, (num_spikes, embedding_size)
        At least `num_units` rows.
    num_units : int
        Number of components, each with a full covariance.
    max_fit_spikes : int
        Maximum number of spikes, drawn at random, to which the mixture is fitted; the others are assigned afterwards.
    seed : int
        Seed of the draw and of the starts.
    num_starts : int
        Number of k-means starts, of which the best is kept: a single start often puts two components into one cluster.

    Returns
    -------
    Clustering
        A unit has no spikes if its component is the most probable one of none.
    """
    embeddings = np.asarray(embeddings, dtype="float64")
    rows = np.arange(len(embeddings))
    if len(rows) > max(max_fit_spikes, num_units):
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[: max(max_fit_spikes, num_units)])
    mixture = GaussianMixture(num_units, covariance_type="full", n_init=num_starts, random_state=seed)
    mixture.fit(embeddings[rows] if len(rows) > 1 else embeddings[rows].repeat(2, axis=0))  # fit needs two points
    size = embeddings.shape[1]
    posteriors = mixture.predict_proba(embeddings)
    return Clustering(
        labels=posteriors.argmax(axis=1),
        posteriors=posteriors.max(axis=1).astype("float32"),
        num_units=num_units,
        mean=np.zeros(size),
        axes=np.eye(size),
        weights=mixture.weights_,
        means=mixture.means_[:, None],
        cholesky_factors=np.linalg.cholesky(mixture.covariances_),
        component_units=np.arange(num_units),
    )
