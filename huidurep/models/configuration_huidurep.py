"""HuiduRepConfig: the architecture of an encoder and the contract that its input must meet."""

import math
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
SIZES = ("num_samples", "num_channels", "embedding_size", "hidden_size", "num_attention_heads", "spatial_size")
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
    adapter : bool, default False
        Whether the linear adapter that ``HuiduRep.adapt`` fits to one recording is applied to the embeddings.
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
        adapter: bool = False,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        self.sampling_frequency = float(sampling_frequency)
        self.num_samples, self.peak_index, self.num_channels = num_samples, peak_index, num_channels
        self.channel_mixing, self.spatial_size = channel_mixing, spatial_size
        self.channel_order, self.spike_polarity = channel_order, spike_polarity
        self.scaling, self.scale_uv = scaling, float(scale_uv)
        self.embedding_size, self.hidden_size, self.intermediate_size = embedding_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.hidden_act, self.norm_first, self.hidden_dropout_prob = hidden_act, norm_first, hidden_dropout_prob
        self.conv_kernel_sizes, self.conv_strides = list(conv_kernel_sizes), list(conv_strides)
        self.conv_final_activation = conv_final_activation
        self.decoder_num_hidden_layers = decoder_num_hidden_layers
        self.feature_decoder_num_hidden_layers = feature_decoder_num_hidden_layers
        self.projection_hidden_size, self.projection_size = projection_hidden_size, projection_size
        self.prototype_weight, self.contrastive_weight = prototype_weight, contrastive_weight
        self.reconstruction_weight, self.momentum = reconstruction_weight, momentum
        self.prototype_temperature, self.contrastive_temperature = prototype_temperature, contrastive_temperature
        self.adapter, self.initializer_range, self.layer_norm_eps = adapter, initializer_range, layer_norm_eps
        self._check()
        self._check_losses()
        self._check_unknown(kwargs)
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

    def _check(self) -> None:
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, found {value!r}: set it to at least 1.")
        for name, choice in dict(CHOICES, hidden_act=Activation).items():
            valid, value = get_args(choice), getattr(self, name)
            if value not in valid:
                raise ValueError(f"{name} must be one of {valid}, found {value!r}: choose one of them.")
        if not 0 <= self.peak_index < self.num_samples:
            raise ValueError(
                f"peak_index must lie in the snippet of {self.num_samples} samples, found {self.peak_index}: "
                "count it from the snippet's first sample."
            )
        for name in ("sampling_frequency", "scale_uv", "prototype_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}: set it above 0.")
        if self.hidden_size % self.num_attention_heads or self.hidden_size % 2:
            raise ValueError(
                f"hidden_size must be even and a multiple of num_attention_heads, found {self.hidden_size} and "
                f"{self.num_attention_heads}: change one of them."
            )
        if len(self.conv_kernel_sizes) != len(self.conv_strides) or not self.conv_strides:
            raise ValueError(
                f"conv_kernel_sizes and conv_strides must have the same length, found {self.conv_kernel_sizes} and "
                f"{self.conv_strides}: give one entry a convolution."
            )

    def _check_losses(self) -> None:
        weights = (self.prototype_weight, self.contrastive_weight)
        if not all(weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(
                "prototype_weight and contrastive_weight must not be negative, and one of them must be positive, found "
                f"{self.prototype_weight} and {self.contrastive_weight}: without both, no loss separates units."
            )

    def _check_unknown(self, kwargs: dict[str, Any]) -> None:
        known = set(dir(PreTrainedConfig)) | set(PreTrainedConfig().to_dict()) | TRANSFORMERS_FIELDS
        unknown = sorted(name for name in kwargs if name not in known and not name.startswith("_"))
        if unknown:
            ours = ", ".join(sorted(name for name in vars(self) if not name.startswith("_")))
            raise TypeError(f"unknown fields {unknown}: expected some of {ours}; correct the spelling or remove them.")
