"""Artefacts: stimulation pulses, jumps of the offset and blanks, whose periods no stage may take for spikes.

SpikeInterface finds saturation and envelopes (`detect_artifact_periods`) in the traces of all channels, both by their
size alone, and `remove_artifacts` fills windows of one length around given triggers. Spikes of 1 mV and pulses of 1 mV
have one size, and what a filter makes of a pulse lasts as long as the pulse is large: here an edge that no spike has
decides, or a plateau that lasts longer than one, and each period has its own length. Silencing after the filter is
SpikeInterface's `silence_periods`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import label, maximum_filter1d, median_filter, minimum_filter1d
from scipy.signal import iirfilter, sosfiltfilt
from spikeinterface.core import BaseRecording
from spikeinterface.core.base import base_period_dtype
from spikeinterface.core.node_pipeline import PipelineNode, run_node_pipeline

from .filled_periods import fill_periods
from .job_kwargs import resolve_job_kwargs
from .noise_levels import MAD_TO_SD, NOISE_LEVELS, NoiseLevelSettings, long_runs, median_deviation


@dataclass(frozen=True)
class ArtifactSettings:
    """What is an artefact, how far it reaches, and how its period is filled.

    Attributes
    ----------
    min_jump : float
        Smallest change from one sample to the next that is looked at, in noise levels of such changes.
    min_jump_ratio : float
        Smallest noise level of such changes, as a share of their standard deviation.
    min_noise_ratio : float
        Below this share of the standard deviation, the noise is that of a simulation without noise.
    max_spike_slope_per_ms : float
        Steepest flank of a spike, as a share of its peak-to-peak amplitude. Of 480 simulated neurons at 30 kHz it was
        at most 13; a pulse or a jump of the offset has 18 to 30 behind the anti-aliasing filter of an amplifier. Below
        17 kHz the two cannot be told apart.
    slope_window_ms : float
        Before and after a jump, in which the peak-to-peak amplitude is measured.
    max_spike_uv : float
        Larger changes within `large_ms` are no spikes, whatever their shape; only where the gains are to uV.
    large_ms : float
        Shorter than the trough of most spikes, so that slow waves do not count.
    plateau_ms, plateau_step_ms : float
        A running median over this time removes spikes and keeps smooth pulses; it is taken of means over short steps.
    plateau_lag_ms : float
        A pulse is shorter: its median lies on one side of those this time before and after it. Longer waves are those
        of the local field.
    min_plateau : float
        Smallest distance of the medians, in noise levels of the traces' changes over `plateau_lag_ms`.
    min_plateau_share, min_steep_share : float
        Smallest share that the median keeps of the largest deflection within this time, summed over the channels; with
        gentle flanks, and with any. Of 1,000 pairs of overlapping spikes of 300 to 900 uV 0.8 % had 0.7 and none 0.8.
    max_plateau_slope_per_ms : float
        Steepest gentle flank within this time, as a share of the plateau. A share of 0.7 with gentle flanks had none of
        80 neurons, of these pairs and of 200 bursts, and each half-sine from 1 ms on; an exponential has a steep edge,
        which is found where the sampling frequency is high enough for it.
    num_screened_channels : int
        On about so many channels of a large probe a chunk is looked at first; only where half of `min_channel_share`
        of them show something, all channels are.
    plateau_end : float
        The period of a plateau ends where the distance is below this number of noise levels.
    min_channel_share : float
        Share of the channels of a group, one of a tetrode, that an artefact is seen on. Single bad contacts of a
        large probe must not take the others with them.
    min_blank_share : float
        Share of the living channels that stand still in a blank: what fails later does not silence the others.
    trigger_ms : (float, float)
        Before and after each given trigger time.
    pad_ms : float
        Before and after what was found.
    end_noise_levels : float
        A period grows while the filtered traces beside it, without it, are larger.
    reach_ms : float
        How far beside it.
    max_rounds : int
        How often it grows.
    gap_ms : float
        Periods that are closer are one; the level of the traces beside a period is the median over this time.
    decay_s : float
        A difference in level between both sides of a period is taken out and returns so slowly, that nothing of it
        passes the band-pass filter.
    margin_s : float
        Read beyond each chunk.
    noise_levels : NoiseLevelSettings
        What a blank is.
    """

    min_jump: float = 25.0
    min_jump_ratio: float = 0.01
    min_noise_ratio: float = 1e-4
    max_spike_slope_per_ms: float = 17.0
    slope_window_ms: float = 0.5
    max_spike_uv: float = 3000.0
    large_ms: float = 0.25
    plateau_ms: float = 0.9
    plateau_step_ms: float = 0.07
    plateau_lag_ms: float = 6.0
    min_plateau: float = 10.0
    min_plateau_share: float = 0.7
    min_steep_share: float = 0.8
    max_plateau_slope_per_ms: float = 5.0
    num_screened_channels: int = 32
    plateau_end: float = 3.0
    min_channel_share: float = 0.25
    min_blank_share: float = 0.75
    trigger_ms: tuple[float, float] = (0.5, 2.0)
    pad_ms: float = 0.2
    end_noise_levels: float = 3.0
    reach_ms: float = 0.7
    max_rounds: int = 12
    gap_ms: float = 1.0
    decay_s: float = 0.02
    margin_s: float = 0.05
    noise_levels: NoiseLevelSettings = NOISE_LEVELS


ARTIFACTS = ArtifactSettings()


def find_artifacts(
    recording: BaseRecording,
    traces: list[np.ndarray],
    *,
    band_hz: tuple[float, float],
    trigger_samples: tuple[np.ndarray, ...],
    is_in_uv: bool,
    has_blanks: bool,
    settings: ArtifactSettings = ARTIFACTS,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Find the periods of artefacts in one pass over a recording, chunk by chunk.

    Parameters
    ----------
    recording : BaseRecording
        One channel group, scaled, not yet filtered.
    traces : list of ndarray, (num_samples, num_channels)
        Chunks of it, from which noise is estimated.
    band_hz : (float, float)
        Of the band-pass filter that will follow.
    trigger_samples : tuple of ndarray, one per segment
        Given artefacts.
    is_in_uv : bool
        The unit of the traces is uV, so that sizes have a meaning.
    has_blanks : bool
        Stretches without any change are gaps, and not the silence of a simulation without noise.
    settings : ArtifactSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    ndarray, (num_periods,)
        SpikeInterface's `base_period_dtype` (segment_index, start_sample_index, end_sample_index: the first sample
        after the period), in order of time within segments, at least 1 ms apart.
    """
    sos = _band_pass(band_hz, recording.get_sampling_frequency())
    jump_noise, jump_deviation = _noise([np.diff(chunk, axis=0) for chunk in traces], settings)
    node = FindArtifacts(
        recording,
        # the ends of cut templates in a simulation of little noise are no jumps
        jump_levels=np.maximum(jump_noise, settings.min_jump_ratio * jump_deviation),
        noise_levels=_noise([sosfiltfilt(sos, chunk, axis=0) for chunk in traces], settings)[0],
        slow_levels=_slow_noise(traces, recording.get_sampling_frequency(), settings),
        band_hz=band_hz,
        trigger_samples=trigger_samples,
        is_in_uv=is_in_uv,
        has_blanks=has_blanks,
        settings=settings,
    )
    options: dict[str, Any] = {"job_kwargs": resolve_job_kwargs(job_kwargs), "job_name": "find artefacts"}
    found = run_node_pipeline(recording, [node], check_for_peak_source=False, **options)
    return merge_periods(found, int(settings.gap_ms * recording.get_sampling_frequency() / 1000.0))


