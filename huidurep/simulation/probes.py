"""Contacts of a snippet on each type of probe."""

from __future__ import annotations

import numpy as np

PROBE_TYPES = (
    "tetrode",
    "linear",
    "neuropixels-1.0",
    "neuropixels-2.0",
    "hd-mea",
    "single-contact",
    "staggered",
)
STAGGERED_UM = (16.0, 48.0, 0.0, 32.0)


def contact_layout(kind: str, num_channels: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Contacts of a snippet on a probe of some type.

    Parameters
    ----------
    kind : str
        One of ``PROBE_TYPES``. "single-contact": one contact, or the two of a stereotrode. "staggered": silicon shanks
        with two or three staggered columns (NeuroNexus' poly2 and poly3) or a staggered tip (Buzsaki's shanks).
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
        If the type is unknown, or the number is not positive or more than a bundle of that type has.
    """
    layouts = (_tetrode, _linear, _neuropixels_1, _neuropixels_2, _grid, _stereotrode, _staggered)
    makers = dict(zip(PROBE_TYPES, layouts, strict=True))
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


def _stereotrode(count: int, rng: np.random.Generator | None) -> np.ndarray:
    if count > 2:
        raise ValueError(
            f"expected at most 2 channels of a single contact or stereotrode, found {count}: ask for another type of "
            "probe."
        )
    spacing, angle = (25.0, 0.0) if rng is None else (rng.uniform(10, 50), rng.uniform(0, np.pi))
    return np.array([(0.0, 0.0), (spacing * np.cos(angle), spacing * np.sin(angle))])[:count]


def _staggered(count: int, rng: np.random.Generator | None) -> np.ndarray:
    """Two columns 20 um apart; with a generator as often three columns, or a tip that widens from one contact."""
    if rng is None:
        return _poly2(count, 20.0, 40.0)
    form, pitch = rng.integers(3), rng.uniform(20, 50)
    if form == 0:
        return _neighbours(_poly2(3 * count, rng.uniform(10, 45), pitch), count, rng)
    row = np.arange(3 * count)
    if form == 1:  # three columns, the middle one half a pitch higher
        across, shift = rng.uniform(10, 30) * (row % 3), pitch / 2 * (row % 3 == 1)
        return _neighbours(np.stack([across, pitch * (row // 3) + shift], 1), count, rng)
    sides = np.linspace(*np.sort(rng.uniform(8, 20, 2)), count) * np.where(row[:count] % 2, -1, 1)
    return np.stack([sides * (row[:count] > 0), pitch / 2 * row[:count]], 1)


def _poly2(count: int, gap_um: float, pitch_um: float) -> np.ndarray:
    """Two columns, of which one lies half a pitch higher."""
    row = np.arange(count)
    return np.stack([gap_um * (row % 2), pitch_um / 2 * row], 1)


def _neighbours(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Contacts nearest to one contact of the probe or, with equal probability, contacts of consecutive numbers."""
    if rng.random() < 0.5:
        start = int(rng.integers(0, len(places) - count + 1))
        return places[start : start + count]
    distance = np.linalg.norm(places - places[rng.integers(len(places))], axis=1)
    return places[np.sort(np.argsort(np.round(distance, 3), kind="stable")[:count])]
