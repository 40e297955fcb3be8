"""Simulate spikes of the cell models that MEArec ships; runs in an environment with MEArec, LFPy and NEURON.

This file is a program for another Python than the package's (see `rebuild_cells.py`) and imports nothing of huidurep:

    python neuron_cells.py prepare WORK_FOLDER            copies the models, compiles their mechanisms, names the cells
    python neuron_cells.py simulate WORK_FOLDER CELL.npz  one cell, whose name is that of the file

Each cell needs its own process: the models define NEURON templates and mechanisms of the same names.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODELS = "bbp"
# MEArec's own settings (its templates_params.yaml), written out so that a later MEArec cannot change the cells.
SETTINGS: dict[str, Any] = dict(
    sim_time=1,
    target_spikes=[3, 50],
    cut_out=[2, 5],
    dt=2**-5,
    delay=10,
    weights=[0.25, 1.75],
    seed=0,
)


def prepare(work_folder: Path) -> list[str]:
    """Copy the cell models and compile their mechanisms with nrnivmodl.

    Parameters
    ----------
    work_folder : Path
        Empty.

    Returns
    -------
    list of str
        Names of the cells.

    Raises
    ------
    RuntimeError
        If nrnivmodl fails.
    """
    import MEArec

    models, mods = work_folder / MODELS, work_folder / MODELS / "mods"
    shutil.copytree(Path(MEArec.__file__).parent / "cell_models" / MODELS, models)
    names = sorted(folder.name for folder in models.iterdir() if (folder / "template.hoc").is_file())
    mods.mkdir(exist_ok=True)
    for name in names:
        for mechanism in (models / name / "mechanisms").glob("*.mod"):
            shutil.copyfile(mechanism, mods / mechanism.name)
    # nrnivmodl is beside the interpreter, whether or not its environment is activated.
    programs = Path(sys.executable).parent
    surroundings = os.environ | dict(PATH=os.pathsep.join([str(programs), os.environ.get("PATH", "")]))
    done = subprocess.run(
        [programs / "nrnivmodl"], cwd=mods, env=surroundings, capture_output=True, text=True, check=False
    )
    if done.returncode or not list(mods.rglob("libnrnmech.*")):
        raise RuntimeError("nrnivmodl: " + (done.stderr or done.stdout).strip()[-2000:])
    return names


def simulate(work_folder: Path, path: Path) -> None:
    """Simulate one cell's spikes and store them with its geometry.

    Parameters
    ----------
    work_folder : Path
        As `prepare` left it.
    path : Path
        File ``CELL.npz`` to write: seg (2, num_segments, 3) and diam (num_segments,) in um, imem (num_spikes,
        num_segments, num_samples) in nA, vmem (num_spikes, num_samples) in mV, dt in ms, soma_idx.

    Raises
    ------
    RuntimeError
        If no current gives the wanted number of spikes.
    """
    from MEArec.simulate_cells import run_cell_model

    folder = (work_folder / MODELS / path.stem).resolve()
    try:
        cell, vmem, imem = run_cell_model(folder, save=False, **SETTINGS)
    except SystemExit:  # run_cell_model gives up after ten currents by leaving Python, with exit code 0
        raise RuntimeError(f"no current made {path.stem} fire {SETTINGS['target_spikes']} times a second") from None
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.savez_compressed(
            file,
            seg=np.stack([np.stack([cell.x, cell.y, cell.z], -1)[:, end] for end in (0, 1)]).astype("f4"),
            diam=cell.d.astype("f4"),
            imem=imem.astype("f4"),
            vmem=vmem.astype("f4"),
            dt=SETTINGS["dt"],
            soma_idx=np.atleast_1d(cell.get_idx("soma")),
        )
    partial.replace(path)  # a file with the final name is complete


def main(words: list[str]) -> None:
    """Run one of the two commands; the result is the last line of stdout.

    Parameters
    ----------
    words : list of str
        Command line without the program's name.
    """
    work_folder = Path(words[1]).resolve()
    # MEArec, LFPy and NEURON write to stdout.
    with contextlib.redirect_stdout(sys.stderr):
        answer = None
        if words[0] == "prepare":
            answer = prepare(work_folder)
        else:
            simulate(work_folder, Path(words[2]).resolve())
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
