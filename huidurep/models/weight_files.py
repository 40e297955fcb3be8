"""Checks of the files with weights before a layer is built: a small configuration must not ask for gigabytes."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from huidurep.hub.json_files import is_pointer, read_json_object

REMEDY = "copy the checkpoint again, or load it once with force_download=True if it is in the cache of the Hub"
# transformers allocates what a file lacks, before it says so: heads may be missing, but not most of a model.
MAX_MISSING_RATIO, MIN_MISSING = 10, 10_000_000


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """Files with the weights of a checkpoint, one or several shards.

    Parameters
    ----------
    folder : Path
    variant : str, optional
        As in transformers: part of the file names.

    Returns
    -------
    list of Path

    Raises
    ------
    OSError
        If files are missing or cannot be read, a shard lies outside of the folder, or a file is a pointer of Git LFS.
    """
    suffix = f".{variant}" if variant else ""
    single, index = folder / f"model{suffix}.safetensors", folder / f"model.safetensors.index{suffix}.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = [folder / name for name in _shards(index)]
    else:
        raise OSError(f"expected {single.name} in {folder}, found none: {REMEDY}.")
    for path in files:
        if not path.is_file():
            raise OSError(f"expected {path.name}, which {index} names, in {folder}, found none: {REMEDY}.")
        with path.open("rb") as file:
            beginning = file.read(200).decode("latin-1")
        if is_pointer(beginning):
            raise OSError(f"expected weights in {path}, found a pointer of Git LFS: run `git lfs pull` in its folder.")
    return files


def _shards(index: Path) -> list[str]:
    try:
        names = read_json_object(index, REMEDY).get("weight_map")
    except ValueError as error:
        raise OSError(str(error)) from error
    if not isinstance(names, dict) or not names or not all(isinstance(each, str) for each in names.values()):
        raise OSError(f"expected weight_map with the file of each weight in {index}, found none: {REMEDY}.")
    outside = [each for each in names.values() if Path(each).name != each or "\\" in each or ":" in each]
    if outside:
        raise OSError(f"expected shards beside {index}, found {outside[0]!r}: {REMEDY}.")
    return sorted(set(names.values()))


def check_sizes(folder: Path, files: list[Path], cls: Any, config: Any, args: tuple) -> None:
    """Compare the sizes of the weights in the files with those of the model, from the headers alone.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for the message.
    files : list of Path
        From :func:`weight_files`.
    cls : type
        Model class.
    config : HuiduRepConfig
    args : tuple
        Further arguments of `cls`.

    Raises
    ------
    OSError
        If a file is damaged.
    ValueError
        If weights have other sizes, or most of the model is missing.
    """
    found: dict[str, list[int]] = {}
    for path in files:
        try:
            with safe_open(path, "pt") as opened:
                found |= {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own class for a damaged file
            raise OSError(f"expected a readable {path.name} in {folder}, found {error}: {REMEDY}.") from error
    with torch.device("meta"):
        model = cls(config, *args)
    num_missing = 0
    for name, tensor in model.state_dict().items():
        # the folder of an encoder opens as a part of a larger model, and the other way round
        names = (name, f"huidurep.{name}", name.removeprefix("huidurep."))
        stored = next((found[each] for each in names if each in found), None)
        if stored is None:
            num_missing += tensor.numel()
        elif list(tensor.shape) != stored:
            raise ValueError(
                f"expected weights that fit {folder}/config.json, found {name} of shape {stored} instead of "
                f"{list(tensor.shape)}: {REMEDY}."
            )
    if num_missing > max(MIN_MISSING, MAX_MISSING_RATIO * sum(map(math.prod, found.values()))):
        raise ValueError(
            f"expected weights that fit {folder}/config.json, found none for {num_missing} of its weights: {REMEDY}."
        )
