"""Units that a person merged or split: which spikes they are, their posteriors, templates and amplitudes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from spikeinterface.core import BaseSorting

from ..clustering.given_units import posteriors_of_given_units
from .parameters import SortingParameters
from .postprocessing import UnitMeasurements, keep_near_channels, main_channels
from .preprocessing import PreparedGroup
from .recorded_times import RecordedTimes


@dataclass(frozen=True)
class CuratedSettings:
    """How units are described that were changed by hand.

    Attributes
    ----------
    min_template_share : float
        Smallest share of an earlier unit's spikes with which its template still is that of these spikes, and of a
        curated unit's spikes for which templates must be known. Templates are medians of means, which a tenth of the
        spikes does not move.
    """

    min_template_share: float = 0.9


CURATED_SETTINGS = CuratedSettings()


@dataclass(frozen=True)
class TracedSpikes:
    """The spikes of a curated sorting and what they were before.

    Attributes
    ----------
    spikes : ndarray, (num_spikes,)
        SpikeInterface's spike vector of the curated units, in order of time within segments.
    rows : ndarray of int64, (num_spikes,)
        Row of each spike among the earlier ones; -1 for spikes that are new.
    origins : ndarray of int64, (num_spikes,)
        Earlier unit of each spike; -1 for spikes that are new.
    counts : ndarray of int64, (num_units, num_earlier_units)
        Spikes of each curated unit that each earlier unit had.
    earlier_counts : ndarray of int64, (num_earlier_units,)
        Spikes of each earlier unit.
    is_changed : ndarray of bool, (num_units,)
        The unit does not have exactly the spikes of an earlier one.
    unit_groups : ndarray of int64, (num_units,)
        Index in the unique names of channel groups; -1 for units without an earlier spike.
    """

    spikes: np.ndarray
    rows: np.ndarray
    origins: np.ndarray
    counts: np.ndarray
    earlier_counts: np.ndarray
    is_changed: np.ndarray
    unit_groups: np.ndarray


def trace_spikes(earlier: np.ndarray, spikes: np.ndarray, num_units: int, groups: np.ndarray) -> TracedSpikes:
    """Find the spikes of a curated sorting among the earlier ones, by segment, sample and unit.

    Where several units had a spike at the same sample, a curated unit gets that of the unit with which it shares most
    spikes. Each earlier spike is used once.

    Parameters
    ----------
    earlier, spikes : ndarray
        SpikeInterface's spike vectors.
    num_units : int
        Number of curated units.
    groups : ndarray of int64, (num_earlier_units,)
        Channel group of each earlier unit; a curated unit is of the one in which most of its spikes are found.

    Returns
    -------
    TracedSpikes
    """
    num_earlier = len(groups)
    new, old = _coincident_pairs(earlier, spikes)
    new_units, old_units = spikes["unit_index"][new], earlier["unit_index"][old]
    votes = np.zeros((num_units, num_earlier), dtype="int64")
    np.add.at(votes, (new_units, old_units), 1)
    of_groups = np.zeros((num_units, groups.max(initial=-1) + 1), dtype="int64")
    np.add.at(of_groups.T, groups, votes.T)
    has_votes = of_groups.any(axis=1)
    unit_groups = np.where(has_votes, of_groups.argmax(axis=1), -1) if of_groups.size else np.full(num_units, -1)
    is_own = groups[old_units] == unit_groups[new_units]
    pairs = np.stack([new, old], axis=1)[is_own]
    pairs = pairs[np.argsort(-votes[new_units, old_units][is_own], kind="stable")]
    rows = np.full(len(spikes), -1)
    while len(pairs):  # a pair that is the first of both its spikes is kept
        is_first = np.ones(len(pairs), dtype=bool)
        for column in pairs.T:
            first = np.zeros(len(pairs), dtype=bool)
            first[np.unique(column, return_index=True)[1]] = True
            is_first &= first
        rows[pairs[is_first, 0]] = pairs[is_first, 1]
        is_used = np.isin(pairs[:, 0], pairs[is_first, 0]) | np.isin(pairs[:, 1], pairs[is_first, 1])
        pairs = pairs[~is_used]
    origins = np.where(rows >= 0, earlier["unit_index"][rows], -1) if len(earlier) else rows
    counts = np.zeros((num_units, num_earlier), dtype="int64")
    np.add.at(counts, (spikes["unit_index"][rows >= 0], origins[rows >= 0]), 1)
    sizes = np.bincount(spikes["unit_index"], minlength=num_units)
    earlier_counts = np.bincount(earlier["unit_index"], minlength=num_earlier)
    # all spikes of the unit are those of one earlier unit, which has no others
    is_same = (counts == sizes[:, None]) & (counts == earlier_counts)
    return TracedSpikes(spikes, rows, origins, counts, earlier_counts, ~is_same.any(axis=1), unit_groups)


def merged_across_groups(earlier: np.ndarray, traced: TracedSpikes) -> list[tuple[int, int]]:
    """Find curated units that have most spikes of a unit of another channel group, on whose channels they are not read.

    Parameters
    ----------
    earlier : ndarray
        SpikeInterface's spike vector.
    traced : TracedSpikes

    Returns
    -------
    list of (int, int)
        Curated and earlier unit.
    """
    spikes = traced.spikes[traced.rows < 0]
    new, old = _coincident_pairs(earlier, spikes)
    shared = np.zeros(traced.counts.shape, dtype="int64")
    np.add.at(shared, (spikes["unit_index"][new], earlier["unit_index"][old]), 1)
    return [(int(unit), int(other)) for unit, other in np.argwhere(shared > 0.5 * traced.earlier_counts)]


def _coincident_pairs(earlier: np.ndarray, spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all pairs of a curated and an earlier spike at the same sample of the same segment."""
    span = 1 + max(int(each["sample_index"].max(initial=0)) for each in (earlier, spikes))
    keys, wanted = (each["segment_index"].astype("int64") * span + each["sample_index"] for each in (earlier, spikes))
    order = np.argsort(keys, kind="stable")
    first, end = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
    numbers = end - first
    within = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    return np.repeat(np.arange(len(spikes)), numbers), order[np.repeat(first, numbers) + within]


