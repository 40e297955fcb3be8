import numpy as np
import pytest

from huidurep.clustering.refractory import RefractorySettings, refractory_log_likelihood_ratio

DURATION_S = 200.0


def neuron(rate_hz, seed, refractory_s=0.003, duration_s=DURATION_S):
    """Spike times of a Poisson neuron with a refractory period."""
    rng = np.random.default_rng(seed)
    intervals = refractory_s + rng.exponential(1 / rate_hz - refractory_s, int(1.2 * rate_hz * duration_s))
    times = np.cumsum(intervals)
    return times[times < duration_s]


def in_two(times, seed=0):
    """Each spike in one of two groups."""
    is_first = np.random.default_rng(seed).random(len(times)) < 0.5
    return times[is_first], times[~is_first]


@pytest.mark.parametrize("seed", range(5))
def test_two_neurons_and_an_over_split_one(seed):
    assert refractory_log_likelihood_ratio(neuron(15.0, seed), neuron(15.0, 100 + seed)) > 20
    assert refractory_log_likelihood_ratio(*in_two(neuron(30.0, seed))) == 0


def test_a_ratio_worked_by_hand():
    # one spike 2 ms after another, and 50 at lags of 10 to 60 ms: two coincidences are expected of two neurons
    first, second = np.array([1.0]), 1.0 + np.array([0.002, 0.0025, *np.linspace(0.0105, 0.0595, 50)])
    assert refractory_log_likelihood_ratio(first, second) == pytest.approx(2 * np.log(0.95 / 0.3) - 0.65 * 2)
    settings = RefractorySettings(refractory_lags_ms=(1.0, 2.2), two_neurons_share=0.9, one_neuron_share=0.1)
    expected = np.log(9.0) - 0.8 * 50 * 1.2 / 50
    assert refractory_log_likelihood_ratio(first, second, settings) == pytest.approx(expected)


def test_order_of_spikes_and_groups_does_not_matter():
    first, second = neuron(15.0, 0), neuron(15.0, 1)
    shuffled = np.random.default_rng(1).permutation(first)
    assert refractory_log_likelihood_ratio(second, shuffled) == refractory_log_likelihood_ratio(first, second)


def test_a_few_spikes_of_another_neuron_do_not_matter():
    first, second = in_two(neuron(30.0, 0))
    assert refractory_log_likelihood_ratio(np.concatenate([first, neuron(2.0, 7)]), second) == 0


def test_few_spikes_and_different_times():
    assert refractory_log_likelihood_ratio(neuron(0.5, 0), neuron(0.5, 1)) < 1  # 0.2 coincidences are expected
    assert refractory_log_likelihood_ratio(np.zeros(0), neuron(15.0, 1)) == 0
    early, late = neuron(20.0, 0, duration_s=50.0), neuron(20.0, 1, duration_s=50.0) + 100.0
    assert refractory_log_likelihood_ratio(early, late) == 0  # as two units, or as one that drifts


def test_a_neuron_that_fires_in_bouts_is_one():
    # half of the time silent: rates over the whole would tell of fewer coincidences than there are at any lag
    bouts = np.concatenate([k * 10.0 + neuron(30.0, k, duration_s=5.0) for k in range(20)])
    assert refractory_log_likelihood_ratio(*in_two(bouts)) == 0
