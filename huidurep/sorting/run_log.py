"""What each stage did and how long it took: to Python's logging and into the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger(__name__)
# Stages of a channel group in order, with the share of the seconds that each takes, about, on a tetrode and on a column
# of 32 contacts: the time left is a guess. Adapting counts as embedding, cleaning and settling as description.
STAGES = (
    ("preprocessing", 0.07),
    ("motion", 0.08),
    ("detection", 0.05),
    ("embedding", 0.08),
    ("clustering", 0.46),
    ("matching", 0.16),
    ("embedding", 0.06),
    ("description", 0.04),
)


class RunLog:
    """A list of entries; the seconds of an entry are those since the entry before it.

    Attributes
    ----------
    entries : list of dict
        stage (str), seconds (float), message (str); is_warning (True) where the user should look at it.

    Parameters
    ----------
    progress : callable | None
        Called with the share of the work that is done (0 to 1) and the stage that comes next, in words.
    """

    def __init__(self, progress: Callable[[float, str], None] | None = None):
        self.entries: list[dict] = []
        self._last = time.perf_counter()
        self._progress = progress
        self._num_groups, self._group, self._num_passed = 0, 0, 0

    def follow(self, groups: Sequence) -> Iterator:
        """Iterate over channel groups; stages that are logged meanwhile count as theirs.

        Parameters
        ----------
        groups : list of ChannelGroup

        Yields
        ------
        ChannelGroup
        """
        self._num_groups = len(groups)
        for self._group, group in enumerate(groups):
            self._num_passed = 0
            self._tell_progress()
            yield group

    def skip(self, stage: str) -> None:
        """Move on to the stage after this one: it is done, or there is nothing to do.

        Parameters
        ----------
        stage : str
        """
        for position in range(self._num_passed, len(STAGES) if self._num_groups else 0):
            if STAGES[position][0] == stage:
                self._num_passed = position + 1
                self._tell_progress()
                return

    def _tell_progress(self) -> None:
        if self._progress is None:
            return
        done = (self._group + sum(share for _, share in STAGES[: self._num_passed])) / self._num_groups
        group = f"group {self._group + 1} of {self._num_groups}, " if self._num_groups > 1 else ""
        self._progress(done, f"{group}stage {self._num_passed + 1} of {len(STAGES)}: {STAGES[self._num_passed][0]}")

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
        self.skip(stage)

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
