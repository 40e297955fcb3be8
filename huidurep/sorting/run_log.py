"""What each stage did and how long it took: to Python's logging and into the result."""

from __future__ import annotations

import logging
import sys
import time

logger = logging.getLogger(__name__)


class RunLog:
    """A list of entries; the seconds of an entry are those since the entry before it.

    Attributes
    ----------
    entries : list of dict
        stage (str), seconds (float), message (str).
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
        self.entries.append({"stage": stage, "seconds": round(seconds, 3), "message": message})
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
