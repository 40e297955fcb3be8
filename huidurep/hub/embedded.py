"""The checkpoints that come with the package."""

import json
from pathlib import Path

from .probe_types import PROBE_TYPES

EMBEDDED = Path(__file__).parents[1] / "checkpoints"


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
