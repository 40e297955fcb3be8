"""Runs commands of `huidurep` in this process, and checks how they end."""

from typer.testing import CliRunner

from huidurep.cli import app


def run(*words, env=None):
    """Result of a command: exit_code, stdout, stderr, output."""
    return CliRunner(env=env).invoke(app, [str(word) for word in words])


def assert_refused(result, *tokens, code=2):
    """Exit code 2 and one line on stderr with these names or numbers, no traceback."""
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("huidurep: ")]
    assert len(lines) == 1 and "Traceback" not in result.output
    for token in tokens:
        assert token in lines[0]


def assert_interrupted(result, folder, names):
    """Exit code 130, and only these files in the folder."""
    assert result.exit_code == 130, result.output
    assert "huidurep: interrupted" in result.stderr and "Traceback" not in result.output
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def raise_interrupt(*_, **__):
    """Stands in for a function during which the user presses Ctrl-C."""
    raise KeyboardInterrupt
