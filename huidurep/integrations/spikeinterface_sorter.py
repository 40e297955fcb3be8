"""HuiduRep as a sorter of SpikeInterface: `run_sorter("huidurep", recording, folder)` after `huidurep.register()`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import spikeinterface
from spikeinterface.core import BaseRecording, BaseSorting
from spikeinterface.sorters import BaseSorter, sorter_dict, sorter_full_list

from .. import __version__
from ..sorting.job_kwargs import resolve_job_kwargs
from ..sorting.parameters import SortingParameters
from .sorter_jobs import reach_workers

OWN_PARAMETERS = {
    "model": "'auto' (by the probe), the name of an embedded checkpoint, a folder or a Hub repository.",
    "device": "Where the network computes: 'auto' (CUDA or MPS where there is one), 'cpu', 'cuda', 'mps'.",
    "job_kwargs": "n_jobs, chunk_duration and others; missing ones are SpikeInterface's global job_kwargs.",
}
NO_VALUE = "none"  # stands for None, which means that a parameter is not given


def register() -> None:
    """Add the sorter "huidurep" to SpikeInterface's sorters, in this process.

    SpikeInterface has no entry points for sorters, so its list is changed. `run_sorter_jobs` and
    `run_sorter_by_property` reach the workers of all their engines (joblib, processpoolexecutor, dask, slurm): these
    register by themselves. Other processes that are not forked have to call this, as in
    ``ProcessPoolExecutor(initializer=huidurep.register)``. Calling it twice does nothing.
    """
    if sorter_dict.get(HuiduRepSorter.sorter_name) is not HuiduRepSorter:
        # replaces a wrapper of the same name that comes with SpikeInterface
        others = [each for each in sorter_full_list if each.sorter_name != HuiduRepSorter.sorter_name]
        sorter_full_list[:] = [*others, HuiduRepSorter]
        sorter_dict[HuiduRepSorter.sorter_name] = HuiduRepSorter
    reach_workers()


class HuiduRepSorter(BaseSorter):
    """Wrapper of the pipeline for SpikeInterface's `run_sorter`.

    Its parameters are `model`, `device`, `job_kwargs` and the fields of `SortingParameters`. The value None is not
    given: it is that of the checkpoint, else the default of `SortingParameters`. "none" stands for None, as in
    ``matching="none"``.
    """

    sorter_name = "huidurep"
    requires_locations = False
    gpu_capability = "nvidia-optional"
    handle_multi_segment = True
    compatible_with_parallel = {"loky": True, "multiprocessing": True, "threading": True}

    _default_params: dict[str, Any] = {
        "model": "auto",
        **dict.fromkeys(SortingParameters.describe()),
        "seed": 0,
        "device": "auto",
        "job_kwargs": {},
    }
    _params_description = {**SortingParameters.describe(), **OWN_PARAMETERS}
    sorter_description = (
        "HuiduRep (arXiv 2507.17224) embeds every spike with a pretrained transformer encoder and clusters the "
        "embeddings with a Gaussian mixture that estimates the number of units; template matching resolves overlaps."
    )
    installation_mesg = "pip install huidurep"

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the sorter is installed: always, with this package.

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
    def _check_params(cls, recording: BaseRecording, output_folder: Path, params: dict) -> dict:
        SortingParameters(**_given(params))  # both raise before anything is sorted
        resolve_job_kwargs(params["job_kwargs"])
        return params

    @classmethod
    def _check_apply_filter_in_params(cls, params: dict) -> bool:
        return True

    @classmethod
    def _setup_recording(
        cls, recording: BaseRecording, sorter_output_folder: Path, params: dict, verbose: bool
    ) -> None:
        """Do nothing: the recording is not copied."""

    @classmethod
    def _run_from_folder(cls, sorter_output_folder: Path, params: dict, verbose: bool) -> None:
        from ..pipeline import SpikeSortingPipeline  # with torch, which registering does not need

        recording = cls.load_recording_from_folder(sorter_output_folder.parent)
        pipeline = SpikeSortingPipeline.from_pretrained(params["model"], device=params["device"], **_given(params))
        result = pipeline(recording, job_kwargs={"progress_bar": verbose, **(params["job_kwargs"] or {})})
        result.save(sorter_output_folder / "sorting")
        lines = [f"{entry['seconds']:.1f} s {entry['stage']}: {entry['message']}" for entry in result.log]
        log_file = sorter_output_folder / f"{cls.sorter_name}.log"
        log_file.write_text("\n".join(lines) + "\n", encoding="utf8", errors="backslashreplace")

    @classmethod
    def _get_result_from_folder(cls, sorter_output_folder: Path) -> BaseSorting:
        return spikeinterface.load(sorter_output_folder / "sorting")


def _given(params: dict) -> dict[str, Any]:
    """The fields of `SortingParameters` among a sorter's parameters, without those that are not given."""
    given = {name: value for name, value in params.items() if name not in OWN_PARAMETERS and value is not None}
    return {name: None if isinstance(value, str) and value == NO_VALUE else value for name, value in given.items()}
