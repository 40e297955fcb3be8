"""What the pages name is there: files, links, tests, parameters, options. mkdocs is not needed."""

import re
from dataclasses import fields
from pathlib import Path

import typer.main

import huidurep
from huidurep.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "huidurep"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
TEXTS = {name: path.read_text(encoding="utf8") for name, path in PAGES.items()}
AT_TOP = {name: (ROOT / name).read_text(encoding="utf8") for name in ("README.md", "CONTRIBUTING.md")}
# Paths of the repository begin with one of these, or are one of the files at its top.
FOLDERS = "benchmarks|contrib|conversion|docs|examples|huidurep|model_cards|tests"
FILES = "README.md|CITATION.cff|CHANGELOG.md|Makefile|setup.cfg|constraints.txt|constraints-lowest.txt|mkdocs.yml"


def words_of_code(text):
    """What stands between single backquotes outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def all_options():
    """Options of every command, as they are typed."""
    commands, options = [typer.main.get_command(app)], {"--help", "--install-completion", "--show-completion"}
    while commands:
        command = commands.pop()
        commands.extend(getattr(command, "commands", {}).values())
        for parameter in command.params:
            options.update([*parameter.opts, *parameter.secondary_opts])
    return options


def relative_links(text):
    links = [link.split("#")[0] for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text) if "://" not in link]
    return list(filter(None, links))


def test_links_lead_to_files():
    """Those of a page within docs/, for mkdocs finds no others."""
    targets = {
        (name, link): (PAGES[name].parent / link).resolve() for name in PAGES for link in relative_links(TEXTS[name])
    }
    assert [key for key, target in targets.items() if not (target.is_file() and DOCS in target.parents)] == []
    missing = [
        (name, link) for name, text in AT_TOP.items() for link in relative_links(text) if not (ROOT / link).exists()
    ]
    assert missing == []


def named_paths():
    """(page, path, test in it or "") of every path of the repository that a page names."""
    for name, text in (TEXTS | AT_TOP).items():
        for word in words_of_code(text):
            if re.fullmatch(rf"(?:(?:{FOLDERS})/[\w./-]*|{FILES})(?:::\w+)?", word):
                path, _, test = word.partition("::")
                yield name, path, test


def test_named_files_and_tests_exist():
    named = list(named_paths())
    assert len(named) > 100
    assert [(name, path) for name, path, _ in named if not (ROOT / path).exists()] == []
    tests = [(name, path, test) for name, path, test in named if test]
    sources = {path: (ROOT / path).read_text(encoding="utf8") for _, path, _ in tests}
    assert [each for each in tests if not re.search(rf"^def {each[2]}\(", sources[each[1]], re.M)] == []


def test_named_functions_exist():
    """In the tables of the architecture: `function` in `module`."""
    found = re.findall(r"`(?:\w+\.)?(\w+)`,? (?:in |\()`(huidurep/[\w/]+\.py)`", TEXTS["architecture.md"])
    assert len(found) > 10
    missing = [each for each in found if not re.search(rf"(def|class) {each[0]}\b", (ROOT / each[1]).read_text("utf8"))]
    assert missing == []


def test_the_tree_of_the_package_is_as_drawn():
    tree = re.search(r"^```text\nhuidurep/\n(.*?)^```", TEXTS["architecture.md"], re.M | re.S)[1]
    drawn, folder = set(), ""
    for line in tree.splitlines():
        if re.match(r"  \S", line):
            folder = re.match(r"  (\w+)/ ", line)[1] + "/" if re.match(r"  \w+/ ", line) else ""
        drawn |= {folder + name for name in re.findall(r"\b\w+\.py\b", line)}
    assert [name for name in sorted(drawn) if not (PACKAGE / name).is_file()] == []
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(re.findall(r"^  (\w+)/ ", tree, re.M))
    files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    assert {name for name in files - drawn if not name.startswith("cli/")} == set()


def test_named_parameters_exist():
    valid = {field.name for field in fields(huidurep.SortingParameters)} | set(dir(huidurep.SortingParameters))
    named = {name for text in (TEXTS | AT_TOP).values() for name in re.findall(r"\bSortingParameters\.(\w+)", text)}
    assert named - valid == set()
    for name, text in TEXTS.items():  # the columns of the pages for those who come from another sorter
        if name.startswith("howto/from_"):
            cells = [row.split("|")[3] for row in re.findall(r"^\| `.*$", text, re.M) if row.count("|") == 6]
            assert set(re.findall(r"`(\w+)`", "".join(cells))) - valid <= {"job_kwargs", "device"}, name


def test_named_options_exist():
    """Of our own commands: in the blocks, lines that call huidurep; elsewhere, what begins with two hyphens."""
    named = set()
    for text in (TEXTS | AT_TOP).values():
        blocks = re.findall(r"^```(?:bash|sh|text)?\n(.*?)^```", text, re.M | re.S)
        lines = [
            line.split("#")[0] for block in blocks for line in block.splitlines() if re.search(r"\bhuidurep ", line)
        ]
        lines += [word for word in words_of_code(text) if word.startswith(("--", "huidurep "))]
        named |= {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)}
    assert named - all_options() == set()


def test_python_compiles():
    for name, text in (TEXTS | AT_TOP).items():
        for snippet in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
            compile(snippet, name, "exec")


def test_every_page_is_in_the_navigation():
    """And the other way round."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf8").split("\nnav:\n")[1]
    assert sorted(re.findall(r"^ *- .*?: (\S+\.md)$", navigation, re.M)) == sorted(PAGES)


def test_every_public_name_is_in_the_reference():
    names = re.findall(r"^::: (\S+)$", TEXTS["api.md"], re.M)
    assert {name.rsplit(".", 1)[1] for name in names} == set(huidurep.__all__) - {"__version__"}
    for name in names:  # where it is defined, for the pages are made from sources
        module, _, each = name.rpartition(".")
        source = (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf8")
        assert re.search(rf"^(def|class) {each}\b", source, re.M), name


def test_every_theme_is_answered():
    answers = r"^\| (\d+) \| [^|]+ \| \*\*(?:Yes|Partly|Not answered)\b[^|]+ \| [^|]+ \|$"
    assert [int(number) for number in re.findall(answers, TEXTS["needs.md"], re.M)] == list(range(1, 31))


def test_every_example_is_a_tutorial():
    examples = {path.name for path in (ROOT / "examples").glob("*.*")}
    assert set(re.findall(r"`examples/(\w+\.(?:py|ipynb|sbatch))`", TEXTS["tutorials.md"])) == examples
