"""How a command ends: exit codes, errors in one sentence, for programs as JSON.

Exit codes: 0 done, 1 something failed, 2 the input or the usage can be mended, 130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import _thread
import errno
import logging
import sys
import threading
import traceback
from contextlib import contextmanager

import typer
from typer.core import TyperGroup

from huidurep.cli.output import print_json

AGAIN_S = 0.2
FAILED, CAN_BE_MENDED, INTERRUPTED = 1, 2, 130
# Options of `huidurep` itself that may also stand after the command, where people write them; True: with a value.
FOREMOST = {"--debug": False, "--verbose": False, "-v": False, "--log-file": True}
logger = logging.getLogger(__name__)


class OneSentenceErrors(TyperGroup):
    """An exception becomes one sentence on stderr and an exit code; with the command's --json also an object."""

    def parse_args(self, ctx, args):
        """Parse the options of `huidurep` wherever they stand.

        Parameters
        ----------
        ctx : Context
        args : list of str

        Returns
        -------
        list of str
            What is left for the command.
        """
        return super().parse_args(ctx, args if ctx.resilient_parsing else _foremost_first(list(args)))

    def invoke(self, ctx):
        """Run the command.

        Parameters
        ----------
        ctx : Context

        Raises
        ------
        Exit
            With the exit code, after an error was told.
        """
        as_json = "--json" in ctx.args
        try:
            with _no_interruption_lost():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as error:
            _tell("interrupted", INTERRUPTED, as_json)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if getattr(error, "errno", None) == errno.EPIPE:  # who reads our output has gone; typer is silent then
                raise
            logger.debug("%s", traceback.format_exc())
            if hasattr(error, "format_message"):  # the parser's own: it prints them itself, with the usage
                if as_json:
                    print_json({"error": error.format_message(), "exit_code": error.exit_code})
                raise
            if ctx.params.get("debug"):
                typer.echo(traceback.format_exc(), err=True)
            is_input = isinstance(error, ValueError | TypeError | OSError)
            sentence = " ".join(str(error).split()) or type(error).__name__
            code = CAN_BE_MENDED if is_input else FAILED
            _tell(sentence if is_input else f"{type(error).__name__}: {sentence}", code, as_json)
            if not is_input and not ctx.params.get("debug"):
                typer.echo("huidurep: --debug shows where this came from, --log-file FILE keeps it.", err=True)
            raise typer.Exit(code) from error


@contextmanager
def _no_interruption_lost():
    """Ctrl-C that Python drops, for it came while an object was being cleared away, comes again a moment later."""
    others = sys.unraisablehook

    def hook(unraisable):
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(AGAIN_S, _thread.interrupt_main).start()
        else:
            others(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = others


def _tell(sentence: str, exit_code: int, as_json: bool) -> None:
    logger.debug("exit code %d: %s", exit_code, sentence)
    typer.echo(f"huidurep: {sentence}", err=True)
    if as_json:
        print_json({"error": sentence, "exit_code": exit_code})


def _foremost_first(args: list[str]) -> list[str]:
    """The arguments with the options of `huidurep` before the command; nothing after -- is an option."""
    end = args.index("--") if "--" in args else len(args)
    options, others, position = [], [], 0
    while position < end:
        name, has_value = args[position].split("=")[0], "=" in args[position]
        length = 1 + (FOREMOST.get(name, False) and not has_value)
        (options if name in FOREMOST else others).extend(args[position : min(position + length, end)])
        position += length
    return [*options, *others, *args[end:]]
