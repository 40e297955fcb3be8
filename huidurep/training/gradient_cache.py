"""Gradient caching: losses that compare all spikes of a large batch, with the memory of a small batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models.modeling_pretraining import QUERIES, comparison_losses, weighted_loss
from .processes import COMPARED, EMBEDDINGS, GROUPS, count_values, gather_rows, num_processes, sum_over_processes

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig

Batch = dict[str, Any]
RandomState = tuple[torch.device, Tensor, Tensor | None]


def backward_in_chunks(
    model: torch.nn.Module,
    batch: Batch,
    *,
    chunk_size: int,
    backward: Callable[[Tensor], Any] = torch.Tensor.backward,
    no_sync: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> dict[str, Tensor]:
    """Gradients of one batch, computed chunk by chunk (gradient cache, Gao et al. 2021, arXiv 2101.06983).

    A first pass without gradients gives the embeddings, queries and keys of all units, and the losses that compare them
    the gradients for every embedding and query. A second pass runs each chunk again, with the same random numbers, and
    backpropagates these gradients to the weights. The reconstruction losses are weighted by the samples of each chunk.

    The gradients are those of the whole batch but for the heads' BatchNorm (only the contrastive loss has heads), which
    normalises one chunk at a time: chunks take every n-th unit, so that each represents the batch, and the running
    statistics are updated once a chunk. Several processes share the batch, as without the cache.

    Parameters
    ----------
    model : HuiduRepForPreTraining
        May be wrapped for several devices. Gradients are added to the existing ones.
    batch : dict of torch.Tensor
        Arguments of its ``forward``; the first dimension of each tensor is ``num_units`` (of this process).
    chunk_size : int
        Maximum number of units in a chunk.
    backward : callable, default torch.Tensor.backward
        Receives a scalar loss and adds its gradients to the weights; may scale it, as for mixed precision.
    no_sync : callable
        Makes a context in which a wrapped model does not synchronise gradients; used for all chunks but the last.

    Returns
    -------
    dict of torch.Tensor, scalar
        ``loss`` and its parts of the whole batch, without gradients.

    Raises
    ------
    ValueError
        If `chunk_size` is smaller than 2.
    """
    if chunk_size < 2:  # BatchNorm needs two units
        raise ValueError(f"expected a chunk_size of at least 2 units, found {chunk_size}: give a larger one.")
    plain: Any = getattr(model, "module", model)
    config, chunks = plain.config, _split(batch, chunk_size)
    shares = _shares(chunks, plain.huidurep)
    outputs, states = _first_pass(model, chunks)
    groups = {name: torch.cat([chunk[name] for chunk in chunks]) for name in GROUPS if batch.get(name) is not None}
    losses, gradients = _comparison_gradients(config, outputs, groups)
    errors = []
    for number, (chunk, share, state) in enumerate(zip(chunks, shares, states, strict=True)):
        _restore_random_state(state)
        with contextlib.nullcontext() if number == len(chunks) - 1 else no_sync():
            output = model(**chunk, return_dict=True)
            error = output["reconstruction_loss"].mean() * share  # a mean: DataParallel returns one per device
            carried = sum((output[name] * each[number]).sum() for name, each in gradients.items())
            backward(num_processes() * (carried + config.reconstruction_weight * error))  # they are averaged
        errors.append(error.detach())
    losses["reconstruction_loss"] = sum_over_processes(sum(errors, torch.zeros_like(errors[0])))
    return {"loss": weighted_loss(config, losses), **losses}


def _split(batch: Batch, chunk_size: int) -> list[Batch]:
    """Chunks of nearly the same size."""
    num_units = len(batch["view_1"])
    count = max(1, min(-(-num_units // chunk_size), num_units // 2))
    return [
        {name: value[number::count] if torch.is_tensor(value) else value for name, value in batch.items()}
        for number in range(count)
    ]


def _shares(chunks: list[Batch], encoder: Any) -> list[float]:
    """Share of each chunk in the values over which the reconstruction loss is a mean."""
    counts = torch.stack([count_values(chunk, encoder) for chunk in chunks]).double()
    return (counts / sum_over_processes(counts.sum()).clamp(min=1)).tolist()


@torch.no_grad()
def _first_pass(model: torch.nn.Module, chunks: list[Batch]) -> tuple[list[dict[str, Tensor]], list[RandomState]]:
    """Outputs that are compared, and the state of the random generators before each chunk; buffers are restored."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = chunks[0]["view_1"].device
    outputs: list[dict[str, Tensor]] = []
    states: list[RandomState] = []
    for chunk in chunks:
        accelerator = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        states.append((device, torch.get_rng_state(), accelerator))
        output = model(**chunk, return_dict=True)
        outputs.append({name: output[name] for name in COMPARED if name in output})
    for buffer, before in buffers:
        buffer.copy_(before)
    return outputs, states


def _comparison_gradients(
    config: HuiduRepConfig, outputs: list[dict[str, Tensor]], groups: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
    """Comparison losses of the whole batch, and gradients of their weighted sum for the outputs of each chunk."""
    whole = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
    carriers = [EMBEDDINGS] * (config.prototype_weight > 0) + [*QUERIES] * (config.contrastive_weight > 0)
    for name in carriers:
        whole[name].requires_grad_(True)
    with torch.enable_grad():
        everywhere = {name: gather_rows(rows) for name, rows in whole.items()}
        losses = comparison_losses(config, everywhere, **{name: gather_rows(rows) for name, rows in groups.items()})
        gradients = torch.autograd.grad(weighted_loss(config, losses), [whole[name] for name in carriers])
    sizes = [len(output[carriers[0]]) for output in outputs]
    split = {name: each.split(sizes) for name, each in zip(carriers, gradients, strict=True)}
    return {name: loss.detach() for name, loss in losses.items()}, split


def _restore_random_state(state: RandomState) -> None:
    """Restore the random generators of the first pass, so that dropout is the same."""
    device, host, accelerator = state
    torch.set_rng_state(host)
    if accelerator is not None:
        torch.cuda.set_rng_state(accelerator, device)
