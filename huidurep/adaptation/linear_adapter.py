"""The linear adapter of `adapt`: a recording's own principal components beside the encoder's representation."""

import copy

import numpy as np
import torch

from ..models.inference import embed_mapped
from ..models.modeling_layers import HuiduRepAdapter

NUM_COMPONENTS = 24  # of the snippets
WEIGHT = 0.7  # of their standard deviation, where that of the representations is 1
NUM_AXES = 12  # of both together


def fit_adapter(model, mapped, groups):
    """Give a copy of an encoder the adapter of one recording.

    Leading principal components of the snippets, which no encoder can have unlearnt, are joined with the
    representations at a fixed ratio of their variances, and the leading principal axes of both together are the new
    embedding: a linear map of representation and snippet, in closed form. The embedding keeps its size; what lies
    beyond the axes taken is 0. A mixture needs fewer spikes for fewer dimensions, and hand-cut units that the encoder
    alone confuses stay apart (benchmarks/adaptation.py).

    Parameters
    ----------
    model : HuiduRep
        In evaluation mode, without an adapter. Stays as it is.
    mapped : MappedWaveforms
        Spikes of the recording.
    groups : ndarray of int (num_spikes,)
        Spikes that share their channels: variances are those within groups.

    Returns
    -------
    HuiduRep
    """
    representations = embed_mapped(model, mapped).astype(float)
    snippets = model.scale(torch.from_numpy(mapped.snippets)).flatten(1).numpy().astype(float)
    representations_mean, snippets_mean = representations.mean(0), snippets.mean(0)
    inner, outer = _within(representations, groups), _within(snippets, groups)
    components = _leading_axes(outer, NUM_COMPONENTS)
    scores = outer @ components
    size = np.sqrt(inner.var(0).sum()) or 1.0  # representations that are all alike leave the components
    ratio = WEIGHT * size / max(np.sqrt(scores.var(0).sum()), 1e-12)
    axes = _leading_axes(np.hstack([inner, ratio * scores]), min(NUM_AXES, inner.shape[1]))
    weights = np.zeros((inner.shape[1], inner.shape[1])), np.zeros((inner.shape[1], snippets.shape[1]))
    weights[0][: axes.shape[1]] = axes[: inner.shape[1]].T
    weights[1][: axes.shape[1]] = ratio * (components @ axes[inner.shape[1] :]).T
    bias = -weights[0] @ representations_mean - weights[1] @ snippets_mean
    return _with_adapter(model, *weights, bias, num_channels=mapped.snippets.shape[2])


def _with_adapter(model, of_representation, of_snippet, bias, *, num_channels):
    """Copy of a model with these weights; channels that the recording does not have get none."""
    adapted = copy.deepcopy(model)
    adapted.config.adapter = True
    with torch.random.fork_rng(devices=[]):  # the layers draw weights, which are overwritten
        adapted.adapter = HuiduRepAdapter(adapted.config).to(model.device, model.dtype)
    shape = len(bias), adapted.config.num_samples, adapted.config.num_channels
    padded = np.zeros(shape)
    padded[:, :, :num_channels] = of_snippet.reshape(*shape[:2], num_channels)
    arrays = {"representation.weight": of_representation, "representation.bias": bias}
    arrays["snippet.weight"] = padded.reshape(len(bias), -1)
    adapted.adapter.load_state_dict({name: torch.from_numpy(each) for name, each in arrays.items()})
    return adapted.eval()


def _within(points, groups):
    """Points (num_points, num_features) less the mean of their group."""
    result = np.empty_like(points)
    for group in np.unique(groups):
        rows = groups == group
        result[rows] = points[rows] - points[rows].mean(0)
    return result


def _leading_axes(points, count):
    """Principal axes (num_features, <= count) of centred points, largest first, each with its largest entry above 0."""
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # the order of sums, and with it the last digits, depends on the threads
        covariance = points.T @ points
        first = max(0, len(covariance) - count)
        axes = eigh(covariance, subset_by_index=(first, len(covariance) - 1))[1][:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return axes * signs
