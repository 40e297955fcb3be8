"""From what a user may give as `model` to an encoder: for those who embed without sorting."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..hub.select import choose_checkpoint


def choose_encoder(model, positions_um: np.ndarray | None):
    """What "auto" stands for; anything else is checked and comes back.

    Parameters
    ----------
    model : str, Path or HuiduRep
        "auto", an embedded name, a folder, a Hub repository, or a model.
    positions_um : ndarray (num_channels, 2) or None
        Contacts by which "auto" decides, um.

    Returns
    -------
    str or HuiduRep

    Raises
    ------
    TypeError
        Something else for a model.
    """
    if model == "auto":
        return choose_checkpoint(positions_um)[0]
    if isinstance(model, str | Path):
        return str(model)
    if callable(getattr(model, "embed", None)):
        return model
    raise TypeError(
        f"expected model as 'auto', a name, a folder or a HuiduRep, found {model!r}: give one of these, such as "
        "'tetrode'."
    )


def load_encoder(chosen):
    """The model itself.

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
