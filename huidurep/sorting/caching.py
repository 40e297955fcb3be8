"""Filtered traces are computed once and read often: held in memory when short, else in a file that goes by itself."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .jobs import get_job_kwargs
from .run_log import RunLog

MEMORY_BYTES = 256 * 2**20  # longer traces go to a file: no stage holds all of a long recording
SPARE_BYTES = 2**30  # left free on the disk for what else is written there


def cache_traces(recording, stage: str, log: RunLog):
    """Compute a lazy recording once.

    Up to 256 MiB stay in memory. More goes to a file in the system's temporary folder (`TMPDIR` names another), which
    is removed as soon as nothing uses the recording any more; where the disk has no room for it, the recording stays
    lazy, which costs time at every reading.

    Parameters
    ----------
    recording : BaseRecording
        What a stage has made.
    stage : str
        For the log.
    log : RunLog
        Told where the disk is too small.

    Returns
    -------
    BaseRecording
        With the same traces.
    """
    num_bytes = recording.get_total_memory_size()
    if num_bytes <= MEMORY_BYTES:
        return recording.save(format="memory", sharedmem=True, **get_job_kwargs())
    parent = Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < num_bytes + SPARE_BYTES:
        log.warning(
            stage,
            f"the filtered traces need {num_bytes / 2**30:.1f} GiB, {parent} has {free / 2**30:.1f} GiB free: they are "
            "computed anew at every reading, which takes longer; name a larger disk with the variable TMPDIR",
        )
        return recording
    folder = Path(tempfile.mkdtemp(prefix="huidurep-", dir=parent))
    try:
        with warnings.catch_warnings(), _cheap_collections():
            # that what was in memory cannot be reloaded from the folder needs no warning
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            cached = recording.save(format="binary", folder=folder / "traces", **get_job_kwargs())
    except BaseException:  # an interrupt too leaves nothing behind
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(cached, _remove, folder, os.getpid())
    return cached


@contextmanager
def _cheap_collections() -> Iterator[None]:
    """Objects made before are left out of garbage collections.

    SpikeInterface collects after every chunk it writes; with torch and transformers imported, a collection that looks
    at all they hold takes longer than filtering the chunk.
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
    """Remove a folder in the process that made it: a forked worker that ends must not."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
