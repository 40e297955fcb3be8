"""The result of a sorting: save, load, plot, report, export."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting
from spikeinterface.core.sortingfolder import NumpyFolderSorting

from .hub.json_files import read_json_object
from .output_files import INFO_FILE, RESULT_FORMAT, new_folder
from .sorting.aggregation import ARTIFACT_DTYPE
from .sorting.parameters import SortingParameters
from .sorting.postprocessing import UnitMeasurements, make_sorting
from .sorting.quality_metrics import explain_unit
from .sorting.recorded_times import RecordedTimes, TimedSorting, has_times
from .sorting.stored_arrays import (
    check_parts,
    check_units,
    read_artifacts,
    read_embeddings,
    read_measurements,
    read_posteriors,
    read_units,
    without_objects,
    write_embeddings,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from spikeinterface.core import SortingAnalyzer

FORMAT_VERSION = 1
MEASUREMENTS_FILE = "measures.npz"
SORTING_FOLDER = "sorting"
UNITS_FILE = "numpysorting_info.json"  # of SpikeInterface, in this folder
TIMES_FILE = "times.npz"  # only of recordings that begin at another time than 0 or have a time vector
ARTIFACTS_FILE = "artifact_periods.npy"
# names of the same quantities in folders of earlier versions
OLD_PROPERTIES = {
    "refractory_violations": "short_isi_fraction",
    "isolation": "mean_posterior",
    "presence": "presence_ratio",
}
OLD_RECORDING_FACTS = ("num_channels", "sampling_frequency", "num_samples")


@dataclass
class SortingResult:
    """The units of a recording with an embedding and a posterior for every spike.

    Attributes
    ----------
    sorting : BaseSorting
        Units with the properties main_channel_id (of the raw recording), group, snr, peak_uv, peak_sign, num_spikes;
        short_isi_fraction, isi_violations_ratio, contamination, contamination_p_value, mean_posterior and
        presence_ratio, as `huidurep.sorting.quality_metrics.compute_quality_metrics` defines them; amplitude_cutoff;
        neighbour_share, template_distance and overlapping_unit (`huidurep.sorting.unit_overlap`); and the label
        quality with its quality_reason (`huidurep.sorting.quality_metrics.label_units`). Results of earlier versions
        have fewer, and labels by an earlier rule.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
        One row per spike, in the order of `sorting.to_spike_vector()`.
    posteriors : ndarray of float32, (num_spikes,)
        Posterior probability of the spike's unit given its embedding; low for spikes that overlap with others.
    parameters : SortingParameters
    model_name, model_revision : str | None
        Checkpoint of the encoder, and the commit of a Hub repository.
    log : list of dict
        Entries with stage, seconds and message; is_warning where the user should look at it.
    measurements : UnitMeasurements | None
        Templates of the units, amplitude and location of every spike; None without units, and in early versions.
    provenance : dict
        Recording, platform and versions, as `huidurep.provenance.describe_run` returns them; less in earlier versions.
    artifact_periods : ndarray, (num_periods,)
        Fields segment_index, start_s and end_s, as the recording counts times: stimulation artefacts, jumps of the
        offset and blanks, which at least one channel group left out. Empty for results of earlier versions.
    """

    sorting: BaseSorting
    embeddings: np.ndarray
    posteriors: np.ndarray
    parameters: SortingParameters
    model_name: str | None = None
    model_revision: str | None = None
    log: list[dict] = field(default_factory=list)
    measurements: UnitMeasurements | None = None
    provenance: dict = field(default_factory=dict)
    artifact_periods: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=ARTIFACT_DTYPE))

    def __getstate__(self) -> dict:
        """The units as arrays: SpikeInterface pickles neither times nor segments after the last spike."""
        sorting, times = self.sorting, BytesIO()
        units = sorting.to_spike_vector(), sorting.get_sampling_frequency(), sorting.unit_ids
        properties = {name: sorting.get_property(name) for name in sorting.get_property_keys()}
        if has_times(sorting):
            RecordedTimes.of(sorting).save(times)
        return {**self.__dict__, "sorting": ((*units, sorting.get_num_segments()), properties, times.getvalue())}

    def __setstate__(self, state: dict) -> None:
        units, properties, times = state["sorting"]
        sorting = make_sorting(*units)
        for name, values in properties.items():
            sorting.set_property(name, values)
        if times:
            sorting.register_recording(RecordedTimes.load(BytesIO(times), sorting.get_sampling_frequency()))
        self.__dict__.update(state, sorting=sorting)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder, which may be moved; `spikeinterface.load(folder)` opens the units.

        Start times and time vectors of the recording are kept. Where there are any, SpikeInterface needs this package
        to open the folder.

        Parameters
        ----------
        folder : str or Path
            Created with its parents.
        overwrite : bool
            Replace the files of an earlier result; other files in the folder are kept. A folder without an earlier
            result is refused.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            The folder is not empty.
        OSError
            The folder cannot be written, or the disk is full; nothing is left of the incomplete result.
        """
        with new_folder(folder, overwrite=overwrite, mark=INFO_FILE) as partial:
            self._write(partial)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> SortingResult:
        """Read a folder that `save` wrote.

        Parameters
        ----------
        folder : str or Path
            The folder; of an earlier version, its unit properties get today's names.

        Returns
        -------
        SortingResult

        Raises
        ------
        FileNotFoundError
            The folder does not exist, or is not a result.
        ValueError
            A newer format, or files that do not belong together.
        """
        folder = Path(folder)
        info = _read_info(folder)
        units = read_json_object(folder / SORTING_FOLDER / UNITS_FILE, "copy the folder again or sort again")
        sorting = read_units(folder / SORTING_FOLDER, units)
        if (folder / TIMES_FILE).is_file():
            _register_times(sorting, folder / TIMES_FILE)
        _rename_old_properties(sorting)
        num_spikes, num_units = len(sorting.to_spike_vector()), sorting.get_num_units()
        embeddings = read_embeddings(folder / "embeddings.npy", num_spikes)
        posteriors = read_posteriors(folder / "posteriors.npy", num_spikes)
        measurements = read_measurements(folder / MEASUREMENTS_FILE, num_spikes, num_units)
        provenance = _upgrade_provenance(info.get("provenance", {}))
        check_units(sorting, folder / SORTING_FOLDER, provenance.get("recording", {}).get("num_samples"), measurements)
        return cls(
            sorting,
            embeddings,
            posteriors,
            info["parameters"],
            info.get("model_name"),
            info.get("model_revision"),
            info["log"],
            measurements,
            provenance,
            read_artifacts(folder / ARTIFACTS_FILE),
        )

    def _write(self, folder: Path) -> None:
        """Write all files to an empty folder."""
        check_parts(self)
        with warnings.catch_warnings():  # where SpikeInterface's sorting came from is in our own provenance
            warnings.filterwarnings("ignore", message="The extractor is not serializable")
            saved: BaseSorting = NumpyFolderSorting.write_sorting(self.sorting, folder / SORTING_FOLDER)
        for name in self.sorting.get_property_keys():  # SpikeInterface pickles objects, which loading refuses
            np.save(folder / SORTING_FOLDER / "properties" / name, without_objects(self.sorting.get_property(name)))
        if has_times(self.sorting):
            RecordedTimes.of(self.sorting).save(folder / TIMES_FILE)
            saved = TimedSorting(folder / SORTING_FOLDER, folder / TIMES_FILE)
        # with this file, whose path to sorting/ is relative, SpikeInterface opens the top folder too
        saved.dump_to_json(folder / "si_folder.json", relative_to=folder, include_annotations=False)
        write_embeddings(folder / "embeddings.npy", self.embeddings)
        np.save(folder / "posteriors.npy", self.posteriors)
        if self.measurements is not None:
            self.measurements.save(folder / MEASUREMENTS_FILE)
        np.save(folder / ARTIFACTS_FILE, self.artifact_periods)
        info = {
            "format": RESULT_FORMAT,
            "format_version": FORMAT_VERSION,
            "model_name": self.model_name,
            "model_revision": self.model_revision,
            "parameters": self.parameters.to_dict(),
            "log": self.log,
            "provenance": self.provenance,
        }
        (folder / INFO_FILE).write_text(json.dumps(info, indent=2), encoding="utf8")

    def plot(self, figure: str, **options: Any) -> Figure:
        """Draw a figure for a paper: ``result.plot("clusters", units=[3]).savefig("unit_3.pdf")``.

        Parameters
        ----------
        figure : {"amplitudes", "autocorrelograms", "clusters", "embedding", "intervals", "raster", "templates", "unit"}
            "clusters": peaks on pairs of contacts, and a map of the embeddings; "intervals": between spikes of a unit.
        **options
            units (ids; not for "embedding"), recording (that was sorted; for what results of earlier versions lack),
            segment_index ("amplitudes", "raster") and seed ("clusters", "embedding").

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            No such figure or unit, or measurements are missing and no recording is given.
        """
        from .report.plots import plot

        return plot(self, figure, **options)

    def explain(self, unit_id: object) -> str:
        """Say in words why a unit is good or not.

        Parameters
        ----------
        unit_id : int or str

        Returns
        -------
        str
            Its label, then a line for each test: passed, failed or not tested, the value and the limit.

        Raises
        ------
        ValueError
            No such unit.
        """
        return explain_unit(self.sorting, unit_id)

    def plot_templates(self, recording: BaseRecording | None = None) -> Figure:
        """Plot the mean waveform of every unit at the contacts of the probe.

        Parameters
        ----------
        recording : BaseRecording, optional
            That was sorted; only needed for results of versions that did not keep templates.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            Neither templates nor a recording, or another recording.
        """
        return self.plot("templates", recording=recording)

    def plot_raster(self, *, segment_index: int = 0) -> Figure:
        """Plot the spike times of every unit.

        Parameters
        ----------
        segment_index : int

        Returns
        -------
        matplotlib.figure.Figure
        """
        return self.plot("raster", segment_index=segment_index)

    def plot_embedding(self, *, seed: int = 0) -> Figure:
        """Plot the first two principal components of the embeddings.

        Parameters
        ----------
        seed : int
            Selects the spikes that are shown where there are more than 20000.

        Returns
        -------
        matplotlib.figure.Figure
        """
        return self.plot("embedding", seed=seed)

    def plot_autocorrelograms(self) -> Figure:
        """Plot the autocorrelogram of every unit, with SpikeInterface's widget.

        Returns
        -------
        matplotlib.figure.Figure
        """
        return self.plot("autocorrelograms")

    def plot_amplitudes(self, recording: BaseRecording | None = None, *, segment_index: int = 0) -> Figure:
        """Plot the spike amplitudes of every unit over time.

        Parameters
        ----------
        recording : BaseRecording, optional
            The recording that was sorted; only needed for results of versions that did not keep amplitudes.
        segment_index : int

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            Neither amplitudes nor a recording, or another recording.
        """
        return self.plot("amplitudes", recording=recording, segment_index=segment_index)

    def write_report(
        self, path: str | Path, *, recording: BaseRecording | None = None, overwrite: bool = False
    ) -> Path:
        """Write the report: one HTML file that needs no other file and no network.

        Parameters
        ----------
        path : str or Path
            File to write.
        recording : BaseRecording, optional
            The recording that was sorted; only needed for results of versions that did not keep templates. Without it
            the page says what is missing.
        overwrite : bool
            Replace an earlier file.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        FileExistsError
            The file exists.
        ImportError
            jinja2 is not installed.
        ValueError
            Another recording than the one that was sorted.
        """
        from .report.page import write_page

        return write_page(self, path, recording=recording, overwrite=overwrite)

    def with_sorting(self, curated: Any, recording: BaseRecording | None = None) -> SortingResult:
        """Make a result of what phy, SpikeInterface or a person made of these units.

        Parameters
        ----------
        curated : BaseSorting, SortingAnalyzer, dict, list, Curation, SequentialCuration, str or Path
            A sorting of the same recording, a curation of SpikeInterface, or a phy folder.
        recording : BaseRecording, optional
            The recording that was sorted. Needed for spikes that are not in this result and for parts of units.

        Returns
        -------
        SortingResult
            docs/howto/after_curation.md says what is kept and what is computed again.

        Raises
        ------
        FileNotFoundError, OSError, TypeError, ValueError
            Not a sorting of this recording, or one that needs the recording or the checkpoint, which are missing.
        """
        from .exporters.curated_result import apply_curated
        from .models.stored_encoder import StoredEncoder

        return apply_curated(self, curated, recording, StoredEncoder(self.model_name, self.model_revision))

    def to_analyzer(
        self,
        recording: BaseRecording,
        folder: str | Path | None = None,
        *,
        extensions: Sequence[str] | None = None,
        overwrite: bool = False,
        job_kwargs: dict | None = None,
    ) -> SortingAnalyzer:
        """Create a SortingAnalyzer, for spikeinterface-gui and SpikeInterface's metrics and widgets.

        Parameters
        ----------
        recording : BaseRecording
            The raw recording that was sorted.
        folder : str or Path, optional
            Folder to write, with this result in its subfolder "huidurep"; None: in memory.
        extensions : sequence of str, optional
            SpikeInterface's extensions to compute. Default: waveforms, templates, noise levels, amplitudes, locations,
            correlograms, similarity, quality metrics.
        overwrite : bool
            Replace an earlier analyzer.
        job_kwargs : dict, optional
            SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

        Returns
        -------
        SortingAnalyzer
            Sparse, with the preprocessed traces; rows of `embeddings` and `posteriors` are those of its spike vector.

        Raises
        ------
        FileExistsError
            The folder is not empty.
        TypeError, ValueError
            Another recording than the one that was sorted, no units, or an unknown extension.
        """
        from .exporters.analyzer import build_analyzer

        return build_analyzer(
            self, recording, folder, extensions=extensions, overwrite=overwrite, job_kwargs=job_kwargs
        )

    def export_to_phy(
        self,
        recording: BaseRecording,
        folder: str | Path,
        *,
        copy_recording: bool = True,
        overwrite: bool = False,
        job_kwargs: dict | None = None,
    ) -> Path:
        """Write a folder that phy opens with ``phy template-gui params.py``; it may be moved.

        Parameters
        ----------
        recording : BaseRecording
            The raw recording that was sorted; one segment.
        folder : str or Path
            Folder to write.
        copy_recording : bool
            Write the preprocessed traces too (float32, 4 bytes per sample and channel), which phy's waveform and trace
            views need.
        overwrite : bool
            Replace an earlier export.
        job_kwargs : dict, optional
            SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            The folder is not empty.
        TypeError, ValueError
            Another recording than the one that was sorted, several segments, or no units.
        """
        from .exporters.phy import export_to_phy

        return export_to_phy(
            self, recording, folder, copy_recording=copy_recording, overwrite=overwrite, job_kwargs=job_kwargs
        )

    def export_to_nwb(
        self,
        recording: BaseRecording,
        path: str | Path,
        *,
        session_start_time: datetime,
        metadata: dict | None = None,
        overwrite: bool = False,
        job_kwargs: dict | None = None,
    ) -> Path:
        """Write the units to an NWB file, without traces. Needs ``pip install huidurep[nwb]``.

        Parameters
        ----------
        recording : BaseRecording
            The raw recording that was sorted.
        path : str or Path
            File to write, ending in .nwb.
        session_start_time : datetime
            Start of the recording with its time zone.
        metadata : dict, optional
            In neuroconv's form, such as {"NWBFile": {"experimenter": [...]}, "Subject": {...}}.
        overwrite : bool
            Replace an earlier conversion; refused for other files, which may be the raw data.
        job_kwargs : dict, optional
            SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        FileExistsError
            The file exists, or is no earlier conversion.
        ImportError
            neuroconv is not installed.
        TypeError, ValueError
            Another recording than the one that was sorted, no units, no time zone, or segments without start times.
        """
        from .exporters.nwb import export_to_nwb

        return export_to_nwb(
            self,
            recording,
            path,
            session_start_time=session_start_time,
            metadata=metadata,
            overwrite=overwrite,
            job_kwargs=job_kwargs,
        )


