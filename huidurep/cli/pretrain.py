"""The command ``huidurep pretrain``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from .inputs import check_output, load_settings
from .options import AsJson, Progress
from .output import is_terminal, only_results_on_stdout, print_result


def pretrain(
    config: Annotated[Path, typer.Option(metavar="FILE", help="JSON or YAML file with the settings of the training.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; an interrupted run is continued.")],
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Train a model on simulated units.

    FILE has the sections model, templates, views, training, ...; missing settings have defaults. `accelerate launch -m
    huidurep pretrain ...` trains on several GPUs.
    """
    if not (output / "run").is_dir():  # otherwise perhaps an interrupted run, which is continued
        check_output(output, is_replaced=False)
    settings = load_settings(config)
    from ..training.pretrain import is_interrupted
    from ..training.pretrain import pretrain as run

    if not is_interrupted(output):
        check_output(output, is_replaced=False)

    if not (progress and is_terminal()):  # transformers shows bars by the level of this logger
        logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
    try:
        with only_results_on_stdout():
            written = run(settings, output)
    except KeyboardInterrupt:
        typer.echo("huidurep: the same command continues from the last saved step.", err=True)
        raise
    training = _last_entry(output)
    text = f"checkpoint -> {written}"
    if training:
        wait_percent = 100 * training["data_wait_share"]
        text += f" (step {training['step']}, {training['seconds']:.0f} s, {wait_percent:.0f} % waiting for data)"
    print_result(text, {"output": written, **training}, as_json=as_json)


def _last_entry(output: Path) -> dict:
    """Step, duration (s) and share of data loading of a training; empty if there was nothing left to train."""
    state = output / "run" / "trainer_state.json"
    history = json.loads(state.read_text())["log_history"] if state.is_file() else []
    if not history or "data_wait_share" not in history[-1]:
        return {}
    last = history[-1]
    return dict(step=last["step"], seconds=last["train_runtime"], data_wait_share=last["data_wait_share"])
