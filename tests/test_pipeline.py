import dataclasses
import logging
import os
import random
import re

import numpy as np
import pytest
import spikeinterface
from stand_in import TETRODE_UM, PcaModel, as_recording, planted, share_found

import huidurep.models.modeling_huidurep  # noqa: F401 - before a test replaces what its modules import
from huidurep import HuiduRep, SortingParameters, SortingResult
from huidurep.hub.select import resolve_auto
from huidurep.pipeline import SpikeSortingPipeline, sort
from huidurep.simulation.probes import contact_layout
from huidurep.sorting import matched_filter, matching
from huidurep.sorting.matched_filter import MatchedFilterSettings
from huidurep.sorting.matching import MatchingSettings
from huidurep.sorting.noise_levels import NoiseLevelSettings
from huidurep.sorting.preprocessing import ChannelGroup, PreprocessingSettings, split_groups
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.stage_settings import StageSettings


@pytest.fixture(scope="module")
def tetrode():
    traces, samples, labels = planted(duration_s=6.0)
    return as_recording(traces, positions_um=TETRODE_UM, channel_ids=["w", "x", "y", "z"]), samples, labels


@pytest.fixture(scope="module")
def result(tetrode):
    return SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0))(tetrode[0])


def trains(sorting, segment_index=0):
    return [sorting.get_unit_spike_train(unit_id, segment_index=segment_index) for unit_id in sorting.unit_ids]


def test_planted_units_are_sorted(result, tetrode):
    _, samples, labels = tetrode
    for unit, channel in enumerate(["w", "y", "x"]):
        shares = [share_found(samples[labels == unit], train) for train in trains(result.sorting)]
        best = int(np.argmax(shares))
        assert shares[best] > 0.9
        assert result.sorting.get_property("main_channel_id")[best] == channel
        assert result.sorting.get_property("snr")[best] > 10
        assert -200 < result.sorting.get_property("peak_uv")[best] < -50


def test_rows_are_those_of_the_spike_vector(result):
    num_spikes = len(result.sorting.to_spike_vector())
    assert result.embeddings.shape == (num_spikes, 6)
    assert result.embeddings.dtype == result.posteriors.dtype == np.float32
    assert result.posteriors.shape == (num_spikes,)
    assert ((result.posteriors >= 0) & (result.posteriors <= 1)).all()
    assert np.median(result.posteriors) > 0.9
    counts = np.bincount(result.sorting.to_spike_vector()["unit_index"])
    assert result.sorting.get_property("num_spikes").tolist() == counts.tolist()


def test_log_says_what_happened_and_how_long_it_took(result):
    stages = [entry["stage"] for entry in result.log]
    for stage in ("checks", "preprocessing", "detection", "embedding", "clustering", "matching", "result"):
        assert stage in stages
    assert all(entry["seconds"] >= 0 and entry["message"] for entry in result.log)
    assert "peak memory" in result.log[-1]["message"]
    all_s = float(re.search(r"([\d.]+) s in all", result.log[-1]["message"])[1])  # the last stage is part of it
    assert all_s == pytest.approx(sum(entry["seconds"] for entry in result.log), abs=0.06)


def test_same_seed_same_result_and_no_global_random_state(tetrode, result):
    states = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    again = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0))(tetrode[0])
    assert np.array_equal(np.random.get_state()[1], states[0])  # noqa: NPY002
    assert random.getstate() == states[1]
    assert np.array_equal(again.sorting.to_spike_vector(), result.sorting.to_spike_vector())
    assert np.array_equal(again.embeddings, result.embeddings)
    assert np.array_equal(again.posteriors, result.posteriors)


def test_recording_is_left_as_it_was(tetrode, result):
    recording = tetrode[0]
    assert list(recording.channel_ids) == ["w", "x", "y", "z"]
    assert not {"noise_level_mad_raw", "noise_level_std_raw"} & set(recording.get_property_keys())


def test_sort_gives_the_sorting(tetrode):
    options = dict(num_units=3, matching=None, detect_threshold=6.0)
    sorting = sort(tetrode[0], PcaModel(), **options)
    assert isinstance(sorting, spikeinterface.BaseSorting)
    assert sorting.get_num_units() == 3


