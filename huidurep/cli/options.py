"""Options that several commands share, and the values that they accept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import typer

# Values of `SortingParameters`, repeated because importing that class slows `huidurep --help`; "none" stands for None.
DetectionMethod = Literal["locally_exclusive", "matched_filtering"]
MatchingMethod = Literal["wobble", "tdc-peeler", "circus-omp", "none"]
PeakSign = Literal["auto", "neg", "pos"]
SortingPreset = Literal["paper"]


def complete_checkpoint(incomplete: str) -> list[str]:
    """Shell completion of the name of an embedded checkpoint.

    Parameters
    ----------
    incomplete : str
        What is typed so far.

    Returns
    -------
    list of str
    """
    from ..hub.embedded import list_checkpoints

    return [name for name in list_checkpoints() if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Shell completion of ``--model`` where "auto" is possible.

    Parameters
    ----------
    incomplete : str
        What is typed so far.

    Returns
    -------
    list of str
    """
    return ["auto"] * "auto".startswith(incomplete) + complete_checkpoint(incomplete)


def complete_motion(incomplete: str) -> list[str]:
    """Shell completion of ``--motion``, which also accepts a folder.

    Parameters
    ----------
    incomplete : str
        What is typed so far.

    Returns
    -------
    list of str
    """
    from ..sorting.parameters import MOTION_PRESETS

    return [name for name in ("auto", "none", *MOTION_PRESETS) if name.startswith(incomplete)]


def complete_device(incomplete: str) -> list[str]:
    """Shell completion of ``--device``, which also accepts such as cuda:1.

    Parameters
    ----------
    incomplete : str
        What is typed so far.

    Returns
    -------
    list of str
    """
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Progress bars, if stderr is a terminal.")]
Curated = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="Units after curation: phy folder, SpikeInterface's curation (JSON), analyzer or sorting."
    ),
]
NumJobs = Annotated[int, typer.Option(min=1, help="Number of worker processes.")]
Device = Annotated[
    str,
    typer.Option(
        help="Where the network computes: auto (CUDA or MPS where there is one), cpu, cuda, mps.",
        autocompletion=complete_device,
    ),
]
Token = Annotated[str | None, typer.Option(help="Access token; default: HF_TOKEN, or that of `hf auth login`.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same result.")]
AutoModel = Annotated[
    str,
    typer.Option(
        help="'auto' (chosen by the probe), embedded checkpoint, checkpoint folder or Hub repository.",
        autocompletion=complete_model,
    ),
]


@dataclass(frozen=True)
class RecordingOptions:
    """The options with which a command opens a recording; see `huidurep.cli.inputs.read_recording`.

    Attributes
    ----------
    sampling_frequency : float | None
        Hz. With `num_channels` and `dtype`: of a file of raw samples. All three None for other recordings.
    num_channels : int | None
    dtype : str | None
        Name of a numpy type.
    gain_to_uv, offset_to_uv : float | None
        Of a file of raw samples: uV = gain * sample + offset. None: the samples keep their scale.
    probe : str | None
        "tetrode" or the path of a probeinterface JSON file. None: the probe of the recording, if it has one.
    allow_pickle : bool
        Also open what may run code of its author: pickles, and recordings of classes of any package.
    trust_package : list of str | None
        Packages beside SpikeInterface, neo and probeinterface whose classes a JSON file may name.
    """

    sampling_frequency: Annotated[float | None, typer.Option(help="Raw binary: sampling frequency, Hz.")] = None
    num_channels: Annotated[int | None, typer.Option(min=1, help="Raw binary: number of channels.")] = None
    dtype: Annotated[str | None, typer.Option(help="Raw binary: sample type, such as int16.")] = None
    gain_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV = gain * sample + offset.")] = None
    offset_to_uv: Annotated[float | None, typer.Option(help="Raw binary: offset, uV; default: 0.")] = None
    probe: Annotated[
        str | None, typer.Option(help="'tetrode' (every four channels in order) or a probeinterface JSON file.")
    ] = None
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Open recordings that can run code; only files that you trust.")
    ] = False
    trust_package: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Package whose classes a recording's JSON may name; may be repeated."),
    ] = None


def with_recording_options(command: Callable) -> Callable:
    """Give a command the options of `RecordingOptions`.

    typer makes an option of each argument of a function. The returned function therefore has the fields as arguments
    and passes them to the command as one argument, `recording_options`.

    Parameters
    ----------
    command : callable
        Has an argument `recording_options`.

    Returns
    -------
    callable
    """

    @functools.wraps(command)
    def run(**arguments):
        values = {field.name: arguments.pop(field.name) for field in fields(RecordingOptions)}
        values["trust_package"] = values["trust_package"] or None  # typer gives an empty list for none
        return command(**arguments, recording_options=RecordingOptions(**values))

    own = dict(inspect.signature(command, eval_str=True).parameters)
    del own["recording_options"]
    hints = get_type_hints(RecordingOptions, include_extras=True)
    added = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(RecordingOptions)
    ]
    run.__signature__ = inspect.Signature([*own.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*own.values(), *added)}
    return run
