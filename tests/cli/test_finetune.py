"""`huidurep finetune`."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from command_line import assert_refused, run
from spikeinterface.core import NumpySorting
from stand_in import TETRODE_UM, as_recording, planted

import huidurep
from huidurep.finetuning.finetune import FinetuneReport

FIGURES = dict(adjusted_rand_index=0.5, draws=[0.5])


@pytest.fixture
def finetune(monkeypatch):
    report = FinetuneReport(Path("out"), "worse", "old", FIGURES, FIGURES, -0.1, 0.01, "tetrode", seconds=3.0)
    double = Mock(return_value=report)
    monkeypatch.setitem(vars(huidurep), "finetune", double)
    return double


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Half a second of a tetrode, as spikeinterface saves it."""
    recording = as_recording(planted(duration_s=0.5)[0], positions_um=TETRODE_UM)
    path = tmp_path_factory.mktemp("recording") / "tetrode"
    recording.save(folder=path, n_jobs=1)
    return path


def test_recordings_and_options_arrive(finetune, folder, tmp_path):
    truth = tmp_path / "truth"
    NumpySorting.from_unit_dict([{"1": np.array([500, 900])}], 30000.0).save(folder=truth)
    options = ("--output", tmp_path / "out", "--model", "base", "--steps", 7, "--seed", 3, "--probe", "tetrode")
    result = run("finetune", folder, folder, *options, "--sorting", truth, "--sorting", truth)
    assert result.exit_code == 0, result.output
    (recordings,), given = finetune.call_args
    assert [each.get_num_channels() for each in recordings] == [4, 4] and len(given["sortings"]) == 2
    wanted = dict(output_dir=tmp_path / "out", model="base", steps=7, seed=3)
    wanted["job_kwargs"] = {"n_jobs": 1, "progress_bar": False}
    assert {name: given[name] for name in wanted} == wanted
    assert "worse than tetrode" in result.stdout and "old weights" in result.stdout


def test_json(finetune, folder, tmp_path):
    result = run("finetune", folder, "--output", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["outcome"] == "worse"
    assert finetune.call_args.kwargs["sortings"] is None


@pytest.mark.parametrize("words", [("--sorting", "nowhere"), ("--probe", "nowhere")])
def test_wrong_options_are_refused(words, finetune, folder, tmp_path):
    result = run("finetune", folder, "--output", tmp_path / "out", *words)
    assert_refused(result, "nowhere")
    assert not finetune.called


def test_output_in_use(finetune, folder, tmp_path):
    (tmp_path / "thesis.tex").touch()
    result = run("finetune", folder, "--output", tmp_path)
    assert_refused(result, "empty")
    assert not finetune.called
