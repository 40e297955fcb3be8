"""The command line: the program `huidurep`, a module a command."""

from .main import app

__all__ = ["app"]
