"""SpikeInterface's `job_kwargs`: number of workers, chunk size and progress bars of its components."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from spikeinterface.core import fix_job_kwargs, get_global_job_kwargs
from spikeinterface.core.globals import is_set_global_job_kwargs_set

Item = TypeVar("Item")


def resolve_job_kwargs(job_kwargs: dict | None) -> dict:
    """Complete job keyword arguments: those given, else SpikeInterface's global ones, else one quiet process.

    Resolving twice changes nothing, so that every stage may be called by itself.

    Parameters
    ----------
    job_kwargs : dict | None
        SpikeInterface's n_jobs, chunk_duration, progress_bar (False where it is given nowhere) and others. None or
        empty: `spikeinterface.set_global_job_kwargs`, if it was called.

    Returns
    -------
    dict
        Keyword arguments for SpikeInterface's `job_kwargs`.

    Raises
    ------
    TypeError
        No dict.
    ValueError
        Names or values that SpikeInterface does not know.
    """
    if not isinstance(job_kwargs, dict | None):
        raise TypeError(f"expected job_kwargs as a dict such as {{'n_jobs': 4}}, found {job_kwargs!r}; change it")
    if job_kwargs:
        quiet = {} if is_set_global_job_kwargs_set() else {"progress_bar": False}
        try:
            return fix_job_kwargs(quiet | job_kwargs)
        except AssertionError as error:
            raise ValueError(
                f"expected job_kwargs of SpikeInterface, found {job_kwargs}: {error}; correct it"
            ) from error
    if is_set_global_job_kwargs_set():
        return get_global_job_kwargs()
    return {"n_jobs": 1, "progress_bar": False}


def in_chunks(job_kwargs: dict | None, chunk_duration: str) -> dict:
    """Job keyword arguments of a step that is fastest in chunks of another duration than SpikeInterface's 1 s.

    Parameters
    ----------
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` takes them.
    chunk_duration : str
        Such as "500ms".

    Returns
    -------
    dict
        Complete, with this duration unless a size of chunks was chosen.
    """
    resolved = resolve_job_kwargs(job_kwargs)
    names = ("total_memory", "chunk_memory", "chunk_size", "chunk_duration")
    chosen = {name: resolved[name] for name in names if resolved.get(name) is not None}
    is_default = chosen in ({}, {"chunk_duration": "1s"})  # "1s" is there too where the caller gave n_jobs alone
    return resolved | {"chunk_duration": chunk_duration} if is_default else resolved


def map_in_threads(
    function: Callable[[Item], Any], items: Iterable[Item], num_threads: int, start: Callable[[], object] | None = None
) -> Iterator[tuple[Item, Any]]:
    """Call a function for each item in several threads, and yield items and results in order.

    No more than two items a thread are taken ahead, because they are batches that fill the memory.

    Parameters
    ----------
    function : callable
        Of an item; it releases Python's lock, as numpy and torch do.
    items : iterable
    num_threads : int
        1: without threads.
    start : callable | None
        Called first in each thread.

    Yields
    ------
    item, result
    """
    if num_threads == 1:
        for item in items:
            yield item, function(item)
        return
    waiting: deque[tuple[Item, Future]] = deque()
    with ThreadPoolExecutor(num_threads, initializer=start) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 2 * num_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
