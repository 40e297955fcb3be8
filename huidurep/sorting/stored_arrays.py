"""Arrays of a result's folder, checked when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .aggregation import ARTIFACT_DTYPE
from .recorded_times import DAMAGED_ARRAY, describe_damage


def read_floats(path: Path) -> np.ndarray:
    """Embeddings or posteriors.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ndarray of float, (num_spikes,) or (num_spikes, embedding_size)

    Raises
    ------
    ValueError
        A damaged file or another array.
    """
    array = _load(path)
    if array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise ValueError(f"expected floats in {path}, found {array.dtype} {array.shape}; sort again")
    return array


def read_artifacts(path: Path) -> np.ndarray:
    """Periods of artefacts; none for folders of earlier versions.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ndarray of ARTIFACT_DTYPE, (num_periods,)

    Raises
    ------
    ValueError
        A damaged file or another array.
    """
    if not path.is_file():
        return np.zeros(0, dtype=ARTIFACT_DTYPE)
    periods = _load(path)
    if periods.dtype != ARTIFACT_DTYPE:
        raise ValueError(f"expected {ARTIFACT_DTYPE.names} in {path}, found {periods.dtype}; copy the folder again")
    return periods


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except DAMAGED_ARRAY as error:
        raise ValueError(
            f"expected an array in {path}, found {describe_damage(error)}; copy the folder again or sort again"
        ) from error
