"""Tissue moves along the probe: SpikeInterface estimates by how much, and interpolates the traces back."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.sortingcomponents.tools import cache_preprocessing

from .jobs import get_job_kwargs
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .run_log import RunLog
from .sampling import draw_chunks, find_active, noise_levels, read_chunks

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
        with the preset "dredge_fast"; with the name of a preset, every group is.
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
        return group
    if group.recording.get_num_segments() > 1:
        log.warning("motion", f"group {group.name}: several segments, motion is not corrected; concatenate them first")
        return group
    preset = AUTO_PRESET if parameters.motion == "auto" else parameters.motion
    motion = _estimate(group, preset, parameters.peak_sign)
    if motion is None:
        log.warning("motion", f"group {group.name}: {preset} found no motion estimate, the traces stay as they are")
        return group
    span_um = float(np.ptp(motion.displacement[0], axis=0).max())
    if span_um < SMALLEST_MOTION_UM:
        log("motion", f"group {group.name}: {preset}, {span_um:.1f} um, nothing to correct")
        return group
    from spikeinterface.sortingcomponents.motion import interpolate_motion

    options = spre.get_motion_parameters_preset(preset)["interpolate_motion_kwargs"]
    # the channels stay those that the user knows
    options = {**options, "border_mode": "force_extrapolate"}
    moved = interpolate_motion(group.recording, motion, **options)
    if cache:
        moved, _ = cache_preprocessing(moved, mode="auto", job_kwargs=get_job_kwargs())
    chunks = draw_chunks(moved, parameters.seed)
    traces = read_chunks(moved, chunks)
    # blanked stretches are still constant after interpolation
    levels = noise_levels(traces, find_active(traces, moved.get_sampling_frequency()))
    log("motion", f"group {group.name}: {preset}, {span_um:.1f} um corrected")
    return replace(group, recording=moved, noise_levels_uv=levels)


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


def _estimate(group: PreparedGroup, preset: str, peak_sign: str):
    """SpikeInterface's Motion of a group, None where it fails."""
    view = group.recording.select_channels(group.recording.channel_ids)
    # where SpikeInterface looks before it measures noise levels, which it would do without our seed
    view.set_property("noise_level_mad_raw", group.noise_levels_uv)
    options = {}
    if peak_sign == "pos":  # troughs alone serve for "both"
        steps = spre.get_motion_parameters_preset(preset)
        signed = [step for step in ("detect_kwargs", "localize_peaks_kwargs") if "peak_sign" in steps[step]]
        options = {step: {"peak_sign": peak_sign} for step in signed}
    with warnings.catch_warnings():  # that a short shank moves as a whole needs no warning, and a failure is logged
        warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
        return spre.compute_motion(view, preset=preset, raise_error=False, **options, **get_job_kwargs())