def _noise(chunks: list[np.ndarray], settings: ArtifactSettings) -> tuple[np.ndarray, np.ndarray]:
    """Noise (num_channels,) of chunks by their median absolute deviation, and their standard deviation.

    The standard deviation is the noise of a simulation without noise. With artefacts it is large, so that noise that is
    small beside it is believed.
    """
    joined = np.concatenate(chunks)
    noise = median_deviation(joined) / MAD_TO_SD
    deviation = joined.std(axis=0, dtype="float64")
    return np.where(noise > settings.min_noise_ratio * deviation, noise, deviation), deviation


def _slow_noise(traces: list[np.ndarray], sampling_frequency: float, settings: ArtifactSettings) -> np.ndarray:
    """Noise (num_channels,) of the changes of chunks over `plateau_lag_ms`; 0 where all chunks are shorter."""
    step, lag, _ = _plateau_samples(sampling_frequency, settings)
    means = [each for each in (_step_means(chunk, step) for chunk in traces) if len(each) > lag]
    if not means:
        return np.zeros(traces[0].shape[1])
    return _noise([each[lag:] - each[:-lag] for each in means], settings)[0]


def _plateau_samples(sampling_frequency: float, settings: ArtifactSettings) -> tuple[int, int, int]:
    """Samples of a step; steps of the lag, and of the running median, an odd number."""
    step = max(1, round(settings.plateau_step_ms * sampling_frequency / 1000.0))
    per_ms = sampling_frequency / 1000.0 / step
    return step, max(1, round(settings.plateau_lag_ms * per_ms)), 2 * int(settings.plateau_ms * per_ms / 2) + 1


