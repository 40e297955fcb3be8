"""Gradient caching: one large contrastive batch, with the memory of a small one."""

import contextlib

import torch

from ..losses import symmetric_contrastive_loss

QUERIES, KEYS = ("query_1", "query_2"), ("key_1", "key_2")
PAIRINGS = ("labels", "recordings")  # which pairs are each other's negatives


def backward_in_chunks(model, batch, *, chunk_size, backward=torch.Tensor.backward, no_sync=contextlib.nullcontext):
    """Gradients of one contrastive batch, computed chunk by chunk (gradient cache, Gao et al. 2021, arXiv 2101.06983).

    A first pass without gradients gives the queries and keys of all pairs, and the contrastive loss of the whole batch
    its gradient with respect to every query. A second pass runs each chunk again, on the same random numbers, and sends
    these gradients on to the weights. Negatives come from the whole batch, memory is that of a chunk; every chunk goes
    forward twice, and the losses other than the contrast are weighted by the samples that each chunk has.

    The gradients are those of the whole batch but for BatchNorm, which sees a chunk at a time: chunks take every n-th
    pair, so that each is a small image of the batch, and their running statistics move once a chunk. With several
    processes the negatives are those of each process's own batch, as without the cache.

    Parameters
    ----------
    model : HuiduRepForPreTraining
        May be wrapped for several devices. Gradients are added to those that it has.
    batch : dict of torch.Tensor
        Arguments of its ``forward``; the first dimension of each tensor is ``num_pairs``. Anything else is handed to
        every chunk as it is.
    chunk_size : int
        Most pairs in a chunk.
    backward : callable, default torch.Tensor.backward
        Takes a scalar and adds its gradients to the weights: where loss scaling and accumulation have their place.
    no_sync : callable
        Makes a context in which wrapped models keep gradients to themselves; around all chunks but the last.

    Returns
    -------
    dict of torch.Tensor, scalar
        ``loss``, ``contrastive_loss`` and ``reconstruction_loss`` of the whole batch, without gradients.

    Raises
    ------
    ValueError
        If `chunk_size` is smaller than 2: BatchNorm cannot do with one pair.
    """
    if chunk_size < 2:
        raise ValueError(f"expected a chunk_size of at least 2 pairs, found {chunk_size}: give a larger one.")
    plain = getattr(model, "module", model)
    config, chunks = plain.config, _split(batch, chunk_size)
    shares = _shares(chunks, plain.huidurep)
    outputs, states = _first_pass(model, chunks)
    groups = {name: torch.cat([chunk[name] for chunk in chunks]) for name in PAIRINGS if batch.get(name) is not None}
    contrast, gradients = _query_gradients(outputs, groups, config.contrastive_temperature)
    reconstruction = contrast.new_zeros(())
    for number, (chunk, share, state) in enumerate(zip(chunks, shares, states, strict=True)):
        is_last = number == len(chunks) - 1
        _restore_random_state(state)
        with contextlib.nullcontext() if is_last else no_sync():
            output = model(**chunk)
            error = output["reconstruction_loss"].mean() * share  # a mean: DataParallel returns one a device
            carried = sum((output[name] * gradients[name][number]).sum() for name in QUERIES)
            backward(carried + config.reconstruction_weight * error)
        reconstruction += error.detach()
    loss = contrast + config.reconstruction_weight * reconstruction
    return {"loss": loss, "contrastive_loss": contrast, "reconstruction_loss": reconstruction}


def _split(batch, chunk_size):
    """Chunks of nearly the same size."""
    num_pairs = len(batch["view_1"])
    count = max(1, min(-(-num_pairs // chunk_size), num_pairs // 2))
    return [
        {name: value[number::count] if torch.is_tensor(value) else value for name, value in batch.items()}
        for number in range(count)
    ]


def _shares(chunks, encoder):
    """Share of each chunk in the values of which the reconstruction loss is the mean."""
    counts = []
    for chunk in chunks:
        count = torch.ones(len(chunk["view_1"]), device=chunk["view_1"].device)
        # An encoder that has weights for every channel of its own reconstructs those that are missing, too.
        for name in ("sample_mask", "channel_mask") if encoder.by_position else ("sample_mask",):
            if chunk.get(name) is not None:
                count = count * chunk[name].sum(1)
        counts.append(float(count.sum()))
    return [count / max(sum(counts), 1.0) for count in counts]


@torch.no_grad()
def _first_pass(model, chunks):
    """Queries and keys of every chunk, with the state of the random numbers each began with; buffers stay as are."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = chunks[0]["view_1"].device
    outputs, states = [], []
    for chunk in chunks:
        accelerator = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        states.append((device, torch.get_rng_state(), accelerator))
        output = model(**chunk)
        outputs.append({name: output[name] for name in QUERIES + KEYS})
    for buffer, before in buffers:
        buffer.copy_(before)
    return outputs, states


def _query_gradients(outputs, groups, temperature):
    """Contrastive loss of the whole batch, and its gradient with respect to the queries of every chunk."""
    whole = {name: torch.cat([output[name] for output in outputs]) for name in QUERIES + KEYS}
    for name in QUERIES:
        whole[name].requires_grad_(True)
    with torch.enable_grad():
        contrast = symmetric_contrastive_loss(**whole, temperature=temperature, **groups)
        gradients = torch.autograd.grad(contrast, [whole[name] for name in QUERIES])
    sizes = [len(output["query_1"]) for output in outputs]
    return contrast.detach(), {name: each.split(sizes) for name, each in zip(QUERIES, gradients, strict=True)}


def _restore_random_state(state):
    """Go back to the random numbers of the first pass, so that dropout drops the same."""
    device, host, accelerator = state
    torch.set_rng_state(host)
    if accelerator is not None:
        torch.cuda.set_rng_state(accelerator, device)
