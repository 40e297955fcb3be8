from dataclasses import replace

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import TETRODE_UM, as_recording, planted, share_found, waveform

from huidurep.sorting.clustering import Assignment, UnitModel
from huidurep.sorting.matching import MatchingSettings, match_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog


def truth_as_units(samples, labels, num_units):
    peaks = np.zeros(len(samples), dtype=base_peak_dtype)
    peaks["sample_index"] = samples
    assignment = Assignment(labels, np.ones(len(labels), dtype="float32"))
    return peaks, UnitModel(np.arange(num_units)), assignment


def match(traces, samples, labels, **parameters):
    parameters = SortingParameters(**parameters)
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    group = preprocess(group, parameters, RunLog())
    return match_spikes(group, *truth_as_units(samples, labels, 3), parameters, RunLog())


@pytest.mark.parametrize("method", ["wobble", pytest.param("tdc-peeler", marks=pytest.mark.slow), "circus-omp"])
def test_overlapping_spikes_are_found(method):
    traces, samples, labels = planted(rate_hz=40.0, duration_s=8.0, noise_uv=4.0)
    # templates are those of half of the spikes; all have to be found
    taught = np.arange(len(samples)) % 2 == 0
    spikes, found = match(traces, samples[taught], labels[taught], matching=method)
    for unit in range(3):
        assert share_found(samples[labels == unit], spikes["sample_index"][found == unit]) > 0.85
        assert (found == unit).sum() < 1.1 * (labels == unit).sum()
    assert (spikes["channel_index"] == found).all()  # the channel of the unit
    assert (np.diff(spikes["sample_index"]) >= 0).all()


def test_none_keeps_the_clusters_without_duplicates():
    traces, samples, labels = planted()
    doubled = np.sort(np.concatenate([samples, samples[:50] + 2]))
    order = np.argsort(np.concatenate([samples, samples[:50] + 2]), kind="stable")
    doubled_labels = np.concatenate([labels, labels[:50]])[order]
    spikes, found = match(traces, doubled, doubled_labels, matching=None)
    assert spikes["sample_index"].tolist() == samples.tolist()
    assert found.tolist() == labels.tolist()


def test_small_units_are_removed_unless_num_units_is_given():
    traces, samples, labels = planted()
    kept = (labels < 2) | (np.cumsum(labels == 2) <= 10)
    samples, labels = samples[kept], labels[kept]
    assert set(match(traces, samples, labels, matching=None)[1].tolist()) == {0, 1}
    assert set(match(traces, samples, labels, matching=None, num_units=3)[1].tolist()) == {0, 1, 2}


def test_a_unit_without_confident_spikes_still_has_a_template():
    traces, samples, labels = planted()
    parameters = SortingParameters()
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    peaks, units, assignment = truth_as_units(samples, labels, 3)
    assignment.posteriors[labels == 1] = 0.5
    _, found = match_spikes(preprocess(group, parameters, RunLog()), peaks, units, assignment, parameters, RunLog())
    assert np.sum(found == 1) > 0.8 * np.sum(labels == 1)


def test_smaller_spikes_of_high_posterior_are_kept():
    traces, samples, labels = planted(noise_uv=4.0)
    small = np.flatnonzero(labels == 0)[::6]  # as late in a burst: too small for the template of the others
    for sample in samples[small]:
        traces[sample - 15 : sample + 30] *= 0.3
    parameters = SortingParameters()
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    group = preprocess(group, parameters, RunLog())

    def num_found(posterior, mixtures, **settings):
        peaks, units, assignment = truth_as_units(samples, labels, 3)
        assignment.posteriors[small] = posterior
        units = replace(units, components=tuple((mixture, np.array([0])) for mixture in mixtures))
        settings = MatchingSettings(**settings)
        spikes, found = match_spikes(group, peaks, units, assignment, parameters, RunLog(), settings=settings)
        assert (np.diff(spikes["sample_index"]) >= 0).all()
        assert (found == 0).sum() <= (labels == 0).sum() + 2  # none twice
        return share_found(samples[small], spikes["sample_index"][found == 0])

    assert num_found(0.99, ["one"] * 3) == 1.0
    assert num_found(0.9, ["one"] * 3) < 0.6
    assert num_found(0.9, ["one"] * 3, sure_posterior=0.85) == 1.0
    # posteriors of several mixtures were not compared with each other
    assert num_found(0.99, ["one", "other", "third"]) < 0.6


def test_a_spike_is_not_found_again_by_the_other_cluster_of_its_neuron():
    traces, samples, labels = planted(noise_uv=8.0)
    is_split = np.flatnonzero(labels == 0)[::2]
    clusters = labels.copy()
    clusters[is_split] = 3
    parameters = SortingParameters()
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    peaks, units, assignment = truth_as_units(samples, clusters, 4)
    assignment.posteriors[:] = 0.99
    units = replace(units, components=tuple(("one", np.array([0])) for _ in range(4)))
    _, found = match_spikes(preprocess(group, parameters, RunLog()), peaks, units, assignment, parameters, RunLog())
    assert np.isin(found, (0, 3)).sum() <= (labels == 0).sum() + 2
    assert np.isin(found, (0, 3)).sum() > 0.95 * (labels == 0).sum()


def test_large_spikes_do_not_count_as_noise_of_the_whitening():
    shape = np.sin(np.linspace(0, np.pi, 20)) * -np.sin(np.linspace(0, 2 * np.pi, 20))
    large, small = np.outer(shape, [400.0, 340.0, 280.0, 220.0]), np.outer(shape, [60.0, 48.0, 40.0, 36.0])
    traces = np.random.default_rng(3).normal(0, 4, (240000, 4))
    samples, labels = np.arange(400, 239000, 400), np.arange(597) % 4 // 3  # 75 spikes a second; a quarter are small
    for sample, label in zip(samples, labels, strict=True):
        traces[sample - 7 : sample + 13] += (large, small)[label]
    spikes, found = match(traces, samples, labels)
    assert share_found(samples[labels == 1], spikes["sample_index"][found == 1]) > 0.95
    assert (found == 1).sum() < 1.1 * (labels == 1).sum()


def test_what_a_large_spike_leaves_is_no_spike_of_a_small_unit():
    large, small = (300, 100, 60, 40), (50, 60, 20, 10)
    traces, samples, labels = planted(footprints_uv=(large, small), noise_uv=4.0, duration_s=20.0)
    varied = samples[labels == 0][::3]  # every third large spike has another shape
    for sample in varied:
        traces[sample - 20 : sample + 40] += waveform(width=5.5)[:, None] * np.array(small)
    parameters = SortingParameters()
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    group = preprocess(group, parameters, RunLog())
    peaks, units, assignment = truth_as_units(samples, labels, 2)
    peaks["amplitude"] = np.array([-300.0, -60.0])[labels]

    def share_of_varied(**settings):
        settings = MatchingSettings(**settings)
        spikes, found = match_spikes(group, peaks, units, assignment, parameters, RunLog(), settings=settings)
        times = spikes["sample_index"][found == 1]
        assert share_found(samples[labels == 1], times) > 0.95
        return share_found(varied, times)

    assert share_of_varied(min_coincidences=10**6) > 0.9
    assert share_of_varied() < 0.05
