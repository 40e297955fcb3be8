"""The result of a sorting: put together from its groups, saved, and read again."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import spikeinterface
from spikeinterface.core import BaseSorting
from spikeinterface.core.base import minimum_spike_dtype

from .confidence import unit_confidence
from .measures import Measures, join_measures, main_channels, make_sorting, measure_units
from .merging import GroupUnits
from .outputs import ResultOutputs
from .parameters import SortingParameters
from .pictures import Pictures
from .preprocessing import PreparedGroup
from .waveforms import mean_waveforms, to_spike_vector

FORMAT = "huidurep-sorting"
FORMAT_VERSION = 1
INFO_FILE = "huidurep.json"
MEASURES_FILE = "measures.npz"


@dataclass(frozen=True)
class GroupSorting:
    """The units of one channel group.

    Attributes
    ----------
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector; segments of the original recording, units counted from 0.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    posteriors : ndarray of float32, (num_spikes,)
    properties : dict of str to list
        One value a unit.
    measures : Measures | None
        None where there are no units.
    """

    spike_vector: np.ndarray
    embeddings: np.ndarray
    posteriors: np.ndarray
    properties: dict
    measures: Measures | None = None


@dataclass
class SortingResult(Pictures, ResultOutputs):
    """What a sorting gives.

    Attributes
    ----------
    sorting : BaseSorting
        Units with the properties main_channel_id (of the recording that was given), group, snr, peak_uv, num_spikes,
        and refractory_violations, isolation, presence and quality as `unit_confidence` has them.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
        One row a spike, in the order of `sorting.to_spike_vector()`.
    posteriors : ndarray of float32, (num_spikes,)
        Probability of the spike's unit, given its embedding; low for a spike that overlaps with another.
    parameters : SortingParameters
    model_name, model_revision : str | None
    log : list of dict
        stage, seconds, message; is_warning where the user should look at it.
    measures : Measures | None
        Templates, and size and place of every spike; None for results of versions that did not measure them.
    provenance : dict
        What was sorted, when and by which versions, as `describe_run` has it; empty for results of earlier versions.
    """

    sorting: BaseSorting
    embeddings: np.ndarray
    posteriors: np.ndarray
    parameters: SortingParameters
    model_name: str | None = None
    model_revision: str | None = None
    log: list = field(default_factory=list)
    measures: Measures | None = None
    provenance: dict = field(default_factory=dict)

    def save(self, folder, *, overwrite: bool = False) -> Path:
        """Write everything into one folder, which may be moved; `spikeinterface.load(folder)` gives the sorting.

        Parameters
        ----------
        folder : str or Path
            Made if it does not exist.
        overwrite : bool
            Replace an earlier result of this package. Other files are never removed.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            The folder is not empty.
        """
        folder = Path(folder)
        check_output_folder(folder, overwrite=overwrite)
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        # what is interrupted leaves no half result behind, and an earlier result as it was
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
        new, old = work / "new", work / "old"
        try:
            new.mkdir()
            self._write(new)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(work, ignore_errors=True)
        return folder

    def _write(self, folder: Path) -> None:
        """Write all files into a new folder."""
        with warnings.catch_warnings():  # that the recording is not saved with its sorting needs no warning
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            saved = self.sorting.save(folder=folder / "sorting", format="numpy_folder")
        # the top folder opens too: SpikeInterface reads this file, whose path to sorting/ is relative
        saved.dump_to_json(folder / "si_folder.json", relative_to=folder, include_annotations=False)
        np.save(folder / "embeddings.npy", self.embeddings)
        np.save(folder / "posteriors.npy", self.posteriors)
        if self.measures is not None:
            self.measures.save(folder / MEASURES_FILE)
        info = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model_name": self.model_name,
            "model_revision": self.model_revision,
            "parameters": self.parameters.to_dict(),
            "log": self.log,
            "provenance": self.provenance,
        }
        (folder / INFO_FILE).write_text(json.dumps(info, indent=2), encoding="utf8")

    @classmethod
    def load(cls, folder) -> SortingResult:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : str or Path
            Wherever it is now.

        Returns
        -------
        SortingResult

        Raises
        ------
        FileNotFoundError
            Not such a folder.
        ValueError
            Files that do not belong together.
        """
        folder = Path(folder)
        if not (folder / INFO_FILE).is_file():
            raise FileNotFoundError(
                f"expected a folder with {INFO_FILE} as SortingResult.save writes it, found none at {folder}; "
                "give the OUTPUT folder itself"
            )
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf8"))
        if info.get("format") != FORMAT or info.get("format_version", 0) > FORMAT_VERSION:
            raise ValueError(
                f"expected {FORMAT} up to version {FORMAT_VERSION}, found {info.get('format')} "
                f"{info.get('format_version')} in {folder}; update huidurep"
            )
        sorting = spikeinterface.load(folder)
        embeddings, posteriors = np.load(folder / "embeddings.npy"), np.load(folder / "posteriors.npy")
        num_spikes = len(sorting.to_spike_vector())
        if not len(embeddings) == len(posteriors) == num_spikes:
            raise ValueError(
                f"expected one embedding and one posterior a spike ({num_spikes}), found {len(embeddings)} and "
                f"{len(posteriors)} in {folder}; copy the folder again or sort again"
            )
        measures = Measures.load(folder / MEASURES_FILE)
        if measures is not None and len(measures.amplitudes_uv) != num_spikes:
            raise ValueError(
                f"expected one amplitude a spike ({num_spikes}), found {len(measures.amplitudes_uv)} in {folder}; copy "
                f"the folder again, or remove {MEASURES_FILE}, which can be measured again"
            )
        return cls(
            sorting,
            embeddings,
            posteriors,
            SortingParameters.from_dict(info["parameters"]),
            info["model_name"],
            info["model_revision"],
            info["log"],
            measures,
            info.get("provenance", {}),
        )


