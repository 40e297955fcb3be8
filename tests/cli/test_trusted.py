"""INPUT runs no code of its author."""

import json
import pickle

import numpy as np
import pytest
import spikeinterface

from huidurep.cli.inputs import read_recording
from huidurep.cli.options import RecordingOptions


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
