"""Whether two groups of spikes fire like two neurons: closely after each other, as one neuron cannot."""

from __future__ import annotations

import numpy as np

# A neuron hardly fires again so soon; nearer spikes of two neurons overlap, and a detector loses many of them.
REFRACTORY_MS = (1.0, 2.0)
SHOULDER_MS = (10.0, 60.0)
CONTAMINATION = 0.4  # of the coincidences of independent neurons, what stray spikes may make of one unit's
SIGNIFICANCE = 0.01


def fire_independently(first_s: np.ndarray, second_s: np.ndarray) -> bool:
    """Test whether a cross-correlogram lacks the dip of a refractory period, as curators do before they merge.

    Spikes of the two groups that follow each other within 1 to 2 ms are counted, and compared with those at lags of 10
    to 60 ms, which tell how many to expect of neurons that fire independently, whatever their rates do over time. Parts
    of one unit have next to none. Lussac (Wyngaard, Llobet & Barbour 2022, doi:10.1101/2022.02.08.479192) and Kilosort
    (Pachitariu et al. 2024, doi:10.1038/s41592-024-02232-7) merge by the same dip.

    Parameters
    ----------
    first_s, second_s : ndarray (num_spikes,)
        Times of the spikes of both groups, s.

    Returns
    -------
    bool
        Whether there are significantly (p < 0.01) more than 0.4 of the coincidences expected. Groups that are too small
        to tell, or active at different times, give no such evidence.
    """
    from scipy.stats import poisson

    first_s, second_s = np.sort(first_s), np.sort(second_s)
    short = _count(first_s, second_s, *REFRACTORY_MS)
    long = _count(first_s, second_s, *SHOULDER_MS)
    expected = long * (REFRACTORY_MS[1] - REFRACTORY_MS[0]) / (SHOULDER_MS[1] - SHOULDER_MS[0])
    return bool(short > 0 and poisson.sf(short - 1, CONTAMINATION * expected) < SIGNIFICANCE)


def _count(first, second, low_ms, high_ms):
    """Pairs of spikes, one of each group, whose lag of either sign lies above `low_ms` and up to `high_ms`."""
    total = 0
    for earlier, later in ((first, second), (second, first)):
        ends = [np.searchsorted(later, earlier + ms * 1e-3, side="right") for ms in (low_ms, high_ms)]
        total += int((ends[1] - ends[0]).sum())
    return total