def recompute_posteriors(
    embeddings: np.ndarray,
    posteriors: np.ndarray,
    units: np.ndarray,
    origins: np.ndarray,
    centres: np.ndarray,
    is_changed: np.ndarray,
) -> np.ndarray:
    """Posteriors of the spikes of changed units, in a mixture of all units of the group; others keep theirs.

    Each curated unit has a component for each earlier unit of which it has spikes.

    Parameters
    ----------
    embeddings : ndarray of float32, (num_spikes, embedding_size)
        Of one channel group.
    posteriors : ndarray of float32, (num_spikes,)
    units, origins : ndarray of int, (num_spikes,)
        Curated and earlier unit of each spike.
    centres : ndarray of int, (num_spikes,)
        Channel around which each spike was embedded: only spikes around the same one are compared.
    is_changed : ndarray of bool, (num_units,)

    Returns
    -------
    ndarray of float32, (num_spikes,)
    """
    renewed = posteriors.copy()
    for centre in np.unique(centres[is_changed[units]]):
        rows = np.flatnonzero(centres == centre)
        components = np.unique(np.stack([units[rows], origins[rows]]), axis=1, return_inverse=True)[1].ravel()
        found = posteriors_of_given_units(embeddings[rows], components, units[rows])
        renewed[rows] = np.where(is_changed[units[rows]], found, renewed[rows])
    return renewed


def stored_recording(sorting: BaseSorting, channel_ids: np.ndarray, num_samples: list[int]) -> RecordedTimes:
    """The recording of a result without its traces: channels and times.

    Parameters
    ----------
    sorting : BaseSorting
    channel_ids : ndarray, (num_channels,)
    num_samples : list of int, (num_segments,)

    Returns
    -------
    RecordedTimes
    """
    times = RecordedTimes.of(sorting)
    starts_s = [times.get_start_time(index) for index in range(times.get_num_segments())]
    knots = [(segment.samples, segment.times_s) for segment in times.segments]
    return RecordedTimes(sorting.get_sampling_frequency(), num_samples, starts_s, knots, channel_ids.tolist())


def stored_group(
    sorting: BaseSorting, measurements: UnitMeasurements, name: object, num_samples: list[int]
) -> PreparedGroup:
    """A channel group without traces, for `describe_units`: contacts, times and noise levels that a result keeps.

    Parameters
    ----------
    sorting : BaseSorting
        Units with main_channel_id, group, peak_uv and snr.
    measurements : UnitMeasurements
    name : object
        Name of the group; it has units.
    num_samples : list of int, (num_segments,)

    Returns
    -------
    PreparedGroup
        Noise levels are those of the units' main channels; channels without a unit have the median of the others.
    """
    is_own = measurements.channel_groups == name
    recording = stored_recording(sorting, measurements.channel_ids[is_own], num_samples)
    recording.set_dummy_probe_from_locations(measurements.channel_positions_um[is_own])
    of_group = sorting.get_property("group") == name
    main = sorting.get_property("main_channel_id")[of_group]
    noise_uv = np.abs(sorting.get_property("peak_uv") / sorting.get_property("snr"))[of_group]
    levels_uv = np.full(is_own.sum(), np.median(noise_uv))
    for index, channel_id in enumerate(measurements.channel_ids[is_own]):
        if (main == channel_id).any():
            levels_uv[index] = np.median(noise_uv[main == channel_id])
    return PreparedGroup(name, recording, np.arange(len(num_samples)), levels_uv)


