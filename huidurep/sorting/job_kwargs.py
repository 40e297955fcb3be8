"""SpikeInterface's `job_kwargs`: number of workers, chunk size and progress bars of its components."""

from __future__ import annotations

from spikeinterface.core import fix_job_kwargs, get_global_job_kwargs
from spikeinterface.core.globals import is_set_global_job_kwargs_set


def resolve_job_kwargs(job_kwargs: dict | None) -> dict:
    """Complete job keyword arguments: those given, else SpikeInterface's global ones, else one quiet process.

    Resolving twice changes nothing, so that every stage may be called by itself.

    Parameters
    ----------
    job_kwargs : dict | None
        SpikeInterface's n_jobs, chunk_duration, progress_bar and others; missing ones are its global ones. None or
        empty: `spikeinterface.set_global_job_kwargs`, if it was called.

    Returns
    -------
    dict
        Keyword arguments for SpikeInterface's `job_kwargs`.
    """
    if job_kwargs:
        return fix_job_kwargs(job_kwargs)
    if is_set_global_job_kwargs_set():
        return get_global_job_kwargs()
    return {"n_jobs": 1, "progress_bar": False}
