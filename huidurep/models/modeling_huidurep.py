"""HuiduRep: the spike encoder with its denoising decoder."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_huidurep import HuiduRepConfig
from .input_contract import nominal_positions
from .modeling_geometry import ChannelReadout, position_features
from .modeling_layers import (
    HuiduRepAdapter,
    HuiduRepEmbeddings,
    HuiduRepStack,
    attention_mask,
    encode,
    make_record,
    sinusoidal_positions,
    valid_tokens,
)


@dataclass
class HuiduRepOutput(ModelOutput):
    """Output of :class:`huidurep.HuiduRep`.

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
    hidden_states : tuple of torch.FloatTensor (num_spikes, num_tokens, hidden_size), optional
        The encoder's tokens with their position codes, then what each of its layers makes of them; the last one is
        `last_hidden_state`.
    attentions : tuple of torch.FloatTensor (num_spikes, num_heads, num_tokens, num_tokens), optional
        What each layer of the encoder attends to; rows sum to 1.
    """

    embeddings: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    denoised_tokens: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class HuiduRepPreTrainedModel(PreTrainedModel):
    """What every HuiduRep model shares: configuration class, weight initialisation, strict loading."""

    config_class = HuiduRepConfig
    base_model_prefix = "huidurep"
    main_input_name = "waveforms"
    _input_embed_layer = "embeddings"
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
        elif isinstance(module, HuiduRepEmbeddings) and hasattr(module, "missing_channel"):
            init.zeros_(module.missing_channel)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load an embedded checkpoint, a local folder or a Hub repository, strictly.

        Parameters
        ----------
        pretrained_model_name_or_path : str or Path
            Local folder, then embedded name such as ``"tetrode"``, then Hub repository: the first that exists.
        *args, **kwargs
            As in transformers; ``revision``, ... as in :func:`huidurep.hub.repository.fetch_repository`.

        Returns
        -------
        HuiduRep or HuiduRepForPreTraining, in evaluation mode

        Raises
        ------
        OSError
            If no checkpoint is found there, the Hub does not give it, or its files cannot be read.
        ValueError
            If weights are missing or unexpected, or the fingerprint stored with the checkpoint is not reproduced.
        """
        if pretrained_model_name_or_path is None:  # transformers takes weights from memory, too: state_dict=...
            return super().from_pretrained(None, *args, **kwargs)
        from .loading import load_model

        return load_model(super().from_pretrained, cls, pretrained_model_name_or_path, *args, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Write config.json, model.safetensors and the fingerprint of the weights into a folder.

        Card and sorting parameters of the checkpoint it was loaded from come along while the weights are those; the
        model's code does if it came with that checkpoint.

        Parameters
        ----------
        save_directory : str or Path
        *args, **kwargs
            As in ``transformers.PreTrainedModel.save_pretrained``.
        """
        from .fingerprint import write_fingerprint
        from .loading import no_progress_bars
        from .publishing import copy_companions
        from .remote_code import copy_code

        # Before the weights: `push_to_hub=True` uploads the folder from inside the call below.
        write_fingerprint(self, save_directory)
        copy_companions(self, save_directory)
        if getattr(self.config, "auto_map", None):
            copy_code(save_directory, type(self).__name__)
        with no_progress_bars():
            super().save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(self, repo_id, **options):
        """Publish all that :meth:`save_pretrained` writes, the card too; :func:`huidurep.models.publishing.push_model`.

        Parameters
        ----------
        repo_id : str
        **options
            ``license``, ``private``, ``token``, ``commit_message``, ...
        """
        from .publishing import push_model

        return push_model(self, repo_id, **options)


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
        self.by_position = config.channel_mixing == "position"
        self.patch_channels = config.spatial_size if self.by_position else config.num_channels
        self.decoder_projection = nn.Linear(config.hidden_size, config.patch_size * self.patch_channels)
        if self.by_position:
            self.readout = ChannelReadout(config)
        if config.feature_decoder_num_hidden_layers:
            self.feature_decoder = HuiduRepStack(config, config.feature_decoder_num_hidden_layers)
        if config.adapter:
            self.adapter = HuiduRepAdapter(config)
        self.post_init()

    def scale(self, waveforms):
        """Bring microvolts to the model's units (``config.scaling``).

        Parameters
        ----------
        waveforms : torch.Tensor
            uV, any shape.

        Returns
        -------
        torch.Tensor like `waveforms`
        """
        scaled = waveforms / self.config.scale_uv
        return scaled.sign() * scaled.abs().log1p() if self.config.scaling == "log" else scaled

    def unscale(self, scaled):
        """Bring the model's units back to microvolts.

        Parameters
        ----------
        scaled : torch.Tensor
            As :meth:`scale` returns, any shape.

        Returns
        -------
        torch.Tensor like `scaled`
        """
        scaled = scaled.sign() * scaled.abs().expm1() if self.config.scaling == "log" else scaled
        return scaled * self.config.scale_uv

    def prepare(self, waveforms, channel_mask=None, sample_mask=None):
        """Channels of snippets in the model's units, 0 where the masks say that nothing exists.

        Where channels are told apart by index and there are more than the config's, the middle ones.

        Parameters
        ----------
        waveforms : torch.Tensor (num_spikes, num_samples, num_channels)
            uV.
        channel_mask, sample_mask : torch.Tensor, optional
            As in :meth:`forward`.

        Returns
        -------
        torch.FloatTensor (num_spikes, num_samples, num_channels)
        """
        snippets = self.scale(self._center_channels(waveforms).to(self.reduction.weight.dtype))
        if channel_mask is not None:
            snippets = snippets.masked_fill(channel_mask[:, None, :] == 0, 0.0)
        return snippets if sample_mask is None else snippets.masked_fill(sample_mask[:, :, None] == 0, 0.0)

    def forward(  # noqa: PLR0913 - what transformers lets users ask of every model is among them
        self,
        waveforms,
        channel_mask=None,
        sample_mask=None,
        output_reconstruction=False,
        output_denoised_tokens=False,
        return_dict=None,
        channel_positions=None,
        output_hidden_states=None,
        output_attentions=None,
    ):
        """Embed snippets that meet the input contract.

        Parameters
        ----------
        waveforms : torch.FloatTensor (num_spikes, num_samples, num_channels)
            Snippets in uV as the config asks; any number of samples. Channels told apart by their position may be any
            number, those told apart by index are cut to the middle ones.
        channel_mask : torch.Tensor (num_spikes, num_channels), optional
            1 where a channel exists, 0 where it is missing.
        sample_mask : torch.Tensor (num_spikes, num_samples), optional
            1 where a sample exists. Tokens without any are neither attended to nor averaged.
        output_reconstruction : bool, default False
            Also return the denoised snippet.
        output_denoised_tokens : bool, default False
            Embed as the research code's "denoise" option did (its feature decoder was never trained; for repeating old
            results only).
        return_dict : bool, optional
            Return a :class:`HuiduRepOutput` rather than a tuple. Default: as the configuration says (yes).
        channel_positions : torch.FloatTensor (num_spikes or 1, num_channels, 2), optional
            um; by default nominal ones. Only where channels are told apart by position.
        output_hidden_states, output_attentions : bool, optional
            Also return what stands between the encoder's layers, and its attention. Default: as the configuration says.

        Returns
        -------
        HuiduRepOutput
        """
        snippets = self.prepare(waveforms, channel_mask, sample_mask)
        features = self.describe_positions(snippets, channel_positions, channel_mask)
        tokens = self.embeddings(snippets, channel_mask, features)
        valid = valid_tokens(sample_mask, tokens.shape[1], self.config.patch_size)
        record = make_record(self.config, hidden_states=output_hidden_states, attentions=output_attentions)
        hidden, embeddings = encode(self.encoder, self.reduction, tokens, valid, record)
        denoised = reconstruction = None
        if output_denoised_tokens:
            denoised = self.denoised_tokens(hidden, valid)
            twice = None if valid is None else torch.cat([valid, valid], 1)
            _, embeddings = encode(self.encoder, self.reduction, torch.cat([tokens, denoised], 1), twice)
        if self.config.adapter:
            embeddings = self.adapter(embeddings, snippets)
        if output_reconstruction:
            reconstruction = self.unscale(self.decode(hidden, snippets.shape[1], valid, features))
        record = {name: tuple(tensors) for name, tensors in record.items()}
        output = HuiduRepOutput(embeddings, hidden, reconstruction, denoised, **record)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def describe_positions(self, snippets, channel_positions=None, channel_mask=None):
        """Features of the contacts, from which the weights of their channels come.

        Parameters
        ----------
        snippets : torch.Tensor (num_spikes, num_samples, num_channels)
        channel_positions, channel_mask : torch.Tensor, optional
            As in :meth:`forward`.

        Returns
        -------
        torch.FloatTensor (num_spikes or 1, num_channels, num_features), or None if channels are told apart by index
        """
        if not self.by_position:
            return None
        if channel_positions is None:
            channel_positions = torch.tensor(nominal_positions(snippets.shape[2]))[None]
        # Distances in um lose too much in half precision.
        features = position_features(channel_positions.to(snippets.device, torch.float32), channel_mask)
        return features.to(snippets.dtype)

    def decode(self, hidden, num_samples, valid=None, features=None):
        """Reconstruct snippets in the model's units from encoder tokens.

        Parameters
        ----------
        hidden : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
        num_samples : int
            Samples wanted.
        valid : torch.BoolTensor (num_spikes, num_tokens), optional
            Tokens that hold samples.
        features : torch.FloatTensor, optional
            From :meth:`describe_positions`.

        Returns
        -------
        torch.FloatTensor (num_spikes, num_samples, num_channels)
        """
        patches = self.decoder_projection(self.decoder(hidden, attention_mask(valid)))
        samples = patches.reshape(hidden.shape[0], hidden.shape[1] * self.config.patch_size, self.patch_channels)
        if features is not None:
            samples = self.readout(samples, features)
        missing = num_samples - samples.shape[1]
        return samples[:, :num_samples] if missing <= 0 else F.pad(samples, (0, 0, 0, missing))

    def denoised_tokens(self, hidden, valid=None):
        """Run the research code's feature decoder, kept so that old results can be repeated.

        Parameters
        ----------
        hidden : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
        valid : torch.BoolTensor (num_spikes, num_tokens), optional
            Tokens that hold samples.

        Returns
        -------
        torch.FloatTensor like `hidden`

        Raises
        ------
        ValueError
            If the model has no such decoder.
        """
        if not self.config.feature_decoder_num_hidden_layers:
            raise ValueError(
                "expected a converted research checkpoint with a feature decoder, found a model without: use denoise()."
            )
        return self.feature_decoder(hidden + sinusoidal_positions(hidden), attention_mask(valid))

    def embed(self, waveforms, **options):
        """Embed spikes of any window, rate and channel count; see :func:`huidurep.models.inference.embed`.

        Parameters
        ----------
        waveforms : ndarray (num_spikes, num_samples, num_channels), uV
        **options
            As there: rate, peak index, channel positions, device, ...

        Returns
        -------
        ndarray (num_spikes, embedding_size) float32
        """
        from .inference import embed

        return embed(self, waveforms, **options)

    def denoise(self, waveforms, **options):
        """Denoise spikes of any window, rate and channel count; see :func:`huidurep.models.inference.denoise`.

        Parameters
        ----------
        waveforms : ndarray (num_spikes, num_samples, num_channels), uV
        **options
            As there: rate, peak index, channel positions, device, ...

        Returns
        -------
        ndarray like `waveforms`, float32
        """
        from .inference import denoise

        return denoise(self, waveforms, **options)

    def adapt(self, waveforms, **options):
        """Copy of the model, adapted in seconds to a recording's spikes; see :func:`huidurep.adaptation.adapt.adapt`.

        No labels are needed, and this model stays as it is. What was done is in the copy's ``adaptation``.

        Parameters
        ----------
        waveforms : ndarray (num_spikes, num_samples, num_channels)
            uV.
        **options
            As there: rate, peak index, channel positions, spike times in s, seed.

        Returns
        -------
        HuiduRep
        """
        # Absolute and guarded: a published folder holds the model's code, not the package's training road.
        try:
            import huidurep
        except ModuleNotFoundError as error:
            if error.name != "huidurep":
                raise
            raise ImportError(
                "expected the package huidurep, found the model's code only: install huidurep."
            ) from error
        return huidurep.adapt(self, waveforms, **options)

    def _center_channels(self, waveforms):
        expected, found = self.config.num_channels, waveforms.shape[-1] if waveforms.ndim == 3 else None
        if found and self.by_position:
            return waveforms
        if found is None or found < expected:
            raise ValueError(
                f"expected waveforms (num_spikes, num_samples, {expected}), found shape {tuple(waveforms.shape)}: "
                "use model.embed(), which maps any window and channel count."
            )
        start = (found - expected) // 2
        return waveforms[:, :, start : start + expected]
