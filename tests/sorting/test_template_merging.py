"""Which units of a large group are one neuron, and which are redundant."""

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import as_recording, planted

from huidurep.clustering.separation import MergeSettings
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.template_merging import (
    TemplateMergingSettings,
    _agglomerate,
    _common_activity,
    _Snippets,
    merge_templates,
    remove_redundant_units,
)

NUM_CHANNELS = 24
SETTINGS = TemplateMergingSettings()


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


def merges(group, spikes, labels, settings=SETTINGS, **parameters):
    """Label of every unit before and after merging."""
    before = labels.copy()
    merged = merge_templates(group, spikes, labels, SortingParameters(**parameters), settings=settings)
    assert np.array_equal(labels, before) and ((merged < 0) == (labels < 0)).all()
    found = set(zip(labels[labels >= 0].tolist(), merged[labels >= 0].tolist(), strict=True))
    assert len(found) == len(dict(found))
    return dict(sorted(found))


def similar_pairs(group, spikes, unit_index):
    return _Snippets(group, spikes, unit_index, SortingParameters(), SETTINGS, None).similar_pairs()


def test_neurons_with_similar_templates_are_not_merged(neurons):
    group, spikes, labels = neurons
    pairs = similar_pairs(group, spikes, labels)
    assert list(pairs) == [(1, 2)] and SETTINGS.min_similarity <= pairs[1, 2][0] < SETTINGS.same_template_similarity
    assert merges(*neurons) == {0: 0, 1: 1, 2: 2}
    merged = merges(*neurons, merge_bias=100.0)
    assert len(set(merged.values())) == 2 and merged[1] == merged[2] != merged[0]
    assert merges(*neurons, TemplateMergingSettings(merge=MergeSettings(limit=103.0))) == merged
    assert merges(*neurons, TemplateMergingSettings(min_similarity=0.9), merge_bias=100.0) == {0: 0, 1: 1, 2: 2}


def test_one_neuron_found_on_two_channels_at_two_samples_is_merged(neurons):
    group, spikes, labels = neurons
    # a third of neuron 1 peaks on the next channel, five samples later
    part = np.flatnonzero(labels == 1)[::3]
    spikes, labels = spikes.copy(), labels.copy()
    labels[part] = 7
    spikes["channel_index"][part] = 7
    spikes["sample_index"][part] += 5
    order = np.argsort(spikes["sample_index"], kind="stable")
    spikes, labels = spikes[order], labels[order]
    assert similar_pairs(group, spikes, np.searchsorted([0, 1, 2, 7], labels))[1, 3][1] == -5
    assert merges(group, spikes, labels) == {0: 0, 1: 1, 2: 2, 7: 1}
    # the order of labels does not matter
    swapped = np.array([0, 7, 2, 0, 0, 0, 0, 1])[labels]
    assert merges(group, spikes, swapped) == {0: 0, 1: 7, 2: 2, 7: 7}


def test_units_that_fire_at_different_times_are_merged_where_that_is_asked_for(neurons):
    group, spikes, labels = neurons
    middle = group.recording.get_num_samples(0) // 2
    # neuron 1 stops firing when neuron 2 starts, as if the probe had moved by a third of a contact
    is_kept = (labels == 0) | ((labels == 1) == (spikes["sample_index"] < middle))
    spikes, labels = spikes[is_kept], labels[is_kept]
    assert merges(group, spikes, labels) == {0: 0, 1: 1, 2: 2}
    settings = TemplateMergingSettings(min_common_activity=0.3)
    merged = merges(group, spikes, labels, settings)
    assert merged[0] == 0 and merged[1] == merged[2] != 0
    # both fire at all times: they are two
    assert merges(*neurons, settings) == {0: 0, 1: 1, 2: 2}


def test_common_activity():
    times_s, unit_index = np.array([*np.arange(0, 12), 0.5, 11.0, 11.5, 11.9]), np.array([0] * 12 + [1, 1, 2, 2])
    shares = _common_activity(times_s, unit_index, 12)
    np.testing.assert_allclose(shares, [[1, 1 / 6, 1 / 12], [1 / 6, 1, 1 / 2], [1 / 12, 1 / 2, 1]])


