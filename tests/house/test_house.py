"""House rules that a machine can check: sizes, and one version number everywhere."""

import ast
import configparser
import re
from pathlib import Path

import pytest

import huidurep

ROOT = Path(__file__).parents[2]
FOLDERS = ("huidurep", "conversion", "benchmarks", "examples", "tests", "model_cards")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MAX_FILE_LINES = 600
MAX_EXAMPLE_LINES = 80
MAX_FUNCTION_LINES = 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf8")
    limit = MAX_EXAMPLE_LINES if path.parent.name == "examples" else MAX_FILE_LINES
    assert len(source.splitlines()) <= limit
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_no_todo_without_issue():
    for path in FILES:
        if path != Path(__file__):
            assert not re.search(r"\b(TODO|FIXME)\b(?!.*#\d)", path.read_text(encoding="utf8")), path


def test_one_version():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf8")
    assert setup["metadata"]["version"] == huidurep.__version__
    assert f"\nversion: {huidurep.__version__}\n" in citation


def test_fixtures_are_small():
    folder = ROOT / "tests"
    large = [path.name for path in folder.rglob("*") if path.suffix != ".pyc" and path.stat().st_size > 100_000]
    assert not large
