"""Which embedded checkpoint suits a probe: what model="auto" means."""

from __future__ import annotations

import json

import numpy as np

from .probe_types import PROBE_TYPES, recognise_probe

BASE_CHECKPOINT = "base"


def choose_checkpoint(positions_um: np.ndarray | None) -> tuple[str, str]:
    """The embedded checkpoint for a channel group, by where its contacts lie.

    The type of probe is that of `recognise_probe`: a tetrode, one column, the columns and rows of Neuropixels 1.0 or
    2.0, a dense array, or none of them. Its checkpoint is taken; where it is not installed, "base", which serves every
    probe; else the one that sees the most channels that the group can fill, or the fewest.

    Parameters
    ----------
    positions_um : ndarray (num_channels, 2) | None
        Contacts of the largest group, um. None: unknown.

    Returns
    -------
    name : str
    reason : str
        Why, for the log.

    Raises
    ------
    OSError
        No checkpoint is installed.
    ValueError
        Other than contacts in a plane.
    """
    from .embedded import list_checkpoints

    sizes = {}
    for name, folder in list_checkpoints().items():
        sizes[name] = json.loads((folder / "config.json").read_text(encoding="utf8"))["num_channels"]
    if not sizes:
        raise OSError("expected an embedded checkpoint, found none; install huidurep again or give model=FOLDER")
    known = positions_um is not None
    wanted, seen = recognise_probe(positions_um) if known else (BASE_CHECKPOINT, "no contacts known")
    if wanted in sizes:
        return wanted, f"for {PROBE_TYPES[wanted]}: {seen}"
    missing = f"{seen}, for which {wanted!r} is not installed"
    if BASE_CHECKPOINT in sizes:
        return BASE_CHECKPOINT, f"for {PROBE_TYPES[BASE_CHECKPOINT]}: {missing}"
    num_channels = len(positions_um) if known else 0
    fitting = [name for name in sizes if sizes[name] <= num_channels]
    name = max(fitting, key=sizes.get) if fitting else min(sizes, key=sizes.get)
    return name, f"which takes {sizes[name]} channels, the nearest there is: {missing}"
