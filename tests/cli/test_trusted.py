"""INPUT runs no code of its author."""

import json
import pickle

import numpy as np
import pytest
import spikeinterface
from command_line import run

from huidurep.cli.inputs import read_recording
from huidurep.cli.options import RecordingOptions
from huidurep.cli.trusted import check_runs_no_code


class Bomb:
    def __reduce__(self):
        return (open, ("/nonexistent/the_bomb_went_off", "w"))


def refused(path):
    with pytest.raises(ValueError, match="--allow-pickle"):
        read_recording(path, RecordingOptions())


@pytest.fixture
def saved(tetrode_folder, tmp_path):
    import shutil

    return shutil.copytree(tetrode_folder, tmp_path / "recording")


def test_saved_recordings_open(saved):
    assert read_recording(saved, RecordingOptions()).get_num_channels() == 4


def test_pickles_are_refused_and_not_opened(tmp_path, saved):
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "bomb.pkl")
    path = tmp_path / "recording.pickle"
    spikeinterface.load(saved).dump_to_pickle(path)
    refused(path)
    assert read_recording(path, RecordingOptions(allow_pickle=True)).get_num_channels() == 4


@pytest.mark.parametrize("name", ["os.system", "spikeinterface.core.job_tools.fix_job_kwargs", "subprocess.Popen"])
@pytest.mark.parametrize("is_inside", [False, True])
def test_other_classes_are_refused(tmp_path, name, is_inside):
    description = {"class": name, "module": "os", "kwargs": {"command": "false"}, "version": "1", "annotations": {}}
    if is_inside:
        outer = "spikeinterface.core.channelslice.ChannelSliceRecording"
        description = description | {"class": outer, "kwargs": {"parent_recording": description}}
    (tmp_path / "recording.json").write_text(json.dumps(description))
    refused(tmp_path / "recording.json")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "si_folder.json").write_text(json.dumps(description))
    refused(tmp_path / "folder")


def test_pickled_properties_are_refused(saved):
    np.save(saved / "properties" / "brain_area.npy", np.array([Bomb()] * 4, dtype=object), allow_pickle=True)
    refused(saved)


def test_packages_that_the_user_lists(tmp_path):
    description = {"class": "os.Thing", "kwargs": {}, "version": "1", "annotations": {}, "properties": {}}
    (tmp_path / "recording.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="class 'os.Thing'.*--trust-package"):
        check_runs_no_code(tmp_path / "recording.json", ["numpy"])
    check_runs_no_code(tmp_path / "recording.json", ["os"])


def test_options_of_one_command_line_reach_the_check(tmp_path):
    description = {"class": "os.Thing", "kwargs": {}, "version": "1", "annotations": {}, "properties": {}}
    (tmp_path / "recording.json").write_text(json.dumps(description))
    refusal = run("sort", tmp_path / "recording.json", tmp_path / "out").stderr
    assert "--trust-package" in refusal
    passed = run("sort", tmp_path / "recording.json", tmp_path / "out", "--trust-package", "os").stderr
    assert "--trust-package" not in passed and "spikeinterface.load" in passed


def described(saved, **kwargs):
    content = json.loads((saved / "si_folder.json").read_text())
    return json.dumps(content | {"kwargs": content["kwargs"] | kwargs})


@pytest.mark.parametrize("is_link", [False, True])
def test_folders_that_a_description_names_are_checked_too(tmp_path, saved, is_link):
    saved = saved.rename(tmp_path / "evil")
    bomb = np.array([Bomb()] * 4, dtype=object)
    if is_link:
        (tmp_path / "elsewhere").mkdir()
        np.save(tmp_path / "elsewhere" / "area.npy", bomb, allow_pickle=True)
        (saved / "properties").rename(tmp_path / "old")
        (saved / "properties").symlink_to(tmp_path / "elsewhere")
        refused(saved)
    else:
        np.save(saved / "properties" / "area.npy", bomb, allow_pickle=True)
    name = "spikeinterface.core.binaryfolder.BinaryFolderRecording"
    description = {"class": name, "kwargs": {"folder_path": "evil"}, "version": "1", "annotations": {}}
    (tmp_path / "recording.json").write_text(json.dumps(description | {"properties": {}}))
    refused(tmp_path / "recording.json")


@pytest.mark.parametrize(
    "name",
    [
        "spikeinterface.extractors.phykilosortextractors.PhySortingExtractor",
        "spikeinterface.extractors.extractor_classes.PhySortingExtractor",
        "spikeinterface.extractors.klustaextractors.KlustaSortingExtractor",
    ],
)
def test_readers_that_run_text_are_refused(tmp_path, name):
    (tmp_path / "recording.json").write_text(json.dumps({"class": name, "kwargs": {"folder_path": "x"}}))
    refused(tmp_path / "recording.json")


@pytest.mark.parametrize("content", [b'{"class": "os.system"}\xff', b"[" * 100_000, b'{"kwargs": {"p": "s3://a/b"}}'])
def test_what_another_reader_might_understand_is_refused(tmp_path, content):
    (tmp_path / "recording.json").write_bytes(content)
    refused(tmp_path / "recording.json")


def test_pickles_in_consolidated_zarr_are_refused(tmp_path):
    (tmp_path / "recording.zarr").mkdir()
    (tmp_path / "recording.zarr" / ".zmetadata").write_text('{"metadata": {"a/.zarray": {"filters": ["pickle"]}}}')
    refused(tmp_path / "recording.zarr")


@pytest.mark.parametrize("name", ["extensions", "waveforms", "sorter_output"])
def test_other_objects_are_refused(saved, name):
    (saved / name).mkdir()
    refused(saved)
