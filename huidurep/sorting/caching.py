"""A cache of preprocessed traces, which several stages read: in memory when short, else in a temporary file."""

from __future__ import annotations

import errno
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

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import BaseRecording

from ..clustering.disk_arrays import SPARE_DISK_BYTES
from .job_kwargs import resolve_job_kwargs
from .run_log import RunLog
from .scaling import scale_traces

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it; 64 MiB in a container of Docker
PREFIX = "huidurep-"  # of temporary folders; then the number of the process


@dataclass(frozen=True)
class CachingSettings:
    """Where preprocessed traces are kept.

    Attributes
    ----------
    memory_bytes : int
        Longer traces are written to a temporary file, so that no stage holds all of a long recording.
    spare_disk_bytes : int
        Left free on the disk of the temporary file, for the results.
    step_uv, min_noise_steps : float
        The file holds int16 in steps of `step_uv` where the noise is `min_noise_steps` of them or more, else float32.
    """

    memory_bytes: int = 256 * 2**20
    spare_disk_bytes: int = SPARE_DISK_BYTES
    step_uv: float = 0.1
    min_noise_steps: float = 10.0


CACHING = CachingSettings()


def cache_traces(
    recording: BaseRecording,
    stage: str,
    log: RunLog,
    *,
    noise_uv: float = 0.0,
    settings: CachingSettings = CACHING,
    job_kwargs: dict | None = None,
) -> BaseRecording:
    """Compute a lazy recording once.

    Up to 256 MiB stay in memory, if the system has as much to share between processes. More is written to a file in the
    system's temporary folder (`TMPDIR` names another), which is deleted as soon as nothing uses the recording any more;
    where the disk is too small, or full before all is written, the recording stays lazy, and slow. The file of a long
    recording is as large as it is as int16: traces are rounded to 0.1 uV, a tenth of the noise or less, and cut at
    3.2 mV, which no spike reaches.

    Parameters
    ----------
    recording : BaseRecording
        Output of a stage.
    stage : str
    log : RunLog
        Receives a warning where the disk is too small.
    noise_uv : float
        Noise of the traces; 0: unknown.
    settings : CachingSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    BaseRecording
        With the same traces, float32; without times where only some segments have a start time.
    """
    jobs, recording = resolve_job_kwargs(job_kwargs), _with_storable_times(recording)
    num_bytes = recording.get_total_memory_size()
    is_short = num_bytes <= settings.memory_bytes  # and the same, not rounded, where they are kept in a file
    if is_short and _has_shared_memory(num_bytes):
        return recording.save(format="memory", sharedmem=True, **jobs)
    is_rounded = noise_uv >= settings.min_noise_steps * settings.step_uv and not is_short
    stored = _to_int16(recording, settings.step_uv) if is_rounded else recording
    num_bytes = stored.get_total_memory_size()
    parent = Path(tempfile.gettempdir())
    if shutil.disk_usage(parent).free < num_bytes + settings.spare_disk_bytes:
        _warn_of_full_disk(log, stage, num_bytes, parent)
        return recording
    left = _folders_of_killed(parent)
    if left:
        log.warning(stage, f"found traces of sortings that were killed: remove {', '.join(map(str, left))}")
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    cached = _save(stored, folder, jobs)
    if cached is None:
        _warn_of_full_disk(log, stage, num_bytes, parent)
        return recording
    if is_rounded:
        cached = scale_traces(cached, settings.step_uv)
        cached.set_channel_gains(1.0)  # scaling keeps the gains, by which exports would scale again
    weakref.finalize(cached, _remove, folder, os.getpid())
    return cached


def _with_storable_times(recording: BaseRecording) -> BaseRecording:
    """A recording whose start times SpikeInterface can store: those of all segments or of none."""
    starts_s = recording.get_segment_t_starts()
    if starts_s is None or None not in starts_s:
        return recording
    view = recording.select_channels(recording.channel_ids)
    view.reset_times()
    return view


def _has_shared_memory(num_bytes: float) -> bool:
    """Whether the system has as much shared memory; writing to more ends the process without a message."""
    return not SHARED_MEMORY.is_dir() or num_bytes <= shutil.disk_usage(SHARED_MEMORY).free


def _warn_of_full_disk(log: RunLog, stage: str, num_bytes: float, parent: Path) -> None:
    free = shutil.disk_usage(parent).free
    log.warning(
        stage,
        f"the traces need {num_bytes / 2**30:.1f} GiB, {parent} has {free / 2**30:.1f} GiB free: they are computed "
        "whenever they are read, which takes longer; name a larger disk with the variable TMPDIR",
    )


def _save(recording: BaseRecording, folder: Path, jobs: dict) -> BaseRecording | None:
    """The recording, computed into a file in `folder`, which is removed where that fails; None if the disk is full."""
    try:
        with warnings.catch_warnings(), _cheap_collections():
            # SpikeInterface warns that the folder cannot reopen a recording in memory; nobody will ask it to
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            return recording.save(format="binary", folder=folder / "traces", **jobs)
    except BaseException as error:  # Ctrl-C too leaves no file behind
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return None
        raise


def _to_int16(recording: BaseRecording, step: float) -> BaseRecording:
    limit = float(np.iinfo("int16").max)
    return spre.astype(spre.clip(scale_traces(recording, 1.0 / step), -limit, limit), "int16")


def _folders_of_killed(parent: Path) -> list[Path]:
    """Temporary folders of the user's processes that no longer run; not deleted, since a container has own numbers."""
    if os.name != "posix":  # elsewhere, a signal with number 0 ends a process
        return []
    found = []
    for folder in sorted(parent.glob(f"{PREFIX}*-*")):
        number = folder.name.removeprefix(PREFIX).split("-")[0]
        try:
            if number.isdigit() and folder.lstat().st_uid == os.getuid():
                os.kill(int(number), 0)
        except (ProcessLookupError, OverflowError):
            found.append(folder)
        except OSError:  # the process of another user, or the folder was removed
            continue
    return found


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
