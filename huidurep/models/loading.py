"""Strict loading of checkpoints by the names that the package gives them."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.utils import logging as transformers_logging

from huidurep.hub.json_files import read_json_object
from huidurep.hub.repository import HUB_KEYWORDS
from huidurep.hub.resolve import resolve_checkpoint

from .fingerprint import check_loaded, fingerprint_name
from .weight_files import REMEDY, check_sizes, weight_files


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide transformers' progress bars while a small model is read or written."""
    were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            transformers_logging.enable_progress_bar()


def load_model(
    transformers_loader: Callable[..., Any], cls: Any, name_or_path: str | Path, *args: Any, **kwargs: Any
) -> Any:
    """Load a checkpoint with transformers, then verify its weights and its fingerprint.

    Parameters
    ----------
    transformers_loader : callable
        ``PreTrainedModel.from_pretrained`` bound to `cls`.
    cls : type
        Requested model class.
    name_or_path : str or Path
        As in :func:`huidurep.hub.resolve.resolve_checkpoint`.
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
    hub_options = {key: kwargs.pop(key) for key in (*HUB_KEYWORDS, "subfolder") if key in kwargs}
    folder = resolve_checkpoint(name_or_path, **hub_options)
    wants_info = kwargs.pop("output_loading_info", False)
    _check_safetensors(name_or_path, kwargs.pop("use_safetensors", None))
    if "config" not in kwargs:
        kwargs["config"] = _read_config(cls, folder, kwargs)
    files = weight_files(folder, kwargs.get("variant"))
    if isinstance(kwargs["config"], PreTrainedConfig) and not kwargs.get("ignore_mismatched_sizes"):
        check_sizes(folder, files, cls, kwargs["config"], args)

    def load(**changes: Any) -> Any:
        config = copy.deepcopy(kwargs["config"])  # transformers notes the precision in it
        with no_progress_bars():
            return transformers_loader(folder, *args, use_safetensors=True, **{**kwargs, "config": config, **changes})

    try:
        model, info = load(output_loading_info=True)
    except (TypeError, ImportError):
        raise  # a keyword that neither transformers nor the model knows; a package for quantization that is missing
    except (RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and "attn_implementation" in kwargs:
            raise  # one that this model or this computer does not have, in transformers' words
        raise ValueError(
            f"expected weights that fit {folder}/config.json, found others ({error}): {REMEDY}."
        ) from error
    except Exception as error:  # safetensors raises its own class, not an OSError, for a truncated file
        raise OSError(f"expected a readable model.safetensors in {folder}, found {error}: {REMEDY}.") from error
    plain = dict.fromkeys(("torch_dtype", "device_map", "quantization_config"))
    path = folder / fingerprint_name(kwargs.get("variant"))
    check_loaded(model, info, path, lambda: load(dtype=torch.float32, **plain))
    if cls._auto_class is None and hasattr(model.config, "auto_map"):
        del model.config.auto_map  # names code that a published folder holds and a saved one does not
    return (model, info) if wants_info else model


def _check_safetensors(name_or_path: str | Path, wanted: bool | None) -> None:
    if wanted is False:
        raise ValueError(
            f"expected weights as safetensors, found use_safetensors=False for {name_or_path}: other files can run "
            "code of their author; leave it out."
        )


def _read_config(cls: Any, folder: Path, kwargs: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of a folder; keywords that are its fields replace them, as in transformers, and are removed."""
    if not (folder / "config.json").exists():
        raise OSError(f"expected a checkpoint folder with config.json, found none in {folder}: pass the right folder.")
    try:
        read_json_object(folder / "config.json", REMEDY)
    except ValueError as error:
        raise OSError(str(error)) from error
    settings, _ = PreTrainedConfig.get_config_dict(folder)
    if settings.get("model_type") != cls.config_class.model_type:
        raise ValueError(
            f"expected a HuiduRep checkpoint (model_type 'huidurep') in {folder}, found model_type "
            f"{settings.get('model_type')!r}: pass a HuiduRep folder, or convert the research code's .pt with "
            "conversion/convert_original_checkpoint.py."
        )
    for name in ("dtype", "torch_dtype"):
        if settings.get(name) is not None and not _is_float_type(settings[name]):
            raise ValueError(
                f"expected {name} in {folder / 'config.json'} to be the name of a floating point type such as "
                f"'float32', found {settings[name]!r}: {REMEDY}."
            )
    # transformers itself reads these of a model's keywords; the precision is not that of the file.
    fields = set(dir(cls.config_class.from_dict(settings))) - {"dtype", "torch_dtype", "attn_implementation"}
    changes = {name: kwargs.pop(name) for name in sorted(fields & kwargs.keys())}
    return cls.config_class.from_dict({**settings, **changes})


def _is_float_type(name: Any) -> bool:
    found = getattr(torch, name.removeprefix("torch."), None) if isinstance(name, str) else None
    return isinstance(found, torch.dtype) and found.is_floating_point


def digest_model(model: Any) -> str:
    """SHA-256 of the configuration and the weights of a model.

    Parameters
    ----------
    model : PreTrainedModel or Any
        What is no torch module is known by its class.

    Returns
    -------
    str
    """
    digest = hashlib.sha256(type(model).__qualname__.encode())
    if hasattr(model, "state_dict"):
        digest.update(model.config.to_json_string().encode())
        for name, each in sorted(model.state_dict().items()):
            digest.update(f"{name} {each.dtype} {tuple(each.shape)}".encode())
            digest.update(each.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
