"""Who may import whom: two roads, one model."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import huidurep

PACKAGE = Path(huidurep.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}

MODEL_MODULES = {
    "modeling_geometry",
    "modeling_huidurep",
    "modeling_layers",
    "modeling_outputs",
    "modeling_pretraining",
    "inference",
}
MODEL_MAY_IMPORT = MODEL_MODULES | {"configuration_huidurep", "losses", "input_contract"}
# Those who embed without sorting: the node of SpikeInterface's pipelines and the transformer of scikit-learn. They
# take waveforms that others have cut, so they need the model and nothing of sorting/. What "auto" means is asked of
# pipeline.py, lazily, where the model and sorting/ meet and which alone knows it.
EMBEDDING_MODULES = {
    "encoder_choice": {("modeling_huidurep", True), ("pipeline", True)},
    "feature_node": {("encoder_choice", False)},
    "spike_embedder": {("encoder_choice", False), ("input_contract", False)},
}
MODEL_MAY_IMPORT_LAZILY = {"hub", "publishing", "publishing_code", "training"}
FORBIDDEN = {
    "sorting": {"torch", "transformers", "huidurep.training", "huidurep.simulation", "huidurep.modeling_huidurep"},
    "training": {"spikeinterface", "huidurep.sorting", "huidurep.pipeline"},
    "simulation": {"huidurep.sorting", "huidurep.training", "huidurep.pipeline"},
}


def imports_of(path, source=None):
    """(absolute dotted name, is_lazy) of every import of a module; lazy: inside a function."""
    tree = ast.parse(source or path.read_text(encoding="utf8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {child for function in functions for child in ast.walk(function)}
    package = ["huidurep", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in lazy
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", node in lazy


def siblings_of(path):
    """(name below huidurep, is_lazy) of the package's own modules that a module imports."""
    for name, is_lazy in imports_of(path):
        if name.startswith("huidurep."):
            yield name.split(".")[1], is_lazy


def test_imports_are_resolved():
    source = "from . import a\nfrom ..b import c\nimport d.e\ndef f():\n    from .g import h\n"
    found = set(imports_of(PACKAGE / "sorting" / "x.py", source))
    assert found == {
        ("huidurep.sorting.a", False),
        ("huidurep.b.c", False),
        ("d.e", False),
        ("huidurep.sorting.g.h", True),
    }


@pytest.mark.parametrize(
    "name", ["configuration_huidurep", "losses", "input_contract", "refractory", "separation", "tracks"]
)
def test_foundations_import_no_sibling(name):
    assert list(siblings_of(PACKAGE / f"{name}.py")) == []


def test_clustering_stands_on_its_foundations():
    assert set(siblings_of(PACKAGE / "displacement.py")) == {("tracks", False)}
    assert {name for name, _ in siblings_of(PACKAGE / "clustering.py")} == {
        "displacement",
        "refractory",
        "separation",
        "tracks",
    }


@pytest.mark.parametrize("name", sorted(MODEL_MODULES))
def test_model_imports_only_its_foundations(name):
    for sibling, is_lazy in siblings_of(PACKAGE / f"{name}.py"):
        allowed = MODEL_MAY_IMPORT | (MODEL_MAY_IMPORT_LAZILY if is_lazy else set())
        assert sibling in allowed, f"{name} imports {sibling}{' lazily' if is_lazy else ''}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES.values())
def test_roads_stay_apart(path):
    road = path.relative_to(PACKAGE).parts[0]
    for name, _ in imports_of(path):
        for forbidden in FORBIDDEN.get(road, ()):
            assert name != forbidden and not name.startswith(forbidden + "."), f"{NAMES[path]} imports {name}"


@pytest.mark.parametrize(("name", "allowed"), EMBEDDING_MODULES.items())
def test_those_who_embed_need_nothing_of_sorting(name, allowed):
    assert set(siblings_of(PACKAGE / f"{name}.py")) == allowed


PROBE = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import {module}
heavy = {{"torch", "transformers", "spikeinterface", "sklearn", "scipy", "matplotlib"}} & set(sys.modules)
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""


@pytest.mark.parametrize("module", ["huidurep", "huidurep.cli"])
def test_import_is_light_and_offline(module):
    run = subprocess.run([sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_public_names_can_be_imported():
    missing = [name for name in huidurep.__all__ if not hasattr(huidurep, name)]
    assert not missing
