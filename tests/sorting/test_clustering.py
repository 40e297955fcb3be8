from dataclasses import replace

import numpy as np
import pytest
from stand_in import TETRODE_UM, PcaModel, as_recording, planted

from huidurep.pipeline import SpikeSortingPipeline
from huidurep.sorting.clustering import find_units
from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.waveforms import iterate_waveforms, spike_times_s


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
    units = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=False)
    assert units.num_units == 3
    truth = labels[[np.abs(samples - sample).argmin() for sample in peaks["sample_index"]]]
    agreement = sum(np.bincount(truth[units.labels == unit]).max() for unit in range(3)) / len(peaks)
    assert agreement > 0.95
    assert sorted(units.unit_channels.tolist()) == [0, 1, 2]
    times_s = spike_times_s(peaks, group.recording)
    again = units.posterior_of(embeddings, units.labels, times_s)
    assert again == pytest.approx(units.posteriors, abs=1e-5)
    assert units.posterior_of(embeddings, (units.labels + 1) % 3, times_s).mean() < 0.1


def test_units_that_hardly_rise_above_the_threshold_are_left_out():
    traces, *_ = planted()
    parameters = SortingParameters(detect_threshold=6.0)
    group, peaks, embeddings = prepared_peaks(as_recording(traces, positions_um=TETRODE_UM), parameters, PcaModel())

    def found(**options):
        units = find_units(embeddings, peaks, group, replace(parameters, **options), RunLog(), by_channel=False)
        assert ((units.posteriors > 0) == (units.labels >= 0)).all()
        return units.labels

    height = np.abs(peaks["amplitude"]) / group.noise_levels_uv[peaks["channel_index"]]
    every = found()
    medians = sorted(np.median(height[every == unit]) for unit in np.unique(every[every >= 0]))
    assert len(medians) == 3
    fewer = found(unit_threshold=(medians[0] + medians[1]) / 2)
    assert len(np.unique(fewer[fewer >= 0])) == 2 and np.median(height[fewer >= 0]) > medians[0]
    assert (found(unit_threshold=1e3) == -1).all()
    assert len(np.unique(found(unit_threshold=1e3, num_units=3))) == 3  # what was asked for stays


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
    units = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=True)
    for channels in ((2, 3), (9,)):
        labels = units.labels[np.isin(peaks["channel_index"], channels)]
        labels = labels[labels >= 0]
        assert np.bincount(labels).max() > 0.9 * len(labels)
    assert (units.unit_channels < 12).all()
    assigned, times_s = units.labels >= 0, spike_times_s(peaks, group.recording)
    assert units.posterior_of(embeddings[assigned], units.labels[assigned], times_s[assigned]).shape == (
        assigned.sum(),
    )


def test_few_spikes():
    traces, *_ = planted(duration_s=1.0, rate_hz=3.0)
    parameters = SortingParameters(detect_threshold=6.0)
    group, peaks, embeddings = prepared_peaks(as_recording(traces, positions_um=TETRODE_UM), parameters, PcaModel())
    assert 0 < len(peaks) < 30
    units = find_units(embeddings, peaks, group, parameters, RunLog(), by_channel=False)
    assert units.num_units == 0
    assert (units.labels == -1).all()
    with pytest.raises(ValueError, match=f"num_units=100, found {len(peaks)} in group 0; lower num_units"):
        find_units(embeddings, peaks, group, SortingParameters(num_units=100), RunLog(), by_channel=False)
    # one of several groups: the work on the others is not lost
    log = RunLog()
    one_of_two = replace(group, num_groups=2)
    units = find_units(embeddings, peaks, one_of_two, SortingParameters(num_units=100), log, by_channel=False)
    assert units.num_units == 0 and (units.labels == -1).all()
    assert f"num_units=100, found {len(peaks)} in group 0; lower num_units" in log.entries[-1]["message"]


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
