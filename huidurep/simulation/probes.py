"""Contacts of a snippet on each type of probe."""

from __future__ import annotations

import numpy as np

PROBE_TYPES = ("tetrode", "linear", "neuropixels-1.0", "neuropixels-2.0", "hd-mea")
STAGGERED_UM = (16.0, 48.0, 0.0, 32.0)


def contact_layout(kind: str, num_channels: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Contacts of a snippet on a probe of some type.

    Parameters
    ----------
    kind : {"tetrode", "linear", "neuropixels-1.0", "neuropixels-2.0", "hd-mea"}
    num_channels : int
        Contacts wanted; neighbours of each other.
    rng : numpy.random.Generator, optional
        Draws a random layout of the type: spacing, rotation of tetrodes, place on the probe, edges. Without it the
        nominal layout.

    Returns
    -------
    ndarray (num_channels, 2) float64
        Across and along the probe, um.

    Raises
    ------
    ValueError
        If the type is unknown or the number is not positive.
    """
    makers = dict(zip(PROBE_TYPES, (_tetrode, _linear, _neuropixels_1, _neuropixels_2, _grid), strict=True))
    if kind not in makers or num_channels < 1:
        raise ValueError(
            f"expected one of {list(PROBE_TYPES)} and at least 1 channel, found {kind!r} and {num_channels}: correct "
            "them."
        )
    return makers[kind](num_channels, rng)


def _tetrode(count: int, rng: np.random.Generator | None) -> np.ndarray:
    square = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], float)
    row = np.array([(0, 0), (0, 1), (0, 2), (0, 3)], float)
    if count > 4:
        raise ValueError(f"expected at most 4 channels of a tetrode, found {count}: ask for another type of probe.")
    if rng is None:
        return 12.5 * square[:count]
    spacing = rng.uniform(10, 30)
    if rng.random() < 0.2:
        places = spacing * row
    else:
        angle = rng.uniform(0, np.pi / 2)
        places = spacing * square @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (places + rng.normal(size=places.shape))[:count]


def _linear(count: int, rng: np.random.Generator | None) -> np.ndarray:
    pitch = 20.0 if rng is None else rng.uniform(18, 50)
    places = np.stack([np.zeros(count), pitch * np.arange(count)], 1)
    if rng is not None and rng.random() < 0.25:  # two staggered edges, as on some silicon shanks
        places[1::2, 0] = rng.uniform(10, 25)
    return places


def _neuropixels_1(count: int, rng: np.random.Generator | None) -> np.ndarray:
    index = np.arange(4 * count)
    places = np.stack([np.array(STAGGERED_UM)[index % 4], 20.0 * (index // 2)], 1)
    return places[:count] if rng is None else _neighbours(places, count, rng)


def _neuropixels_2(count: int, rng: np.random.Generator | None) -> np.ndarray:
    index = np.arange(4 * count)
    places = np.stack([32.0 * (index % 2), 15.0 * (index // 2)], 1)
    return places[:count] if rng is None else _neighbours(places, count, rng)


def _grid(count: int, rng: np.random.Generator | None) -> np.ndarray:
    side = int(np.ceil(np.sqrt(count)))
    pitch = 30.0 if rng is None else rng.uniform(15, 35)
    wide = side if rng is None else 3 * side
    places = pitch * np.stack(np.meshgrid(np.arange(wide), np.arange(wide)), -1).reshape(-1, 2)
    return places[:count] if rng is None else _neighbours(places, count, rng)


def _neighbours(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Contacts nearest to one contact of the probe or, with equal probability, contacts of consecutive numbers."""
    if rng.random() < 0.5:
        start = int(rng.integers(0, len(places) - count + 1))
        return places[start : start + count]
    distance = np.linalg.norm(places - places[rng.integers(len(places))], axis=1)
    return places[np.sort(np.argsort(np.round(distance, 3), kind="stable")[:count])]
