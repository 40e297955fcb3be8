"""The commands ``huidurep simulate recording | cells``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .inputs import check_output, check_writable
from .options import AsJson, Progress, Seed
from .output import is_terminal, only_results_on_stdout, print_result

simulate_app = typer.Typer(
    help="Simulate recordings with known spikes, or cells for them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@simulate_app.command("recording")
def _recording(
    output: Annotated[Path, typer.Argument(help="Folder to write, new or empty.", metavar="OUTPUT")],
    probe: Annotated[str, typer.Option(help="'tetrode', or 'linear-N' with N contacts in one column.")] = "tetrode",
    num_units: Annotated[int, typer.Option(min=1, help="Number of units.")] = 10,
    duration_s: Annotated[float, typer.Option(help="Duration, s.")] = 60.0,
    noise_uv: Annotated[float, typer.Option(help="Standard deviation of the noise between 300 and 6000 Hz, uV.")] = 8.0,
    drift_um: Annotated[float, typer.Option(help="Peak-to-peak drift along the probe, um.")] = 0.0,
    sampling_frequency: Annotated[float, typer.Option(help="Hz.")] = 30000.0,
    seed: Seed = 0,
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Simulate a recording with known spikes.

    OUTPUT receives the folders recording and sorting, which spikeinterface.load opens, and simulation.json.
    """
    check_output(output)
    settings = dict(probe=probe, num_units=num_units, duration_s=duration_s, noise_uv=noise_uv, drift_um=drift_um)
    settings |= dict(sampling_frequency=sampling_frequency, seed=seed)
    import spikeinterface

    from huidurep import __version__, simulate_recording

    from ..output_files import new_folder

    with only_results_on_stdout(), new_folder(output) as folder:
        recording, sorting = simulate_recording(**settings)
        recording.save(folder=folder / "recording", progress_bar=progress and is_terminal(), n_jobs=1)
        sorting.save(folder=folder / "sorting")
        (folder / "simulation.json").write_text(json.dumps(settings | dict(huidurep=__version__), indent=2) + "\n")
    written = spikeinterface.load(output / "recording")
    truth = spikeinterface.load(output / "sorting")
    facts = {
        "output": output,
        "num_units": len(truth.unit_ids),
        "num_spikes": len(truth.to_spike_vector()),
        "duration_s": written.get_total_duration(),
        "num_channels": written.get_num_channels(),
        **settings,
    }
    text = "{duration_s:.1f} s of {num_channels} channels with {num_units} units -> {output}"
    print_result(text.format(**facts), facts, as_json=as_json)


@simulate_app.command("cells")
def _cells(
    output: Annotated[Path, typer.Argument(help="Folder for the cells; existing cells are kept.", metavar="OUTPUT")],
    python: Annotated[
        str | None, typer.Option(help="Python with MEArec, neuron and LFPy; default: a new environment.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a library of detailed cells with MEArec and NEURON (about 4 minutes; Linux, macOS).

    Needs make, a C++ compiler and, the first time, a package index. The cell models are part of MEArec, and not of
    huidurep, because of their licence, CC BY-NC-SA 4.0, which also covers the simulated cells. An interrupted run is
    continued.
    """
    _check_cell_folder(output)
    check_writable(output)
    from ..simulation.cell_library import load_cells
    from ..simulation.rebuild_cells import LICENCE, rebuild_detailed_cells

    typer.echo(LICENCE, err=True)
    with only_results_on_stdout():
        paths = rebuild_detailed_cells(output, python=python)
        cells = load_cells(output)
    facts = {"output": output, "num_cells": len(cells), "num_asked": len(paths), "license": "CC BY-NC-SA 4.0"}
    text = "{num_cells} of {num_asked} cells, {license} (see LICENSE.txt) -> {output}"
    print_result(text.format(**facts), facts, as_json=as_json)


def _check_cell_folder(output: Path) -> None:
    """Raise FileExistsError for a folder that holds something other than cells."""
    if output.is_dir():
        foreign = [path.name for path in output.iterdir() if path.suffix not in (".npz", ".partial", ".txt")]
        if foreign:
            raise FileExistsError(
                f"expected a new folder or a folder of cells, found {foreign[0]!r} in {output}: choose another OUTPUT."
            )
