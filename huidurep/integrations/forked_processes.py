"""What a forked process needs before it can compute: one thread, because it has none of its parent's."""

from __future__ import annotations

import os
import sys


def use_one_thread() -> None:
    """Make torch, MKL and every other OpenMP library of this process compute with one thread.

    The parent's threads do not exist in a forked process, and OpenMP (GNU's libgomp) waits for them forever. A process
    that is started otherwise (spawn, forkserver) is not concerned.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):  # a half imported torch has no threads yet
        torch.set_num_threads(1)
    if "threadpoolctl" in sys.modules:  # scikit-learn, which has an OpenMP of its own, imports it
        sys.modules["threadpoolctl"].threadpool_limits(limits=1, user_api="openmp")


def watch_forks() -> None:
    """Call :func:`use_one_thread` in every process that is forked from this one. Called once, by the package."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=use_one_thread)
