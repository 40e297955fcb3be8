"""The command line: `huidurep`."""

from .main import app

__all__ = ["app"]
