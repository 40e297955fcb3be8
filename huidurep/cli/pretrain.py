"""The command ``huidurep pretrain``."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli.inputs import check_output, check_writable
from huidurep.cli.options import AsJson, Progress
from huidurep.cli.output import is_watched, only_results_on_stdout, tell_result


def add_pretrain(app: typer.Typer) -> None:
    """Register the command.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command(name="pretrain")(_pretrain)


def _pretrain(
    config: Annotated[Path, typer.Option(metavar="FILE", help="JSON or YAML file of the training's settings.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; a run that stopped there goes on.")],
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Train a model on simulated units.

    FILE has the sections model, templates, views, training, ...; what it leaves out has a default. `accelerate launch
    -m huidurep pretrain ...` trains on several GPUs.
    """
    if not (output / "run" / "settings.json").is_file():  # a run that stopped goes on
        check_output(output)
        check_writable(output)
    settings = _load_settings(config)
    from huidurep.training.pretrain import pretrain as run

    if not (progress and is_watched()):  # the level of this logger is what transformers asks about its bars
        logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
    try:
        with only_results_on_stdout():
            written = run(settings, output)
    except KeyboardInterrupt:
        typer.echo("huidurep: the same command goes on from the last step that was stored.", err=True)
        raise
    training = _last_entry(output)
    tell_result(f"checkpoint -> {written}{_describe(training)}", {"output": written, **training}, as_json=as_json)


def _load_settings(path: Path) -> dict:
    """Names and values from a JSON or YAML file."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a JSON or YAML file, found none at {path}: correct the path.")
    import yaml

    text = path.read_text(encoding="utf8")
    try:
        try:
            settings = json.loads(text)  # not left to yaml, for which 1e-05 is no number
        except ValueError:
            settings = yaml.load(text, _yaml_loader())
    except yaml.YAMLError as error:
        raise ValueError(f"expected JSON or YAML in {path}, found {error}: correct the file.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"expected names and values in {path}, found {type(settings).__name__}: write one a line.")
    return settings


def _yaml_loader():
    """PyYAML's safe loader, with numbers such as 1e-3, which YAML 1.1 takes for words."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def _last_entry(output: Path) -> dict:
    """Step, seconds and share of waiting of a training; empty where this process had nothing left to do."""
    state = output / "run" / "trainer_state.json"
    history = json.loads(state.read_text())["log_history"] if state.is_file() else []
    if not history or "data_wait_share" not in history[-1]:
        return {}
    last = history[-1]
    return dict(step=last["step"], seconds=last["train_runtime"], data_wait_share=last["data_wait_share"])


def _describe(training: dict) -> str:
    if not training:
        return ""
    waited = f"{100 * training['data_wait_share']:.0f} % of it waiting for data"
    return f" (step {training['step']}, {training['seconds']:.0f} s, {waited})"
