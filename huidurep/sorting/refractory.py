"""Whether two groups of spikes keep one refractory period between them, as the pieces of a single neuron do."""

from __future__ import annotations

import numpy as np

REFRACTORY_MS = 2.0
SHOULDER_MS = (10.0, 60.0)
CONTAMINATION = 0.6  # of the coincidences of independent neurons, the share that pieces of one may have at most
SIGNIFICANCE = 0.01


def share_refractory_period(first_s: np.ndarray, second_s: np.ndarray, *, dead_time_ms: float = 0.4) -> bool:
    """Test the dip of a cross-correlogram at its centre, as curators and Kilosort's merging do.

    Spikes of the two groups that follow each other within 2 ms are counted, and compared with those at lags of 10 to
    60 ms, which tell how many to expect of neurons that fire independently, whatever their rates do over time. One unit
    has few: its refractory period forbids them, and only spikes in the wrong group make some. (Pachitariu et al. 2024,
    doi:10.1038/s41592-024-02232-7; Llobet, Wyngaard & Barbour 2022, doi:10.1101/2022.02.08.479192.)

    Parameters
    ----------
    first_s, second_s : ndarray (num_spikes,)
        Times of the spikes of both groups, s.
    dead_time_ms : float, default 0.4
        Lags up to which a detector keeps the larger of two spikes only: nothing can be counted there.

    Returns
    -------
    bool
        Whether there are significantly (p < 0.01) fewer than 0.6 of the coincidences expected. Groups that are too
        small to tell, or active at different times, do not.
    """
    from scipy.stats import poisson

    if dead_time_ms >= REFRACTORY_MS:
        return False
    first_s, second_s = np.sort(first_s), np.sort(second_s)
    short = _count(first_s, second_s, dead_time_ms, REFRACTORY_MS)
    long = _count(first_s, second_s, *SHOULDER_MS)
    expected = long * (REFRACTORY_MS - dead_time_ms) / (SHOULDER_MS[1] - SHOULDER_MS[0])
    return bool(poisson.cdf(short, CONTAMINATION * expected) < SIGNIFICANCE)


def _count(first, second, low_ms, high_ms):
    """Pairs of spikes, one of each group, whose lag of either sign lies above `low_ms` and up to `high_ms`."""
    total = 0
    for earlier, later in ((first, second), (second, first)):
        ends = [np.searchsorted(later, earlier + ms * 1e-3, side="right") for ms in (low_ms, high_ms)]
        total += int((ends[1] - ends[0]).sum())
    return total
