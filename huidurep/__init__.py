"""HuiduRep: spike sorting with pretrained spike representations (arXiv 2507.17224).

The public names below are imported when first used, so that ``import huidurep`` imports neither torch nor transformers;
transformers' Auto classes know the models as soon as they are imported themselves.
"""

import importlib
from typing import Any

from .integrations.forked_processes import watch_forks
from .integrations.transformers_auto import watch_transformers

__version__ = "0.1.0"

_HOMES = {
    "EmbedWaveforms": "integrations.spikeinterface_node",
    "HuiduRep": "models.modeling_huidurep",
    "HuiduRepConfig": "models.configuration_huidurep",
    "HuiduRepForPreTraining": "models.modeling_pretraining",
    "HuiduRepSorter": "integrations.spikeinterface_sorter",
    "SortingParameters": "sorting.parameters",
    "SortingResult": "result",
    "SpikeEmbedder": "integrations.scikit_learn",
    "SpikeSortingPipeline": "pipeline",
    "UnitTracks": "tracking.unit_tracks",
    "finetune": "finetuning.finetune",
    "list_checkpoints": "hub.embedded",
    "register": "integrations.spikeinterface_sorter",
    "simulate_recording": "simulation.recordings",
    "sort": "pipeline",
    "track": "tracking.track",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'huidurep' has no attribute {name!r}: expected one of {', '.join(__all__)}.")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


watch_transformers()
watch_forks()
