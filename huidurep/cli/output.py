"""What the command line says: results on stdout, and progress and logs on stderr or in a file."""

from __future__ import annotations

import json
import logging
import platform
import re
import shlex
import sys
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

LOG_HEADER = "# huidurep log\n"
TALKATIVE = ("huidurep.simulation", "huidurep.finetuning.finetune")  # minutes without a word would be too quiet
LOGGED_PACKAGES = ("huidurep", "torch", "transformers", "spikeinterface", "numpy", "scikit-learn", "numba")


def print_json(facts: dict) -> None:
    """Print one JSON object on stdout.

    Parameters
    ----------
    facts : dict
        Of what JSON knows; anything else, such as a path, as its text.
    """
    typer.echo(json.dumps(facts, indent=2, default=str))


def tell_result(sentence: str, facts: dict, *, as_json: bool) -> None:
    """Print what a command has done.

    Parameters
    ----------
    sentence : str
        For people.
    facts : dict
        For programs.
    as_json : bool
        Whether programs asked.
    """
    logging.getLogger(__name__).debug("%s", sentence)
    if as_json:
        print_json(facts)
    else:
        typer.echo(sentence)


def is_watched() -> bool:
    """Whether somebody may look at progress: in a file or a pipe, bars would be thousands of lines.

    Returns
    -------
    bool
    """
    return sys.stderr.isatty()


@contextmanager
def only_results_on_stdout():
    """What libraries print meanwhile goes to stderr, and transformers shows no bar for loading, which takes no time."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def stage_bar(*, is_shown: bool):
    """A bar on stderr with the stage of a sorting and the time left.

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

    layout = "{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}"
    # smoothing 0: the time left follows from all that was done, for stages differ
    with tqdm(total=1.0, bar_format=layout, smoothing=0, file=sys.stderr, leave=False) as bar:

        def show(done: float, text: str) -> None:
            bar.set_description_str(text, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        yield show


def start_logging(level: int, log_file: Path | None):
    """Log to stderr, and everything with the versions of all that takes part to a file.

    Parameters
    ----------
    level : int
        Of what stderr shows of this package; of other packages it shows warnings.
    log_file : Path | None
        Gets all of this package's entries; what it held stays.

    Returns
    -------
    callable
        Ends it.

    Raises
    ------
    FileExistsError
        The file is something else.
    OSError
        It cannot be written.
    """
    root, ours = logging.getLogger(), logging.getLogger("huidurep")
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    console.addFilter(lambda record: record.levelno >= _shown_level(record.name, level))
    handlers, old_level = [console], ours.level
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
    """The lowest level that stderr shows of a logger."""
    if name.split(".")[0] != "huidurep":
        return logging.WARNING
    return min(level, logging.INFO) if name.startswith(TALKATIVE) else level


def _open_log(path: Path) -> logging.Handler:
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(LOG_HEADER)) not in (b"", LOG_HEADER.encode()):
                raise FileExistsError(f"expected a new file or an earlier log, found {path}: name another --log-file.")
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    lines = [f"command: {_without_token(shlex.join(sys.argv))}", f"folder: {Path.cwd()}"]
    lines += [f"Python {platform.python_version()} on {platform.platform()}, {platform.machine()}"]
    lines += [", ".join(f"{name} {_version(name)}" for name in LOGGED_PACKAGES)]
    handler.stream.write(LOG_HEADER + "".join(f"# {line}\n" for line in lines))
    handler.stream.flush()
    return handler


def _without_token(command: str) -> str:
    """A log is sent to others."""
    return re.sub(r"(--token[ =]|hf_)\S+", r"\1***", command)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
