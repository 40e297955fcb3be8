"""The command ``huidurep convert``."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli.inputs import check_writable, read_recording
from huidurep.cli.options import (
    AsJson,
    GainToUv,
    NumChannels,
    OffsetToUv,
    ProbeFile,
    Progress,
    SampleType,
    SamplingFrequency,
)
from huidurep.cli.output import is_watched, only_results_on_stdout, tell_result


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
    progress: Progress = True,
    as_json: AsJson = False,
    sampling_frequency: SamplingFrequency = None,
    num_channels: NumChannels = None,
    dtype: SampleType = None,
    gain_to_uv: GainToUv = None,
    offset_to_uv: OffsetToUv = None,
    probe: ProbeFile = None,
) -> None:
    """Convert a result for phy, to NWB, or to SpikeInterface's SortingAnalyzer.

    The recording is opened as it was for huidurep sort, with the same raw binary options and --probe; its preprocessing
    is done again.
    """
    check_writable(output.absolute().parent)
    options = {"overwrite": overwrite, **_nwb_options(to, session_start_time, metadata)}
    if to is Format.PHY:
        options |= {"copy_recording": copy_recording}
    import spikeinterface

    from huidurep import SortingResult

    result = SortingResult.load(result_path)
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    recording = read_recording(recording_path, raw, gain_to_uv, offset_to_uv, probe)
    writers = {
        Format.PHY: result.export_to_phy,
        Format.NWB: result.export_to_nwb,
        Format.ANALYZER: result.to_analyzer,
    }
    jobs = dict(n_jobs=n_jobs, progress_bar=progress and is_watched())
    spikeinterface.set_global_job_kwargs(**jobs)
    with only_results_on_stdout():
        writers[to](recording, output, **options)
    facts = {"output": output, "format": to.value, "num_units": result.sorting.get_num_units()}
    sentence = f"{facts['num_units']} units -> {output}; open it with: {_how_to_open(to, output)}"
    tell_result(sentence, facts, as_json=as_json)


def _nwb_options(to: Format, session_start_time: str | None, metadata: Path | None) -> dict:
    """What only NWB is told."""
    if to is Format.NWB:
        from huidurep.exporters.nwb import read_metadata

        known = None if metadata is None else read_metadata(metadata)
        return {"session_start_time": _parse_start(session_start_time), "metadata": known}
    if session_start_time is not None or metadata is not None:
        raise ValueError(
            f"--session-start-time and --metadata are for --to nwb, found --to {to.value}: leave them out."
        )
    return {}


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
