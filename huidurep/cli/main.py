"""The program ``huidurep``: its commands and the options that all of them share.

The commands import torch, transformers and SpikeInterface when they run, so that ``huidurep --help`` answers at once.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer

from .convert import convert
from .doctor import doctor
from .download import download
from .embed import embed
from .errors import ErrorReportingGroup
from .finetune import finetune
from .list_checkpoints import list_checkpoints
from .output import start_logging
from .pretrain import pretrain
from .push import push
from .report import report
from .simulate import simulate_app
from .sort import sort
from .track import track

app = typer.Typer(
    name="huidurep",
    cls=ErrorReportingGroup,
    help="Spike sorting with pretrained spike representations.",
    epilog="Each command has its own help: huidurep sort --help. --debug, --verbose and --log-file may also follow the "
    "command. Exit codes: 0 success, 1 failure, 2 the input or the options are wrong, 130 interrupted. After an error "
    "nothing is left at OUTPUT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from huidurep import __version__

        typer.echo(f"huidurep {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what each stage does.")] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append the log, with versions and tracebacks, to a file.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # SpikeInterface warns that a saved object does not refer to its source; OUTPUT is meant to be independent of it.
    warnings.filterwarnings("ignore", message="The extractor is not serializable")
    warnings.filterwarnings("ignore", message="The recording registered to this sorting")
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    ctx.call_on_close(start_logging(level, log_file))


app.command("sort")(sort)
app.command("embed")(embed)
app.command("report")(report)
app.command("convert")(convert)
app.command("track")(track)
app.command("finetune")(finetune)
app.command("pretrain")(pretrain)
app.add_typer(simulate_app, name="simulate")
app.command("download")(download)
app.command("push")(push)
app.command("list")(list_checkpoints)
app.command("doctor")(doctor)
