"""Several processes that share every batch: each draws some of the batches and computes some rows of each.

Losses and gradients are those of one process with the whole batch: a run is the same on any number of processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from ..models.modeling_pretraining import KEYS, QUERIES, comparison_losses, weighted_loss

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig

GROUPS = ("labels", "recordings")  # they define which units are negatives of each other
EMBEDDINGS = "view_embeddings"
COMPARED = (EMBEDDINGS, *QUERIES, *KEYS)


def num_processes() -> int:
    """Number of processes that share a batch; 1 unless torch's process group is there.

    Returns
    -------
    int
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(tensor: Tensor) -> Tensor:
    """Rows of all processes in their order; only the rows of this one carry gradients.

    The gradients of a loss of all rows, computed by every process for its own rows, add up to those of one process.

    Parameters
    ----------
    tensor : torch.Tensor (num_rows, ...)
        Of the same shape in every process.

    Returns
    -------
    torch.Tensor (num_processes * num_rows, ...)
        `tensor` itself if there is one process.
    """
    if num_processes() == 1:
        return tensor
    sent = tensor.detach().contiguous()
    parts = [torch.empty_like(sent) for _ in range(num_processes())]
    dist.all_gather(parts, sent)
    parts[dist.get_rank()] = tensor
    return torch.cat(parts)


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, without gradients.

    Parameters
    ----------
    value : torch.Tensor

    Returns
    -------
    torch.Tensor, same shape
    """
    total = value.detach().clone()
    if num_processes() > 1:
        dist.all_reduce(total)
    return total


def count_values(batch: Mapping[str, Any], encoder: Any) -> Tensor:
    """Number of values over which the reconstruction loss of a batch is a mean, up to a factor.

    Parameters
    ----------
    batch : dict of torch.Tensor
    encoder : HuiduRep

    Returns
    -------
    torch.Tensor, scalar
    """
    count = torch.ones(len(batch["view_1"]), device=batch["view_1"].device)
    # An encoder with weights of its own for every channel reconstructs missing channels, too.
    for name in ("sample_mask", "channel_mask") if encoder.by_position else ("sample_mask",):
        if batch.get(name) is not None:
            count = count * batch[name].sum(1)
    return count.sum()


def shared_losses(config: HuiduRepConfig, output: Any, batch: Mapping[str, Any], encoder: Any) -> dict[str, Tensor]:
    """Losses of a batch whose rows are spread over the processes.

    Parameters
    ----------
    config : HuiduRepConfig
    output : HuiduRepForPreTrainingOutput
        Of the rows of this process.
    batch : dict of torch.Tensor
        These rows.
    encoder : HuiduRep

    Returns
    -------
    dict of torch.Tensor, scalar
        ``loss`` and its parts, of the whole batch and the same in every process. The mean of the gradients of ``loss``
        over all processes, which DistributedDataParallel computes, is the gradient of one process.
    """
    found = {name: gather_rows(output[name]) for name in COMPARED if name in output}
    groups = {name: gather_rows(batch[name]) for name in GROUPS if batch.get(name) is not None}
    losses = comparison_losses(config, found, **groups)
    count = count_values(batch, encoder)
    error = output["reconstruction_loss"] * count / sum_over_processes(count).clamp(min=1)
    own = num_processes() * weighted_loss(config, {**losses, "reconstruction_loss": error})
    losses["reconstruction_loss"] = sum_over_processes(error)
    losses = {name: loss.detach() for name, loss in losses.items()}
    # the value of the whole batch with the gradients of these rows
    return {"loss": weighted_loss(config, losses) + own - own.detach(), **losses}


class SharedLoader(DataLoader):
    """DataLoader whose batches are drawn by the processes in turn and divided among them by rows.

    Its dataset gives every process the batches that it has to draw: see :class:`huidurep.training.dataset.ViewDataset`.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Rows of this process of every batch."""
        drawn = super().__iter__()
        count = num_processes()
        if count == 1:
            yield from drawn
            return
        for turn in itertools.cycle(range(count)):
            received: list[Any] = [next(drawn) if turn == dist.get_rank() else None]
            dist.broadcast_object_list(received, src=turn)
            yield {name: value.chunk(count)[dist.get_rank()] for name, value in received[0].items()}
