import numpy as np
import pytest

from huidurep.sorting.clustering import cluster_embeddings
from huidurep.sorting.refractory import share_refractory_period

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
def test_pieces_of_one_neuron_share_a_refractory_period_and_two_neurons_do_not(seed):
    assert share_refractory_period(*in_two(neuron(20.0, seed)))
    assert not share_refractory_period(neuron(10.0, seed), neuron(10.0, 100 + seed))


def test_order_of_spikes_and_groups_does_not_matter():
    first, second = in_two(neuron(20.0, 0))
    shuffled = np.random.default_rng(1).permutation(first)
    assert share_refractory_period(second, shuffled)


def test_some_spikes_of_another_neuron_are_borne():
    first, second = in_two(neuron(20.0, 0))
    stray = neuron(2.0, 7)
    assert share_refractory_period(np.concatenate([first, stray]), second)


def test_what_cannot_be_told_is_not_said():
    first, second = in_two(neuron(0.5, 0))  # about 2 coincidences are expected of independent neurons
    assert not share_refractory_period(first, second)
    assert not share_refractory_period(np.zeros(0), second)
    early, late = neuron(20.0, 0, duration_s=50.0), neuron(20.0, 1, duration_s=50.0) + 100.0
    assert not share_refractory_period(early, late)  # as two units, or as one that drifts
    assert not share_refractory_period(*in_two(neuron(20.0, 0)), dead_time_ms=2.5)


def test_neurons_that_are_active_together_are_not_taken_for_one():
    # both fire in the same tenth of the time, so that their rates over the whole say little
    first, second = (
        np.concatenate([k * 10.0 + neuron(20.0, 30 * seed + k, duration_s=1.0) for k in range(20)]) for seed in (1, 2)
    )
    assert not share_refractory_period(first, second)


def test_rows_of_groups_are_told_and_a_pair_that_is_one_unit_is_merged():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 600)
    points = rng.normal(size=(1200, 4)) + np.array([[0.0], [4.5]])[truth] * np.eye(4)[0]
    assert cluster_embeddings(points).num_units == 2
    asked = []

    def say(answer):
        def same_unit(first, second):
            asked.append((truth[first].mean(), truth[second].mean()))
            return answer

        return same_unit

    assert cluster_embeddings(points, same_unit=say(False)).num_units == 2
    assert {round(share) for pair in asked for share in pair} == {0, 1}
    assert cluster_embeddings(points, same_unit=say(True)).num_units == 1
    # twice the limit is not passed whatever the times say
    apart = points + 10.0 * truth[:, None] * np.eye(4)[0]
    assert cluster_embeddings(apart, same_unit=say(True)).num_units == 2
