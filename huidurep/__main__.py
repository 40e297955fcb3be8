"""``python -m huidurep``: the command line."""

from .cli import app

app(prog_name="huidurep")
