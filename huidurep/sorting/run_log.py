"""What each stage did and how long it took: to Python's logging and into the result."""

from __future__ import annotations

import logging
import platform
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version

logger = logging.getLogger(__name__)

PACKAGES = ("huidurep", "spikeinterface", "torch", "transformers", "numpy", "scipy", "scikit-learn")


class RunLog:
    """A list of entries; the seconds of an entry are those since the entry before it.

    Attributes
    ----------
    entries : list of dict
        stage (str), seconds (float), message (str); is_warning (True) where the user should look at it.
    """

    def __init__(self):
        self.entries: list[dict] = []
        self._last = time.perf_counter()

    def __call__(self, stage: str, message: str, *, level: int = logging.INFO) -> None:
        """Note what a stage has done.

        Parameters
        ----------
        stage : str
            Name of the stage.
        message : str
            One sentence.
        level : int
            Level of Python's logging.
        """
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        entry = {"stage": stage, "seconds": round(seconds, 3), "message": message}
        self.entries.append(entry | ({"is_warning": True} if level >= logging.WARNING else {}))
        logger.log(level, "%s: %s (%.1f s)", stage, message, seconds)

    def warning(self, stage: str, message: str) -> None:
        """Note something the user should look at.

        Parameters
        ----------
        stage : str
            Name of the stage.
        message : str
            One sentence.
        """
        self(stage, message, level=logging.WARNING)

    @property
    def total_seconds(self) -> float:
        """Seconds of all entries together."""
        return sum(entry["seconds"] for entry in self.entries)


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
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
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
