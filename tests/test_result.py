import copy
import json
import pickle

import numpy as np
import pytest
import spikeinterface
from group_sortings import group_of
from stand_in import as_recording
from synthetic_result import synthetic

from huidurep.output_files import check_output_folder
from huidurep.provenance import describe_run
from huidurep.result import OLD_PROPERTIES, SortingResult
from huidurep.sorting.aggregation import ARTIFACT_DTYPE, assemble
from huidurep.sorting.parameters import SortingParameters


@pytest.fixture
def recording():
    return as_recording(*[np.zeros((1000, 4), dtype="float32")] * 3, channel_ids=["a", "b", "c", "d"])


def result_of(groups, recording):
    sorting, embeddings, posteriors, _ = assemble(groups, recording, 2)
    log = [{"stage": "x", "seconds": 0.1, "message": "y"}]
    return SortingResult(sorting, embeddings, posteriors, SortingParameters(seed=3), "tetrode", "v1", log)


def test_artifact_periods_are_saved_and_missing_in_earlier_folders(recording, tmp_path):
    result = result_of([group_of([10, 30, 5], [0, 1, 0], [0, 0, 1], 0, ["a", "b"])], recording)
    assert len(result.artifact_periods) == 0
    result.artifact_periods = np.array([(0, 0.1, 0.104), (1, 2.0, 2.5)], dtype=ARTIFACT_DTYPE)
    folder = result.save(tmp_path / "out")
    assert SortingResult.load(folder).artifact_periods.tolist() == [(0, 0.1, 0.104), (1, 2.0, 2.5)]
    (folder / "artifact_periods.npy").unlink()
    assert len(SortingResult.load(folder).artifact_periods) == 0
    np.save(folder / "artifact_periods.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"artifact_periods\.npy"):
        SortingResult.load(folder)


def test_folder_opens_after_a_move(recording, tmp_path):
    result = result_of([group_of([10, 30, 5], [0, 1, 0], [0, 0, 1], 0, ["a", "b"])], recording)
    result.save(tmp_path / "made" / "out")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "moved"
    (tmp_path / "made" / "out").rename(moved)
    for folder in (moved, moved / "sorting"):
        sorting = spikeinterface.load(folder)
        assert sorting.get_property("main_channel_id").tolist() == ["a", "b"]
        assert sorting.get_num_segments() == 3
        assert sorting.get_unit_spike_train(0, segment_index=1).tolist() == [5]
    loaded = SortingResult.load(moved)
    assert np.array_equal(loaded.embeddings, result.embeddings)
    assert np.array_equal(loaded.posteriors, result.posteriors)
    assert (loaded.parameters, loaded.model_name, loaded.model_revision) == (result.parameters, "tetrode", "v1")
    assert loaded.log == result.log
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == []


def test_empty_result_is_valid_and_saved(recording, tmp_path):
    result = result_of([], recording)
    assert (result.sorting.get_num_units(), result.embeddings.shape) == (0, (0, 2))
    assert result.sorting.get_num_segments() == 3
    loaded = SortingResult.load(result.save(tmp_path / "out"))
    assert loaded.sorting.get_num_units() == 0
    assert loaded.sorting.get_sampling_frequency() == 30000.0
    assert loaded.sorting.get_num_segments() == 3
    assert spikeinterface.load(tmp_path / "out").get_property("main_channel_id").tolist() == []


def test_only_our_own_folder_is_overwritten(recording, tmp_path):
    result = result_of([], recording)
    result.save(tmp_path / "out")
    with pytest.raises(FileExistsError, match="overwrite"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", overwrite=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(FileExistsError, match="remove it yourself"):
        result.save(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()
    (tmp_path / "empty").mkdir()
    check_output_folder(tmp_path / "empty")
    result.save(tmp_path / "empty")


def test_load_says_what_is_wrong(recording, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"huidurep\.json"):
        SortingResult.load(tmp_path)
    folder = result_of([group_of([10, 30], [0, 0], [0, 0], 0, ["a"])], recording).save(tmp_path / "out")
    np.save(folder / "embeddings.npy", np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"one row a spike \(2\) in .*embeddings.npy, found 1"):
        SortingResult.load(folder)


def test_folders_of_earlier_versions_open_with_the_names_of_today(recording, tmp_path):
    result = result_of([group_of([10, 30], [0, 1], [0, 0], 0, ["a", "b"])], recording)
    result.provenance = describe_run(recording)
    folder = result.save(tmp_path / "out")
    # the layout of commit 5e4c1da
    for old, new in OLD_PROPERTIES.items():
        (folder / "sorting" / "properties" / f"{new}.npy").rename(folder / "sorting" / "properties" / f"{old}.npy")
    (folder / "sorting" / "properties" / "isi_violations_ratio.npy").unlink()
    info = json.loads((folder / "huidurep.json").read_text())
    facts = {
        name: info["provenance"]["recording"][name] for name in ("num_channels", "sampling_frequency", "num_samples")
    }
    info["provenance"] = {name: info["provenance"][name] for name in ("time", "platform", "versions")} | facts
    (folder / "huidurep.json").write_text(json.dumps(info))

    loaded = SortingResult.load(folder)
    assert set(loaded.sorting.get_property_keys()) == set(result.sorting.get_property_keys()) - {"isi_violations_ratio"}
    for name in OLD_PROPERTIES.values():
        assert np.array_equal(loaded.sorting.get_property(name), result.sorting.get_property(name))
    assert loaded.provenance["recording"] == facts and loaded.provenance["versions"] == result.provenance["versions"]
    again = SortingResult.load(loaded.save(tmp_path / "again"))
    assert again.provenance == loaded.provenance
    assert not set(OLD_PROPERTIES) & set(again.sorting.get_property_keys())


def test_an_interrupted_save_leaves_the_earlier_result(recording, tmp_path, monkeypatch):
    folder = result_of([group_of([10], [0], [0], 0, ["a"])], recording).save(tmp_path / "out")
    larger = result_of([group_of([10, 30], [0, 0], [0, 0], 0, ["a"])], recording)
    monkeypatch.setattr(SortingParameters, "to_dict", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        larger.save(folder, overwrite=True)
    assert len(SortingResult.load(folder).posteriors) == 1 and [each.name for each in tmp_path.iterdir()] == ["out"]


class Bomb:
    def __reduce__(self):
        return (open, ("/nonexistent/the_bomb_went_off", "w"))


def test_loading_runs_no_code_of_the_folder(recording, tmp_path):
    folder = result_of([group_of([10, 30], [0, 1], [0, 0], 0, ["a", "b"])], recording).save(tmp_path / "out")
    for path in (folder / "si_folder.json", folder / "sorting" / "si_folder.json"):
        call = {"class": "os.system", "module": "os", "kwargs": {"command": f"touch {tmp_path}/ran"}}
        path.write_text(json.dumps(call | {"version": "1", "annotations": {}, "relative_paths": False}))
    assert SortingResult.load(folder).sorting.get_num_units() == 2
    assert not (tmp_path / "ran").exists()
    values = np.array([Bomb(), Bomb()], dtype=object)
    np.save(folder / "sorting" / "properties" / "area.npy", values, allow_pickle=True)
    with pytest.raises(ValueError, match="sorting"):
        SortingResult.load(folder)


@pytest.fixture
def saved(recording, tmp_path):
    return result_of([group_of([10, 30, 5], [0, 1, 0], [0, 0, 1], 0, ["a", "b"])], recording).save(tmp_path / "out")


DAMAGES = {
    "not JSON": "{",
    "nested": "[" * 100_000,
    "no object": "[]",
    "another format": '{"format": "other"}',
    "a version in words": '{"format": "huidurep-sorting", "format_version": "one"}',
    "a newer version": '{"format": "huidurep-sorting", "format_version": 9}',
    "nothing else": '{"format": "huidurep-sorting", "format_version": 1}',
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_description_is_named(saved, damage):
    (saved / "huidurep.json").write_text(DAMAGES[damage])
    with pytest.raises(ValueError, match=r"out.huidurep\.json.*(again|update)"):
        SortingResult.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        dict(parameters=[]),
        dict(parameters={"no_such_field": 1}),
        dict(parameters={"seed": "zero"}),
        dict(log="none"),
        dict(log=[1]),
        dict(model_name=3),
        dict(provenance=[]),
        dict(provenance={"recording": []}),
    ],
)
def test_wrong_values_in_the_description_are_named(saved, changes):
    info = json.loads((saved / "huidurep.json").read_text())
    (saved / "huidurep.json").write_text(json.dumps(info | changes))
    with pytest.raises(ValueError, match=r"out.huidurep\.json"):
        SortingResult.load(saved)


@pytest.mark.parametrize("was_adapted", [False, True])
def test_results_of_earlier_versions_load(saved, was_adapted):
    info = json.loads((saved / "huidurep.json").read_text())
    parameters = info["parameters"] | dict(peak_sign="both", adapt=was_adapted)
    (saved / "huidurep.json").write_text(json.dumps(info | dict(parameters=parameters)))
    assert SortingResult.load(saved).parameters.to_dict() == info["parameters"] | dict(peak_sign="auto")


@pytest.mark.parametrize("name", ["embeddings.npy", "posteriors.npy", "measures.npz", "sorting/spikes.npy"])
@pytest.mark.parametrize("content", [b"", b"damaged", "half", "header"])
def test_damaged_arrays_are_named(saved, name, content):
    if not (saved / name).exists():
        np.savez(saved / name, amplitudes_uv=np.zeros(3))
    whole = (saved / name).read_bytes()
    # numpy reads the header as Python text: a bracket that does not close is an error of its own
    damaged = {"half": whole[: len(whole) // 2], "header": whole.replace(b"'descr'", b"(descr'").replace(b"}", b" ")}
    (saved / name).write_bytes(damaged.get(content, content))
    with pytest.raises(ValueError, match=r"expected .*out.*(again|remove)"):
        SortingResult.load(saved)


def changed(**fields):
    """A change of the first row of an array with these fields."""

    def change(array):
        for name, value in fields.items():
            array[name][0] = value
        return array

    return change


IMPOSSIBLE = {
    "a posterior is missing": ("posteriors.npy", lambda array: array * [1, np.nan, 1]),
    "a posterior above 1": ("posteriors.npy", lambda array: array + 1),
    "posteriors of two axes": ("posteriors.npy", lambda array: array[:, None]),
    "an embedding is infinite": ("embeddings.npy", lambda array: array * np.inf),
    "a sample before the start": ("sorting/spikes.npy", changed(sample_index=-1)),
    "a unit that does not exist": ("sorting/spikes.npy", changed(unit_index=2)),
    "a segment that does not exist": ("sorting/spikes.npy", changed(segment_index=3)),
    "no order of time": ("sorting/spikes.npy", lambda array: array[::-1]),
    "another array": ("sorting/spikes.npy", lambda array: array["sample_index"]),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_arrays_are_named(saved, name):
    path, change = saved / IMPOSSIBLE[name][0], IMPOSSIBLE[name][1]
    np.save(path, change(np.load(path)).copy())
    with pytest.raises(ValueError, match=rf"expected .*{path.stem}.* found .*again"):
        SortingResult.load(saved)


def test_spikes_after_the_end_of_the_recording_are_named(recording, tmp_path):
    result = result_of([group_of([10, 999], [0, 1], [0, 2], 0, ["a", "b"])], recording)
    result.provenance = describe_run(recording)
    folder = result.save(tmp_path / "out")
    assert len(SortingResult.load(folder).posteriors) == 2
    info = json.loads((folder / "huidurep.json").read_text())
    for num_samples, words in (
        ([1000, 1000, 999], r"spikes\.npy, found 1 .*999 of segment 2"),
        ([1000], "3 segments"),
        ("x", "3"),
    ):
        info["provenance"]["recording"]["num_samples"] = num_samples
        (folder / "huidurep.json").write_text(json.dumps(info))
        with pytest.raises(ValueError, match=f"{words}.*again"):
            SortingResult.load(folder)


@pytest.mark.parametrize("name", ["snr", "peak_uv", "short_isi_fraction", "mean_posterior", "presence_ratio"])
@pytest.mark.parametrize("values", [[1.0, np.nan], ["1", "2"]])
def test_properties_that_are_never_missing_are_checked(saved, name, values):
    np.save(saved / "sorting" / "properties" / f"{name}.npy", np.array(values))
    with pytest.raises(ValueError, match=rf"{name}\.npy, found .*again"):
        SortingResult.load(saved)


@pytest.mark.parametrize("name", ["group", "main_channel_id"])
def test_properties_of_every_version_are_required(saved, name):
    (saved / "sorting" / "properties" / f"{name}.npy").unlink()
    with pytest.raises(ValueError, match=rf"{name}\.npy, found no such file.*again"):
        SortingResult.load(saved)


def test_a_main_channel_that_is_none_of_the_channels_is_named(tmp_path):
    folder = synthetic(2, 30).save(tmp_path / "out")
    np.save(folder / "sorting" / "properties" / "main_channel_id.npy", np.array([0, 99]))
    with pytest.raises(ValueError, match=r"main_channel_id\.npy, found \[99\].*again"):
        SortingResult.load(folder)


@pytest.mark.parametrize("changes", [dict(unit_ids=[0, 0]), dict(unit_ids=[0]), dict(sampling_frequency=0.0)])
def test_impossible_units_are_named(saved, changes):
    path = saved / "sorting" / "numpysorting_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match="expected .*sorting, found .*again"):
        SortingResult.load(saved)


def test_properties_of_objects_are_saved_as_numbers_or_text(tmp_path):
    result = synthetic(3, 20)
    for name, values in (
        ("area", ["CA1", None, float("nan")]),
        ("depth", [1, None, 2.5]),
        ("number", [1, 2, 3]),
        ("id", [2**70, 1, 2]),
    ):
        result.sorting.set_property(name, np.array(values, dtype=object))
    loaded = SortingResult.load(result.save(tmp_path / "out")).sorting
    assert loaded.get_property("area").tolist() == ["CA1", "", ""]
    assert np.array_equal(loaded.get_property("depth"), [1.0, np.nan, 2.5], equal_nan=True)
    assert loaded.get_property("number").tolist() == [1, 2, 3]
    assert loaded.get_property("id").tolist() == [str(2**70), "1", "2"]  # beyond 64 bits


def test_a_result_whose_units_were_replaced_is_not_saved(tmp_path):
    result = synthetic(3, 20)
    result.sorting = result.sorting.remove_units([0])
    with pytest.raises(ValueError, match=r"a spike \(40\), found 60 and 60; .*with_sorting"):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_times_are_kept_in_copies_and_in_other_processes(recording):
    recording.shift_times(100.0)
    result = result_of([group_of([10, 30], [0, 1], [0, 0], 0, ["a", "b"])], recording)
    for copied in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert copied.sorting.get_num_segments() == 3 and copied.sorting.get_start_time(1) == 100.0
        assert copied.sorting.get_property("main_channel_id").tolist() == ["a", "b"]
        assert copied.embeddings.tolist() == result.embeddings.tolist()


def test_a_property_of_other_units_is_named(saved):
    np.save(saved / "sorting" / "properties" / "snr.npy", np.ones(1))
    with pytest.raises(ValueError, match="out.sorting, found .*snr.*again"):
        SortingResult.load(saved)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("amplitudes_uv", lambda array: array[:-1]),
        ("motion_um", lambda array: array[:-1]),
        ("templates_uv", lambda array: array[:1]),
        ("channel_groups", lambda array: array[:1]),
        ("template_channels", lambda array: array + 99),
        ("drawn_spikes", lambda array: array + 10**6),
        ("contact_peaks_uv", lambda array: array[:-1]),
        ("positions_um", lambda array: array.astype(str)),
        ("amplitudes_uv", lambda array: np.where(np.arange(len(array)) == 5, np.nan, array)),
        ("amplitudes_uv", lambda array: np.where(np.arange(len(array)) == 5, np.inf, array)),
    ],
)
def test_measurements_of_other_units_are_named(tmp_path, name, change):
    folder = synthetic(2, 30).save(tmp_path / "out")
    assert SortingResult.load(folder).measurements is not None
    stored = dict(np.load(folder / "measures.npz"))
    np.savez(folder / "measures.npz", **stored | {name: change(stored[name])})
    with pytest.raises(ValueError, match=f"measures.npz, found {name} .*remove this file"):
        SortingResult.load(folder)
