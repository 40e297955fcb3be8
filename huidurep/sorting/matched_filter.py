"""Detection by a matched filter: the traces are filtered with the median shape of the recording's large spikes.

Spikes close to the noise rise above a threshold after such a filter. The detector is SpikeInterface's
"matched_filtering".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeinterface.core import get_channel_distances
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.core.node_pipeline import PipelineNode, run_node_pipeline
from spikeinterface.sortingcomponents.peak_detection.matched_filtering import MatchedFilteringPeakDetector
from spikeinterface.sortingcomponents.tools import get_prototype_and_waveforms_from_peaks

from .job_kwargs import resolve_job_kwargs
from .noise_levels import NOISE_LEVELS, NoiseLevelSettings
from .parameters import SortingParameters
from .peak_signs import SIGNS
from .preprocessing import PreparedGroup, statistics_kwargs


@dataclass(frozen=True)
class MatchedFilterSettings:
    """Shape of the filter, and how its peaks are assigned to troughs.

    Attributes
    ----------
    ms_before, ms_after : float
        Window of the filter around the trough. Nothing but the trough: on tuning tetrodes, longer filters find less
        than half of the spikes that this one adds.
    prototype_noise_levels : float
        Smallest spikes that shape the filter; smaller peaks are noise so often that their median has its shape.
    num_prototype_peaks : int
        Maximum number of spikes that shape the filter, drawn.
    min_prototype_peaks : int
        Fewest spikes that have a shape in common, and not that of one overlap.
    trough_ms : float
        Largest distance of the trough of a spike from the peak of the filter's output.
    batch_peaks : int
        Peaks whose surroundings on all channels are held at a time.
    noise_levels : NoiseLevelSettings
        Number and duration of the chunks from which the noise of the filter's output is measured.
    """

    ms_before: float = 0.3
    ms_after: float = 0.3
    prototype_noise_levels: float = 6.0
    num_prototype_peaks: int = 5000
    min_prototype_peaks: int = 50
    trough_ms: float = 0.15
    batch_peaks: int = 512
    noise_levels: NoiseLevelSettings = NOISE_LEVELS


MATCHED_FILTER = MatchedFilterSettings()


def find_prototype(
    group: PreparedGroup,
    peaks: np.ndarray,
    parameters: SortingParameters,
    *,
    settings: MatchedFilterSettings = MATCHED_FILTER,
    job_kwargs: dict | None = None,
) -> np.ndarray | None:
    """Median shape of the large spikes of a group, each on its own channel.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype: threshold crossings of the traces.
    parameters : SortingParameters
        Sign ("neg" or "pos") and seed are read.
    settings : MatchedFilterSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    ndarray of float, (num_samples,) | None
        1 or -1 at its extremum. None where fewer than 50 spikes reach six noise levels.
    """
    heights = peaks["amplitude"] / group.noise_levels_uv[peaks["channel_index"]]
    is_used = SIGNS[parameters.peak_sign] * heights >= settings.prototype_noise_levels
    if is_used.sum() < settings.min_prototype_peaks:
        return None
    prototype, *_ = get_prototype_and_waveforms_from_peaks(
        group.recording,
        peaks[is_used],
        n_peaks=settings.num_prototype_peaks,
        ms_before=settings.ms_before,
        ms_after=settings.ms_after,
        seed=parameters.seed,
        job_kwargs=resolve_job_kwargs(job_kwargs),
    )
    return prototype


def detect_filtered(
    group: PreparedGroup,
    prototype: np.ndarray,
    parameters: SortingParameters,
    *,
    threshold: float,
    radius_um: float,
    settings: MatchedFilterSettings = MATCHED_FILTER,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Detect spikes by SpikeInterface's matched filter, each at its trough.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    prototype : ndarray, (num_samples,)
        From `find_prototype`.
    parameters : SortingParameters
        Sign and exclusion time are read.
    threshold : float
        In noise levels of the filter's output.
    radius_um : float
        Within this distance only the largest peak is kept, and its trough is searched.
    settings : MatchedFilterSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    ndarray, (num_peaks,)
        SpikeInterface's peak dtype, each sample and channel once, in order of time within segments. The amplitude is
        the height of the filter's output in its noise levels, times the noise of the channel, uV: it compares with
        `threshold` as the amplitude of a peak of the traces does.
    """
    detector = MatchedFilteringPeakDetector(
        group.recording,
        prototype=prototype,
        ms_before=settings.ms_before,
        peak_sign=parameters.peak_sign,
        detect_threshold=threshold,
        exclude_sweep_ms=parameters.exclude_sweep_ms,
        radius_um=radius_um,
        random_chunk_kwargs=statistics_kwargs(group.recording, settings=settings.noise_levels),
        return_output=False,
    )
    options = dict(peak_sign=parameters.peak_sign, radius_um=radius_um, settings=settings)
    node = MoveToTrough(group.recording, [detector], group.noise_levels_uv, **options)
    peaks = run_node_pipeline(
        group.recording,
        [detector, node],
        job_kwargs=resolve_job_kwargs(job_kwargs),
        job_name="detect peaks (matched_filtering)",
    )
    peaks = peaks[np.argsort(-np.abs(peaks["amplitude"]), kind="stable")]  # of two at one place the larger is kept
    place = np.stack([peaks[name] for name in ("segment_index", "sample_index", "channel_index")], axis=1)
    return peaks[np.unique(place, axis=0, return_index=True)[1]]


