"""Tissue moves along the probe: SpikeInterface estimates by how much, and interpolates the traces back."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import append_recordings, concatenate_recordings
from spikeinterface.core.motion import Motion

from .caching import cache_traces
from .jobs import get_job_kwargs
from .noise_levels import draw_chunks, find_active, noise_levels, read_chunks
from .parameters import SortingParameters, is_motion_folder
from .preprocessing import PreparedGroup
from .run_log import RunLog

AUTO_PRESET = "dredge_fast"
AUTO_CHANNELS = 32  # fewer see too little of the tissue to tell motion from units that come and go
AUTO_WIDTH_UM = 60.0  # wider groups are planes of contacts, not shanks along which tissue slides
AUTO_DURATION_S = 30.0  # the motion is estimated every second, and against other seconds
SMALLEST_MOTION_UM = 2.0  # less is not worth blurring the traces for


def correct_motion(
    group: PreparedGroup, parameters: SortingParameters, log: RunLog, *, cache: bool = True
) -> PreparedGroup:
    """Undo the motion of the tissue along a probe, where there is some.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    parameters : SortingParameters
        `motion` and `seed` are read. With "auto", shanks of 32 channels or more whose places are known are corrected
        with the preset "dredge_fast"; with the name of a preset or a saved motion, every group is. Segments count as
        recorded one after the other.
    log : RunLog
        Told how far the tissue moved, or why that was not looked at.
    cache : bool
        As in `preprocess`.

    Returns
    -------
    PreparedGroup
        The same one where nothing moved by 2 um or more; otherwise with the same channels, corrected.
    """
    if parameters.motion is None or (parameters.motion == "auto" and not _is_suited(group)):
        log.skip("motion")
        return group
    recording, name = group.recording, AUTO_PRESET if parameters.motion == "auto" else parameters.motion
    if is_motion_folder(name):
        motion, preset = _of_segments(Motion.load(name), group.segment_indices), AUTO_PRESET
    else:
        # one after the other, so that a neuron has one place in all segments; SpikeInterface estimates one segment
        recording = concatenate_recordings([recording]) if recording.get_num_segments() > 1 else recording
        motion, preset = _estimate(recording, group.noise_levels_uv, name, parameters.peak_sign), name
    if motion is None:
        log.warning("motion", f"group {group.name}: {name} found no motion estimate, the traces stay as they are")
        return group
    # over all segments: tissue may lie still in each of them and elsewhere in the next
    span_um = float(np.ptp(np.concatenate(motion.displacement), axis=0).max())
    if span_um < SMALLEST_MOTION_UM:
        log("motion", f"group {group.name}: {name}, {span_um:.1f} um, nothing to correct")
        return group
    from spikeinterface.sortingcomponents.motion import interpolate_motion

    options = spre.get_motion_parameters_preset(preset)["interpolate_motion_kwargs"]
    # the channels stay those that the user knows
    options = {**options, "border_mode": "force_extrapolate"}
    moved = _cut_like(interpolate_motion(recording, motion, **options), group.recording)
    if cache:
        moved = cache_traces(moved, "motion", log)
    chunks = draw_chunks(moved, parameters.seed)
    traces = read_chunks(moved, chunks)
    # blanked stretches are still constant after interpolation
    levels = noise_levels(traces, find_active(traces, moved.get_sampling_frequency()))
    log("motion", f"group {group.name}: {name}, {span_um:.1f} um corrected")
    return replace(group, recording=moved, noise_levels_uv=levels, motion=_cut_motion(motion, group.recording))


def _is_suited(group: PreparedGroup) -> bool:
    """Whether "auto" looks for motion in a group."""
    recording = group.recording
    width_um, length_um = np.ptp(recording.get_channel_locations(), axis=0)
    return bool(
        group.is_placed
        and recording.get_num_channels() >= AUTO_CHANNELS
        and width_um <= min(AUTO_WIDTH_UM, length_um)
        and recording.get_total_duration() >= AUTO_DURATION_S
    )


def _cut_like(single, recording):
    """A recording, cut into segments as long as those of another one where that has more of them."""
    if recording.get_num_segments() == single.get_num_segments():
        return single
    ends = np.cumsum([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    starts = [0, *ends[:-1]]
    return append_recordings([single.frame_slice(start, end) for start, end in zip(starts, ends, strict=True)])


def _cut_motion(motion: Motion, recording) -> Motion:
    """The motion of a recording with one segment, as that of the segments of `recording` that it is made of."""
    if recording.get_num_segments() == motion.num_segments:
        return motion
    displacement, temporal_bins_s, begin_s = [], [], 0.0
    for index in range(recording.get_num_segments()):
        end_s = begin_s + recording.get_num_samples(index) / recording.get_sampling_frequency()
        bins_s = motion.temporal_bins_s[0]
        rows = np.flatnonzero((bins_s >= begin_s) & (bins_s < end_s))
        if len(rows) == 0:  # a segment shorter than a bin
            rows = np.array([np.abs(bins_s - (begin_s + end_s) / 2).argmin()])
        start_s = recording.sample_index_to_time(0, segment_index=index)
        displacement.append(motion.displacement[0][rows])
        temporal_bins_s.append(bins_s[rows] - begin_s + start_s)
        begin_s = end_s
    return Motion(displacement, temporal_bins_s, motion.spatial_bins_um, motion.direction, motion.interpolation_method)


def _of_segments(motion: Motion, segment_indices: np.ndarray) -> Motion:
    """The motion of those segments of the recording that are long enough to be sorted."""
    displacement = [motion.displacement[index] for index in segment_indices]
    temporal_bins_s = [motion.temporal_bins_s[index] for index in segment_indices]
    return Motion(displacement, temporal_bins_s, motion.spatial_bins_um, motion.direction, motion.interpolation_method)


def _estimate(recording, noise_levels_uv: np.ndarray, preset: str, peak_sign: str):
    """SpikeInterface's Motion of a recording of one segment, None where it fails."""
    view = recording.select_channels(recording.channel_ids)
    # where SpikeInterface looks before it measures noise levels, which it would do without our seed
    view.set_property("noise_level_mad_raw", noise_levels_uv)
    options = {}
    if peak_sign == "pos":  # troughs alone serve for "both"
        steps = spre.get_motion_parameters_preset(preset)
        signed = [step for step in ("detect_kwargs", "localize_peaks_kwargs") if "peak_sign" in steps[step]]
        options = {step: {"peak_sign": peak_sign} for step in signed}
    with warnings.catch_warnings():  # that a short shank moves as a whole needs no warning, and a failure is logged
        warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
        return spre.compute_motion(view, preset=preset, raise_error=False, **options, **get_job_kwargs())
