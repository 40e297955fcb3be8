"""Layers of HuiduRep in the order of data flow: snippets to tokens, transformer layers, tokens to an embedding."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_huidurep import HuiduRepConfig
from .modeling_geometry import ChannelMixer, spatial_components

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class HuiduRepEmbeddings(nn.Module):
    """Convolutions over time: snippets (num_spikes, num_samples, num_channels) to tokens."""

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__()
        by_position = config.channel_mixing == "position"
        first = config.spatial_size if by_position else config.num_channels
        sizes = [first] + [config.hidden_size] * len(config.conv_strides)
        layers = sizes[:-1], sizes[1:], config.conv_kernel_sizes, config.conv_strides
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel, stride, padding=(kernel - stride + 1) // 2)
            for a, b, kernel, stride in zip(*layers, strict=True)
        )
        if by_position:
            self.mixer = ChannelMixer(config)
        else:
            # Added to the tokens for each missing channel; starts at zero, because the paper's encoder has no masks.
            self.missing_channel = nn.Parameter(torch.zeros(config.num_channels, config.hidden_size))
        self.activation = ACTIVATIONS[config.hidden_act]
        self.activate_last = config.conv_final_activation

    def forward(self, snippets: Tensor, channel_mask: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Snippets in the model's units and features of their contacts -> tokens (num_spikes, num_tokens, hidden)."""
        window = None
        if features is not None:
            snippets, window = self.mixer(snippets, features, channel_mask)
        hidden = snippets.transpose(1, 2)
        for index, convolution in enumerate(self.convolutions):
            hidden = convolution(hidden if index == 0 else self.activation(hidden))
        tokens = (self.activation(hidden) if self.activate_last else hidden).transpose(1, 2)
        if window is not None:
            return tokens + window
        if channel_mask is not None:
            tokens = tokens + ((1 - channel_mask.to(tokens.dtype)) @ self.missing_channel)[:, None]
        return tokens


