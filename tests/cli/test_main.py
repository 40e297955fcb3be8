"""The program `huidurep`: its commands, its own options, and what all commands have in common."""

import re
from importlib.metadata import entry_points
from unittest.mock import Mock

import typer
from command_line import assert_refused, run

import huidurep
from huidurep.cli import app

COMMANDS = {
    "sort",
    "embed",
    "report",
    "convert",
    "track",
    "finetune",
    "pretrain",
    "simulate",
    "download",
    "push",
    "list",
    "doctor",
}


def test_help_lists_commands():
    result = run("--help")
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.output.splitlines() if line.startswith("  ")} >= COMMANDS


def test_version():
    assert run("--version").output.strip() == f"huidurep {huidurep.__version__}"


def test_the_installed_command_is_this_app():
    (entry,) = entry_points(group="console_scripts", name="huidurep")
    assert entry.load() is app


def test_unknown_option_is_bad_usage(tmp_path):
    assert run("sort", tmp_path, tmp_path / "out", "--no-such-option").exit_code == 2


def test_unwritable_output_is_refused_before_input_is_read(tmp_path, monkeypatch):
    """INPUT does not exist: the error is about OUTPUT."""
    (tmp_path / "file").touch()
    commands = {
        "sort": ("nothing-here", "{}"),
        "embed": ("nothing-here.npy", "{}.npy"),
        "pretrain": ("--config", "none.json", "--output", "{}"),
        "simulate": ("recording", "{}"),
    }
    for name, words in commands.items():
        refused = run(name, *[word.format(tmp_path / "file" / "out") for word in words])
        assert_refused(refused, str(tmp_path / "file"), "OUTPUT")
    monkeypatch.setattr("tempfile.TemporaryDirectory", Mock(side_effect=OSError(30, "Read-only file system")))
    for name, words in commands.items():
        refused = run(name, *[word.format(tmp_path / "new" / "out") for word in words])
        assert_refused(refused, str(tmp_path), "Read-only file system")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_command_has_help_and_json():
    def commands(group, names=()):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, (*names, name))
            else:
                yield (*names, name)

    found = list(commands(typer.main.get_command(app)))
    assert {names[0] for names in found} == COMMANDS and ("simulate", "recording") in found
    for names in found:
        text = run(*names, "--help").stdout
        assert "--json" in text, names
        assert re.search(r"\n  [A-Z][^\n]*\.\n", text), names
