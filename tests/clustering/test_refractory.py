import numpy as np
import pytest

from huidurep.clustering import mixture as clustering
from huidurep.clustering.mixture import cluster_embeddings
from huidurep.clustering.refractory import evidence_of_two

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
def test_two_neurons_give_evidence_and_pieces_of_one_do_not(seed):
    assert evidence_of_two(neuron(15.0, seed), neuron(15.0, 100 + seed)) > 20
    assert evidence_of_two(*in_two(neuron(30.0, seed))) == 0


def test_evidence_is_a_log_likelihood_ratio():
    # one spike 2 ms after another, and 50 at lags of 10 to 60 ms: two coincidences are expected of two neurons
    first, second = np.array([1.0]), 1.0 + np.array([0.002, 0.0025, *np.linspace(0.0105, 0.0595, 50)])
    assert evidence_of_two(first, second) == pytest.approx(2 * np.log(0.95 / 0.3) - 0.65 * 2)


def test_order_of_spikes_and_groups_does_not_matter():
    first, second = neuron(15.0, 0), neuron(15.0, 1)
    shuffled = np.random.default_rng(1).permutation(first)
    assert evidence_of_two(second, shuffled) == evidence_of_two(first, second)


def test_some_spikes_of_another_neuron_are_borne():
    first, second = in_two(neuron(30.0, 0))
    assert evidence_of_two(np.concatenate([first, neuron(2.0, 7)]), second) == 0


def test_what_cannot_be_told_is_not_said():
    assert evidence_of_two(neuron(0.5, 0), neuron(0.5, 1)) < 1  # 0.2 coincidences are expected
    assert evidence_of_two(np.zeros(0), neuron(15.0, 1)) == 0
    early, late = neuron(20.0, 0, duration_s=50.0), neuron(20.0, 1, duration_s=50.0) + 100.0
    assert evidence_of_two(early, late) == 0  # as two units, or as one that drifts


def test_a_neuron_that_fires_in_bouts_is_one():
    # half of the time silent: rates over the whole would tell of fewer coincidences than there are at any lag
    bouts = np.concatenate([k * 10.0 + neuron(30.0, k, duration_s=5.0) for k in range(20)])
    assert evidence_of_two(*in_two(bouts)) == 0


def test_overlapping_clusters_stay_two_where_their_times_say_so(monkeypatch):
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 1500)

    def clusters(distance):
        return rng.normal(size=(3000, 4)) + np.array([[0.0], [distance]])[truth] * np.eye(4)[0]

    asked = []
    times_s = rng.permutation(3000) * 1e-3  # so short that no movement is looked for

    def found(points, answer):
        def evidence(first_s, second_s):
            first, second = (truth[np.searchsorted(ordered, each)].mean() for each in (first_s, second_s))
            asked.append((first, second))
            return answer(round(first) != round(second))

        order = np.argsort(times_s)
        ordered, truth = times_s[order], np.repeat([0, 1], 1500)[order]
        monkeypatch.setattr(clustering, "evidence_of_two", evidence)
        return cluster_embeddings(points, times_s=times_s)

    near = clusters(2.6)
    assert cluster_embeddings(near).num_units == found(near, lambda is_two: 0.0).num_units == 1
    assert any(round(first) != round(second) for first, second in asked)
    # pieces of one cloud are below 1 apart: times that say little (1.0) do not keep them two
    assert found(clusters(0.0), lambda is_two: 1.0).num_units == 1
    # 2.6 apart, with what times say: more than 3
    told = found(near, lambda is_two: 2.0 * is_two)
    assert told.num_units == 2 and np.mean(told.labels == truth) not in (0.5, 1.0)
    assert max(np.mean(told.labels == truth), np.mean(told.labels != truth)) > 0.85
