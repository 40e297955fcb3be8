"""Which recordings may be opened: `spikeinterface.load` unpickles files and calls the class that a JSON file names."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

PICKLES = (".pkl", ".pickle")
# Their extractors read data files and run no code from them, ...
TRUSTED_PACKAGES = ("spikeinterface", "neo", "probeinterface", "huidurep")
# ... but for these modules, which execute or evaluate the text of the files that they read.
RUN_CODE = ("phykilosortextractors", "klustaextractors", "sinapsrecordingextractors")
# Files in a folder from which SpikeInterface learns what to open.
DESCRIPTIONS = ("si_folder.json", "binary.json", "cached.json", "provenance.json", "spikeinterface_info.json")
ZARR_DESCRIPTIONS = (".zarray", ".zmetadata", "zarr.json")
# What SpikeInterface recognises by folders in it; all of them may hold pickles.
OTHER_OBJECTS = ("sorter_output", "waveforms", "extensions")


def check_runs_no_code(path: Path, packages: Collection[str] = ()) -> None:
    """Refuse what would run code of the file's author when SpikeInterface opens it.

    Parameters
    ----------
    path : Path
        File or folder. Folders that its descriptions name are checked too.
    packages : collection of str
        Further packages whose classes may be named.

    Raises
    ------
    ValueError
        A pickle, arrays of pickled objects, an address in a network, an object that is no recording, or a JSON file
        that names another class than an extractor of `TRUSTED_PACKAGES` and `packages`.
    """
    trusted, pending, seen = {*TRUSTED_PACKAGES, *packages}, [path], set()
    while pending:
        each = pending.pop()
        if each.resolve() in seen:
            continue
        seen.add(each.resolve())
        if each.is_dir():
            pending += _interpreted(each)
        elif each.suffix in PICKLES:
            _refuse(each, "a pickle")
        elif each.suffix == ".npy":
            _check_array(each)
        elif each.name in ZARR_DESCRIPTIONS:
            if b'"pickle"' in each.read_bytes():
                _refuse(each, "pickled objects")
        elif each.suffix == ".json":
            content = _read(each)
            _check_classes(content, each, trusted)
            pending += _folders_named_in(content, each)


def _interpreted(folder: Path) -> Iterator[Path]:
    """The files in a folder that SpikeInterface would interpret, and folders that are links."""
    found = [name for name in OTHER_OBJECTS if (folder / name).is_dir()]
    if found:
        _refuse(folder, f"an object with a folder {found[0]!r}, which may hold pickles,")
    names = (*DESCRIPTIONS, *(f"cached{suffix}" for suffix in PICKLES))
    yield from (folder / name for name in names if (folder / name).is_file())
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in folders if Path(place, name).is_symlink())
        yield from (Path(place, name) for name in files if name.endswith(".npy") or name in ZARR_DESCRIPTIONS)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError):  # SpikeInterface may read it in the encoding of the system
        _refuse(path, "no JSON in UTF-8")


def _check_array(path: Path) -> None:
    import numpy as np

    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TokenError):
        _refuse(path, "pickled objects")


def _check_classes(content: Any, path: Path, trusted: Collection[str]) -> None:
    """Check each class named in a description, also those of recordings inside recordings."""
    if isinstance(content, dict):
        if "class" in content:
            _check_class(content["class"], path, trusted)
        if str(content.get("object")).startswith(("SortingAnalyzer", "WaveformExtractor", "Group")):
            _refuse(path, f"{content['object']!r}, which may hold pickles,")
        for each in content.values():
            _check_classes(each, path, trusted)
    elif isinstance(content, list):
        for each in content:
            _check_classes(each, path, trusted)


def _check_class(name: Any, path: Path, trusted: Collection[str]) -> None:
    from spikeinterface.core.base import BaseExtractor

    module, _, attribute = str(name).rpartition(".")
    package = module.split(".")[0]
    if package not in trusted or module.endswith(RUN_CODE):
        _refuse(path, f"the class {name!r}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return  # of another version: SpikeInterface says what is missing
    is_extractor = isinstance(found, type) and issubclass(found, BaseExtractor)
    if not is_extractor or found.__module__.endswith(RUN_CODE):
        _refuse(path, f"{name!r}, which is no recording or sorting that only reads data,")


def _folders_named_in(content: Any, path: Path) -> Iterator[Path]:
    """Folders that a description names, relative to its own or absolute, which SpikeInterface opens then."""
    if isinstance(content, dict | list):
        for each in content.values() if isinstance(content, dict) else content:
            yield from _folders_named_in(each, path)
    elif isinstance(content, str):
        if "://" in content:
            _refuse(path, f"the address {content.split('://')[0]}://...")
        # longer texts are no paths, and the system refuses them with an error
        if content and len(content) < 1000 and "\0" not in content and (path.parent / content).is_dir():
            yield path.parent / content


def _refuse(path: Path, found: str) -> None:
    raise ValueError(
        f"expected a recording that opens without running code of its author, found {found} in {path}: save it with "
        "recording.save(folder=...), name the package of the class with --trust-package, or pass --allow-pickle if you "
        "trust where it comes from."
    )
