"""Public functions and classes have numpy docstrings."""

import ast
from pathlib import Path

import huidurep

PACKAGE = Path(huidurep.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
UNDOCUMENTED_ARGUMENTS = {"self", "cls"}


def public_objects(tree):
    """(qualified name, node) of public functions and classes, and of the public methods of what users import."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if node.name in huidurep.__all__:
                for child in node.body:
                    if isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
                        yield f"{node.name}.{child.name}", child


def is_exempt(name, path):
    """Whether one sentence is enough.

    The docstring of a command is its help, where options document themselves. The code in models/ travels with every
    published checkpoint and is kept short.
    """
    return path.parent.name == "models" or (path.parent.name == "cli" and name == path.stem)


def complaints(path):
    for name, node in public_objects(ast.parse(path.read_text(encoding="utf8"))):
        doc = ast.get_docstring(node)
        if not doc:
            yield f"{name}: no docstring"
        elif isinstance(node, ast.FunctionDef) and not is_exempt(name, path):
            yield from (f"{name}: {text}" for text in missing_sections(node, doc))


def missing_sections(function, doc):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names = [argument.arg for argument in named if argument.arg not in UNDOCUMENTED_ARGUMENTS]
    if names and "Parameters\n---" not in doc:
        yield "no Parameters section"
    elif names:
        section = doc.split("Parameters\n---", 1)[1]
        yield from (f"argument {name} is not described" for name in names if name not in section)
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    is_property = any(isinstance(each, ast.Name) and each.id == "property" for each in function.decorator_list)
    if any(value is not None for value in returned) and "Returns\n---" not in doc and not is_property:
        yield "no Returns section"


def test_public_objects_are_documented():
    found = {str(path.relative_to(PACKAGE)): list(complaints(path)) for path in MODULES}
    assert {path: texts for path, texts in found.items() if texts} == {}
