"""What finished stages found, in a folder from which an interrupted sorting goes on.

A stage is one .npz file: its arrays, and a JSON text that says what they belong to. Reading it runs no code: nothing is
unpickled, and only the classes that are listed here are made. `stages.json` says what is sorted, and the SHA-256 of
each file: a file that a power cut left incomplete counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..clustering.disk_arrays import release
from ..clustering.drift import Drift
from ..clustering.mixture import Clustering
from ..clustering.unit_mixture import UnitMixture
from .aggregation import GroupSorting
from .clustering import Assignment, UnitModel
from .postprocessing import UnitMeasurements
from .run_log import RunLog

Found = TypeVar("Found")
FORMAT = "huidurep-stages-1"
MANIFEST = "stages.json"
TEXT = "json"  # name of the array with the JSON text, UTF-8
CLASSES = (Assignment, Clustering, Drift, GroupSorting, UnitMeasurements, UnitMixture, UnitModel)


class SavedStages:
    """Runs stages, and keeps what they return in a folder; stages that are there already are read instead.

    Parameters
    ----------
    folder : Path | None
        Created with the first stage. None: nothing is kept.
    identity : dict
        All that the results depend on, as values for JSON.
    log : RunLog
        Receives the names of the stages that are read, and a warning where one cannot be written.
    resume : bool
        Read the stages in the folder. Otherwise they are replaced, as soon as the first stage is finished.

    Raises
    ------
    ValueError
        The folder holds stages of another sorting, or something else; it is left as it is.
    """

    def __init__(self, folder: Path | None, identity: dict, log: RunLog, *, resume: bool = True) -> None:
        self._folder, self._log = folder, log
        self._is_replacing = False
        self._used: list[str] = []  # files of the stages that were run or read, in order
        self._manifest: dict = {"format": FORMAT, "identity": json.loads(json.dumps(identity)), "checks": {}}
        self._manifest["files"] = {}
        if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            found = _read_manifest(folder)
            if resume:
                _check_identity(found["identity"], self._manifest["identity"], folder)
                self._manifest = found
            else:
                self._is_replacing = True
                log.warning(
                    "resume", f"stages of an interrupted run are in {folder}: it starts over, --resume would go on"
                )

    def run(self, name: str, function: Callable[..., Found], *args: Any, **kwargs: Any) -> Found:
        """What a function returns for the current group of the log, or returned before the sorting was interrupted.

        The function may run other stages. They are no longer needed, and are removed, once it has returned.

        Parameters
        ----------
        name : str
            Of the stage.
        function : callable
            Returns arrays, numbers, text, None, instances of `CLASSES`, and lists, tuples and dicts of them.
        *args, **kwargs
            Of the function.

        Returns
        -------
        Any
        """
        if self._folder is None:
            return function(*args, **kwargs)
        file_name = f"{self._log.group_index}-{name}.npz"
        stored = self._read(self._folder / file_name)
        if stored is not None:
            self._used.append(file_name)
            found, entries = stored
            self._log.restore(entries)
            self._log("resume", f"{name} was read from {self._folder}")
            return found
        num_entries, num_used = len(self._log.entries), len(self._used)
        found = function(*args, **kwargs)
        self._write(file_name, (found, self._log.entries[num_entries:]), self._used[num_used:])
        return found

    def check_same(self, name: str, *arrays: np.ndarray) -> None:
        """Refuse to go on if what is computed anew, for the current group of the log, is not what it was.

        Parameters
        ----------
        name : str
            Of these arrays.
        *arrays : ndarray

        Raises
        ------
        ValueError
            They differ from those of the interrupted sorting in any bit.
        """
        key, found = f"{self._log.group_index}-{name}", digest_of(*arrays)
        if self._manifest["checks"].setdefault(key, found) != found:
            raise ValueError(
                f"expected the {name} with which the stages in {self._folder} were computed, found others: give the "
                "same recording on the same machine, or remove that folder"
            )

    def warn_of_changes(self, files: list[str]) -> None:
        """Warn where what is sorted was written after the stages: the identity has hashes of a few of its seconds.

        A copy may have a new date, so that this is no error.

        Parameters
        ----------
        files : list of str
            Files and folders of the recording.
        """
        manifest = None if self._folder is None else self._folder / MANIFEST
        if manifest is None or not manifest.is_file():
            return
        paths = [each for path in map(Path, files) for each in (path, *path.rglob("*")) if each.is_file()]
        newest = max(paths, key=lambda path: path.stat().st_mtime, default=manifest)
        if newest.stat().st_mtime > manifest.stat().st_mtime:
            self._log.warning(
                "resume",
                f"{newest} was written after the stages in {self._folder}: if samples were changed, sort without "
                "--resume, for a change of less than 18 s in an hour may not be noticed",
            )

    def _read(self, path: Path) -> Any:
        """What `_write` has written; None where there is no such file, or not a whole one."""
        expected = self._manifest["files"].get(path.name)
        if expected is None:
            return None
        if not path.is_file() or _digest_of_file(path) != expected:
            self._log.warning("resume", f"{path} is missing or damaged: this stage is computed again")
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return _Decoder(arrays).decode()

    def _write(self, file_name: str, value: Any, superseded: list[str]) -> None:
        folder, files = self._folder, self._manifest["files"]
        assert folder is not None
        arrays = _Encoder().encode(value)
        try:
            if self._is_replacing:
                remove_stages(folder)
                self._is_replacing = False
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(folder / file_name, lambda file: np.savez(file, **arrays))
            for array in arrays.values():
                release(array)
            files[file_name] = _digest_of_file(folder / file_name)
            for each in superseded:
                files.pop(each, None)
            text = json.dumps(self._manifest, indent=1).encode()
            _write_whole(folder / MANIFEST, lambda file: file.write(text))
            for each in superseded:
                (folder / each).unlink(missing_ok=True)
        except OSError as error:
            self._log.warning("resume", f"{folder / file_name} cannot be written ({error.strerror}): work goes on")
        self._used.append(file_name)


def remove_stages(folder: Path) -> None:
    """Remove the files of stages, and their folder if nothing else is in it.

    Parameters
    ----------
    folder : Path
        Need not exist.

    Raises
    ------
    ValueError
        The folder holds something else.
    """
    if not folder.exists():
        return
    _read_manifest(folder)
    # the manifest last: without it, nobody would know what the folder is
    for path in (*folder.glob("*.npz"), *folder.glob(".*.partial"), folder / MANIFEST):
        path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def digest_of(*arrays: np.ndarray) -> str:
    """SHA-256 of types, shapes and values of arrays.

    Parameters
    ----------
    *arrays : ndarray

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.dtype.descr} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _write_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file that has its name only when it is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_manifest(folder: Path) -> dict:
    remedy = "name another OUTPUT, or move that folder"
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
        is_ours = found["format"] == FORMAT and all(isinstance(found[key], dict) for key in ("identity", "files"))
        is_ours &= isinstance(found["checks"], dict)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"expected stages of an interrupted sorting in {folder}, found no readable {MANIFEST}: {remedy}"
        ) from error
    if not is_ours:
        raise ValueError(f"expected stages of this version in {folder}, found another {MANIFEST}: {remedy}")
    return found


