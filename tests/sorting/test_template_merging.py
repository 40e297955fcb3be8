"""Which units are one neuron."""

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import TETRODE_UM, as_recording, planted, waveform

from huidurep.clustering.separation import MergeSettings
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.template_merging import (
    RefractoryMergingSettings,
    TemplateMergingSettings,
    _agglomerate,
    _common_activity,
    _overlap_evidence,
    _Snippets,
    _template_similarity,
    _templates_alone,
    merge_refractory_units,
    merge_templates,
)

NUM_CHANNELS = 14
SETTINGS = TemplateMergingSettings()


def footprint(channel, size_uv):
    return size_uv * np.exp(-0.5 * ((np.arange(NUM_CHANNELS) - channel) / 1.5) ** 2)


@pytest.fixture(scope="module")
def neurons():
    """Group, spikes and neuron of each: one far away, two alike that fire too seldom for times to tell."""
    traces, samples, labels = planted(
        footprints_uv=(footprint(12.0, 140), footprint(6.0, 200), footprint(6.3, 180)),
        num_channels=NUM_CHANNELS,
        duration_s=60.0,
        rate_hz=3.0,
        noise_uv=6.0,
    )
    positions_um = np.column_stack([np.zeros(NUM_CHANNELS), 20.0 * np.arange(NUM_CHANNELS)])
    (group,) = split_groups(as_recording(traces, positions_um=positions_um), SortingParameters(), RunLog())
    spikes = np.zeros(len(samples), dtype=base_peak_dtype)
    spikes["sample_index"] = samples
    spikes["channel_index"] = np.array([12, 6, 6])[labels]
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

    return _agglomerate(np.full(num_units, 100), distances, statistic, limit, SETTINGS.unlike_distance)


def test_distances_of_merged_units_are_averaged():
    assert groups_of(4, {(0, 1): 1.0, (1, 2): 3.5, (0, 2): 3.0}) == [[0, 1], [2], [3]]
    assert groups_of(3, {(0, 1): 1.0, (1, 2): 2.5, (0, 2): 3.4}) == [[0, 1, 2]]
    # 1 is between 0 and 2: it is merged with the nearer one, and the average distance to the other exceeds the limit
    assert groups_of(3, {(0, 1): 1.0, (1, 2): 0.5, (0, 2): 8.0}) == [[0], [1, 2]]


def test_units_that_were_not_compared_are_not_chained():
    """Clusters of noise, each like the next channel's, had merged a unit with others that are far from it."""
    chain = {(unit, unit + 1): 0.1 * (unit + 1) for unit in range(5)}
    assert groups_of(6, chain) == [[0, 1], [2, 3], [4, 5]]
    # one pair that was not compared does not outweigh several that are alike
    assert groups_of(4, {(0, 1): 0.1, (2, 3): 0.2, (0, 2): 0.3, (1, 2): 0.3, (1, 3): 0.3}) == [[0, 1, 2, 3]]


def test_of_units_with_equal_distances_the_most_similar_are_merged(neurons):
    """A part of one neuron has D = 0 from another if it is small; the similarity of templates tells them apart."""
    group, spikes, labels = neurons
    part = np.flatnonzero(labels == 2)[::12]
    labels = labels.copy()
    labels[part] = 3
    pairs = similar_pairs(group, spikes, labels)
    few = TemplateMergingSettings(merge=MergeSettings(min_gain_per_log_spikes=1e6))  # D is 0 for all pairs
    assert pairs[1, 3][0] < pairs[2, 3][0] and SETTINGS.same_template_similarity > pairs[1, 2][0]
    snippets = _Snippets(group, spikes, labels, SortingParameters(), few, None)
    distances = snippets.distances(pairs, np.zeros((4, 4), dtype=bool))
    assert distances[2, 3] < distances[1, 3] == pytest.approx(1.0 - pairs[1, 3][0])


