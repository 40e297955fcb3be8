"""The fingerprint of a checkpoint, which proves that its weights were loaded as they were saved."""

import logging
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from huidurep.hub.repository import how_to_repair

logger = logging.getLogger(__name__)

FINGERPRINT = "fingerprint.safetensors"
# Other processors sum in another order; other weights are off by whole units.
TOLERANCE = 1e-3


def fingerprint(model):
    """What a model makes of fixed, formula-made inputs: the identity of its weights and of its input contract.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining

    Returns
    -------
    dict of str to torch.FloatTensor
        ``embeddings`` (4, embedding_size) and ``reconstruction`` (4, num_samples, num_channels) in the model's units,
        of snippets as the contract asks; ``mapped_embeddings`` (4, embedding_size) of a window of another rate.
    """
    from .inference import embed

    encoder = getattr(model, "huidurep", model)
    config, count = encoder.config, 4
    waves = torch.from_numpy(_waves((count, config.num_samples, config.num_channels)))
    training = encoder.training
    encoder.eval()
    parameter = next(encoder.parameters())
    with torch.no_grad():
        waves = waves.to(parameter.device, parameter.dtype)
        output = encoder(waves)
        features = encoder.describe_positions(waves)
        reconstruction = encoder.decode(output.last_hidden_state, config.num_samples, features=features)
    mapped = embed(encoder, _window(config, 2.2), sampling_frequency=0.8 * config.sampling_frequency)
    encoder.train(training)
    tensors = {"embeddings": output.embeddings, "reconstruction": reconstruction}
    tensors["mapped_embeddings"] = torch.from_numpy(mapped)
    return {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}


def _waves(shape):
    """Numbers (uV) that a formula makes, the same everywhere."""
    index = np.arange(np.prod(shape), dtype=np.float64)
    return (60 * np.sin(0.37 * index) * np.cos(0.011 * index)).astype(np.float32).reshape(shape)


def _window(config, longer):
    """Spikes (4, num_samples, num_channels + 1) of a window that reaches beyond the contract's, with a plain trough."""
    num_samples = int(longer * config.num_samples)
    time = np.arange(num_samples) - num_samples // 2
    trough = -200 * np.exp(-0.5 * (time / 4) ** 2)
    return (0.2 * _waves((4, num_samples, config.num_channels + 1)) + trough[None, :, None]).astype(np.float32)


def write_fingerprint(model, folder):
    """Store :func:`fingerprint` in a checkpoint folder.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    folder : str or Path
        Made if it does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(fingerprint(model), folder / FINGERPRINT)


def same_fingerprints(first, second):
    """Whether two fingerprints are of the same weights.

    Parameters
    ----------
    first, second : dict of str to torch.Tensor
        As of :func:`fingerprint`.

    Returns
    -------
    bool
    """
    return first.keys() == second.keys() and all(_agree(first[name], tensor) for name, tensor in second.items())


def _agree(found, stored):
    return found.shape == stored.shape and torch.allclose(found, stored, atol=TOLERANCE, rtol=TOLERANCE)


def check_fingerprint(model, folder):
    """Compare a loaded model with the fingerprint beside its weights.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
        In float32; weights of other types are not compared, and the log says so.
    folder : str or Path
        The checkpoint it was loaded from. Without a fingerprint there, a warning is logged.

    Raises
    ------
    OSError
        If the stored fingerprint cannot be read.
    ValueError
        If the model gives other outputs.
    """
    path = Path(folder) / FINGERPRINT
    if not path.exists():
        logger.warning("%s has no %s: its weights were not verified", folder, FINGERPRINT)
        return
    try:
        stored = load_file(path)
    except Exception as error:  # safetensors raises its own class for a damaged file
        raise OSError(f"expected a readable {path}, found {error}: {how_to_repair(folder)}.") from error
    parameter = next(model.parameters())
    if parameter.dtype != torch.float32 or parameter.device.type == "meta":
        logger.info("fingerprint of %s not checked: weights are %s on %s", folder, parameter.dtype, parameter.device)
        return
    found = fingerprint(model)
    changed = [name for name, tensor in stored.items() if name not in found or not _agree(found[name], tensor)]
    if changed or not stored:
        raise ValueError(
            f"expected the {' and '.join(changed) or 'embeddings'} stored in {path} for a fixed input, found others: "
            "the weights were not loaded as they were saved, or config.json was edited. To mend it, "
            f"{how_to_repair(folder)}, or update transformers."
        )
