"""``python -m huidurep``: the command line."""

from huidurep.cli import app

app(prog_name="huidurep")
