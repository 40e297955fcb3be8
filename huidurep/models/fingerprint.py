"""Fingerprint of a checkpoint: outputs for a fixed input, which show whether weights were loaded as they were saved."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from .inference import embed
from .input_contract import map_waveforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .configuration_huidurep import HuiduRepConfig

logger = logging.getLogger(__name__)
contract_logger = logging.getLogger(map_waveforms.__module__)

FINGERPRINT = "fingerprint.safetensors"
# Other processors sum in another order, which changes the last digits; other weights change whole units.
TOLERANCE = 1e-3
# All that the first fingerprints hold; they are compared on these.
FIRST_TENSORS = {"embeddings", "reconstruction", "mapped_embeddings"}
# Numbers of the input contract; they are stored, because a small change of one hardly changes an embedding.
CONTRACT = ("sampling_frequency", "num_samples", "peak_index", "num_channels", "scale_uv")
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
NUM_SPIKES = 4


def fingerprint_name(variant: str | None = None) -> str:
    """File name of the fingerprint, which has transformers' `variant` where the weights have it.

    Parameters
    ----------
    variant : str, optional
        Such as "fp16", of ``save_pretrained(variant=...)``.

    Returns
    -------
    str
    """
    return f"fingerprint.{variant}.safetensors" if variant else FINGERPRINT


def fingerprint(model: "PreTrainedModel", state_dict: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Outputs of a model for a fixed input, which identify its weights and its input contract.

    Computed in single precision on the CPU, also where the model is elsewhere, in half precision or under autocast:
    the outputs depend on nothing but the weights.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    state_dict : mapping of str to torch.Tensor, optional
        Weights that are written in place of the model's own.

    Returns
    -------
    dict of str to torch.Tensor
        ``embeddings`` (4, embedding_size) and ``reconstruction`` (4, num_samples, num_channels), in the model's units,
        of snippets that meet the contract, ``masked_embeddings`` of such snippets with masks. Of windows to be mapped:
        ``mapped_embeddings`` (long), ``short_embeddings``, ``probe_embeddings`` (with positions) and
        ``upward_embeddings`` (positive spikes). ``contract`` (5,): the numbers of the configuration that say what an
        input is. A research checkpoint has ``denoised_embeddings`` too.
    """
    encoder: Any = _in_single_precision(model, state_dict)
    config = encoder.config
    waves = torch.from_numpy(_waves((NUM_SPIKES, config.num_samples, config.num_channels)))
    with torch.no_grad(), _exact_arithmetic():
        output = encoder(waves, return_dict=True)
        features = encoder._describe_positions(waves)
        tensors = {
            "embeddings": output.embeddings,
            "reconstruction": encoder._decode(output.last_hidden_state, config.num_samples, features=features),
            "masked_embeddings": encoder(waves, **_masks(config), return_dict=True).embeddings,
        }
        if config.feature_decoder_num_hidden_layers:
            denoised = encoder(waves, output_denoised_tokens=True, return_dict=True)
            tensors["denoised_embeddings"] = denoised.embeddings
        for name, (window, options) in _windows(config).items():
            tensors[f"{name}_embeddings"] = torch.from_numpy(embed(encoder, window, **options))
    tensors["contract"] = torch.tensor([float(getattr(config, name)) for name in CONTRACT], dtype=torch.float64)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def fixed_embeddings(model: Any) -> np.ndarray:
    """Embeddings of a fixed input, computed where the model is.

    Parameters
    ----------
    model : HuiduRep

    Returns
    -------
    ndarray (4, embedding_size) float32
    """
    window, options = _windows(model.config)["probe"]
    return embed(model, window, **options)


def _in_single_precision(model: "PreTrainedModel", state_dict: Mapping[str, Tensor] | None) -> Any:
    """The encoder in evaluation mode with float32 weights on the CPU: itself where it is so already, else a copy."""
    encoder: Any = getattr(model, "huidurep", model)
    is_ready = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in encoder.parameters())
    if is_ready and not encoder.training and state_dict is None and "forward" not in vars(encoder):
        return encoder
    encoder = copy.deepcopy(encoder).to("cpu", torch.float32).eval()
    vars(encoder).pop("forward", None)  # accelerate's, in half precision and of the original
    if state_dict is not None:
        prefix = "huidurep." if hasattr(model, "huidurep") else ""
        own = {name.removeprefix(prefix): each for name, each in state_dict.items() if name.startswith(prefix)}
        encoder.load_state_dict(own, strict=False)
    return encoder


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Single precision also under autocast, and where the user allows float32 products to be rounded; no log."""
    precision, was_disabled = torch.get_float32_matmul_precision(), contract_logger.disabled
    torch.set_float32_matmul_precision("highest")
    contract_logger.disabled = True  # what it says of the fixed input concerns nobody
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        contract_logger.disabled = was_disabled


def _waves(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers (uV) from a formula, the same on every computer."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    return (60 * np.sin(0.37 * index) * np.cos(0.011 * index)).astype(np.float32).reshape(shape)


def _masks(config: "HuiduRepConfig") -> dict[str, Tensor]:
    """Masks and contact positions for snippets that meet the contract: each spike lacks something else."""
    channels = torch.ones(NUM_SPIKES, config.num_channels)
    samples = torch.ones(NUM_SPIKES, config.num_samples)
    if config.num_channels > 1:
        channels[0, 0] = channels[1, -1] = 0
    samples[1, : config.num_samples // 4] = samples[2, -(config.num_samples // 3) :] = 0
    masks = {"channel_mask": channels, "sample_mask": samples}
    if config.channel_mixing == "position":
        masks["channel_positions"] = torch.from_numpy(_staggered_um(config.num_channels)[None]).float()
    return masks


def _windows(config: "HuiduRepConfig") -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Spikes that do not meet the contract, and how they are described: rates, windows, channels, positions, sign."""
    num_channels, long = config.num_channels, int(2.2 * config.num_samples)
    time = np.arange(long) - long // 2
    trough = -200 * np.exp(-0.5 * (time / 4) ** 2)[None, :, None]
    first = (0.2 * _waves((NUM_SPIKES, long, num_channels + 1)) + trough).astype(np.float32)
    upward = -_spikes(60, num_channels, 20000.0)
    return {
        "mapped": (first, dict(sampling_frequency=0.8 * config.sampling_frequency)),
        "short": (_spikes(40, max(1, num_channels - 1), 32000.0), dict(sampling_frequency=32000.0)),
        "probe": (
            _spikes(84, num_channels + 3, 24414.0625),
            dict(sampling_frequency=24414.0625, channel_positions=_staggered_um(num_channels + 3)),
        ),
        "upward": (upward, dict(sampling_frequency=20000.0, peak_index=30)),
    }


