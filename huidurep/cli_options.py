"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from huidurep.cli_completion import complete_detection, complete_model_or_auto, complete_preset, complete_probe

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Bars with the time left, on a terminal.")]
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
