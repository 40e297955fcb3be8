"""House rules that a machine can check: sizes, words, and one version number everywhere."""

import ast
import configparser
import re
from pathlib import Path

import huidurep

ROOT = Path(__file__).parents[2]
FOLDERS = ("huidurep", "conversion", "benchmarks", "examples", "tests", "model_cards")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MAX_FILE_LINES, MAX_EXAMPLE_LINES = 600, 80
MAX_FUNCTION_LINES = 60  # docstring included
MAX_PAGE_LINES = {"README.md": 200, "CHANGELOG.md": 79, "CONTRIBUTING.md": 80}
MAX_FIXTURE_BYTES = 100_000
# Words that only the authors of the package understood; standard terms and plain English stand in their place.
PRIVATE_WORDS = re.compile(
    r"\b(tissue|nats?|settl(e|ed|ing)|(?<!typer\.)echo(es)?|imagined|takes? turns)\b"
    r"|\b(so many at most|held? against|told what)\b",
    re.IGNORECASE,
)


def relative(path):
    return str(path.relative_to(ROOT))


def read(path):
    return path.read_text(encoding="utf8")


def test_files_are_short():
    limits = {path: MAX_EXAMPLE_LINES if path.parent == ROOT / "examples" else MAX_FILE_LINES for path in FILES}
    limits |= {ROOT / name: limit for name, limit in MAX_PAGE_LINES.items()}
    lines = {path: len(read(path).splitlines()) for path in limits}
    assert {relative(path): count for path, count in lines.items() if count > limits[path]} == {}


def test_functions_are_short():
    long = {}
    for path in FILES:
        functions = [node for node in ast.walk(ast.parse(read(path))) if isinstance(node, ast.FunctionDef)]
        lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
        long |= {(relative(path), name): lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}
    assert long == {}


def test_no_private_words():
    found = {}
    for path in sorted((ROOT / "huidurep").rglob("*")):
        if path.suffix in (".py", ".html", ".css", ".js"):
            lines = enumerate(read(path).splitlines(), 1)
            found |= {
                f"{relative(path)}:{number}": line.strip() for number, line in lines if PRIVATE_WORDS.search(line)
            }
    assert found == {}


def test_no_todo_without_issue():
    pattern = re.compile(r"\b(TODO|FIXME)\b(?!.*#\d)")
    assert [relative(path) for path in FILES if path != Path(__file__) and pattern.search(read(path))] == []


def test_one_version():
    """Written in the package; setup.cfg reads it there."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf8")
    assert setup["metadata"]["version"] == "attr: huidurep.__version__"
    assert f"\nversion: {huidurep.__version__}\n" in read(ROOT / "CITATION.cff")
    assert re.search(r"^## \[(.+?)\] - \d{4}-\d\d-\d\d$", read(ROOT / "CHANGELOG.md"), re.M)[1] == huidurep.__version__


def test_fixtures_are_small():
    files = [path for path in (ROOT / "tests").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert [relative(path) for path in files if path.stat().st_size > MAX_FIXTURE_BYTES] == []
