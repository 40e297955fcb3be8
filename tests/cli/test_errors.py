"""Exit codes, errors as text and as JSON, interruption."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import spikeinterface
from command_line import assert_interrupted, raise_interrupt, run

import huidurep
from huidurep.result import SortingResult

COMMAND = (sys.executable, "-m", "huidurep")


@pytest.fixture
def waveforms(tmp_path):
    path = tmp_path / "waveforms.npy"
    np.save(path, np.random.default_rng(0).normal(0, 30, (6, 90, 4)).astype("float32"))
    return path


def test_debug_shows_the_traceback(tmp_path):
    words = ("sort", tmp_path / "nothing", tmp_path / "out")
    for result in (run("--debug", *words), run(*words, "--debug")):
        assert result.exit_code == 2
        assert "Traceback" in result.stderr and "FileNotFoundError" in result.stderr


@pytest.mark.parametrize(
    ("words", "error", "exit_code"),
    [
        (("sort", "nowhere", "out", "--json"), "nowhere", 2),
        (("simulate", "recording", "out", "--probe", "octrode", "--json"), "octrode", 2),
        (("sort", "a", "b", "--no-such-option", "--json"), "No such option: --no-such-option", 2),
        (("sorrt", "--json"), "No such command 'sorrt'. Did you mean 'sort'?", 2),
    ],
)
def test_errors_as_json(words, error, exit_code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    printed = json.loads(result.stdout)
    assert result.exit_code == printed["exit_code"] == exit_code
    assert error in printed["error"] and printed["error"].splitlines()[0] in result.stderr
    assert not list(tmp_path.iterdir())


def test_internal_error_has_exit_code_1(waveforms, tmp_path, monkeypatch):
    monkeypatch.setattr(huidurep.HuiduRep, "from_pretrained", lambda name: 1 / 0)
    result = run("embed", waveforms, tmp_path / "out.npy", "--json", "--log-file", tmp_path / "log.txt")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": "ZeroDivisionError: division by zero", "exit_code": 1}
    assert "--debug" in result.stderr and "Traceback" not in result.stderr
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_interrupted_writing_leaves_no_files(waveforms, tmp_path, monkeypatch):
    def write_half(file, array, **_):
        file.write(b"half")
        raise_interrupt()

    monkeypatch.setattr("numpy.save", write_half)
    assert_interrupted(run("embed", waveforms, tmp_path / "out.npy"), tmp_path, ["waveforms.npy"])
    monkeypatch.undo()
    monkeypatch.setattr("spikeinterface.core.BaseSorting.save", raise_interrupt)  # the recording is written already
    result = run("simulate", "recording", tmp_path / "truth", "--num-units", 2, "--duration-s", 1)
    assert_interrupted(result, tmp_path, ["waveforms.npy"])


def test_an_interrupted_save_keeps_the_earlier_result(tmp_path, monkeypatch):
    sorting = spikeinterface.core.NumpySorting.from_unit_dict([{"0": np.array([5, 9])}], 30000.0)
    arrays = np.zeros((2, 3), "float32"), np.ones(2, "float32")
    result = SortingResult(sorting, *arrays, huidurep.SortingParameters(seed=7))
    result.save(tmp_path / "out")
    # while the files are written, and while the new folder takes its name
    for name in ("numpy.save", "huidurep.output_files._exchange"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(name, raise_interrupt)
            result.save(tmp_path / "out", overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert SortingResult.load(tmp_path / "out").parameters.seed == 7


# shells start background jobs with SIGINT ignored, and child processes inherit that
can_be_interrupted = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason="started with interruptions ignored"
)


@can_be_interrupted
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c(tetrode_folder, tmp_path):
    words = ("sort", tetrode_folder, tmp_path / "out", "--verbose", "--json")
    process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "preprocessing" in line:
            process.send_signal(signal.SIGINT)
            break
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(stdout) == {"error": "interrupted", "exit_code": 130}
    assert "Traceback" not in stderr and not list(tmp_path.iterdir())