def test_spikes_without_unit_are_ignored(neurons):
    group, spikes, labels = neurons
    assert merges(group, spikes, np.where(labels == 1, -1, labels)) == {0: 0, 2: 2}
    assert merges(group, spikes, np.where(labels == 2, 2, -1)) == {2: 2}
    assert merges(group, spikes, np.full(len(labels), -1)) == {}


def groups_of(num_units, distances, ratio=lambda first, second: 0.0, limit=3.0):
    def statistic(distance, first, second):
        return distance + ratio(first, second)

    return _agglomerate(np.full(num_units, 100), distances, statistic, limit)


def test_distances_of_merged_units_are_averaged():
    assert groups_of(4, {(0, 1): 1.0, (1, 2): 3.5}) == [[0, 1], [2], [3]]
    assert groups_of(3, {(0, 1): 1.0, (1, 2): 2.9}) == [[0, 1, 2]]
    # 1 is between 0 and 2: it is merged with the nearer one, and the average distance to the other exceeds the limit
    assert groups_of(3, {(0, 1): 1.0, (1, 2): 0.5, (0, 2): 8.0}) == [[0], [1, 2]]


def test_refractory_ratio_is_that_of_all_merged_units():
    asked = []

    def ratio(first, second):
        asked.append((sorted(first), sorted(second)))
        return 2.5 if 3 in first + second else 0.0

    assert groups_of(4, {(0, 1): 0.0, (1, 2): 0.2, (1, 3): 1.0}, ratio) == [[0, 1, 2], [3]]
    assert any(sorted(map(len, pair)) == [1, 3] for pair in asked)


def peaks_of(*trains, amplitudes):
    """Peaks in order of time and their labels, of trains (samples) with one amplitude each."""
    labels = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    peaks = np.zeros(len(labels), dtype=base_peak_dtype)
    peaks["sample_index"] = np.concatenate(trains)
    peaks["amplitude"] = -np.asarray(amplitudes, dtype=float)[labels]
    order = np.argsort(peaks["sample_index"], kind="stable")
    return peaks[order], labels[order]


def kept_units(*trains, amplitudes, settings=SETTINGS):
    peaks, labels = peaks_of(*trains, amplitudes=amplitudes)
    before = labels.copy()
    recording = as_recording(np.zeros((600000, 2), dtype="float32"))
    kept = remove_redundant_units(labels, peaks, recording, settings=settings)
    assert np.array_equal(labels, before)
    assert (kept[kept >= 0] == labels[kept >= 0]).all()
    return set(kept[kept >= 0].tolist())


def train(seed, num_spikes=400):
    return np.sort(np.random.default_rng(seed).choice(590000, num_spikes, replace=False))


def test_the_smaller_of_two_redundant_units_is_removed():
    # half a millisecond after two of three spikes, and a few other spikes
    redundant = np.concatenate([train(0)[::3], train(0)[1::3]]) + 15
    redundant = np.sort(np.concatenate([redundant, train(5, 30)]))
    assert kept_units(train(0), redundant, train(1), amplitudes=(200, 40, 50)) == {0, 2}
    assert kept_units(redundant, train(1), train(0), amplitudes=(40, 50, 200)) == {1, 2}


def test_units_with_few_coincident_spikes_are_kept():
    often = np.sort(np.concatenate([train(0)[::4] + 10, train(2, 300)]))
    assert kept_units(train(0), often, amplitudes=(200, 40)) == {0, 1}
    settings = TemplateMergingSettings(min_redundant_share=0.2)
    assert kept_units(train(0), often, amplitudes=(200, 40), settings=settings) == {0}


def test_one_unit_and_none():
    assert kept_units(train(0), amplitudes=(100,)) == {0}
    assert kept_units(train(0)[:0], amplitudes=(100,)) == set()
