"""Channels by their place on the probe: weights generated from positions, so that one encoder serves every probe."""

import torch
import torch.nn.functional as F
from torch import nn

# Spatial scales (um) at which positions are described: from neighbouring contacts to the reach of a spike.
SCALES_UM = (15.0, 30.0, 60.0, 120.0)
NUM_FEATURES = 5 * len(SCALES_UM) + 2


class GeometryWeights(nn.Module):
    """A small network from a contact's place among its neighbours to the weights of its channel.

    Parameters
    ----------
    hidden_size, num_weights : int
        Of the network, and how many weights a contact gets.
    """

    def __init__(self, hidden_size, num_weights):
        super().__init__()
        self.hidden, self.output = nn.Linear(NUM_FEATURES, hidden_size), nn.Linear(hidden_size, num_weights)

    def forward(self, features):
        """Features (..., num_channels, NUM_FEATURES) -> weights (..., num_channels, num_weights)."""
        return self.output(F.gelu(self.hidden(features)))


class ChannelMixer(nn.Module):
    """Mixes any number of channels onto virtual ones, and tells the tokens what the window of contacts looks like.

    Parameters
    ----------
    config : HuiduRepConfig
    """

    def __init__(self, config):
        super().__init__()
        self.spatial_size = config.spatial_size
        self.weights = GeometryWeights(config.hidden_size, config.spatial_size + config.hidden_size)

    def forward(self, snippets, features, channel_mask=None):
        """Mix channels.

        Parameters
        ----------
        snippets : torch.FloatTensor (num_spikes, num_samples, num_channels)
            The model's units, 0 where a channel is missing.
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
    """From virtual channels back to the contacts, wherever they are.

    Parameters
    ----------
    config : HuiduRepConfig
    """

    def __init__(self, config):
        super().__init__()
        self.weights = GeometryWeights(config.hidden_size, config.spatial_size)

    def forward(self, virtual, features):
        """Virtual channels (num_spikes, num_samples, spatial_size) -> (num_spikes, num_samples, num_channels)."""
        return virtual @ self.weights(features).transpose(1, 2) / self.weights.output.out_features**0.5


def position_features(positions, channel_mask=None):
    """Describe every contact by its place in its window, in um.

    Parameters
    ----------
    positions : torch.FloatTensor (num_spikes or 1, num_channels, 2)
        um; whatever stands at missing channels is ignored.
    channel_mask : torch.Tensor (num_spikes, num_channels), optional
        1 where a channel exists.

    Returns
    -------
    torch.FloatTensor (num_spikes or 1, num_channels, NUM_FEATURES)
        Sines and cosines of the offset from the window's centre at several scales (Vaswani et al. 2017), fall-off with
        distance, and the window's number of contacts and extent.
    """
    exists = _exists(positions, channel_mask)
    positions = torch.where(exists > 0, positions, 0.0)  # also where a missing channel's place is NaN
    count = exists.sum(1, keepdim=True).clamp(min=1)
    offset = (positions - (positions * exists).sum(1, keepdim=True) / count) * exists
    distance = offset.square().sum(-1, keepdim=True).sqrt()
    extent = (offset.square().sum((1, 2), keepdim=True) / count).sqrt()
    parts = [torch.log(count / 4).expand_as(distance), torch.log1p(extent / 30).expand_as(distance)]
    for scale in SCALES_UM:
        parts += [torch.sin(offset / scale), torch.cos(offset / scale), torch.exp(-distance / scale)]
    return torch.cat(parts, -1)


def _exists(like, channel_mask):
    """Mask (num_spikes or 1, num_channels, 1) of the channels that exist."""
    if channel_mask is None:
        return torch.ones_like(like[..., :1])
    return channel_mask.to(like.dtype)[..., None]
