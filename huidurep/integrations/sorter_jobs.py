"""The sorter "huidurep" in SpikeInterface's `run_sorter_jobs` and `run_sorter_by_property`.

Workers of every engine register it themselves, and units of several groups name each other by their ids in the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from spikeinterface.core import BaseSorting, aggregate_units
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


def aggregate_renumbered(sortings: list[BaseSorting]) -> BaseSorting:
    """Combine sortings by SpikeInterface's `aggregate_units`, which gives units of HuiduRep new ids.

    Parameters
    ----------
    sortings : list of BaseSorting

    Returns
    -------
    BaseSorting
        Its properties overlapping_unit and quality_reason, where all sortings have them, name units by the new ids.
    """
    combined = aggregate_units(sortings)
    if not all("overlapping_unit" in each.get_property_keys() for each in sortings):
        return combined
    from ..sorting.quality_metrics import label_units

    new_ids, overlapping = iter(combined.unit_ids.tolist()), []
    for each in sortings:
        ids = dict(zip(each.unit_ids.tolist(), new_ids, strict=False)) | {-1: -1}
        overlapping += [ids[unit] for unit in each.get_property("overlapping_unit").tolist()]
    combined.set_property("overlapping_unit", np.array(overlapping, dtype="int64"))
    columns = {name: combined.get_property(name).tolist() for name in combined.get_property_keys()}
    combined.set_property("quality_reason", np.array(label_units(columns)[1], dtype=str))
    return combined


def reach_workers() -> None:
    """Let `run_sorter_jobs` call :func:`run_registered`, in the scripts for Slurm too, and combine groups as above.

    SpikeInterface has no other place for this: its launcher names the functions that are called. Other sorters run as
    before. Calling it twice does nothing.
    """
    launcher.run_sorter = run_registered
    launcher.aggregate_units = aggregate_renumbered
    launcher._slurm_script = launcher._slurm_script.replace(THEIR_IMPORT, OWN_IMPORT)
