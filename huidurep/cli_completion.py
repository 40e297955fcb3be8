"""What the shell offers when a value is half typed. Nothing heavy is imported, for the shell waits for the answer.

Where nothing begins as what is typed, the shell offers files and folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path


def _completer(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _checkpoints() -> list[str]:
    """As `huidurep.list_checkpoints`, which would import torch."""
    return sorted(path.parent.name for path in (Path(__file__).parent / "checkpoints").glob("*/config.json"))


def _matching_methods() -> list[str]:
    from huidurep.sorting.parameters import MATCHING_METHODS

    return [*MATCHING_METHODS, "none"]


def _detection_methods() -> list[str]:
    from huidurep.sorting.parameters import DETECTION_METHODS

    return list(DETECTION_METHODS)


def _presets() -> list[str]:
    from huidurep.sorting.presets import PRESETS

    return list(PRESETS)


def _motion_presets() -> list[str]:
    from huidurep.sorting.parameters import MOTION_PRESETS

    return ["auto", "none", *MOTION_PRESETS]


complete_model = _completer(_checkpoints)
complete_model_or_auto = _completer(lambda: ["auto", *_checkpoints()])
complete_matching = _completer(_matching_methods)
complete_detection = _completer(_detection_methods)
complete_preset = _completer(_presets)
complete_motion = _completer(_motion_presets)
complete_probe = _completer(lambda: ["tetrode"])
