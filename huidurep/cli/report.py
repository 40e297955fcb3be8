"""The command ``huidurep report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..output_files import check_output_file
from .inputs import check_writable, load_result, read_recording
from .options import AsJson, Curated, RecordingOptions, with_recording_options
from .output import print_result

PAGE = "report.html"


@with_recording_options
def report(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder that huidurep sort wrote.")],
    recording_options: RecordingOptions,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Page to write; default: OUTPUT/report.html.")] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="INPUT", help="The sorted recording; needed for folders of early versions and for split units."
        ),
    ] = None,
    curated: Curated = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier page.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about a sorting.

    The page has a summary, warnings, a table of the units and plots of each unit. It needs no network and no other
    file, so that it can be sent to a colleague.
    """
    page = output / PAGE if to is None else to
    check_output_file(page, overwrite=overwrite)
    check_writable(page.absolute().parent)
    if recording is None and recording_options != RecordingOptions():
        raise ValueError("expected --recording with the options of a recording, found none: add it or omit them.")
    from ..report.page import write_page

    source = None if recording is None else read_recording(recording, recording_options)
    result = load_result(output, curated=curated, recording=source)
    write_page(result, page, name=output.absolute().name, recording=source, overwrite=overwrite)
    num_units, size_mb = result.sorting.get_num_units(), round(page.stat().st_size / 1e6, 1)
    facts = {"page": page, "num_units": num_units, "size_mb": size_mb}
    print_result(f"{num_units} units, {size_mb} MB -> {page}", facts, as_json=as_json)
