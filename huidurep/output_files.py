"""Output folders and files that are written completely or not at all: the only place of the package that does this."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

logger = logging.getLogger(__name__)
INFO_FILE = "huidurep.json"
RESULT_FORMAT = "huidurep-sorting"
FILES_LIST = "huidurep_files.json"
# Results of versions before 0.1.0 have no list of their files.
OLD_RESULT_FILES = {INFO_FILE, "si_folder.json", "embeddings.npy", "posteriors.npy", "measures.npz"}
OLD_RESULT_FOLDER = "sorting"
HASHED_BYTES = 2**20  # larger files are compared by their size only


def check_output_folder(
    path: str | Path,
    *,
    overwrite: bool = False,
    mark: str | None = INFO_FILE,
    others: Literal["keep", "refuse"] = "keep",
) -> None:
    """Refuse a folder that is not empty; call it before a long computation.

    Parameters
    ----------
    path : str or Path
        Folder to write later.
    overwrite : bool
        Accept an earlier output of the same kind.
    mark : str, optional
        Name of the file by which an earlier output of the same kind is recognised. None: there is no such kind.
    others : {"keep", "refuse"}
        What to do with files in it that this package did not write, or that were changed since.

    Raises
    ------
    FileExistsError
        A file, or a folder with other contents.
    """
    _earlier_files(Path(path), overwrite=overwrite, mark=mark, others=others)


def _earlier_files(path: Path, *, overwrite: bool, mark: str | None, others: str) -> dict[str, str | int]:
    """What an earlier output wrote, as `_own_files`, where `check_output_folder` accepts the folder."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return {}
    own = _own_files(path, mark)
    if own is not None and overwrite:
        foreign = _foreign_files(path, own) if others == "refuse" else []
        if not foreign:
            return own
        raise FileExistsError(
            f"expected no files added to or changed in {path} since it was written, found {', '.join(foreign[:4])} "
            f"({len(foreign)} in all); move them, or choose another folder"
        )
    found = f"a folder with {len(list(path.iterdir()))} entries" if path.is_dir() else "a file"
    is_earlier = own is not None
    remedy = (
        "choose another folder, or overwrite it (--overwrite)"
        if is_earlier
        else "choose another folder, or remove it yourself"
    )
    raise FileExistsError(f"expected an empty or new output folder, found {found}: {path}; {remedy}")


def _own_files(path: Path, mark: str | None) -> dict[str, str | int] | None:
    """Files (relative path -> SHA-256 or size) that an earlier output wrote; None where it is not such an output."""
    if mark is None or not (path / mark).is_file():
        return None
    try:
        if (path / FILES_LIST).is_file():
            listed = json.loads((path / FILES_LIST).read_text(encoding="utf8"))
            return listed | {FILES_LIST: 0} if isinstance(listed, dict) and mark in listed else None
        info = json.loads((path / mark).read_text(encoding="utf8")) if mark == INFO_FILE else {}
    except ValueError:  # not JSON
        return None
    if not isinstance(info, dict) or info.get("format") != RESULT_FORMAT:
        return None
    inner = {each for each in _files_in(path) if each.split("/")[0] == OLD_RESULT_FOLDER}
    return dict.fromkeys(OLD_RESULT_FILES | inner, -1)


def _foreign_files(path: Path, own: dict[str, str | int]) -> list[str]:
    """Files that are not in the list, or are not as they were written."""
    return [
        name
        for name in _files_in(path)
        if name not in own or (name != FILES_LIST and own[name] not in (-1, _fingerprint_of(path / name)))
    ]


def _files_in(path: Path) -> list[str]:
    return sorted(
        each.relative_to(path).as_posix() for each in path.rglob("*") if not each.is_dir() or each.is_symlink()
    )


def _fingerprint_of(path: Path) -> str | int:
    """SHA-256 of a small file, size (bytes) of a large one."""
    size = path.stat().st_size
    return size if size > HASHED_BYTES else hashlib.sha256(path.read_bytes()).hexdigest()


