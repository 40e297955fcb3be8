"""HuiduRep as a sorter of SpikeInterface: `run_sorter("huidurep", recording, folder)` after `huidurep.register()`."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields

import spikeinterface
from spikeinterface.sorters import BaseSorter, sorter_dict, sorter_full_list

from .. import __version__
from ..pipeline import SpikeSortingPipeline
from ..sorting.jobs import use_job_kwargs
from ..sorting.parameters import SortingParameters

OWN_PARAMETERS = {
    "model": "'auto' (by the probe), the name of an embedded checkpoint, a folder or a Hub repository.",
    "job_kwargs": "n_jobs, chunk_duration and the like; what is missing is SpikeInterface's global setting.",
}
NO_VALUE = "none"  # for those whose value may be None: None itself is what was not given


def register() -> None:
    """Make SpikeInterface know the sorter "huidurep" in this process.

    SpikeInterface has no entry points for sorters: a list is appended to. Worker processes that are forked know
    it, too. Those that start afresh (spawn, loky, dask, Slurm) have to call this themselves, as in
    ``ProcessPoolExecutor(initializer=huidurep.register)`` or ``client.run(huidurep.register)``. Calling it twice does
    nothing.
    """
    if sorter_dict.get(HuiduRepSorter.sorter_name) is not HuiduRepSorter:
        # one of that name that came with SpikeInterface gives way
        others = [each for each in sorter_full_list if each.sorter_name != HuiduRepSorter.sorter_name]
        sorter_full_list[:] = [*others, HuiduRepSorter]
        sorter_dict[HuiduRepSorter.sorter_name] = HuiduRepSorter


def _describe_parameters() -> dict[str, str]:
    """What each field of SortingParameters means, from its docstring."""
    section = inspect.getdoc(SortingParameters).split("Raises\n------")[0]
    described = re.findall(r"^(\w+(?:, \w+)*) : .*\n((?:    .*\n?)+)", section, flags=re.MULTILINE)
    texts = {name: " ".join(text.split()) for names, text in described for name in names.split(", ")}
    return {field.name: texts[field.name] for field in fields(SortingParameters)}


class HuiduRepSorter(BaseSorter):
    """The pipeline in the form that SpikeInterface's `run_sorter` asks of a sorter.

    Its parameters are `model`, `job_kwargs` and the fields of `SortingParameters`. One that is None takes the value
    that ships with the checkpoint, else the default of `SortingParameters`; "none" stands for None itself, as in
    ``matching="none"``.
    """

    sorter_name = "huidurep"
    requires_locations = False
    gpu_capability = "not-supported"
    handle_multi_segment = True
    compatible_with_parallel = {"loky": True, "multiprocessing": True, "threading": True}

    _default_params = {"model": "auto", **dict.fromkeys(_describe_parameters()), "seed": 0, "job_kwargs": {}}
    _params_description = {**_describe_parameters(), **OWN_PARAMETERS}
    sorter_description = (
        "HuiduRep (arXiv 2507.17224) embeds every spike with a pretrained transformer encoder and clusters the "
        "embeddings with a Gaussian mixture whose number of units is found; template matching resolves overlaps."
    )
    installation_mesg = "pip install huidurep"

    @classmethod
    def is_installed(cls) -> bool:
        """Whoever can ask has it.

        Returns
        -------
        bool
        """
        return True

    @classmethod
    def get_sorter_version(cls) -> str:
        """Version of the package.

        Returns
        -------
        str
        """
        return __version__

    @classmethod
    def _check_params(cls, recording, output_folder, params):
        SortingParameters(**_given(params))  # raises before anything is sorted
        return params

    @classmethod
    def _check_apply_filter_in_params(cls, params):
        return True

    @classmethod
    def _setup_recording(cls, recording, sorter_output_folder, params, verbose):
        """Nothing is copied: the recording is read where it lies."""

    @classmethod
    def _run_from_folder(cls, sorter_output_folder, params, verbose):
        recording = cls.load_recording_from_folder(sorter_output_folder.parent)
        with use_job_kwargs({"progress_bar": verbose, **params["job_kwargs"]}):
            result = SpikeSortingPipeline.from_pretrained(params["model"], **_given(params))(recording)
        result.save(sorter_output_folder / "sorting")
        lines = [f"{entry['seconds']:.1f} s {entry['stage']}: {entry['message']}" for entry in result.log]
        (sorter_output_folder / f"{cls.sorter_name}.log").write_text("\n".join(lines) + "\n", encoding="utf8")

    @classmethod
    def _get_result_from_folder(cls, sorter_output_folder):
        return spikeinterface.load(sorter_output_folder / "sorting")


def _given(params: dict) -> dict:
    """The fields of SortingParameters among a sorter's parameters that were given."""
    given = {name: value for name, value in params.items() if name not in OWN_PARAMETERS and value is not None}
    return {name: None if value == NO_VALUE else value for name, value in given.items()}
