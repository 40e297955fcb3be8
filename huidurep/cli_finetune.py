"""The command ``huidurep finetune``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli_files import attach_probe, check_output, check_writable, read_recording


def add_finetune(app: typer.Typer) -> None:
    """Register the command.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command(name="finetune")(_finetune)


def _finetune(  # noqa: PLR0913 - every command-line option is an argument
    inputs: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="As INPUT of huidurep sort; several.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; must not exist or be empty.")],
    model: Annotated[str, typer.Option(help="'auto' (by the probe), embedded name, folder or Hub name.")] = "auto",
    sorting: Annotated[
        list[Path] | None, typer.Option(help="Curated units, what spikeinterface.load reads; once a recording.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, for programs.")] = False,
    sampling_frequency: Annotated[float | None, typer.Option(help="Raw binary: Hz.")] = None,
    num_channels: Annotated[int | None, typer.Option(min=1, help="Raw binary: channels.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Raw binary: sample type, such as int16.")] = None,
    gain_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV of one step.")] = None,
    offset_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV of the value 0.")] = None,
    probe: Annotated[str | None, typer.Option(help="'tetrode' or a probeinterface JSON file.")] = None,
) -> None:
    """Fine-tune a checkpoint on recordings of your own probe, without labels; minutes.

    A minute or more of recording is enough. What is held out tells whether it helped: better, same or worse. Only where
    it is better does DIR get the new weights. `huidurep sort RECORDING OUTPUT --model DIR` uses the result.
    """
    for path in inputs:
        check_output(output, input_path=path)
    check_writable(output.absolute().parent)
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    recordings = [read_recording(path, raw, gain_to_uv, offset_to_uv) for path in inputs]
    recordings = recordings if probe is None else [attach_probe(each, probe) for each in recordings]
    sortings = [_load_sorting(path) for path in sorting] if sorting else None
    from huidurep import finetune

    report = finetune(recordings, output_dir=output, model=model, sortings=sortings, steps=steps, seed=seed)
    typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else f"{report}\ncheckpoint -> {output}")


def _load_sorting(path: Path):
    """Units that spikeinterface.load reads."""
    import spikeinterface

    if not path.exists():
        raise FileNotFoundError(f"expected a sorting at {path}, found nothing: correct the path.")
    try:
        loaded = spikeinterface.load(path)
    except Exception as error:  # spikeinterface raises many classes for a folder that is something else
        raise ValueError(f"expected what spikeinterface.load reads, found {path} ({error}): save it there.") from error
    if not isinstance(loaded, spikeinterface.BaseSorting):
        raise ValueError(f"expected a sorting in {path}, found {type(loaded).__name__}: pass the sorting's folder.")
    return loaded
