"""Noise units, over-split units, and reassignment by the posteriors of the mixture."""

from dataclasses import replace

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import as_recording, planted

from huidurep.clustering.mixture import cluster_embeddings
from huidurep.clustering.separation import MergeSettings
from huidurep.sorting.clustering import UnitModel
from huidurep.sorting.curation import (
    CurationSettings,
    merge_over_split_units,
    reassign_spikes,
    remove_noise_units,
)
from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.template_merging import RefractoryMergingSettings

NUM_CHANNELS = 12
SETTINGS = CurationSettings()
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


def units_on(channels):
    components = tuple((MIXTURES[unit % 2], np.array([unit])) for unit in range(len(channels)))
    return UnitModel(np.array(channels), components)


def spikes_of(samples, labels, channels):
    spikes = np.zeros(len(samples), dtype=base_peak_dtype)
    spikes["sample_index"] = samples
    spikes["channel_index"] = np.array(channels)[labels]
    return spikes


def merge(two_neurons, samples, labels, channels, settings=SETTINGS, **parameters):
    """Units, spikes and labels after merging, and the log."""
    group, *_ = two_neurons
    units, log = units_on(channels), RunLog()
    before, components = labels.copy(), units.components
    merged, spikes, found = merge_over_split_units(
        group,
        units,
        spikes_of(samples, labels, channels),
        labels,
        SortingParameters(**parameters),
        log,
        settings=settings,
    )
    assert np.array_equal(labels, before) and units.components == components
    assert (np.diff(spikes["sample_index"]) >= 0).all() and len(spikes) == len(found)
    return merged, spikes, found, log


def test_over_split_units_are_merged_and_similar_neurons_are_not(two_neurons):
    *_, samples, truth = two_neurons
    # every third spike of neuron 0 is a unit of its own, and a part of neuron 2 was found on the next channel
    labels = truth.copy()
    labels[np.flatnonzero(truth == 0)[::3]] = 4
    labels[np.flatnonzero(truth == 2)[::4]] = 3
    units, spikes, found, log = merge(two_neurons, samples, labels, (3, 3, 9, 8, 3))
    assert found.tolist() == truth.tolist()
    assert spikes["channel_index"].tolist() == np.array([3, 3, 9])[truth].tolist()
    # unit 4 was a component of the same mixture as unit 0, unit 3 of another than unit 2
    assert units.components[0][1].tolist() == [0, 4]
    assert units.components[2][1].tolist() == [2]
    assert "2 over-split units" in log.entries[-1]["message"]


def over_split(truth):
    labels = truth.copy()
    labels[np.flatnonzero(truth == 0)[::3]] = 3
    return labels


def test_merge_limits(two_neurons):
    *_, samples, truth = two_neurons
    labels = over_split(truth)
    *_, found, _ = merge(two_neurons, samples, labels, (3, 3, 9, 3), merge_bias=-100.0)
    assert found.tolist() == labels.tolist()
    merging = replace(SETTINGS.template_merging, merge=MergeSettings(limit=-100.0))
    never = RefractoryMergingSettings(min_log_likelihood_ratio=1e6, same_difference=(-1.0, 0.0))
    settings = CurationSettings(template_merging=merging, refractory_merging=never)
    *_, found, _ = merge(two_neurons, samples, labels, (3, 3, 9, 3), settings)
    assert found.tolist() == labels.tolist()


def test_given_units_are_not_merged(two_neurons):
    *_, samples, truth = two_neurons
    labels = over_split(truth)
    *_, found, log = merge(two_neurons, samples, labels, (3, 3, 9, 3), num_units=4)
    assert found.tolist() == labels.tolist() and not log.entries


def test_units_matched_where_nothing_was_detected_are_noise(two_neurons):
    group, peaks, samples, truth = two_neurons
    rng = np.random.default_rng(0)
    anywhere = np.sort(rng.choice(np.setdiff1d(np.arange(1000, 449000), samples), 500, replace=False))
    order = np.argsort(np.concatenate([samples, anywhere]), kind="stable")
    labels = np.concatenate([truth, np.full(500, 3)])[order]
    channels = (3, 3, 9, 6)
    spikes, log = spikes_of(np.concatenate([samples, anywhere])[order], labels, channels), RunLog()
    arguments = group, peaks, units_on(channels), spikes, labels
    kept, found = remove_noise_units(*arguments, SortingParameters(), log)
    assert found.tolist() == truth.tolist() and kept["sample_index"].tolist() == samples.tolist()
    assert "1 noise units" in log.entries[-1]["message"]
    settings = CurationSettings(min_detected_share=0.0)
    assert len(remove_noise_units(*arguments, SortingParameters(), RunLog(), settings=settings)[0]) == len(spikes)
    assert len(remove_noise_units(*arguments, SortingParameters(num_units=4), RunLog())[0]) == len(spikes)


def test_no_spikes_to_curate():
    none = np.zeros(0, dtype="int64")
    units, spikes = UnitModel(none), np.zeros(0, dtype=base_peak_dtype)
    assert len(remove_noise_units(None, spikes, units, spikes, none, SortingParameters(), RunLog())[0]) == 0
    assert merge_over_split_units(None, units, spikes, none, SortingParameters(), RunLog())[0] is units


