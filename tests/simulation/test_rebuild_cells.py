"""Detailed cells are simulated by another Python, for which there is a stand-in here."""

import ast
import logging
import sys

import pytest

from huidurep.simulation import rebuild_cells
from huidurep.simulation.rebuild_cells import LICENCE, SCRIPT, rebuild_detailed_cells

STAND_IN = """#!/bin/sh
if [ "$1" = -c ]; then printf 'some banner\\n\\n1.11.0 8.2.6\\n'; exit; fi
echo "$@" >> {log}
case "$2" in
    prepare) printf 'NEURON says hello\\n["A", "B"]\\n' ;;
    simulate) case "$4" in *{failing}.npz) echo 'no current made it fire' >&2; exit 1 ;; esac
        echo cell > "$4"; printf '\\nnull\\n' ;;
esac
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes a program that answers as neuron_cells.py does, failing for the named cell."""
    monkeypatch.setattr(rebuild_cells, "_check_compiler", lambda: None)

    def make(failing="none"):
        path = tmp_path / "python"
        path.write_text(STAND_IN.format(log=tmp_path / "log", failing=failing))
        path.chmod(0o755)
        return path

    return make


def test_a_run_that_stopped_goes_on(stand_in, tmp_path, caplog):
    cells = tmp_path / "cells"
    with pytest.raises(RuntimeError, match="no current made it fire"):
        rebuild_detailed_cells(cells, python=stand_in(failing="B"))
    (cells / "A.npz").write_text("the first run's")
    with caplog.at_level(logging.INFO, "huidurep.simulation"):
        assert rebuild_detailed_cells(cells, python=stand_in()) == [cells / "A.npz", cells / "B.npz"]
    assert (cells / "A.npz").read_text() == "the first run's" and (cells / "B.npz").read_text() == "cell\n"
    assert (cells / "LICENSE.txt").read_text() == LICENCE and "CC BY-NC-SA 4.0" in LICENCE
    assert "cell 1 of 2, A: there already" in caplog.text and "cell 2 of 2, B: simulating" in caplog.text
    assert "1.11.0 and 8.2.6" in caplog.text


def test_a_python_without_the_packages_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild_cells, "_check_compiler", lambda: None)
    with pytest.raises(ValueError, match="No module named .*'MEArec==1.11.0' 'neuron==8.2.7'"):
        rebuild_detailed_cells(tmp_path / "cells", python=sys.executable)
    with pytest.raises(FileNotFoundError, match="correct --python"):
        rebuild_detailed_cells(tmp_path / "cells", python=tmp_path / "none")
    assert not (tmp_path / "cells").exists()


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(FileNotFoundError, match="found no make and no C.. compiler: install them .*build-essential"):
        rebuild_detailed_cells(tmp_path / "cells")


def test_pip_that_finds_nothing_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild_cells, "_check_compiler", lambda: None)
    make_venv = 'mkdir -p "$3/bin"; cp "$0" "$3/bin/python"'
    pip = f'#!/bin/sh\ncase "$2" in venv) {make_venv} ;; *) echo ERROR: no match >&2; exit 1 ;; esac\n'
    (tmp_path / "base").write_text(pip)
    (tmp_path / "base").chmod(0o755)
    monkeypatch.setattr(rebuild_cells, "_base_python", lambda: tmp_path / "base")
    with pytest.raises(RuntimeError, match="ERROR: no match; connect to a package index, .* --python"):
        rebuild_detailed_cells(tmp_path / "cells", cache_folder=tmp_path / "cache")


def test_the_program_for_the_other_python_imports_nothing_of_this_package():
    tree = ast.parse(SCRIPT.read_text())
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    sources = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not any(name.startswith("huidurep") for name in named + [node.module or "" for node in sources])
    assert not any(node.level for node in sources)