def combine_templates(
    measurements: UnitMeasurements,
    traced: TracedSpikes,
    group: PreparedGroup,
    units: np.ndarray,
    signs: np.ndarray,
    parameters: SortingParameters,
    *,
    settings: CuratedSettings = CURATED_SETTINGS,
) -> tuple[np.ndarray, UnitMeasurements]:
    """Templates of the curated units of a group from those of the earlier units, and amplitudes of their spikes.

    The template of a merged unit is the mean of those of the earlier units that are whole in it, weighted by their
    spikes, on the channels that all of them have. Where it is largest on another channel than that of an earlier unit,
    the amplitudes of this unit's spikes are scaled by its template there. Positions of spikes stay as they are.

    Parameters
    ----------
    measurements : UnitMeasurements
        Of the earlier units.
    traced : TracedSpikes
        No spike is new, and no unit is in `parts_of_units`.
    group : PreparedGroup
        From `stored_group`.
    units : ndarray of int, (num_units,)
        The curated units of this group, in ascending order.
    signs : ndarray of int, (num_earlier_units,)
        -1 or 1.
    parameters : SortingParameters
    settings : CuratedSettings

    Returns
    -------
    templates_uv : ndarray of float32, (num_units, num_samples, num_channels)
        On all channels of the group; zeros where they are not known.
    measurements : UnitMeasurements
        Of the spikes of these units, in order of time.
    """
    dense_uv, is_known = _on_all_channels(measurements, group.name)
    rate_hz = group.recording.get_sampling_frequency()
    channels, peaks, _ = main_channels(dense_uv, rate_hz, parameters, signs=signs)
    combined_uv, known = _mean_templates(dense_uv, is_known, traced.counts[units], _is_whole(traced, settings)[units])
    main, _, _ = main_channels(combined_uv, rate_hz, parameters, signs=np.sign(traced.counts[units] @ signs))
    is_spike = np.isin(traced.spikes["unit_index"], units)
    rows, origins = traced.rows[is_spike], traced.origins[is_spike]
    new_main = main[np.searchsorted(units, traced.spikes["unit_index"][is_spike])]
    at_peak_uv = dense_uv[np.arange(len(dense_uv)), peaks]
    scales = at_peak_uv[origins, new_main] / at_peak_uv[origins, channels[origins]]
    is_own, num_near = measurements.channel_groups == group.name, measurements.template_channels.shape[1]
    return combined_uv, replace(
        measurements,
        channel_ids=measurements.channel_ids[is_own],
        channel_groups=measurements.channel_groups[is_own],
        channel_positions_um=measurements.channel_positions_um[is_own],
        amplitudes_uv=(measurements.amplitudes_uv[rows] * scales).astype("float32"),
        positions_um=measurements.positions_um[rows],
        motion_um=measurements.motion_um[rows],
        **dict.fromkeys(("template_quantiles_uv", "drawn_spikes", "contact_peaks_uv")),  # of the earlier units
        **keep_near_channels(combined_uv, main, group.recording, num_near, is_known=known),
    )


def _mean_templates(
    dense_uv: np.ndarray, is_known: np.ndarray, counts: np.ndarray, is_whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the templates of whole units, weighted by their spikes, and the channels on which they are known."""
    known = np.array([is_known[own].all(axis=0) for own in is_whole])
    weights = counts * is_whole / (counts * is_whole).sum(axis=1, keepdims=True)
    combined_uv = np.tensordot(weights, dense_uv, axes=1) * known[:, None, :]
    return combined_uv.astype("float32"), known


def parts_of_units(traced: TracedSpikes, *, settings: CuratedSettings = CURATED_SETTINGS) -> np.ndarray:
    """Curated units whose templates are not those of whole earlier units.

    Parameters
    ----------
    traced : TracedSpikes
    settings : CuratedSettings

    Returns
    -------
    ndarray of int
    """
    sizes = np.bincount(traced.spikes["unit_index"], minlength=len(traced.counts))
    of_whole = (traced.counts * _is_whole(traced, settings)).sum(axis=1)
    return np.flatnonzero(of_whole < settings.min_template_share * sizes)


def _is_whole(traced: TracedSpikes, settings: CuratedSettings) -> np.ndarray:
    """Which earlier units (num_units, num_earlier_units) are whole in a curated unit, apart from a few spikes."""
    return (traced.counts > 0) & (traced.counts >= settings.min_template_share * traced.earlier_counts)


def _on_all_channels(measurements: UnitMeasurements, name: object) -> tuple[np.ndarray, np.ndarray]:
    """Templates of all units on all channels of a group, and which of these values are known."""
    own = np.flatnonzero(measurements.channel_groups == name)
    local = np.full(len(measurements.channel_ids) + 1, -1)  # the last one is for channel -1
    local[own] = np.arange(len(own))
    channels = local[measurements.template_channels]
    num_units, num_samples, _ = measurements.templates_uv.shape
    dense_uv, is_known = np.zeros((num_units, num_samples, len(own))), np.zeros((num_units, len(own)), dtype=bool)
    units, columns = np.nonzero(channels >= 0)
    dense_uv[units, :, channels[units, columns]] = measurements.templates_uv[units, :, columns]
    is_known[units, channels[units, columns]] = True
    return dense_uv, is_known
