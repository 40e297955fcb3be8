"""Arrays with a row a spike that may not fit into memory: in a temporary file, of which little stays in memory."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

MEMORY_BYTES = 16 * 2**20  # smaller arrays stay in memory
BLOCK_BYTES = 16 * 2**20
SPARE_DISK_BYTES = 2**30  # left free for the results


def zeros_on_disk(shape: tuple[int, ...], dtype: DTypeLike = "float32") -> np.ndarray:
    """Zeros; those of a large array lie in a temporary file without a name, which is gone when nothing uses them.

    Where the system's temporary folder (`TMPDIR` names another) has no room or cannot be written, they are in memory.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    ndarray
    """
    array_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if array_bytes <= MEMORY_BYTES:
        return np.zeros(shape, dtype)
    try:
        if shutil.disk_usage(tempfile.gettempdir()).free < array_bytes + SPARE_DISK_BYTES:
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile() as file:
            # written, not only made as long: a full disk would end the process when a part is first used
            for start in range(0, array_bytes, BLOCK_BYTES):
                file.write(bytes(min(BLOCK_BYTES, array_bytes - start)))
            file.flush()
            mapped = mmap.mmap(file.fileno(), array_bytes)
    except OSError:
        return np.zeros(shape, dtype)
    return np.frombuffer(mapped, dtype).reshape(shape)


def release(array: np.ndarray) -> None:
    """Take what was read or written of an array of `zeros_on_disk` out of this process's memory; it stays in the file.

    Parameters
    ----------
    array : ndarray
        Others are left alone.
    """
    mapped = _mapping(array)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """The file in which an array lies."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, mmap.mmap) else None


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copy rows of an array into memory.

    Parameters
    ----------
    array : ndarray, (num_rows, ...)
        It may be one of `zeros_on_disk`.
    rows : ndarray of int
        From 0 on.

    Returns
    -------
    ndarray, (num_taken, ...)
    """
    if _mapping(array) is None:
        return array[rows]
    found, order = np.empty((len(rows), *array.shape[1:]), array.dtype), np.argsort(rows, kind="stable")
    for block_rows, block in iterate_blocks(array):  # the system reads more than the rows
        its = order[slice(*np.searchsorted(rows, [block_rows.start, block_rows.stop], sorter=order))]
        found[its] = block[rows[its] - block_rows.start]
    return found


def place_rows(arrays: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> np.ndarray:
    """Put the rows of arrays together into one array.

    Parameters
    ----------
    arrays : sequence of ndarray, (num_rows, num_columns)
        At least one. They may be of `zeros_on_disk`.
    places : sequence of ndarray of int, (num_rows,)
        Row of the new array for each row of each array, every one once; negative: left out.

    Returns
    -------
    ndarray, (num_placed, num_columns)
        One of the arrays itself where it is already what is wanted.
    """
    num_placed = sum(int(np.count_nonzero(each >= 0)) for each in places)
    for array, each in zip(arrays, places, strict=True):
        if len(array) == num_placed and np.array_equal(each, np.arange(num_placed)):
            return array
    placed = zeros_on_disk((num_placed, *arrays[0].shape[1:]), arrays[0].dtype)
    for array, each in zip(arrays, places, strict=True):
        for rows, block in iterate_blocks(array):
            is_placed = each[rows] >= 0
            placed[each[rows][is_placed]] = block[is_placed]
            release(placed)
    return placed


def iterate_blocks(array: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Iterate over an array, block by block.

    Parameters
    ----------
    array : ndarray, (num_rows, ...)
        It may be one of `zeros_on_disk`.

    Yields
    ------
    slice
        Rows of the block.
    ndarray
        These rows.
    """
    num_rows = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), num_rows):
        rows = slice(start, min(start + num_rows, len(array)))
        yield rows, array[rows]
        release(array)
