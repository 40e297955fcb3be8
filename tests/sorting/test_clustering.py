import re
from dataclasses import replace

import numpy as np
import pytest
from stand_in import TETRODE_UM, PcaModel, as_recording, planted

from huidurep.pipeline import SpikeSortingPipeline
from huidurep.sorting.clustering import ClusteringSettings, UnitModel, find_units
from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.spike_trains import spike_times_s
from huidurep.sorting.template_merging import TemplateMergingSettings
from huidurep.sorting.waveforms import iterate_waveforms


def prepared_peaks(recording, parameters, model):
    (group,) = split_groups(recording, parameters, RunLog())
    group = preprocess(group, parameters, RunLog())
    peaks = detect_spikes(group, parameters, RunLog())
    embeddings = np.zeros((len(peaks), model.config.embedding_size), dtype="float32")
    for batch in iterate_waveforms(group.recording, peaks, parameters, num_channels=model.config.num_channels):
        embeddings[batch.spike_indices] = model.embed(
            batch.waveforms,
            sampling_frequency=group.recording.get_sampling_frequency(),
            peak_index=batch.peak_index,
            channel_positions=batch.channel_positions_um,
            denoise=False,
        )
    return group, peaks, embeddings


def test_units_of_a_tetrode():
    traces, samples, labels = planted()
    parameters = SortingParameters(num_units=3, detect_threshold=6.0)
    group, peaks, embeddings = prepared_peaks(as_recording(traces, positions_um=TETRODE_UM), parameters, PcaModel())
    units, found = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=False)
    assert units.num_units == 3 and units.is_one_mixture
    truth = labels[[np.abs(samples - sample).argmin() for sample in peaks["sample_index"]]]
    agreement = sum(np.bincount(truth[found.labels == unit]).max() for unit in range(3)) / len(peaks)
    assert agreement > 0.95
    assert sorted(units.unit_channels.tolist()) == [0, 1, 2]
    times_s = spike_times_s(peaks, group.recording)
    again = units.posterior_of(embeddings, found.labels, times_s)
    assert again == pytest.approx(found.posteriors, abs=1e-5)
    assert units.posterior_of(embeddings, (found.labels + 1) % 3, times_s).mean() < 0.1


def test_units_below_unit_threshold_are_removed():
    traces, *_ = planted()
    parameters = SortingParameters(detect_threshold=6.0)
    group, peaks, embeddings = prepared_peaks(as_recording(traces, positions_um=TETRODE_UM), parameters, PcaModel())

    def found(**options):
        _, found = find_units(embeddings, peaks, group, replace(parameters, **options), RunLog(), by_channel=False)
        assert ((found.posteriors > 0) == (found.labels >= 0)).all()
        return found.labels

    height = np.abs(peaks["amplitude"]) / group.noise_levels_uv[peaks["channel_index"]]
    every = found()
    medians = sorted(np.median(height[every == unit]) for unit in np.unique(every[every >= 0]))
    assert len(medians) == 3
    fewer = found(unit_threshold=(medians[0] + medians[1]) / 2)
    assert len(np.unique(fewer[fewer >= 0])) == 2 and np.median(height[fewer >= 0]) > medians[0]
    assert (found(unit_threshold=1e3) == -1).all()
    assert len(np.unique(found(unit_threshold=1e3, num_units=3))) == 3  # given units are kept