class Mixture:
    """The embedding of a spike is already the posterior of every component."""

    def __init__(self, num_units):
        self.num_units = num_units

    def unit_posteriors(self, embeddings, times_s):
        return np.column_stack([embeddings, 1 - embeddings.sum(1)]).astype("float32")

    def posterior_of(self, embeddings, labels, times_s):
        return self.unit_posteriors(embeddings, times_s)[np.arange(len(embeddings)), labels]


def units_of(mixture, *, members=None):
    members = [[unit] for unit in range(mixture.num_units)] if members is None else members
    components = tuple((mixture, np.array(each)) for each in members)
    return UnitModel(np.zeros(len(members), dtype="int64"), components)


def reassign(posteriors, labels, *, members=None, settings=SETTINGS, **parameters):
    posteriors, labels, log = np.array(posteriors), np.array(labels), RunLog()
    units = units_of(Mixture(posteriors.shape[1]), members=members)
    before, components = labels.copy(), units.components
    found = reassign_spikes(
        units, posteriors, labels, np.arange(len(labels)), SortingParameters(**parameters), log, settings=settings
    )
    assert np.array_equal(labels, before) and units.components == components
    return found, log


SURE = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.0, 0.0, 1.0]] * 4
LABELS = [0] * 4 + [1] * 4 + [2] * 4
# the spikes of unit 2 look like unit 0's
OVER_SPLIT = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.7, 0.0, 0.3]] * 4
# the spikes of unit 2 have low posteriors for all units
OF_NO_UNIT = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.2, 0.2, 0.3]] * 4


def test_units_that_fit_the_mixture_are_kept():
    found, log = reassign(SURE, LABELS)
    assert found.labels.tolist() == LABELS
    assert found.posteriors == pytest.approx([0.9] * 8 + [1.0] * 4)
    assert not log.entries


def test_over_split_units_are_reassigned():
    found, log = reassign(OVER_SPLIT, LABELS)
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert found.posteriors == pytest.approx([0.9] * 8 + [1.0] * 4)
    assert "1 units merged, 0 units removed" in log.entries[-1]["message"]


def test_units_of_low_mean_posterior_are_removed():
    found, log = reassign(OF_NO_UNIT, LABELS)
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [-1] * 4
    assert found.posteriors == pytest.approx([0.9] * 8 + [0.0] * 4)
    assert "0 units merged, 1 units removed" in log.entries[-1]["message"]
    found, log = reassign(OF_NO_UNIT, LABELS, settings=CurationSettings(min_mean_posterior=0.25))
    assert found.labels.tolist() == LABELS and not log.entries


@pytest.mark.parametrize("posteriors", [OVER_SPLIT, OF_NO_UNIT])
def test_given_units_are_not_reassigned(posteriors):
    found, log = reassign(posteriors, LABELS, num_units=3)
    assert found.labels.tolist() == LABELS
    assert found.posteriors == pytest.approx([0.9] * 8 + [0.3] * 4)
    assert not log.entries


def test_posteriors_of_components_are_added():
    # unit 0 is components 1 and 2, unit 1 is component 0
    posteriors = [[0.1, 0.45, 0.45]] * 4 + [[0.8, 0.1, 0.1]] * 4
    found, log = reassign(posteriors, [0] * 4 + [1] * 4, members=[[1, 2], [0]])
    assert found.labels.tolist() == [0] * 4 + [1] * 4
    assert found.posteriors == pytest.approx([0.9] * 4 + [0.8] * 4)
    assert not log.entries


def test_units_of_several_mixtures_are_not_compared():
    first, second = Mixture(1), Mixture(1)
    units = UnitModel(np.array([0, 1]), ((first, np.array([0])), (second, np.array([0]))))
    found = reassign_spikes(
        units, np.full((4, 1), 0.2), np.array([0, 0, 1, 1]), np.arange(4), SortingParameters(), RunLog()
    )
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.posteriors == pytest.approx([0.2] * 4)


def test_no_spikes_to_reassign():
    found = reassign_spikes(
        units_of(Mixture(2)), np.zeros((0, 2)), np.zeros(0, dtype="int64"), np.zeros(0), SortingParameters(), RunLog()
    )
    assert len(found.labels) == len(found.posteriors) == 0


def test_a_cluster_that_matching_split_is_reassigned():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 200)
    embeddings = 20.0 * np.eye(4)[truth] + rng.normal(size=(600, 4))
    mixture = cluster_embeddings(embeddings)
    assert mixture.num_units == 3
    units = units_of(mixture)
    # matching gives unit 1 spikes of the cluster of unit 0 only
    is_seen = mixture.labels != 1
    embeddings, labels = embeddings[is_seen], mixture.labels[is_seen]
    matched = np.where((labels == 0) & (rng.random(len(labels)) < 0.4), 1, labels)
    found = reassign_spikes(units, embeddings, matched, np.arange(len(matched)), SortingParameters(), RunLog())
    assert np.array_equal(found.labels, labels)
    assert np.median(found.posteriors) > 0.99
