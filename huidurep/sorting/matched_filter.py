"""Spikes that noise hides from a threshold, found by filtering the traces with the mean shape of the large ones."""

from __future__ import annotations

import numpy as np
from spikeinterface.core import get_channel_distances
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.core.node_pipeline import PeakRetriever, PipelineNode, run_node_pipeline
from spikeinterface.sortingcomponents.peak_detection import detect_peaks
from spikeinterface.sortingcomponents.tools import get_prototype_and_waveforms_from_peaks

from .jobs import get_job_kwargs
from .parameters import SortingParameters
from .preprocessing import PreparedGroup, statistics_kwargs

# The trough alone: with 0.5 ms after it or more, a filter loses a third to all of the spikes that it gains.
FILTER_MS_BEFORE, FILTER_MS_AFTER = 0.3, 0.3
PROTOTYPE_NOISE_LEVELS = 6.0  # smaller peaks are noise so often that their mean has the shape of noise
PROTOTYPE_PEAKS = 5000
TROUGH_MS = 0.15  # how far the trough of a spike may lie from where the filter puts it
FEWEST_PEAKS = 50  # that have a shape in common, and not that of one overlap


def find_prototype(group: PreparedGroup, peaks: np.ndarray, parameters: SortingParameters) -> np.ndarray | None:
    """Median shape of the large spikes of a group, each on its own channel.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype: what a threshold has found.
    parameters : SortingParameters
        Sign and seed are read.

    Returns
    -------
    ndarray of float, (num_samples,) | None
        1 or -1 at its extremum. None where fewer than 50 spikes are of six noise levels or more. For peak_sign "both"
        it is the shape of the more frequent sign.
    """
    heights = peaks["amplitude"] / group.noise_levels_uv[peaks["channel_index"]]
    is_negative = heights <= -PROTOTYPE_NOISE_LEVELS
    is_positive = heights >= PROTOTYPE_NOISE_LEVELS
    is_used = {"neg": is_negative, "pos": is_positive}.get(parameters.peak_sign)
    if is_used is None:
        is_used = max(is_negative, is_positive, key=np.count_nonzero)
    if is_used.sum() < FEWEST_PEAKS:
        return None
    prototype, *_ = get_prototype_and_waveforms_from_peaks(
        group.recording,
        peaks[is_used],
        n_peaks=PROTOTYPE_PEAKS,
        ms_before=FILTER_MS_BEFORE,
        ms_after=FILTER_MS_AFTER,
        seed=parameters.seed,
        job_kwargs=get_job_kwargs(),
    )
    return prototype


def detect_filtered(
    group: PreparedGroup, prototype: np.ndarray, parameters: SortingParameters, *, threshold: float, radius_um: float
) -> np.ndarray:
    """Find spikes by SpikeInterface's matched filter, and put each at its trough.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV.
    prototype : ndarray, (num_samples,)
        As `find_prototype` gives it.
    parameters : SortingParameters
        Sign, exclusion time and seed are read.
    threshold : float
        In noise levels of the filtered traces.
    radius_um : float
        Within this distance only the largest peak is kept, and the trough is looked for.

    Returns
    -------
    ndarray, (num_peaks,)
        SpikeInterface's peak dtype, each sample and channel once, in order of time within segments; amplitudes are
        those of the traces, uV.
    """
    peaks = detect_peaks(
        group.recording,
        method="matched_filtering",
        method_kwargs={
            "prototype": prototype,
            "ms_before": FILTER_MS_BEFORE,
            "peak_sign": parameters.peak_sign,
            "detect_threshold": threshold,
            "exclude_sweep_ms": parameters.exclude_sweep_ms,
            "radius_um": radius_um,
            "random_chunk_kwargs": statistics_kwargs(group.recording, parameters.seed),
        },
        job_kwargs=get_job_kwargs(),
    )
    peaks = peaks[np.lexsort((peaks["sample_index"], peaks["segment_index"]))]
    reach = dict(radius_um=radius_um, reach_ms=min(parameters.exclude_sweep_ms, TROUGH_MS))
    source = PeakRetriever(group.recording, peaks)
    node = MoveToTrough(group.recording, [source], group.noise_levels_uv, peak_sign=parameters.peak_sign, **reach)
    peaks = run_node_pipeline(group.recording, [source, node], job_kwargs=get_job_kwargs(), job_name="move to trough")
    place = np.stack([peaks[name] for name in ("segment_index", "sample_index", "channel_index")], axis=1)
    return peaks[np.unique(place, axis=0, return_index=True)[1]]


class MoveToTrough(PipelineNode):
    """Peaks of a filter moved to the largest extremum of the traces around them, in noise levels.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, uV.
    parents : list of PeakSource
        Where the peaks come from.
    noise_levels_uv : ndarray, (num_channels,)
    peak_sign : {"neg", "pos", "both"}
    radius_um, reach_ms : float
        How far the extremum may lie.
    """

    _compute_has_extended_signature = True

    def __init__(self, recording, parents, noise_levels_uv, *, peak_sign, radius_um, reach_ms):
        super().__init__(recording, return_output=True, parents=parents)
        self._noise_levels_uv = np.asarray(noise_levels_uv, dtype="float32")
        self._sign = {"neg": -1.0, "pos": 1.0}.get(peak_sign)
        self._is_near = get_channel_distances(recording) <= radius_um
        self._reach = max(1, int(reach_ms * recording.get_sampling_frequency() / 1000.0))
        options = dict(peak_sign=peak_sign, radius_um=radius_um, reach_ms=reach_ms)
        self._kwargs = dict(recording=recording, parents=parents, noise_levels_uv=noise_levels_uv, **options)

    def get_dtype(self):
        """As what it is given.

        Returns
        -------
        dtype
        """
        return np.dtype(base_peak_dtype)

    def get_margin(self):
        """Samples it reads beyond a peak.

        Returns
        -------
        int
        """
        return self._reach + 1

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks):
        """Move the peaks of one chunk.

        Parameters
        ----------
        traces : ndarray, (num_samples, num_channels)
            uV.
        start_frame, end_frame, segment_index, max_margin : int
            Where the chunk lies.
        peaks : ndarray, (num_peaks,)
            Samples counted within `traces`.

        Returns
        -------
        ndarray, (num_peaks,)
            Samples counted within the segment. A peak without an extremum around it stays.
        """
        moved = np.zeros(len(peaks), dtype=base_peak_dtype)
        window = np.arange(-self._reach - 1, self._reach + 2)
        samples, channels = peaks["sample_index"], peaks["channel_index"]
        around = traces[samples[:, None] + window] / self._noise_levels_uv
        around = np.abs(around) if self._sign is None else self._sign * around
        inner = around[:, 1:-1]
        is_extremum = (inner > around[:, :-2]) & (inner >= around[:, 2:]) & self._is_near[channels][:, None]
        heights = np.where(is_extremum, inner, -np.inf).reshape(len(peaks), -1)
        best = heights.argmax(axis=1)
        is_moved = np.isfinite(heights.max(axis=1, initial=-np.inf))
        steps, places = np.divmod(best, traces.shape[1])
        samples = np.where(is_moved, samples + steps - self._reach, samples)
        moved["channel_index"] = np.where(is_moved, places, channels)
        moved["amplitude"] = traces[samples, moved["channel_index"]]
        moved["sample_index"] = samples + start_frame - max_margin
        moved["segment_index"] = segment_index
        return moved
