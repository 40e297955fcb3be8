"""Spikes that noise hides from a threshold, found by filtering the traces with the shape of the large ones."""

from __future__ import annotations

import numpy as np
from spikeinterface.core import get_channel_distances
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.core.node_pipeline import PipelineNode, run_node_pipeline
from spikeinterface.sortingcomponents.peak_detection.matched_filtering import MatchedFilteringPeakDetector
from spikeinterface.sortingcomponents.tools import get_prototype_and_waveforms_from_peaks

from .jobs import get_job_kwargs
from .parameters import SortingParameters
from .preprocessing import PreparedGroup, statistics_kwargs

# The trough alone: on tuning tetrodes, longer filters find less than half of the spikes that this one adds.
FILTER_MS_BEFORE, FILTER_MS_AFTER = 0.3, 0.3
PROTOTYPE_NOISE_LEVELS = 6.0  # smaller peaks are noise so often that their median has the shape of noise
PROTOTYPE_PEAKS = 5000
TROUGH_MS = 0.15  # how far the trough of a spike may lie from where the filter puts it
FEWEST_PEAKS = 50  # that have a shape in common, and not that of one overlap
PEAKS_AT_A_TIME = 512  # whose surroundings on all channels are held


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
        Filtered recording in uV with its noise levels.
    prototype : ndarray, (num_samples,)
        As `find_prototype` gives it.
    parameters : SortingParameters
        Sign, exclusion time and seed are read.
    threshold : float
        In noise levels of what the filter gives.
    radius_um : float
        Within this distance only the largest peak is kept, and the trough is looked for.

    Returns
    -------
    ndarray, (num_peaks,)
        SpikeInterface's peak dtype, each sample and channel once, in order of time within segments. The amplitude, uV,
        is that of a trough of as many noise levels as the filter's peak has of its own: what met `threshold`.
    """
    detector = MatchedFilteringPeakDetector(
        group.recording,
        prototype=prototype,
        ms_before=FILTER_MS_BEFORE,
        peak_sign=parameters.peak_sign,
        detect_threshold=threshold,
        exclude_sweep_ms=parameters.exclude_sweep_ms,
        radius_um=radius_um,
        random_chunk_kwargs=statistics_kwargs(group.recording, parameters.seed),
        return_output=False,
    )
    node = MoveToTrough(
        group.recording, [detector], group.noise_levels_uv, peak_sign=parameters.peak_sign, radius_um=radius_um
    )
    peaks = run_node_pipeline(
        group.recording, [detector, node], job_kwargs=get_job_kwargs(), job_name="detect peaks (matched_filtering)"
    )
    peaks = peaks[np.argsort(-np.abs(peaks["amplitude"]), kind="stable")]  # of two at one place the larger stays
    place = np.stack([peaks[name] for name in ("segment_index", "sample_index", "channel_index")], axis=1)
    return peaks[np.unique(place, axis=0, return_index=True)[1]]


class MoveToTrough(PipelineNode):
    """Peaks of a matched filter moved to the largest extremum of the traces around them, in noise levels.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, uV.
    parents : list of one MatchedFilteringPeakDetector
        Where the peaks come from.
    noise_levels_uv : ndarray, (num_channels,)
    peak_sign : {"neg", "pos", "both"}
    radius_um : float
        How far the extremum may lie; in time it is 0.15 ms.
    """

    def __init__(self, recording, parents, noise_levels_uv, *, peak_sign, radius_um):
        super().__init__(recording, return_output=True, parents=parents)
        self._noise_levels_uv = np.asarray(noise_levels_uv, dtype="float32")
        self._sign = {"neg": -1.0, "pos": 1.0}.get(peak_sign)
        self._is_near = get_channel_distances(recording) <= radius_um
        self._reach = max(1, int(TROUGH_MS * recording.get_sampling_frequency() / 1000.0))
        self._kwargs.update(noise_levels_uv=noise_levels_uv, peak_sign=peak_sign, radius_um=radius_um)

    def get_dtype(self):
        """SpikeInterface's peaks.

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

    def compute(self, traces, peaks):
        """Move the peaks of one chunk.

        Parameters
        ----------
        traces : ndarray, (num_samples, num_channels)
            uV.
        peaks : ndarray, (num_peaks,)
            Of the detector, samples counted within `traces`.

        Returns
        -------
        ndarray, (num_peaks,)
            Samples counted within `traces`, too. A peak without an extremum around it stays.
        """
        parts = [peaks[start : start + PEAKS_AT_A_TIME] for start in range(0, len(peaks), PEAKS_AT_A_TIME)]
        nothing = np.zeros(0, dtype=base_peak_dtype)
        return np.concatenate([nothing, *(self._move(traces, part) for part in parts)])

    def _move(self, traces, peaks):
        moved = np.zeros(len(peaks), dtype=base_peak_dtype)
        samples, channels = self._find_troughs(traces, peaks["sample_index"], peaks["channel_index"])
        moved["sample_index"], moved["channel_index"] = samples, channels
        moved["segment_index"] = peaks["segment_index"]
        sign = np.sign(traces[samples, channels]) if self._sign is None else self._sign
        moved["amplitude"] = sign * self._heights(traces, peaks) * self._noise_levels_uv[channels]
        return moved

    def _find_troughs(self, traces, samples, channels):
        """Sample and channel of the largest extremum around each peak."""
        window = np.arange(-self._reach - 1, self._reach + 2)
        around = traces[samples[:, None] + window] / self._noise_levels_uv
        around = np.abs(around) if self._sign is None else self._sign * around
        inner = around[:, 1:-1]
        is_extremum = (inner > around[:, :-2]) & (inner >= around[:, 2:]) & self._is_near[channels][:, None]
        heights = np.where(is_extremum, inner, -np.inf).reshape(len(samples), -1)
        is_moved = np.isfinite(heights.max(axis=1))
        steps, places = np.divmod(heights.argmax(axis=1), traces.shape[1])
        return np.where(is_moved, samples + steps - self._reach, samples), np.where(is_moved, places, channels)

    def _heights(self, traces, peaks):
        """What the filter gives at each peak, in its own noise levels: the detector does not tell."""
        detector = self.parents[0]
        shape = detector.prototype[::-1]
        window = np.arange(len(shape)) - detector.nbefore
        on_channels = np.tensordot(traces[peaks["sample_index"][:, None] + window], shape, (1, 0))
        template = peaks["z"].astype(int) * detector.num_templates + peaks["channel_index"]
        filtered = detector.weights[template].multiply(on_channels).sum(axis=1)
        noise = detector.abs_thresholds.reshape(-1)[template] / detector.detect_threshold
        return np.abs(np.asarray(filtered).ravel()) / noise
