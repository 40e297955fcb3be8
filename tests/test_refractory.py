import numpy as np
import pytest

from huidurep.clustering import cluster_embeddings
from huidurep.refractory import fire_independently

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
def test_two_neurons_fire_independently_and_pieces_of_one_do_not(seed):
    assert fire_independently(neuron(15.0, seed), neuron(15.0, 100 + seed))
    assert not fire_independently(*in_two(neuron(30.0, seed)))


def test_order_of_spikes_and_groups_does_not_matter():
    first, second = neuron(15.0, 0), neuron(15.0, 1)
    shuffled = np.random.default_rng(1).permutation(first)
    assert fire_independently(second, shuffled)


def test_some_spikes_of_another_neuron_are_borne():
    first, second = in_two(neuron(30.0, 0))
    assert not fire_independently(np.concatenate([first, neuron(2.0, 7)]), second)


def test_what_cannot_be_told_is_not_said():
    assert not fire_independently(neuron(0.5, 0), neuron(0.5, 1))  # 0.1 coincidences are expected
    assert not fire_independently(np.zeros(0), neuron(15.0, 1))
    early, late = neuron(20.0, 0, duration_s=50.0), neuron(20.0, 1, duration_s=50.0) + 100.0
    assert not fire_independently(early, late)  # as two units, or as one that drifts


def test_a_neuron_that_fires_in_bouts_is_one():
    # half of the time silent: rates over the whole would tell of fewer coincidences than there are at any lag
    bouts = np.concatenate([k * 10.0 + neuron(30.0, k, duration_s=5.0) for k in range(20)])
    assert not fire_independently(*in_two(bouts))


def test_overlapping_clusters_stay_two_where_their_times_say_so():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 1500)

    def clusters(distance):
        return rng.normal(size=(3000, 4)) + np.array([[0.0], [distance]])[truth] * np.eye(4)[0]

    asked = []

    def say(answer):
        def are_two(first, second):
            asked.append((truth[first].mean(), truth[second].mean()))
            return answer

        return are_two

    near = clusters(2.6)
    assert cluster_embeddings(near).num_units == cluster_embeddings(near, are_two=say(False)).num_units == 1
    assert cluster_embeddings(near, are_two=say(True)).num_units == 2
    assert any(round(first) != round(second) for first, second in asked)
    # clusters that are one cloud are not asked about
    assert cluster_embeddings(clusters(0.0), are_two=say(True)).num_units == 1
