"""Which embedded checkpoint suits a probe: the meaning of model="auto"."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from .probe_types import PROBE_TYPES, SPECIAL_TYPES, recognise_probe

BASE_CHECKPOINT = "base"


def resolve_auto(groups_um: Sequence[np.ndarray]) -> tuple[str, str]:
    """Embedded checkpoint for a recording of several channel groups: the one for its largest group.

    Parameters
    ----------
    groups_um : sequence of ndarray (num_channels, 2)
        Contact positions of each channel group, um. Empty if they are unknown.

    Returns
    -------
    name, reason : str
        As of :func:`choose_checkpoint`, which also lists the errors.
    """
    # a checkpoint for more channels also sorts smaller groups
    return choose_checkpoint(max(groups_um, key=len, default=None))


def choose_checkpoint(positions_um: np.ndarray | None) -> tuple[str, str]:
    """Embedded checkpoint for one channel group, by the type of probe that :func:`recognise_probe` finds.

    If the checkpoint for single contacts or that for staggered shanks is not installed, their rules are skipped: such
    probes are then of another type. If the checkpoint of the type is not installed, "base", which serves every probe,
    is chosen. Without "base", it is the checkpoint with the most channels that the group has, or else the one with the
    fewest.

    Parameters
    ----------
    positions_um : ndarray (num_channels, 2) | None
        Contact positions, um. None: unknown.

    Returns
    -------
    name : str
    reason : str
        For the log.

    Raises
    ------
    OSError
        No checkpoint is installed.
    ValueError
        The positions are not in a plane.
    """
    from .embedded import list_checkpoints

    sizes: dict[str, int] = {}
    for name, folder in list_checkpoints().items():
        sizes[name] = json.loads((folder / "config.json").read_text(encoding="utf8"))["num_channels"]
    if not sizes:
        raise OSError("expected an embedded checkpoint, found none; install huidurep again or give model=FOLDER")
    skip = [name for name in SPECIAL_TYPES if name not in sizes]
    wanted, seen = BASE_CHECKPOINT, "no contacts known"
    if positions_um is not None:
        wanted, seen = recognise_probe(positions_um, skip)
    if wanted in sizes:
        return wanted, f"for {PROBE_TYPES[wanted]}: {seen}"
    missing = f"{seen}, for which {wanted!r} is not installed"
    if BASE_CHECKPOINT in sizes:
        return BASE_CHECKPOINT, f"for {PROBE_TYPES[BASE_CHECKPOINT]}: {missing}"
    num_channels = 0 if positions_um is None else len(positions_um)
    fitting = [name for name in sizes if sizes[name] <= num_channels]
    name = max(fitting, key=sizes.__getitem__) if fitting else min(sizes, key=sizes.__getitem__)
    return name, f"with {sizes[name]} channels, the nearest that is installed: {missing}"
