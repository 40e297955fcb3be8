"""What pictures of a sorting need of the recording: templates, and size and place of every spike.

Measured while the traces are at hand, and small enough to be saved with the units, so that a report needs no recording.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from spikeinterface.core import NumpySorting, get_channel_distances
from spikeinterface.core.node_pipeline import ExtractDenseWaveforms, SpikeRetriever, run_node_pipeline
from spikeinterface.core.numpyextractors import SpikeVectorSortingSegment
from spikeinterface.postprocessing.spike_amplitudes import SpikeAmplitudeNode
from spikeinterface.sortingcomponents.peak_localization.center_of_mass import LocalizeCenterOfMass

from .job_kwargs import resolve_job_kwargs
from .motion import correct_motion
from .parameters import SortingParameters
from .preprocessing import PreparedGroup, preprocess, split_groups
from .run_log import RunLog
from .waveforms import mean_waveforms

TEMPLATE_CHANNELS = 16  # nearest to the main one: more would hardly be seen, and a full probe has hundreds of units
PEAK_SEARCH_MS = 0.5  # how far from its place the peak of a template may lie
LOCATION_RADIUS_UM = 75.0
LOCATION_MS = 0.5  # before and after the peak


@dataclass(frozen=True, eq=False)
class Measures:
    """Templates of the units, and size and place of their spikes.

    Attributes
    ----------
    channel_ids : ndarray, (num_channels,)
        Of the recording; without channels that were left out.
    channel_groups : ndarray, (num_channels,)
        Group of each.
    channel_positions_um : ndarray of float64, (num_channels, 2)
        Contacts; groups may overlap.
    templates_uv : ndarray of float32, (num_units, num_samples, num_near)
        Mean waveforms at the contacts nearest to the main one, main one first; NaN where a group has fewer.
    template_channels : ndarray of int64, (num_units, num_near)
        Row in `channel_ids` of each; -1 where a group has fewer.
    peak_index : ndarray of int64, ()
        Sample of the spike time in the templates.
    amplitudes_uv : ndarray of float32, (num_spikes,)
        Filtered trace of the unit's main channel at the spike's peak.
    positions_um : ndarray of float32, (num_spikes, 2)
        Centre of mass of the spike, after correction of motion.
    motion_um : ndarray of float32, (num_spikes,)
        By how much the tissue had moved there and then; 0 where motion was not corrected.
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

    def save(self, path) -> None:
        """Write a compressed .npz.

        Parameters
        ----------
        path : str or Path
            File.
        """
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path) -> Measures | None:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            File.

        Returns
        -------
        Measures | None
            None where there is no such file, as in folders of earlier versions.

        Raises
        ------
        ValueError
            Arrays that are missing.
        """
        if not Path(path).is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            missing = [field.name for field in fields(cls) if field.name not in stored]
            if missing:
                raise ValueError(f"expected the arrays of {cls.__name__}, found no {missing} in {path}; sort again")
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


def measure_units(
    group: PreparedGroup, spike_vector: np.ndarray, templates_uv: np.ndarray, parameters: SortingParameters
) -> Measures:
    """Measure the units of one group.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV.
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector, segments as in the group, in order of time within segments.
    templates_uv : ndarray of float32, (num_units, num_samples, num_channels)
        Their mean waveforms.
    parameters : SortingParameters
        Window and sign of the peak.

    Returns
    -------
    Measures
    """
    recording = group.recording
    sampling_frequency = recording.get_sampling_frequency()
    num_units, num_samples, num_channels = templates_uv.shape
    channels, peaks, _ = main_channels(templates_uv, sampling_frequency, parameters)
    near = np.argsort(get_channel_distances(recording)[channels], axis=1, kind="stable")[:, :TEMPLATE_CHANNELS]
    padding = TEMPLATE_CHANNELS - near.shape[1]
    shown = np.take_along_axis(templates_uv, near[:, None, :], axis=2).astype("float32")
    sorting = make_sorting(spike_vector, sampling_frequency, np.arange(num_units), recording.get_num_segments())
    sorting.set_property("main_channel_id", recording.channel_ids[channels])
    shifts = peaks - parameters.num_samples_before(sampling_frequency)
    amplitudes_uv, positions_um = _measure_spikes(recording, sorting, shifts)
    return Measures(
        channel_ids=np.array(recording.channel_ids.tolist()),
        channel_groups=np.array([group.name] * num_channels),
        channel_positions_um=recording.get_channel_locations().astype("float64"),
        templates_uv=np.pad(shown, ((0, 0), (0, 0), (0, padding)), constant_values=np.nan),
        template_channels=np.pad(near, ((0, 0), (0, padding)), constant_values=-1),
        peak_index=np.array(parameters.num_samples_before(sampling_frequency)),
        amplitudes_uv=amplitudes_uv,
        positions_um=positions_um,
        motion_um=_motion_of_spikes(group, spike_vector, positions_um[:, 1]),
    )


def measure_again(sorting, recording, parameters: SortingParameters) -> Measures | None:
    """Measure units that are known, as their sorting did.

    Parameters
    ----------
    sorting : BaseSorting
        With the property "group".
    recording : BaseRecording
        The recording that was sorted, raw.
    parameters : SortingParameters
        Those of the sorting.

    Returns
    -------
    Measures | None
        None where there are no units.

    Raises
    ------
    ValueError
        A recording that does not fit the sorting.
    """
    spikes, groups = sorting.to_spike_vector(), sorting.get_property("group")
    _check_fit(sorting, recording)
    parts, rows, log = [], [], RunLog()
    for group in split_groups(recording, parameters, log):
        units = np.flatnonzero(groups == group.name)
        prepared = preprocess(group, parameters, log) if len(units) else None
        if prepared is None:
            continue
        prepared = correct_motion(prepared, parameters, log)
        rows.append(np.flatnonzero(np.isin(spikes["unit_index"], units)))
        vector = spikes[rows[-1]].copy()
        vector["unit_index"] = np.searchsorted(units, vector["unit_index"])
        vector["segment_index"] = np.searchsorted(group.segment_indices, vector["segment_index"])
        templates_uv = mean_waveforms(prepared.recording, vector, len(units), parameters)
        parts.append(measure_units(prepared, vector, templates_uv, parameters))
    measured = sum(len(part.templates_uv) for part in parts)
    if measured != sorting.get_num_units():
        raise ValueError(
            f"expected the channel groups {np.unique(groups).tolist()} of the sorting, found {measured} of "
            f"{sorting.get_num_units()} units in groups of this recording; give the recording that was sorted"
        )
    return join_measures(parts, np.argsort(np.concatenate(rows))) if rows else None


def join_measures(parts: list[Measures], order: np.ndarray) -> Measures | None:
    """Put groups together.

    Parameters
    ----------
    parts : list of Measures
        One a group, whose units and spikes stand one after the other.
    order : ndarray of int, (num_spikes,)
        The order in which the spikes of all groups are wanted.

    Returns
    -------
    Measures | None
        None where there is no group.
    """
    if not parts:
        return None
    starts = np.cumsum([0, *[len(part.channel_ids) for part in parts[:-1]]])
    joined = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Measures)}
    peak_index = joined.pop("peak_index")[0]
    joined["template_channels"] = [
        np.where(channels < 0, -1, channels + start)
        for channels, start in zip(joined["template_channels"], starts, strict=True)
    ]
    joined = {name: np.concatenate(arrays) for name, arrays in joined.items()}
    for name in ("amplitudes_uv", "positions_um", "motion_um"):
        joined[name] = joined[name][order]
    return Measures(peak_index=peak_index, **joined)


def main_channels(
    templates_uv: np.ndarray, sampling_frequency: float, parameters: SortingParameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channel on which each template is largest, where its peak lies, and its value there.

    Parameters
    ----------
    templates_uv : ndarray, (num_units, num_samples, num_channels)
    sampling_frequency : float
        Hz.
    parameters : SortingParameters
        Window and sign of the peak.

    Returns
    -------
    channels : ndarray of int, (num_units,)
    samples : ndarray of int, (num_units,)
        Of the window.
    peaks_uv : ndarray of float, (num_units,)
    """
    num_before = parameters.num_samples_before(sampling_frequency)
    reach = int(PEAK_SEARCH_MS * sampling_frequency / 1000.0)
    first = max(0, num_before - reach)
    near = templates_uv[:, first : num_before + reach + 1]
    size = {"neg": -near, "pos": near, "both": np.abs(near)}[parameters.peak_sign]
    units = np.arange(len(size))
    channels = size.max(axis=1).argmax(axis=1) if len(size) else np.zeros(0, dtype="int64")
    samples = size[units, :, channels].argmax(axis=1) if len(size) else np.zeros(0, dtype="int64")
    peaks_uv = size[units, samples, channels].astype("float64")
    if parameters.peak_sign == "neg":
        peaks_uv = -peaks_uv
    return channels, first + samples, peaks_uv


