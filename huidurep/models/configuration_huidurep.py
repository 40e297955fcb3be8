"""HuiduRepConfig: the architecture of an encoder and the contract its input must meet."""

from pathlib import Path

from transformers import PreTrainedConfig

CHANNEL_ORDERS = ("position", "nearest_first", "center")
SPIKE_POLARITIES = ("negative", "any")
SCALINGS = ("log", "linear")
CHANNEL_MIXINGS = ("index", "position")
# Settings that transformers itself writes into configurations (its Trainer sets use_cache, for one; version 5.0 both
# implementations).
TRANSFORMERS_SETTINGS = {
    "torch_dtype",
    "auto_map",
    "use_cache",
    "gradient_checkpointing",
    "attn_implementation",
    "experts_implementation",
}


class HuiduRepConfig(PreTrainedConfig):
    r"""Architecture and input contract of a HuiduRep encoder (arXiv 2507.17224).

    The defaults are the fast patch-token encoder, for tetrodes; :meth:`paper` gives the published architecture.

    Parameters
    ----------
    sampling_frequency : float, default 30000.0
        Rate (Hz) of the snippets the encoder sees.
    num_samples : int, default 90
        Samples in a snippet.
    peak_index : int, default 30
        Sample at which the trough of the spike stands.
    num_channels : int, default 4
        Channels in a snippet; with ``channel_mixing="position"`` the most that `embed` hands over, for the weights take
        any number.
    channel_mixing : {"index", "position"}, default "position"
        What tells channels apart: their index, by weights of their own as in the paper, or their place on the probe, by
        weights generated from it, so that one encoder serves every probe.
    spatial_size : int, default 32
        Virtual channels onto which channels are mixed by position.
    channel_order : {"position", "nearest_first", "center"}, default "position"
        How the channels kept are ordered: by place on the probe (y, then x; by index where no places are known), by
        distance from the spike's peak channel, or, as in the research code, in the given order around the middle one.
    spike_polarity : {"negative", "any"}, default "negative"
        Whether spikes must point down; arrays whose spikes point up are then turned over before they are embedded.
    scaling : {"log", "linear"}, default "linear"
        ``sign(x) log(1 + |x| / scale_uv)`` or ``x / scale_uv``, applied to microvolts inside the model.
    scale_uv : float, default 4.0
        Unit of the scaling (uV). Small enough for spikes to outweigh the tokens' position codes.
    embedding_size : int, default 48
        Size of the representation.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        Transformer encoder.
    hidden_act : {"gelu", "relu"}, default "gelu"
        Activation of convolutions and feed-forward layers.
    norm_first : bool, default True
        Pre-norm layers (with a final norm) or post-norm layers.
    conv_kernel_sizes, conv_strides : list of int
        The convolutions that turn samples into tokens; the product of the strides is the patch size in samples.
    conv_final_activation : bool, default False
        Whether the last convolution's output, too, goes through the activation, as in the paper's encoder.
    decoder_num_hidden_layers : int, default 1
        Layers of the denoising decoder, which reconstructs the clean snippet from the encoder's tokens.
    feature_decoder_num_hidden_layers : int, default 0
        Layers of the research code's second, never trained decoder. Only converted checkpoints have it.
    hidden_dropout_prob : float, default 0.0
        Dropout of the transformer layers while training.
    projection_hidden_size, projection_size : int
        Projection and prediction heads of the contrastive loss (pretraining only); a hidden size of 0 leaves them out,
        so that the representation itself is contrasted.
    prototype_weight, contrastive_weight, reconstruction_weight : float
        Weights of the pretraining's losses: telling units by their prototypes (default 1), MoCo v3's contrast of pairs
        (default 0, which leaves momentum branch and heads out of the training; 1 in the paper), reconstruction.
        Checkpoints whose config.json lacks the first two were trained by contrast alone.
    prototype_temperature, contrastive_temperature, momentum : float
        Variance that the prototype loss takes the spikes of a unit to have, InfoNCE temperature, weight of the old
        momentum copy at each update.
    adapter : bool, default False
        Whether embeddings go through the linear adapter that ``HuiduRep.adapt`` fits to one recording.
    initializer_range, layer_norm_eps : float
        As everywhere in transformers.

    Raises
    ------
    ValueError
        If a value is impossible; the message says what was expected.
    TypeError
        If a keyword is unknown.
    """

    model_type = "huidurep"

    def __init__(  # noqa: PLR0913 - a configuration is a list of settings
        self,
        *,
        sampling_frequency=30000.0,
        num_samples=90,
        peak_index=30,
        num_channels=4,
        channel_mixing="position",
        spatial_size=32,
        channel_order="position",
        spike_polarity="negative",
        scaling="linear",
        scale_uv=4.0,
        embedding_size=48,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=128,
        hidden_act="gelu",
        norm_first=True,
        conv_kernel_sizes=(7, 5),
        conv_strides=(3, 3),
        conv_final_activation=False,
        decoder_num_hidden_layers=1,
        feature_decoder_num_hidden_layers=0,
        hidden_dropout_prob=0.0,
        projection_hidden_size=256,
        projection_size=64,
        prototype_weight=1.0,
        contrastive_weight=0.0,
        reconstruction_weight=0.0025,
        prototype_temperature=0.0625,
        contrastive_temperature=0.1,
        momentum=0.99,
        adapter=False,
        initializer_range=0.02,
        layer_norm_eps=1e-5,
        **kwargs,
    ):
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
    def paper(cls, **kwargs):
        """Published architecture and objective: one token a sample, 121 samples x 11 channels, 16 post-norm layers.

        Parameters
        ----------
        **kwargs
            Settings that replace those of the paper.

        Returns
        -------
        HuiduRepConfig
        """
        settings = dict(
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
        return cls(**{**settings, **kwargs})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Read the configuration of a local folder, an embedded checkpoint or a Hub repository: the first that exists.

        Parameters
        ----------
        pretrained_model_name_or_path : str or Path
            As in :meth:`HuiduRep.from_pretrained`.
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
    def patch_size(self):
        """Samples between two tokens."""
        size = 1
        for stride in self.conv_strides:
            size *= stride
        return size

    def _check(self):
        for name in (
            "num_samples",
            "num_channels",
            "embedding_size",
            "hidden_size",
            "num_attention_heads",
            "spatial_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, found {value!r}: set it to at least 1.")
        if not 0 <= self.peak_index < self.num_samples:
            raise ValueError(
                f"peak_index must lie in the snippet of {self.num_samples} samples, found {self.peak_index}: "
                "count it from the snippet's first sample."
            )
        choices = dict(
            channel_order=CHANNEL_ORDERS,
            channel_mixing=CHANNEL_MIXINGS,
            spike_polarity=SPIKE_POLARITIES,
            scaling=SCALINGS,
            hidden_act=("gelu", "relu"),
        )
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {valid}, found {getattr(self, name)!r}: choose one of them.")
        if self.sampling_frequency <= 0 or self.scale_uv <= 0:
            raise ValueError(
                f"sampling_frequency (Hz) and scale_uv (uV) must be positive, found {self.sampling_frequency} and "
                f"{self.scale_uv}: give both as positive numbers."
            )
        if self.hidden_size % self.num_attention_heads or self.hidden_size % 2:
            raise ValueError(
                f"hidden_size must be even and a multiple of num_attention_heads, found {self.hidden_size} and "
                f"{self.num_attention_heads}: change one of them."
            )
        if len(self.conv_kernel_sizes) != len(self.conv_strides) or not self.conv_strides:
            raise ValueError(
                "conv_kernel_sizes and conv_strides must have one entry a convolution, found "
                f"{self.conv_kernel_sizes} and {self.conv_strides}: give lists of the same length."
            )

    def _check_losses(self):
        weights = (self.prototype_weight, self.contrastive_weight)
        if not all(weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(
                "prototype_weight and contrastive_weight must not be negative, and one of them must be positive, found "
                f"{self.prototype_weight} and {self.contrastive_weight}: without both, nothing tells units apart."
            )
        if not self.prototype_temperature > 0:
            raise ValueError(
                f"prototype_temperature must be positive, found {self.prototype_temperature}: it is a variance."
            )

    def _check_unknown(self, kwargs):
        known = set(dir(PreTrainedConfig)) | set(PreTrainedConfig().to_dict()) | TRANSFORMERS_SETTINGS
        unknown = sorted(k for k in kwargs if k not in known and not k.startswith("_"))
        if unknown:
            ours = ", ".join(sorted(k for k in vars(self) if not k.startswith("_")))
            raise TypeError(
                f"unknown settings {unknown}: expected some of {ours}; correct the spelling or remove them."
            )
