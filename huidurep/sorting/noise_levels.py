"""Pieces of a recording from which offsets and noise levels are estimated, without what was blanked."""

from __future__ import annotations

import numpy as np

NUM_CHUNKS = 20
CHUNK_S = 0.5
BLANK_MS = 2.0  # so long no channel changes: no amplifier is so quiet
ACTIVE_MS = 10.0  # what lies between two such stretches and is shorter is a spike of a noiseless simulation
FEWEST_ACTIVE = 0.1  # of the samples; with fewer nothing is left out


def draw_chunks(recording, seed: int) -> list[tuple[int, int, int]]:
    """Draw pieces of half a second, about ten seconds in all, from every segment in proportion to its length.

    Parameters
    ----------
    recording : BaseRecording
        Its segments are measured, not read.
    seed : int
        Where the pieces lie.

    Returns
    -------
    list of (int, int, int)
        Segment, first sample and end, at least one a segment; whole segments that are shorter.
    """
    rng = np.random.default_rng(seed)
    lengths = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
    wanted = int(CHUNK_S * recording.get_sampling_frequency())
    chunks = []
    for segment_index, num_samples in enumerate(lengths):
        size = min(wanted, num_samples)
        # several pieces of a segment that one covers would only repeat it
        count = max(1, round(NUM_CHUNKS * num_samples / sum(lengths))) if num_samples > size else 1
        starts = np.sort(rng.integers(0, num_samples - size, size=count, endpoint=True))
        chunks += [(segment_index, int(start), int(start) + size) for start in starts]
    return chunks


def read_chunks(recording, chunks: list[tuple[int, int, int]]) -> list[np.ndarray]:
    """Read pieces of a recording.

    Parameters
    ----------
    recording : BaseRecording
    chunks : list of (int, int, int)
        From `draw_chunks`, of this recording or of one as long.

    Returns
    -------
    list of ndarray, (num_samples, num_channels)
    """
    return [
        recording.get_traces(segment_index=segment_index, start_frame=start, end_frame=end)
        for segment_index, start, end in chunks
    ]


def find_active(traces: list[np.ndarray], sampling_frequency: float) -> list[np.ndarray]:
    """Find the samples that were not blanked, as stimulation artefacts and lost packets are.

    A stretch is blank where no channel changes for 2 ms or more. Where nearly all is blank, as in a simulation without
    noise, the stretches are no gaps, and everything counts.

    Parameters
    ----------
    traces : list of ndarray, (num_samples, num_channels)
        Pieces of a recording as it was stored.
    sampling_frequency : float
        Hz.

    Returns
    -------
    list of ndarray of bool, (num_samples,)
    """
    shortest_blank, shortest_active = (int(np.ceil(ms * sampling_frequency / 1000)) for ms in (BLANK_MS, ACTIVE_MS))
    active = []
    for chunk in traces:
        is_still = np.zeros(len(chunk), dtype=bool)
        is_still[1:] = (chunk[1:] == chunk[:-1]).all(axis=1)
        is_active = ~_long_runs(is_still, shortest_blank - 1)
        if not is_active.all():
            is_active = _long_runs(is_active, shortest_active)
        active.append(is_active)
    if np.concatenate(active).mean() < FEWEST_ACTIVE:
        return [np.ones(len(chunk), dtype=bool) for chunk in traces]
    return active


def _long_runs(flags: np.ndarray, shortest: int) -> np.ndarray:
    """The flags (num_samples,) of which at least `shortest` stand in a row."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    long = np.zeros(len(flags), dtype=bool)
    for start, end in edges.reshape(-1, 2):
        long[start:end] = end - start >= shortest
    return long


def noise_levels(traces: list[np.ndarray], active: list[np.ndarray]) -> np.ndarray:
    """Noise of every channel, by the mean over pieces of their median absolute deviations.

    Parameters
    ----------
    traces : list of ndarray, (num_samples, num_channels)
    active : list of ndarray of bool, (num_samples,)
        From `find_active`: the samples that count.

    Returns
    -------
    ndarray of float64, (num_channels,)
        Never 0 where a channel is not flat.
    """
    pieces = [chunk[is_active] for chunk, is_active in zip(traces, active, strict=True) if is_active.any()]
    weights = [len(piece) for piece in pieces]
    deviation = np.average([piece.std(axis=0) for piece in pieces], axis=0, weights=weights)
    distances = [np.median(np.abs(piece - np.median(piece, axis=0)), axis=0) for piece in pieces]
    noise = np.average(distances, axis=0, weights=weights) / 0.6744897501960817
    # a simulation without noise has a MAD of 0, and every sample would be a spike
    return np.where(noise > 0.01 * deviation, noise, deviation).astype("float64")
