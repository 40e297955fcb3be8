"""HuiduRepConfig: the architecture of an encoder and the contract that its input must meet."""

import math
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import PreTrainedConfig

ChannelMixing = Literal["index", "position"]
ChannelOrder = Literal["position", "nearest_first", "center"]
SpikePolarity = Literal["negative", "any"]
Scaling = Literal["log", "linear"]
Activation = Literal["gelu", "relu"]
CHOICES = dict(channel_mixing=ChannelMixing, channel_order=ChannelOrder, spike_polarity=SpikePolarity, scaling=Scaling)
# Bounds of whole numbers: a configuration is read from files of others, and a small file must not ask for gigabytes.
SIZES = {
    "num_samples": (1, 2000),
    "num_channels": (1, 4096),
    "embedding_size": (1, 4096),
    "linear_size": (0, 4096),
    "hidden_size": (2, 4096),
    "num_attention_heads": (1, 64),
    "intermediate_size": (1, 65536),
    "spatial_size": (1, 4096),
    "num_hidden_layers": (0, 128),
    "decoder_num_hidden_layers": (0, 128),
    "feature_decoder_num_hidden_layers": (0, 128),
    "projection_hidden_size": (0, 65536),
    "projection_size": (1, 65536),
}
MAX_CONVOLUTIONS, MAX_KERNEL = 16, 1000
MAX_WEIGHTS = 250_000_000  # a gigabyte in single precision
# Lowest value, whether it is allowed itself, and highest value.
NUMBERS = {
    "sampling_frequency": (0.0, False, 1e7),
    "scale_uv": (0.0, False, 1e9),
    "linear_scale_uv": (0.0, False, 1e9),
    "hidden_dropout_prob": (0.0, True, 1.0),
    "prototype_weight": (0.0, True, 1e9),
    "contrastive_weight": (0.0, True, 1e9),
    "reconstruction_weight": (0.0, True, 1e9),
    "prototype_temperature": (0.0, False, 1e9),
    "contrastive_temperature": (0.0, False, 1e9),
    "momentum": (0.0, True, 1.0),
    "initializer_range": (0.0, True, 1e9),
    "layer_norm_eps": (0.0, True, 1.0),
}
SWITCHES = ("norm_first", "conv_final_activation")
# Fields that transformers itself writes into configurations (use_cache by its Trainer, the last two by version 5.0).
TRANSFORMERS_FIELDS = {"torch_dtype", "auto_map", "use_cache", "gradient_checkpointing"}
TRANSFORMERS_FIELDS |= {"attn_implementation", "experts_implementation"}


