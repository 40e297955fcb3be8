"""Which units of a large group are one neuron."""

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import as_recording, planted

from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.template_merging import _agglomerate, _common_activity, _like_pairs, join_units

NUM_CHANNELS = 24


def footprint(channel, size_uv):
    return size_uv * np.exp(-0.5 * ((np.arange(NUM_CHANNELS) - channel) / 1.5) ** 2)


@pytest.fixture(scope="module")
def neurons():
    """Group, spikes and neuron of each: one far away, two alike that fire too seldom for times to tell."""
    traces, samples, labels = planted(
        footprints_uv=(footprint(20.0, 140), footprint(6.0, 200), footprint(6.3, 180)),
        num_channels=NUM_CHANNELS,
        duration_s=60.0,
        rate_hz=3.0,
        noise_uv=6.0,
    )
    positions_um = np.column_stack([np.zeros(NUM_CHANNELS), 20.0 * np.arange(NUM_CHANNELS)])
    (group,) = split_groups(as_recording(traces, positions_um=positions_um), SortingParameters(), RunLog())
    spikes = np.zeros(len(samples), dtype=base_peak_dtype)
    spikes["sample_index"] = samples
    spikes["channel_index"] = np.array([20, 6, 6])[labels]
    return preprocess(group, SortingParameters(), RunLog()), spikes, labels


def test_neurons_with_like_templates_stay_two(neurons):
    group, spikes, labels = neurons
    pairs = _like_pairs(group, spikes, labels, 0.7, SortingParameters())
    assert list(pairs) == [(1, 2)] and pairs[1, 2][0] < 0.88  # alike enough to be asked about, and the far one is not
    assert join_units(group, spikes, labels, SortingParameters()) == {0: 0, 1: 1, 2: 2}
    joined = join_units(group, spikes, labels, SortingParameters(merge_bias=100.0))
    assert len(set(joined.values())) == 2 and joined[1] == joined[2] != joined[0]


def test_one_neuron_seen_from_two_channels_at_two_samples_is_one(neurons):
    group, spikes, labels = neurons
    # a third of neuron 1 peaks on the next channel, five samples later
    piece = np.flatnonzero(labels == 1)[::3]
    spikes, labels = spikes.copy(), labels.copy()
    labels[piece] = 7
    spikes["channel_index"][piece] = 7
    spikes["sample_index"][piece] += 5
    order = np.argsort(spikes["sample_index"], kind="stable")
    spikes, labels = spikes[order], labels[order]
    assert _like_pairs(group, spikes, np.searchsorted([0, 1, 2, 7], labels), 0.7, SortingParameters())[1, 3][1] == -5
    assert join_units(group, spikes, labels, SortingParameters()) == {0: 0, 1: 1, 2: 2, 7: 1}
    # the order of labels does not matter
    swapped = np.array([0, 7, 2, 0, 0, 0, 0, 1])[labels]
    assert join_units(group, spikes, swapped, SortingParameters()) == {0: 0, 7: 7, 2: 2, 1: 7}


def test_units_that_take_turns_are_one_where_that_is_asked_for(neurons):
    group, spikes, labels = neurons
    middle = group.recording.get_num_samples(0) // 2
    # neuron 1 falls silent when neuron 2 begins: as if the tissue had moved by a third of a contact
    is_kept = (labels == 0) | ((labels == 1) == (spikes["sample_index"] < middle))
    spikes, labels = spikes[is_kept], labels[is_kept]
    assert join_units(group, spikes, labels, SortingParameters()) == {0: 0, 1: 1, 2: 2}
    joined = join_units(group, spikes, labels, SortingParameters(), turns=0.3)
    assert joined[0] == 0 and joined[1] == joined[2] != 0
    # both at all times: they are two
    assert join_units(*neurons, SortingParameters(), turns=0.3) == {0: 0, 1: 1, 2: 2}


def test_common_activity():
    times_s, unit_index = np.array([*np.arange(0, 12), 0.5, 11.0, 11.5, 11.9]), np.array([0] * 12 + [1, 1, 2, 2])
    shares = _common_activity(times_s, unit_index)
    np.testing.assert_allclose(shares, [[1, 1 / 6, 1 / 12], [1 / 6, 1, 1 / 2], [1 / 12, 1 / 2, 1]])


def test_spikes_without_unit_are_nobodys(neurons):
    group, spikes, labels = neurons
    assert join_units(group, spikes, np.where(labels == 1, -1, labels), SortingParameters()) == {0: 0, 2: 2}
    assert join_units(group, spikes, np.where(labels == 2, 2, -1), SortingParameters()) == {2: 2}
    assert join_units(group, spikes, np.full(len(labels), -1), SortingParameters()) == {}


def groups_of(num_units, distances, evidence=lambda first, second: 0.0, limit=3.0):
    found = _agglomerate(num_units, np.full(num_units, 100), distances, evidence, limit)
    return sorted(sorted(group) for group in found)


def test_the_least_separated_join_first_and_none_beyond_the_limit():
    assert groups_of(4, {(0, 1): 1.0, (1, 2): 3.5}) == [[0, 1], [2], [3]]
    assert groups_of(3, {(0, 1): 1.0, (1, 2): 2.9}) == [[0, 1, 2]]
    # 1 is between 0 and 2, which are two: it joins the nearer one, and the mean keeps the other away
    assert groups_of(3, {(0, 1): 1.0, (1, 2): 0.5, (0, 2): 8.0}) == [[0], [1, 2]]


def test_evidence_of_times_adds_to_the_distance_and_is_asked_of_whole_groups():
    asked = []

    def evidence(first, second):
        asked.append((sorted(first), sorted(second)))
        return 2.5 if 3 in first + second else 0.0

    assert groups_of(4, {(0, 1): 0.0, (1, 2): 0.2, (1, 3): 1.0}, evidence) == [[0, 1, 2], [3]]
    assert any(sorted(map(len, pair)) == [1, 3] for pair in asked)
