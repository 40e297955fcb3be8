"""A folder for phy: SpikeInterface's export, with the embeddings in place of phy's principal components."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import spikeinterface.exporters as exporters
from sklearn.decomposition import PCA
from spikeinterface.core import BaseRecording, BaseSorting

from ..output_files import check_free_space, check_output_folder, new_folder
from ..sorting.job_kwargs import resolve_job_kwargs
from ..sorting.recorded_times import has_times
from ..sorting.stored_arrays import check_parts
from .analyzer import build_analyzer, check_exportable, export_bytes

if TYPE_CHECKING:
    from spikeinterface.core import SortingAnalyzer

    from ..result import SortingResult

PARAMS_FILE = "params.py"
EXTENSIONS = (
    "random_spikes",
    "templates",
    "noise_levels",
    "spike_amplitudes",
    "template_similarity",
    "quality_metrics",
)
SPREAD_CHANNELS = 4  # neighbouring channels over which the dimensions of an embedding are distributed
CHUNK_SPIKES = 100_000
# phy counts spikes itself, and its column "group" means good, mua or noise: the quality label is written there
NOT_COLUMNS = {"num_spikes", "group", "quality"}


def export_to_phy(
    result: SortingResult,
    recording: BaseRecording,
    folder: str | Path,
    *,
    copy_recording: bool = True,
    overwrite: bool = False,
    job_kwargs: dict | None = None,
) -> Path:
    """Write a folder for ``phy template-gui params.py``.

    Beside SpikeInterface's export: `pc_features.npy`, the embeddings on their principal axes; `cluster_group.tsv`, the
    quality labels; phy's spike attributes "posterior", and "time_s" where there are own times; `embeddings.npy`.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording
        The raw recording that was sorted; one segment.
    folder : str or Path
    copy_recording : bool
        Write the preprocessed traces too.
    overwrite : bool
        Replace an earlier export; refused if phy or you changed or added files in it, such as curated labels.
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileExistsError, TypeError, ValueError
        As `build_analyzer`; several segments.
    """
    _check_for_phy(result, recording)
    check_output_folder(folder, overwrite=overwrite, mark=PARAMS_FILE, others="refuse")
    check_free_space(folder, export_bytes(result, recording, EXTENSIONS, has_traces=copy_recording))
    analyzer = build_analyzer(result, recording, extensions=EXTENSIONS, job_kwargs=job_kwargs)
    with new_folder(folder, overwrite=overwrite, mark=PARAMS_FILE, others="refuse") as partial:
        exporters.export_to_phy(
            analyzer,
            partial,
            compute_pc_features=False,
            copy_binary=copy_recording,
            use_relative_path=True,  # so that the folder may be moved
            remove_if_exists=True,  # the temporary folder exists
            additional_properties=_column_names(result.sorting),
            verbose=False,
            **resolve_job_kwargs(job_kwargs),
        )
        _write_own_files(partial, result, analyzer)
    return Path(folder)


def _check_for_phy(result: SortingResult, recording: BaseRecording) -> None:
    check_exportable(result, recording)
    check_parts(result)
    if recording.get_num_segments() > 1:
        raise ValueError(
            f"expected a recording of one segment, as phy reads it, found {recording.get_num_segments()}; sort "
            "spikeinterface.concatenate_recordings([recording])"
        )


def _column_names(sorting: BaseSorting) -> list[str]:
    """Properties that are a column in phy: those of one value a unit."""
    names = [name for name in sorting.get_property_keys() if name not in NOT_COLUMNS]
    return [name for name in names if sorting.get_property(name).ndim == 1]


def _write_own_files(folder: Path, result: SortingResult, analyzer: SortingAnalyzer) -> None:
    """Write what SpikeInterface's export does not have: labels, shanks, posteriors, embeddings."""
    _write_cluster_groups(folder, result.sorting)
    _write_text_columns(folder, result.sorting)
    groups = analyzer.get_recording_property("group")
    np.save(folder / "channel_shanks.npy", np.unique(groups, return_inverse=True)[1].astype("int32"))
    np.save(folder / "spike_posterior.npy", result.posteriors)
    np.save(folder / "embeddings.npy", result.embeddings)
    if has_times(result.sorting):  # phy itself counts times from the first sample
        samples = result.sorting.to_spike_vector()["sample_index"]
        np.save(folder / "spike_time_s.npy", result.sorting.sample_index_to_time(samples, 0))
    _write_features(folder, result.embeddings, analyzer.sparsity.mask, groups)
    if result.sorting.get_num_units() == 1:
        _add_empty_template(folder)