def make_sorting(spikes: np.ndarray, sampling_frequency: float, unit_ids: np.ndarray, num_segments: int):
    """A sorting with all segments, those without spikes too, which NumpySorting does not count.

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
    for segment_index in range(sorting.get_num_segments(), num_segments):
        sorting.add_sorting_segment(SpikeVectorSortingSegment(spikes, segment_index, unit_ids))
    return sorting


def _check_fit(sorting, recording) -> None:
    found = recording.get_num_segments(), recording.get_sampling_frequency()
    if found != (sorting.get_num_segments(), sorting.get_sampling_frequency()):
        raise ValueError(
            f"expected a recording of {sorting.get_num_segments()} segments at "
            f"{sorting.get_sampling_frequency():g} Hz, found {found[0]} at {found[1]:g} Hz; "
            "give the recording that was sorted"
        )
    num_samples = np.array([recording.get_num_samples(index) for index in range(found[0])])
    spikes = sorting.to_spike_vector()
    if np.any(spikes["sample_index"] >= num_samples[spikes["segment_index"]]):
        raise ValueError(
            "expected all spikes within the recording, found later ones; give the recording that was sorted"
        )


def _measure_spikes(recording, sorting, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude (num_spikes,) uV and centre of mass (num_spikes, 2) um of every spike, chunk by chunk."""
    spikes = SpikeRetriever(sorting, recording)
    shifts = dict(zip(sorting.unit_ids.tolist(), shifts.tolist(), strict=True))
    amplitudes = SpikeAmplitudeNode(recording, parents=[spikes], peak_shifts=shifts, return_in_uV=False)
    snippets = ExtractDenseWaveforms(recording, ms_before=LOCATION_MS, ms_after=LOCATION_MS, parents=[spikes])
    places = LocalizeCenterOfMass(recording, parents=[spikes, snippets], radius_um=LOCATION_RADIUS_UM)
    nodes = [spikes, amplitudes, snippets, places]
    amplitudes_uv, found = run_node_pipeline(recording, nodes, resolve_job_kwargs(None), job_name="measure spikes")
    return amplitudes_uv.astype("float32"), np.stack([found["x"], found["y"]], axis=1).astype("float32")


def _motion_of_spikes(group: PreparedGroup, spike_vector: np.ndarray, depths_um: np.ndarray) -> np.ndarray:
    if group.motion is None:
        return np.zeros(len(spike_vector), dtype="float32")
    moved_um = np.zeros(len(spike_vector), dtype="float32")
    for segment in range(group.motion.num_segments):
        rows = spike_vector["segment_index"] == segment
        times_s = group.recording.sample_index_to_time(spike_vector["sample_index"][rows], segment_index=segment)
        moved_um[rows] = group.motion.get_displacement_at_time_and_depth(
            times_s, depths_um[rows].astype("float64"), segment_index=segment
        )
    return moved_um
