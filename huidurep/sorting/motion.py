"""Motion correction: SpikeInterface estimates the probe movement and interpolates the traces back."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import spikeinterface.preprocessing as spre
from scipy.ndimage import gaussian_filter
from spikeinterface.core import BaseRecording, append_recordings, concatenate_recordings
from spikeinterface.core.motion import Motion
from spikeinterface.sortingcomponents.motion import estimate_motion
from spikeinterface.sortingcomponents.peak_detection import detect_peaks
from spikeinterface.sortingcomponents.peak_localization import localize_peaks
from spikeinterface.sortingcomponents.peak_selection import select_peaks

from .caching import CACHING, CachingSettings, cache_traces
from .job_kwargs import resolve_job_kwargs
from .noise_levels import NOISE_LEVELS, NoiseLevelSettings, draw_chunks, find_active, noise_levels, read_chunks
from .parameters import SortingParameters, is_motion_folder
from .peak_signs import PEAK_SIGNS, PeakSignSettings, find_signs
from .preprocessing import PreparedGroup
from .recorded_times import DAMAGED_ARRAY, describe_damage
from .run_log import RunLog

MOTION_FILE = "spikeinterface_info.json"
MOTION_REMEDY = "save it again with Motion.save of SpikeInterface"


@dataclass(frozen=True)
class AgreementSettings:
    """Settings of `depth_agreement`.

    Attributes
    ----------
    period_s : float
        Duration of a period, in recordings of up to `max_periods` of them.
    max_periods : int
    depth_um : float
        Width of a depth bin.
    num_amplitudes : int
        Bins of the logarithm of the amplitude.
    smoothing : (float, float)
        Standard deviations over depths and over amplitudes, bins.
    """

    period_s: float = 5.0
    max_periods: int = 200
    depth_um: float = 5.0
    num_amplitudes: int = 12
    smoothing: tuple[float, float] = (1.0, 0.7)


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
    auto_window_um : float
        Distance of the depths at which motion is estimated; each from the spikes within three quarters of it.
    auto_peaks_hz : float
        Peaks of a channel, a second of recording, from which it is estimated; drawn where there are more.
    still_peaks_hz : float
        With fewer, an estimate of no motion does not show that there is none.
    agreement : AgreementSettings
        Of the check by which an estimate is believed.
    """

    auto_preset: str = "dredge_fast"
    auto_min_channels: int = 32
    auto_max_width_um: float = 60.0
    auto_min_duration_s: float = 30.0
    min_motion_um: float = 2.0
    auto_window_um: float = 200.0
    auto_peaks_hz: float = 1.0
    still_peaks_hz: float = 0.75
    agreement: AgreementSettings = AgreementSettings()


MOTION = MotionSettings()


