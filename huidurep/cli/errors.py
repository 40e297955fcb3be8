"""How a command ends after an error: an exit code, one sentence on stderr, and with --json an object on stdout.

Exit codes: 0 success, 1 failure, 2 the input or the options are wrong, 130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import errno
import logging
import traceback

import typer
from typer.core import TyperGroup

from ..hub.errors import without_secrets
from .output import print_json

EXIT_FAILURE, EXIT_WRONG_INPUT, EXIT_INTERRUPTED = 1, 2, 130
# Options of `huidurep` itself that may also follow the command, where users write them; True: the option has a value.
GLOBAL_OPTIONS = {"--debug": False, "--verbose": False, "-v": False, "--log-file": True}
logger = logging.getLogger(__name__)


class ErrorReportingGroup(TyperGroup):
    """Group of commands that reports an exception as one sentence and an exit code."""

    def parse_args(self, ctx, args):
        """Parse the options of `huidurep` wherever they stand.

        Parameters
        ----------
        ctx : Context
        args : list of str

        Returns
        -------
        list of str
            The arguments of the command.
        """
        return super().parse_args(ctx, args if ctx.resilient_parsing else _global_options_first(list(args)))

    def invoke(self, ctx):
        """Run the command.

        Parameters
        ----------
        ctx : Context

        Raises
        ------
        Exit
            With the exit code, after an error was reported.
        """
        as_json, is_debug = "--json" in ctx.args, ctx.params.get("debug")
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as error:
            _report("interrupted", EXIT_INTERRUPTED, as_json)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except Exception as error:
            if getattr(error, "errno", None) == errno.EPIPE:  # the reader of stdout has ended; typer exits silently
                raise
            logger.debug("%s", traceback.format_exc())
            if hasattr(error, "format_message"):  # a usage error, which typer prints together with the usage
                if as_json:
                    print_json({"error": error.format_message(), "exit_code": error.exit_code})
                raise
            if is_debug:
                typer.echo(without_secrets(traceback.format_exc()), err=True)
            is_wrong_input = isinstance(error, ValueError | TypeError | OSError)
            sentence = " ".join(str(error).split()) or type(error).__name__
            code = EXIT_WRONG_INPUT if is_wrong_input else EXIT_FAILURE
            _report(sentence if is_wrong_input else f"{type(error).__name__}: {sentence}", code, as_json)
            if not is_wrong_input and not is_debug:
                typer.echo("huidurep: --debug shows the traceback, --log-file FILE saves it.", err=True)
            raise typer.Exit(code) from error


def _report(sentence: str, exit_code: int, as_json: bool) -> None:
    sentence = without_secrets(sentence)
    logger.debug("exit code %d: %s", exit_code, sentence)
    typer.echo(f"huidurep: {sentence}", err=True)
    if as_json:
        print_json({"error": sentence, "exit_code": exit_code})


def _global_options_first(args: list[str]) -> list[str]:
    """The arguments with the options of `huidurep` before the command; nothing after -- is an option."""
    end = args.index("--") if "--" in args else len(args)
    options: list[str] = []
    others: list[str] = []
    position = 0
    while position < end:
        name, has_value = args[position].split("=")[0], "=" in args[position]
        length = 1 + (GLOBAL_OPTIONS.get(name, False) and not has_value)
        (options if name in GLOBAL_OPTIONS else others).extend(args[position : min(position + length, end)])
        position += length
    return [*options, *others, *args[end:]]
