"""Channel weights generated from contact positions, so that one encoder serves every probe."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_huidurep import HuiduRepConfig

# Spatial scales at which positions are described: from the distance of neighbouring contacts to the extent of a spike.
SCALES_UM = (15.0, 30.0, 60.0, 120.0)
NUM_FEATURES = 5 * len(SCALES_UM) + 2


class GeometryWeights(nn.Module):
    """Small network that turns the position features of a contact into `num_weights` weights of its channel."""

    def __init__(self, hidden_size: int, num_weights: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(NUM_FEATURES, hidden_size), nn.Linear(hidden_size, num_weights)

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., num_channels, NUM_FEATURES) -> weights (..., num_channels, num_weights)."""
        return self.output(F.gelu(self.hidden(features)))


class ChannelMixer(nn.Module):
    """Mixes any number of channels into virtual channels, and describes the layout of the contacts for the tokens."""

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__()
        self.spatial_size = config.spatial_size
        self.weights = GeometryWeights(config.hidden_size, config.spatial_size + config.hidden_size)

    def forward(self, snippets: Tensor, features: Tensor, channel_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix channels.

        Parameters
        ----------
        snippets : torch.FloatTensor (num_spikes, num_samples, num_channels)
            In the model's units, 0 where a channel is missing.
        features : torch.FloatTensor (num_spikes or 1, num_channels, NUM_FEATURES)
            From :func:`position_features`.
        channel_mask : torch.Tensor (num_spikes, num_channels), optional

        Returns
        -------
        virtual : torch.FloatTensor (num_spikes, num_samples, spatial_size)
        window : torch.FloatTensor (num_spikes or 1, 1, hidden_size)
        """
        weights = self.weights(features)
        exists = _exists(weights, channel_mask)
        count = exists.sum(1, keepdim=True).clamp(min=1)
        weights = weights * exists / count.sqrt()
        mixing, window = weights.split([self.spatial_size, weights.shape[-1] - self.spatial_size], dim=-1)
        return snippets @ mixing, window.sum(1, keepdim=True) / count.sqrt()


class ChannelReadout(nn.Module):
    """Maps virtual channels back to the contacts."""

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__()
        self.weights = GeometryWeights(config.hidden_size, config.spatial_size)

    def forward(self, virtual: Tensor, features: Tensor) -> Tensor:
        """Virtual channels (num_spikes, num_samples, spatial_size) -> (num_spikes, num_samples, num_channels)."""
        return virtual @ self.weights(features).transpose(1, 2) / self.weights.output.out_features**0.5


def position_features(positions: Tensor, channel_mask: Tensor | None = None) -> Tensor:
    """Describe every contact by its position among the contacts of its snippet.

    Parameters
    ----------
    positions : torch.FloatTensor (num_spikes or 1, num_channels, 2)
        um; values of missing channels are ignored.
    channel_mask : torch.Tensor (num_spikes, num_channels), optional
        1 where a channel exists.

    Returns
    -------
    torch.FloatTensor (num_spikes or 1, num_channels, NUM_FEATURES)
        Number and spatial extent of the contacts; then, for each of ``SCALES_UM``, sine and cosine of the offset from
        their centre (as Vaswani et al. 2017 encode positions) and exponential decay with the distance from it.
    """
    exists = _exists(positions, channel_mask)
    positions = torch.where(exists > 0, positions, 0.0)  # a missing channel's position may be NaN
    count = exists.sum(1, keepdim=True).clamp(min=1)
    offset = (positions - (positions * exists).sum(1, keepdim=True) / count) * exists
    distance = offset.square().sum(-1, keepdim=True).sqrt()
    extent = (offset.square().sum((1, 2), keepdim=True) / count).sqrt()
    parts = [torch.log(count / 4).expand_as(distance), torch.log1p(extent / 30).expand_as(distance)]
    for scale in SCALES_UM:
        parts += [torch.sin(offset / scale), torch.cos(offset / scale), torch.exp(-distance / scale)]
    return torch.cat(parts, -1)


def spatial_components(snippets: Tensor, positions: Tensor, channel_mask: Tensor | None = None) -> Tensor:
    """Cosine transform (DCT-II, orthonormal) across the contacts of each snippet, in their order along the probe.

    It keeps distances. The first component is the mean of the contacts, times the root of their number: a single
    contact is its own first component, and snippets of one, two or more contacts have common axes.

    Parameters
    ----------
    snippets : torch.FloatTensor (num_spikes, num_samples, num_channels)
        0 where a channel is missing.
    positions : torch.FloatTensor (num_spikes or 1, num_channels, 2)
        um; contacts are ordered by y, then x. Values of missing channels are ignored.
    channel_mask : torch.Tensor (num_spikes, num_channels), optional
        1 where a channel exists.

    Returns
    -------
    torch.FloatTensor (num_spikes, num_samples, num_channels)
    """
    if snippets.shape[2] == 1:
        return snippets
    exists = _exists(positions, channel_mask)[..., 0] > 0
    # by y; x, a thousandth as much, decides only within a row
    along = torch.where(exists, positions[..., 1] + 1e-3 * positions[..., 0], torch.inf)
    number = torch.arange(snippets.shape[2], device=snippets.device)
    # ranks by comparisons, because ONNX has no stable sort
    earlier, later = along[:, None], along[:, :, None]
    rank = ((earlier < later) | ((earlier == later) & (number[None] < number[:, None]))).sum(2)[:, :, None]
    count = exists.sum(1)[:, None, None].clamp(min=1)
    basis = torch.cos(math.pi / count * (rank + 0.5) * number) * (2 / count).sqrt()
    basis = torch.where(number > 0, basis, basis * 0.5**0.5) * ((rank < count) & (number < count))
    return snippets @ basis.to(snippets.dtype)


def _exists(like: Tensor, channel_mask: Tensor | None) -> Tensor:
    """Mask (num_spikes or 1, num_channels, 1) of the channels that exist."""
    if channel_mask is None:
        return torch.ones_like(like[..., :1])
    return channel_mask.to(like.dtype)[..., None]
