"""The command ``huidurep convert``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from .inputs import check_writable, load_result, read_recording
from .options import AsJson, Curated, NumJobs, Progress, RecordingOptions, with_recording_options
from .output import is_terminal, only_results_on_stdout, print_result

Format = Literal["phy", "nwb", "analyzer"]


@with_recording_options
def convert(
    result_path: Annotated[Path, typer.Argument(metavar="RESULT", help="OUTPUT of huidurep sort.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write; for nwb, a file ending in .nwb.")],
    to: Annotated[Format, typer.Option("--to", help="Format to write.")],
    recording_path: Annotated[
        Path, typer.Option("--recording", metavar="INPUT", help="The recording: INPUT of huidurep sort.")
    ],
    recording_options: RecordingOptions,
    curated: Curated = None,
    session_start_time: Annotated[
        str | None, typer.Option(help="nwb: start of the recording, such as 2026-03-31T14:00:00+02:00.")
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(metavar="FILE", help="nwb: JSON or YAML file of neuroconv's metadata.")
    ] = None,
    copy_recording: Annotated[
        bool, typer.Option("--copy-recording/--no-copy-recording", help="phy: also write the preprocessed traces.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier conversion.")] = False,
    n_jobs: NumJobs = 1,
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Convert a result to phy, NWB or a SortingAnalyzer.

    The recording is opened as by huidurep sort, with the same options of raw binary and --probe, and preprocessed
    again.
    """
    check_writable(output.absolute().parent)
    options = {"overwrite": overwrite, **_nwb_options(to, session_start_time, metadata)}
    if to == "phy":
        options |= {"copy_recording": copy_recording}
    recording = read_recording(recording_path, recording_options)
    result = load_result(result_path, curated=curated, recording=recording)
    writers = {"phy": result.export_to_phy, "nwb": result.export_to_nwb, "analyzer": result.to_analyzer}
    options["job_kwargs"] = dict(n_jobs=n_jobs, progress_bar=progress and is_terminal())
    with only_results_on_stdout():
        writers[to](recording, output, **options)
    facts = {"output": output, "format": to, "num_units": result.sorting.get_num_units()}
    text = f"{facts['num_units']} units -> {output}; open it with: {_open_command(to, output)}"
    print_result(text, facts, as_json=as_json)


def _nwb_options(to: Format, session_start_time: str | None, metadata: Path | None) -> dict:
    """Options of the NWB exporter; empty for the other formats."""
    if to == "nwb":
        from ..exporters.nwb import read_metadata

        known = None if metadata is None else read_metadata(metadata)
        return {"session_start_time": _parse_start_time(session_start_time), "metadata": known}
    if session_start_time is not None or metadata is not None:
        raise ValueError(f"--session-start-time and --metadata are for --to nwb, found --to {to}: omit them.")
    return {}


def _open_command(to: Format, output: Path) -> str:
    """The command that opens what was written."""
    return {
        "phy": f"phy template-gui {output / 'params.py'}",
        "nwb": f"pynwb.read_nwb({str(output)!r})",
        "analyzer": f"sigui {output}",
    }[to]


def _parse_start_time(text: str | None) -> datetime:
    expected = "--session-start-time such as 2026-03-31T14:00:00+02:00, with its time zone"
    if text is None:
        raise ValueError(f"NWB requires the start of the recording: add {expected}.")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected {expected}, found {text!r}: correct it.") from error
