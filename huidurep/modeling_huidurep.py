"""HuiduRep: the spike encoder with its denoising decoder."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from .configuration_huidurep import HuiduRepConfig

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


@dataclass
class HuiduRepOutput(ModelOutput):
    """Output of :class:`HuiduRep`.

    Parameters
    ----------
    embeddings : torch.FloatTensor (num_spikes, embedding_size)
        The representation to cluster.
    last_hidden_state : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
        Tokens of the last encoder layer.
    reconstruction : torch.FloatTensor (num_spikes, num_samples, num_channels), optional
        Denoised snippet in uV, by the decoder that was trained.
    denoised_tokens : torch.FloatTensor (num_spikes, num_tokens, hidden_size), optional
        Output of the research code's feature decoder (converted checkpoints only).
    """

    embeddings: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    denoised_tokens: torch.FloatTensor | None = None


class HuiduRepEmbeddings(nn.Module):
    """Convolutions over time: snippets (num_spikes, num_samples, num_channels) to tokens."""

    def __init__(self, config):
        super().__init__()
        sizes = [config.num_channels] + [config.hidden_size] * len(config.conv_strides)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel, stride, padding=(kernel - stride + 1) // 2)
            for a, b, kernel, stride in zip(sizes[:-1], sizes[1:], config.conv_kernel_sizes, config.conv_strides, strict=True)
        )
        # What a token is told where a channel is missing; the paper's encoder, which has no masks, starts it at zero.
        self.missing_channel = nn.Parameter(torch.zeros(config.num_channels, config.hidden_size))
        self.activation = ACTIVATIONS[config.hidden_act]
        # The paper's post-norm encoder takes activated tokens; a pre-norm one takes the last convolution as it is.
        self.activate_last = not config.norm_first

    def forward(self, snippets, channel_mask=None):
        hidden = snippets.transpose(1, 2)
        for index, convolution in enumerate(self.convolutions):
            hidden = convolution(hidden if index == 0 else self.activation(hidden))
        tokens = (self.activation(hidden) if self.activate_last else hidden).transpose(1, 2)
        if channel_mask is not None:
            tokens = tokens + ((1 - channel_mask.to(tokens.dtype)) @ self.missing_channel)[:, None]
        return tokens


class HuiduRepLayer(GradientCheckpointingLayer):
    """Transformer layer, pre- or post-norm."""

    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.num_heads, self.norm_first = config.num_attention_heads, config.norm_first
        self.dropout = config.hidden_dropout_prob
        self.config = config  # asked at each call, so that model.set_attn_implementation() takes effect
        self.qkv, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed_in, self.feed_out = nn.Linear(size, config.intermediate_size), nn.Linear(config.intermediate_size, size)
        self.attention_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.feed_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]

    def _drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def _attend(self, x, mask):
        shape = (*x.shape[:2], 3, self.num_heads, x.shape[2] // self.num_heads)
        query, key, value = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        if self.config._attn_implementation == "eager":
            scores = query @ key.transpose(2, 3) / math.sqrt(shape[-1])
            scores = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            mixed = F.dropout(scores.softmax(-1), dropout, self.training) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).reshape(x.shape))

    def _feed(self, x):
        return self.feed_out(self._drop(self.activation(self.feed_in(x))))

    def forward(self, x, mask=None):
        if self.norm_first:
            x = x + self._drop(self._attend(self.attention_norm(x), mask))
            return x + self._drop(self._feed(self.feed_norm(x)))
        x = self.attention_norm(x + self._drop(self._attend(x, mask)))
        return self.feed_norm(x + self._drop(self._feed(x)))


class HuiduRepStack(nn.Module):
    """Layers of an encoder or decoder; pre-norm stacks end with a norm."""

    def __init__(self, config, num_layers):
        super().__init__()
        self.layers = nn.ModuleList(HuiduRepLayer(config) for _ in range(num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_first else nn.Identity()

    def forward(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class HuiduRepPreTrainedModel(PreTrainedModel):
    """What every HuiduRep model shares: configuration class, weight initialisation, strict loading."""

    config_class = HuiduRepConfig
    base_model_prefix = "huidurep"
    main_input_name = "waveforms"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["HuiduRepLayer"]

    def _init_weights(self, module):
        # transformers.initialization leaves weights alone that were loaded; plain `.data` writes would not, and
        # would hand back random weights with a clean report (transformers#46620).
        from transformers import initialization as init

        if isinstance(module, nn.Linear | nn.Conv1d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm1d):
                init.zeros_(module.running_mean)
                init.ones_(module.running_var)
                init.zeros_(module.num_batches_tracked)
        elif isinstance(module, HuiduRepEmbeddings):
            init.zeros_(module.missing_channel)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load an embedded checkpoint, a local folder or a Hub repository, strictly.

        Parameters
        ----------
        pretrained_model_name_or_path : str or Path
            Local folder, then embedded name such as ``"tetrode"``, then Hub repository: the first that exists.
        *args, **kwargs
            As in ``transformers.PreTrainedModel.from_pretrained`` (``revision``, ``cache_dir``, ``token``, ...).

        Returns
        -------
        HuiduRep or HuiduRepForPreTraining, in evaluation mode

        Raises
        ------
        OSError
            If no checkpoint is found there, or its files cannot be read.
        ValueError
            If weights are missing or unexpected, or the fingerprint stored with the checkpoint is not reproduced.
        """
        from . import hub

        return hub.load_model(super().from_pretrained, cls, pretrained_model_name_or_path, *args, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Write config.json, model.safetensors and the fingerprint of the weights into a folder.

        Parameters
        ----------
        save_directory : str or Path
        *args, **kwargs
            As in ``transformers.PreTrainedModel.save_pretrained``.
        """
        from . import hub

        # Before the weights: `push_to_hub=True` uploads the folder from inside the call below.
        hub.write_fingerprint(self, save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)


class HuiduRep(HuiduRepPreTrainedModel):
    """Spike encoder with a denoising decoder (arXiv 2507.17224).

    Parameters
    ----------
    config : HuiduRepConfig
    """

    # The folder of a HuiduRepForPreTraining opens as an encoder: its training-only parts are left behind.
    _keys_to_ignore_on_load_unexpected = [r"^(momentum_|projection\.|predictor\.)"]

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = HuiduRepEmbeddings(config)
        self.encoder = HuiduRepStack(config, config.num_hidden_layers)
        self.reduction = nn.Linear(config.hidden_size, config.embedding_size)
        self.decoder = HuiduRepStack(config, config.decoder_num_hidden_layers)
        self.decoder_projection = nn.Linear(config.hidden_size, config.patch_size * config.num_channels)
        if config.feature_decoder_num_hidden_layers:
            self.feature_decoder = HuiduRepStack(config, config.feature_decoder_num_hidden_layers)
        self.post_init()

    def scale(self, waveforms):
        """Microvolts to the model's units, same shape (``config.scaling``)."""
        scaled = waveforms / self.config.scale_uv
        return scaled.sign() * scaled.abs().log1p() if self.config.scaling == "log" else scaled

    def unscale(self, scaled):
        """The model's units to microvolts, same shape."""
        scaled = scaled.sign() * scaled.abs().expm1() if self.config.scaling == "log" else scaled
        return scaled * self.config.scale_uv

    def prepare(self, waveforms, channel_mask=None, sample_mask=None):
        """Middle channels of snippets in the model's units, 0 where the masks say that nothing exists.

        Parameters
        ----------
        waveforms : torch.Tensor (num_spikes, num_samples, num_channels)
            uV.
        channel_mask, sample_mask : torch.Tensor, optional
            As in :meth:`forward`.

        Returns
        -------
        torch.FloatTensor (num_spikes, num_samples, config.num_channels)
        """
        snippets = self.scale(self._center_channels(waveforms).to(self.reduction.weight.dtype))
        if channel_mask is not None:
            snippets = snippets.masked_fill(channel_mask[:, None, :] == 0, 0.0)
        return snippets if sample_mask is None else snippets.masked_fill(sample_mask[:, :, None] == 0, 0.0)

    def forward(
        self,
        waveforms,
        channel_mask=None,
        sample_mask=None,
        output_reconstruction=False,
        output_denoised_tokens=False,
        return_dict=True,
    ):
        """Embed snippets that meet the input contract.

        Parameters
        ----------
        waveforms : torch.FloatTensor (num_spikes, num_samples, num_channels)
            Snippets in uV as the config asks. More channels than the config's are cut to the middle ones. Any number
            of samples is accepted (positions are sinusoidal).
        channel_mask : torch.Tensor (num_spikes, num_channels), optional
            1 where a channel exists, 0 where it is missing.
        sample_mask : torch.Tensor (num_spikes, num_samples), optional
            1 where a sample exists. Tokens without any are neither attended to nor averaged.
        output_reconstruction : bool, default False
            Also return the denoised snippet.
        output_denoised_tokens : bool, default False
            Embed as the research code's "denoise" option did (its feature decoder was never trained; for repeating old
            results only).
        return_dict : bool, default True
            Return a :class:`HuiduRepOutput` rather than a tuple.

        Returns
        -------
        HuiduRepOutput
        """
        snippets = self.prepare(waveforms, channel_mask, sample_mask)
        tokens = self.embeddings(snippets, channel_mask)
        valid = valid_tokens(sample_mask, tokens.shape[1], self.config.patch_size)
        hidden, embeddings = encode(self.encoder, self.reduction, tokens, valid)
        denoised = reconstruction = None
        if output_denoised_tokens:
            denoised = self.denoised_tokens(hidden, valid)
            twice = None if valid is None else torch.cat([valid, valid], 1)
            _, embeddings = encode(self.encoder, self.reduction, torch.cat([tokens, denoised], 1), twice)
        if output_reconstruction:
            reconstruction = self.unscale(self.decode(hidden, snippets.shape[1], valid))
        output = HuiduRepOutput(embeddings, hidden, reconstruction, denoised)
        return output if return_dict else output.to_tuple()

    def decode(self, hidden, num_samples, valid=None):
        """Reconstruct snippets in the model's units from encoder tokens.

        Parameters
        ----------
        hidden : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
        num_samples : int
            Samples wanted.
        valid : torch.BoolTensor (num_spikes, num_tokens), optional
            Tokens that hold samples.

        Returns
        -------
        torch.FloatTensor (num_spikes, num_samples, num_channels)
        """
        patches = self.decoder_projection(self.decoder(hidden, attention_mask(valid)))
        samples = patches.reshape(len(hidden), hidden.shape[1] * self.config.patch_size, self.config.num_channels)
        missing = num_samples - samples.shape[1]
        return samples[:, :num_samples] if missing <= 0 else F.pad(samples, (0, 0, 0, missing))

    def denoised_tokens(self, hidden, valid=None):
        """The research code's feature decoder, kept so that old results can be repeated; same shape as `hidden`."""
        if not self.config.feature_decoder_num_hidden_layers:
            raise ValueError(
                "expected a converted research checkpoint with a feature decoder, found a model without: use "
                "denoise(), which uses the decoder that was trained."
            )
        return self.feature_decoder(hidden + sinusoidal_positions(hidden), attention_mask(valid))

    def embed(self, waveforms, **options):
        """Embed spikes of any window, rate and channel count; see :func:`huidurep.inference.embed`."""
        from . import inference

        return inference.embed(self, waveforms, **options)

    def denoise(self, waveforms, **options):
        """Denoise spikes of any window, rate and channel count; see :func:`huidurep.inference.denoise`."""
        from . import inference

        return inference.denoise(self, waveforms, **options)

    def _center_channels(self, waveforms):
        expected, found = self.config.num_channels, waveforms.shape[-1] if waveforms.ndim == 3 else None
        if found is None or found < expected:
            raise ValueError(
                f"expected waveforms (num_spikes, num_samples, {expected}), found shape {tuple(waveforms.shape)}: "
                "use model.embed(), which maps any window and channel count."
            )
        start = (found - expected) // 2
        return waveforms[:, :, start : start + expected]


def encode(encoder, reduction, tokens, valid=None):
    """Tokens (num_spikes, num_tokens, hidden_size) -> last hidden state, embeddings (num_spikes, embedding_size)."""
    hidden = encoder(tokens + sinusoidal_positions(tokens), attention_mask(valid))
    return hidden, reduction(mean_of_valid(hidden, valid))


def valid_tokens(sample_mask, num_tokens, patch_size):
    """Which tokens (num_spikes, num_tokens) hold at least one sample that exists; None where nothing is masked."""
    if sample_mask is None:
        return None
    patches = sample_mask.float()[:, None]
    patches = F.pad(patches, (0, max(0, num_tokens * patch_size - patches.shape[2])))
    return F.max_pool1d(patches, patch_size)[:, 0, :num_tokens] > 0


def attention_mask(valid):
    """(num_spikes, num_tokens) -> (num_spikes, 1, 1, num_tokens), or None."""
    return None if valid is None else valid[:, None, None, :]


def mean_of_valid(hidden, valid):
    """Mean over tokens (num_spikes, num_tokens, hidden_size), leaving out those that are not valid."""
    if valid is None:
        return hidden.mean(1)
    weight = valid.to(hidden.dtype)[:, :, None]
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def sinusoidal_positions(tokens):
    """Position codes (num_tokens, hidden_size) of Vaswani et al. 2017.

    Computed at each call: as a non-persistent buffer transformers 5 can leave them uninitialised (transformers#48892).
    """
    length, size = tokens.shape[1:]
    position = torch.arange(length, device=tokens.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, size, 2, device=tokens.device, dtype=torch.float32) * (-math.log(10000.0) / size))
    angle = position * rate
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(length, size).to(tokens.dtype)