def test_job_kwargs_are_those_of_one_call(tetrode, capfd):
    options = dict(num_units=3, matching=None, detect_threshold=6.0)
    workers = dict(n_jobs=2, chunk_duration="2s", progress_bar=True)
    sorting = sort(tetrode[0], PcaModel(), workers, **options)
    assert "(workers: 2 processes" in capfd.readouterr().err
    again = sort(tetrode[0], PcaModel(), **options)
    assert "workers" not in capfd.readouterr().err
    assert np.array_equal(sorting.to_spike_vector(), again.to_spike_vector())


def test_settings_reach_their_stages(tetrode):
    recording = as_recording(tetrode[0].get_traces(), has_gains=False, positions_um=TETRODE_UM)
    settings = StageSettings(
        preprocessing=PreprocessingSettings(nominal_noise_uv=20.0),
        matched_filter=MatchedFilterSettings(min_prototype_peaks=12345),
    )
    parameters = dict(matching=None, detection="matched_filtering", detect_threshold=6.0)
    messages = [
        entry["message"] for entry in SpikeSortingPipeline(PcaModel(), parameters, settings=settings)(recording).log
    ]
    assert any("20 uV" in message for message in messages)
    assert any("12345" in message for message in messages)


def test_chunks_of_the_noise_reach_matched_filter_and_whitening(tetrode, monkeypatch):
    chunks = []
    for module in (matched_filter, matching):
        real = module.statistics_kwargs
        monkeypatch.setattr(
            module, "statistics_kwargs", lambda *args, real=real, **kwargs: record(real(*args, **kwargs))
        )

    def record(found):
        chunks.append(found["num_chunks_per_segment"])
        return found

    settings = StageSettings(
        matched_filter=MatchedFilterSettings(noise_levels=NoiseLevelSettings(num_chunks=7)),
        matching=MatchingSettings(noise_levels=NoiseLevelSettings(num_chunks=5)),
    )
    parameters = dict(detection="matched_filtering", detect_threshold=6.0)
    SpikeSortingPipeline(PcaModel(), parameters, settings=settings)(tetrode[0])
    assert chunks == [7, 5]


def test_number_of_units_is_honoured(tetrode):
    for num_units in (2, 3):
        assert sort(tetrode[0], PcaModel(), num_units=num_units, detect_threshold=6.0).get_num_units() == num_units


def test_segments_are_sorted_together(tetrode):
    traces, samples, labels = planted(duration_s=12.0, seed=4)
    cut = 150000
    recording = as_recording(traces[:cut], traces[:40], traces[cut:], positions_um=TETRODE_UM)
    result = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0, num_units=3))(recording)
    assert result.sorting.get_num_segments() == 3
    assert all(len(train) == 0 for train in trains(result.sorting, 1))
    for unit in range(3):
        truth = samples[labels == unit]
        first = [share_found(truth[truth < cut], train) for train in trains(result.sorting, 0)]
        last = [share_found(truth[truth >= cut] - cut, train) for train in trains(result.sorting, 2)]
        assert np.argmax(first) == np.argmax(last)
        assert min(max(first), max(last)) > 0.85


def test_groups_are_sorted_by_themselves(tmp_path):
    first, *_ = planted(duration_s=8.0, seed=1)
    second, samples, _ = planted(duration_s=8.0, seed=2, footprints_uv=((20, 120, 90, 10),))
    recording = as_recording(np.concatenate([first, second], axis=1), channel_ids=[f"ch{i}" for i in range(8)])
    recording.set_property("group", np.repeat([3, 9], 4))
    result = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0))(recording)
    groups = result.sorting.get_property("group")
    assert set(groups) == {3, 9}
    of_second = np.flatnonzero(groups == 9)
    assert set(result.sorting.get_property("main_channel_id")[of_second]) == {"ch5"}
    assert max(share_found(samples, trains(result.sorting)[unit]) for unit in of_second) > 0.9
    assert len(set(result.sorting.unit_ids)) == result.sorting.get_num_units()
    loaded = SortingResult.load(result.save(tmp_path / "out"))
    assert np.array_equal(loaded.sorting.to_spike_vector(), result.sorting.to_spike_vector())


