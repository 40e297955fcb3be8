"""Strict loading of checkpoints."""

from __future__ import annotations

from contextlib import contextmanager

from huidurep.hub.repository import HUB_KEYWORDS, how_to_repair
from huidurep.hub.resolve import resolve_checkpoint

from .fingerprint import check_fingerprint


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
    check_fingerprint(model, folder)
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
