"""Output folders and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

INFO_FILE = "huidurep.json"


def check_output_folder(folder, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds something; useful before a long computation.

    Parameters
    ----------
    folder : str or Path
    overwrite : bool
        Accept an earlier result of this package.

    Raises
    ------
    FileExistsError
        Not empty, or a file.
    """
    folder = Path(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not folder.exists() or (overwrite and (folder / INFO_FILE).is_file()):
        return
    found = "a file" if folder.is_file() else f"one that holds {len(list(folder.iterdir()))} files"
    remedy = "choose another folder, or remove it yourself" if overwrite else "choose another folder, or overwrite it"
    raise FileExistsError(f"expected an empty or new output folder, found {found}: {folder}; {remedy}")


@contextmanager
def new_folder(output_dir):
    """A folder beside `output_dir` to write into; it takes that name when all has gone well, and goes otherwise.

    Parameters
    ----------
    output_dir : str or Path

    Yields
    ------
    Path

    Raises
    ------
    FileExistsError
        The folder is in use.
    OSError
        Nothing can be written there, or the disk is full; nothing is left behind.
    """
    output_dir = Path(output_dir)
    check_output_folder(output_dir)
    try:
        output_dir.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.", dir=output_dir.absolute().parent))
    except OSError as error:
        raise type(error)(
            error.errno, f"expected to be allowed to write beside {output_dir}, found: {error.strerror}; name another"
        ) from error
    try:
        yield partial
        if output_dir.is_dir():
            output_dir.rmdir()  # empty, or it had been refused; somebody may have filled it since
        partial.chmod(0o755)
        partial.rename(output_dir)
    except Exception as error:
        if not _is_full(error):
            raise
        raise OSError(
            errno.ENOSPC,
            f"expected room for what is written to {output_dir}, found: {os.strerror(errno.ENOSPC)}; nothing was kept "
            "there: free some space, or name another folder",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_full(error) -> bool:
    """Whether a disk or quota is full; safetensors tells it in the words of a class of its own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return type(error).__name__ == "SafetensorError" and os.strerror(errno.ENOSPC) in str(error)


@contextmanager
def new_file(path: Path):
    """A file beside `path` to write to; it takes that name when all has gone well, and goes otherwise.

    Parameters
    ----------
    path : Path

    Yields
    ------
    Path
    """
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
