"""Motion correction: SpikeInterface estimates the probe movement and interpolates the traces back."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import BaseRecording, append_recordings, concatenate_recordings
from spikeinterface.core.motion import Motion

from .caching import CACHING, CachingSettings, cache_traces
from .job_kwargs import resolve_job_kwargs
from .noise_levels import NOISE_LEVELS, NoiseLevelSettings, draw_chunks, find_active, noise_levels, read_chunks
from .parameters import SortingParameters, is_motion_folder
from .peak_signs import PEAK_SIGNS, PeakSignSettings, find_signs
from .preprocessing import PreparedGroup
from .recorded_times import DAMAGED_ARRAY
from .run_log import RunLog

MOTION_FILE = "spikeinterface_info.json"
MOTION_REMEDY = "save it again with Motion.save of SpikeInterface"


@dataclass(frozen=True)
class MotionSettings:
    """Which groups motion="auto" corrects and how, and how much motion is corrected.

    Attributes
    ----------
    auto_preset : str
        Preset of SpikeInterface's `correct_motion`.
    auto_min_channels : int
        Smallest group: on fewer channels, motion cannot be distinguished from units that start or stop firing.
    auto_max_width_um : float
        Widest group: wider ones are planes of contacts, not shanks along which the brain slides.
    auto_min_duration_s : float
        Shortest recording: motion is estimated every second, relative to other seconds.
    min_motion_um : float
        Smallest range of motion that is corrected: interpolation blurs the traces.
    """

    auto_preset: str = "dredge_fast"
    auto_min_channels: int = 32
    auto_max_width_um: float = 60.0
    auto_min_duration_s: float = 30.0
    min_motion_um: float = 2.0


MOTION = MotionSettings()


def correct_motion(
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: MotionSettings = MOTION,
    noise_settings: NoiseLevelSettings = NOISE_LEVELS,
    peak_sign_settings: PeakSignSettings = PEAK_SIGNS,
    caching: CachingSettings | None = CACHING,
    job_kwargs: dict | None = None,
) -> PreparedGroup:
    """Correct the motion of a group, where there is some.

    Methods: SpikeInterface (Garcia et al. 2024, https://doi.org/10.1523/ENEURO.0229-23.2023), "dredge_fast" after
    Windolf et al. 2023 (https://doi.org/10.1101/2023.10.24.563768).

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    parameters : SortingParameters
        `motion` and `peak_sign` are read. "auto" corrects the groups that `MotionSettings` describes, a preset
        or a saved motion every group. Segments count as recorded one after the other.
    log : RunLog
        Receives the range of motion, or why there is no estimate.
    settings : MotionSettings
    noise_settings, peak_sign_settings : NoiseLevelSettings, PeakSignSettings
        Of the noise levels of the corrected traces, and of the signs where `peak_sign` is "auto".
    caching : CachingSettings | None
        As in `preprocess`.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    PreparedGroup
        The same traces where nothing moved by 2 um or more, else corrected; the signs with which motion was estimated.
    """
    if parameters.motion is None or (parameters.motion == "auto" and not _is_suited(group, settings)):
        log.skip("motion")
        return group
    name = settings.auto_preset if parameters.motion == "auto" else parameters.motion
    group = find_signs(group, parameters, log, settings=peak_sign_settings, job_kwargs=job_kwargs)
    recording, motion = _find_motion(group, name, job_kwargs)
    if motion is None:
        log.warning("motion", f"group {group.name}: {name} found no motion estimate, the traces are not corrected")
        return group
    # over all segments: the probe may not move within any of them and lie elsewhere in the next
    range_um = float(np.ptp(np.concatenate(motion.displacement), axis=0).max())
    if range_um < settings.min_motion_um:
        log("motion", f"group {group.name}: {name}, {range_um:.1f} um, nothing to correct")
        return group
    preset = settings.auto_preset if is_motion_folder(name) else name
    corrected = _cut_like(_interpolate(recording, motion, preset), group.recording)
    if caching is not None:
        corrected = cache_traces(corrected, "motion", log, settings=caching, job_kwargs=job_kwargs)
    levels_uv, motion = _noise_levels_uv(corrected, noise_settings), _cut_motion(motion, group.recording)
    log("motion", f"group {group.name}: {name}, {range_um:.1f} um corrected")
    return replace(group, recording=corrected, noise_levels_uv=levels_uv, motion=motion)


def _noise_levels_uv(corrected: BaseRecording, settings: NoiseLevelSettings) -> np.ndarray:
    traces = read_chunks(corrected, draw_chunks(corrected, settings=settings))
    # blanked samples are still constant after interpolation
    active = find_active(traces, corrected.get_sampling_frequency(), settings=settings)
    return noise_levels(traces, active)


def load_motion(folder: str | Path) -> Motion:
    """Read a motion that SpikeInterface saved, from its arrays alone: nothing is unpickled, no class is looked up.

    Parameters
    ----------
    folder : str or Path
        As `Motion.save` of SpikeInterface writes it.

    Returns
    -------
    Motion

    Raises
    ------
    ValueError
        Files are missing or damaged, or their shapes do not belong together.
    """
    folder = Path(folder)
    num_segments = len(list(folder.glob("displacement_seg*.npy")))
    try:
        info = json.loads((folder / MOTION_FILE).read_text(encoding="utf8"))
        direction, method = info["direction"], info["interpolation_method"]
        spatial_bins_um = _read_numbers(folder / "spatial_bins_um.npy")
        displacement = [_read_numbers(folder / f"displacement_seg{index}.npy") for index in range(num_segments)]
        temporal_bins_s = [_read_numbers(folder / f"temporal_bins_s_seg{index}.npy") for index in range(num_segments)]
    except (*DAMAGED_ARRAY, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"expected the arrays of a Motion in {folder}, found {type(error).__name__} ({error}): {MOTION_REMEDY}."
        ) from error
    for bins_s, moved_um in zip(temporal_bins_s, displacement, strict=True):
        if moved_um.shape != (*bins_s.shape, *spatial_bins_um.shape) or moved_um.ndim != 2 or not moved_um.size:
            raise ValueError(
                f"expected displacements (num_times, num_depths) in {folder}, found {moved_um.shape} for "
                f"{bins_s.shape} times and {spatial_bins_um.shape} depths: {MOTION_REMEDY}."
            )
    if direction not in ("x", "y", "z") or method not in ("linear", "nearest", "slinear", "cubic", "pchip"):
        raise ValueError(
            f"expected a direction x, y or z and a method of interpolation in {folder / MOTION_FILE}, found "
            f"{direction!r} and {method!r}: {MOTION_REMEDY}."
        )
    return Motion(displacement, temporal_bins_s, spatial_bins_um, direction, method)


def _read_numbers(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"other values than finite numbers in {path.name}")
    return array


def _find_motion(group: PreparedGroup, name: str, job_kwargs: dict | None) -> tuple[BaseRecording, Motion | None]:
    """Motion by a preset or from a folder, None where the estimate fails, and the recording that it is of."""
    recording = group.recording
    if is_motion_folder(name):
        return recording, _of_segments(load_motion(name), group.segment_indices)
    # concatenated, so that a neuron has one depth in all segments; SpikeInterface estimates one segment only
    recording = concatenate_recordings([recording]) if recording.get_num_segments() > 1 else recording
    peak_sign = "neg" if -1 in group.sign_channels else "pos"  # where both occur, troughs are enough
    return recording, _estimate(recording, group.noise_levels_uv, name, peak_sign, job_kwargs)


def _interpolate(recording: BaseRecording, motion: Motion, preset: str) -> BaseRecording:
    from spikeinterface.sortingcomponents.motion import interpolate_motion

    options = spre.get_motion_parameters_preset(preset)["interpolate_motion_kwargs"]
    # extrapolation keeps the channels at the ends of the probe, whose ids users know
    return interpolate_motion(recording, motion, **{**options, "border_mode": "force_extrapolate"})


def _is_suited(group: PreparedGroup, settings: MotionSettings) -> bool:
    """Whether "auto" corrects the motion of a group."""
    recording = group.recording
    width_um, length_um = np.ptp(recording.get_channel_locations(), axis=0)
    return bool(
        group.is_placed
        and recording.get_num_channels() >= settings.auto_min_channels
        and width_um <= min(settings.auto_max_width_um, length_um)
        and recording.get_total_duration() >= settings.auto_min_duration_s
    )


def _cut_like(single: BaseRecording, recording: BaseRecording) -> BaseRecording:
    """A concatenated recording, cut into the segments of the recording that it is made of."""
    if recording.get_num_segments() == single.get_num_segments():
        return single
    ends = np.cumsum([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    starts = [0, *ends[:-1]]
    return append_recordings([single.frame_slice(start, end) for start, end in zip(starts, ends, strict=True)])


def _cut_motion(motion: Motion, recording: BaseRecording) -> Motion:
    """The motion of a concatenated recording, cut into the segments of the recording that it is made of."""
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
    """The motion of the given segments: those of the recording that are long enough to be sorted."""
    displacement = [motion.displacement[index] for index in segment_indices]
    temporal_bins_s = [motion.temporal_bins_s[index] for index in segment_indices]
    return Motion(displacement, temporal_bins_s, motion.spatial_bins_um, motion.direction, motion.interpolation_method)


def _estimate(
    recording: BaseRecording, noise_levels_uv: np.ndarray, preset: str, peak_sign: str, job_kwargs: dict | None
) -> Motion | None:
    """SpikeInterface's Motion of a recording of one segment, None where it fails."""
    view = recording.select_channels(recording.channel_ids)
    # SpikeInterface reads this property before it would measure noise levels, which it does on other chunks
    view.set_property("noise_level_mad_raw", noise_levels_uv)
    options = {}
    if peak_sign == "pos":
        steps = spre.get_motion_parameters_preset(preset)
        signed = [step for step in ("detect_kwargs", "localize_peaks_kwargs") if "peak_sign" in steps[step]]
        options = {step: {"peak_sign": peak_sign} for step in signed}
    with warnings.catch_warnings():  # of rigid motion on short shanks, and of failures, which are logged
        warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
        return spre.compute_motion(view, preset=preset, raise_error=False, **options, **resolve_job_kwargs(job_kwargs))
