"""Provenance: package versions, commit, memory and the identity of what was sorted."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PACKAGES = ("spikeinterface", "torch", "transformers", "numpy", "scipy", "scikit-learn")


def describe_run(recording) -> dict:
    """What is sorted, when and by which versions, as plain values for JSON.

    Parameters
    ----------
    recording : BaseRecording
        Its shape is noted, its traces are not read.

    Returns
    -------
    dict
        time (UTC, ISO 8601), platform, versions (of Python and of packages), num_channels, sampling_frequency (Hz) and
        num_samples, one a segment.
    """
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "versions": versions(),
        "num_channels": recording.get_num_channels(),
        "sampling_frequency": float(recording.get_sampling_frequency()),
        "num_samples": [int(recording.get_num_samples(index)) for index in range(recording.get_num_segments())],
    }


def peak_memory_mb() -> float:
    """Largest memory this process has held so far.

    Returns
    -------
    float
        MiB; NaN where the system does not tell (Windows).
    """
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, KiB elsewhere


def current_commit() -> str | None:
    """Commit of the clone that the package runs from.

    Returns
    -------
    str or None
        With "+changes" where the package's files differ from it (embedded checkpoints do not count); None where the
        package is part of no clone.
    """

    def git(*words):
        return subprocess.run(("git", "-C", str(PACKAGE), *words), capture_output=True, text=True)

    try:
        # an installed package may lie in the clone of something else
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
    except OSError:  # no git on this machine
        return None
    commit = git("rev-parse", "--short=12", "HEAD").stdout.strip()
    changed = git("status", "--porcelain", "--", ".", ":!checkpoints").stdout.strip()
    return commit + "+changes" * bool(changed)


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that results depend on.

    Returns
    -------
    dict of str to str
    """
    from . import __version__  # of the code that runs, which need not be installed

    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "huidurep": __version__} | packages


def machine() -> str:
    """GPUs, or processor and number of threads, that this process computes on.

    Returns
    -------
    str
    """
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found.group(1).strip() if found else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)}"
