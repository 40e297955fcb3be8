"""Floors on the accuracy of whole sortings of simulated recordings, by the shipped checkpoints at default parameters.

The embedding, the clustering and the matching may each change a little without a test of theirs noticing; what they
give together may not get worse. Seeds change the units, their spikes and the noise.
"""

import numpy as np
from spikeinterface.comparison import compare_sorter_to_ground_truth
from spikeinterface.core import NumpyRecording, NumpySorting

import huidurep

GAIN_UV, OFFSET_UV = 0.195, 38.0  # the gain of Intan's converters; no real offset in particular
DELTA_TIME_MS = 0.4  # as in benchmarks/sorting.py


def in_two_segments(recording, truth):
    """The recording as an acquisition system stores it: 16 bits, a gain, an offset, and a pause after 40 %."""
    traces = np.round((recording.get_traces() - OFFSET_UV) / GAIN_UV).astype(np.int16)
    rate_hz, cut = recording.get_sampling_frequency(), int(0.4 * len(traces))
    stored = NumpyRecording([traces[:cut], traces[cut:]], rate_hz)
    stored = stored.set_probe(recording.get_probe()) or stored
    stored.set_channel_gains(GAIN_UV)
    stored.set_channel_offsets(OFFSET_UV)
    spikes = truth.to_spike_vector()
    samples, labels = spikes["sample_index"], spikes["unit_index"]
    first = samples < cut
    parts = [samples[first], samples[~first] - cut], [labels[first], labels[~first]]
    return stored, NumpySorting.from_samples_and_labels(*parts, rate_hz)


def sort_and_compare(recording, truth):
    """Mean accuracy of all true units, of which one that was not found counts as 0; labels of accurate found units."""
    sorting = huidurep.SpikeSortingPipeline.from_pretrained("auto", seed=0)(recording).sorting
    compared = compare_sorter_to_ground_truth(truth, sorting, exhaustive_gt=True, delta_time=DELTA_TIME_MS)
    is_accurate = compared.agreement_scores.to_numpy().max(axis=0) >= 0.9
    labels = sorting.get_property("quality")[is_accurate].tolist()
    return float(compared.get_performance()["accuracy"].mean()), labels


TETRODE = dict(probe="tetrode", num_units=7, duration_s=30.0)
COLUMN = dict(probe="linear-16", num_units=10, duration_s=20.0)


# The floors lie below the worst of the seeds 1 to 4, and the tests take that seed, so that a loss shows. Measured in
# November 2026: tetrode 0.978, 0.986, 0.969 and 0.977, column 0.894, 0.884, 0.980 and 0.999 (below 0.9 one of the ten
# true units is missing).
def test_tetrode_in_two_segments_of_integers():
    recording, truth = huidurep.simulate_recording(**TETRODE, seed=3)
    assert sort_and_compare(*in_two_segments(recording, truth))[0] > 0.95


def test_column_of_sixteen_contacts():
    accuracy, labels = sort_and_compare(*huidurep.simulate_recording(**COLUMN, seed=2))
    assert accuracy > 0.86
    # each contact has a mixture of its own, whose posteriors say little of how well a unit is isolated
    assert len(labels) >= 7 and labels.count("good") >= len(labels) - 1


def test_one_neuron_on_a_wire_is_one_unit():
    # without alignment between samples, the phase of the sampling makes two units of each: 0.79 and 0.80
    recording, truth = huidurep.simulate_recording(probe="tetrode", num_units=1, duration_s=40.0, seed=105)
    largest = np.abs(recording.get_traces()).max(axis=0).argmax()
    wire = recording.select_channels(recording.channel_ids[[largest]])
    accuracy, labels = sort_and_compare(*in_two_segments(wire, truth))
    assert accuracy > 0.95 and labels == ["good"]
