"""Simulate the detailed cells on the user's machine, with MEArec and NEURON in an environment of their own.

The cell models are in MEArec's wheel and may not be shipped with this package: their licence is CC BY-NC-SA 4.0.
`neuron_cells.py` runs in that environment, once for each cell.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("neuron_cells.py")
# setuptools: NEURON's nrnivmodl imports parts of it that later versions may not have.
REQUIREMENTS = ("MEArec==1.11.0", "neuron==8.2.7", "LFPy==2.3", "numpy<2", "setuptools<81")
# numpy<2 has no wheels for later ones.
PYTHONS = ((3, 9), (3, 12))
LICENCE = """\
The files in this folder are spikes of neuron models of the Blue Brain Project's neocortical microcircuit portal
(Markram et al. 2015, https://doi.org/10.1016/j.cell.2015.09.029), as MEArec 1.11.0 ships them (Buccino & Einevoll
2020, https://doi.org/10.1007/s12021-020-09467-7), simulated with NEURON 8.2.7 and LFPy 2.3.

Licence of the models, and so of these files: Creative Commons Attribution-NonCommercial-ShareAlike 4.0
(CC BY-NC-SA 4.0), https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode
Not for commercial use; what is made of them is shared under the same licence, with these sources named.
Say so, too, in the card of a model that was trained on them.
"""


def rebuild_detailed_cells(
    folder: str | Path, *, python: str | Path | None = None, cache_folder: str | Path | None = None
) -> list[Path]:
    """Simulate the spikes of every cell model that MEArec ships, one file ``CELL.npz`` for each cell.

    Existing files are kept, so that an interrupted run can be continued.

    Parameters
    ----------
    folder : str or Path
        Folder of the files and LICENSE.txt; `load_cells` reads it.
    python : str or Path, optional
        Python of an environment that has MEArec, neuron and LFPy. Default: one is made with pip below `cache_folder`.
    cache_folder : str or Path, optional
        Default ``$XDG_CACHE_HOME/huidurep`` or ``~/.cache/huidurep``.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FileNotFoundError
        If a compiler or a suitable Python is missing.
    ValueError
        If the given Python's environment lacks a package.
    RuntimeError
        If pip or a simulation fails.
    """
    folder = Path(folder).absolute()
    _check_compiler()
    if python is None:
        python = _make_environment(Path(cache_folder) if cache_folder else _default_cache())
    else:
        python = _check_environment(python)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "LICENSE.txt").write_text(LICENCE, encoding="utf8")
    with tempfile.TemporaryDirectory() as work:
        logger.info("compiling the mechanisms of the cell models")
        paths = [folder / f"{name}.npz" for name in _answer_of(python, "prepare", work)]
        for number, path in enumerate(paths, 1):
            is_there = path.is_file()
            logger.info(
                "cell %d of %d, %s: %s", number, len(paths), path.stem, "there already" if is_there else "simulating"
            )
            if not is_there:
                _answer_of(python, "simulate", work, path)
    return paths


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huidurep"


def _check_compiler() -> None:
    """NEURON compiles the models' mechanisms with make and a C++ compiler."""
    compilers = [os.environ.get("CXX", "").split(" ")[0] or "g++", "c++", "clang++"]
    missing = [] if shutil.which("make") else ["make"]
    missing += [] if any(shutil.which(name) for name in compilers) else ["C++ compiler"]
    if missing:
        raise FileNotFoundError(
            f"expected make and a C++ compiler, which NEURON needs, found no {' and no '.join(missing)}: install them "
            "(Debian, Ubuntu: build-essential; macOS: xcode-select --install)."
        )


def _run(words: Sequence[object], remedy: str) -> str:
    """Run a program; if it fails, the error has its last lines and the remedy."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise RuntimeError(f"`{words[0]} {words[1]} {words[2]}` failed: {' '.join(errors[-2:])}; {remedy}.")
    return done.stdout


def _answer_of(python: str | Path, command: str, *paths: str | Path) -> Any:
    remedy = f"see whether `{python} {SCRIPT} {command} ...` says more"
    output = _run([python, SCRIPT, command, *paths], remedy)
    return json.loads(output.splitlines()[-1])


def _check_environment(python: str | Path) -> str:
    """Path of the given Python, if it can import the packages of the simulation."""
    found = shutil.which(str(python))
    if found is None:
        raise FileNotFoundError(f"expected a Python program, found none at {python}: correct --python.")
    code = "import LFPy, MEArec, neuron; print(); print(MEArec.__version__, neuron.__version__)"
    done = subprocess.run([found, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        needed = " ".join(f"'{each}'" for each in REQUIREMENTS)
        reason = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ValueError(
            f"expected MEArec, LFPy and neuron in {found}, found {reason}: `{found} -m pip install {needed}`."
        )
    if (versions := done.stdout.split()[-2:]) != ["1.11.0", "8.2.7"]:
        logger.warning("expected MEArec 1.11.0 and neuron 8.2.7, found %s and %s in %s", *versions, found)
    return found


def _base_python() -> str:
    """A Python for which the requirements have wheels."""
    low, high = PYTHONS
    if low <= sys.version_info[:2] <= high:
        return sys.executable
    for minor in range(high[1], low[1] - 1, -1):
        if found := shutil.which(f"python{high[0]}.{minor}"):
            return found
    raise FileNotFoundError(
        f"expected a Python from {low[0]}.{low[1]} to {high[0]}.{high[1]}, for which numpy<2 and neuron have wheels, "
        f"found {sys.version_info[0]}.{sys.version_info[1]} and no other: install one, or name with --python one of "
        f"an environment that has {', '.join(REQUIREMENTS)}."
    )


def _make_environment(cache: Path) -> Path:
    """Python of an environment with the requirements; it is made by the first run."""
    environment = cache / "mearec-1.11.0"
    python, stamp = environment / "bin" / "python", environment / "installed"
    if stamp.is_file() and python.exists():
        return python
    logger.info("making an environment with %s in %s", ", ".join(REQUIREMENTS), environment)
    shutil.rmtree(environment, ignore_errors=True)
    environment.parent.mkdir(parents=True, exist_ok=True)
    _run(
        [_base_python(), "-m", "venv", environment],
        "install the module venv (Debian, Ubuntu: python3-venv) or pass --python",
    )
    _run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
        "connect to a package index, or install these elsewhere and pass --python",
    )
    stamp.touch()
    return python
