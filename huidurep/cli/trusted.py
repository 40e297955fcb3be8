"""Which recordings may be opened: `spikeinterface.load` unpickles files and calls the class that a JSON file names."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

PICKLES = (".pkl", ".pickle")
# Their extractors read data files and run no code from them.
TRUSTED_PACKAGES = ("spikeinterface", "neo", "probeinterface", "huidurep")
# Files in a folder from which SpikeInterface learns what to open.
DESCRIPTIONS = ("si_folder.json", "binary.json", "cached.json", "provenance.json", "spikeinterface_info.json")


def check_runs_no_code(path: Path) -> None:
    """Refuse what would run code of the file's author when SpikeInterface opens it.

    Parameters
    ----------
    path : Path
        File or folder.

    Raises
    ------
    ValueError
        A pickle, arrays of pickled objects, or a JSON file that names another class than an extractor of
        `TRUSTED_PACKAGES`.
    """
    for each in _described(path):
        if each.suffix in PICKLES:
            _refuse(each, "a pickle")
        elif each.suffix == ".npy":
            _check_array(each)
        elif each.name == ".zarray":
            if '"pickle"' in each.read_text(encoding="utf8"):
                _refuse(each, "pickled objects")
        else:
            try:
                content = json.loads(each.read_text(encoding="utf8"))
            except (OSError, ValueError):
                continue  # SpikeInterface cannot read it either, and says so
            _check_classes(content, each)


def _described(path: Path) -> list[Path]:
    """The files that SpikeInterface would interpret."""
    if path.is_file():
        return [path] if path.suffix in (*PICKLES, ".json") else []
    inside = [path / name for name in DESCRIPTIONS]
    inside += [path / f"cached{suffix}" for suffix in PICKLES]
    return [each for each in inside if each.is_file()] + sorted(
        [*path.glob("**/properties/*.npy"), *path.glob("**/.zarray")]
    )


def _check_array(path: Path) -> None:
    import numpy as np

    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        _refuse(path, "pickled objects")


def _check_classes(content: Any, path: Path) -> None:
    """Check each class named in a description, also those of recordings inside recordings."""
    if isinstance(content, dict):
        if "class" in content and "kwargs" in content:
            _check_class(content["class"], path)
        for each in content.values():
            _check_classes(each, path)
    elif isinstance(content, list):
        for each in content:
            _check_classes(each, path)


def _check_class(name: Any, path: Path) -> None:
    from spikeinterface.core.base import BaseExtractor

    module, _, attribute = str(name).rpartition(".")
    if module.split(".")[0] not in TRUSTED_PACKAGES:
        _refuse(path, f"the class {name!r}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return  # of another version: SpikeInterface says what is missing
    if not (isinstance(found, type) and issubclass(found, BaseExtractor)):
        _refuse(path, f"{name!r}, which is no recording or sorting,")


def _refuse(path: Path, found: str) -> None:
    raise ValueError(
        f"expected a recording that opens without running code of its author, found {found} in {path}: save it with "
        "recording.save(folder=...), or pass --allow-pickle if you trust where it comes from."
    )
