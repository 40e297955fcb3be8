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
    logits = logits.masked_fill(_left_out(logits, labels, recordings), float("-inf"))
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


def prototype_loss(embeddings, *, temperature, labels=None, recordings=None):
    """Cross-entropy of telling each spike's unit by its distances to the means of units.

    Prototypical networks (Snell et al. 2017, arXiv 1703.05175) with squared Euclidean distance: a Gaussian of the same
    variance around every unit's mean ("prototype"). Every spike of a batch is classified; the prototype of its own unit
    is the mean of the unit's other spikes. A mean of n spikes of unit variance adds 1/n to the variance of a distance
    from it, so that distances from means of M and of M - 1 spikes are divided by 1 + 1/M and 1 + 1/(M - 1).

    Parameters
    ----------
    embeddings : torch.Tensor (num_units, num_views, size)
        Of `num_views` spikes of each unit, as they are: their scale counts.
    temperature : float
        Variance, along each dimension, of the spikes of a unit that the loss takes for given.
    labels : torch.Tensor (num_units,), optional
        Unit of each row. Other rows of the same unit are not among those that a spike is told from.
    recordings : torch.Tensor (num_units,), optional
        Recording of each row. Units of other recordings are left out too.

    Returns
    -------
    torch.Tensor, scalar

    Raises
    ------
    ValueError
        If there are fewer than two views: a spike alone has no prototype.
    """
    num_units, num_views, _ = embeddings.shape
    if num_views < 2:
        raise ValueError(f"expected embeddings of at least 2 views of each unit, found {num_views}: draw more views.")
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        spikes = embeddings.to(wide)
        # What all embeddings share changes no distance, but would cost its digits below.
        spikes = spikes - spikes.detach().mean((0, 1))
        prototypes = spikes.mean(1)
        # All distances by one matrix product; the own one, the smallest, by its difference.
        squares = spikes.square().sum(-1, keepdim=True) + prototypes.square().sum(-1)
        distances = (squares - 2 * spikes @ prototypes.T) * num_views / (num_views + 1)
        # Without the spike itself, the mean lies M / (M - 1) times as far from it.
        own = (spikes - prototypes[:, None]).square().sum(-1, keepdim=True) * num_views / (num_views - 1)
        is_own = torch.eye(num_units, dtype=torch.bool, device=embeddings.device)
        logits = torch.where(is_own[:, None], own, distances) / (-2 * temperature)
    logits = logits.masked_fill(_left_out(is_own, labels, recordings)[:, None], float("-inf"))
    target = torch.arange(num_units, device=embeddings.device).repeat_interleave(num_views)
    return F.cross_entropy(logits.flatten(0, 1), target)


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


def _left_out(like, labels, recordings):
    """Mask, shaped `like` (count, count), of the columns that each row is not compared with; never the row's own."""
    left_out = torch.zeros_like(like, dtype=torch.bool)
    if labels is not None:
        left_out |= labels[:, None] == labels[None, :]
    if recordings is not None:
        left_out |= recordings[:, None] != recordings[None, :]
    return left_out.fill_diagonal_(False)
