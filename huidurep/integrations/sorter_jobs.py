"""The sorter "huidurep" in SpikeInterface's `run_sorter_jobs`: workers of every engine register it themselves."""

from __future__ import annotations

from typing import Any

from spikeinterface.sorters import launcher
from spikeinterface.sorters.runsorter import run_sorter

THEIR_IMPORT = "from spikeinterface.sorters import run_sorter\n"
OWN_IMPORT = f"from {__name__} import run_registered as run_sorter\n"


def run_registered(sorter_name: str, *args: Any, **kwargs: Any) -> Any:
    """Run SpikeInterface's `run_sorter`, after registering HuiduRep in this process if that is the sorter.

    A pickled function is the name of its module, which the worker imports: so this one travels to processes that know
    nothing of the one that started them.

    Parameters
    ----------
    sorter_name : str
    *args, **kwargs
        As in `spikeinterface.sorters.run_sorter`.

    Returns
    -------
    BaseSorting, dict of BaseSorting or None
        As there.
    """
    if sorter_name == "huidurep":
        from .. import register

        register()
    return run_sorter(sorter_name, *args, **kwargs)


def reach_workers() -> None:
    """Let `run_sorter_jobs` and `run_sorter_by_property` call :func:`run_registered`, in the scripts for Slurm too.

    SpikeInterface has no other place for this: its launcher names the function that the engines call. Other sorters
    run as before. Calling it twice does nothing.
    """
    launcher.run_sorter = run_registered
    launcher._slurm_script = launcher._slurm_script.replace(THEIR_IMPORT, OWN_IMPORT)
