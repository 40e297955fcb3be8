"""Do two groups of spikes share a refractory period? A likelihood ratio of their cross-correlogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RefractorySettings:
    """Lags and expected rates of the refractory log-likelihood ratio.

    Parameters
    ----------
    refractory_lags_ms : tuple of float
        Lags at which one neuron cannot fire twice. Spikes of two neurons at smaller lags overlap, and a detector loses
        many of them.
    baseline_lags_ms : tuple of float
        Lags that tell how many coincidences two independent neurons would have.
    two_neurons_share, one_neuron_share : float
        Expected share of these coincidences in the refractory lags, for two neurons and for one. The latter is not 0
        because clusters contain some spikes of other neurons.
    """

    refractory_lags_ms: tuple[float, float] = (1.0, 3.0)
    baseline_lags_ms: tuple[float, float] = (10.0, 60.0)
    two_neurons_share: float = 0.95
    one_neuron_share: float = 0.3


# Bursts have intervals of 3 to 10 ms and then none, and neurons of 100 Hz have refractory periods of 2 ms.
SHORT_LAGS = RefractorySettings(refractory_lags_ms=(1.0, 2.0), baseline_lags_ms=(3.0, 10.0))


DEFAULT_SETTINGS = RefractorySettings()


def refractory_log_likelihood_ratio(
    first_times_s: np.ndarray, second_times_s: np.ndarray, settings: RefractorySettings = DEFAULT_SETTINGS
) -> float:
    """Compare two hypotheses on a cross-correlogram: two independent neurons, or one neuron that was split.

    The number of spike pairs with a lag of 1 to 3 ms is modelled as a Poisson count. Its expectation follows from the
    number of pairs with lags of 10 to 60 ms, which is independent of how firing rates change over time: 0.95 of it
    for two neurons, 0.3 of it for one, whose refractory period leaves a dip. Lussac (Wyngaard, Llobet & Barbour 2022,
    doi:10.1101/2022.02.08.479192) and Kilosort (Pachitariu et al. 2024, doi:10.1038/s41592-024-02232-7) decide on
    merges by the same dip.

    Parameters
    ----------
    first_times_s, second_times_s : ndarray (num_spikes,)
        Spike times of both groups in seconds, in any order.
    settings : RefractorySettings

    Returns
    -------
    float
        Natural logarithm of the likelihood ratio of two neurons against one; 0 where one neuron is more likely. It is
        near 0 for groups that have few spikes or are active at different times.
    """
    # a dip alone does not prove one neuron, so the ratio never counts in favour of a merge
    return max(0.0, two_neurons_log_likelihood_ratio(first_times_s, second_times_s, settings))


def two_neurons_log_likelihood_ratio(
    first_times_s: np.ndarray, second_times_s: np.ndarray, settings: RefractorySettings = DEFAULT_SETTINGS
) -> float:
    """Compute the likelihood ratio of `refractory_log_likelihood_ratio` without its limit at 0.

    Parameters
    ----------
    first_times_s, second_times_s : ndarray (num_spikes,)
        Spike times of both groups in seconds, in any order.
    settings : RefractorySettings

    Returns
    -------
    float
        Negative where one neuron is more likely.
    """
    first_times_s, second_times_s = np.sort(first_times_s), np.sort(second_times_s)
    low_ms, high_ms = settings.refractory_lags_ms
    baseline_low_ms, baseline_high_ms = settings.baseline_lags_ms
    num_refractory = _count_pairs(first_times_s, second_times_s, low_ms, high_ms)
    num_baseline = _count_pairs(first_times_s, second_times_s, baseline_low_ms, baseline_high_ms)
    expected = num_baseline * (high_ms - low_ms) / (baseline_high_ms - baseline_low_ms)
    two, one = settings.two_neurons_share, settings.one_neuron_share
    return float(num_refractory * np.log(two / one) - (two - one) * expected)


def _count_pairs(first_s: np.ndarray, second_s: np.ndarray, low_ms: float, high_ms: float) -> int:
    """Number of spike pairs, one spike of each group, whose absolute lag is in (low_ms, high_ms]."""
    total = 0
    # lags of both signs: either group may fire first
    for earlier, later in ((first_s, second_s), (second_s, first_s)):
        low, high = (np.searchsorted(later, earlier + ms * 1e-3, side="right") for ms in (low_ms, high_ms))
        total += int((high - low).sum())
    return total
