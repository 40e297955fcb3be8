"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Bars with the time left, on a terminal.")]


def _completer(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _checkpoints() -> list[str]:
    """As `huidurep.list_checkpoints`, which would import torch."""
    return sorted(path.parent.name for path in (Path(__file__).parents[1] / "checkpoints").glob("*/config.json"))


def _matching_methods() -> list[str]:
    return ["wobble", "tdc-peeler", "circus-omp", "none"]


def _detection_methods() -> list[str]:
    return ["locally_exclusive", "matched_filtering"]


def _presets() -> list[str]:
    from huidurep.sorting.parameters import PRESETS

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


AutoModel = Annotated[
    str,
    typer.Option(
        help="'auto' (by the probe), embedded name, folder or Hub name.", autocompletion=complete_model_or_auto
    ),
]
Detection = Annotated[
    str | None, typer.Option(help="locally_exclusive or matched_filtering.", autocompletion=complete_detection)
]
Preset = Annotated[
    str | None, typer.Option(help="paper: as the paper did, with --num-units.", autocompletion=complete_preset)
]
SamplingFrequency = Annotated[float | None, typer.Option(help="Raw binary: Hz.")]
NumChannels = Annotated[int | None, typer.Option(min=1, help="Raw binary: channels.")]
SampleType = Annotated[str | None, typer.Option(help="Raw binary: sample type, such as int16.")]
GainToUv = Annotated[float | None, typer.Option(help="Raw binary: uV of one step.")]
OffsetToUv = Annotated[float | None, typer.Option(help="Raw binary: uV of the value 0.")]
ProbeFile = Annotated[
    str | None, typer.Option(help="'tetrode' or a probeinterface JSON file.", autocompletion=complete_probe)
]