def _read_info(folder: Path) -> dict:
    """Read and check the file that makes a folder a result."""
    if not (folder / INFO_FILE).is_file():
        raise FileNotFoundError(
            f"expected a folder with {INFO_FILE} as SortingResult.save writes it, found none at {folder}; "
            "give the OUTPUT folder itself"
        )
    path, remedy = folder / INFO_FILE, "copy the folder again or sort again"
    info = read_json_object(path, remedy)
    number = info.get("format_version", 0)
    if info.get("format") != RESULT_FORMAT or not isinstance(number, int) or number > FORMAT_VERSION:
        raise ValueError(
            f"expected {RESULT_FORMAT} up to version {FORMAT_VERSION}, found {info.get('format')!r} {number!r} in "
            f"{path}; update huidurep"
        )
    kinds = dict(model_name=str | None, model_revision=str | None, parameters=dict, log=list, provenance=dict)
    for name, kind in kinds.items():
        if not isinstance(info.get(name, {} if name == "provenance" else None), kind):
            raise ValueError(f"expected {name!r} in {path}, found none or another value; {remedy}")
    if not isinstance(info.get("provenance", {}).get("recording", {}), dict):
        raise ValueError(f"expected names and values of the recording in {path}, found others; {remedy}")
    if not all(isinstance(entry, dict) for entry in info["log"]):
        raise ValueError(f"expected a log of names and values in {path}, found other entries; {remedy}")
    try:
        info["parameters"] = SortingParameters.from_dict(info["parameters"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected the fields of SortingParameters in {path}, found others ({error}); update huidurep, or {remedy}"
        ) from error
    return info


def _register_times(sorting: BaseSorting, path: Path) -> None:
    times = RecordedTimes.load(path, sorting.get_sampling_frequency())
    if times.get_num_segments() != sorting.get_num_segments():
        raise ValueError(
            f"expected the times of {sorting.get_num_segments()} segments, found {times.get_num_segments()} in {path}; "
            "copy the folder again, or remove this file to count times from the start of the recording"
        )
    sorting.register_recording(times)


def _rename_old_properties(sorting: BaseSorting) -> None:
    for old, new in OLD_PROPERTIES.items():
        if old in sorting.get_property_keys():
            sorting.set_property(new, sorting.get_property(old))
            sorting.delete_property(old)


def _upgrade_provenance(provenance: dict) -> dict:
    """Move what earlier versions knew of the recording to where it is now."""
    known = {name: provenance[name] for name in OLD_RECORDING_FACTS if name in provenance}
    others = {name: value for name, value in provenance.items() if name not in known}
    return {**others, "recording": known} if known else others
