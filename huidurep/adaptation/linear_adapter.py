"""The linear adapter of `adapt`: principal components of a recording beside the encoder's representation."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..models.inference import embed_mapped
from ..models.modeling_layers import HuiduRepAdapter
from .principal_components import fit_pca
from .settings import DEFAULT_SETTINGS, AdaptationSettings

if TYPE_CHECKING:
    from ..models.input_contract import MappedWaveforms
    from ..models.modeling_huidurep import HuiduRep


def fit_adapter(
    model: HuiduRep,
    mapped: MappedWaveforms,
    groups: np.ndarray,
    settings: AdaptationSettings = DEFAULT_SETTINGS,
) -> HuiduRep:
    """Give a copy of an encoder the adapter of one recording.

    Leading principal components of the snippets, which do not depend on the encoder's training, are joined with the
    representations at a fixed ratio of their variances; the leading principal axes of both together are the new
    embedding: a linear map of representation and snippet, in closed form. The size of the embedding does not change;
    dimensions beyond the axes are 0. A mixture needs fewer spikes in fewer dimensions, and hand-sorted units that the
    encoder alone confuses are separated (benchmarks/adaptation.py).

    Parameters
    ----------
    model : HuiduRep
        In evaluation mode, without an adapter. Is not changed.
    mapped : MappedWaveforms
        Spikes of the recording.
    groups : ndarray of int (num_spikes,)
        Spikes of the same channels have the same number: variances are those within groups.
    settings : AdaptationSettings, optional

    Returns
    -------
    HuiduRep
    """
    representations = embed_mapped(model, mapped).astype(float)
    snippets = model.scale(torch.from_numpy(mapped.snippets)).flatten(1).numpy().astype(float)
    representations_mean, snippets_mean = representations.mean(0), snippets.mean(0)
    inner, outer = _within(representations, groups), _within(snippets, groups)
    components = fit_pca(outer, settings.num_components).components_.T
    scores = outer @ components
    size = np.sqrt(inner.var(0).sum()) or 1.0  # representations that are all alike leave the components
    ratio = settings.waveform_weight * size / max(np.sqrt(scores.var(0).sum()), 1e-12)
    num_axes = min(settings.num_dimensions, inner.shape[1])
    axes = fit_pca(np.hstack([inner, ratio * scores]), num_axes).components_.T
    of_representation = np.zeros((inner.shape[1], inner.shape[1]))
    of_snippet = np.zeros((inner.shape[1], snippets.shape[1]))
    of_representation[: axes.shape[1]] = axes[: inner.shape[1]].T
    of_snippet[: axes.shape[1]] = ratio * (components @ axes[inner.shape[1] :]).T
    bias = -of_representation @ representations_mean - of_snippet @ snippets_mean
    return _with_adapter(model, of_representation, of_snippet, bias, num_channels=mapped.snippets.shape[2])


def _with_adapter(
    model: HuiduRep, of_representation: np.ndarray, of_snippet: np.ndarray, bias: np.ndarray, *, num_channels: int
) -> HuiduRep:
    """Copy of a model with these weights; those of channels that the recording does not have are 0."""
    adapted = copy.deepcopy(model)
    adapted.config.adapter = True
    with torch.random.fork_rng(devices=[]):  # new layers draw weights from the global generator
        adapted.adapter = HuiduRepAdapter(adapted.config).to(model.device, model.dtype)
    shape = len(bias), adapted.config.num_samples, adapted.config.num_channels
    padded = np.zeros(shape)
    padded[:, :, :num_channels] = of_snippet.reshape(*shape[:2], num_channels)
    arrays = {"representation.weight": of_representation, "representation.bias": bias}
    arrays["snippet.weight"] = padded.reshape(len(bias), -1)
    adapted.adapter.load_state_dict({name: torch.from_numpy(each) for name, each in arrays.items()})
    return adapted.eval()


def _within(points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Points (num_points, num_features) minus the mean of their group."""
    result = np.empty_like(points)
    for group in np.unique(groups):
        rows = groups == group
        result[rows] = points[rows] - points[rows].mean(0)
    return result