def _step_means(traces: np.ndarray, step: int) -> np.ndarray:
    """Means (num_steps, num_channels) over steps of samples."""
    num_steps = len(traces) // step
    return traces[: num_steps * step].reshape(num_steps, step, traces.shape[1]).mean(axis=1)


def _distance_from_both(levels: np.ndarray, lag: int) -> np.ndarray:
    """Distance of levels (num_steps, num_channels) from the nearer of those before and after; 0 if between them."""
    before, after = np.zeros_like(levels), np.zeros_like(levels)
    before[lag:], after[:-lag] = levels[lag:] - levels[:-lag], levels[:-lag] - levels[lag:]
    nearer = np.where(np.abs(before) < np.abs(after), before, after)
    return np.where(before * after > 0, nearer, 0)


def merge_periods(periods: np.ndarray, gap: int = 0) -> np.ndarray:
    """Make one period of those that overlap or are close.

    Parameters
    ----------
    periods : ndarray, (num_periods,)
        `base_period_dtype`, in any order.
    gap : int
        Samples between two periods; with fewer they are one.

    Returns
    -------
    ndarray, (num_merged,)
        In order of time within segments.
    """
    merged: list[tuple[int, int, int]] = []
    for segment, start, end in np.sort(periods, order=["segment_index", "start_sample_index"])[
        ["segment_index", "start_sample_index", "end_sample_index"]
    ].tolist():
        if merged and merged[-1][0] == segment and start < merged[-1][2] + max(gap, 1):
            merged[-1] = (segment, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((segment, start, end))
    return make_periods(merged)


def make_periods(rows: list[tuple[int, int, int]] | None = None) -> np.ndarray:
    """SpikeInterface's periods from rows.

    Parameters
    ----------
    rows : list of (int, int, int) | None
        Segment, first sample, and first sample after the period.

    Returns
    -------
    ndarray, (num_periods,)
        `base_period_dtype`.
    """
    periods = np.zeros(len(rows or []), dtype=base_period_dtype)
    if rows:
        columns = np.array(rows, dtype="int64").T
        periods["segment_index"], periods["start_sample_index"], periods["end_sample_index"] = columns
    return periods


def is_in_periods(segment_index: np.ndarray | int, samples: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Which samples lie in a period.

    Parameters
    ----------
    segment_index : ndarray of int, (num_samples,), or int
        Segment of each sample.
    samples : ndarray of int, (num_samples,)
    periods : ndarray, (num_periods,)
        In order of time, without overlap.

    Returns
    -------
    ndarray of bool, (num_samples,)
    """
    is_inside = np.zeros(len(samples), dtype=bool)
    segments = np.broadcast_to(segment_index, len(samples))
    for segment in np.unique(periods["segment_index"]):
        own, rows = periods[periods["segment_index"] == segment], np.flatnonzero(segments == segment)
        before = np.searchsorted(own["start_sample_index"], samples[rows], "right") - 1
        is_inside[rows] = (before >= 0) & (samples[rows] < own["end_sample_index"][before.clip(0)])
    return is_inside


def are_spikes_in_periods(spikes: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Which spikes lie in a period.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index.
    periods : ndarray, (num_periods,)
        In order of time, without overlap.

    Returns
    -------
    ndarray of bool, (num_spikes,)
    """
    return is_in_periods(spikes["segment_index"], spikes["sample_index"], periods)


class FindArtifacts(PipelineNode):
    """Node of SpikeInterface's pipeline that finds the artefacts of a chunk.

    Parameters
    ----------
    recording : BaseRecording
        Scaled, not filtered.
    jump_levels, noise_levels, slow_levels : ndarray, (num_channels,)
        Noise of the changes from sample to sample, of the filtered traces, and of the changes over `plateau_lag_ms`;
        0 on flat channels.
    band_hz, trigger_samples, is_in_uv, has_blanks, settings
        As `find_artifacts`.
    """

    _compute_has_extended_signature = True

    def __init__(  # noqa: PLR0913 - the arguments of a node are those of one function
        self,
        recording,
        *,
        jump_levels,
        noise_levels,
        slow_levels,
        band_hz,
        trigger_samples,
        is_in_uv,
        has_blanks,
        settings,
    ):
        super().__init__(recording, return_output=True)
        sampling_frequency = recording.get_sampling_frequency()
        self._settings, self._triggers = settings, trigger_samples
        self._is_in_uv, self._has_blanks = is_in_uv, has_blanks
        self._is_alive = jump_levels > 0
        self._min_jump = np.where(self._is_alive, settings.min_jump * jump_levels, np.inf)
        self._threshold = np.where(self._is_alive, settings.end_noise_levels * noise_levels, np.inf)
        self._slow_levels = np.where(self._is_alive & (slow_levels > 0), slow_levels, np.inf)
        self._plateau_samples = _plateau_samples(sampling_frequency, settings)
        self._min_share = settings.max_spike_slope_per_ms * 1000.0 / sampling_frequency
        self._min_channels = max(1, int(np.ceil(settings.min_channel_share * self._is_alive.sum())))
        self._stride = max(1, len(jump_levels) // settings.num_screened_channels)
        self._few_channels = max(1, self._min_channels // self._stride // 2)
        self._lengths = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
        self._samples_per_ms = sampling_frequency / 1000.0
        self._sos = _band_pass(band_hz, sampling_frequency)
        self._kwargs.update(
            jump_levels=jump_levels,
            noise_levels=noise_levels,
            slow_levels=slow_levels,
            band_hz=band_hz,
            trigger_samples=trigger_samples,
            is_in_uv=is_in_uv,
            has_blanks=has_blanks,
            settings=settings,
        )

    def get_dtype(self):
        """SpikeInterface's periods.

        Returns
        -------
        dtype
        """
        return np.dtype(base_period_dtype)

    def get_margin(self):
        """Samples it reads beyond a chunk.

        Returns
        -------
        int
        """
        return self._samples(1000.0 * self._settings.margin_s)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin):
        """Find the artefacts of one chunk.

        Parameters
        ----------
        traces : ndarray, (num_samples, num_channels)
            With margins, which are zeros beyond the segment.
        start_frame, end_frame, segment_index, max_margin : int
            Place of the chunk.

        Returns
        -------
        tuple of one ndarray, (num_periods,)
            `base_period_dtype`, within the chunk.
        """
        first = max(0, start_frame - max_margin)
        last = min(self._lengths[segment_index], end_frame + max_margin)
        traces = traces[first - start_frame + max_margin :][: last - first]
        is_found = self._find(traces)
        for trigger in self._triggers[segment_index] if self._triggers else ():
            before, after = (self._samples(each) for each in self._settings.trigger_ms)
            is_found[max(0, trigger - before - first) : max(0, trigger + after - first)] = True
        if not is_found.any():
            return (make_periods(),)
        is_found = self._grow(traces, _dilate(is_found, self._samples(self._settings.pad_ms)))
        inside = is_found[start_frame - first : end_frame - first]
        edges = start_frame + np.flatnonzero(np.diff(inside, prepend=False, append=False)).reshape(-1, 2)
        return (make_periods([(segment_index, start, end) for start, end in edges.tolist()]),)

    def _samples(self, duration_ms):
        return max(1, round(duration_ms * self._samples_per_ms))

    def _find(self, traces):
        """Samples (num_samples,) of steep edges, of changes that are too large, of smooth pulses, and of blanks."""
        is_found = np.zeros(len(traces), dtype=bool)
        may_have_plateau = self._may_have_plateau(traces)
        if not (may_have_plateau or self._may_have_another(traces)):
            return is_found
        jumps = np.abs(np.diff(traces, axis=0))
        rows, channels = np.nonzero(jumps > self._min_jump)
        if len(rows):
            is_found[:-1] |= self._is_steep(traces, jumps, rows, channels)
        lag = self._samples(self._settings.large_ms)
        for start in np.flatnonzero(self._is_large(traces, self._min_channels)):
            is_found[start : start + lag + 1] = True
        if may_have_plateau:
            is_found |= self._is_plateau(traces)
        if self._has_blanks:
            is_found |= self._is_blank(traces)
        return is_found

    def _is_large(self, traces, num_channels):
        """Samples (num_samples - lag,) from which on so many of the channels change by more than a spike."""
        lag = self._samples(self._settings.large_ms)
        if not self._is_in_uv:
            return np.zeros(max(0, len(traces) - lag), dtype=bool)
        is_large = np.abs(traces[lag:] - traces[:-lag]) > self._settings.max_spike_uv
        return np.count_nonzero(is_large, axis=1) >= num_channels

    def _is_steep(self, traces, jumps, rows, channels):
        """Samples (num_samples - 1,) before an edge that no spike has, on enough channels."""
        reach = self._samples(self._settings.slope_window_ms)
        is_steep = np.zeros(jumps.shape, dtype=bool)
        for channel in np.unique(channels):
            own = rows[channels == channel]
            trace = traces[:, channel]
            highest = maximum_filter1d(trace, 2 * reach + 1)[own]
            lowest = minimum_filter1d(trace, 2 * reach + 1)[own]
            is_steep[own, channel] = jumps[own, channel] >= self._min_share * (highest - lowest)
        # the edge of one pulse may lie a sample later on some channels
        near = is_steep | np.roll(is_steep, 1, axis=0) | np.roll(is_steep, -1, axis=0)
        return is_steep.any(axis=1) & (np.count_nonzero(near, axis=1) >= self._min_channels)

    def _is_plateau(self, traces):
        """Samples (num_samples,) of pulses that last longer than a spike, on enough channels."""
        settings, (step, lag, width) = self._settings, self._plateau_samples
        is_found = np.zeros(len(traces), dtype=bool)
        means = _step_means(traces, step)
        levels = _running_median(means, width)
        distances = _distance_from_both(levels, lag)
        resting = (levels - distances)[:, None]
        deflections = np.abs(traces[: len(means) * step].reshape(len(means), step, -1) - resting).max(axis=1)
        slopes = np.zeros_like(means)
        slopes[2:] = np.abs(means[2:] - means[:-2]) * self._samples_per_ms / (2 * step)
        kept = self._summed(np.abs(distances))
        # a spike on the same channels is as large as what the median leaves of it is small
        around = (maximum_filter1d(each, 2 * lag + 1, axis=0) for each in (deflections, slopes))
        largest, steepest = map(self._summed, around)
        is_gentle = steepest < settings.max_plateau_slope_per_ms * kept
        is_kept = kept > np.where(is_gentle, settings.min_plateau_share, settings.min_steep_share) * largest
        is_plateau = is_kept & self._are_enough(distances, settings.min_plateau)
        runs = label(self._are_enough(distances, settings.plateau_end))[0]
        is_step = (runs > 0) & np.isin(runs, runs[is_plateau])
        is_found[: len(means) * step] = np.repeat(is_step, step)
        return is_found

    def _may_have_another(self, traces):
        """Whether some channels of a large probe show an artefact that is no plateau; true of a small one.

        In most chunks they do not. Half as many as an artefact needs are enough.
        """
        if self._stride == 1:
            return True
        some, few = traces[:, :: self._stride], self._few_channels
        is_jump = np.abs(np.diff(some, axis=0)) > self._min_jump[:: self._stride]
        # the edge of one pulse may lie a sample later on some channels
        counts = np.count_nonzero(is_jump, axis=1)
        if (counts[1:] + counts[:-1] >= few).any() or self._is_large(some, few).any():
            return True
        return self._has_blanks and self._may_have_blank(some)

    def _may_have_plateau(self, traces):
        """Whether some of the channels have steps far from those before and after."""
        settings, (step, lag, width) = self._settings, self._plateau_samples
        if len(traces) // step <= 2 * lag:
            return False
        limits = settings.min_plateau * self._slow_levels[:: self._stride]

        def is_far(levels):
            are_far = np.abs(_distance_from_both(levels, lag)) > limits
            return (np.count_nonzero(are_far, axis=1) >= self._few_channels).any()

        means = _step_means(traces[:, :: self._stride], step)
        # the median removes spikes; it is slow, and seldom needed
        return is_far(means) and is_far(_running_median(means, width))

    def _may_have_blank(self, some):
        step = max(1, self._samples(self._settings.noise_levels.blank_ms) // 4)
        alive = some[:, self._is_alive[:: self._stride]]
        return _stand_still(alive, step, self._settings.min_blank_share * alive.shape[1] / 2)

    def _summed(self, sizes):
        """Sum (num_steps,) over the living channels."""
        return sizes[:, self._is_alive].sum(axis=1)

    def _are_enough(self, distances, num_levels):
        """Steps (num_steps,) at which distances (num_steps, num_channels) are large on enough channels."""
        return np.count_nonzero(np.abs(distances) > num_levels * self._slow_levels, axis=1) >= self._min_channels

    def _is_blank(self, traces):
        """Samples (num_samples,) of stretches in which the living channels stand still, with the edges of both ends."""
        alive = traces[:, self._is_alive]
        length = self._samples(self._settings.noise_levels.blank_ms)
        needed = self._settings.min_blank_share * alive.shape[1]
        # every stretch shows in every fourth of its length; only then is each sample compared
        if not _stand_still(alive, max(1, length // 4), needed):
            return np.zeros(len(traces), dtype=bool)
        is_constant = np.zeros(len(traces), dtype=bool)
        is_constant[1:] = np.count_nonzero(alive[1:] == alive[:-1], axis=1) >= needed
        return _dilate(long_runs(is_constant, length - 1), 1)

    def _grow(self, traces, is_found):
        """The samples (num_samples,) with those beside them that still show the artefact after the filter."""
        settings = self._settings
        gap, reach = self._samples(settings.gap_ms), self._samples(settings.reach_ms)
        for _ in range(settings.max_rounds):
            is_found = ~long_runs(~is_found, gap) if not is_found.all() else is_found
            periods = np.flatnonzero(np.diff(is_found, prepend=False, append=False)).reshape(-1, 2)
            filled = fill_periods(traces, periods, gap, settings.decay_s * 1000.0 * self._samples_per_ms)
            filtered = np.abs(sosfiltfilt(self._sos, filled, axis=0))
            is_over = np.count_nonzero(filtered > self._threshold, axis=1) >= self._min_channels
            beside = is_over & ~is_found & _dilate(is_found, reach)
            if not beside.any():
                break
            grown = is_found | _dilate(beside, self._samples(settings.pad_ms))
            is_found = ~long_runs(~grown, reach)
        return is_found


def _band_pass(band_hz: tuple[float, float], sampling_frequency: float) -> np.ndarray:
    """The filter of `preprocess`."""
    return iirfilter(2, band_hz, fs=sampling_frequency, btype="bandpass", ftype="bessel", output="sos")


def _running_median(means: np.ndarray, width: int) -> np.ndarray:
    """Of each channel of (num_steps, num_channels): SciPy is five times as fast with a row as with a matrix."""
    return np.stack([median_filter(channel, width) for channel in means.T], axis=1)


def _stand_still(traces: np.ndarray, step: int, num_channels: float) -> bool:
    """Whether so many channels of (num_samples, num_channels) have the same value a step later, at any step."""
    sparse = traces[::step]
    counts = np.count_nonzero(sparse[1:] == sparse[:-1], axis=1)
    return bool(traces.shape[1] and (counts >= num_channels).any())


def _dilate(flags: np.ndarray, reach: int) -> np.ndarray:
    return maximum_filter1d(flags.view("uint8"), 2 * reach + 1, mode="constant").view(bool)
