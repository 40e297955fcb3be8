"""The command line for programs and shells: JSON, exit codes, interruption, log file, progress, completion."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import spikeinterface
import typer
from typer.testing import CliRunner

import huidurep
from huidurep.cli.main import app
from huidurep.result import SortingResult

COMMAND = (sys.executable, "-m", "huidurep")


def run(*words, env=None):
    return CliRunner(env=env).invoke(app, [str(word) for word in words])


@pytest.fixture
def waveforms(tmp_path):
    path = tmp_path / "waveforms.npy"
    np.save(path, np.random.default_rng(0).normal(0, 30, (6, 90, 4)).astype("float32"))
    return path


def test_sort_and_report_as_json(tetrode_folder, tmp_path):
    result = run("sort", tetrode_folder, tmp_path / "out", "--model", "tetrode", "--json")
    assert result.exit_code == 0, result.output
    told, sorting = json.loads(result.stdout), spikeinterface.load(tmp_path / "out")
    assert told["output"] == str(tmp_path / "out") and told["model"] == "tetrode" and told["seconds"] > 0
    assert told["num_units"] == len(sorting.unit_ids) >= told["num_good_units"] > 0
    assert told["num_spikes"] == len(sorting.to_spike_vector())
    assert (told["duration_s"], told["num_channels"]) == (pytest.approx(15.0), 4)
    assert not result.stderr  # no bars, for it is no terminal
    told = json.loads(run("report", tmp_path / "out", "--json").stdout)
    page = tmp_path / "out" / "report.html"
    assert told == {
        "page": str(page),
        "num_units": len(sorting.unit_ids),
        "size_mb": round(page.stat().st_size / 1e6, 1),
    }


def test_embed_and_simulate_as_json(waveforms, tmp_path):
    result = run("embed", waveforms, tmp_path / "out.npy", "--json")
    size = np.load(tmp_path / "out.npy").shape[1]
    wanted = {"output": str(tmp_path / "out.npy"), "num_spikes": 6, "embedding_size": size, "model": "tetrode"}
    assert json.loads(result.stdout) == wanted
    words = ("--num-units", 2, "--duration-s", 1, "--seed", 4, "--json")
    told = json.loads(run("simulate", "recording", tmp_path / "truth", *words).stdout)
    assert (told["num_units"], told["duration_s"], told["seed"]) == (2, pytest.approx(1.0), 4)
    assert told["num_spikes"] == len(spikeinterface.load(tmp_path / "truth" / "sorting").to_spike_vector())


@pytest.mark.parametrize(
    ("words", "error", "exit_code"),
    [
        (("sort", "nowhere", "out", "--json"), "expected a recording at nowhere", 2),
        (("simulate", "recording", "out", "--probe", "octrode", "--json"), "octrode", 2),
        (("sort", "a", "b", "--no-such-option", "--json"), "No such option: --no-such-option", 2),
        (("sorrt", "--json"), "No such command 'sorrt'. Did you mean 'sort'?", 2),
    ],
)
def test_errors_as_json(words, error, exit_code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    told = json.loads(result.stdout)
    assert result.exit_code == told["exit_code"] == exit_code
    assert error in told["error"] and told["error"].splitlines()[0] in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_no_mistake_of_the_user_has_another_exit_code(waveforms, tmp_path, monkeypatch):
    monkeypatch.setattr(huidurep.HuiduRep, "from_pretrained", lambda name: 1 / 0)
    result = run("embed", waveforms, tmp_path / "out.npy", "--json", "--log-file", tmp_path / "log.txt")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": "ZeroDivisionError: division by zero", "exit_code": 1}
    assert "--debug" in result.stderr and "Traceback" not in result.stderr
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_a_log_file_holds_what_maintainers_ask_for(tmp_path):
    log = tmp_path / "new" / "log.txt"
    words = ("simulate", "recording", tmp_path / "truth", "--num-units", 2, "--duration-s", 1, "--log-file", log)
    for _ in range(2):  # the second time OUTPUT is in use
        result = run(*words)
    text = log.read_text()
    assert text.count("# huidurep log") == 2
    for words in (f"huidurep {huidurep.__version__}", "torch ", "spikeinterface ", f"folder: {Path.cwd()}", "Python 3"):
        assert words in text
    assert "2 units ->" in text and "Traceback" in text and "FileExistsError" in text
    assert result.exit_code == 2 and "Traceback" not in result.output
    foreign = tmp_path / "thesis.tex"
    foreign.write_text("mine")
    refused = run("list", "--log-file", foreign)
    assert refused.exit_code == 2 and "thesis.tex" in refused.stderr and foreign.read_text() == "mine"


@pytest.mark.parametrize("words", [("--token", "secret"), ("--token=secret",), ("hf_secret",)])
def test_a_log_file_holds_no_token(words, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["huidurep", "push", "out", *words])
    run("list", "--log-file", tmp_path / "log.txt")
    text = (tmp_path / "log.txt").read_text()
    assert "push out" in text and "secret" not in text and "***" in text


def test_the_log_file_does_not_change_what_stderr_shows(tmp_path):
    words = ("simulate", "recording", "--num-units", 1, "--duration-s", 1, "--log-file", tmp_path / "log.txt")
    assert run(*words, tmp_path / "quiet").stderr == ""
    assert "huidurep.cli.output" in run(*words, tmp_path / "loud", "--debug").stderr
    assert (tmp_path / "log.txt").read_text().count("DEBUG huidurep.cli.output") == 2


def interrupt(*_, **__):
    raise KeyboardInterrupt


def assert_interrupted(result, folder, names):
    assert result.exit_code == 130, result.output
    assert "huidurep: interrupted" in result.stderr and "Traceback" not in result.output
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_interrupted_writing_leaves_nothing_behind(waveforms, tmp_path, monkeypatch):
    def write_half(file, array, **_):
        file.write(b"half")
        interrupt()

    monkeypatch.setattr("numpy.save", write_half)
    assert_interrupted(run("embed", waveforms, tmp_path / "out.npy"), tmp_path, ["waveforms.npy"])
    monkeypatch.undo()
    monkeypatch.setattr("spikeinterface.core.BaseSorting.save", interrupt)  # the recording is written already
    result = run("simulate", "recording", tmp_path / "truth", "--num-units", 2, "--duration-s", 1)
    assert_interrupted(result, tmp_path, ["waveforms.npy"])


def test_an_interrupted_save_keeps_the_earlier_result(tmp_path, monkeypatch):
    sorting = spikeinterface.core.NumpySorting.from_unit_dict([{"0": np.array([5, 9])}], 30000.0)
    arrays = np.zeros((2, 3), "float32"), np.ones(2, "float32")
    result = SortingResult(sorting, *arrays, huidurep.SortingParameters(seed=7))
    result.save(tmp_path / "out")
    rename = Path.rename
    for name, interrupted in (
        ("numpy.save", interrupt),  # in the middle of writing, and when the earlier result has made way
        ("pathlib.Path.rename", lambda old, new: interrupt() if old.name == "new" else rename(old, new)),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(name, interrupted)
            result.save(tmp_path / "out", overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert SortingResult.load(tmp_path / "out").parameters.seed == 7


# a shell starts background jobs so, and what they start inherits it
can_be_interrupted = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason="started with interruptions ignored"
)


@can_be_interrupted
def test_an_interruption_that_python_drops_comes_again(waveforms, tmp_path, monkeypatch):
    class Cleared:
        def __del__(self):
            interrupt()

    def load(name):
        Cleared()
        for _ in range(3000):
            time.sleep(0.01)

    monkeypatch.setattr(huidurep.HuiduRep, "from_pretrained", load)
    started = time.monotonic()
    assert_interrupted(run("embed", waveforms, tmp_path / "out.npy"), tmp_path, ["waveforms.npy"])
    assert time.monotonic() - started < 10


@can_be_interrupted
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c(tetrode_folder, tmp_path):
    words = ("sort", tetrode_folder, tmp_path / "out", "--verbose", "--json")
    process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "preprocessing" in line:
            process.send_signal(signal.SIGINT)
            break
    told, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(told) == {"error": "interrupted", "exit_code": 130}
    assert "Traceback" not in complaint and not list(tmp_path.iterdir())


def test_progress_is_shown_on_a_terminal(tmp_path):
    """And nowhere else: test_sort_and_report_as_json."""
    pty = pytest.importorskip("pty")
    fcntl, struct, termios = (pytest.importorskip(name) for name in ("fcntl", "struct", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    recording, _ = huidurep.simulate_recording(num_units=2, duration_s=4.0)
    recording.save(folder=tmp_path / "recording")
    words = [*COMMAND, "sort", "recording", "out", "--model", "tetrode", "--matching", "none"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert process.wait() == 0
    stages = re.findall(r"stage (\d) of 8: (\w+)", shown.decode())
    assert list(dict.fromkeys(stages))[0] == ("1", "preprocessing") and ("5", "clustering") in stages
    assert [int(number) for number, _ in stages] == sorted(int(number) for number, _ in stages)
    assert "detect peaks" in shown.decode()  # SpikeInterface's own bars
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", shown.decode())


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


def complete(*words, shell="bash"):
    """What the shell would offer for the last word."""
    line = " ".join(("huidurep", *words))
    env = {"_HUIDUREP_COMPLETE": f"complete_{shell}"}
    env |= {"bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}}.get(shell, {"_TYPER_COMPLETE_ARGS": line})
    env |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    return run(env=env).stdout.split()


def test_completion_of_commands_and_values():
    assert complete("so") == ["sort"]
    assert complete("sort", "--merge") == ["--merge-bias"]
    assert complete("sort", "in", "out", "--model", "neuro") == ["neuropixels-1.0", "neuropixels-2.0"]
    assert set(complete("embed", "--model", "")) == set(huidurep.list_checkpoints())
    assert set(complete("finetune", "--model", "")) == {"auto", *huidurep.list_checkpoints()}
    assert complete("sort", "--matching", "t") == ["tdc-peeler"]
    assert complete("sort", "--detection", "m") == ["matched_filtering"]
    assert complete("sort", "--preset", "") == ["paper"]
    assert complete("sort", "--motion", "dredge_") == ["dredge_fast"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_in_other_shells(shell):
    assert any("sort" in word for word in complete("so", shell=shell))
    assert not any("embed" in word for word in complete("so", shell=shell))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_with_the_script_that_is_shown(tmp_path):
    assert {"--show-completion", "--install-completion"} <= set(run("--help").stdout.split())
    script = tmp_path / "completion.sh"
    script.write_text(run(env={"_HUIDUREP_COMPLETE": "source_bash"}).stdout)
    program = Path(sys.executable).with_name("huidurep")
    if not program.exists():
        pytest.skip("huidurep is not installed as a program")
    typed = (
        f'source {script}; COMP_WORDS=(huidurep so); COMP_CWORD=1; _huidurep_completion {program}; echo "$COMPREPLY"'
    )
    assert subprocess.run(["bash", "-c", typed], capture_output=True, text=True).stdout.strip() == "sort"


def test_every_command_has_help_and_json():
    def commands(group, names=()):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, (*names, name))
            else:
                yield (*names, name)

    found = list(commands(typer.main.get_command(app)))
    assert {("sort",), ("embed",), ("finetune",), ("pretrain",), ("simulate", "recording"), ("list",)} <= set(found)
    for names in found:
        text = run(*names, "--help").stdout
        assert "--json" in text, names
        assert re.search(r"\n  [A-Z][^\n]*\.\n", text), names
