"""``python -m huidurep``: the command line."""

from .cli.main import app

app(prog_name="huidurep")
