import numpy as np
import pytest
import spikeinterface
from spikeinterface.core.base import minimum_spike_dtype
from stand_in import as_recording

from huidurep.output_files import check_output_folder
from huidurep.result import SortingResult
from huidurep.sorting.aggregation import GroupSorting, assemble, empty_group
from huidurep.sorting.parameters import SortingParameters


def group_of(samples, units, segments, name, channels):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"], vector["unit_index"], vector["segment_index"] = samples, units, segments
    rows = np.arange(len(samples), dtype="float32")
    properties = {
        "main_channel_id": channels,
        "group": [name] * len(channels),
        "snr": [5.0] * len(channels),
        "peak_uv": [-50.0] * len(channels),
        "num_spikes": [1] * len(channels),
        "refractory_violations": [0.0] * len(channels),
        "isolation": [0.95] * len(channels),
        "presence": [1.0] * len(channels),
        "quality": ["good"] * len(channels),
    }
    return GroupSorting(vector, np.column_stack([np.asarray(samples, "float32"), rows]), rows, properties)


@pytest.fixture
def recording():
    return as_recording(*[np.zeros((1000, 4), dtype="float32")] * 3, channel_ids=["a", "b", "c", "d"])


def result_of(groups, recording):
    sorting, embeddings, posteriors, _ = assemble(groups, recording, 2)
    log = [{"stage": "x", "seconds": 0.1, "message": "y"}]
    return SortingResult(sorting, embeddings, posteriors, SortingParameters(seed=3), "tetrode", "v1", log)


def test_groups_are_joined_in_order_of_time(recording):
    first = group_of([10, 30, 5], [0, 1, 0], [0, 0, 1], 0, ["a", "b"])
    second = group_of([20, 30, 1], [0, 0, 0], [0, 0, 1], 7, ["d"])
    sorting, embeddings, _, _ = assemble([first, empty_group(2), second], recording, 2)
    vector = sorting.to_spike_vector()
    assert vector["sample_index"].tolist() == [10, 20, 30, 30, 1, 5]
    assert vector["unit_index"].tolist() == [0, 2, 1, 2, 2, 0]
    assert embeddings[:, 0].tolist() == vector["sample_index"].tolist()
    assert sorting.get_property("main_channel_id").tolist() == ["a", "b", "d"]
    assert sorting.get_property("group").tolist() == [0, 0, 7]
    assert sorting.get_property("quality").tolist() == ["good"] * 3
    assert sorting.get_num_segments() == 3  # the last one without spikes


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
    with pytest.raises(FileExistsError, match="expected an empty or new output folder, found.*overwrite"):
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
    with pytest.raises(ValueError, match=r"one embedding and one posterior a spike \(2\), found 1"):
        SortingResult.load(folder)