def test_large_group_is_embedded_around_each_peak():
    footprints = np.zeros((2, 10))
    footprints[0, 1:4] = 40, 150, 40
    footprints[1, 6:9] = 60, 130, 60
    traces, samples, labels = planted(footprints_uv=footprints, num_channels=10, duration_s=6.0)
    recording = as_recording(traces, positions_um=np.column_stack([np.zeros(10), 25.0 * np.arange(10)]))
    model = PcaModel(num_channels=4)
    result = SpikeSortingPipeline(model, SortingParameters(detect_threshold=6.0))(recording)
    assert {call.shape[2] for call in model.calls} == {4}
    for unit, channel in enumerate((2, 7)):
        shares = [share_found(samples[labels == unit], train) for train in trains(result.sorting)]
        assert max(shares) > 0.85
        assert result.sorting.get_property("main_channel_id")[np.argmax(shares)] == channel


def test_denoise_reaches_the_model(tetrode):
    model = PcaModel()
    sort(tetrode[0], model, denoise=True, num_units=3, matching=None, detect_threshold=8.0)
    assert {call.denoise for call in model.calls} == {True}


def checkpoints(tmp_path, monkeypatch, **num_channels):
    folders = {}
    for name, number in num_channels.items():
        folders[name] = tmp_path / name
        folders[name].mkdir()
        (folders[name] / "config.json").write_text(f'{{"num_channels": {number}}}')
    monkeypatch.setattr("huidurep.hub.embedded.list_checkpoints", lambda: folders)


ALL = {"single-contact": 2, "tetrode": 4, "linear": 8, "staggered": 8, "neuropixels-1.0": 12, "neuropixels-2.0": 12}
ALL |= {"hd-mea": 16, "base": 16}


@pytest.mark.parametrize("kind", [name for name in ALL if name != "base"])
def test_auto_picks_by_the_places_of_the_contacts(tmp_path, monkeypatch, kind):
    checkpoints(tmp_path, monkeypatch, **ALL)
    name, reason = resolve_auto([contact_layout(kind, 1 if kind == "single-contact" else ALL[kind])])
    assert name == kind and "contact" in reason


def test_auto_takes_the_base_for_contacts_it_does_not_know(tmp_path, monkeypatch):
    checkpoints(tmp_path, monkeypatch, **ALL)
    assert resolve_auto([]) == ("base", "for any probe: no contacts known")
    scattered = np.random.default_rng(0).uniform(0, 500, (20, 2))
    assert resolve_auto([scattered])[0] == "base"


def test_auto_takes_what_there_is_and_says_so(tmp_path, monkeypatch):
    shank = contact_layout("linear", 10)
    checkpoints(tmp_path, monkeypatch, tetrode=4, base=16)
    name, reason = resolve_auto([shank])
    assert name == "base" and "10 contacts" in reason and "'linear'" in reason
    for number, (installed, expected) in enumerate(
        [({"tetrode": 4, "hd-mea": 16}, "tetrode"), ({"tetrode": 4, "other": 9}, "other"), ({"hd-mea": 16}, "hd-mea")]
    ):
        (tmp_path / str(number)).mkdir()
        checkpoints(tmp_path / str(number), monkeypatch, **installed)
        name, reason = resolve_auto([shank])
        assert name == expected and "nearest" in reason
    checkpoints(tmp_path / "none", monkeypatch)
    with pytest.raises(OSError, match="embedded checkpoint"):
        resolve_auto([shank])


def test_auto_without_a_special_checkpoint_takes_what_it_took_before(tmp_path, monkeypatch):
    single, staggered = contact_layout("single-contact", 2), contact_layout("staggered", 16)
    wide = 2 * contact_layout("staggered", 16)
    (tmp_path / "all").mkdir()
    checkpoints(tmp_path, monkeypatch, **{name: ALL[name] for name in ALL.keys() - {"single-contact", "staggered"}})
    assert [resolve_auto([each])[0] for each in (single, single[:1], staggered, wide)] == ["tetrode"] * 2 + [
        "linear",
        "base",
    ]
    checkpoints(tmp_path / "all", monkeypatch, **ALL)
    assert [resolve_auto([each])[0] for each in (single, single[:1], staggered)] == ["tetrode", "single-contact"] + [
        "staggered"
    ]
    # groups of a tetrode and of single contacts: the larger one decides
    assert resolve_auto([single, contact_layout("tetrode", 4)])[0] == "tetrode"