def test_refractory_ratio_is_that_of_all_merged_units():
    asked = []

    def ratio(first, second):
        asked.append((sorted(first), sorted(second)))
        return 2.5 if 3 in first + second else 0.0

    distances = {(0, 1): 0.0, (1, 2): 0.2, (0, 2): 0.2, (0, 3): 1.0, (1, 3): 1.0, (2, 3): 1.0}
    assert groups_of(4, distances, ratio) == [[0, 1, 2], [3]]
    assert any(sorted(map(len, pair)) == [1, 3] for pair in asked)


def bursting(factor, times_between, seed=0, num_bursts=150):
    """Group, spikes and cluster of each, of a neuron in bursts of two; the second spikes are a cluster of their own."""
    rng = np.random.default_rng(seed)
    first = 1000 + np.cumsum(rng.integers(3000, 4500, num_bursts))
    second = first + rng.integers(*times_between, num_bursts)
    traces = rng.normal(0, 6.0, (int(second[-1]) + 3000, 4)).astype("float32")
    for train, size in ((first, 1.0), (second, factor)):
        shape = size * waveform()[:, None] * np.array([200.0, 120, 60, 90], dtype="float32")
        for sample in train:
            traces[sample - 20 : sample + 40] += shape
    spikes = np.zeros(2 * num_bursts, dtype=base_peak_dtype)
    spikes["sample_index"] = np.concatenate([first, second])
    labels, order = np.repeat([0, 1], num_bursts), np.argsort(spikes["sample_index"])
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), SortingParameters(), RunLog())
    return preprocess(group, SortingParameters(), RunLog()), spikes[order], labels[order]


def test_smaller_spikes_of_a_burst_are_merged():
    group, spikes, labels = bursting(0.6, (90, 240))  # 3 to 8 ms
    merged = merge_refractory_units(group, spikes, labels, SortingParameters())
    assert set(merged.tolist()) == {0}
    kept = merge_refractory_units(group, spikes, labels, SortingParameters(merge_bias=-1000.0))
    assert np.array_equal(kept, labels)


def test_spikes_that_overlap_with_a_third_unit_are_no_unit():
    rng = np.random.default_rng(0)
    fast = np.cumsum(60 + rng.integers(0, 780, 2800))  # 66 Hz at 30 kHz
    slow = np.sort(rng.integers(0, fast[-1], 400))
    is_near = np.abs(slow[:, None] - fast).min(axis=1) <= 60
    overlapping, others = slow[is_near], slow[~is_near]
    assert _overlap_evidence(others, overlapping, [fast], 90) > 20
    assert _overlap_evidence(overlapping, others, [slow[::3] + 200, fast], 90) > 20
    # chance, a neuron that the third one drives, no third one that overlaps
    assert _overlap_evidence(slow[::2], slow[1::2], [fast], 90) < 1
    assert _overlap_evidence(slow, fast[::20] + 60, [fast], 90) == 0.0
    assert _overlap_evidence(slow, fast, [], 90) == 0.0


def test_a_smaller_neuron_that_fires_at_all_lags_is_not_merged():
    group, spikes, labels = bursting(0.6, (30, 240))  # 1 to 8 ms: no refractory period between them
    assert np.array_equal(merge_refractory_units(group, spikes, labels, SortingParameters()), labels)


@pytest.mark.parametrize(("size", "later", "is_one"), [(1.0, 0.5, True), (0.97, 0.0, True), (0.7, 0.0, False)])
def test_clusters_of_one_waveform_are_one_neuron(size, later, is_one):
    # 60 spikes in 30 s: too few for spike times to tell; half a sample is a fifth of the width of the trough
    rng = np.random.default_rng(0)
    samples = 1000 + np.cumsum(rng.integers(10000, 20000, 60))
    traces = rng.normal(0, 6.0, (int(samples[-1]) + 3000, 4)).astype("float32")
    footprint_uv = np.array([200.0, 120, 60, 90], dtype="float32")
    labels = np.arange(60) % 3 // 2
    for sample, label in zip(samples, labels, strict=True):
        shape = (size if label else 1.0) * waveform(width=2.5, peak=20 + later * label)
        traces[sample - 20 : sample + 40] += shape[:, None] * footprint_uv
    spikes = np.zeros(60, dtype=base_peak_dtype)
    spikes["sample_index"] = samples
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), SortingParameters(), RunLog())
    group = preprocess(group, SortingParameters(), RunLog())
    merged = merge_refractory_units(group, spikes, labels, SortingParameters())
    assert len(set(merged.tolist())) == 2 - is_one


