"""Output folders and files that are written completely or not at all: the only place of the package that does this."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INFO_FILE = "huidurep.json"


def check_output_folder(path: str | Path, *, overwrite: bool = False, mark: str = INFO_FILE) -> None:
    """Refuse a folder that is not empty; call it before a long computation.

    Parameters
    ----------
    path : str or Path
        Folder to write later.
    overwrite : bool
        Accept a folder that holds the file `mark`.
    mark : str
        Name of the file by which an earlier output of the same kind is recognised.

    Raises
    ------
    FileExistsError
        A file, or a folder with other contents.
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    is_earlier = (path / mark).is_file()
    if is_earlier and overwrite:
        return
    found = f"a folder with {len(list(path.iterdir()))} entries" if path.is_dir() else "a file"
    remedy = "choose another folder, or overwrite it" if is_earlier else "choose another folder, or remove it yourself"
    raise FileExistsError(f"expected an empty or new output folder, found {found}: {path}; {remedy}")


def check_output_file(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a file that exists; call it before a long computation.

    Parameters
    ----------
    path : str or Path
        File to write later.
    overwrite : bool
        Accept a file, but never a folder.

    Raises
    ------
    FileExistsError
        Something exists at `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise FileExistsError(f"expected a file to write, found a folder: {path}; choose another name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"expected a new output file, found {path}; choose another name, or overwrite it")


@contextmanager
def new_folder(path: str | Path, *, overwrite: bool = False, mark: str = INFO_FILE) -> Iterator[Path]:
    """Create an output folder that appears under its name only when it is complete.

    The files are written to a temporary folder with the same parent, so that relative paths in them stay valid and the
    final rename is atomic. After an error the temporary folder is removed and an earlier output is unchanged.

    Parameters
    ----------
    path : str or Path
        The output folder; its parents are created.
    overwrite : bool
        Replace a folder that holds the file `mark`.
    mark : str
        Name of the file by which an earlier output of the same kind is recognised.

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
    path = Path(path)
    check_output_folder(path, overwrite=overwrite, mark=mark)
    partial = _partial_path(path)
    replaced = partial.with_suffix(".replaced")
    with _explain_full_disk(path):
        try:
            # mkdir, unlike tempfile.mkdtemp, gives the permissions of the user's umask
            partial.mkdir()
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            yield partial
            # another process may have filled the folder in the meantime
            check_output_folder(path, overwrite=overwrite, mark=mark)
            if path.exists():
                path.rename(replaced)
            partial.rename(path)
        finally:
            if replaced.exists() and not path.exists():
                replaced.rename(path)
            for folder in (partial, replaced):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Create an output file that appears under its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        The output file; its parents are created.
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
    path = Path(path)
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
    return absolute.parent / f".{absolute.name}.{uuid.uuid4().hex[:8]}.partial"


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
            f"expected enough free disk space for {path}, found: {os.strerror(errno.ENOSPC)}; the incomplete output "
            "was removed: free some space, or choose another folder",
        ) from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # safetensors has an error class of its own, without errno
    return type(error).__name__ == "SafetensorError" and os.strerror(errno.ENOSPC) in str(error)