def test_auto_asks_the_largest_group(tmp_path, monkeypatch, tetrode):
    checkpoints(tmp_path, monkeypatch, **ALL)
    picked = []
    monkeypatch.setattr(SpikeSortingPipeline, "from_pretrained", lambda name, **given: picked.append(name))
    pipeline, log = SpikeSortingPipeline(), RunLog()
    large = as_recording(np.zeros((100, 32), "float32"), positions_um=contact_layout("linear", 32))
    groups = [ChannelGroup(0, recording, np.zeros(1, int)) for recording in (tetrode[0], large)]
    for chosen in (groups, groups[:1], []):
        pipeline._resolve_auto(chosen, log)
    assert picked == ["linear", "tetrode", "base"]


def test_channels_without_a_probe_are_sorted_as_a_tetrode(tmp_path, monkeypatch):
    checkpoints(tmp_path, monkeypatch, **ALL)
    recording = spikeinterface.NumpyRecording([np.zeros((3000, 4), "float32")], 30000.0)
    (group,) = split_groups(recording, SortingParameters(), RunLog())
    assert resolve_auto([group.recording.get_channel_locations()])[0] == "tetrode"


def test_auto_loads_the_parameters_beside_the_weights(tmp_path, monkeypatch, tetrode, caplog):
    pytest.importorskip("torch")
    checkpoints(tmp_path, monkeypatch, tetrode=4)
    (tmp_path / "tetrode" / "sorting_parameters.json").write_text(
        '{"detect_threshold": 6.5, "min_unit_spikes": 25, "adapt": true}'  # of an earlier version
    )
    monkeypatch.setattr("huidurep.hub.resolve.resolve_checkpoint", lambda name, **kwargs: tmp_path / name)
    monkeypatch.setattr("huidurep.models.modeling_huidurep.HuiduRep.from_pretrained", lambda folder: PcaModel())
    pipeline = SpikeSortingPipeline.from_pretrained("auto", min_unit_spikes=40, num_units=3)
    with caplog.at_level(logging.INFO, logger="huidurep"):
        result = pipeline(tetrode[0])
    assert result.model_name == "tetrode"
    assert (result.parameters.detect_threshold, result.parameters.min_unit_spikes) == (6.5, 40)
    assert "auto: checkpoint 'tetrode'" in caplog.text


def test_wrong_parameter_is_found_before_a_checkpoint_is_looked_for():
    with pytest.raises(TypeError, match="'detect_threshold'"):
        SpikeSortingPipeline.from_pretrained("nobody/nothing", detect_treshold=5)


def test_pulses_and_a_transient_change_no_unit(result, tetrode):
    pulse = np.concatenate([np.full(15, -1.0), np.full(15, 1.0), 0.3 * np.exp(-np.arange(90) / 30)])[:, None]
    traces = tetrode[0].get_traces().copy()
    starts = np.arange(3000, 177000, 3000)
    for start in starts:
        traces[start : start + 120] += (3000 * pulse * np.array([1, 0.95, 1.05, 0.9])).astype("float32")
    traces[91000:91015] -= 20000.0
    recording = as_recording(traces, positions_um=TETRODE_UM, channel_ids=["w", "x", "y", "z"])
    recording.set_times(5.0 + np.arange(len(traces)) / 30000.0)
    found = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0))(recording)
    assert sorted(found.sorting.get_property("main_channel_id")) == sorted(
        result.sorting.get_property("main_channel_id")
    )
    for name in ("peak_uv", "snr"):
        values = [np.sort(each.sorting.get_property(name)) for each in (found, result)]
        assert values[0] == pytest.approx(values[1], rel=0.05)
    periods = found.artifact_periods
    assert len(periods) == len(starts) + 1
    assert periods["start_s"][0] == pytest.approx(5.1, abs=0.002)
    spike_s = 5.0 + found.sorting.to_spike_vector()["sample_index"] / 30000.0
    before = np.searchsorted(periods["start_s"], spike_s, "right") - 1
    assert not ((before >= 0) & (spike_s < periods["end_s"][before.clip(0)])).any()