class MoveToTrough(PipelineNode):
    """Peaks of a matched filter moved to the largest extremum of the traces around them, in noise levels.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, uV.
    parents : list of one MatchedFilteringPeakDetector
        Source of the peaks.
    noise_levels_uv : ndarray, (num_channels,)
    peak_sign : {"neg", "pos"}
    radius_um : float
        Largest distance of the extremum.
    settings : MatchedFilterSettings
        Largest distance in time, and size of batches.
    """

    def __init__(self, recording, parents, noise_levels_uv, *, peak_sign, radius_um, settings=MATCHED_FILTER):
        super().__init__(recording, return_output=True, parents=parents)
        self._noise_levels_uv = np.asarray(noise_levels_uv, dtype="float32")
        self._sign = float(SIGNS[peak_sign])
        self._is_near = get_channel_distances(recording) <= radius_um
        self._reach = max(1, int(settings.trough_ms * recording.get_sampling_frequency() / 1000.0))
        self._batch_peaks = settings.batch_peaks
        self._kwargs.update(
            noise_levels_uv=noise_levels_uv, peak_sign=peak_sign, radius_um=radius_um, settings=settings
        )

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
            Samples counted within `traces`, too. A peak without an extremum around it is not moved.
        """
        batches = [peaks[start : start + self._batch_peaks] for start in range(0, len(peaks), self._batch_peaks)]
        return np.concatenate([np.zeros(0, dtype=base_peak_dtype), *(self._move(traces, batch) for batch in batches)])

    def _move(self, traces, peaks):
        moved = np.zeros(len(peaks), dtype=base_peak_dtype)
        samples, channels = self._find_troughs(traces, peaks["sample_index"], peaks["channel_index"])
        moved["sample_index"], moved["channel_index"] = samples, channels
        moved["segment_index"] = peaks["segment_index"]
        moved["amplitude"] = self._sign * self._heights(traces, peaks) * self._noise_levels_uv[channels]
        return moved

    def _find_troughs(self, traces, samples, channels):
        """Sample and channel of the largest extremum around each peak."""
        window = np.arange(-self._reach - 1, self._reach + 2)
        around = self._sign * traces[samples[:, None] + window] / self._noise_levels_uv
        inner = around[:, 1:-1]
        is_extremum = (inner > around[:, :-2]) & (inner >= around[:, 2:]) & self._is_near[channels][:, None]
        heights = np.where(is_extremum, inner, -np.inf).reshape(len(samples), -1)
        is_moved = np.isfinite(heights.max(axis=1))
        steps, places = np.divmod(heights.argmax(axis=1), traces.shape[1])
        return np.where(is_moved, samples + steps - self._reach, samples), np.where(is_moved, places, channels)

    def _heights(self, traces, peaks):
        """Output of the filter at each peak, in its own noise levels, which the detector does not return."""
        detector = self.parents[0]
        shape = detector.prototype[::-1]
        window = np.arange(len(shape)) - detector.nbefore
        on_channels = np.tensordot(traces[peaks["sample_index"][:, None] + window], shape, (1, 0))
        template = peaks["z"].astype(int) * detector.num_templates + peaks["channel_index"]
        filtered = detector.weights[template].multiply(on_channels).sum(axis=1)
        noise = detector.abs_thresholds.reshape(-1)[template] / detector.detect_threshold
        return np.abs(np.asarray(filtered).ravel()) / noise
