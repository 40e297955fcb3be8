"""A folder for phy: SpikeInterface's export, with our embeddings where phy looks for principal components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import spikeinterface.exporters as exporters
from sklearn.decomposition import PCA

from ..sorting.job_kwargs import resolve_job_kwargs
from .analyzer import build_analyzer, check_new, check_pair

PARAMS_FILE = "params.py"
EXTENSIONS = (
    "random_spikes",
    "templates",
    "noise_levels",
    "spike_amplitudes",
    "template_similarity",
    "quality_metrics",
)
SPREAD_CHANNELS = 4  # neighbouring channels over which the numbers of an embedding are spread
BLOCK_SPIKES = 100_000
# phy counts spikes itself; "group" would take the place of its own good, mua and noise; quality is written there
NOT_COLUMNS = {"num_spikes", "group", "quality"}


def export_to_phy(result, recording, folder, *, copy_recording: bool = True, overwrite: bool = False) -> Path:
    """Write what ``phy template-gui params.py`` opens.

    Beside what SpikeInterface writes: `pc_features.npy` holds the embeddings, turned so that the direction in which
    they differ most comes first; `cluster_group.tsv` says good or mua; each spike has the attribute "posterior";
    `embeddings.npy` holds the embeddings as they are.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording
        The raw recording that was sorted; one segment.
    folder : str or Path
        Folder to write.
    copy_recording : bool
        Write the preprocessed traces along.
    overwrite : bool
        Replace an earlier export there.

    Returns
    -------
    Path

    Raises
    ------
    FileExistsError
        The folder holds something.
    TypeError, ValueError
        As `build_analyzer`; several segments.
    """
    folder = Path(folder)
    check_pair(result, recording)
    if recording.get_num_segments() > 1:
        raise ValueError(
            f"expected a recording of one segment, as phy reads it, found {recording.get_num_segments()}; sort "
            "spikeinterface.concatenate_recordings([recording])"
        )
    check_new(folder, overwrite=overwrite, mark=PARAMS_FILE)
    analyzer = build_analyzer(result, recording, extensions=EXTENSIONS)
    exporters.export_to_phy(
        analyzer,
        folder,
        compute_pc_features=False,
        copy_binary=copy_recording,
        use_relative_path=True,  # the folder may be moved
        remove_if_exists=True,  # what may be removed was decided above
        additional_properties=[name for name in result.sorting.get_property_keys() if name not in NOT_COLUMNS],
        verbose=False,
        **resolve_job_kwargs(None),
    )
    _write_cluster_groups(folder, result.sorting)
    groups = analyzer.get_recording_property("group")
    np.save(folder / "channel_shanks.npy", np.unique(groups, return_inverse=True)[1].astype("int32"))
    np.save(folder / "spike_posterior.npy", result.posteriors)
    np.save(folder / "embeddings.npy", result.embeddings)
    _write_features(folder, result.embeddings, analyzer.sparsity.mask, groups)
    if result.sorting.get_num_units() == 1:
        _add_empty_template(folder)
    return folder


def _write_cluster_groups(folder: Path, sorting) -> None:
    """Good or mua of each unit, where phy keeps what its user decides."""
    lines = ["cluster_id\tgroup"]
    lines += [f"{unit}\t{quality}" for unit, quality in enumerate(sorting.get_property("quality"))]
    (folder / "cluster_group.tsv").write_text("\n".join(lines) + "\n", encoding="utf8")


def _write_features(folder: Path, embeddings: np.ndarray, mask: np.ndarray, groups: np.ndarray) -> None:
    """Embeddings (num_spikes, embedding_size) as phy's features (num_spikes, num_features, num_channels of a unit).

    phy's features belong to channels, and it compares units on the channels of the first one. So a channel holds the
    same numbers for every unit: the n-th channel of its group those at n modulo 4, and every fourth after them (or
    third, where a unit has but three channels, and so on: each unit has all numbers).

    Parameters
    ----------
    folder : Path
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    mask : ndarray of bool, (num_units, num_channels)
        Channels of each unit.
    groups : ndarray, (num_channels,)
    """
    num_units, num_channels = mask.shape
    num_places = min(SPREAD_CHANNELS, int(mask.sum(axis=1).min()))
    places = np.zeros(num_channels, dtype="int64")
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        places[own] = np.arange(len(own)) % num_places
    # a rotation: no distance between spikes changes
    turn = PCA(svd_solver="covariance_eigh").fit(embeddings) if len(embeddings) > embeddings.shape[1] else None
    num_features = -(-embeddings.shape[1] // num_places)
    padded_size = num_features * num_places

    local = -np.ones((num_units, mask.sum(axis=1).max()), dtype="int64")
    for unit in range(num_units):
        local[unit, : mask[unit].sum()] = np.flatnonzero(mask[unit])
    np.save(folder / "pc_feature_ind.npy", local)
    units = np.load(folder / "spike_clusters.npy").ravel()
    shape = (len(embeddings), num_features, local.shape[1])
    features = np.lib.format.open_memmap(folder / "pc_features.npy", mode="w+", dtype="float32", shape=shape)
    for start in range(0, len(embeddings), BLOCK_SPIKES):
        rows = slice(start, start + BLOCK_SPIKES)
        turned = embeddings[rows] if turn is None else turn.transform(embeddings[rows])
        padded = np.zeros((len(turned), padded_size), dtype="float32")
        padded[:, : turned.shape[1]] = turned
        by_place = padded.reshape(len(turned), num_features, num_places)
        channels = local[units[rows]]
        taken = np.take_along_axis(by_place, places[channels][:, None, :], axis=2)
        features[rows] = np.where(channels[:, None, :] < 0, 0, taken)
    features.flush()


def _add_empty_template(folder: Path) -> None:
    """A second template without spikes: of a single one, phylib's reader loses the first axis."""
    for name, empty in (("templates", 0), ("template_ind", -1), ("pc_feature_ind", -1)):
        array = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", np.concatenate([array, np.full_like(array, empty)]))
    np.save(folder / "similar_templates.npy", np.eye(2))
