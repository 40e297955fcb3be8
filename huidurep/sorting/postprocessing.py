"""Templates of the units, and amplitude and location of every spike, measured while the traces are at hand.

They are small enough to be saved with the units, so that the report needs no recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting, NumpySorting, get_channel_distances
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.core.node_pipeline import ExtractDenseWaveforms, SpikeRetriever, run_node_pipeline
from spikeinterface.core.numpyextractors import SpikeVectorSortingSegment
from spikeinterface.postprocessing.spike_amplitudes import SpikeAmplitudeNode
from spikeinterface.sortingcomponents.peak_localization.center_of_mass import LocalizeCenterOfMass

from .job_kwargs import resolve_job_kwargs
from .motion import correct_motion
from .parameters import SortingParameters
from .peak_signs import SIGNS
from .preprocessing import PreparedGroup, preprocess, split_groups
from .run_log import RunLog
from .waveforms import has_whole_snippet, iterate_waveforms, nearest_channels, robust_waveforms


@dataclass(frozen=True)
class PostprocessingSettings:
    """How units and spikes are measured.

    Attributes
    ----------
    max_template_channels : int
        Channels on which a template is kept, nearest to the main channel first; probes with hundreds of channels have
        hundreds of units.
    peak_search_ms : float
        Largest distance of a template's peak from the spike time.
    location_radius_um : float
        Channels around the main channel that the centre of mass of a spike takes into account.
    location_ms : float
        Snippet before and after the peak of which the centre of mass is computed.
    num_means : int
        A template is the median of the means of so many subsets of the spikes, so that one transient does not shift it.
    num_drawn_spikes : int
        Spikes of a unit, drawn at random, of which the spread of the waveform and the peaks on all contacts are kept.
    spread_quantiles : tuple of float
        Quantiles of these waveforms at each sample.
    contact_peak_ms : float
        Largest distance of a spike's peak on a contact from the peak of the template on the main channel.
    """

    max_template_channels: int = 16
    peak_search_ms: float = 0.5
    location_radius_um: float = 75.0
    location_ms: float = 0.5
    num_means: int = 5
    num_drawn_spikes: int = 200
    spread_quantiles: tuple[float, float] = (0.1, 0.9)
    contact_peak_ms: float = 0.25


POSTPROCESSING_SETTINGS = PostprocessingSettings()
PASS_BYTES = 64 * 2**20  # of drawn snippets: each pass reads most of the recording


@dataclass(frozen=True, eq=False)
class UnitMeasurements:
    """Templates of the units, amplitudes and locations of their spikes.

    Attributes
    ----------
    channel_ids : ndarray, (num_channels,)
        Channels of the recording without bad channels.
    channel_groups : ndarray, (num_channels,)
        Group of each channel.
    channel_positions_um : ndarray of float64, (num_channels, 2)
        Contacts; those of different groups may coincide.
    templates_uv : ndarray of float32, (num_units, num_samples, max_template_channels)
        Medians of mean waveforms on the channels nearest to the main channel, main channel first; NaN where a group has
        fewer channels.
    template_channels : ndarray of int64, (num_units, max_template_channels)
        Row of these channels in `channel_ids`; -1 where a group has fewer.
    peak_index : ndarray of int64, ()
        Sample of the spike time in the templates.
    amplitudes_uv : ndarray of float32, (num_spikes,)
        Filtered trace of the unit's main channel at the peak of the spike.
    positions_um : ndarray of float32, (num_spikes, 2)
        Centre of mass of the spike, after motion correction.
    motion_um : ndarray of float32, (num_spikes,)
        Estimated probe movement at the time and depth of the spike; 0 without motion correction.
    template_quantiles_uv : ndarray of float32, (2, num_units, num_samples, max_template_channels) | None
        10 % and 90 % quantile of the waveforms of the drawn spikes, on the channels of the templates. This and the next
        two are None in results of versions that did not measure them.
    drawn_spikes : ndarray of int64, (num_drawn,) | None
        Rows of the spike vector: at most 200 spikes of each unit.
    contact_peaks_uv : ndarray of float32, (num_drawn, max_template_channels) | None
        Peak of each drawn spike, of its unit's sign, on the channels of its unit's template.
    """

    channel_ids: np.ndarray
    channel_groups: np.ndarray
    channel_positions_um: np.ndarray
    templates_uv: np.ndarray
    template_channels: np.ndarray
    peak_index: np.ndarray
    amplitudes_uv: np.ndarray
    positions_um: np.ndarray
    motion_um: np.ndarray
    template_quantiles_uv: np.ndarray | None = None
    drawn_spikes: np.ndarray | None = None
    contact_peaks_uv: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Write the arrays to a compressed .npz file.

        Parameters
        ----------
        path : str or Path
            File to write.
        """
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez_compressed(path, **{name: values for name, values in arrays.items() if values is not None})

    @classmethod
    def load(cls, path: str | Path) -> UnitMeasurements | None:
        """Read a file that `save` wrote.

        Parameters
        ----------
        path : str or Path
            File to read.

        Returns
        -------
        UnitMeasurements | None
            None where the file does not exist, as in folders of earlier versions.

        Raises
        ------
        ValueError
            Arrays are missing.
        """
        if not Path(path).is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            missing = [each.name for each in fields(cls) if each.default is MISSING and each.name not in stored]
            if missing:
                raise ValueError(f"expected the arrays of {cls.__name__}, found no {missing} in {path}; sort again")
            return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})


