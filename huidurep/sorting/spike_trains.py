"""Spike times across segments, coincident spikes, and spikes that were counted twice."""

from __future__ import annotations

import numpy as np

DUPLICATE_MS = 0.6  # shorter than any refractory period; the second trough of a large spike comes within it
TROUGH_MS = 0.15  # largest distance of the extremum of a spike from its sample index
SEGMENT_GAP_S = 1.0  # longer than every lag that is looked at


def segment_starts(lengths, gap: float = 0) -> np.ndarray:
    """Starts of segments that are put one after the other.

    Parameters
    ----------
    lengths : sequence, (num_segments,)
        Samples or seconds.
    gap : int or float
        Distance between two segments, in the same unit.

    Returns
    -------
    ndarray, (num_segments,)
    """
    return np.cumsum([0, *(length + gap for length in lengths)])[:-1]


def running_sample_index(recording, spikes: np.ndarray) -> np.ndarray:
    """Sample index of spikes, counted on from segment to segment.

    Parameters
    ----------
    recording : BaseRecording
        The recording of the spikes.
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index.

    Returns
    -------
    ndarray of int64, (num_spikes,)
    """
    return segment_starts(_num_samples(recording))[spikes["segment_index"]] + spikes["sample_index"]


def spike_times_s(spikes: np.ndarray, recording) -> np.ndarray:
    """Times of spikes; segments are one after the other, with a gap that no refractory period spans.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index.
    recording : BaseRecording
        The recording of the spikes.

    Returns
    -------
    ndarray of float64, (num_spikes,)
        Seconds from the start of the first segment.
    """
    sampling_frequency = recording.get_sampling_frequency()
    starts_s = segment_starts([number / sampling_frequency for number in _num_samples(recording)], SEGMENT_GAP_S)
    return starts_s[spikes["segment_index"]] + spikes["sample_index"] / sampling_frequency


def _num_samples(recording) -> list[int]:
    return [recording.get_num_samples(index) for index in range(recording.get_num_segments())]


def is_duplicate_spike(spikes: np.ndarray, labels: np.ndarray, recording) -> np.ndarray:
    """Find spikes that are within 0.6 ms of a larger spike of the same unit.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each spike.
    recording : BaseRecording
        Filtered traces, which are read at close spikes only. The spike with the larger deflection is kept.

    Returns
    -------
    ndarray of bool, (num_spikes,)
    """
    found = np.zeros(len(spikes), dtype=bool)
    max_lag = DUPLICATE_MS * recording.get_sampling_frequency() / 1000.0
    order = np.lexsort((spikes["segment_index"], labels))  # within each unit and segment still in order of time
    is_first = np.diff(labels[order], prepend=-2) != 0
    is_first |= np.diff(spikes["segment_index"][order], prepend=-1) != 0
    for rows in np.split(order, np.flatnonzero(is_first))[1:]:
        while len(rows) > 1:
            close = np.flatnonzero(np.diff(spikes["sample_index"][rows].astype("int64")) <= max_lag)
            if len(close) == 0:
                break
            # the first pair of each run of close spikes; the rest of the run follows in the next round
            close = close[np.diff(close, prepend=-2) > 1]
            first, second = rows[close], rows[close + 1]
            first_is_smaller = _deflections(recording, spikes[first]) < _deflections(recording, spikes[second])
            smaller = np.where(first_is_smaller, first, second)
            found[smaller] = True
            rows = np.setdiff1d(rows, smaller)
    return found


def _deflections(recording, spikes: np.ndarray) -> np.ndarray:
    """Largest absolute value (num_spikes,) of the traces at each spike, over all channels."""
    margin = max(1, round(TROUGH_MS * recording.get_sampling_frequency() / 1000.0))
    deflections = np.zeros(len(spikes))
    for row, spike in enumerate(spikes):
        segment_index, sample = int(spike["segment_index"]), int(spike["sample_index"])
        end = min(sample + margin + 1, recording.get_num_samples(segment_index))
        traces = recording.get_traces(segment_index, max(0, sample - margin), end)
        deflections[row] = np.abs(traces).max()
    return deflections


def has_coincident(samples: np.ndarray, others: np.ndarray, max_lag: int) -> np.ndarray:
    """Find samples that have another one within a lag.

    Parameters
    ----------
    samples : ndarray of int64, (num_samples,)
        As `running_sample_index` counts them.
    others : ndarray of int64, (num_others,)
        In ascending order.
    max_lag : int
        Samples, in both directions.

    Returns
    -------
    ndarray of bool, (num_samples,)
    """
    return np.searchsorted(others, samples + max_lag, "right") > np.searchsorted(others, samples - max_lag)


def nearest_rows(samples: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Find the sample nearest to each of some others.

    Parameters
    ----------
    samples : ndarray of int64, (num_samples,)
        In ascending order, at least one where something is wanted.
    wanted : ndarray of int64, (num_wanted,)

    Returns
    -------
    ndarray of int64, (num_wanted,)
        Rows of `samples`.
    """
    after = np.searchsorted(samples, wanted)
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(samples) - 1)
    return np.where(np.abs(samples[before] - wanted) <= np.abs(samples[after] - wanted), before, after)


def lags_behind(samples: np.ndarray, others: np.ndarray, reach: int) -> np.ndarray:
    """Lags of samples behind those of another train that are near.

    Parameters
    ----------
    samples, others : ndarray of int64, (num_samples,), (num_others,)
        In ascending order.
    reach : int
        Largest lag, in both directions.

    Returns
    -------
    ndarray of int64, (num_pairs,)
    """
    start, end = np.searchsorted(others, samples - reach), np.searchsorted(others, samples + reach, "right")
    counts = end - start
    first = np.repeat(start - np.cumsum(counts) + counts, counts)
    return np.repeat(samples, counts) - others[first + np.arange(counts.sum())]