def assert_same_result(first, second):
    assert np.array_equal(first.sorting.to_spike_vector(), second.sorting.to_spike_vector())
    assert np.array_equal(first.embeddings, second.embeddings)
    assert np.array_equal(first.posteriors, second.posteriors)
    for name in first.sorting.get_property_keys():
        values = [each.sorting.get_property(name) for each in (first, second)]
        assert values[0].dtype == values[1].dtype
        np.testing.assert_array_equal(*values)
    for field in dataclasses.fields(first.measurements):
        np.testing.assert_array_equal(*[getattr(each.measurements, field.name) for each in (first, second)])
    np.testing.assert_array_equal(first.artifact_periods, second.artifact_periods)


def interrupt(pipeline, recording, folder, stopped):
    """Names of the stages that a run leaves when it is interrupted; it goes on from those of the run before."""

    def stop(done, text):
        if text.endswith(stopped):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pipeline(recording, progress=stop, stages_folder=folder, resume=True)
    return {path.stem for path in folder.glob("*.npz")}


def test_interrupted_at_any_stage_the_result_is_the_same(tmp_path):
    first, *_ = planted(duration_s=4.0, seed=1)
    second, *_ = planted(duration_s=4.0, seed=2, footprints_uv=((20, 120, 90, 10),))
    recording = as_recording(np.concatenate([first, second], axis=1))
    recording.set_property("group", np.repeat([3, 9], 4))
    pipeline, folder = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0)), tmp_path / "stages"
    for stopped, left in (
        ("1 of 2, stage 5 of 9: clustering", {"0-detection"}),
        ("1 of 2, stage 6 of 9: matching", {"0-detection", "0-embedding"}),
        ("1 of 2, stage 9 of 9: postprocessing", {"0-clustering", "0-matching"}),
        ("2 of 2, stage 9 of 9: postprocessing", {"0-units", "1-clustering", "1-matching"}),
    ):
        assert interrupt(pipeline, recording, folder, stopped) == left
    resumed, uninterrupted = pipeline(recording, stages_folder=folder, resume=True), pipeline(recording)
    assert_same_result(uninterrupted, resumed)
    read = [entry["message"] for entry in resumed.log if entry["stage"] == "resume"]
    assert any("units was read" in message for message in read)
    # the log of the whole work, with what the stages that were read had said
    said = [
        [e["message"] for e in each.log if e["stage"] in ("detection", "matching")] for each in (uninterrupted, resumed)
    ]
    assert said[0] == said[1]


def test_a_recording_that_was_written_after_its_stages_is_warned_of(tmp_path):
    traces, *_ = planted(duration_s=4.0)
    recording = as_recording(traces).save(folder=tmp_path / "recording", progress_bar=False)
    pipeline, folder = SpikeSortingPipeline(PcaModel(), dict(matching=None, detect_threshold=6.0)), tmp_path / "stages"
    pipeline(recording, stages_folder=folder)
    (tmp_path / "recording").rename(tmp_path / "moved")
    moved = spikeinterface.load(tmp_path / "moved")
    file = next((tmp_path / "moved").glob("*.raw"))
    for delay_s, num_warnings in ((-1, 0), (1, 1)):
        time_s = (folder / "stages.json").stat().st_mtime + delay_s
        os.utime(file, (time_s, time_s))
        log = pipeline(moved, stages_folder=folder, resume=True).log
        said = [each["message"] for each in log if each["stage"] == "resume" and each.get("is_warning")]
        assert len(said) == num_warnings and all(str(file) in message for message in said)