@dataclass(frozen=True)
class _Evidence:
    """`depth_agreement` without an estimate and with it, and peaks of a channel, a second, from which it is."""

    agreement: float
    corrected_agreement: float
    peaks_hz: float


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
        Receives the range of motion, or why nothing is corrected.
    settings, noise_settings, peak_sign_settings : MotionSettings, NoiseLevelSettings, PeakSignSettings
    caching : CachingSettings | None
        As in `preprocess`.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    PreparedGroup
        The same traces where nothing moved by 2 um or more, or where an automatic estimate does not raise the agreement
        of depths and amplitudes over time (`depth_agreement`). Else corrected, with the signs that were found.
    """
    if parameters.motion is None or (parameters.motion == "auto" and not _is_suited(group, settings)):
        log.skip("motion")
        return group
    name = settings.auto_preset if parameters.motion == "auto" else parameters.motion
    group = find_signs(group, parameters, log, settings=peak_sign_settings, job_kwargs=job_kwargs)
    recording, motion, evidence = _find_motion(group, name, parameters.motion == "auto", settings, job_kwargs)
    if motion is not None and range_of(motion) < settings.min_motion_um:
        log("motion", f"group {group.name}: {name}, {range_of(motion):.1f} um, nothing to correct")
        # of few spikes, motion is estimated as none
        return replace(group, is_still=evidence is not None and evidence.peaks_hz >= settings.still_peaks_hz)
    found = _decide(f"group {group.name}: {name}", motion, evidence, log)
    if motion is None or found is None:
        return group
    preset = settings.auto_preset if is_motion_folder(name) else name
    corrected = _cut_like(_interpolate(recording, motion, preset), group.recording)
    motion = motion if is_motion_folder(name) else _cut_motion(motion, group.recording)
    if caching is not None:
        noise_uv = float(np.median(group.noise_levels_uv))
        corrected = cache_traces(corrected, "motion", log, noise_uv=noise_uv, settings=caching, job_kwargs=job_kwargs)
    corrected, levels_uv = _with_times(corrected, group.recording), _noise_levels_uv(corrected, noise_settings)
    log("motion", found)
    return replace(group, recording=corrected, noise_levels_uv=levels_uv, motion=motion)


def range_of(motion: Motion) -> float:
    """Largest range of the displacement over all segments, um: the probe may move between two of them.

    Parameters
    ----------
    motion : Motion

    Returns
    -------
    float
    """
    return float(np.ptp(np.concatenate(motion.displacement), axis=0).max())


def _decide(name: str, motion: Motion | None, evidence: _Evidence | None, log: RunLog) -> str | None:
    """What is corrected, in words. None where there is no estimate, or it is not believed; why, is logged."""
    if motion is None:
        log.warning("motion", f"{name} found no motion estimate, the traces are not corrected")
        return None
    found = f"{name}, {range_of(motion):.1f} um"
    if evidence is not None:
        found += f", agreement of depths and amplitudes over time {evidence.agreement:.3f}"
        found += f", corrected {evidence.corrected_agreement:.3f}"
        if evidence.corrected_agreement <= evidence.agreement:
            log.warning("motion", f"{found}: the estimate is not believed, the traces are not corrected")
            return None
    return f"{found}: corrected"


def _noise_levels_uv(corrected: BaseRecording, settings: NoiseLevelSettings) -> np.ndarray:
    traces = read_chunks(corrected, draw_chunks(corrected, settings=settings))
    # blanked samples are still constant after interpolation
    active = find_active(traces, corrected.get_sampling_frequency(), settings=settings)
    return noise_levels(traces, active)[0]


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
            f"expected the arrays of a Motion in {folder}, found {describe_damage(error)}: {MOTION_REMEDY}."
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


def _find_motion(
    group: PreparedGroup, name: str, is_auto: bool, settings: MotionSettings, job_kwargs: dict | None
) -> tuple[BaseRecording, Motion | None, _Evidence | None]:
    """The recording of the motion, motion by a preset or from a folder, and what speaks for it.

    None where the estimate fails, and without evidence where the user named a motion or a preset: it is believed.
    """
    recording = group.recording
    if is_motion_folder(name):
        return recording, _of_segments(load_motion(name), group.segment_indices), None
    # concatenated, so that a neuron has one depth in all segments; SpikeInterface estimates one segment only, and reads
    # the gaps of its time vector as time without spikes
    recording = concatenate_recordings([recording])
    peak_sign = "neg" if -1 in group.sign_channels else "pos"  # where both occur, troughs are enough
    if not is_auto:
        return recording, _estimate(recording, group.noise_levels_uv, name, peak_sign, job_kwargs), None
    motion, peaks, places = _estimate_auto(recording, group.noise_levels_uv, peak_sign, settings, job_kwargs)
    if motion is None:
        return recording, None, None
    times_s = recording.sample_index_to_time(peaks["sample_index"])
    depths_um, amplitudes = places[motion.direction], np.abs(peaks["amplitude"])
    moved_um = motion.get_displacement_at_time_and_depth(times_s, depths_um, 0)
    without = depth_agreement(times_s, depths_um, amplitudes, settings=settings.agreement)
    corrected = depth_agreement(times_s, depths_um - moved_um, amplitudes, settings=settings.agreement)
    peaks_hz = len(peaks) / recording.get_total_duration() / recording.get_num_channels()
    return recording, motion, _Evidence(without, corrected, peaks_hz)


def _estimate_auto(
    recording: BaseRecording,
    noise_levels_uv: np.ndarray,
    peak_sign: str,
    settings: MotionSettings,
    job_kwargs: dict | None,
) -> tuple[Motion | None, np.ndarray, np.ndarray]:
    """Motion by the steps of a preset from a share of the peaks, None where it fails; the peaks, and their places.

    `compute_motion` of SpikeInterface 0.105 cannot draw peaks.
    """
    steps, jobs = spre.get_motion_parameters_preset(settings.auto_preset), resolve_job_kwargs(job_kwargs)
    detection = steps["detect_kwargs"] | dict(noise_levels=noise_levels_uv, peak_sign=peak_sign)
    localization = dict(steps["localize_peaks_kwargs"])
    if "peak_sign" in localization:
        localization["peak_sign"] = peak_sign
    most = int(settings.auto_peaks_hz * recording.get_num_channels() * recording.get_total_duration())
    peaks = detect_peaks(recording, **_as_method(detection), job_kwargs=jobs)
    peaks = np.sort(select_peaks(peaks, method="uniform", n_peaks=most, seed=0), order="sample_index", kind="stable")
    places = localize_peaks(recording, peaks, **_as_method(localization), job_kwargs=jobs)
    window_um = settings.auto_window_um
    estimation = steps["estimate_motion_kwargs"] | dict(win_step_um=window_um, win_scale_um=1.5 * window_um)
    try:
        with warnings.catch_warnings():  # of rigid motion on short shanks
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            return estimate_motion(recording, peaks, places, **estimation), peaks, places
    except Exception:  # noqa: BLE001 - as compute_motion: of too few peaks, for instance
        return None, peaks, places


def _as_method(options: dict) -> dict:
    return dict(method=options["method"], method_kwargs={key: options[key] for key in options if key != "method"})


def depth_agreement(
    times_s: np.ndarray, depths_um: np.ndarray, amplitudes: np.ndarray, *, settings: AgreementSettings
) -> float:
    """How alike the depths and amplitudes of spikes are at different times: 1 where nothing moves.

    The mean correlation between the histograms of all pairs of periods. An estimate of motion that lays one unit on the
    place of another one lowers it, since units differ in amplitude.

    Parameters
    ----------
    times_s, depths_um, amplitudes : ndarray, (num_peaks,)
    settings : AgreementSettings

    Returns
    -------
    float
    """
    num_periods = int(np.clip(np.ptp(times_s) / settings.period_s, 2, settings.max_periods)) if len(times_s) else 0
    if num_periods == 0:
        return 0.0
    logs = np.log(np.maximum(amplitudes, 1e-9))
    logs = np.clip(logs, *np.quantile(logs, [0.01, 0.99]))
    num_depths = max(1, int(np.ceil(np.ptp(depths_um) / settings.depth_um)))
    bins = (num_periods, num_depths, settings.num_amplitudes)
    counts, _ = np.histogramdd(np.stack([times_s, depths_um, logs], axis=1), bins=bins)
    smooth = gaussian_filter(np.sqrt(counts), (0.0, *settings.smoothing)).reshape(num_periods, -1)
    smooth -= smooth.mean(axis=1, keepdims=True)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-9)
    return float((smooth @ smooth.T)[np.triu_indices(num_periods, k=1)].mean())


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


def _with_times(corrected: BaseRecording, recording: BaseRecording) -> BaseRecording:
    """A view of a recording, with the times of another one."""
    view = corrected.select_channels(corrected.channel_ids)  # interpolation reads the times of its own recording
    for index in range(recording.get_num_segments()):
        if recording.has_time_vector(index):
            view.set_times(recording.get_times(index), segment_index=index)
        else:
            view.shift_times(recording.get_start_time(index) - view.get_start_time(index), segment_index=index)
    return view


def _cut_motion(motion: Motion, recording: BaseRecording) -> Motion:
    """The motion of a concatenated recording, cut into the segments that it is made of, in their times."""
    displacement, temporal_bins_s, begin_s = [], [], 0.0
    for index in range(recording.get_num_segments()):
        num_samples, rate_hz = recording.get_num_samples(index), recording.get_sampling_frequency()
        end_s = begin_s + num_samples / rate_hz
        bins_s = motion.temporal_bins_s[0]
        rows = np.flatnonzero((bins_s >= begin_s) & (bins_s < end_s))
        if len(rows) == 0:  # a segment shorter than a bin
            rows = np.array([np.abs(bins_s - (begin_s + end_s) / 2).argmin()])
        samples = np.clip(np.round((bins_s[rows] - begin_s) * rate_hz), 0, num_samples - 1).astype("int64")
        displacement.append(motion.displacement[0][rows])
        temporal_bins_s.append(recording.sample_index_to_time(samples, segment_index=index))
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
