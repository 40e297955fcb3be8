import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import TETRODE_UM, as_recording, planted, share_found

from huidurep.sorting.clustering import GroupUnits
from huidurep.sorting.matching import match_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog


def truth_as_units(samples, labels, num_units):
    peaks = np.zeros(len(samples), dtype=base_peak_dtype)
    peaks["sample_index"] = samples
    return peaks, GroupUnits(labels, np.ones(len(labels), dtype="float32"), np.arange(num_units))


def match(traces, samples, labels, **parameters):
    parameters = SortingParameters(**parameters)
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    group = preprocess(group, parameters, RunLog())
    peaks, units = truth_as_units(samples, labels, 3)
    return match_spikes(group, peaks, units, parameters, RunLog())


@pytest.mark.parametrize("method", ["wobble", pytest.param("tdc-peeler", marks=pytest.mark.slow), "circus-omp"])
def test_overlapping_spikes_are_told_apart(method):
    traces, samples, labels = planted(rate_hz=40.0, duration_s=8.0, noise_uv=4.0)
    # half of the spikes teach the templates; all have to be found
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


def test_small_units_are_dropped_unless_their_number_was_asked_for():
    traces, samples, labels = planted()
    kept = (labels < 2) | (np.cumsum(labels == 2) <= 10)
    samples, labels = samples[kept], labels[kept]
    assert set(match(traces, samples, labels, matching=None)[1].tolist()) == {0, 1}
    assert set(match(traces, samples, labels, matching=None, num_units=3)[1].tolist()) == {0, 1, 2}


def test_a_unit_without_confident_spikes_still_has_a_template():
    traces, samples, labels = planted()
    parameters = SortingParameters()
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    peaks, units = truth_as_units(samples, labels, 3)
    units.posteriors[labels == 1] = 0.5
    _, found = match_spikes(preprocess(group, parameters, RunLog()), peaks, units, parameters, RunLog())
    assert np.sum(found == 1) > 0.8 * np.sum(labels == 1)


def test_shrunken_spikes_of_which_the_mixture_is_sure_stay():
    traces, samples, labels = planted(noise_uv=4.0)
    small = np.flatnonzero(labels == 0)[::6]  # as late in a burst: too small for the template of the others
    for sample in samples[small]:
        traces[sample - 15 : sample + 30] *= 0.3
    parameters = SortingParameters()
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    group = preprocess(group, parameters, RunLog())

    def num_found(posterior, mixtures):
        peaks, units = truth_as_units(samples, labels, 3)
        units.posteriors[small] = posterior
        units.components.extend((mixture, np.array([0])) for mixture in mixtures)
        spikes, found = match_spikes(group, peaks, units, parameters, RunLog())
        assert (np.diff(spikes["sample_index"]) >= 0).all()
        assert (found == 0).sum() <= (labels == 0).sum() + 2  # none twice
        return share_found(samples[small], spikes["sample_index"][found == 0])

    assert num_found(0.99, ["one"] * 3) == 1.0
    assert num_found(0.9, ["one"] * 3) < 0.6
    # units of several mixtures were never held against each other
    assert num_found(0.99, ["one", "other", "third"]) < 0.6
