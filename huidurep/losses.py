"""Losses of the pretraining: pure functions of tensors."""

import torch
import torch.nn.functional as F


def contrastive_loss(query, key, *, temperature, labels=None, recordings=None):
    """InfoNCE with in-batch negatives, scaled by ``2 * temperature`` (MoCo v3, Chen et al. 2021, arXiv 2104.02057).

    Parameters
    ----------
    query, key : torch.Tensor (num_pairs, size)
        L2-normalised; row i of both comes from the same unit.
    temperature : float
    labels : torch.Tensor (num_pairs,), optional
        Unit of each pair. Other pairs of the same unit are left out of the negatives.
    recordings : torch.Tensor (num_pairs,), optional
        Recording of each pair. Pairs of other recordings, which noise and filters alone tell apart, are left out too.

    Returns
    -------
    torch.Tensor, scalar
    """
    # Similarities of half precision would round away what tells neighbours apart.
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        logits = query.to(wide) @ key.to(wide).T / temperature
    left_out = torch.zeros_like(logits, dtype=torch.bool)
    if labels is not None:
        left_out |= labels[:, None] == labels[None, :]
    if recordings is not None:
        left_out |= recordings[:, None] != recordings[None, :]
    left_out.fill_diagonal_(False)
    logits = logits.masked_fill(left_out, float("-inf"))
    target = torch.arange(len(query), device=query.device)
    return 2 * temperature * F.cross_entropy(logits, target)


def symmetric_contrastive_loss(query_1, query_2, key_1, key_2, **options):
    """Contrast of each view's queries with the keys of the other view, as MoCo v3 trains.

    Parameters
    ----------
    query_1, query_2, key_1, key_2 : torch.Tensor (num_pairs, projection_size)
        L2-normalised, of both views.
    **options
        As in :func:`contrastive_loss`.

    Returns
    -------
    torch.Tensor, scalar
    """
    return contrastive_loss(query_1, key_2, **options) + contrastive_loss(query_2, key_1, **options)


def reconstruction_loss(reconstruction, clean, *, mask=None):
    """Mean squared error over the values that exist.

    Parameters
    ----------
    reconstruction, clean : torch.Tensor (num_spikes, num_samples, num_channels)
    mask : torch.Tensor, broadcastable to them, optional
        1 where a value counts, 0 where it is padding.

    Returns
    -------
    torch.Tensor, scalar
    """
    error = (reconstruction - clean).square()
    if mask is None:
        return error.mean()
    mask = mask.expand_as(error)
    return (error * mask).sum() / mask.sum().clamp(min=1)