def check_output_folder(folder, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds something; useful before a long computation.

    Parameters
    ----------
    folder : str or Path
    overwrite : bool
        Accept an earlier result of this package.

    Raises
    ------
    FileExistsError
        Not empty, or a file.
    """
    folder = Path(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not folder.exists() or (overwrite and (folder / INFO_FILE).is_file()):
        return
    found = "a file" if folder.is_file() else f"one that holds {len(list(folder.iterdir()))} files"
    remedy = "choose another folder, or remove it yourself" if overwrite else "choose another folder, or overwrite it"
    raise FileExistsError(f"expected an empty or new output folder, found {found}: {folder}; {remedy}")


def describe_group(
    group: PreparedGroup,
    spikes: np.ndarray,
    embeddings: np.ndarray,
    units: GroupUnits,
    parameters: SortingParameters,
) -> GroupSorting:
    """Number the units of a group and measure their properties.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    spikes : ndarray, (num_spikes,)
        Peak dtype, in order of time within segments.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    units : GroupUnits
        Label (-1: none) and posterior of these spikes.
    parameters : SortingParameters
        Window and sign.

    Returns
    -------
    GroupSorting
    """
    is_kept = units.labels >= 0
    if not is_kept.any():
        return empty_group(embeddings.shape[1])
    spikes, embeddings, posteriors = spikes[is_kept], embeddings[is_kept], units.posteriors[is_kept]
    unit_labels, unit_index = np.unique(units.labels[is_kept], return_inverse=True)
    spike_vector = to_spike_vector(spikes, unit_index)
    sampling_frequency = group.recording.get_sampling_frequency()
    templates_uv = mean_waveforms(group.recording, spike_vector, len(unit_labels), parameters)
    channels, _, peaks_uv = main_channels(templates_uv, sampling_frequency, parameters)
    properties = {
        "main_channel_id": list(group.recording.channel_ids[channels]),
        "group": [group.name] * len(unit_labels),
        "snr": list(np.abs(peaks_uv) / group.noise_levels_uv[channels]),
        "peak_uv": list(peaks_uv),
        "num_spikes": [int((unit_index == unit).sum()) for unit in range(len(unit_labels))],
    }
    properties |= unit_confidence(group.recording, spike_vector, posteriors, len(unit_labels))
    measures = measure_units(group, spike_vector, templates_uv, parameters)
    spike_vector["segment_index"] = group.segment_indices[spike_vector["segment_index"]]
    return GroupSorting(spike_vector, embeddings, posteriors, properties, measures)


def empty_group(embedding_size: int) -> GroupSorting:
    """A group in which nothing was found.

    Parameters
    ----------
    embedding_size : int
        Columns of its embeddings.

    Returns
    -------
    GroupSorting
        Without spikes and units.
    """
    return GroupSorting(
        np.zeros(0, dtype=minimum_spike_dtype),
        np.zeros((0, embedding_size), dtype="float32"),
        np.zeros(0, dtype="float32"),
        {name: [] for name in _EMPTY_PROPERTIES},
    )


def assemble(groups: list[GroupSorting], recording, embedding_size: int):
    """Join the groups to one sorting with unit ids 0, 1, ..., the same in every segment.

    Parameters
    ----------
    groups : list of GroupSorting
        May be empty.
    recording : BaseRecording
        The recording that was given.
    embedding_size : int
        Columns of the embeddings where there is no spike.

    Returns
    -------
    sorting : NumpySorting
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    posteriors : ndarray of float32, (num_spikes,)
    measures : Measures | None
        None where there are no units.
    """
    num_units, vectors = 0, [np.zeros(0, dtype=minimum_spike_dtype)]
    for group in groups:
        vector = group.spike_vector.copy()
        vector["unit_index"] += num_units
        num_units += len(group.properties["num_spikes"])
        vectors.append(vector)
    spikes = np.concatenate(vectors)
    order = np.lexsort((spikes["unit_index"], spikes["sample_index"], spikes["segment_index"]))
    sorting = make_sorting(
        spikes[order], recording.get_sampling_frequency(), np.arange(num_units), recording.get_num_segments()
    )
    for name, empty in _EMPTY_PROPERTIES.items():
        values = [value for group in groups for value in group.properties[name]]
        dtype = recording.channel_ids.dtype if name == "main_channel_id" else None
        sorting.set_property(name, np.array(values, dtype=dtype) if values else np.zeros(0, dtype=dtype or empty))
    sorting.register_recording(recording)
    embeddings = np.concatenate([np.zeros((0, embedding_size), "float32"), *[group.embeddings for group in groups]])
    posteriors = np.concatenate([np.zeros(0, "float32"), *[group.posteriors for group in groups]])
    measures = join_measures([group.measures for group in groups if group.measures is not None], order)
    return sorting, embeddings[order], posteriors[order], measures


_EMPTY_PROPERTIES = {
    "main_channel_id": "int64",
    "group": "int64",
    "snr": "float64",
    "peak_uv": "float64",
    "num_spikes": "int64",
    "refractory_violations": "float64",
    "isolation": "float64",
    "presence": "float64",
    "quality": "<U4",
}
