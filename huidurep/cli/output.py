"""Output of the commands: results on stdout, progress and log on stderr, and the log file."""

from __future__ import annotations

import io
import json
import logging
import platform
import shlex
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import typer

from ..hub.errors import without_secrets
from ..provenance import versions

LOG_HEADER = "# huidurep log\n"
# These run for minutes without a progress bar: stderr shows their messages also without --verbose.
INFO_LOGGERS = ("huidurep.simulation", "huidurep.finetuning.finetune")


def print_json(facts: dict) -> None:
    """Print one JSON object on stdout.

    Parameters
    ----------
    facts : dict
        Values that JSON does not have, such as paths, are printed as text.
    """
    typer.echo(json.dumps(facts, indent=2, default=str))


def print_result(text: str, facts: dict, *, as_json: bool) -> None:
    """Print the result of a command, and log it.

    Parameters
    ----------
    text : str
        The result in words.
    facts : dict
        The result as names and values.
    as_json : bool
        Print `facts` instead of `text`.
    """
    logging.getLogger(__name__).debug("%s", text)
    if as_json:
        print_json(facts)
    else:
        typer.echo(text)


def is_terminal() -> bool:
    """Whether stderr is a terminal: in a file or a pipe, progress bars would be thousands of lines.

    Returns
    -------
    bool
    """
    return sys.stderr.isatty()


@contextmanager
def only_results_on_stdout():
    """Redirect to stderr what libraries print, and hide transformers' progress bar of loading weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def stage_bar(*, is_shown: bool):
    """One line on stderr with the stage of a sorting, the pass over the recording and the remaining time.

    Parameters
    ----------
    is_shown : bool

    Yields
    ------
    callable or None
        For ``pipeline(recording, progress=...)``.
    """
    if not is_shown:
        yield None
        return
    from tqdm import tqdm

    layout = "{desc}{postfix} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}"
    # smoothing 0: stages differ in speed, so the remaining time is estimated from the average speed so far
    with tqdm(desc="loading", total=1.0, bar_format=layout, smoothing=0, file=sys.stderr, leave=False) as bar:

        def show(done: float, text: str) -> None:
            bar.set_description_str(text, refresh=False)
            bar.set_postfix_str("", refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        with _passes_shown_in(bar):
            yield show


@contextmanager
def _passes_shown_in(bar):
    """Show SpikeInterface's passes over the recording at the end of a bar's text, instead of in bars of their own."""
    from spikeinterface.core import job_tools
    from tqdm import tqdm

    class Pass(tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options | dict(file=io.StringIO(), leave=False))

        def display(self, msg=None, pos=None):
            if self.total:
                bar.set_postfix_str(f"{self.desc.split(' (')[0]} {self.n / self.total:.0%}")

    own, job_tools.tqdm = job_tools.tqdm, Pass
    try:
        yield
    finally:
        job_tools.tqdm = own


def start_logging(level: int, log_file: Path | None):
    """Log to stderr, and to a file if one is given.

    Parameters
    ----------
    level : int
        Lowest level of this package's messages on stderr. Those of other packages are shown from WARNING on.
    log_file : Path | None
        All messages of this package are appended to it, after the command and the versions of packages.

    Returns
    -------
    callable
        Stops logging.

    Raises
    ------
    FileExistsError
        The file exists and is not a log of this package.
    OSError
        The file cannot be written.
    """
    root, ours = logging.getLogger(), logging.getLogger("huidurep")
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_DiscreetFormatter("%(levelname)s %(name)s: %(message)s"))
    console.addFilter(lambda record: record.levelno >= _shown_level(record.name, level))
    old_level = ours.level
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        handlers.append(_open_log(log_file))
    ours.setLevel(logging.DEBUG if log_file is not None else min(level, logging.INFO))
    for handler in handlers:
        root.addHandler(handler)

    def stop() -> None:
        ours.setLevel(old_level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()

    return stop


def _shown_level(name: str, level: int) -> int:
    """Lowest level of a logger's messages on stderr."""
    if name.split(".")[0] != "huidurep":
        return logging.WARNING
    return min(level, logging.INFO) if name.startswith(INFO_LOGGERS) else level


def _open_log(path: Path) -> logging.Handler:
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(LOG_HEADER)) not in (b"", LOG_HEADER.encode()):
                raise FileExistsError(f"expected a new file or an earlier log, found {path}: name another --log-file.")
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    lines = [f"command: {without_secrets(shlex.join(sys.argv))}", f"folder: {Path.cwd()}"]
    lines += [f"platform: {platform.platform()}, {platform.machine()}"]
    lines += [", ".join(f"{name} {number}" for name, number in versions().items())]
    with path.open("a", encoding="utf8", errors="backslashreplace") as file:  # paths may have bytes that are no UTF-8
        file.write(LOG_HEADER + "".join(f"# {line}\n" for line in lines))
    handler = logging.FileHandler(path, encoding="utf8", errors="backslashreplace")
    handler.setFormatter(_DiscreetFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


class _DiscreetFormatter(logging.Formatter):
    """Messages and tracebacks without access tokens: users send the log to others."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