def _spikes(num_samples: int, num_channels: int, sampling_frequency: float) -> np.ndarray:
    """Negative spikes (4, num_samples, num_channels) uV with their trough in the middle, largest on four channels."""
    time_ms = 1e3 * (np.arange(num_samples) - num_samples // 2) / sampling_frequency
    shape = -200 * np.exp(-0.5 * (time_ms / 0.1) ** 2)
    peak_channels = np.arange(NUM_SPIKES) * num_channels // NUM_SPIKES
    decay = np.exp(-0.5 * np.abs(np.arange(num_channels) - peak_channels[:, None]))
    waves = 0.1 * _waves((NUM_SPIKES, num_samples, num_channels))
    return (waves + shape[None, :, None] * decay[:, None, :]).astype(np.float32)


def _staggered_um(num_channels: int) -> np.ndarray:
    """Contacts (num_channels, 2) in two columns."""
    index = np.arange(num_channels)
    return np.stack([18.0 * (index % 2), 20.0 * index], axis=1)


def _differences(found: dict[str, Tensor], stored: dict[str, Tensor]) -> list[str]:
    """Names of the tensors in which two fingerprints differ; empty if they are of the same weights."""
    names = found.keys() | stored.keys()
    for each in (found, stored):
        if each.keys() == FIRST_TENSORS:
            names &= FIRST_TENSORS
    pairs = {name: (found.get(name), stored.get(name)) for name in sorted(names)}
    return [name for name, (a, b) in pairs.items() if a is None or b is None or not _agree(a, b, name)]


def _agree(a: Tensor, b: Tensor, name: str) -> bool:
    tolerance = 1e-9 if name == "contract" else TOLERANCE
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=tolerance, rtol=tolerance)


def check_loaded(
    model: "PreTrainedModel", info: dict[str, Any], path: str | Path | None, load_single: Callable[[], Any]
) -> None:
    """Verify that a model was loaded with all of its weights, unchanged.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    info : dict
        Loading report of transformers (``output_loading_info=True``).
    path : str, Path or None
        Fingerprint of the checkpoint. If there is none, a warning is logged.
    load_single : callable
        Loads the checkpoint in float32. Called where `model` has another precision: the fingerprint is then that of
        the weights in the file, and the model must be these weights, rounded.

    Raises
    ------
    OSError
        If the fingerprint cannot be read.
    ValueError
        If weights are missing, unexpected, of another size or not finite, or the model has another fingerprint.
    """
    keys = {
        key: sorted(map(str, info.get(key) or [])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    problems = [f"{key}: {', '.join(names[:4])} ({len(names)})" for key, names in keys.items() if names]
    if problems:
        raise ValueError(
            f"expected weights for every parameter and no others, found {'; '.join(problems)}: load the checkpoint "
            "with the class and version that saved it."
        )
    if any(each.device.type == "meta" for each in model.parameters()):
        logger.info("fingerprint %s not checked: weights are not in memory", path)
        return
    _check_finite(model)
    if path is None or not Path(path).exists():
        logger.warning("%s has no %s: its weights were not verified", model.name_or_path, FINGERPRINT)
        return
    try:
        stored = load_file(path)
    except Exception as error:  # safetensors raises its own class for a damaged file
        raise OSError(f"expected a readable {path}, found {error}: copy or download it again.") from error
    is_single = all(each.dtype == torch.float32 for each in model.parameters())
    single = model if is_single else load_single()
    changed = _differences(fingerprint(single), stored) or _not_rounded(model, single)
    if changed:
        raise ValueError(
            f"expected the {' and '.join(changed)} stored in {path} for a fixed input, found others: the weights were "
            "not loaded as they were saved, or config.json was edited. Copy or download the checkpoint again (with "
            "force_download=True), or update transformers."
        )


def _check_finite(model: "PreTrainedModel") -> None:
    for name, each in model.state_dict().items():
        if isinstance(each, Tensor) and each.dtype in FLOATS and not torch.isfinite(each).all():
            raise ValueError(
                f"expected finite weights, found NaN or infinity in {name} of {model.name_or_path}: use an earlier "
                "checkpoint, or train again with a lower learning rate."
            )


def _not_rounded(model: "PreTrainedModel", single: "PreTrainedModel") -> list[str]:
    """First weight of a model that is not, up to rounding, the one loaded in single precision."""
    exact = dict(single.named_parameters())
    for name, each in model.named_parameters():
        if each.dtype not in FLOATS or name not in exact or each.shape != exact[name].shape:
            continue  # quantised
        found, wanted = each.detach().cpu().double(), exact[name].detach().cpu().double()
        if not torch.allclose(found, wanted, rtol=2 * torch.finfo(each.dtype).eps, atol=1e-7):
            return [name]
    return []
