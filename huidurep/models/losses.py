"""Losses of the pretraining: pure functions of tensors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    query: Tensor, key: Tensor, *, temperature: float, labels: Tensor | None = None, recordings: Tensor | None = None
) -> Tensor:
    """InfoNCE with in-batch negatives, scaled by ``2 * temperature`` (MoCo v3, Chen et al. 2021, arXiv 2104.02057).

    Parameters
    ----------
    query, key : torch.Tensor (num_pairs, size)
        L2-normalised; row i of both is of the same unit.
    temperature : float
    labels : torch.Tensor (num_pairs,), optional
        Unit of each pair. Other pairs of the same unit are not used as negatives.
    recordings : torch.Tensor (num_pairs,), optional
        Recording of each pair. Pairs of other recordings are not used as negatives either, because noise and filters
        alone would distinguish them.

    Returns
    -------
    torch.Tensor, scalar
    """
    # Half precision would round away the differences between similar units.
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        logits = query.to(wide) @ key.to(wide).T / temperature
    logits = logits.masked_fill(_excluded(logits, labels, recordings), float("-inf"))
    target = torch.arange(len(query), device=query.device)
    return 2 * temperature * F.cross_entropy(logits, target)


def symmetric_contrastive_loss(
    query_1: Tensor, query_2: Tensor, key_1: Tensor, key_2: Tensor, **options: Any
) -> Tensor:
    """Sum of the contrastive losses of each view's queries with the keys of the other view, as in MoCo v3.

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


def prototype_loss(
    embeddings: Tensor, *, temperature: float, labels: Tensor | None = None, recordings: Tensor | None = None
) -> Tensor:
    """Cross-entropy of classifying each spike by its distances to the mean embeddings of the units.

    Prototypical networks (Snell et al. 2017, arXiv 1703.05175) with squared Euclidean distance: a Gaussian of the same
    variance around the mean of every unit (its "prototype"). Every spike of a batch is classified; the prototype of its
    own unit is the mean of the unit's other spikes. A mean of n spikes of unit variance adds 1/n to the variance of a
    distance from it, so distances from means of M and of M - 1 spikes are divided by 1 + 1/M and 1 + 1/(M - 1).

    Parameters
    ----------
    embeddings : torch.Tensor (num_units, num_views, size)
        Of `num_views` spikes of each unit, not normalised.
    temperature : float
        Assumed variance of a unit's spikes along each dimension.
    labels : torch.Tensor (num_units,), optional
        Unit of each row. Other rows of the same unit are excluded from the classes.
    recordings : torch.Tensor (num_units,), optional
        Recording of each row. Units of other recordings are excluded too.

    Returns
    -------
    torch.Tensor, scalar

    Raises
    ------
    ValueError
        If there are fewer than two views, without which a unit has no other spikes to average.
    """
    num_units, num_views, _ = embeddings.shape
    if num_views < 2:
        raise ValueError(f"expected embeddings of at least 2 views of each unit, found {num_views}: draw more views.")
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        spikes = embeddings.to(wide)
        # A common offset changes no distance, but would cost precision in the matrix product.
        spikes = spikes - spikes.detach().mean((0, 1))
        prototypes = spikes.mean(1)
        # All distances by one matrix product; those to the own prototype, the smallest, by differences.
        squares = spikes.square().sum(-1, keepdim=True) + prototypes.square().sum(-1)
        distances = (squares - 2 * spikes @ prototypes.T) * num_views / (num_views + 1)
        # The mean of the other M - 1 spikes is M / (M - 1) times as far away as the mean of all M.
        own = (spikes - prototypes[:, None]).square().sum(-1, keepdim=True) * num_views / (num_views - 1)
        is_own = torch.eye(num_units, dtype=torch.bool, device=embeddings.device)
        logits = torch.where(is_own[:, None], own, distances) / (-2 * temperature)
    logits = logits.masked_fill(_excluded(is_own, labels, recordings)[:, None], float("-inf"))
    target = torch.arange(num_units, device=embeddings.device).repeat_interleave(num_views)
    return F.cross_entropy(logits.flatten(0, 1), target)


def reconstruction_loss(reconstruction: Tensor, clean: Tensor, *, mask: Tensor | None = None) -> Tensor:
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


def _excluded(like: Tensor, labels: Tensor | None, recordings: Tensor | None) -> Tensor:
    """Mask, shaped `like` (count, count), of the columns excluded from each row's classes; never the row's own."""
    excluded = torch.zeros_like(like, dtype=torch.bool)
    if labels is not None:
        excluded |= labels[:, None] == labels[None, :]
    if recordings is not None:
        excluded |= recordings[:, None] != recordings[None, :]
    return excluded.fill_diagonal_(False)
