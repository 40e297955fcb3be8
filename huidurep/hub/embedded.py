"""The checkpoints that come with the package."""

import json
from pathlib import Path
from typing import Any

from .probe_types import PROBE_TYPES

EMBEDDED = Path(__file__).parents[1] / "checkpoints"


def list_checkpoints() -> dict[str, Path]:
    """Embedded checkpoints.

    Returns
    -------
    dict of str to Path
        Name -> folder.
    """
    return {folder.name: folder for folder in sorted(EMBEDDED.iterdir()) if (folder / "config.json").exists()}


def describe_checkpoints() -> list[dict[str, Any]]:
    """Describe each embedded checkpoint, from its configuration and its card.

    Returns
    -------
    list of dict
        ``name``, ``probe_type`` in words, ``num_channels``, ``sampling_frequency`` (Hz), ``window_ms``, ``size_mb`` of
        the weights, ``license`` (None without a card) and ``folder``.
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


def _read_card(folder: Path) -> dict[str, Any]:
    """Metadata of a checkpoint's card; empty without a card."""
    if not (folder / "README.md").exists():
        return {}
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md", ignore_metadata_errors=True).data.to_dict()
