"""A cache of preprocessed traces, which several stages read: in memory when short, else in a temporary file."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spikeinterface.core import BaseRecording

from .job_kwargs import resolve_job_kwargs
from .run_log import RunLog


@dataclass(frozen=True)
class CachingSettings:
    """Where preprocessed traces are kept.

    Attributes
    ----------
    memory_bytes : int
        Longer traces are written to a temporary file, so that no stage holds all of a long recording.
    spare_disk_bytes : int
        Left free on the disk of the temporary file, for the results.
    """

    memory_bytes: int = 256 * 2**20
    spare_disk_bytes: int = 2**30


CACHING = CachingSettings()


def cache_traces(
    recording: BaseRecording,
    stage: str,
    log: RunLog,
    *,
    settings: CachingSettings = CACHING,
    job_kwargs: dict | None = None,
) -> BaseRecording:
    """Compute a lazy recording once.

    Up to 256 MiB stay in memory. More is written to a file in the system's temporary folder (`TMPDIR` names another),
    which is deleted as soon as nothing uses the recording any more. Where the disk is too small, the recording stays
    lazy, which costs time whenever it is read.

    Parameters
    ----------
    recording : BaseRecording
        Output of a stage.
    stage : str
        Name of the stage, for the log.
    log : RunLog
        Receives a warning where the disk is too small.
    settings : CachingSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    BaseRecording
        With the same traces.
    """
    jobs = resolve_job_kwargs(job_kwargs)
    num_bytes = recording.get_total_memory_size()
    if num_bytes <= settings.memory_bytes:
        return recording.save(format="memory", sharedmem=True, **jobs)
    parent = Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < num_bytes + settings.spare_disk_bytes:
        log.warning(
            stage,
            f"the traces need {num_bytes / 2**30:.1f} GiB, {parent} has {free / 2**30:.1f} GiB free: they are computed "
            "whenever they are read, which takes longer; name a larger disk with the variable TMPDIR",
        )
        return recording
    folder = Path(tempfile.mkdtemp(prefix="huidurep-", dir=parent))
    try:
        with warnings.catch_warnings(), _cheap_collections():
            # SpikeInterface warns that the folder cannot reopen a recording in memory; nobody will ask it to
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            cached = recording.save(format="binary", folder=folder / "traces", **jobs)
    except BaseException:  # Ctrl-C too leaves no file behind
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(cached, _remove, folder, os.getpid())
    return cached


@contextmanager
def _cheap_collections() -> Iterator[None]:
    """Exclude existing objects from garbage collection.

    SpikeInterface collects garbage after every chunk it writes; with torch and transformers imported, a collection
    that visits all their objects takes longer than filtering the chunk.
    """
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


def _remove(folder: Path, process: int) -> None:
    """Delete a folder in the process that made it; a forked worker that ends must not."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
