"""The command ``huidurep finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli.inputs import check_output, check_writable, read_recording
from huidurep.cli.options import (
    AsJson,
    AutoModel,
    GainToUv,
    NumChannels,
    OffsetToUv,
    ProbeFile,
    Progress,
    SampleType,
    SamplingFrequency,
)
from huidurep.cli.output import is_watched, only_results_on_stdout, tell_result


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
    model: AutoModel = "auto",
    sorting: Annotated[
        list[Path] | None, typer.Option(help="Curated units, what spikeinterface.load reads; once a recording.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    as_json: AsJson = False,
    sampling_frequency: SamplingFrequency = None,
    num_channels: NumChannels = None,
    dtype: SampleType = None,
    gain_to_uv: GainToUv = None,
    offset_to_uv: OffsetToUv = None,
    probe: ProbeFile = None,
    progress: Progress = True,
) -> None:
    """Fine-tune a checkpoint on your own recordings, without labels.

    It takes minutes; a minute or more of recording is enough. What is held out tells whether it helped: better, same or
    worse. Only where it is better does DIR get the new weights. `huidurep sort RECORDING OUTPUT --model DIR` uses the
    result.
    """
    for path in inputs:
        check_output(output, input_path=path)
    check_writable(output.absolute().parent)
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    recordings = [read_recording(path, raw, gain_to_uv, offset_to_uv, probe) for path in inputs]
    sortings = [_load_sorting(path) for path in sorting] if sorting else None
    import spikeinterface

    from huidurep import finetune

    spikeinterface.set_global_job_kwargs(n_jobs=1, progress_bar=progress and is_watched())
    with only_results_on_stdout():
        report = finetune(recordings, output_dir=output, model=model, sortings=sortings, steps=steps, seed=seed)
    tell_result(f"{report}\ncheckpoint -> {output}", report.to_dict(), as_json=as_json)


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
