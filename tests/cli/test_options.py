"""Options that commands share, and shell completion."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

import huidurep


def complete(*words, shell="bash"):
    """What the shell suggests for the last word."""
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
