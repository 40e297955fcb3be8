"""Log of a run: what each stage did and how long it took, for Python's logging and for the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger(__name__)
# Stages of a channel group in order, with the share of the run time of each, measured on tetrodes and on a column of 32
# contacts, for an estimate of the time left. Curation is merging of templates and removal of noise units; only groups
# of more channels than the model takes need it before they are embedded again.
STAGES = (
    ("preprocessing", 0.07),
    ("motion", 0.08),
    ("detection", 0.05),
    ("embedding", 0.08),
    ("clustering", 0.46),
    ("matching", 0.14),
    ("curation", 0.02),
    ("embedding", 0.06),
    ("postprocessing", 0.04),
)


class RunLog:
    """Log of a run, and its progress through the stages.

    Attributes
    ----------
    entries : list of dict
        stage (str), seconds (float) since the entry before, message (str); is_warning (True) for warnings.
    group_index : int
        Place of the current channel group.

    Parameters
    ----------
    progress : callable | None
        Called before each stage with the share of the work that is done (0 to 1, estimated) and a text such as
        "group 2 of 4, stage 5 of 9: clustering".
    """

    def __init__(self, progress: Callable[[float, str], None] | None = None):
        self.entries: list[dict] = []
        self._last = time.perf_counter()
        self._progress = progress
        self._num_groups, self.group_index, self._num_finished = 0, 0, 0

    def iterate_groups(self, groups: Sequence) -> Iterator:
        """Iterate over channel groups; stages that are logged meanwhile belong to the current one.

        Parameters
        ----------
        groups : list of ChannelGroup

        Yields
        ------
        ChannelGroup
        """
        self._num_groups = len(groups)
        for self.group_index, group in enumerate(groups):
            self._num_finished = 0
            self._report_progress()
            yield group

    def skip(self, stage: str) -> None:
        """Count a stage as finished without an entry, because it has nothing to do.

        Parameters
        ----------
        stage : str
            Name of the stage; names that are not in `STAGES` are no progress.
        """
        for position in range(self._num_finished, len(STAGES) if self._num_groups else 0):
            if STAGES[position][0] == stage:
                self._num_finished = position + 1
                self._report_progress()
                return

    def restore(self, entries: list[dict]) -> None:
        """Add the entries of stages that an earlier run has finished.

        Parameters
        ----------
        entries : list of dict
            As in `entries`.
        """
        self.entries += entries
        for entry in entries:
            self.skip(entry["stage"])

    def _report_progress(self) -> None:
        if self._progress is None or self._num_finished == len(STAGES):
            return
        done = (self.group_index + sum(share for _, share in STAGES[: self._num_finished])) / self._num_groups
        group = f"group {self.group_index + 1} of {self._num_groups}, " if self._num_groups > 1 else ""
        self._progress(done, f"{group}stage {self._num_finished + 1} of {len(STAGES)}: {STAGES[self._num_finished][0]}")

    def __call__(self, stage: str, message: str, *, level: int = logging.INFO) -> None:
        """Add an entry for a stage that is finished, or for a step of it.

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
        """Add an entry that the user should read.

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
        """Sum of the seconds of all entries, and those since the last one."""
        return sum(entry["seconds"] for entry in self.entries) + time.perf_counter() - self._last