def _write_cluster_groups(folder: Path, sorting: BaseSorting) -> None:
    """Write the quality label of each unit to the file in which phy stores the user's decisions."""
    lines = ["cluster_id\tgroup"]
    lines += [f"{unit}\t{quality}" for unit, quality in enumerate(sorting.get_property("quality"))]
    (folder / "cluster_group.tsv").write_text("\n".join(lines) + "\n", encoding="utf8")


def _write_text_columns(folder: Path, sorting: BaseSorting) -> None:
    """Write columns of text again, one line per unit: names of channels and groups may hold tabs and line breaks."""
    for name in sorting.get_property_keys():
        values = sorting.get_property(name)
        path = folder / f"cluster_{'channel_group' if name == 'group' else name}.tsv"
        if values.dtype.kind in "OSU" and path.is_file():
            with path.open("w", encoding="utf8", newline="") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n")
                writer.writerow(["cluster_id", path.stem.removeprefix("cluster_")])
                writer.writerows([unit, " ".join(str(value).split())] for unit, value in enumerate(values))


def _write_features(folder: Path, embeddings: np.ndarray, mask: np.ndarray, groups: np.ndarray) -> None:
    """Write embeddings (num_spikes, embedding_size) as phy's features (num_spikes, num_features, num_channels).

    phy's features belong to channels, and phy compares units on the channels of the first selected unit. A channel
    therefore holds the same dimensions of the embedding for every unit: the n-th channel of its group holds every
    fourth dimension starting at n modulo 4 (every third where the smallest unit has three channels, and so on, so that
    the channels of each unit hold all dimensions).

    Parameters
    ----------
    folder : Path
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    mask : ndarray of bool, (num_units, num_channels)
        Channels of each unit.
    groups : ndarray, (num_channels,)
        Channel group of each channel.
    """
    num_units, num_channels = mask.shape
    spread = min(SPREAD_CHANNELS, int(mask.sum(axis=1).min()))
    remainders = np.zeros(num_channels, dtype="int64")
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        remainders[own] = np.arange(len(own)) % spread
    # a rotation, which changes no distance between spikes; with few spikes the axes would not be defined
    axes = PCA(svd_solver="covariance_eigh").fit(embeddings) if len(embeddings) > embeddings.shape[1] else None
    num_features = -(-embeddings.shape[1] // spread)

    unit_channels = -np.ones((num_units, mask.sum(axis=1).max()), dtype="int64")
    for unit in range(num_units):
        unit_channels[unit, : mask[unit].sum()] = np.flatnonzero(mask[unit])
    np.save(folder / "pc_feature_ind.npy", unit_channels)
    units = np.load(folder / "spike_clusters.npy").ravel()
    shape = (len(embeddings), num_features, unit_channels.shape[1])
    # written, not mapped: on a full disk, a mapped file ends the process without a message
    with (folder / "pc_features.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for start in range(0, len(embeddings), CHUNK_SPIKES):
            rows = slice(start, start + CHUNK_SPIKES)
            rotated = embeddings[rows] if axes is None else axes.transform(embeddings[rows])
            padded = np.zeros((len(rotated), num_features * spread), dtype="float32")
            padded[:, : rotated.shape[1]] = rotated
            by_remainder = padded.reshape(len(rotated), num_features, spread)
            channels = unit_channels[units[rows]]
            chosen = np.take_along_axis(by_remainder, remainders[channels][:, None, :], axis=2)
            file.write(np.where(channels[:, None, :] < 0, 0, chosen).astype("<f4").tobytes())


def _add_empty_template(folder: Path) -> None:
    """Add a second template without spikes: phylib drops the first axis of arrays with a single unit."""
    for name, empty in (("templates", 0), ("template_ind", -1), ("pc_feature_ind", -1)):
        array = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", np.concatenate([array, np.full_like(array, empty)]))
    np.save(folder / "similar_templates.npy", np.eye(2))