def measure_units(
    group: PreparedGroup,
    spike_vector: np.ndarray,
    templates_uv: np.ndarray,
    parameters: SortingParameters,
    *,
    signs: np.ndarray | None = None,
    settings: PostprocessingSettings = POSTPROCESSING_SETTINGS,
    job_kwargs: dict | None = None,
) -> UnitMeasurements:
    """Measure the units of one channel group.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV.
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector with the segments of the group, in order of time within segments.
    templates_uv : ndarray of float32, (num_units, num_samples, num_channels)
        Waveforms of the units, from `robust_waveforms`.
    parameters : SortingParameters
        Snippet window and sign of the peak.
    signs : ndarray of int, (num_units,) | None
        As in `main_channels`.
    settings : PostprocessingSettings
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

    Returns
    -------
    UnitMeasurements
    """
    recording = group.recording
    sampling_frequency = recording.get_sampling_frequency()
    num_units, num_samples, num_channels = templates_uv.shape
    options: dict[str, Any] = dict(signs=signs, settings=settings)
    channels, peaks, peaks_uv = main_channels(templates_uv, sampling_frequency, parameters, **options)
    kept = keep_near_channels(templates_uv, channels, recording, settings.max_template_channels)
    near = kept["template_channels"][:, :num_channels]
    sorting = make_sorting(spike_vector, sampling_frequency, np.arange(num_units), recording.get_num_segments())
    sorting.set_property("main_channel_id", recording.channel_ids[channels])
    # spike times may lie a few samples off the peak of the template, where the amplitude is read
    peak_shifts = peaks - parameters.num_samples_before(sampling_frequency)
    amplitudes_uv, positions_um = _measure_spikes(recording, sorting, peak_shifts, settings, job_kwargs)
    signed_peaks = (peaks, np.sign(peaks_uv))
    return UnitMeasurements(
        channel_ids=np.array(recording.channel_ids.tolist()),
        channel_groups=np.array([group.name] * num_channels),
        channel_positions_um=recording.get_channel_locations().astype("float64"),
        peak_index=np.array(parameters.num_samples_before(sampling_frequency)),
        amplitudes_uv=amplitudes_uv,
        positions_um=positions_um,
        motion_um=_motion_of_spikes(group, spike_vector, positions_um[:, 1]),
        **kept,
        **_measure_spread(recording, spike_vector, near, signed_peaks, parameters, settings, job_kwargs),
    )


