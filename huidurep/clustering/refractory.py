"""How clearly two groups of spikes fire like two neurons: closely after each other, as one neuron cannot."""

from __future__ import annotations

import numpy as np

# A neuron hardly fires again so soon; nearer spikes of two neurons overlap, and a detector loses many of them.
REFRACTORY_MS = (1.0, 3.0)
SHOULDER_MS = (10.0, 60.0)
# Of the coincidences expected of independent neurons: those of two units, and those of pieces of one.
OF_TWO, OF_ONE = 0.95, 0.3


def evidence_of_two(first_s: np.ndarray, second_s: np.ndarray) -> float:
    """Say how clearly a cross-correlogram lacks the dip of a refractory period, as curators look before they merge.

    Spikes of the two groups that follow each other within 1 to 3 ms are counted, and compared with those at lags of 10
    to 60 ms, which tell how many to expect of neurons that fire independently, whatever their rates do over time. The
    count is Poisson: of 0.95 of those expected for two neurons, of 0.3 for pieces of one unit, which stray spikes and
    bursts give some. Lussac (Wyngaard, Llobet & Barbour 2022, doi:10.1101/2022.02.08.479192) and Kilosort (Pachitariu
    et al. 2024, doi:10.1038/s41592-024-02232-7) merge by the same dip.

    Parameters
    ----------
    first_s, second_s : ndarray (num_spikes,)
        Times of the spikes of both groups, s.

    Returns
    -------
    float
        Log of the likelihood ratio of two neurons against one, nats; 0 where one is likelier. Groups that are too small
        to tell, or active at different times, come out near 0.
    """
    first_s, second_s = np.sort(first_s), np.sort(second_s)
    short = _count(first_s, second_s, *REFRACTORY_MS)
    long = _count(first_s, second_s, *SHOULDER_MS)
    expected = long * (REFRACTORY_MS[1] - REFRACTORY_MS[0]) / (SHOULDER_MS[1] - SHOULDER_MS[0])
    return max(0.0, float(short * np.log(OF_TWO / OF_ONE) - (OF_TWO - OF_ONE) * expected))


def _count(first, second, low_ms, high_ms):
    """Pairs of spikes, one of each group, whose lag of either sign lies above `low_ms` and up to `high_ms`."""
    total = 0
    for earlier, later in ((first, second), (second, first)):
        ends = [np.searchsorted(later, earlier + ms * 1e-3, side="right") for ms in (low_ms, high_ms)]
        total += int((ends[1] - ends[0]).sum())
    return total
