"""Runs scripts of the repository in this process, which has imported most of what they import."""

import contextlib
import io
import runpy
import sys
from unittest.mock import patch


def run_script(path, *words):
    """(exit status, what the script prints)."""
    printed, status = io.StringIO(), 0
    words = [str(path), *map(str, words)]
    with patch.object(sys, "argv", words), patch.object(sys, "path", [*sys.path]), contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
    return status, printed.getvalue()
