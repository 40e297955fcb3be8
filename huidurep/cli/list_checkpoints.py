"""The command ``huidurep list``."""

from __future__ import annotations

import typer

from .options import AsJson
from .output import print_json


def list_checkpoints(as_json: AsJson = False) -> None:
    """List the embedded checkpoints."""
    from ..hub.embedded import describe_checkpoints

    checkpoints = describe_checkpoints()
    if as_json:
        print_json({"checkpoints": checkpoints})
        return
    line = "{:16} {:60} {:>8} {:>9} {:>11} {:>9}".format
    typer.echo(line("NAME", "PROBE", "CHANNELS", "RATE (HZ)", "WINDOW (MS)", "SIZE (MB)"))
    for each in checkpoints:
        size = "-" if each["size_mb"] is None else f"{each['size_mb']:.2f}"
        rate, window = f"{each['sampling_frequency']:g}", f"{each['window_ms']:g}"
        typer.echo(line(each["name"], each["probe_type"], each["num_channels"], rate, window, size))