def test_one_unit_between_two_channels_of_a_long_probe_is_one_unit():
    # largest on channel 2 or 3 as the noise has it, and another far away
    footprint = np.zeros(12)
    footprint[[1, 2, 3, 4]] = 50, 120, 120, 50
    other = np.zeros(12)
    other[[8, 9, 10]] = 40, 150, 40
    traces, *_ = planted(footprints_uv=(footprint, other), num_channels=12, duration_s=6.0)
    recording = as_recording(traces, positions_um=np.column_stack([np.zeros(12), 20.0 * np.arange(12)]))
    parameters = SortingParameters(detect_threshold=6.0)
    group, peaks, embeddings = prepared_peaks(recording, parameters, PcaModel())
    assert {2, 3} <= set(peaks["channel_index"].tolist())
    units, found = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=True)
    for channels in ((2, 3), (9,)):
        labels = found.labels[np.isin(peaks["channel_index"], channels)]
        labels = labels[labels >= 0]
        assert np.bincount(labels).max() > 0.9 * len(labels)
    assert (units.unit_channels < 12).all()
    assigned, times_s = found.labels >= 0, spike_times_s(peaks, group.recording)
    posteriors = units.posterior_of(embeddings[assigned], found.labels[assigned], times_s[assigned])
    assert posteriors.shape == (assigned.sum(),)
    # nothing is similar enough to be merged: channels 2 and 3 have a unit each
    merging = TemplateMergingSettings(min_similarity=1.1)
    settings = ClusteringSettings(template_merging=merging)
    more, _ = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=True, settings=settings)
    assert more.num_units > units.num_units


def test_few_spikes():
    traces, *_ = planted(duration_s=1.0, rate_hz=3.0)
    parameters = SortingParameters(detect_threshold=6.0)
    group, peaks, embeddings = prepared_peaks(as_recording(traces, positions_um=TETRODE_UM), parameters, PcaModel())
    assert 0 < len(peaks) < 30
    units, found = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=False)
    assert units.num_units == 0 and (found.labels == -1).all() and len(found.posteriors) == len(peaks)
    message = f"num_units=100.*{len(peaks)} in group 0"
    with pytest.raises(ValueError, match=message):
        find_units(embeddings, peaks, group, SortingParameters(num_units=100), RunLog(), by_channel=False)
    # in one of several groups it is a warning: the others can be sorted
    log = RunLog()
    one_of_two = replace(group, num_groups=2)
    units, found = find_units(embeddings, peaks, one_of_two, SortingParameters(num_units=100), log, by_channel=False)
    assert units.num_units == 0 and (found.labels == -1).all()
    assert re.search(message, log.entries[-1]["message"]) and log.entries[-1]["is_warning"]


def test_merged_units_have_the_components_of_their_mixture_only():
    mixtures = object(), object()
    components = tuple((mixtures[unit % 2], np.array([unit])) for unit in range(4))
    units = UnitModel(np.zeros(4, dtype="int64"), components)
    merged = units.merged({2: 0, 1: 0})
    assert merged.components[0][1].tolist() == [0, 2] and merged.num_units == 4
    assert units.components == components and not units.is_one_mixture


def test_one_quiet_group_does_not_cost_the_others():
    traces, *_ = planted()
    rng = np.random.default_rng(0)
    quiet = rng.normal(0, 10, traces.shape).astype("float32")
    recording = as_recording(np.concatenate([traces, quiet], axis=1))
    recording.set_property("group", np.repeat([0, 1], 4))
    parameters = SortingParameters(num_units=3, detect_threshold=7.0)
    result = SpikeSortingPipeline(PcaModel(), parameters)(recording)
    assert result.sorting.get_num_units() == 3
    assert set(result.sorting.get_property("group")) == {0}
    assert any("in group 1" in entry["message"] for entry in result.log)


def test_small_groups_are_named_in_the_log():
    traces, *_ = planted(duration_s=4.0)
    for start in np.linspace(3000, len(traces) - 3000, 18).astype(int):
        traces[start : start + 40, 2] -= 250 * np.exp(-0.5 * ((np.arange(40) - 12) / 4) ** 2)
    recording = as_recording(traces, positions_um=TETRODE_UM, channel_ids=list("abcd"))
    parameters = SortingParameters(detect_threshold=6.5, matching=None)
    result = SpikeSortingPipeline(PcaModel(), parameters)(recording)
    (message,) = [entry["message"] for entry in result.log if "min_unit_spikes=30" in entry["message"]]
    assert re.search(r"spikes removed: 1[678] on channel c \(-1\d\d uV\)", message)
