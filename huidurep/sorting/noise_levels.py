"""Chunks of a recording from which offsets and noise levels are estimated, without blanked samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeinterface.core import BaseRecording

MAD_TO_SD = 0.6744897501960817  # median absolute deviation of a standard normal distribution


@dataclass(frozen=True)
class NoiseLevelSettings:
    """What is read to estimate noise, and which samples of it count.

    Attributes
    ----------
    num_chunks : int
        Chunks over all segments of a recording.
    chunk_s : float
        Duration of each.
    blank_ms : float
        Samples are blanked where no channel changes for this long: no amplifier is so quiet.
    active_ms : float
        What lies between two blanked stretches and is shorter is a spike of a simulation without noise.
    min_active_share : float
        Share of samples that are not blanked. With less, no sample is left out.
    silent_ratio : float
        A channel is silent in a chunk whose noise is below this share of that of its noisiest chunk.
    max_values : int
        Samples of all channels in all chunks: with more channels the chunks are shorter, so that they fit in memory.
    """

    num_chunks: int = 20
    chunk_s: float = 0.5
    blank_ms: float = 2.0
    active_ms: float = 10.0
    min_active_share: float = 0.1
    silent_ratio: float = 0.01
    max_values: int = 20_000_000

    def chunk_size(self, recording: BaseRecording) -> int:
        """Samples of a chunk.

        Parameters
        ----------
        recording : BaseRecording
            Its sampling frequency and number of channels are read.

        Returns
        -------
        int
        """
        most = self.max_values // (self.num_chunks * recording.get_num_channels())
        return max(1, min(int(self.chunk_s * recording.get_sampling_frequency()), most))


NOISE_LEVELS = NoiseLevelSettings()


def draw_chunks(
    recording: BaseRecording, seed: int = 0, *, settings: NoiseLevelSettings = NOISE_LEVELS
) -> list[tuple[int, int, int]]:
    """Draw chunks of up to half a second, ten seconds in all, from every segment in proportion to its length.

    Parameters
    ----------
    recording : BaseRecording
        Only the lengths of its segments are read.
    seed : int
        Of the places of the chunks.
    settings : NoiseLevelSettings
        Number and duration of the chunks.

    Returns
    -------
    list of (int, int, int)
        Segment, first sample and end, at least one per segment; whole segments that are shorter.
    """
    rng = np.random.default_rng(seed)
    lengths = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
    wanted, chunks = settings.chunk_size(recording), []
    for segment_index, num_samples in enumerate(lengths):
        size = min(wanted, num_samples)
        # a segment that one chunk covers would only be repeated by further ones
        count = max(1, round(settings.num_chunks * num_samples / sum(lengths))) if num_samples > size else 1
        starts = np.sort(rng.integers(0, num_samples - size, size=count, endpoint=True))
        chunks += [(segment_index, int(start), int(start) + size) for start in starts]
    return chunks


def read_chunks(recording: BaseRecording, chunks: list[tuple[int, int, int]]) -> list[np.ndarray]:
    """Read chunks of a recording.

    Parameters
    ----------
    recording : BaseRecording
    chunks : list of (int, int, int)
        From `draw_chunks`, of this recording or of one with the same segments.

    Returns
    -------
    list of ndarray, (num_samples, num_channels)
    """
    return [
        recording.get_traces(segment_index=segment_index, start_frame=start, end_frame=end)
        for segment_index, start, end in chunks
    ]


def find_active(
    traces: list[np.ndarray], sampling_frequency: float, *, settings: NoiseLevelSettings = NOISE_LEVELS
) -> list[np.ndarray]:
    """Find the samples that were not blanked, as stimulation artefacts and lost packets are.

    Samples are blanked where no channel changes for 2 ms or more. Where nearly all samples are, as in a simulation
    without noise, they are silence between spikes and not gaps, and all samples count.

    Parameters
    ----------
    traces : list of ndarray, (num_samples, num_channels)
        Chunks of a recording as it was stored.
    sampling_frequency : float
        Hz.
    settings : NoiseLevelSettings
        Durations and shares.

    Returns
    -------
    list of ndarray of bool, (num_samples,)
    """
    active = _changing(traces, sampling_frequency, settings)
    if is_silence(traces, sampling_frequency, settings=settings):
        return [np.ones(len(chunk), dtype=bool) for chunk in traces]
    return active


def is_silence(
    traces: list[np.ndarray], sampling_frequency: float, *, settings: NoiseLevelSettings = NOISE_LEVELS
) -> bool:
    """Whether stretches without any change are the silence of a simulation without noise, and no gaps.

    Parameters
    ----------
    traces, sampling_frequency, settings
        As `find_active`.

    Returns
    -------
    bool
        Nearly all samples lie in such stretches, or in what is no longer than a spike between them.
    """
    return bool(np.concatenate(_changing(traces, sampling_frequency, settings)).mean() < settings.min_active_share)


def _changing(traces: list[np.ndarray], sampling_frequency: float, settings: NoiseLevelSettings) -> list[np.ndarray]:
    """The samples of each chunk outside of blanks, and of what is too short between two of them."""
    min_blank, min_active = (
        int(np.ceil(ms * sampling_frequency / 1000)) for ms in (settings.blank_ms, settings.active_ms)
    )
    active = []
    for chunk in traces:
        is_constant = np.zeros(len(chunk), dtype=bool)
        is_constant[1:] = (chunk[1:] == chunk[:-1]).all(axis=1)
        is_active = ~long_runs(is_constant, min_blank - 1)
        if not is_active.all():
            is_active = long_runs(is_active, min_active)
        active.append(is_active)
    return active


def long_runs(flags: np.ndarray, min_length: int) -> np.ndarray:
    """Keep the flags of long runs.

    Parameters
    ----------
    flags : ndarray of bool, (num_samples,)
    min_length : int
        Shorter runs are taken away.

    Returns
    -------
    ndarray of bool, (num_samples,)
    """
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    long = np.zeros(len(flags), dtype=bool)
    for start, end in edges.reshape(-1, 2):
        long[start:end] = end - start >= min_length
    return long


def noise_levels(
    traces: list[np.ndarray], active: list[np.ndarray], *, settings: NoiseLevelSettings = NOISE_LEVELS
) -> tuple[np.ndarray, np.ndarray]:
    """Noise of every channel: median absolute deviation / 0.6745, averaged over the chunks in which it was alive.

    Parameters
    ----------
    traces : list of ndarray, (num_samples, num_channels)
    active : list of ndarray of bool, (num_samples,)
        From `find_active`: the samples that count.
    settings : NoiseLevelSettings
        When a channel is silent.

    Returns
    -------
    noise : ndarray of float64, (num_channels,)
        In the unit of the traces; never 0 where a channel is not flat.
    silent_share : ndarray of float64, (num_channels,)
        Share of the samples in chunks in which the channel was silent, as one that was cut off for a while.
    """
    chunks = [chunk[is_active] for chunk, is_active in zip(traces, active, strict=True) if is_active.any()]
    weights = [len(chunk) for chunk in chunks]
    deviation = np.average([chunk.std(axis=0) for chunk in chunks], axis=0, weights=weights)
    distances = [median_deviation(chunk) for chunk in chunks]
    is_silent = np.array(distances) < settings.silent_ratio * np.max(distances, axis=0)
    silent_share = np.average(is_silent, axis=0, weights=weights)
    noise = np.average(distances, axis=0, weights=weights) / MAD_TO_SD / (1 - silent_share)
    # a simulation without noise has a MAD of 0, and every sample would be a spike
    return np.where(noise > 0.01 * deviation, noise, deviation).astype("float64"), silent_share


def channel_medians(traces: np.ndarray) -> np.ndarray:
    """Median of each channel; faster than numpy's, which goes over the first axis and looks for both middle values.

    Parameters
    ----------
    traces : ndarray, (num_samples, num_channels)

    Returns
    -------
    ndarray, (num_channels,)
        That of `numpy.median`, NaN where there is no sample.
    """
    medians = [_median(np.ascontiguousarray(traces[:, channel])) for channel in range(traces.shape[1])]
    return np.array(medians, dtype=np.result_type(traces.dtype, "float32"))


def median_deviation(traces: np.ndarray) -> np.ndarray:
    """Median absolute deviation of each channel.

    Parameters
    ----------
    traces : ndarray, (num_samples, num_channels)

    Returns
    -------
    ndarray, (num_channels,)
        As `channel_medians`.
    """
    columns = (np.ascontiguousarray(traces[:, channel]) for channel in range(traces.shape[1]))
    medians = [_median(np.abs(column - _median(column))) for column in columns]
    return np.array(medians, dtype=np.result_type(traces.dtype, "float32"))


def _median(values: np.ndarray) -> np.floating:
    middle = len(values) // 2
    if len(values) == 0 or np.isnan(values).any():
        return np.float32(np.nan)
    parted = np.partition(values, middle)
    below = parted[middle] if len(values) % 2 else parted[:middle].max()
    return np.mean(np.array([below, parted[middle]]))
