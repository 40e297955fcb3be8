"""The command ``huidurep track``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .inputs import check_output, load_result, read_recording
from .options import AsJson, AutoModel, RecordingOptions, with_recording_options
from .output import only_results_on_stdout, print_result

PAGE = "tracks.html"


@with_recording_options
def track(
    results: Annotated[
        list[Path], typer.Argument(metavar="OUT1 OUT2 ...", help="OUTPUT folders of huidurep sort, in order of time.")
    ],
    output: Annotated[Path, typer.Option(metavar="TRACKS", help="Folder to write, new or empty.")],
    recording_options: RecordingOptions,
    recording: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="INPUT", help="Once for each: OUT1, OUT2, ... are phy folders of these, or curated results."
        ),
    ] = None,
    curated: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Once for each: its units after curation, as of huidurep report; OUT1 itself if there was none.",
        ),
    ] = None,
    model: AutoModel = "auto",
    use_isi: Annotated[bool, typer.Option("--use-isi", help="Also compare inter-spike intervals.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier tracks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the same neurons in sortings of several sessions of one probe.

    TRACKS receives neurons.csv (which unit of which session is which neuron), pairs.csv (probability of each pair) and
    tracks.html. The folders OUT1, OUT2, ... are not changed.
    """
    from ..tracking.unit_tracks import INFO_FILE

    check_output(output, overwrite=overwrite, mark=INFO_FILE)
    from huidurep import track as track_units

    sources = _open_sessions(results, recording or [], curated or [], recording_options)
    with only_results_on_stdout():
        tracks = track_units(sources, model=model, use_isi=use_isi)
        tracks.save(output, overwrite=overwrite)
        tracks.write_report(output / PAGE, overwrite=overwrite)
    counts = tracks.neurons.groupby("neuron")["session"].nunique()
    facts = {
        "output": output,
        "num_sessions": len(results),
        "num_units": len(tracks.neurons),
        "num_neurons": len(counts),
        "num_in_several": int((counts > 1).sum()),
        "num_in_all": int((counts == len(results)).sum()),
        "displacement_um": tracks.displacement_um,
    }
    text = (
        "{num_units} units of {num_sessions} sessions are {num_neurons} neurons, {num_in_several} of them in several "
        "sessions and {num_in_all} in all -> {output}"
    )
    print_result(text.format(**facts), facts, as_json=as_json)


def _open_sessions(
    results: list[Path], recordings: list[Path], curated: list[Path], recording_options: RecordingOptions
) -> list:
    """What `huidurep.track` reads of each session."""
    for name, given in (("--recording", recordings), ("--curated", curated)):
        if given and len(given) != len(results):
            raise ValueError(
                f"expected {name} once for each of {len(results)} results, found {len(given)}: add it for the others."
            )
    if not recordings and recording_options != RecordingOptions():
        raise ValueError("expected --recording with the options of a recording, found none: add it or omit them.")
    opened = [read_recording(path, recording_options) for path in recordings]
    if curated:
        sessions = zip(results, curated, opened or [None] * len(results), strict=True)
        return [load_result(path, curated=own, recording=source) for path, own, source in sessions]
    return list(zip(results, opened, strict=True)) if opened else list(results)
