"""Where the encoder computes: the names of devices, and a check that a device computes what the CPU does."""

import copy
import logging
from typing import TYPE_CHECKING

import torch

from .fingerprint import fixed_embeddings
from .inference import ready_for_inference

if TYPE_CHECKING:
    from .modeling_huidurep import HuiduRep

logger = logging.getLogger(__name__)
AUTO = "auto"
# Largest difference of an embedding from that of the CPU, as a share of the largest number. Rounded products (TF32)
# change the third digit, a function that a device computes wrongly the first.
MAX_DIFFERENCE = 0.02


def find_device(device: str | torch.device = AUTO) -> torch.device:
    """The device of a name, if this machine has it.

    Parameters
    ----------
    device : str or torch.device
        "auto": CUDA, else MPS, else the CPU. Otherwise a device of torch, such as "cuda:1".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        An unknown name, or a device that is not there.
    """
    found = _available()
    if isinstance(device, str) and device == AUTO:
        return torch.device(next(iter(found)))
    remedy = f"name 'auto' or one of this machine's ({', '.join(found)}), or install a PyTorch that is built for it."
    try:
        named = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"expected device to be 'auto' or a device of torch, found {device!r}: {remedy}") from error
    if (named.index or 0) >= found.get(named.type, 0):
        raise ValueError(f"expected a device that this machine has, found {str(named)!r}: {remedy}")
    return named


def _available() -> dict[str, int]:
    """Types of devices, the fastest first, with the number of each."""
    found = {}
    # a process that was forked from one that used CUDA cannot use it
    if torch.cuda.is_available() and not torch.cuda._is_in_bad_fork():
        found["cuda"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    return {**found, "cpu": 1}


def place_model(model: "HuiduRep", device: str | torch.device = AUTO) -> "HuiduRep":
    """The model on a device, where it is checked to compute what it computes on the CPU.

    Parameters
    ----------
    model : HuiduRep
        Is not changed.
    device : str or torch.device
        As in `find_device`.

    Returns
    -------
    HuiduRep
        The given model, if it is there already. With "auto" the one on the CPU, and a warning, where the device fails.

    Raises
    ------
    ValueError
        A device that is not there, or, if it was named, that computes something else.
    """
    target = find_device(device)
    if target.type == "cpu":
        return ready_for_inference(model, target)
    try:
        placed = ready_for_inference(model, target)
        on_cpu = fixed_embeddings(copy.deepcopy(model).float().to("cpu"))
        difference = float(abs(fixed_embeddings(placed) - on_cpu).max() / abs(on_cpu).max())
        reason = None if difference <= MAX_DIFFERENCE else f"embeddings that differ by {100 * difference:.0f} %"
    except (RuntimeError, TypeError, NotImplementedError) as error:  # functions or types that a device does not have
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if reason is None:
        return placed
    if device != AUTO:
        raise ValueError(
            f"expected {str(target)!r} to compute the embeddings of the CPU, found {reason}: use device='cpu', or "
            "another version of PyTorch"
        )
    logger.warning("the CPU is used: %s does not compute its embeddings (%s)", target, reason)
    return ready_for_inference(model, "cpu")
