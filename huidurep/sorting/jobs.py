"""How SpikeInterface's components run: in how many processes, chunk by chunk, with or without progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from spikeinterface.core import fix_job_kwargs, get_global_job_kwargs
from spikeinterface.core.globals import is_set_global_job_kwargs_set

_given: ContextVar[dict | None] = ContextVar("job_kwargs", default=None)


@contextmanager
def use_job_kwargs(job_kwargs: dict | None) -> Iterator[None]:
    """Within it `get_job_kwargs` gives these, in this thread and no other.

    Parameters
    ----------
    job_kwargs : dict | None
        SpikeInterface's n_jobs, chunk_duration, progress_bar and the like; missing ones are its global ones. Empty or
        None changes nothing.
    """
    token = _given.set(fix_job_kwargs(job_kwargs) if job_kwargs else _given.get())
    try:
        yield
    finally:
        _given.reset(token)


def get_job_kwargs() -> dict:
    """How to run: as `use_job_kwargs` says, else by SpikeInterface's global settings if they were set.

    Where nobody said anything, it is one quiet process.

    Returns
    -------
    dict
        Keyword arguments for `job_kwargs`.
    """
    if _given.get() is not None:
        return dict(_given.get())
    if is_set_global_job_kwargs_set():
        return get_global_job_kwargs()
    return {"n_jobs": 1, "progress_bar": False}