def check_output_file(path: str | Path, *, overwrite: bool = False, mark: str = "") -> None:
    """Refuse a file that exists; call it before a long computation.

    Parameters
    ----------
    path : str or Path
        File to write later.
    overwrite : bool
        Accept a file, but never a folder.
    mark : str
        Accept only a file with this text in its first megabyte, as an earlier output of the same kind has it.

    Raises
    ------
    FileExistsError
        Something exists at `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise FileExistsError(f"expected a file to write, found a folder: {path}; choose another name")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"expected a file to write, found a device or pipe: {path}; choose another name")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"expected a new output file, found {path}; choose another name, or overwrite it (--overwrite)"
        )
    if mark and path.exists() and mark.encode() not in _first_bytes(path):
        raise FileExistsError(
            f"expected an earlier output of this command, found another file at {path}; choose another name, or remove "
            "it yourself"
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2**20)


def check_free_space(path: str | Path, num_bytes: float) -> None:
    """Refuse an output for which the disk is too small; call it before the output is written.

    Libraries write large arrays through the memory, where a full disk ends the process without any message.

    Parameters
    ----------
    path : str or Path
        The output.
    num_bytes : float
        Its estimated size.

    Raises
    ------
    OSError
        Less space is free.
    """
    parents = Path(path).absolute().parents
    free = shutil.disk_usage(next(parent for parent in parents if parent.is_dir())).free
    if free < num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"expected {num_bytes / 1e6:.1f} MB of free disk space for {path}, found {free / 1e6:.1f} MB; free some "
            "space, or choose another folder",
        )


@contextmanager
def new_folder(
    path: str | Path,
    *,
    overwrite: bool = False,
    mark: str | None = None,
    others: Literal["keep", "refuse"] = "keep",
) -> Iterator[Path]:
    """Create an output folder that appears under its name only when it is complete.

    The files are written to a temporary folder with the same parent, so that relative paths in them stay valid. The two
    folders are exchanged in one step where the system can do that (Linux); an earlier output is unchanged until then,
    and also after an error. The current folder and mounted ones (volumes of a container), which have to stay the same,
    are filled file by file. With `mark`, a list of the files is written along: only these are ever replaced.

    Parameters
    ----------
    path : str or Path
        The output folder; its parents are created. The target of a link is replaced, not the link.
    overwrite : bool
        Replace an earlier output of the same kind.
    mark : str, optional
        Name of the file by which an earlier output of the same kind is recognised. Default: never replaced.
    others : {"keep", "refuse"}
        Files in an earlier output that this package did not write, or that were changed since: carry them over to the
        new folder, or refuse to overwrite.

    Yields
    ------
    Path
        The temporary folder, empty.

    Raises
    ------
    FileExistsError
        A file, or a folder with other contents.
    OSError
        The parent folder cannot be written to, or the disk is full.
    """
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    kept: dict[str, Any] = dict(overwrite=overwrite, mark=mark, others=others)
    is_mounted, earlier = path.is_dir() and os.path.ismount(path), _earlier_files(path, **kept)
    partial = _partial_path(path / path.absolute().name) if is_mounted else _partial_path(path)
    with _explain_full_disk(path):
        try:
            # mkdir, unlike tempfile.mkdtemp, gives the permissions of the user's umask
            partial.mkdir()
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            yield partial
            if mark is not None:
                listed = {name: _fingerprint_of(partial / name) for name in _files_in(partial)}
                (partial / FILES_LIST).write_text(json.dumps(listed, indent=0), encoding="utf8")
            if not is_mounted:  # another process may have filled the folder in the meantime
                earlier = _earlier_files(path, **kept)
            _put_in_place(partial, path, earlier, is_fixed=is_mounted or _holds_current_folder(path))
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(new: Path, path: Path, own: dict[str, str | int], *, is_fixed: bool) -> None:
    """Give a complete output its name; a folder that is fixed is filled."""
    if not path.exists():
        new.rename(path)
    elif is_fixed:
        _move_into(path, new, own)
    else:
        _carry_over(path, new, own)
        _exchange(new, path)


def _holds_current_folder(path: Path) -> bool:
    """Whether the process works in this folder: it cannot be renamed, or all relative paths would end."""
    try:
        return Path.cwd().is_relative_to(path.resolve())
    except FileNotFoundError:  # the current folder was removed
        return False


def _move_into(path: Path, new: Path, own: dict[str, str | int]) -> None:
    """Move a new output into an existing folder, file by file, the list of the files last."""
    names = sorted(_files_in(new), key=lambda name: name == FILES_LIST)
    for folder in sorted(each for each in new.rglob("*") if each.is_dir() and not each.is_symlink()):
        (path / folder.relative_to(new)).mkdir(exist_ok=True)
    for name in names:
        (new / name).replace(path / name)
    for name in own.keys() - set(names):
        (path / name).unlink(missing_ok=True)


def _carry_over(earlier: Path, new: Path, own: dict[str, str | int]) -> None:
    """Link or copy the files of others into a new output; they also stay in the earlier one until it is replaced."""
    for name in _files_in(earlier):
        target = new / name
        if name in own or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(earlier / name, target, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(earlier / name, target, follow_symlinks=False)


def _exchange(first: Path, second: Path) -> None:
    """Exchange two folders: atomically on Linux, in three renames elsewhere."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    if renameat2 is not None and renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
        return
    aside = first.with_suffix(".replaced")
    second.rename(aside)
    try:
        first.rename(second)
    except BaseException:
        aside.rename(second)
        raise
    aside.rename(first)


