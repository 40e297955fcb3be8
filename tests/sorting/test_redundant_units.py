import numpy as np
from spikeinterface.core.base import base_peak_dtype
from stand_in import as_recording

from huidurep.sorting.template_merging import drop_echoes


def peaks_of(*trains, amplitudes):
    """Peaks in order of time and their labels, of trains (samples) with one amplitude each."""
    labels = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    peaks = np.zeros(len(labels), dtype=base_peak_dtype)
    peaks["sample_index"] = np.concatenate(trains)
    peaks["amplitude"] = -np.asarray(amplitudes, dtype=float)[labels]
    order = np.argsort(peaks["sample_index"], kind="stable")
    return peaks[order], labels[order]


def drop(*trains, amplitudes):
    peaks, labels = peaks_of(*trains, amplitudes=amplitudes)
    before = labels.copy()
    dropped = drop_echoes(labels, peaks, as_recording(np.zeros((600000, 2), dtype="float32")))
    assert np.array_equal(labels, before)
    assert (dropped[dropped >= 0] == labels[dropped >= 0]).all()
    return set(dropped[dropped >= 0].tolist())


def train(seed, num_spikes=400):
    return np.sort(np.random.default_rng(seed).choice(590000, num_spikes, replace=False))


def test_the_smaller_unit_of_an_echo_goes():
    # half a millisecond after two spikes in three, and a few spikes of its own
    echo = np.concatenate([train(0)[::3], train(0)[1::3]]) + 15
    echo = np.sort(np.concatenate([echo, train(5, 30)]))
    assert drop(train(0), echo, train(1), amplitudes=(200, 40, 50)) == {0, 2}
    assert drop(echo, train(1), train(0), amplitudes=(40, 50, 200)) == {1, 2}


def test_neurons_that_now_and_then_fire_together_stay():
    often = np.sort(np.concatenate([train(0)[::4] + 10, train(2, 300)]))
    assert drop(train(0), often, amplitudes=(200, 40)) == {0, 1}


def test_one_unit_and_none():
    assert drop(train(0), amplitudes=(100,)) == {0}
    assert drop(train(0)[:0], amplitudes=(100,)) == set()
