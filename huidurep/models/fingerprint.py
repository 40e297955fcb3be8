"""Fingerprint of a checkpoint: outputs for a fixed input, which show whether weights were loaded as they were saved."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from .inference import embed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .configuration_huidurep import HuiduRepConfig

logger = logging.getLogger(__name__)

FINGERPRINT = "fingerprint.safetensors"
# Other processors sum in another order, which changes the last digits; other weights change whole units.
TOLERANCE = 1e-3


def fingerprint(model: "PreTrainedModel") -> dict[str, Tensor]:
    """Outputs of a model for a fixed input, which identify its weights and its input contract.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining

    Returns
    -------
    dict of str to torch.FloatTensor
        ``embeddings`` (4, embedding_size) and ``reconstruction`` (4, num_samples, num_channels), in the model's units,
        of snippets that meet the contract; ``mapped_embeddings`` (4, embedding_size) of a window of another rate.
    """
    encoder: Any = getattr(model, "huidurep", model)
    config, training, parameter = encoder.config, encoder.training, next(encoder.parameters())
    encoder.eval()
    waves = torch.from_numpy(_waves((4, config.num_samples, config.num_channels)))
    with torch.no_grad():
        waves = waves.to(parameter.device, parameter.dtype)
        output = encoder(waves, return_dict=True)
        features = encoder._describe_positions(waves)
        reconstruction = encoder._decode(output.last_hidden_state, config.num_samples, features=features)
    mapped = embed(encoder, _window(config), sampling_frequency=0.8 * config.sampling_frequency)
    encoder.train(training)
    tensors = {"embeddings": output.embeddings, "reconstruction": reconstruction}
    tensors["mapped_embeddings"] = torch.from_numpy(mapped)
    return {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}


def _waves(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers (uV) from a formula, the same on every computer."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    return (60 * np.sin(0.37 * index) * np.cos(0.011 * index)).astype(np.float32).reshape(shape)


def _window(config: "HuiduRepConfig") -> np.ndarray:
    """Spikes (4, 2.2 num_samples, num_channels + 1) in a longer window than the contract's, with a clear trough."""
    num_samples = int(2.2 * config.num_samples)
    time = np.arange(num_samples) - num_samples // 2
    trough = -200 * np.exp(-0.5 * (time / 4) ** 2)
    return (0.2 * _waves((4, num_samples, config.num_channels + 1)) + trough[None, :, None]).astype(np.float32)


def _differences(found: dict[str, Tensor], stored: dict[str, Tensor]) -> list[str]:
    """Names of the tensors in which two fingerprints differ; empty if they are of the same weights."""
    pairs = {name: (found.get(name), stored.get(name)) for name in sorted(found.keys() | stored.keys())}
    return [name for name, (a, b) in pairs.items() if a is None or b is None or not _agree(a, b)]


def _agree(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=TOLERANCE, rtol=TOLERANCE)


def check_loaded(model: "PreTrainedModel", info: dict[str, Any], path: str | Path | None) -> None:
    """Verify that a model was loaded with all of its weights, unchanged.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    info : dict
        Loading report of transformers (``output_loading_info=True``).
    path : str, Path or None
        Fingerprint of the checkpoint, compared if the model is in float32. If there is none, a warning is logged.

    Raises
    ------
    OSError
        If the fingerprint cannot be read.
    ValueError
        If weights are missing, unexpected or of another size, or the model has another fingerprint.
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
    if path is None or not Path(path).exists():
        logger.warning("%s has no %s: its weights were not verified", model.name_or_path, FINGERPRINT)
        return
    try:
        stored = load_file(path)
    except Exception as error:  # safetensors raises its own class for a damaged file
        raise OSError(f"expected a readable {path}, found {error}: copy or download it again.") from error
    parameter = next(model.parameters())
    if parameter.dtype != torch.float32 or parameter.device.type == "meta":
        logger.info("fingerprint %s not checked: weights are %s on %s", path, parameter.dtype, parameter.device)
        return
    changed = _differences(fingerprint(model), stored)
    if changed:
        raise ValueError(
            f"expected the {' and '.join(changed)} stored in {path} for a fixed input, found others: the weights were "
            "not loaded as they were saved, or config.json was edited. Copy or download the checkpoint again (with "
            "force_download=True), or update transformers."
        )
