"""The script for SLURM, run by a program `sbatch` that starts the tasks of an array one after the other."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import spikeinterface
from command_line import run

SCRIPT = Path(__file__).parents[2] / "examples" / "many_recordings.sbatch"
SBATCH = """#!/bin/sh
tasks=${1#--array=}; shift
export SLURM_CPUS_PER_TASK=1
for task in $(seq "${tasks%-*}" "${tasks#*-}"); do
    SLURM_ARRAY_TASK_ID=$task bash "$@" || echo "task $task failed"
done
"""
# Notes its words; a recording without samples fails.
HUIDUREP = """#!/bin/sh
printf '%s\\n' "$*" >> "$(dirname "$0")/called"
test -e "$4"
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="scripts of a Unix shell")


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """A function that submits the script for some tasks and returns what they print."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("huidurep", HUIDUREP)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def submit_tasks(tasks, *words):
        done = subprocess.run(["sbatch", f"--array={tasks}", SCRIPT, *words], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == ""
        return done.stdout

    return submit_tasks


def test_each_task_sorts_its_line_unless_that_is_done(submit, tmp_path, tetrode_folder):
    paths = [tetrode_folder, tmp_path / "finished", tmp_path / "lost"]
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "sorted" / "finished").mkdir(parents=True)
    printed = submit("1-3", tmp_path / "list.txt", tmp_path / "sorted", "--num-units", "3", "--matching", "none")
    assert "sorted/finished is there already" in printed and "task 3 failed" in printed
    assert "task 1" not in printed
    first, last = map(shlex.split, (tmp_path / "bin" / "called").read_text().splitlines())
    assert str(tetrode_folder) in first and str(tmp_path / "lost") in last
    # these are words of the command line, and what they write is what the script looks for
    assert run(*first, "--model", "tetrode").exit_code == 0
    assert spikeinterface.load(tmp_path / "sorted" / tetrode_folder.name).get_num_units() == 3
    assert "is there already" in submit("1-1", tmp_path / "list.txt", tmp_path / "sorted")