def test_a_large_group_is_resumed(tmp_path):
    footprints = np.zeros((2, 10))
    footprints[0, 1:4] = 40, 150, 40
    footprints[1, 6:9] = 60, 130, 60
    traces, *_ = planted(footprints_uv=footprints, num_channels=10, duration_s=4.0)
    recording = as_recording(traces, positions_um=np.column_stack([np.zeros(10), 25.0 * np.arange(10)]))
    pipeline = SpikeSortingPipeline(PcaModel(num_channels=4), SortingParameters(detect_threshold=6.0))
    assert interrupt(pipeline, recording, tmp_path / "stages", "stage 7 of 9: curation") == {"0-clustering"}
    assert_same_result(pipeline(recording), pipeline(recording, stages_folder=tmp_path / "stages", resume=True))


def test_stages_of_another_recording_model_or_parameter_are_refused(tmp_path, tetrode):
    options = dict(num_units=3, matching=None, detect_threshold=6.0)
    recording, folder = tetrode[0], tmp_path / "stages"
    SpikeSortingPipeline(PcaModel(), options)(recording, stages_folder=folder)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    shifted = as_recording(recording.get_traces()[::-1], positions_um=TETRODE_UM, channel_ids=["w", "x", "y", "z"])
    moved = as_recording(recording.get_traces(), positions_um=2 * TETRODE_UM, channel_ids=["w", "x", "y", "z"])
    edited_traces = recording.get_traces().copy()
    edited_traces[-3000:] = 0.0
    edited = as_recording(edited_traces, positions_um=TETRODE_UM, channel_ids=["w", "x", "y", "z"])

    class Other(PcaModel):
        pass

    for given, model, changed, word in (
        (shifted, PcaModel(), options, "recording.sha256"),
        (edited, PcaModel(), options, "another recording.sha256_chunks"),
        (moved, PcaModel(), options, "channels"),
        (recording, Other(), options, "checkpoint"),
        (recording, PcaModel(), options | {"seed": 5}, r"parameters.seed \(0, now 5\)"),
    ):
        with pytest.raises(ValueError, match=word):
            SpikeSortingPipeline(model, changed)(given, stages_folder=folder, resume=True)
    with pytest.raises(ValueError, match="stages_folder"):
        SpikeSortingPipeline(PcaModel(), options)(recording, resume=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files


def test_a_device_that_is_not_there_is_refused_before_anything_is_computed(tetrode):
    torch = pytest.importorskip("torch")
    missing = "mps" if torch.cuda.is_available() else "cuda"
    for model in ("auto", "tetrode", PcaModel()):
        with pytest.raises(ValueError, match=f"found '{missing}'"):
            sort(tetrode[0], model, device=missing)


def test_auto_loads_onto_the_device_and_leaves_a_given_model_alone(tetrode, monkeypatch):
    pytest.importorskip("torch")
    placed = []
    monkeypatch.setattr("huidurep.models.devices.find_device", lambda device: device)
    monkeypatch.setattr("huidurep.models.devices.place_model", lambda model, device: placed.append(device) or model)
    assert SpikeSortingPipeline.from_pretrained("tetrode").model.config.num_channels == 4
    SpikeSortingPipeline.from_pretrained("tetrode", device="cuda:1")
    result = SpikeSortingPipeline.from_pretrained("auto", device="cuda:2", num_units=3, matching=None)(tetrode[0])
    assert placed == ["auto", "cuda:1", "cuda:2"]
    assert any("spikes on cpu" in entry["message"] for entry in result.log)
    model = SpikeSortingPipeline.from_pretrained("tetrode").model
    placed.clear()
    assert SpikeSortingPipeline(model).model is model and placed == []
    SpikeSortingPipeline(model, device="cuda")
    assert placed == ["cuda"]


@pytest.mark.gpu
def test_a_gpu_gives_the_units_of_the_cpu(tetrode_recording):
    from spikeinterface.comparison import compare_two_sorters

    by_device = [sort(tetrode_recording[0], "tetrode", device=device) for device in ("cpu", "cuda")]
    agreement = compare_two_sorters(*by_device).get_ordered_agreement_scores()
    assert agreement.shape[0] == agreement.shape[1]
    assert np.diag(agreement.to_numpy()).min() >= 0.99


def test_a_given_embedded_model_is_noted_by_its_name():
    assert SpikeSortingPipeline(HuiduRep.from_pretrained("tetrode")).model_name == "tetrode"
