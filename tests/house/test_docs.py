"""What the pages name is there: files, links, tests, parameters, options. mkdocs is not needed."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer.main

import huidurep
from huidurep.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if DOCS / "upstream" not in path.parents]
IDS = [str(path.relative_to(DOCS)) for path in PAGES]
# Paths of the repository begin with one of these, or are one of the files at its top.
FOLDERS = "benchmarks|conversion|docs|examples|huidurep|model_cards|tests"
FILES = "README.md|CITATION.cff|CHANGELOG.md|Makefile|setup.cfg|constraints.txt|constraints-lowest.txt|mkdocs.yml"
each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def words_of_code(page):
    """What stands between single backquotes outside of blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf8"), flags=re.M | re.S)
    return re.findall(r"`([^`]+)`", text)


def all_options():
    """Options of every command, as they are typed."""
    commands, options = [typer.main.get_command(app)], {"--help", "--install-completion", "--show-completion"}
    while commands:
        command = commands.pop()
        commands.extend(getattr(command, "commands", {}).values())
        for parameter in command.params:
            options.update([*parameter.opts, *parameter.secondary_opts])
    return options


@each_page
def test_links_lead_to_pages(page):
    """Within docs/, for mkdocs finds no others."""
    text = page.read_text(encoding="utf8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text) if "://" not in link]
    for link in filter(None, links):
        target = (page.parent / link).resolve()
        assert target.is_file() and DOCS in target.parents, link


@each_page
def test_named_files_and_tests_exist(page):
    for word in words_of_code(page):
        for example in re.findall(r"\b0\d_\w+\.py", word):
            assert (ROOT / "examples" / example).is_file(), word
        if not re.fullmatch(rf"(?:(?:{FOLDERS})/[\w./-]*|{FILES})(?:::\w+)?", word):
            continue
        path, _, test = word.partition("::")
        assert (ROOT / path).exists(), word
        assert not test or re.search(rf"^def {test}\(", (ROOT / path).read_text(encoding="utf8"), re.M), word


@each_page
def test_named_parameters_exist(page):
    valid = {field.name for field in fields(huidurep.SortingParameters)} | set(dir(huidurep.SortingParameters))
    named = set(re.findall(r"\bSortingParameters\.(\w+)", page.read_text(encoding="utf8")))
    assert named <= valid


@each_page
def test_named_options_exist(page):
    """Of our own commands: in the blocks, lines that call huidurep; elsewhere, what begins with two hyphens."""
    blocks = re.findall(r"^```(?:bash|text)?\n(.*?)^```", page.read_text(encoding="utf8"), re.M | re.S)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines() if re.search(r"\bhuidurep ", line)]
    lines += [word for word in words_of_code(page) if word.startswith(("--", "huidurep "))]
    named = {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)}
    assert named <= all_options()


@each_page
def test_python_compiles(page):
    for snippet in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf8"), re.M | re.S):
        compile(snippet, str(page), "exec")


def test_every_page_is_in_the_navigation():
    """And the other way round."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf8").split("\nnav:\n")[1]
    listed = re.findall(r"^ *- .*?: (\S+\.md)$", navigation, re.M)
    assert sorted(listed) == sorted(IDS)


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text(encoding="utf8")
    described = {name.rsplit(".", 1)[1] for name in re.findall(r"^::: (\S+)$", text, re.M)}
    assert described == set(huidurep.__all__) - {"__version__"}
    for name in re.findall(r"^::: (\S+)$", text, re.M):  # where it is defined, for the pages are made from sources
        module, _, each = name.rpartition(".")
        source = (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf8")
        assert re.search(rf"^(def|class) {each}\b", source, re.M), name


def test_every_theme_is_answered():
    text = (DOCS / "needs.md").read_text(encoding="utf8")
    numbers = re.findall(r"^\| (\d+) \| [^|]+ \| \*\*(?:Yes|Partly|Not answered)\b[^|]+ \| [^|]+ \|$", text, re.M)
    assert [int(number) for number in numbers] == list(range(1, 31))


def test_every_example_is_a_tutorial():
    text = (DOCS / "tutorials.md").read_text(encoding="utf8")
    assert set(re.findall(r"examples/(\w+\.py)", text)) == {path.name for path in (ROOT / "examples").glob("*.py")}
