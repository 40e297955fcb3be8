"""A phy folder, read from its arrays and tables alone: its params.py, which SpikeInterface runs, may be anybody's."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .recorded_times import DAMAGED_ARRAY, describe_damage

SPIKE_FILES = ("spike_times.npy", "spike_clusters.npy")
UNDECIDED = "unsorted"  # phy's group of units that nobody has judged
GROUPS = ("good", "mua", "noise", UNDECIDED)
REMEDY = "save again in phy, or copy the folder again"


def is_phy_folder(path: Path) -> bool:
    """Whether a folder has the spikes that phy reads and writes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return all((path / name).is_file() for name in SPIKE_FILES)


def plain_label(label: object) -> str:
    """A label as the package compares it: phy's words in lower case, as in "MUA" and "Noise "; others stay.

    Parameters
    ----------
    label : object

    Returns
    -------
    str
    """
    word = str(label).strip()
    return word.lower() if word.lower() in GROUPS else word


def read_phy_spikes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the spikes of a phy folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    samples, clusters : ndarray of int64, (num_spikes,)
        Sample and cluster of each spike, as they are stored.

    Raises
    ------
    ValueError
        Files that are missing or damaged, or numbers that are no samples.
    """
    found = []
    for name in SPIKE_FILES:
        try:
            stored = np.load(folder / name, allow_pickle=False).ravel()
        except DAMAGED_ARRAY as error:
            raise ValueError(
                f"expected {' and '.join(SPIKE_FILES)} of phy in {folder}, found {describe_damage(error)}; give the "
                f"folder with params.py, or {REMEDY}"
            ) from error
        with np.errstate(invalid="ignore"):  # NaN
            numbers = stored.astype("int64") if stored.dtype.kind in "iuf" else np.zeros(0)
        if len(numbers) != len(stored) or (numbers != stored).any():
            raise ValueError(
                f"expected whole numbers in {folder / name}, found others ({stored.dtype}); phy counts time in "
                f"samples: write the file so, or {REMEDY}"
            )
        found.append(numbers)
    samples, clusters = found
    if len(samples) != len(clusters):
        raise ValueError(
            f"expected one cluster a spike ({len(samples)}) in {folder}, found {len(clusters)}; copy the folder again"
        )
    return samples, clusters


def read_phy_columns(folder: Path) -> Iterator[tuple[str, dict[int, str]]]:
    """Read the tables of the clusters of a phy folder.

    Parameters
    ----------
    folder : Path

    Yields
    ------
    (str, dict of int to str)
        Name of a column, and its value for each cluster that has one, if any. Of columns of the same name the last one
        counts: phy writes cluster_info.tsv for other programs, and reads the single columns.

    Raises
    ------
    ValueError
        A table that is damaged or names no clusters.
    """
    # phy 1 wrote cluster_groups.csv, with tabs
    paths = [path for path in folder.glob("cluster_*") if path.suffix in (".tsv", ".csv")]
    for path in sorted(paths, key=lambda path: (path.stem != "cluster_info", path.suffix, path.name)):
        try:
            text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte-order mark
            table = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in text else ",")
            # editors leave spaces; cells beyond the header have no name
            rows = [{name.strip(): (row[name] or "").strip() for name in row if name is not None} for row in table]
            names = [name.strip() for name in table.fieldnames or []]  # phy leaves the line of names of what is cleared
            key = "cluster_id" if "cluster_id" in names else "id"
            ids = [int(row[key]) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise ValueError(
                f"expected a table of phy with a whole number as cluster_id in each line of {path}, found "
                f"{type(error).__name__} ({error}); {REMEDY}"
            ) from error
        for name in names:
            if name != key:
                yield name, {unit: row[name] for unit, row in zip(ids, rows, strict=True) if row[name]}


def unit_ids_of_clusters(clusters: np.ndarray, noted: dict[int, str]) -> np.ndarray:
    """Ids that the units of phy's clusters had when they were exported.

    Parameters
    ----------
    clusters : ndarray of int, (num_clusters,)
    noted : dict of int to str
        phy's column "si_unit_id", which exports by SpikeInterface write.

    Returns
    -------
    ndarray of int or str, (num_clusters,)
        phy's numbers where they were the ids. Otherwise clusters that phy made have new numbers, beyond all others.
    """
    names = [noted.get(cluster, "") for cluster in clusters.tolist()]
    names = [name if names.count(name) == 1 else "" for name in names]  # parts of a split unit inherit its id
    if all(name in ("", str(cluster)) for name, cluster in zip(names, clusters.tolist(), strict=True)):
        return clusters
    numbers = [int(name) for name in noted.values() if _is_whole(name)]
    new = iter(range(max(*clusters.tolist(), *numbers, -1) + 1, sys.maxsize))
    ids = [name or str(next(new)) for name in names]
    return np.array([int(each) for each in ids] if all(map(_is_whole, ids)) else ids)


def _is_whole(name: str) -> bool:
    """Whether a name is a whole number, and no other text is the same number."""
    return name.removeprefix("-").isdecimal() and str(int(name)) == name
