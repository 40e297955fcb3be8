"""The linear axes of an encoder: principal components of simulated spikes, fitted once before the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..models.modeling_huidurep import HuiduRep
    from .dataset import BatchMaker

SEED_OF_SPIKES = 20_000_001  # apart from those of the training's batches


@torch.no_grad()
def fit_linear_axes(model: HuiduRep, maker: BatchMaker, *, num_units: int, num_batches: int = 60) -> None:
    """Set the weights of the linear axes to the principal components of simulated spikes with their noise.

    Every spike has the same weight, whatever its amplitude: its snippet is divided by its norm, and the mean of all
    spikes of its recording is subtracted. The axes are in the order of their variance, so that few of them carry most.

    Parameters
    ----------
    model : HuiduRep
        Of a configuration with ``linear_size``; its linear axes are changed.
    maker : ViewMaker
    num_units, num_batches : int
        Size and number of the batches.
    """
    axes = model.linear_axes
    size = axes.projection.in_features
    covariance = torch.zeros(size, size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(SEED_OF_SPIKES)
    for _ in range(num_batches):
        batch = maker.draw(num_units, generator)
        exists = batch["channel_mask"][:, None, :] * batch["sample_mask"][:, :, None]
        where = batch["channel_positions"], batch["channel_mask"]
        snippets = axes.inputs(batch["view_1"] * exists, *where).double()
        snippets = snippets / snippets.norm(dim=1, keepdim=True).clamp(min=1e-6)
        recordings = batch.get("recordings", torch.zeros(len(snippets)))  # none if negatives are of the whole batch
        for recording in recordings.unique():
            rows = snippets[recordings == recording]
            covariance += (rows - rows.mean(0)).T @ (rows - rows.mean(0))
    vectors = torch.linalg.eigh(covariance).eigenvectors
    axes.projection.weight.copy_(vectors.flip(1)[:, : axes.projection.out_features].T)
