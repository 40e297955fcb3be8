"""Who may import whom: two roads, one model."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import huidurep

PACKAGE = Path(huidurep.__file__).parent
LEAVES = {"hub", "clustering", "simulation", "output_files", "provenance"}
# room -> the rooms it may import; the version and the public names of the package itself count as ""
LAW = {
    **dict.fromkeys(LEAVES, set()),
    "provenance": {""},
    "models": {"hub", ""},
    "sorting": {"clustering"},
    "training": {"models", "clustering", "simulation", "provenance", "output_files"},
    "exporters": {"sorting", "output_files", "provenance"},
    "report": {"sorting", "clustering", "output_files", "provenance"},
    "result": {"hub", "models", "sorting", "exporters", "report", "output_files", "provenance"},
    "pipeline": {"models", "sorting", "result", "hub", "provenance"},
    "tracking": {"hub", "models", "sorting", "result", "report", "output_files", "provenance"},
    "finetuning": {*LEAVES, "models", "sorting", "training", "pipeline"},
    "integrations": {*LEAVES, "", "models", "sorting", "pipeline", "result"},
    "cli": {*LEAVES, "", "models", "sorting", "training", "pipeline", "finetuning", "report", "exporters", "tracking"},
    "__main__": {"cli"},
    "": {"integrations"},
}
FORBIDDEN_PACKAGES = {
    "hub": {"torch"},
    "models": {"spikeinterface"},
    "sorting": {"torch", "transformers"},
    "training": {"spikeinterface"},
}


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def annotations_only(tree):
    """Nodes of `if TYPE_CHECKING:`, which never run."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    guards = [node for node in guards if getattr(node.test, "id", None) == "TYPE_CHECKING"]
    return {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def imports_of(path, source=None):
    """Absolute dotted names that a module imports, lazily or not; those for annotations are left out."""
    tree = ast.parse(source or path.read_text(encoding="utf8"))
    skipped, package = annotations_only(tree), ["huidurep", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(path):
    """The modules of the package that a module imports, "" for the package itself."""
    for name in imports_of(path):
        if name == "huidurep" or name.startswith("huidurep."):
            inner = name[len("huidurep.") :]
            while inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]  # of a function the module
            yield inner


def room_of(module):
    return module.split(".")[0]


def test_imports_are_resolved():
    source = "from . import a\nfrom ..b import c\nimport d.e\ndef f():\n    from .g import h\n"
    source += "if TYPE_CHECKING:\n    from .i import j\n"
    found = set(imports_of(PACKAGE / "sorting" / "x.py", source))
    assert found == {"huidurep.sorting.a", "huidurep.b.c", "d.e", "huidurep.sorting.g.h"}


def test_every_room_has_a_law():
    assert {room_of(module) for module in MODULES} == set(LAW)
    assert len([path for path in PACKAGE.iterdir() if not path.name.startswith("__pycache__")]) <= 20


def test_rooms_import_only_what_the_law_allows():
    found = {(room_of(module), room_of(other)) for module, path in MODULES.items() for other in own_imports(path)}
    assert {(room, other) for room, other in found if room != other and other not in LAW[room]} == set()


@pytest.mark.parametrize(("room", "packages"), FORBIDDEN_PACKAGES.items())
def test_rooms_do_not_import_packages_of_the_other_road(room, packages):
    for module, path in MODULES.items():
        if room_of(module) == room:
            assert not packages & {name.split(".")[0] for name in imports_of(path)}, module


def test_no_circle():
    graph = {module: set(own_imports(path)) - {"", module} for module, path in MODULES.items() if module}
    rooms = {}
    for module, others in graph.items():
        rooms.setdefault(room_of(module), set()).update(map(room_of, others))
    for each in (graph, {room: others - {room} for room, others in rooms.items()}):
        try:
            TopologicalSorter(each).prepare()
        except CycleError as error:
            pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_the_law_notices_a_circle():
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_models_import_the_package_absolutely():
    # transformers copies what `from .x import` names: a relative import of hub/ would be missing beside the weights
    for path in (PACKAGE / "models").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf8"))
        levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert max(levels, default=0) <= 1, path.name


PROBE = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import {module}
heavy = {{"torch", "transformers", "spikeinterface", "sklearn", "scipy", "matplotlib"}} & set(sys.modules)
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


@pytest.mark.parametrize("module", ["huidurep", "huidurep.cli", "huidurep.hub.select"])
def test_import_is_light_and_offline(module):
    run = subprocess.run([sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_public_names_can_be_imported():
    missing = [name for name in huidurep.__all__ if not hasattr(huidurep, name)]
    assert not missing