class HuiduRepConfig(PreTrainedConfig):
    r"""Architecture and input contract of a HuiduRep encoder (arXiv 2507.17224).

    The defaults are the fast patch-token encoder, for tetrodes; :meth:`paper` gives the published architecture.

    Parameters
    ----------
    sampling_frequency : float, default 30000.0
        Sampling rate (Hz) of the snippets.
    num_samples : int, default 90
        Samples of a snippet.
    peak_index : int, default 30
        Sample of the spike's trough.
    num_channels : int, default 4
        Channels of a snippet; with ``channel_mixing="position"`` the maximum number that `embed` selects, since the
        weights take any number.
    channel_mixing : {"index", "position"}, default "position"
        Whether the weights of a channel belong to its index, as in the paper, or are generated from its position on the
        probe, so that one encoder serves every probe.
    spatial_size : int, default 32
        Number of virtual channels into which channels are mixed by position.
    channel_order : {"position", "nearest_first", "center"}, default "position"
        Order of the selected channels: by position on the probe (y, then x; by index if no positions are known), by
        distance from the spike's peak channel, or, as in the research code, the middle ones of the given order.
    spike_polarity : {"negative", "any"}, default "negative"
        Whether spikes must be negative; a recording with positive spikes is then inverted before it is embedded.
    scaling : {"log", "linear"}, default "linear"
        ``sign(x) log(1 + |x| / scale_uv)`` or ``x / scale_uv``, applied to microvolts inside the model.
    scale_uv : float, default 4.0
        Unit of the scaling (uV), small enough for spikes to exceed the position codes of the tokens.
    embedding_size : int, default 48
        Size of the embedding.
    linear_size : int, default 0
        How many of its axes, the first ones, are fixed principal components of the waveform, beside which the
        transformer's output stands; needs ``channel_mixing="position"`` and ``scaling="linear"``.
    linear_scale_uv : float, default 25.0
        Length (uV) of a waveform that is 1 along these axes.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        Transformer encoder.
    hidden_act : {"gelu", "relu"}, default "gelu"
        Activation of convolutions and feed-forward layers.
    norm_first : bool, default True
        Pre-norm layers (with a final norm) or post-norm layers.
    conv_kernel_sizes, conv_strides : list of int
        Convolutions that turn samples into tokens; the product of the strides is the patch size in samples.
    conv_final_activation : bool, default False
        Whether the last convolution is followed by the activation, as in the paper.
    decoder_num_hidden_layers : int, default 1
        Layers of the denoising decoder, which reconstructs the clean snippet from the encoder's tokens.
    feature_decoder_num_hidden_layers : int, default 0
        Layers of the research code's second decoder, which was never trained. Only converted checkpoints have it.
    hidden_dropout_prob : float, default 0.0
        Dropout of the transformer layers in training.
    projection_hidden_size, projection_size : int
        Projection and prediction heads of the contrastive loss (pretraining only); with a hidden size of 0 there are
        none and the loss contrasts the embeddings.
    prototype_weight, contrastive_weight, reconstruction_weight : float
        Weights of the pretraining losses: prototype loss (default 1), MoCo v3's contrastive loss (default 0, 1 in the
        paper; with 0, momentum branch and heads are not trained) and reconstruction loss. Checkpoints whose config.json
        lacks the first two were trained with the contrastive loss alone.
    prototype_temperature, contrastive_temperature, momentum : float
        Variance of a unit's spikes that the prototype loss assumes, InfoNCE temperature, share of the old weights at
        each update of the momentum branch.
    initializer_range, layer_norm_eps : float
        As in other configurations of transformers.

    Raises
    ------
    ValueError
        If a value is impossible.
    TypeError
        If a keyword is unknown.
    """

    model_type = "huidurep"

    def __init__(  # noqa: PLR0913
        self,
        *,
        sampling_frequency: float = 30000.0,
        num_samples: int = 90,
        peak_index: int = 30,
        num_channels: int = 4,
        channel_mixing: ChannelMixing = "position",
        spatial_size: int = 32,
        channel_order: ChannelOrder = "position",
        spike_polarity: SpikePolarity = "negative",
        scaling: Scaling = "linear",
        scale_uv: float = 4.0,
        embedding_size: int = 48,
        linear_size: int = 0,
        linear_scale_uv: float = 25.0,
        hidden_size: int = 64,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 2,
        intermediate_size: int = 128,
        hidden_act: Activation = "gelu",
        norm_first: bool = True,
        conv_kernel_sizes: Sequence[int] = (7, 5),
        conv_strides: Sequence[int] = (3, 3),
        conv_final_activation: bool = False,
        decoder_num_hidden_layers: int = 1,
        feature_decoder_num_hidden_layers: int = 0,
        hidden_dropout_prob: float = 0.0,
        projection_hidden_size: int = 256,
        projection_size: int = 64,
        prototype_weight: float = 1.0,
        contrastive_weight: float = 0.0,
        reconstruction_weight: float = 0.0025,
        prototype_temperature: float = 0.0625,
        contrastive_temperature: float = 0.1,
        momentum: float = 0.99,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        self.sampling_frequency = sampling_frequency
        self.num_samples, self.peak_index, self.num_channels = num_samples, peak_index, num_channels
        self.channel_mixing, self.spatial_size, self.channel_order = channel_mixing, spatial_size, channel_order
        self.spike_polarity, self.scaling, self.scale_uv = spike_polarity, scaling, scale_uv
        self.embedding_size, self.hidden_size, self.intermediate_size = embedding_size, hidden_size, intermediate_size
        self.linear_size, self.linear_scale_uv = linear_size, linear_scale_uv
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.hidden_act, self.norm_first, self.hidden_dropout_prob = hidden_act, norm_first, hidden_dropout_prob
        self.conv_kernel_sizes = _whole_numbers("conv_kernel_sizes", conv_kernel_sizes)
        self.conv_strides = _whole_numbers("conv_strides", conv_strides)
        self.conv_final_activation, self.decoder_num_hidden_layers = conv_final_activation, decoder_num_hidden_layers
        self.feature_decoder_num_hidden_layers = feature_decoder_num_hidden_layers
        self.projection_hidden_size, self.projection_size = projection_hidden_size, projection_size
        self.prototype_weight, self.contrastive_weight = prototype_weight, contrastive_weight
        self.reconstruction_weight, self.momentum = reconstruction_weight, momentum
        self.prototype_temperature, self.contrastive_temperature = prototype_temperature, contrastive_temperature
        self.initializer_range, self.layer_norm_eps = initializer_range, layer_norm_eps
        self._check(kwargs)
        super().__init__(**kwargs)

    @classmethod
    def paper(cls, **kwargs: Any) -> "HuiduRepConfig":
        """Published architecture and losses: 121 samples x 11 channels, one token a sample, 16 post-norm layers.

        Keyword arguments replace the fields of the paper.

        Returns
        -------
        HuiduRepConfig
        """
        fields: dict[str, Any] = dict(
            num_samples=121,
            peak_index=42,
            num_channels=11,
            channel_mixing="index",
            channel_order="center",
            spike_polarity="any",
            scaling="linear",
            scale_uv=1.0,
            embedding_size=32,
            prototype_weight=0.0,
            contrastive_weight=1.0,
            reconstruction_weight=0.15,
            num_hidden_layers=16,
            num_attention_heads=4,
            hidden_act="relu",
            norm_first=False,
            conv_kernel_sizes=(5, 3),
            conv_strides=(1, 1),
            conv_final_activation=True,
            decoder_num_hidden_layers=4,
            hidden_dropout_prob=0.1,
            projection_size=5,
            contrastive_temperature=0.2,
        )
        return cls(**{**fields, **kwargs})

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> "HuiduRepConfig":
        """Read the configuration of a local folder, an embedded checkpoint or a Hub repository, in this order.

        Parameters
        ----------
        pretrained_model_name_or_path : str or Path
        **kwargs
            As in ``transformers.PreTrainedConfig.from_pretrained``.

        Returns
        -------
        HuiduRepConfig
        """
        name = str(pretrained_model_name_or_path)
        embedded = Path(__file__).parents[1] / "checkpoints" / name
        if name and not (Path(name) / "config.json").is_file() and (embedded / "config.json").is_file():
            name = str(embedded)
        return super().from_pretrained(name, **kwargs)

    @property
    def patch_size(self) -> int:
        """Samples between two tokens."""
        return math.prod(self.conv_strides)

    @property
    def num_weights(self) -> int:
        """Number of weights of the encoder, its decoders and its heads, without biases and norms."""
        hidden, wide = self.hidden_size, self.projection_hidden_size
        first = self.spatial_size if self.channel_mixing == "position" else self.num_channels
        layers = self.num_hidden_layers + self.decoder_num_hidden_layers + self.feature_decoder_num_hidden_layers
        inputs = [first] + [hidden] * (len(self.conv_strides) - 1)
        total = sum(size * kernel * hidden for size, kernel in zip(inputs, self.conv_kernel_sizes, strict=True))
        total += layers * (4 * hidden + 2 * self.intermediate_size) * hidden
        total += hidden * (hidden + 2 * first + first * self.patch_size + self.embedding_size)
        total += wide * (self.embedding_size + wide + 3 * self.projection_size)
        return total + self.linear_size * self.num_samples * self.num_channels

    def _check(self, others: dict[str, Any]) -> None:
        _drop_adapter(others)
        self._check_values()
        self._check_shapes()
        self._check_losses()
        self._check_unknown(others)

    def _check_values(self) -> None:
        for name, (low, high) in SIZES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(
                    f"{name} must be a whole number from {low} to {high}, found {reprlib.repr(value)}: change it."
                )
        for name, (lowest, is_allowed, highest) in NUMBERS.items():
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not lowest <= value <= highest or (value == lowest and not is_allowed):
                least = f"at least {lowest:g}" if is_allowed else "positive"
                raise ValueError(
                    f"{name} must be {least} and at most {highest:g}, found {reprlib.repr(value)}: change it."
                )
        self.sampling_frequency, self.scale_uv = float(self.sampling_frequency), float(self.scale_uv)
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, found {reprlib.repr(getattr(self, name))}: change it.")
        for name, choice in dict(CHOICES, hidden_act=Activation).items():
            valid, value = get_args(choice), getattr(self, name)
            if value not in valid:
                raise ValueError(f"{name} must be one of {valid}, found {reprlib.repr(value)}: choose one of them.")

    def _check_shapes(self) -> None:
        if isinstance(self.peak_index, bool) or self.peak_index not in range(self.num_samples):
            raise ValueError(
                f"peak_index must lie in the snippet of {self.num_samples} samples, found "
                f"{reprlib.repr(self.peak_index)}: count it from the snippet's first sample."
            )
        if self.hidden_size % self.num_attention_heads or self.hidden_size % 2:
            raise ValueError(
                f"hidden_size must be even and a multiple of num_attention_heads, found {self.hidden_size} and "
                f"{self.num_attention_heads}: change one of them."
            )
        is_read = self.channel_mixing == "position" and self.scaling == "linear"
        if self.linear_size >= self.embedding_size or (self.linear_size and not is_read):
            raise ValueError(
                'linear_size must be smaller than embedding_size, and needs channel_mixing="position" and '
                f'scaling="linear", found {self.linear_size}, {self.embedding_size}, {self.channel_mixing!r} and '
                f"{self.scaling!r}: lower linear_size, or set it to 0."
            )
        if len(self.conv_kernel_sizes) != len(self.conv_strides) or not self.conv_strides:
            raise ValueError(
                f"conv_kernel_sizes and conv_strides must have the same length, found {self.conv_kernel_sizes} and "
                f"{self.conv_strides}: give one entry a convolution."
            )
        is_gapless = all(s <= k + 1 for k, s in zip(self.conv_kernel_sizes, self.conv_strides, strict=True))
        if self.patch_size > self.num_samples or not is_gapless:
            raise ValueError(
                "conv_strides must not exceed conv_kernel_sizes by more than 1, and their product not num_samples, "
                f"found {self.conv_strides}, {self.conv_kernel_sizes} and {self.num_samples}: lower conv_strides."
            )
        if self.num_weights > MAX_WEIGHTS:
            raise ValueError(
                f"hidden_size, num_hidden_layers and the other sizes must give at most {MAX_WEIGHTS} weights, found "
                f"{self.num_weights}: lower them."
            )

    def _check_losses(self) -> None:
        weights = (self.prototype_weight, self.contrastive_weight)
        if not any(weights):
            raise ValueError(
                f"prototype_weight or contrastive_weight must be positive, found {weights[0]} and {weights[1]}: "
                "without both, no loss separates units."
            )

    def _check_unknown(self, kwargs: dict[str, Any]) -> None:
        known = set(dir(PreTrainedConfig)) | set(PreTrainedConfig().to_dict()) | TRANSFORMERS_FIELDS
        unknown = sorted(name for name in kwargs if name not in known and not name.startswith("_"))
        if unknown:
            ours = ", ".join(sorted(name for name in vars(self) if not name.startswith("_")))
            raise TypeError(f"unknown fields {unknown}: expected some of {ours}; correct the spelling or remove them.")
        for name in ("attn_implementation", "experts_implementation"):
            # transformers takes the name of a repository for code to download and run.
            if "/" in str(kwargs.get(name)):
                raise ValueError(
                    f"{name} must be one of transformers' own, found {reprlib.repr(kwargs[name])}: remove it."
                )


def _drop_adapter(kwargs: dict[str, Any]) -> None:
    """Remove the field of earlier versions, whose models could have an adapter to one recording."""
    if kwargs.pop("adapter", False) is not False:
        raise ValueError(
            "expected adapter=false, found a model that an earlier version adapted to one recording: use the "
            "checkpoint that it was adapted from."
        )


def _whole_numbers(name: str, values: Any) -> list[int]:
    """A short list of positive whole numbers, or ValueError."""
    is_list = isinstance(values, list | tuple) and len(values) <= MAX_CONVOLUTIONS
    if not is_list or not all(type(each) is int and 1 <= each <= MAX_KERNEL for each in values):
        raise ValueError(
            f"{name} must be at most {MAX_CONVOLUTIONS} whole numbers from 1 to {MAX_KERNEL}, found "
            f"{reprlib.repr(values)}: change it."
        )
    return list(values)
