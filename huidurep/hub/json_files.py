"""Reading of the JSON files that checkpoints and results consist of, which others may have written or damaged."""

import json
from pathlib import Path
from typing import Any

LFS_POINTER = "version https://git-lfs"


def read_json_object(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file with names and values.

    Parameters
    ----------
    path : str or Path
    remedy : str
        End of the error's sentence: what to do if the file is damaged.

    Returns
    -------
    dict

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not JSON, nested too deeply, or anything else than an object.
    """
    try:
        text = Path(path).read_text(encoding="utf8")
        found = json.loads(text)
    except OSError as error:  # a folder, or one that the user may not read
        raise OSError(f"expected to read {path}, found {error.strerror or error}: {remedy}.") from error
    except RecursionError as error:
        raise ValueError(f"expected JSON in {path}, found values nested too deeply: {remedy}.") from error
    except ValueError as error:  # not JSON, or not UTF-8
        if isinstance(error, json.JSONDecodeError) and is_pointer(text):
            raise ValueError(f"expected JSON in {path}, found a pointer of Git LFS: run `git lfs pull`.") from error
        raise ValueError(f"expected JSON in {path}, found {error}: {remedy}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected names and values in {path}, found {type(found).__name__}: {remedy}.")
    return found


def is_pointer(beginning: str) -> bool:
    """Whether a file is the pointer that Git leaves where it did not download a large file.

    Parameters
    ----------
    beginning : str
        At least its first 23 characters.

    Returns
    -------
    bool
    """
    return beginning.startswith(LFS_POINTER)
