"""Clusters: which units are drawn together, on which contacts, and on which plane of their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ..sorting.postprocessing import UnitMeasurements
from .colors import assign_colors
from .settings import REPORT_SETTINGS, ReportSettings

if TYPE_CHECKING:
    from ..result import SortingResult


@dataclass(frozen=True)
class ClusterView:
    """What is drawn around one unit.

    Attributes
    ----------
    units : tuple of int
        Index of the units: all of a small group, or the unit with its nearest ones.
    contacts : tuple of int
        Rows of the contacts whose peaks are drawn against each other; empty without measurements.
    """

    units: tuple[int, ...]
    contacts: tuple[int, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of these contacts."""
        return list(combinations(self.contacts, 2))


@dataclass(frozen=True, eq=False)
class DrawnSpikes:
    """Spikes of one unit that the figures show.

    Attributes
    ----------
    rows : ndarray of int, (num_drawn,)
        Rows of the spike vector.
    peaks_uv : ndarray of float32, (num_drawn, max_template_channels) | None
        Their peaks on the channels of the unit's template, positive in the direction of the unit's peak; None where
        the result has none.
    """

    rows: np.ndarray
    peaks_uv: np.ndarray | None


def find_views(
    result: SortingResult, measurements: UnitMeasurements | None, *, settings: ReportSettings = REPORT_SETTINGS
) -> list[ClusterView]:
    """Choose for each unit what is drawn with it.

    Parameters
    ----------
    result : SortingResult
    measurements : UnitMeasurements | None
        Without it, places of the units are unknown: all units of a group are drawn together.
    settings : ReportSettings

    Returns
    -------
    list of ClusterView
        One per unit. On groups of at most 4 contacts it has all of them, on others the unit's main contact, that of the
        overlapping unit, and those where the template is largest.
    """
    groups = result.sorting.get_property("group")
    units_of = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    if measurements is None:
        together = {group: tuple(units[: settings.max_shared_units].tolist()) for group, units in units_of.items()}
        return [ClusterView(together[group], ()) for group in groups]
    main = measurements.template_channels[:, 0]
    main_um = measurements.channel_positions_um[main]
    rivals = find_overlapping(result)
    views = []
    for unit, group in enumerate(groups):
        contacts = np.flatnonzero(measurements.channel_groups == measurements.channel_groups[main[unit]])
        units = units_of[group]
        if len(units) > settings.max_shared_units or len(contacts) > settings.max_shared_contacts:
            distances_um = cdist(main_um[[unit]], main_um[units])[0]
            distances_um[(units == unit) | (units == rivals[unit])] = -1.0
            near = np.argsort(distances_um, kind="stable")[: settings.num_view_units]
            units = np.sort(units[near[distances_um[near] <= settings.neighbour_distance_um]])
        if len(contacts) > settings.num_view_contacts:
            contacts = _choose_contacts(measurements, unit, rivals[unit], settings.num_view_contacts)
        views.append(ClusterView(tuple(units.tolist()), tuple(contacts.tolist())))
    return views


def find_overlapping(result: SortingResult) -> list[int]:
    """Find the unit with which the spikes of each unit are most easily confused.

    Parameters
    ----------
    result : SortingResult

    Returns
    -------
    list of int
        Its index; -1 where there is none, and for results of versions that did not look for it.
    """
    named = result.sorting.get_property("overlapping_unit")
    if named is None:
        return [-1] * result.sorting.get_num_units()
    index = {str(unit_id): unit for unit, unit_id in enumerate(result.sorting.unit_ids)}
    return [index.get(str(name), -1) for name in named]


def unit_positions(measurements: UnitMeasurements) -> np.ndarray:
    """Compute the centre of mass of each template, weighted by the squared peak-to-peak amplitude.

    Parameters
    ----------
    measurements : UnitMeasurements

    Returns
    -------
    ndarray of float64, (num_units, 2)
        um.
    """
    weights = np.ptp(np.nan_to_num(measurements.templates_uv), axis=1) ** 2 + 1e-9
    weights[measurements.template_channels < 0] = 0.0
    contacts_um = measurements.channel_positions_um[measurements.template_channels]
    return (contacts_um * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)


def unit_colors(result: SortingResult, measurements: UnitMeasurements | None) -> np.ndarray:
    """Choose the colours of all units.

    Parameters
    ----------
    result : SortingResult
    measurements : UnitMeasurements | None
        Without it, units are taken to lie in the order of their numbers.

    Returns
    -------
    ndarray of int, (num_units,)
        Index of each in `huidurep.report.colors.PALETTE`.
    """
    num_units = result.sorting.get_num_units()
    if measurements is None:
        positions_um = np.column_stack([np.zeros(num_units), -np.arange(num_units)])
    else:
        positions_um = unit_positions(measurements)
    return assign_colors(positions_um, result.sorting.get_property("group"))


