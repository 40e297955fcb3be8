"""The command ``huidurep report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli.inputs import check_writable, read_recording
from huidurep.cli.options import AsJson, GainToUv, NumChannels, OffsetToUv, ProbeFile, SampleType, SamplingFrequency
from huidurep.cli.output import tell_result
from huidurep.output_files import new_file

PAGE = "report.html"


def add_report(app: typer.Typer) -> None:
    """Register the command.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command(name="report")(_report)


def _report(  # noqa: PLR0913 - every command-line option is an argument
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder that huidurep sort wrote.")],
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Page to write; default: OUTPUT/report.html.")] = None,
    recording: Annotated[
        Path | None, typer.Option(metavar="INPUT", help="What was sorted; for folders of versions that saved less.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier page.")] = False,
    as_json: AsJson = False,
    sampling_frequency: SamplingFrequency = None,
    num_channels: NumChannels = None,
    dtype: SampleType = None,
    gain_to_uv: GainToUv = None,
    offset_to_uv: OffsetToUv = None,
    probe: ProbeFile = None,
) -> None:
    """Write one HTML page about a sorting.

    It says what was found and what to look at, with a table of the units and pictures of each. It needs no network and
    no other file: send it to a colleague.
    """
    page = output / PAGE if to is None else to
    if page.is_dir():
        raise IsADirectoryError(
            f"expected a file to write, found the folder {page}: name a file such as {page / PAGE}."
        )
    if page.exists() and not overwrite:
        raise FileExistsError(f"expected a new file, found {page}: name another one with --to or pass --overwrite.")
    from huidurep import SortingResult
    from huidurep.report.page import write_page

    result = SortingResult.load(output)
    check_writable(page.absolute().parent)
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    if recording is None:
        if any(value is not None for value in (*raw.values(), gain_to_uv, offset_to_uv, probe)):
            raise ValueError("expected --recording with options of a recording, found none: add it or leave them out.")
        source = None
    else:
        source = read_recording(recording, raw, gain_to_uv, offset_to_uv, probe)
    with new_file(page) as partial:
        write_page(result, partial, name=output.absolute().name, recording=source)
    num_units, size_mb = result.sorting.get_num_units(), round(page.stat().st_size / 1e6, 1)
    facts = {"page": page, "num_units": num_units, "size_mb": size_mb}
    tell_result(f"{num_units} units, {size_mb} MB -> {page}", facts, as_json=as_json)
