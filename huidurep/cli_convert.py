"""The command ``huidurep convert``."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli_files import attach_probe, check_writable, read_recording


class Format(str, Enum):
    """What a result can be converted to."""

    PHY = "phy"
    NWB = "nwb"
    ANALYZER = "analyzer"


def add_convert(app: typer.Typer) -> None:
    """Register the command.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command(name="convert")(_convert)


def _convert(  # noqa: PLR0913 - every command-line option is an argument
    result_path: Annotated[Path, typer.Argument(metavar="RESULT", help="OUTPUT of huidurep sort.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write, for nwb a file ending in .nwb.")],
    to: Annotated[Format, typer.Option("--to", help="What to write.")],
    recording_path: Annotated[
        Path, typer.Option("--recording", metavar="INPUT", help="The recording: INPUT of huidurep sort.")
    ],
    session_start_time: Annotated[
        str | None, typer.Option(help="nwb: when the recording began, as 2026-03-31T14:00:00+02:00.")
    ] = None,
    metadata: Annotated[
        Path | None, typer.Option(metavar="FILE", help="nwb: JSON or YAML file of neuroconv's metadata.")
    ] = None,
    copy_recording: Annotated[
        bool, typer.Option("--copy-recording/--no-copy-recording", help="phy: write the preprocessed traces too.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier conversion there.")] = False,
    n_jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Progress bars.")] = True,
    sampling_frequency: Annotated[float | None, typer.Option(help="Raw binary: Hz.")] = None,
    num_channels: Annotated[int | None, typer.Option(min=1, help="Raw binary: channels.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Raw binary: sample type, such as int16.")] = None,
    gain_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV of one step.")] = None,
    offset_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV of the value 0.")] = None,
    probe: Annotated[str | None, typer.Option(help="'tetrode' or a probeinterface JSON file.")] = None,
) -> None:
    """Convert a result for phy, to NWB, or to SpikeInterface's SortingAnalyzer.

    The recording is opened as it was for huidurep sort, with the same raw binary options and --probe; its preprocessing
    is done again.
    """
    check_writable(output.absolute().parent)
    options = {"overwrite": overwrite}
    if to is Format.NWB:
        from huidurep.sorting.nwb import read_metadata

        options |= {"session_start_time": _parse_start(session_start_time)}
        options |= {"metadata": None if metadata is None else read_metadata(metadata)}
    elif session_start_time is not None or metadata is not None:
        raise ValueError(
            f"--session-start-time and --metadata are for --to nwb, found --to {to.value}: leave them out."
        )
    if to is Format.PHY:
        options |= {"copy_recording": copy_recording}
    from huidurep import SortingResult
    from huidurep.sorting.jobs import use_job_kwargs

    result = SortingResult.load(result_path)
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    recording = read_recording(recording_path, raw, gain_to_uv, offset_to_uv)
    recording = recording if probe is None else attach_probe(recording, probe)
    writers = {
        Format.PHY: result.export_to_phy,
        Format.NWB: result.export_to_nwb,
        Format.ANALYZER: result.to_analyzer,
    }
    with use_job_kwargs(dict(n_jobs=n_jobs, progress_bar=progress)):
        writers[to](recording, output, **options)
    typer.echo(f"{result.sorting.get_num_units()} units -> {output}; open it with: {_how_to_open(to, output)}")


def _how_to_open(to: Format, output: Path) -> str:
    """What to type next."""
    return {
        Format.PHY: f"phy template-gui {output / 'params.py'}",
        Format.NWB: f"pynwb.read_nwb({str(output)!r})",
        Format.ANALYZER: f"sigui {output}",
    }[to]


def _parse_start(text: str | None) -> datetime:
    """--session-start-time, which has to be given."""
    asked = "--session-start-time, such as 2026-03-31T14:00:00+02:00 with its time zone"
    if text is None:
        raise ValueError(f"NWB asks when the recording began: add {asked}.")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected {asked}, found {text!r}: correct it.") from error
