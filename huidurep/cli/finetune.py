"""The command ``huidurep finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .inputs import check_output, load_sorting, read_recording
from .options import AsJson, AutoModel, Progress, RecordingOptions, Seed, with_recording_options
from .output import is_terminal, only_results_on_stdout, print_result


@with_recording_options
def finetune(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="One or more, each as INPUT of huidurep sort.")
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, new or empty.")],
    recording_options: RecordingOptions,
    model: AutoModel = "auto",
    sorting: Annotated[
        list[Path] | None, typer.Option(help="Curated units that spikeinterface.load reads; once for each recording.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of training steps.")] = 200,
    seed: Seed = 0,
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a checkpoint on recordings without labels.

    It takes minutes and needs a minute or more of recording. Held-out data decide whether the new weights are better,
    same or worse; DIR receives the new weights only if they are better, otherwise those of --model. `huidurep sort
    RECORDING OUTPUT --model DIR` uses them.
    """
    for path in inputs:
        check_output(output, input_path=path)
    recordings = [read_recording(path, recording_options) for path in inputs]
    sortings = [load_sorting(path) for path in sorting] if sorting else None
    from huidurep import finetune as run

    options = dict(output_dir=output, model=model, sortings=sortings, steps=steps, seed=seed)
    with only_results_on_stdout():
        report = run(recordings, **options, job_kwargs=dict(n_jobs=1, progress_bar=progress and is_terminal()))
    print_result(f"{report}\ncheckpoint -> {output}", report.to_dict(), as_json=as_json)
