"""Where the spikes are: peaks that SpikeInterface's detectors find, without those whose snippet would be cut."""

from __future__ import annotations

import numpy as np
from spikeinterface.core import get_channel_distances
from spikeinterface.sortingcomponents.peak_detection import detect_peaks

from .jobs import get_job_kwargs
from .matched_filter import FEWEST_PEAKS, PROTOTYPE_NOISE_LEVELS, detect_filtered, find_prototype
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .run_log import RunLog

ONE_PLACE_CHANNELS = 4  # so few channels see every spike together, wherever their contacts lie


def detect_spikes(group: PreparedGroup, parameters: SortingParameters, log: RunLog) -> np.ndarray:
    """Find the peaks of a group, each once, at the sample and channel where it is largest.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    parameters : SortingParameters
        Detector, threshold, sign, exclusion time and radius, window.
    log : RunLog
        Told how many were found, and where large spikes are too few for a matched filter: then peaks of the traces are
        taken.

    Returns
    -------
    ndarray, (num_peaks,)
        SpikeInterface's peak dtype (sample_index, channel_index, amplitude, segment_index), in order of time within
        segments.
    """
    recording = group.recording
    threshold = parameters.detect_threshold
    if parameters.num_units is not None:
        threshold = max(threshold, parameters.unit_threshold)  # noise must not be one of the units asked for
    radius_um = parameters.radius_um
    if recording.get_num_channels() <= ONE_PLACE_CHANNELS:
        radius_um = max(radius_um, float(get_channel_distances(recording).max()) + 1.0)
    peaks = detect_peaks(
        recording,
        method="locally_exclusive",
        method_kwargs={
            "peak_sign": parameters.peak_sign,
            "detect_threshold": threshold,
            "exclude_sweep_ms": parameters.exclude_sweep_ms,
            "radius_um": radius_um,
            "noise_levels": group.noise_levels_uv,
        },
        job_kwargs=get_job_kwargs(),
    )
    if parameters.detection == "matched_filtering":
        prototype = find_prototype(group, peaks, parameters)
        if prototype is None:
            log.warning(
                "detection",
                f"group {group.name}: fewer than {FEWEST_PEAKS} peaks beyond {PROTOTYPE_NOISE_LEVELS:g} noise levels, "
                "too few for a matched filter; peaks of the traces are taken",
            )
        else:
            peaks = detect_filtered(group, prototype, parameters, threshold=threshold, radius_um=radius_um)
    num_found = len(peaks)
    peaks = peaks[np.lexsort((peaks["sample_index"], peaks["segment_index"]))]
    peaks = peaks[has_whole_snippet(peaks, recording, parameters)]
    log(
        "detection",
        f"group {group.name}: {len(peaks)} peaks beyond {threshold:g} noise levels, "
        f"{num_found - len(peaks)} more too near to an edge",
    )
    return peaks


def has_whole_snippet(spikes: np.ndarray, recording, parameters: SortingParameters) -> np.ndarray:
    """Which spikes are far enough from both ends of their segment.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index.
    recording : BaseRecording
        The recording they are of.
    parameters : SortingParameters
        The window.

    Returns
    -------
    ndarray of bool, (num_spikes,)
    """
    sampling_frequency = recording.get_sampling_frequency()
    num_before = parameters.num_samples_before(sampling_frequency)
    num_after = parameters.num_samples(sampling_frequency) - num_before
    ends = np.array([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    samples = spikes["sample_index"]
    return (samples >= num_before) & (samples + num_after <= ends[spikes["segment_index"]])
