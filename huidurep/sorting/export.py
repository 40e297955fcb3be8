"""The result of a sorting: put together from its groups, saved, and read again."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import spikeinterface
from spikeinterface.core import BaseSorting, NumpySorting
from spikeinterface.core.base import minimum_spike_dtype
from spikeinterface.core.numpyextractors import SpikeVectorSortingSegment

from .confidence import unit_confidence
from .merging import GroupUnits
from .outputs import ResultOutputs
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .waveforms import mean_waveforms, to_spike_vector

FORMAT = "huidurep-sorting"
FORMAT_VERSION = 1
INFO_FILE = "huidurep.json"
PEAK_SEARCH_MS = 0.5  # how far from its place the peak of a template may lie


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
    """

    spike_vector: np.ndarray
    embeddings: np.ndarray
    posteriors: np.ndarray
    properties: dict


@dataclass
class SortingResult(ResultOutputs):
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
        stage, seconds, message.
    """

    sorting: BaseSorting
    embeddings: np.ndarray
    posteriors: np.ndarray
    parameters: SortingParameters
    model_name: str | None = None
    model_revision: str | None = None
    log: list = field(default_factory=list)

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
        partial = folder.with_name(folder.name + ".partial")  # an interrupted save leaves no half result behind
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with warnings.catch_warnings():  # that the recording is not saved with its sorting needs no warning
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            saved = self.sorting.save(folder=partial / "sorting", format="numpy_folder")
        # the top folder opens too: SpikeInterface reads this file, whose path to sorting/ is relative
        saved.dump_to_json(partial / "si_folder.json", relative_to=partial, include_annotations=False)
        np.save(partial / "embeddings.npy", self.embeddings)
        np.save(partial / "posteriors.npy", self.posteriors)
        info = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model_name": self.model_name,
            "model_revision": self.model_revision,
            "parameters": self.parameters.to_dict(),
            "log": self.log,
        }
        (partial / INFO_FILE).write_text(json.dumps(info, indent=2), encoding="utf8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
        return folder

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
        parameters = SortingParameters.from_dict(info["parameters"])
        return cls(sorting, embeddings, posteriors, parameters, info["model_name"], info["model_revision"], info["log"])


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
    channels, peaks_uv = main_channels(templates_uv, sampling_frequency, parameters)
    properties = {
        "main_channel_id": list(group.recording.channel_ids[channels]),
        "group": [group.name] * len(unit_labels),
        "snr": list(np.abs(peaks_uv) / group.noise_levels_uv[channels]),
        "peak_uv": list(peaks_uv),
        "num_spikes": [int((unit_index == unit).sum()) for unit in range(len(unit_labels))],
    }
    properties |= unit_confidence(group.recording, spike_vector, posteriors, len(unit_labels))
    spike_vector["segment_index"] = group.segment_indices[spike_vector["segment_index"]]
    return GroupSorting(spike_vector, embeddings, posteriors, properties)


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


def main_channels(
    templates_uv: np.ndarray, sampling_frequency: float, parameters: SortingParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Channel on which each template is largest, and its value at the peak.

    Parameters
    ----------
    templates_uv : ndarray, (num_units, num_samples, num_channels)
    sampling_frequency : float
        Hz.
    parameters : SortingParameters
        Window and sign of the peak.

    Returns
    -------
    channels : ndarray of int, (num_units,)
    peaks_uv : ndarray of float, (num_units,)
    """
    num_before = parameters.num_samples_before(sampling_frequency)
    reach = int(PEAK_SEARCH_MS * sampling_frequency / 1000.0)
    near = templates_uv[:, max(0, num_before - reach) : num_before + reach + 1]
    size = {"neg": -near, "pos": near, "both": np.abs(near)}[parameters.peak_sign].max(axis=1)
    channels = size.argmax(axis=1) if len(size) else np.zeros(0, dtype="int64")
    units = np.arange(len(channels))
    peaks_uv = size[units, channels].astype("float64")
    if parameters.peak_sign == "neg":
        peaks_uv = -peaks_uv
    return channels, peaks_uv


def assemble(groups: list[GroupSorting], recording, embedding_size: int) -> tuple[BaseSorting, np.ndarray, np.ndarray]:
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
    """
    num_units, vectors = 0, [np.zeros(0, dtype=minimum_spike_dtype)]
    for group in groups:
        vector = group.spike_vector.copy()
        vector["unit_index"] += num_units
        num_units += len(group.properties["num_spikes"])
        vectors.append(vector)
    spikes = np.concatenate(vectors)
    order = np.lexsort((spikes["unit_index"], spikes["sample_index"], spikes["segment_index"]))
    spikes, unit_ids = spikes[order], np.arange(num_units)
    sorting = NumpySorting(spikes, recording.get_sampling_frequency(), unit_ids)
    # NumpySorting counts the segments that have spikes; the recording's count
    for segment_index in range(sorting.get_num_segments(), recording.get_num_segments()):
        sorting.add_sorting_segment(SpikeVectorSortingSegment(spikes, segment_index, unit_ids))
    for name, empty in _EMPTY_PROPERTIES.items():
        values = [value for group in groups for value in group.properties[name]]
        dtype = recording.channel_ids.dtype if name == "main_channel_id" else None
        sorting.set_property(name, np.array(values, dtype=dtype) if values else np.zeros(0, dtype=dtype or empty))
    sorting.register_recording(recording)
    embeddings = np.concatenate([np.zeros((0, embedding_size), "float32"), *[group.embeddings for group in groups]])
    posteriors = np.concatenate([np.zeros(0, "float32"), *[group.posteriors for group in groups]])
    return sorting, embeddings[order], posteriors[order]


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
