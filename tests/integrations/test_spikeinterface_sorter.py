"""HuiduRep through SpikeInterface's run_sorter: what its own common tests ask of every sorter, and our parameters."""

import json

import numpy as np
import pytest
import spikeinterface
import spikeinterface.sorters as sorters

import huidurep

DEFAULTS = dict(model="tetrode", num_units=3, matching="none")  # quick


@pytest.fixture(scope="module", autouse=True)
def _registered():
    huidurep.register()


@pytest.fixture(scope="module")
def recording_folder(tetrode_recording, tmp_path_factory):
    return tetrode_recording[0].save(folder=tmp_path_factory.mktemp("sorter") / "recording")


def test_registering_twice_lists_it_once():
    huidurep.register()
    assert sorters.sorter_full_list.count(huidurep.HuiduRepSorter) == 1
    assert "huidurep" in sorters.available_sorters() and "huidurep" in sorters.installed_sorters()
    assert huidurep.HuiduRepSorter.get_sorter_version() == huidurep.__version__


def test_parameters_are_json_and_each_is_described():
    defaults = sorters.get_default_sorter_params("huidurep")
    described = sorters.get_sorter_params_description("huidurep")
    assert defaults.keys() == described.keys()
    assert defaults.keys() == huidurep.SortingParameters().to_dict().keys() | {"model", "device", "job_kwargs"}
    assert json.loads(json.dumps(defaults)) == defaults
    assert all(len(text) > 10 for text in described.values())
    assert described["seed"] == huidurep.SortingParameters.describe()["seed"]
    assert "Gaussian mixture" in sorters.get_sorter_description("huidurep")


def test_defaults_sort_as_the_pipeline_does(recording_folder, tmp_path):
    sorting = sorters.run_sorter("huidurep", recording_folder, folder=tmp_path / "out", delete_output_folder=True)
    expected = huidurep.sort(recording_folder)
    np.testing.assert_array_equal(sorting.to_spike_vector(), expected.to_spike_vector())
    assert {"main_channel_id", "quality", "snr"} <= set(sorting.get_property_keys())
    assert sorting.has_recording() and sorting.sorting_info["params"]["sorter_params"]["model"] == "auto"
    # what stays when the sorter's own output is deleted
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"spikeinterface_recording.json", "spikeinterface_params.json", "spikeinterface_log.json"} <= kept
    assert "sorter_output" not in kept
    log = json.loads((tmp_path / "out" / "spikeinterface_log.json").read_text())
    assert log["sorter_version"] == huidurep.__version__ and any("clustering" in line for line in log["runtime_trace"])


def test_the_folder_can_be_read_again(recording_folder, tmp_path):
    options = dict(folder=tmp_path / "out", delete_output_folder=False, **DEFAULTS)
    sorting = sorters.run_sorter("huidurep", recording_folder, **options)
    again = sorters.read_sorter_folder(tmp_path / "out")
    np.testing.assert_array_equal(sorting.to_spike_vector(), again.to_spike_vector())
    stored = huidurep.SortingResult.load(tmp_path / "out" / "sorter_output" / "sorting")
    assert stored.parameters.matching is None and stored.parameters.num_units == 3
    # what ships with the checkpoint, where nothing else was given
    assert (
        stored.parameters.detect_threshold
        == huidurep.SpikeSortingPipeline.from_pretrained("tetrode").parameters.detect_threshold
    )


def test_segments_and_job_kwargs(recording_folder, tmp_path, capfd):
    halves = [recording_folder.frame_slice(start, start + 120000) for start in (0, 120000)]
    two = spikeinterface.append_recordings(halves)
    options = dict(
        folder=tmp_path / "out", job_kwargs=dict(n_jobs=2, chunk_duration="2s", progress_bar=True), **DEFAULTS
    )
    sorting = sorters.run_sorter("huidurep", two, **options)
    assert sorting.get_num_segments() == 2
    assert set(sorting.to_spike_vector()["segment_index"]) == {0, 1}
    assert "detect peaks (locally_exclusive) (workers: 2 processes" in capfd.readouterr().err
    # they were those of this one run
    sorters.run_sorter("huidurep", two, folder=tmp_path / "quiet", **DEFAULTS)
    assert "workers: 2" not in capfd.readouterr().err


def test_groups_are_sorted_by_property(recording_folder, tmp_path):
    twice = spikeinterface.aggregate_channels({0: recording_folder, 1: recording_folder})
    sorting = sorters.run_sorter_by_property("huidurep", twice, "aggregation_key", folder=tmp_path / "out", **DEFAULTS)
    assert len(sorting.unit_ids) == 6


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(detect_treshold=5), "detect_treshold"),
        (dict(merge_bias="much"), "merge_bias"),
        (dict(job_kwargs=dict(n_jobs=0)), "n_jobs"),
        (dict(job_kwargs="2"), "a dict"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(recording_folder, tmp_path, wrong, said):
    with pytest.raises((TypeError, ValueError), match=said):
        sorters.run_sorter("huidurep", recording_folder, folder=tmp_path / "out", **wrong)


def test_values_are_arrays_and_none_too(recording_folder, tmp_path):
    options = dict(artifact_times_s=np.array([1.0, 3.0]), job_kwargs=None, **DEFAULTS)
    sorters.run_sorter("huidurep", recording_folder, folder=tmp_path / "out", **options)
    stored = huidurep.SortingResult.load(tmp_path / "out" / "sorter_output" / "sorting")
    assert len(stored.artifact_periods) == 2


def test_an_error_is_logged(recording_folder, tmp_path):
    with pytest.raises(Exception, match="octrode"):
        sorters.run_sorter("huidurep", recording_folder, folder=tmp_path / "out", model="octrode")
    log = json.loads((tmp_path / "out" / "spikeinterface_log.json").read_text())
    assert log["error"] is True
