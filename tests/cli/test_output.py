"""The log file, and progress on a terminal."""

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import run

import huidurep
from huidurep.cli import app


def test_log_file_has_command_versions_result_and_traceback(tmp_path):
    log = tmp_path / "new" / "log.txt"
    words = ("simulate", "recording", tmp_path / "truth", "--num-units", 2, "--duration-s", 1, "--log-file", log)
    for _ in range(2):  # the second time OUTPUT exists
        result = run(*words)
    text = log.read_text()
    assert text.count("# huidurep log") == 2
    for token in (f"huidurep {huidurep.__version__}", "torch ", "spikeinterface ", f"folder: {Path.cwd()}", "python 3"):
        assert token in text
    assert "2 units ->" in text and "Traceback" in text and "FileExistsError" in text
    assert result.exit_code == 2 and "Traceback" not in result.output
    foreign = tmp_path / "thesis.tex"
    foreign.write_text("mine")
    refused = run("list", "--log-file", foreign)
    assert refused.exit_code == 2 and "thesis.tex" in refused.stderr and foreign.read_text() == "mine"


@pytest.mark.parametrize("words", [("--token", "secret"), ("--token=secret",), ("hf_secret",)])
def test_log_file_has_no_token(words, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["huidurep", "push", "out", *words])
    run("list", "--log-file", tmp_path / "log.txt")
    text = (tmp_path / "log.txt").read_text()
    assert "push out" in text and "secret" not in text and "***" in text


def test_log_file_of_a_path_with_bytes_that_are_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["huidurep", "sort", os.fsdecode(b"donn\xe9es")])
    assert run("list", "--log-file", tmp_path / "log.txt").exit_code == 0
    assert "donn\\udce9es" in (tmp_path / "log.txt").read_text(encoding="utf8")


def test_log_file_does_not_change_stderr(tmp_path):
    words = ("simulate", "recording", "--num-units", 1, "--duration-s", 1, "--log-file", tmp_path / "log.txt")
    assert run(*words, tmp_path / "quiet").stderr == ""
    assert "huidurep.cli.output" in run(*words, tmp_path / "loud", "--debug").stderr
    assert (tmp_path / "log.txt").read_text().count("DEBUG huidurep.cli.output") == 2


def test_progress_is_shown_on_a_terminal(tmp_path, monkeypatch):
    """And not elsewhere: test_sort_and_report_as_json."""
    pty = pytest.importorskip("pty")
    fcntl, struct, termios = (pytest.importorskip(name) for name in ("fcntl", "struct", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    recording, _ = huidurep.simulate_recording(num_units=2, duration_s=4.0)
    recording.save(folder=tmp_path / "recording")
    with ThreadPoolExecutor(1) as reader, open(theirs, "w") as terminal, monkeypatch.context() as patch:
        shown = reader.submit(lambda: b"".join(iter(lambda: _read(ours), b"")))
        patch.setattr(sys, "stderr", terminal)
        patch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            app(["sort", "recording", "out", "--model", "tetrode", "--matching", "none"])
        terminal.close()
    shown = shown.result()
    assert not end.value.code
    stages = re.findall(r"stage (\d) of \d+: (\w+)", shown.decode())
    assert list(dict.fromkeys(stages))[0] == ("1", "preprocessing") and ("5", "clustering") in stages
    assert [int(number) for number, _ in stages] == sorted(int(number) for number, _ in stages)
    # SpikeInterface's passes are shown in our line, and have no bars of their own
    assert re.search(r"stage 3 of \d+: detection, detect peaks \d+%", shown.decode())
    lines = [line for line in re.split(r"[\r\n]", shown.decode()) if "%|" in line]
    assert lines and all(re.match(r"stage|loading", line) for line in lines)
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", shown.decode())


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other side is closed (Linux)
        return b""
