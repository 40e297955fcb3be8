"""What becomes of the units of a large group that are none."""

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import as_recording, planted

from huidurep.sorting.clustering import GroupUnits
from huidurep.sorting.curation import clean_units
from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog

NUM_CHANNELS = 12
MIXTURES = [object(), object()]


def footprint(channel, size_uv, spread=1.2):
    return size_uv * np.exp(-0.5 * ((np.arange(NUM_CHANNELS) - channel) / spread) ** 2)


@pytest.fixture(scope="module")
def two_neurons():
    """Group, peaks, samples and labels of two neurons whose spikes look alike, and of one far away."""
    footprints = (footprint(3.0, 120), footprint(3.2, 110), footprint(9.0, 140))
    traces, samples, labels = planted(
        footprints_uv=footprints, num_channels=NUM_CHANNELS, duration_s=15.0, rate_hz=40.0, noise_uv=8.0
    )
    recording = as_recording(traces, positions_um=np.column_stack([np.zeros(12), 20.0 * np.arange(12)]))
    parameters = SortingParameters()
    (group,) = split_groups(recording, parameters, RunLog())
    group = preprocess(group, parameters, RunLog())
    return group, detect_spikes(group, parameters, RunLog()), samples, labels


def clean(two_neurons, samples, labels, channels, **parameters):
    """Labels that stay, spike by spike (-1: gone), the units after it and what the log says."""
    group, peaks, *_ = two_neurons
    spikes = np.zeros(len(samples), dtype=base_peak_dtype)
    spikes["sample_index"] = samples
    components = [(MIXTURES[unit % 2], np.array([unit])) for unit in range(len(channels))]
    units = GroupUnits(np.zeros(0, "int64"), np.zeros(0, "float32"), np.array(channels), components)
    log = RunLog()
    cleaned, kept, found = clean_units(group, peaks, units, spikes, labels, SortingParameters(**parameters), log)
    assert units.components == components
    assert (np.diff(kept["sample_index"]) >= 0).all()
    rows = {(sample, label): row for row, (sample, label) in enumerate(zip(samples, labels, strict=True))}
    assert len(rows) == len(samples) and len(kept) == len(found)
    return cleaned, kept, found, log


def test_pieces_of_one_neuron_join_and_neurons_that_look_alike_do_not(two_neurons):
    *_, samples, truth = two_neurons
    # every third spike of neuron 0 is a unit of its own, and a part of neuron 2 seen from the next channel
    labels = truth.copy()
    labels[np.flatnonzero(truth == 0)[::3]] = 4
    labels[np.flatnonzero(truth == 2)[::4]] = 3
    cleaned, kept, found, log = clean(two_neurons, samples, labels, (3, 3, 9, 8, 3))
    assert found.tolist() == truth.tolist()
    assert kept["channel_index"].tolist() == np.array([3, 3, 9])[truth].tolist()
    # unit 4 was a component of the same mixture as unit 0, unit 3 of another than unit 2
    assert cleaned.components[0][1].tolist() == [0, 4]
    assert cleaned.components[2][1].tolist() == [2]
    assert "2 units joined another, 0 were noise" in log.entries[-1]["message"]


def test_a_unit_matched_where_nothing_was_detected_goes(two_neurons):
    *_, samples, truth = two_neurons
    rng = np.random.default_rng(0)
    anywhere = np.sort(rng.choice(np.setdiff1d(np.arange(1000, 449000), samples), 500, replace=False))
    order = np.argsort(np.concatenate([samples, anywhere]), kind="stable")
    all_samples = np.concatenate([samples, anywhere])[order]
    labels = np.concatenate([truth, np.full(500, 3)])[order]
    *_, found, log = clean(two_neurons, all_samples, labels, (3, 3, 9, 6))
    assert found.tolist() == truth.tolist()
    assert "0 units joined another, 1 were noise" in log.entries[-1]["message"]


def test_units_that_were_asked_for_stay(two_neurons):
    *_, samples, truth = two_neurons
    labels = truth.copy()
    labels[np.flatnonzero(truth == 0)[::3]] = 3
    *_, found, log = clean(two_neurons, samples, labels, (3, 3, 9, 3), num_units=4)
    assert found.tolist() == labels.tolist() and not log.entries


def test_merge_bias(two_neurons):
    *_, samples, truth = two_neurons
    labels = truth.copy()
    labels[np.flatnonzero(truth == 0)[::3]] = 3
    *_, found, _ = clean(two_neurons, samples, labels, (3, 3, 9, 3), merge_bias=-100.0)
    assert found.tolist() == labels.tolist()


def test_nothing_found():
    none = np.zeros(0, dtype="int64")
    units = GroupUnits(none, np.zeros(0, "float32"), none)
    spikes = np.zeros(0, dtype=base_peak_dtype)
    assert clean_units(None, spikes, units, spikes, none, SortingParameters(), RunLog())[0] is units