class HuiduRepLayer(GradientCheckpointingLayer):
    """Transformer layer, pre- or post-norm."""

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads, self.norm_first = config.num_attention_heads, config.norm_first
        self.dropout = config.hidden_dropout_prob
        self.config = config  # read at each call, so that model.set_attn_implementation() takes effect
        self.qkv, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed_in = nn.Linear(size, config.intermediate_size)
        self.feed_out = nn.Linear(config.intermediate_size, size)
        self.attention_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.feed_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _attend(self, x: Tensor, mask: Tensor | None, output_attentions: bool) -> tuple[Tensor, Tensor | None]:
        shape = (*x.shape[:2], 3, self.num_heads, x.shape[2] // self.num_heads)
        query, key, value = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        dropout, attention = self.dropout if self.training else 0.0, None
        # The fused kernel does not return its attention weights.
        if output_attentions or self.config._attn_implementation == "eager":
            scores = query @ key.transpose(2, 3) / math.sqrt(shape[-1])
            scores = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            attention = scores.softmax(-1)
            mixed = F.dropout(attention, dropout, self.training) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).reshape(x.shape)), attention if output_attentions else None

    def _feed(self, x: Tensor) -> Tensor:
        return self.feed_out(self._drop(self.activation(self.feed_in(x))))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens -> tokens and, if requested, attention; `mask` (num_spikes, 1, 1, num_tokens) of valid tokens."""
        if self.norm_first:
            mixed, attention = self._attend(self.attention_norm(x), mask, output_attentions)
            x = x + self._drop(mixed)
            return x + self._drop(self._feed(self.feed_norm(x))), attention
        mixed, attention = self._attend(x, mask, output_attentions)
        x = self.attention_norm(x + self._drop(mixed))
        return self.feed_norm(x + self._drop(self._feed(x))), attention


class HuiduRepStack(nn.Module):
    """Layers of an encoder or decoder; pre-norm stacks end with a norm."""

    def __init__(self, config: HuiduRepConfig, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(HuiduRepLayer(config) for _ in range(num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_first else nn.Identity()

    def forward(self, x: Tensor, valid: Tensor | None = None, record: dict[str, list] | None = None) -> Tensor:
        """Tokens -> tokens; `valid` is a mask (num_spikes, num_tokens), `record` as in :func:`encode`."""
        mask = None if valid is None else valid[:, None, None, :]
        record = record or {}
        states, attentions = record.get("hidden_states"), record.get("attentions")
        for layer in self.layers:
            if states is not None:
                states.append(x)
            x, attention = layer(x, mask, attentions is not None)
            if attentions is not None:
                attentions.append(attention)
        x = self.norm(x)
        if states is not None:
            states.append(x)
        return x


class LinearAxes(nn.Module):
    """Leading axes of the embedding: fixed principal components of the waveform, whose distances are its own.

    The weights are those of :func:`huidurep.training.linear_axes.fit_linear_axes` and are not trained further.
    """

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__()
        self.num_samples, self.num_channels = config.num_samples, config.num_channels
        self.unit = config.scale_uv / config.linear_scale_uv
        self.projection = nn.Linear(config.num_samples * config.num_channels, config.linear_size, bias=False)
        self.projection.requires_grad_(False)

    def forward(self, snippets: Tensor, positions: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """Snippets in the model's units, contacts as in :func:`spatial_components` -> (num_spikes, linear_size)."""
        if snippets.shape[1] != self.num_samples or snippets.shape[2] > self.num_channels:
            raise ValueError(
                f"expected snippets of {self.num_samples} samples and at most {self.num_channels} channels, found "
                f"{tuple(snippets.shape[1:])}: use model.embed(), which maps any window."
            )
        return self.projection(self.unit * self.inputs(snippets, positions, channel_mask))

    def inputs(self, snippets: Tensor, positions: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """What is projected, (num_spikes, num_samples * num_channels): spatial components, 0 where there are fewer."""
        components = spatial_components(snippets, positions, channel_mask)
        return F.pad(components, (0, self.num_channels - snippets.shape[2])).flatten(1)


def encode(
    encoder: nn.Module,
    reduction: nn.Module,
    tokens: Tensor,
    valid: Tensor | None = None,
    record: dict[str, list] | None = None,
) -> tuple[Tensor, Tensor]:
    """Run tokens through an encoder, average them and reduce the mean to the embedding.

    Parameters
    ----------
    encoder, reduction : nn.Module
    tokens : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
    valid : torch.BoolTensor (num_spikes, num_tokens), optional
        From :func:`valid_tokens`.
    record : dict of str to list, optional
        Lists "hidden_states" and "attentions", or one of them, to which those of each layer are appended.

    Returns
    -------
    hidden : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
    embeddings : torch.FloatTensor (num_spikes, embedding_size)
    """
    hidden = encoder(tokens + sinusoidal_positions(tokens), valid, record)
    return hidden, reduction(_mean_of_valid(hidden, valid))


def valid_tokens(sample_mask: Tensor | None, num_tokens: int, patch_size: int) -> Tensor | None:
    """Mask of the tokens with at least one existing sample.

    Parameters
    ----------
    sample_mask : torch.Tensor (num_spikes, num_samples) or None
    num_tokens, patch_size : int

    Returns
    -------
    torch.BoolTensor (num_spikes, num_tokens), or None if no sample is masked
    """
    if sample_mask is None:
        return None
    patches = sample_mask.float()[:, None]
    patches = F.pad(patches, (0, max(0, num_tokens * patch_size - patches.shape[2])))
    return F.max_pool1d(patches, patch_size)[:, 0, :num_tokens] > 0


def _mean_of_valid(hidden: Tensor, valid: Tensor | None) -> Tensor:
    """Mean (num_spikes, hidden_size) over the valid tokens of (num_spikes, num_tokens, hidden_size)."""
    if valid is None:
        return hidden.mean(1)
    weight = valid.to(hidden.dtype)[:, :, None]
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def sinusoidal_positions(tokens: Tensor) -> Tensor:
    """Position codes of Vaswani et al. 2017.

    Computed at each call: transformers 5 can leave a non-persistent buffer uninitialised (transformers#48892).

    Parameters
    ----------
    tokens : torch.Tensor (num_spikes, num_tokens, hidden_size)

    Returns
    -------
    torch.Tensor (num_tokens, hidden_size)
    """
    length, size = tokens.shape[1:]
    position = torch.arange(length, device=tokens.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, size, 2, device=tokens.device, dtype=torch.float32) * (-math.log(10000.0) / size))
    angle = position * rate
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(length, size).to(tokens.dtype)
