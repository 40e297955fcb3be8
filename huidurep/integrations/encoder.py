"""The encoder of the integrations that embed waveforms without sorting: what a user may give as `model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..hub.select import resolve_auto

if TYPE_CHECKING:
    from ..models.modeling_huidurep import HuiduRep


def choose_encoder(model: str | Path | HuiduRep, positions_um: np.ndarray | None) -> str | HuiduRep:
    """Resolve "auto" to the name of a checkpoint, and check the type of anything else.

    Parameters
    ----------
    model : str, Path or HuiduRep
        "auto", an embedded checkpoint, a checkpoint folder, a Hub repository, or a model.
    positions_um : ndarray (num_channels, 2) or None
        Positions of the contacts, by which "auto" chooses, um. None: unknown.

    Returns
    -------
    str or HuiduRep

    Raises
    ------
    OSError
        "auto", and no checkpoint is installed.
    TypeError
        Another type of `model`.
    """
    if isinstance(model, str | Path):
        if str(model) != "auto":
            return str(model)
        return resolve_auto([] if positions_um is None else [positions_um])[0]
    if callable(getattr(model, "embed", None)):
        return model
    raise TypeError(f"expected model as 'auto', a name, a folder or a HuiduRep, found {model!r}: give one of these.")


def load_encoder(chosen: str | HuiduRep) -> HuiduRep:
    """Load the model, unless it is one already.

    Parameters
    ----------
    chosen : str or HuiduRep
        From :func:`choose_encoder`.

    Returns
    -------
    HuiduRep

    Raises
    ------
    OSError
        No such checkpoint.
    """
    if not isinstance(chosen, str):
        return chosen
    from ..models.modeling_huidurep import HuiduRep

    return HuiduRep.from_pretrained(chosen)