@pytest.mark.parametrize("min_alone_spikes", [10, 150], ids=["alone", "what-overlaps-subtracted"])
def test_templates_are_compared_without_overlapping_spikes(min_alone_spikes):
    # two of three spikes of a neuron have one of another neuron a millisecond later
    rng = np.random.default_rng(0)
    first = 1000 + np.cumsum(rng.integers(600, 900, 300))
    second = np.sort(np.concatenate([first[np.arange(300) % 3 > 0] + 30, first[-1] + 400 * np.arange(1, 201)]))
    sizes_uv = np.array([[200.0, 120, 60, 90], [50.0, 160, 80, 40]], dtype="float32")
    traces = rng.normal(0, 3.0, (int(second[-1]) + 3000, 4)).astype("float32")
    for train, footprint_uv in zip((first, second), sizes_uv, strict=True):
        for sample in train:
            traces[sample - 20 : sample + 40] += waveform()[:, None] * footprint_uv
    spikes = np.zeros(len(first) + len(second), dtype=base_peak_dtype)
    spikes["sample_index"] = np.concatenate([first, second])
    labels, order = np.repeat([0, 1], [len(first), len(second)]), np.argsort(spikes["sample_index"])
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), SortingParameters(), RunLog())
    group, parameters = preprocess(group, SortingParameters(), RunLog()), SortingParameters()
    own = RefractoryMergingSettings(min_alone_spikes=min_alone_spikes)
    found = _templates_alone(spikes[order], labels[order], [first, second], group, parameters, own, None)
    after = slice(parameters.num_samples_before(30000.0) + 20, None)
    spread = np.abs(found[0][after, 1]).max()
    assert spread < 60  # the hump of its own; the other neuron's trough is 160 deep


def test_similarity_is_that_of_spikeinterface():
    from spikeinterface.postprocessing.template_similarity import compute_similarity_with_templates_array

    rng = np.random.default_rng(0)
    templates = rng.normal(size=(3, 40, 5)).astype("float32")
    templates[2] = np.roll(templates[1], 3, axis=0)  # later by three samples
    mask = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=bool)
    found = _template_similarity(templates, mask, np.ones((3, 3), dtype=bool), 4)
    # two arrays that are not equal: SpikeInterface tries shifts of both signs
    expected, shifts = compute_similarity_with_templates_array(
        templates[:2], templates, method="l1", num_shifts=4, sparsity=mask[:2], other_sparsity=mask
    )
    assert set(found) == {(0, 1), (0, 2), (1, 2)} and found[1, 2][1] == 3
    for (i, j), (similarity, shift) in found.items():
        assert (similarity, shift) == (pytest.approx(expected[i, j], abs=1e-5), shifts[i, j])


def test_templates_without_a_common_channel_are_not_compared():
    mask = np.eye(2, dtype=bool)
    assert _template_similarity(np.ones((2, 20, 2), "float32"), mask, np.ones((2, 2), dtype=bool), 2) == {}


def test_a_window_that_hardly_reaches_beyond_the_trough_is_enough():
    group, spikes, labels = bursting(0.6, (90, 240))
    merged = merge_refractory_units(group, spikes, labels, SortingParameters(ms_before=1.0, ms_after=0.1))
    assert set(merged.tolist()) <= {0, 1}