@contextmanager
def new_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Create an output file that appears under its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        The output file; its parents are created. The target of a link is replaced, not the link.
    overwrite : bool
        Replace a file.

    Yields
    ------
    Path
        Path of a temporary file in the same folder, with the same suffix; not created yet.

    Raises
    ------
    FileExistsError
        Something exists at `path`.
    OSError
        The parent folder cannot be written to, or the disk is full.
    """
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    check_output_file(path, overwrite=overwrite)
    partial = _partial_path(path)
    partial = partial.with_name(partial.name + path.suffix)  # writers such as numpy.savez add a missing suffix
    with _explain_full_disk(path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _partial_path(path: Path) -> Path:
    """Unused hidden name with the same parent, which is created."""
    absolute = path.absolute()
    try:
        absolute.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    _name_leftovers(absolute)
    return absolute.parent / f".{absolute.name}.{uuid.uuid4().hex[:8]}.partial"


def _name_leftovers(path: Path) -> None:
    """Warn of hidden files of runs that were killed; they are not deleted, since another run may still write them."""
    ending = rf"\.[0-9a-f]{{8}}\.(partial|replaced)({re.escape(path.suffix)})?"
    pattern = re.compile(re.escape(f".{path.name}") + ending)
    for each in sorted(path.parent.glob(".*")):
        found = pattern.fullmatch(each.name)
        if found and found[1] == "replaced":
            logger.warning("found %s, an earlier %s of a run that was killed: rename or remove it", each, path.name)
        elif found:
            logger.warning(
                "found %s, an incomplete %s of a run that was killed or still writes: remove it if no run writes there",
                each,
                path.name,
            )


def _cannot_write(path: Path, error: OSError) -> OSError:
    text = f"expected a parent folder of {path} that can be written to, found: {error.strerror}; choose another folder"
    return type(error)(error.errno, text)


@contextmanager
def _explain_full_disk(path: Path) -> Iterator[None]:
    """Say which output a full disk or quota concerns, for libraries that only repeat the system's message."""
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        raise OSError(
            errno.ENOSPC,
            f"expected enough free disk space for {path}, found: {_reason(error)}; the incomplete output was removed: "
            "free some space, raise the limit, or choose another folder",
        ) from error


def _reason(error: Exception) -> str:
    return os.strerror(getattr(error, "errno", None) or errno.ENOSPC)


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    # numpy has an error without errno, when an array is not written to its end
    if type(error) is OSError and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        return True
    # safetensors has an error class of its own, without errno
    return type(error).__name__ == "SafetensorError" and os.strerror(errno.ENOSPC) in str(error)
