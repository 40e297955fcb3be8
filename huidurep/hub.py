"""Checkpoint names to folders, strict loading, and the fingerprint that proves the weights arrived."""

import json
import logging
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from .hub_repository import HUB_KEYWORDS, commit_of, fetch_repository, how_to_repair
from .probe_types import PROBE_TYPES

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent / "checkpoints"
FINGERPRINT = "fingerprint.safetensors"
# Other processors sum in another order; other weights are off by whole units.
TOLERANCE = 1e-3


def list_checkpoints():
    """Embedded checkpoints.

    Returns
    -------
    dict of str to Path
        Name -> folder.
    """
    # There are none where the code was published beside weights, without the package.
    folders = sorted(EMBEDDED.iterdir()) if EMBEDDED.is_dir() else []
    return {folder.name: folder for folder in folders if (folder / "config.json").exists()}


def describe_checkpoints():
    """Say what each embedded checkpoint is for and what it takes, as its configuration and card have it.

    Returns
    -------
    list of dict
        ``name``, ``probe_type`` in words, ``num_channels``, ``sampling_frequency`` (Hz), ``window_ms``, ``size_mb`` of
        the weights, ``license`` and ``folder``; the licence None where there is no card.
    """
    described = []
    for name, folder in list_checkpoints().items():
        config = json.loads((folder / "config.json").read_text(encoding="utf8"))
        weights = folder / "model.safetensors"
        described.append(
            {
                "name": name,
                "probe_type": PROBE_TYPES.get(name, name),
                "num_channels": config["num_channels"],
                "sampling_frequency": config["sampling_frequency"],
                "window_ms": round(1e3 * config["num_samples"] / config["sampling_frequency"], 3),
                "size_mb": round(weights.stat().st_size / 1e6, 2) if weights.exists() else None,
                "license": _read_card(folder).get("license"),
                "folder": str(folder),
            }
        )
    return described


def _read_card(folder):
    """Metadata of a checkpoint's card, none where there is no card."""
    if not (folder / "README.md").exists():
        return {}
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md", ignore_metadata_errors=True).data.to_dict()


def resolve_checkpoint(name_or_path, **hub_options):
    """Find the folder of a checkpoint: local folder, then embedded name, then Hub repository (cache first).

    The log says which. A local folder without config.json does not hide an embedded checkpoint of its name.

    Parameters
    ----------
    name_or_path : str or Path
    **hub_options
        ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download`` of
        :func:`huidurep.hub_repository.fetch_repository`.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If there is no such checkpoint, or the Hub does not give it; the message says why.
    """
    folder, name, embedded = Path(name_or_path).expanduser(), str(name_or_path), list_checkpoints()
    if not name.strip():
        raise OSError("expected the name or the folder of a checkpoint, found nothing: name one, such as 'tetrode'.")
    is_folder = folder.is_dir() and ((folder / "config.json").is_file() or name not in embedded)
    if is_folder or name in embedded:
        place = f"local folder {folder.resolve()}" if is_folder else "embedded in the package"
        logger.info("checkpoint %s: %s", name, place)
        if hub_options.get("revision"):
            logger.warning("checkpoint %s: its revision is not looked at, only Hub repositories have some", name)
        return folder if is_folder else embedded[name]
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise OSError(
            f"expected a local folder, one of the embedded checkpoints {sorted(embedded)} or a Hub repository "
            f"'owner/name', found {name!r}: correct the name or the path."
        )
    folder = fetch_repository(name, **hub_options)
    logger.info("checkpoint %s: Hub repository, commit %s in %s", name, commit_of(folder), folder)
    return folder


@contextmanager
def no_progress_bars():
    """Keep transformers' bars off while a small model is read or written; those of a training are not touched."""
    from transformers.utils import logging as transformers_logging

    were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            transformers_logging.enable_progress_bar()


def load_model(transformers_loader, cls, name_or_path, *args, **kwargs):
    """Load strictly through transformers, then check the fingerprint.

    Parameters
    ----------
    transformers_loader : callable
        ``PreTrainedModel.from_pretrained`` bound to `cls`.
    cls : type
        The model class asked for.
    name_or_path : str or Path
    *args, **kwargs
        Passed on.

    Returns
    -------
    PreTrainedModel

    Raises
    ------
    OSError
        If files are missing or cannot be read.
    ValueError
        If the checkpoint is another kind of model, weights do not fit, or the fingerprint differs.
    """
    hub_options = {key: kwargs.pop(key) for key in HUB_KEYWORDS if key in kwargs}
    folder = resolve_checkpoint(name_or_path, **hub_options)
    wants_info = kwargs.pop("output_loading_info", False)
    if "config" not in kwargs:
        kwargs["config"] = _read_config(cls, folder)
    if not (folder / "model.safetensors").exists() and not (folder / "model.safetensors.index.json").exists():
        raise OSError(f"expected model.safetensors in {folder}, found none: {how_to_repair(folder)}.")
    try:
        with no_progress_bars():
            model, info = transformers_loader(folder, *args, output_loading_info=True, use_safetensors=True, **kwargs)
    except TypeError:
        raise  # a keyword that neither transformers nor the model knows
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"expected weights that fit config.json in {folder}, found others ({error}): {how_to_repair(folder)}."
        ) from error
    except Exception as error:  # safetensors raises its own class, not an OSError, for a truncated file
        raise OSError(
            f"expected a readable model.safetensors in {folder}, found {error}: {how_to_repair(folder)}."
        ) from error
    _check_loading(info, folder)
    _check_fingerprint(model, folder)
    return (model, info) if wants_info else model


def _read_config(cls, folder):
    if not (folder / "config.json").exists():
        raise OSError(f"expected a checkpoint folder with config.json, found none in {folder}: pass the right folder.")
    from transformers import PreTrainedConfig

    try:
        settings, _ = PreTrainedConfig.get_config_dict(folder)
    except Exception as error:
        raise OSError(f"expected JSON in {folder / 'config.json'}, found {error}: {how_to_repair(folder)}.") from error
    if settings.get("model_type") != cls.config_class.model_type:
        raise ValueError(
            f"expected a HuiduRep checkpoint (model_type 'huidurep') in {folder}, found model_type "
            f"{settings.get('model_type')!r}: pass a HuiduRep folder, or convert the research code's .pt with "
            "conversion/convert_original_checkpoint.py."
        )
    return cls.config_class.from_dict(settings)


def _check_loading(info, folder):
    problems = {
        key: sorted(map(str, info.get(key) or [])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    problems = {key: names for key, names in problems.items() if names}
    if problems:
        shown = "; ".join(f"{key}: {', '.join(names[:4])} ({len(names)})" for key, names in problems.items())
        raise ValueError(
            f"expected weights for every parameter and no others in {folder}, found {shown}: load it with the class "
            "and version that saved it."
        )


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


def _check_fingerprint(model, folder):
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
