"""HuiduRep: the spike encoder with its denoising decoder.

Published checkpoints hold copies of this file and of the modules that it imports relatively, to be used without the
package. What only the package has is therefore imported absolutely and may be missing.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, cached_file

from .configuration_huidurep import HuiduRepConfig
from .fingerprint import check_loaded, fingerprint, fingerprint_name
from .inference import embed
from .input_contract import nominal_positions
from .modeling_geometry import ChannelReadout, position_features
from .modeling_layers import (
    HuiduRepEmbeddings,
    HuiduRepStack,
    LinearAxes,
    encode,
    sinusoidal_positions,
    valid_tokens,
)

try:
    from huidurep.models.denoising import denoise
    from huidurep.models.loading import load_model, no_progress_bars
    from huidurep.models.publishing import copy_companions, push_model, set_aside_companions

    HAS_PACKAGE = True
except ModuleNotFoundError as error:
    if error.name != "huidurep":
        raise
    HAS_PACKAGE = False


@dataclass
class HuiduRepOutput(ModelOutput):
    """Output of :class:`huidurep.HuiduRep`.

    Parameters
    ----------
    embeddings : torch.FloatTensor (num_spikes, embedding_size)
        What is clustered.
    last_hidden_state : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
        Tokens of the last encoder layer.
    reconstruction : torch.FloatTensor (num_spikes, num_samples, num_channels), optional
        Denoised snippet in uV.
    denoised_tokens : torch.FloatTensor (num_spikes, num_tokens, hidden_size), optional
        Output of the research code's feature decoder (converted checkpoints only).
    hidden_states : tuple of torch.FloatTensor (num_spikes, num_tokens, hidden_size), optional
        The tokens with their position codes, then the output of each encoder layer; the last one is
        `last_hidden_state`.
    attentions : tuple of torch.FloatTensor (num_spikes, num_heads, num_tokens, num_tokens), optional
        Attention weights of each encoder layer; rows sum to 1.
    """

    embeddings: Tensor | None = None
    last_hidden_state: Tensor | None = None
    reconstruction: Tensor | None = None
    denoised_tokens: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class HuiduRepPreTrainedModel(PreTrainedModel):
    """Base class of the models: configuration class, weight initialisation, strict loading."""

    config: HuiduRepConfig
    config_class = HuiduRepConfig
    base_model_prefix = "huidurep"
    main_input_name = "waveforms"
    _input_embed_layer = "embeddings"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["HuiduRepLayer"]

    def _init_weights(self, module: nn.Module) -> None:
        # `init` does not touch loaded weights. Writing to `.data` would replace them with random values without any
        # sign in the loading report (transformers#46620).
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            for name, buffer in module.named_buffers(recurse=False):  # the statistics of a BatchNorm
                (init.ones_ if name == "running_var" else init.zeros_)(buffer)
        elif isinstance(module, HuiduRepEmbeddings) and hasattr(module, "missing_channel"):
            init.zeros_(module.missing_channel)

    @classmethod
    def _load(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does."""
        return cast(Any, super()).from_pretrained(*args, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Load a local folder, an embedded checkpoint or a Hub repository strictly.

        Parameters
        ----------
        pretrained_model_name_or_path : str or Path
            Local folder, embedded name such as ``"tetrode"`` or Hub repository; the first that exists, in this order.
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
            If weights are missing or unexpected, or the model does not have the fingerprint that the checkpoint stores.
        """
        name: Any = pretrained_model_name_or_path
        load = cls._load
        if name is None and "state_dict" in kwargs:  # transformers also accepts weights from memory
            return load(None, *args, **kwargs)
        if HAS_PACKAGE:
            return load_model(load, cls, name, *args, **kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = load(name, *args, output_loading_info=True, **kwargs)
        known = ("cache_dir", "revision", "token", "local_files_only", "subfolder")
        options = {key: kwargs[key] for key in known if key in kwargs}
        path = cached_file(
            name, fingerprint_name(kwargs.get("variant")), _raise_exceptions_for_missing_entries=False, **options
        )
        check_loaded(model, info, path, lambda: load(name, *args, **{**kwargs, "dtype": torch.float32}))
        return (model, info) if wants_info else model

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write config.json, model.safetensors and the fingerprint of the weights into a folder.

        The card and the sorting parameters of the checkpoint that the model was loaded from are copied too, as long as
        its weights are unchanged; those of earlier weights in the folder are set aside. Files are as readable as others
        that the user writes. Arguments as in ``transformers.PreTrainedModel.save_pretrained``.
        """
        folder, variant = Path(save_directory), kwargs.get("variant")
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
        if is_main_process:
            # Before the weights, because `push_to_hub=True` uploads the folder inside of the last call.
            folder.mkdir(parents=True, exist_ok=True)
            found = fingerprint(self, state_dict)
            if HAS_PACKAGE:
                set_aside_companions(self, folder, found)
            save_file(found, folder / fingerprint_name(variant))
            if HAS_PACKAGE:
                copy_companions(self, folder, variant)
        options = dict(is_main_process=is_main_process, state_dict=state_dict, **kwargs)
        with no_progress_bars() if HAS_PACKAGE else nullcontext():
            super().save_pretrained(save_directory, **options)
        if is_main_process:
            _share(folder, before)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:  # type: ignore[override]
        """Publish the model with its code and its card.

        Parameters
        ----------
        repo_id : str
            "owner/name"; created if there is none.
        **options
            license and tags (for the card), private (of a new repository), token, revision (a branch),
            commit_message, commit_description, create_pr and max_shard_size.

        Returns
        -------
        huggingface_hub.CommitInfo

        Raises
        ------
        OSError
            The Hub does not accept it; the message says why.
        """
        return (
            push_model(self, repo_id, **options) if HAS_PACKAGE else cast(Any, super()).push_to_hub(repo_id, **options)
        )


class HuiduRep(HuiduRepPreTrainedModel):
    """Spike encoder with a denoising decoder (arXiv 2507.17224).

    Parameters
    ----------
    config : HuiduRepConfig
    """

    # The folder of a HuiduRepForPreTraining opens as an encoder, without the parts that are used only in training.
    _keys_to_ignore_on_load_unexpected = [r"^(momentum_|projection\.|predictor\.)"]

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__(config)
        self.embeddings = HuiduRepEmbeddings(config)
        self.encoder = HuiduRepStack(config, config.num_hidden_layers)
        self.reduction = nn.Linear(config.hidden_size, config.embedding_size - config.linear_size)
        if config.linear_size:
            self.linear_axes = LinearAxes(config)
        self.decoder = HuiduRepStack(config, config.decoder_num_hidden_layers)
        self.by_position = config.channel_mixing == "position"
        self.patch_channels = config.spatial_size if self.by_position else config.num_channels
        self.decoder_projection = nn.Linear(config.hidden_size, config.patch_size * self.patch_channels)
        if self.by_position:
            self.readout = ChannelReadout(config)
        if config.feature_decoder_num_hidden_layers:
            self.feature_decoder = HuiduRepStack(config, config.feature_decoder_num_hidden_layers)
        self.post_init()

    def scale(self, waveforms: Tensor) -> Tensor:
        """Apply ``config.scaling``.

        Parameters
        ----------
        waveforms : torch.Tensor
            uV, any shape.

        Returns
        -------
        torch.Tensor
            In the model's units.
        """
        scaled = waveforms / self.config.scale_uv
        return scaled.sign() * scaled.abs().log1p() if self.config.scaling == "log" else scaled

    def unscale(self, scaled: Tensor) -> Tensor:
        """Inverse of :meth:`scale`.

        Parameters
        ----------
        scaled : torch.Tensor

        Returns
        -------
        torch.Tensor
            uV.
        """
        scaled = scaled.sign() * scaled.abs().expm1() if self.config.scaling == "log" else scaled
        return scaled * self.config.scale_uv

    @property
    def _input_dtype(self) -> torch.dtype:
        # Convolutions keep it where quantize_dynamic replaces linear layers; nn.DataParallel's replicas have no
        # parameters(), by which transformers finds its dtype.
        return cast(Tensor, self.embeddings.convolutions[0].weight).dtype

    def _prepare(
        self, waveforms: Tensor, channel_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """Waveforms (uV) -> snippets in the model's units, 0 where masked; arguments as in :meth:`forward`."""
        snippets = self.scale(self._center_channels(waveforms).to(self._input_dtype))
        if channel_mask is not None:
            snippets = snippets.masked_fill(channel_mask[:, None, :] == 0, 0.0)
        return snippets if sample_mask is None else snippets.masked_fill(sample_mask[:, :, None] == 0, 0.0)

    def forward(  # noqa: PLR0913 - outputs that transformers lets users request of every model
        self,
        waveforms: Tensor,
        channel_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        output_reconstruction: bool = False,
        output_denoised_tokens: bool = False,
        return_dict: bool | None = None,
        channel_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> HuiduRepOutput | tuple:
        """Embed snippets that meet the input contract.

        Parameters
        ----------
        waveforms : torch.FloatTensor (num_spikes, num_samples, num_channels)
            uV; any number of samples. With ``channel_mixing="position"`` any number of channels, else at least the
            configuration's, of which the middle ones are used.
        channel_mask : torch.Tensor (num_spikes, num_channels), optional
            1 where a channel exists, 0 where it is missing.
        sample_mask : torch.Tensor (num_spikes, num_samples), optional
            1 where a sample exists. Tokens without existing samples are neither attended to nor averaged.
        output_reconstruction : bool, default False
            Also return the denoised snippet.
        output_denoised_tokens : bool, default False
            Embed with the research code's feature decoder, which was never trained, to reproduce its results.
        return_dict : bool, optional
            Return a :class:`HuiduRepOutput` and not a tuple. Default: as the configuration says (yes).
        channel_positions : torch.FloatTensor (num_spikes or 1, num_channels, 2), optional
            um; by default nominal positions. Only used with ``channel_mixing="position"``.
        output_hidden_states, output_attentions : bool, optional
            Also return these of every encoder layer. Default: as the configuration says.

        Returns
        -------
        HuiduRepOutput
        """
        snippets = self._prepare(waveforms, channel_mask, sample_mask)
        features = self._describe_positions(snippets, channel_positions, channel_mask)
        tokens = self.embeddings(snippets, channel_mask, features)
        valid = valid_tokens(sample_mask, tokens.shape[1], self.config.patch_size)
        record = self._record(hidden_states=output_hidden_states, attentions=output_attentions)
        hidden, embeddings = encode(self.encoder, self.reduction, tokens, valid, record)
        denoised = reconstruction = None
        if output_denoised_tokens:
            denoised = self._denoised_tokens(hidden, valid)
            twice = None if valid is None else torch.cat([valid, valid], 1)
            _, embeddings = encode(self.encoder, self.reduction, torch.cat([tokens, denoised], 1), twice)
        if self.config.linear_size:
            positions = self._positions(snippets, channel_positions)
            embeddings = torch.cat([self.linear_axes(snippets, positions, channel_mask), embeddings], 1)
        if output_reconstruction:
            reconstruction = self.unscale(self._decode(hidden, snippets.shape[1], valid, features))
        recorded: dict[str, Any] = {name: tuple(tensors) for name, tensors in record.items()}
        output = HuiduRepOutput(embeddings, hidden, reconstruction, denoised, **recorded)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _record(self, **requested: bool | None) -> dict[str, list]:
        """Empty lists for the requested outputs of the layers; where None, the configuration decides."""
        config = self.config
        wanted = {name: getattr(config, f"output_{name}") if each is None else each for name, each in requested.items()}
        return {name: [] for name, each in wanted.items() if each}

    def _describe_positions(
        self, snippets: Tensor, channel_positions: Tensor | None = None, channel_mask: Tensor | None = None
    ) -> Tensor | None:
        """Position features (num_spikes or 1, num_channels, num_features); None if channels are mixed by index."""
        if not self.by_position:
            return None
        return position_features(self._positions(snippets, channel_positions), channel_mask).to(snippets.dtype)

    @staticmethod
    def _positions(snippets: Tensor, channel_positions: Tensor | None) -> Tensor:
        """Given or nominal positions (num_spikes or 1, num_channels, 2) in um."""
        if channel_positions is None:
            channel_positions = torch.tensor(nominal_positions(snippets.shape[2]))[None]
        return channel_positions.to(snippets.device, torch.float32)  # half precision cannot hold distances in um

    def _decode(
        self, hidden: Tensor, num_samples: int, valid: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        """Tokens of the encoder -> snippets (num_spikes, num_samples, num_channels) in the model's units.

        `valid` is from :func:`valid_tokens`, `features` from :meth:`_describe_positions`.
        """
        patches = self.decoder_projection(self.decoder(hidden, valid))
        samples = patches.reshape(hidden.shape[0], hidden.shape[1] * self.config.patch_size, self.patch_channels)
        if features is not None:
            samples = self.readout(samples, features)
        missing = num_samples - samples.shape[1]
        return samples[:, :num_samples] if missing <= 0 else F.pad(samples, (0, 0, 0, missing))

    def _denoised_tokens(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Apply the research code's feature decoder to tokens; ValueError if the model has none."""
        if not self.config.feature_decoder_num_hidden_layers:
            raise ValueError(
                "expected a converted research checkpoint with a feature decoder, found a model without: use denoise()."
            )
        return self.feature_decoder(hidden + sinusoidal_positions(hidden), valid)

    def embed(self, waveforms: ArrayLike, **options: Any) -> np.ndarray:
        """Embed spikes of any window, rate and channel count.

        Parameters
        ----------
        waveforms : array_like (num_spikes, num_samples, num_channels)
            uV, band-passed.
        **options
            As :func:`huidurep.models.inference.embed` describes them: sampling_frequency (Hz, default 30000),
            peak_index (sample of the trough) and peak_sign ("neg", "pos"), by default each spike's own,
            channel_positions (num_channels, 2) in um, denoise, location (append the place of each spike), batch_size
            (1024) and device.

        Returns
        -------
        ndarray (num_spikes, embedding_size) float32

        Raises
        ------
        ValueError, TypeError
            Waveforms or positions that cannot be brought to the input contract.
        """
        return embed(self, waveforms, **options)

    def denoise(self, waveforms: ArrayLike, **options: Any) -> np.ndarray:
        """Denoise spikes of any window, rate and channel count.

        Parameters
        ----------
        waveforms, **options
            As in :meth:`embed`, without denoise and location.

        Returns
        -------
        ndarray (num_spikes, num_samples, num_channels) float32
            uV. Samples and channels outside of the model's snippets are returned as they were.

        Raises
        ------
        ValueError, TypeError
            As in :meth:`embed`.
        """
        _require_package()
        return denoise(self, waveforms, **options)

    def _center_channels(self, waveforms: Tensor) -> Tensor:
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


def _share(folder: Path, before: dict[Path, int]) -> None:
    """Give new weights the permissions of config.json, those of the umask: safetensors writes for the owner only."""
    if (folder / "config.json").is_file():
        mode = (folder / "config.json").stat().st_mode & 0o666
        for path in folder.glob("*.safetensors"):
            if before.get(path) != path.stat().st_mtime_ns:
                path.chmod(mode)


def _require_package() -> None:
    if not HAS_PACKAGE:
        raise ImportError("expected the package huidurep, found only the code of the model: install huidurep.")


# Published copies are not registered: transformers finds them by the auto_map of their configuration.
if __name__.startswith("huidurep."):
    AutoConfig.register(HuiduRepConfig.model_type, HuiduRepConfig, exist_ok=True)
    AutoModel.register(HuiduRepConfig, HuiduRep, exist_ok=True)
