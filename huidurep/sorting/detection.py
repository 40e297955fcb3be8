"""Spike detection by SpikeInterface's peak detectors, without spikes whose snippet would be cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, get_channel_distances
from spikeinterface.sortingcomponents.peak_detection import detect_peaks

from .artifacts import are_spikes_in_periods
from .job_kwargs import resolve_job_kwargs
from .matched_filter import MATCHED_FILTER, MatchedFilterSettings, detect_filtered, find_prototype
from .parameters import SortingParameters
from .peak_signs import PEAK_SIGNS, PeakSignSettings, find_signs, merge_signs
from .preprocessing import PreparedGroup
from .run_log import RunLog
from .waveforms import has_whole_snippet


def detect_spikes(
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    matched_filter_settings: MatchedFilterSettings = MATCHED_FILTER,
    peak_sign_settings: PeakSignSettings = PEAK_SIGNS,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Detect the spikes of a group, each once, at the sample and channel of its largest peak.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    parameters : SortingParameters
        Detection method, threshold, sign, exclusion time and radius, window.
    log : RunLog
        Receives the signs and the number of peaks, and a warning where large spikes are too few for a matched filter:
        then peaks of the traces are taken.
    matched_filter_settings : MatchedFilterSettings
    peak_sign_settings : PeakSignSettings
        Used where `peak_sign` is "auto", but for `single_site_channels`.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    ndarray, (num_peaks,)
        SpikeInterface's peak dtype (sample_index, channel_index, amplitude, segment_index), in order of time within
        segments.
    """
    recording = group.recording
    threshold, radius_um = _threshold_and_radius(recording, parameters, peak_sign_settings)
    group = find_signs(group, parameters, log, settings=peak_sign_settings, job_kwargs=job_kwargs)
    by_sign = []
    for sign, is_searched in group.sign_channels.items():
        its = replace(parameters, peak_sign="pos" if sign > 0 else "neg")
        found_peaks = _detect_sign(group, its, log, threshold, radius_um, matched_filter_settings, job_kwargs)
        by_sign.append(found_peaks[is_searched[found_peaks["channel_index"]]])
    peaks = merge_signs(by_sign, recording, radius_um=radius_um, settings=peak_sign_settings)
    num_found = len(peaks)
    is_inside = are_spikes_in_periods(peaks, group.artifact_periods)
    peaks = peaks[~is_inside & has_whole_snippet(peaks, recording, parameters)]
    found = f"{len(peaks)} peaks above {threshold:g} noise levels"
    log("detection", f"group {group.name}: {found}, {num_found - len(peaks)} at the ends of a segment removed")
    return peaks


def _detect_sign(
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    threshold: float,
    radius_um: float,
    settings: MatchedFilterSettings,
    job_kwargs: dict | None,
) -> np.ndarray:
    """Peaks (num_peaks,) of the sign of these parameters."""
    peaks = detect_peaks(
        group.recording,
        method="locally_exclusive",
        method_kwargs={
            "peak_sign": parameters.peak_sign,
            "detect_threshold": threshold,
            "exclude_sweep_ms": parameters.exclude_sweep_ms,
            "radius_um": radius_um,
            "noise_levels": group.noise_levels_uv,
        },
        job_kwargs=resolve_job_kwargs(job_kwargs),
    )
    if parameters.detection != "matched_filtering":
        return peaks
    options: dict[str, Any] = {"settings": settings, "job_kwargs": job_kwargs}
    prototype = find_prototype(group, peaks, parameters, **options)
    if prototype is None:
        _log_too_few(group, settings, log)
        return peaks
    return detect_filtered(group, prototype, parameters, threshold=threshold, radius_um=radius_um, **options)


def _threshold_and_radius(
    recording: BaseRecording, parameters: SortingParameters, settings: PeakSignSettings
) -> tuple[float, float]:
    threshold, radius_um = parameters.detect_threshold, parameters.radius_um
    if parameters.num_units is not None:
        threshold = max(threshold, parameters.unit_threshold)  # noise must not become one of the given number of units
    if recording.get_num_channels() <= settings.single_site_channels:
        radius_um = max(radius_um, float(get_channel_distances(recording).max()) + 1.0)
    return threshold, radius_um


def _log_too_few(group: PreparedGroup, settings: MatchedFilterSettings, log: RunLog) -> None:
    found = f"fewer than {settings.min_prototype_peaks} peaks above {settings.prototype_noise_levels:g} noise levels"
    log.warning(
        "detection", f"group {group.name}: {found}, too few for a matched filter; peaks of the traces are taken"
    )
