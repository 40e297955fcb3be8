"""One spike counted twice: of two spikes of a unit that follow each other sooner than a neuron can fire, one goes."""

from __future__ import annotations

import numpy as np

DUPLICATE_MS = 0.6  # no neuron fires twice so soon; second troughs of large spikes follow within it
TROUGH_MS = 0.15  # how far from its place the extremum of a spike may lie


def is_duplicate(spikes: np.ndarray, labels: np.ndarray, recording) -> np.ndarray:
    """Which spikes stand within 0.6 ms of a larger one of their unit.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each.
    recording : BaseRecording
        Filtered traces, which are read at such pairs only: the larger deflection is the spike.

    Returns
    -------
    ndarray of bool, (num_spikes,)
    """
    found = np.zeros(len(spikes), dtype=bool)
    reach = DUPLICATE_MS * recording.get_sampling_frequency() / 1000.0
    for unit in np.unique(labels):
        for segment_index in np.unique(spikes["segment_index"]):
            rows = np.flatnonzero((labels == unit) & (spikes["segment_index"] == segment_index))
            while len(rows) > 1:
                near = np.flatnonzero(np.diff(spikes["sample_index"][rows].astype("int64")) <= reach)
                if len(near) == 0:
                    break
                near = near[np.diff(near, prepend=-2) > 1]  # of a run the first pair now, the rest in the next round
                first, second = rows[near], rows[near + 1]
                is_smaller = _sizes(recording, spikes[first]) < _sizes(recording, spikes[second])
                smaller = np.where(is_smaller, first, second)
                found[smaller] = True
                rows = np.setdiff1d(rows, smaller)
    return found


def _sizes(recording, spikes: np.ndarray) -> np.ndarray:
    """Largest deflection (num_spikes,) at each spike on any channel."""
    reach = max(1, round(TROUGH_MS * recording.get_sampling_frequency() / 1000.0))
    sizes = np.zeros(len(spikes))
    for row, spike in enumerate(spikes):
        segment_index, sample = int(spike["segment_index"]), int(spike["sample_index"])
        end = min(sample + reach + 1, recording.get_num_samples(segment_index))
        traces = recording.get_traces(segment_index, max(0, sample - reach), end)
        sizes[row] = np.abs(traces).max()
    return sizes


def running_sample_index(recording, spikes: np.ndarray) -> np.ndarray:
    """Samples of spikes, counted on from segment to segment.

    Parameters
    ----------
    recording : BaseRecording
        The recording they are of.
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index.

    Returns
    -------
    ndarray of int64, (num_spikes,)
    """
    num_samples = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
    return np.cumsum([0, *num_samples])[spikes["segment_index"]] + spikes["sample_index"]


def is_near(samples: np.ndarray, others: np.ndarray, reach: int) -> np.ndarray:
    """Which samples have another one near them.

    Parameters
    ----------
    samples : ndarray of int64, (num_samples,)
        As `running_sample_index` counts them.
    others : ndarray of int64, (num_others,)
        In order.
    reach : int
        Samples up to which, before and after, another one is near.

    Returns
    -------
    ndarray of bool, (num_samples,)
    """
    return np.searchsorted(others, samples + reach, "right") > np.searchsorted(others, samples - reach)