def _check_identity(stored: dict, wanted: dict, folder: Path) -> None:
    stored, wanted = _flat(stored), _flat(wanted)
    names = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if names:
        differences = [f"{name} ({_short(stored.get(name))}, now {_short(wanted.get(name))})" for name in names[:4]]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise ValueError(
            f"expected the sorting that was interrupted in {folder}, found another {', '.join(differences)}{more}: "
            "sort it as before, or remove that folder"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


def _flat(tree: dict, prefix: str = "") -> dict:
    """Values of nested dicts, by names such as "parameters.seed"."""
    flat: dict = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


class _Encoder:
    """Arrays for numpy.savez, among them a JSON text that says how they are put together.

    An object that occurs several times is one object again when it is read: `UnitModel` asks whether mixtures are.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.objects: list[dict] = []
        self.numbers: dict[int, int] = {}  # id of an object -> its place in `objects`

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        text = json.dumps({"value": self._tree(value), "objects": self.objects})
        return self.arrays | {TEXT: np.frombuffer(text.encode(), dtype="uint8")}

    def _tree(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return {"array": self._add(value)}
        if isinstance(value, np.generic):
            return {"scalar": self._add(np.asarray(value))}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list) and value and isinstance(value[0], np.generic) and len(set(map(type, value))) == 1:
            return {"scalars": self._add(np.array(value))}
        if isinstance(value, list | tuple):
            return {type(value).__name__: [self._tree(each) for each in value]}
        if isinstance(value, dict):
            return {"dict": [[self._tree(key), self._tree(each)] for key, each in value.items()]}
        if type(value) in CLASSES:
            if id(value) not in self.numbers:
                own = {each.name: self._tree(getattr(value, each.name)) for each in fields(value)}
                self.numbers[id(value)] = len(self.objects)
                self.objects.append({"class": type(value).__name__, "fields": own})
            return {"object": self.numbers[id(value)]}
        raise TypeError(f"expected a value that a stage can keep, found {type(value).__name__}: add it to CLASSES")

    def _add(self, array: np.ndarray) -> str:
        if array.dtype.hasobject:
            raise TypeError(f"expected numbers or text, found an array of {array.dtype}: convert it")
        name = f"array{len(self.arrays)}"
        self.arrays[name] = array
        return name


class _Decoder:
    """What `_Encoder` was given."""

    def __init__(self, arrays: Any) -> None:
        self.arrays = arrays
        self.text = json.loads(arrays[TEXT].tobytes())
        self.objects: list[Any] = []

    def decode(self) -> Any:
        classes = {cls.__name__: cls for cls in CLASSES}
        for each in self.text["objects"]:  # the parts of an object come before it
            own = {name: self._value(tree) for name, tree in each["fields"].items()}
            self.objects.append(classes[each["class"]](**own))
        return self._value(self.text["value"])

    def _value(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        ((kind, content),) = tree.items()
        if kind == "array":
            return self.arrays[content]
        if kind == "scalar":
            return self.arrays[content][()]
        if kind == "scalars":
            return list(self.arrays[content])
        if kind == "object":
            return self.objects[content]
        if kind == "dict":
            return {self._value(key): self._value(each) for key, each in content}
        values = [self._value(each) for each in content]
        return tuple(values) if kind == "tuple" else values
