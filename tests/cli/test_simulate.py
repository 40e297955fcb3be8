"""`huidurep simulate`."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
import spikeinterface
from command_line import assert_refused, run

import huidurep


def test_simulate_recording_writes_recording_and_truth(tmp_path):
    words = ("--num-units", 3, "--duration-s", 2, "--seed", 5)
    result = run("simulate", "recording", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    recording = spikeinterface.load(tmp_path / "out" / "recording")
    truth = spikeinterface.load(tmp_path / "out" / "sorting")
    assert recording.get_total_duration() == pytest.approx(2.0)
    assert len(truth.unit_ids) == 3
    assert json.loads((tmp_path / "out" / "simulation.json").read_text())["seed"] == 5
    assert_refused(run("simulate", "recording", tmp_path / "out", *words), "empty")


def test_wrong_options_and_output_are_refused_first(tmp_path, monkeypatch):
    def work(**settings):
        raise AssertionError("simulated before the checks")

    monkeypatch.setattr(huidurep, "simulate_recording", work)
    result = run("simulate", "recording", tmp_path / "out", "--num-units", 0)
    assert result.exit_code == 2 and "--num-units" in result.stderr
    (tmp_path / "file").touch()
    assert_refused(run("simulate", "recording", tmp_path / "file" / "out"), "folder", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.mkdtemp", Mock(side_effect=PermissionError(13, "Permission denied")))
    assert_refused(run("simulate", "recording", tmp_path / "new" / "out"), str(tmp_path), "Permission denied")
    assert not (tmp_path / "new").exists()


def test_simulate_cells_refuses_python_and_folder(tmp_path):
    assert_refused(run("simulate", "cells", tmp_path / "out", "--python", tmp_path / "none"), "Python", "none")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert_refused(run("simulate", "cells", tmp_path / "out"), "thesis.tex")


def test_simulate_cells_prints_the_licence(tmp_path, monkeypatch):
    def rebuild(folder, *, python):
        names = [f"L5_{kind}PC_made_1" for kind in "AB"]
        for name in names:
            folder.mkdir(exist_ok=True)
            segments = np.cumsum(np.ones((2, 2, 3), "f4"), 0)
            currents = np.array([[np.hanning(20), -np.hanning(20)]], "f4")
            np.savez(folder / f"{name}.npz", seg=segments, diam=np.ones(2, "f4"), imem=currents)
        return [folder / f"{name}.npz" for name in names]

    monkeypatch.setattr("huidurep.simulation.rebuild_cells.rebuild_detailed_cells", rebuild)
    result = run("simulate", "cells", tmp_path / "bank")
    assert result.exit_code == 0, result.output
    assert "2 of 2 cells, CC BY-NC-SA 4.0" in result.stdout
    assert "creativecommons.org/licenses/by-nc-sa" in result.stderr


def test_simulate_recording_as_json(tmp_path):
    words = ("--num-units", 2, "--duration-s", 1, "--seed", 4, "--json")
    printed = json.loads(run("simulate", "recording", tmp_path / "truth", *words).stdout)
    assert (printed["num_units"], printed["duration_s"], printed["seed"]) == (2, pytest.approx(1.0), 4)
    assert printed["num_spikes"] == len(spikeinterface.load(tmp_path / "truth" / "sorting").to_spike_vector())