def draw_spikes(
    result: SortingResult, measurements: UnitMeasurements | None, max_spikes: int, *, seed: int = 0
) -> list[DrawnSpikes]:
    """Draw spikes of each unit: those whose peaks on the contacts were kept, or any.

    Parameters
    ----------
    result : SortingResult
    measurements : UnitMeasurements | None
    max_spikes : int
        Of each unit.
    seed : int

    Returns
    -------
    list of DrawnSpikes
        One per unit.
    """
    unit_index = result.sorting.to_spike_vector()["unit_index"]
    num_units, rng = result.sorting.get_num_units(), np.random.default_rng(seed)
    if measurements is None or measurements.drawn_spikes is None:
        rows, peaks_uv = np.arange(len(unit_index)), None
    else:
        rows, peaks_uv = measurements.drawn_spikes, measurements.contact_peaks_uv
    owners = unit_index[rows]
    ends = np.cumsum(np.bincount(owners, minlength=num_units))[:-1]
    drawn = []
    for own in np.split(np.argsort(owners, kind="stable"), ends):
        own = np.sort(rng.permutation(own)[:max_spikes])
        peaks = None
        if peaks_uv is not None:
            sign = np.sign(np.median(peaks_uv[own, 0])) if len(own) else 1.0
            peaks = sign * peaks_uv[own]
        drawn.append(DrawnSpikes(rows[own], peaks))
    return drawn


def peaks_on(measurements: UnitMeasurements, drawn: DrawnSpikes, unit: int, contact: int) -> np.ndarray | None:
    """Peaks of the drawn spikes of a unit on one contact.

    Parameters
    ----------
    measurements : UnitMeasurements
    drawn : DrawnSpikes
        Of this unit.
    unit : int
        Its index.
    contact : int
        Row of the contact.

    Returns
    -------
    ndarray of float32, (num_drawn,) | None
        uV; None where the contact is not among those of the unit's template.
    """
    column = np.flatnonzero(measurements.template_channels[unit] == contact)
    return drawn.peaks_uv[:, column[0]] if drawn.peaks_uv is not None and len(column) else None


def embedding_plane(embeddings: np.ndarray, owners: np.ndarray, *, shrinkage: float) -> np.ndarray:
    """Project embeddings to the plane that separates their units best.

    Parameters
    ----------
    embeddings : ndarray, (num_spikes, embedding_size)
    owners : ndarray of int, (num_spikes,)
        Unit of each.
    shrinkage : float
        Of the covariance within units, from 0 to 1.

    Returns
    -------
    ndarray of float64, (num_spikes, 2)
        Linear discriminants (Fisher 1936) of three units or more, in standard deviations within units; principal
        components of fewer.
    """
    counts = np.unique(owners, return_counts=True)[1]
    points = embeddings.astype("float64")
    if len(counts) < 3 or points.shape[1] < 2 or len(points) <= 2 * len(counts):
        return principal_plane(points)[0]
    discriminants = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage, n_components=2)
    projected = discriminants.fit(points, owners).transform(points)
    return projected - projected.mean(axis=0)


def principal_plane(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the first two principal components.

    Parameters
    ----------
    embeddings : ndarray, (num_spikes, embedding_size)

    Returns
    -------
    points : ndarray of float64, (num_spikes, 2)
    shares : ndarray of float64, (2,)
        Their shares of the variance.
    """
    # with a column of zeros, a single spike or a one-dimensional embedding has a second component too
    padded = np.pad(embeddings.astype("float64"), ((0, max(0, 2 - len(embeddings))), (0, 1)))
    with np.errstate(invalid="ignore"):
        components = PCA(n_components=2, svd_solver="covariance_eigh").fit(padded)
    return components.transform(padded)[: len(embeddings)], np.nan_to_num(components.explained_variance_ratio_)


def _choose_contacts(measurements: UnitMeasurements, unit: int, rival: int, num_contacts: int) -> np.ndarray:
    """Rows of the contacts of a unit that show most of it and of the unit that it overlaps with."""
    channels = measurements.template_channels[unit]
    size = np.ptp(np.nan_to_num(measurements.templates_uv[unit]), axis=0)
    size[0] = np.inf
    if rival >= 0:
        size[channels == measurements.template_channels[rival, 0]] = np.inf
    order = np.argsort(-size, kind="stable")
    return channels[order[channels[order] >= 0][:num_contacts]]
