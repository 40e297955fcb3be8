"""Spikes of the same moment, counted over all segments."""

from __future__ import annotations

import numpy as np


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