def keep_near_channels(
    templates_uv: np.ndarray,
    main: np.ndarray,
    recording: BaseRecording,
    num_near: int,
    *,
    is_known: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Templates on the channels nearest to their main ones, as `UnitMeasurements` has them.

    Parameters
    ----------
    templates_uv : ndarray of float, (num_units, num_samples, num_channels)
    main : ndarray of int, (num_units,)
        Main channel of each.
    recording : BaseRecording
        With contacts.
    num_near : int
        Number of channels; NaN, and channel -1, where there are fewer.
    is_known : ndarray of bool, (num_units, num_channels) | None
        Channels on which each template is known, its main one among them. None: all.

    Returns
    -------
    dict of str to ndarray
        ``templates_uv`` float32 and ``template_channels``.
    """
    known = np.ones((len(main), templates_uv.shape[2]), dtype=bool) if is_known is None else is_known
    distances_um = np.where(known, get_channel_distances(recording)[main], np.inf)
    near = np.argsort(distances_um, axis=1, kind="stable")[:, :num_near]
    is_missing = ~np.take_along_axis(known, near, axis=1)
    kept_uv = np.take_along_axis(templates_uv, near[:, None, :], axis=2).astype("float32")
    kept_uv[np.broadcast_to(is_missing[:, None, :], kept_uv.shape)] = np.nan
    padding = ((0, 0), (0, num_near - near.shape[1]))
    return dict(
        templates_uv=np.pad(kept_uv, ((0, 0), *padding), constant_values=np.nan),
        template_channels=np.pad(np.where(is_missing, -1, near), padding, constant_values=-1),
    )


def measure_again(
    sorting: BaseSorting,
    recording: BaseRecording,
    parameters: SortingParameters,
    *,
    settings: PostprocessingSettings = POSTPROCESSING_SETTINGS,
    job_kwargs: dict | None = None,
) -> UnitMeasurements | None:
    """Preprocess a recording again and measure units that were found in it, as the pipeline measured them.

    Parameters
    ----------
    sorting : BaseSorting
        Units with the property "group".
    recording : BaseRecording
        The raw recording that was sorted.
    parameters : SortingParameters
        Parameters of that sorting.
    settings : PostprocessingSettings
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

    Returns
    -------
    UnitMeasurements | None
        None for a sorting without units.

    Raises
    ------
    ValueError
        The recording lacks channel groups of the sorting.
    """
    spikes, unit_groups = sorting.to_spike_vector(), sorting.get_property("group")
    stored = sorting.get_property("peak_sign")  # results of earlier versions have none
    signs = None if stored is None else np.array([SIGNS[name] for name in stored])
    parts, rows, log = [], [], RunLog()
    for group in split_groups(recording, parameters, log):
        units = np.flatnonzero(unit_groups == group.name)
        prepared = preprocess(group, parameters, log, job_kwargs=job_kwargs) if len(units) else None
        if prepared is None:
            continue
        prepared = correct_motion(prepared, parameters, log, job_kwargs=job_kwargs)
        # the units of this group, counted from 0, in the segments that are long enough
        rows.append(np.flatnonzero(np.isin(spikes["unit_index"], units)))
        vector = spikes[rows[-1]].copy()
        vector["unit_index"] = np.searchsorted(units, vector["unit_index"])
        vector["segment_index"] = np.searchsorted(group.segment_indices, vector["segment_index"])
        templates_uv = robust_waveforms(
            prepared.recording, vector, len(units), parameters, num_means=settings.num_means, job_kwargs=job_kwargs
        )
        options = dict(signs=None if signs is None else signs[units], settings=settings, job_kwargs=job_kwargs)
        parts.append(measure_units(prepared, vector, templates_uv, parameters, **options))
    num_measured = sum(len(part.templates_uv) for part in parts)
    if num_measured != sorting.get_num_units():
        raise ValueError(
            f"expected the channel groups {np.unique(unit_groups).tolist()} of the sorting, found {num_measured} of "
            f"{sorting.get_num_units()} units in groups of this recording; give the recording that was sorted"
        )
    return concatenate_measurements(parts, np.argsort(np.concatenate(rows))) if rows else None


def concatenate_measurements(parts: list[UnitMeasurements], order: np.ndarray) -> UnitMeasurements | None:
    """Combine the measurements of several channel groups.

    Parameters
    ----------
    parts : list of UnitMeasurements
        One per group.
    order : ndarray of int, (num_spikes,)
        Row, in the concatenated groups, of each spike of the combined measurements.

    Returns
    -------
    UnitMeasurements | None
        None for an empty list.
    """
    if not parts:
        return None
    first_channels = np.cumsum([0, *[len(part.channel_ids) for part in parts[:-1]]])
    template_channels = [
        np.where(part.template_channels < 0, -1, part.template_channels + first)
        for part, first in zip(parts, first_channels, strict=True)
    ]

    def concatenated(name: str, axis: int = 0) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis=axis)

    spread = {}
    drawn_spikes = [part.drawn_spikes for part in parts if part.drawn_spikes is not None]
    if len(drawn_spikes) == len(parts):
        first_spikes = np.cumsum([0, *[len(part.amplitudes_uv) for part in parts[:-1]]])
        drawn = np.concatenate([rows + first for rows, first in zip(drawn_spikes, first_spikes, strict=False)])
        spread = {
            "template_quantiles_uv": concatenated("template_quantiles_uv", axis=1),
            "drawn_spikes": np.argsort(order)[drawn],  # the inverse of a permutation
            "contact_peaks_uv": concatenated("contact_peaks_uv"),
        }
    return UnitMeasurements(
        channel_ids=concatenated("channel_ids"),
        channel_groups=concatenated("channel_groups"),
        channel_positions_um=concatenated("channel_positions_um"),
        templates_uv=concatenated("templates_uv"),
        template_channels=np.concatenate(template_channels),
        peak_index=parts[0].peak_index,
        amplitudes_uv=concatenated("amplitudes_uv")[order],
        positions_um=concatenated("positions_um")[order],
        motion_um=concatenated("motion_um")[order],
        **spread,
    )


def main_channels(
    templates_uv: np.ndarray,
    sampling_frequency: float,
    parameters: SortingParameters,
    *,
    signs: np.ndarray | None = None,
    settings: PostprocessingSettings = POSTPROCESSING_SETTINGS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Main channel of each template, sample of its peak on that channel, and its value there.

    Parameters
    ----------
    templates_uv : ndarray, (num_units, num_samples, num_channels)
    sampling_frequency : float
        Hz.
    parameters : SortingParameters
        Snippet window and sign of the peak.
    signs : ndarray of int, (num_units,) | None
        Sign of each unit. None, or 0: that of `parameters`, with "auto" that of the largest deflection.
    settings : PostprocessingSettings

    Returns
    -------
    channels : ndarray of int, (num_units,)
    samples : ndarray of int, (num_units,)
        Counted from the start of the snippet.
    peaks_uv : ndarray of float, (num_units,)
    """
    num_before = parameters.num_samples_before(sampling_frequency)
    reach = int(settings.peak_search_ms * sampling_frequency / 1000.0)
    first = max(0, num_before - reach)
    near = templates_uv[:, first : num_before + reach + 1]
    # a window, because artefacts and other units can be larger at the edges of the snippet
    own = np.full(len(near), SIGNS.get(parameters.peak_sign, 0))
    if signs is not None:
        own = np.where(signs == 0, own, signs)
    is_up = near.max(axis=(1, 2), initial=0) > -near.min(axis=(1, 2), initial=0)
    own = np.where(own == 0, np.where(is_up, 1, -1), own)
    size = own[:, None, None] * near
    units = np.arange(len(size))
    channels = size.max(axis=1).argmax(axis=1) if len(size) else np.zeros(0, dtype="int64")
    samples = size[units, :, channels].argmax(axis=1) if len(size) else np.zeros(0, dtype="int64")
    peaks_uv = (own * size[units, samples, channels]).astype("float64")
    return channels, first + samples, peaks_uv


def make_sorting(
    spikes: np.ndarray, sampling_frequency: float, unit_ids: np.ndarray, num_segments: int
) -> NumpySorting:
    """Create a sorting that keeps trailing segments without spikes, which NumpySorting drops.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        SpikeInterface's spike vector.
    sampling_frequency : float
        Hz.
    unit_ids : ndarray, (num_units,)
    num_segments : int

    Returns
    -------
    NumpySorting
    """
    sorting = NumpySorting(spikes, sampling_frequency, unit_ids)
    # NumpySorting counts segments up to the one with the last spike
    for segment_index in range(sorting.get_num_segments(), num_segments):
        sorting.add_sorting_segment(SpikeVectorSortingSegment(spikes, segment_index, unit_ids))
    return sorting


def _measure_spikes(
    recording: BaseRecording,
    sorting: BaseSorting,
    peak_shifts: np.ndarray,
    settings: PostprocessingSettings,
    job_kwargs: dict | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude (num_spikes,) uV and centre of mass (num_spikes, 2) um of every spike, chunk by chunk."""
    spikes = SpikeRetriever(sorting, recording)
    shifts = dict(zip(sorting.unit_ids.tolist(), peak_shifts.tolist(), strict=True))
    amplitudes = SpikeAmplitudeNode(recording, parents=[spikes], peak_shifts=shifts, return_in_uV=False)
    window = {"ms_before": settings.location_ms, "ms_after": settings.location_ms}
    snippets = ExtractDenseWaveforms(recording, parents=[spikes], **window)
    locations = LocalizeCenterOfMass(recording, parents=[spikes, snippets], radius_um=settings.location_radius_um)
    nodes = [spikes, amplitudes, snippets, locations]
    amplitudes_uv, found = run_node_pipeline(
        recording, nodes, resolve_job_kwargs(job_kwargs), job_name="measure spikes"
    )
    return amplitudes_uv.astype("float32"), np.stack([found["x"], found["y"]], axis=1).astype("float32")


def _measure_spread(
    recording: BaseRecording,
    spike_vector: np.ndarray,
    near: np.ndarray,
    peaks: tuple[np.ndarray, np.ndarray],
    parameters: SortingParameters,
    settings: PostprocessingSettings,
    job_kwargs: dict | None,
) -> dict[str, np.ndarray]:
    """Quantiles of the waveforms of drawn spikes on the channels `near`, rows of these spikes, and their peaks there.

    `peaks` holds the sample and the sign of the peak of each template.
    """
    num_units, num_near = near.shape
    num_channels = settings.max_template_channels
    rng = np.random.default_rng(parameters.seed)
    usable = has_whole_snippet(spike_vector, recording, parameters)
    of_unit = [np.flatnonzero(usable & (spike_vector["unit_index"] == unit)) for unit in range(num_units)]
    of_unit = [np.sort(rng.permutation(rows)[: settings.num_drawn_spikes]) for rows in of_unit]
    drawn = np.concatenate([np.zeros(0, dtype="int64"), *of_unit])
    sampling_frequency = recording.get_sampling_frequency()
    num_samples, reach = (
        parameters.num_samples(sampling_frequency),
        round(settings.contact_peak_ms * sampling_frequency / 1000.0),
    )
    quantiles_uv = np.full((2, num_units, num_samples, num_channels), np.nan, dtype="float32")
    contact_peaks_uv = np.full((len(drawn), num_channels), np.nan, dtype="float32")
    first = 0
    for unit, snippets in _snippets_of_units(recording, spike_vector, of_unit, near, parameters, job_kwargs):
        sample, sign = int(peaks[0][unit]), peaks[1][unit]
        quantiles_uv[:, unit, :, :num_near] = np.quantile(snippets, settings.spread_quantiles, axis=0)
        window = snippets[:, max(0, sample - reach) : sample + reach + 1]
        contact_peaks_uv[first : first + len(snippets), :num_near] = sign * (sign * window).max(axis=1)
        first += len(snippets)
    return dict(template_quantiles_uv=quantiles_uv, drawn_spikes=drawn, contact_peaks_uv=contact_peaks_uv)


def _snippets_of_units(
    recording: BaseRecording,
    spike_vector: np.ndarray,
    of_unit: list[np.ndarray],
    near: np.ndarray,
    parameters: SortingParameters,
    job_kwargs: dict | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Each unit with spikes, and its snippets (num_spikes, num_samples, num_near); several units in one pass."""
    num_samples = parameters.num_samples(recording.get_sampling_frequency())
    ends = np.cumsum([len(rows) for rows in of_unit])
    batches = ends * 4 * num_samples * near.shape[1] // PASS_BYTES
    mask = nearest_channels(recording, near.shape[1])
    for batch in np.unique(batches):
        units = np.flatnonzero(batches == batch)
        rows = np.sort(np.concatenate([of_unit[unit] for unit in units]))
        peaks = np.zeros(len(rows), dtype=base_peak_dtype)
        for name in ("sample_index", "segment_index"):
            peaks[name] = spike_vector[name][rows]
        unit_index = spike_vector["unit_index"][rows]
        peaks["channel_index"] = near[unit_index, 0]
        snippets = np.zeros((len(rows), num_samples, near.shape[1]), dtype="float32")
        for part in iterate_waveforms(recording, peaks, parameters, num_channels=near.shape[1], job_kwargs=job_kwargs):
            snippets[part.spike_indices] = part.waveforms
        for unit in units[[len(of_unit[unit]) > 0 for unit in units]]:
            # snippets have their channels in the order of the recording
            columns = np.searchsorted(np.flatnonzero(mask[near[unit, 0]]), near[unit])
            yield int(unit), snippets[unit_index == unit][:, :, columns]


def _motion_of_spikes(group: PreparedGroup, spike_vector: np.ndarray, depths_um: np.ndarray) -> np.ndarray:
    """Probe movement (num_spikes,) um at the time and depth of every spike."""
    motion_um = np.zeros(len(spike_vector), dtype="float32")
    if group.motion is None:
        return motion_um
    for segment in range(group.motion.num_segments):
        rows = spike_vector["segment_index"] == segment
        times_s = group.recording.sample_index_to_time(spike_vector["sample_index"][rows], segment_index=segment)
        motion_um[rows] = group.motion.get_displacement_at_time_and_depth(
            times_s, depths_um[rows].astype("float64"), segment_index=segment
        )
    return motion_um
