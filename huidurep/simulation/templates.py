"""Unit templates on a probe: several views of each unit, from procedural, SpikeInterface's or detailed cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .cell_library import DetailedCell, draw_time_warp, load_cells, resampling_operator, spike_potentials
from .cells import DURATION_MS, PEAK_MS, draw_cell, line_source_potential

# In front of an insulating shank the potential is twice that of free space (method of images).
SHANK_FACTOR = 2.0
CONTACT_RADIUS_UM = 6.0
MAX_TILT_DEGREES = 15.0
EXCITATORY_SHARE = 0.6
# Distances of a soma: beside the outermost contacts, in front of the probe, and to the nearest contact at most.
MARGIN_UM, DEPTH_UM, MAX_DISTANCE_UM = 25.0, (8.0, 80.0), 90.0
# (rng, positions, drift, amplitude range, sampling frequency, whether spikes vary) -> views of one unit, or None
DrawViews: TypeAlias = Callable[
    [np.random.Generator, np.ndarray, np.ndarray, tuple[float, float], float, bool], np.ndarray | None
]


@dataclass(frozen=True)
class UnitTemplates:
    """Templates of units seen by one probe.

    Parameters
    ----------
    waveforms : ndarray (num_units, num_views, num_samples, num_channels) float32
        uV, broad-band. View 0 is without drift; the others are displaced, or another spike of the same cell.
    positions : ndarray (num_channels, 2)
        Contacts, um.
    peak_index : int
        Sample of view 0's trough on the largest channel.
    sampling_frequency : float
        Hz.
    """

    waveforms: np.ndarray
    positions: np.ndarray
    peak_index: int
    sampling_frequency: float


def draw_templates(  # noqa: PLR0913 - each is an option of a simulation
    rng: np.random.Generator,
    positions: ArrayLike,
    num_units: int,
    *,
    displacements_um: ArrayLike | None = None,
    num_views: int = 4,
    drift_um: float = 8.0,
    source: str | Path | Sequence[DetailedCell] = "cells",
    amplitude_range_uv: tuple[float, float] = (25.0, 600.0),
    sampling_frequency: float = 30000.0,
    max_tries_per_unit: int = 400,
) -> UnitTemplates:
    """Draw units around a probe.

    Parameters
    ----------
    rng : numpy.random.Generator
    positions : array_like (num_channels, 2)
        Contacts (across, along the probe) in um.
    num_units : int
    displacements_um : array_like (num_views, 3), optional
        Displacements (away from, across, along the probe) of the views, the first of them 0. Default: the others are
        drawn with standard deviations 2, 2 and `drift_um`, half of them for another spike of the cell.
    num_views, drift_um : int, default 4, and float, default 8.0
    source : {"cells", "spikeinterface"}, path or list of DetailedCell, default "cells"
        Procedural neurons, ``spikeinterface.core.generate_templates``, or detailed cells: their folder, or the result
        of `load_cells`, so that the files are not read in each call.
    amplitude_range_uv : tuple of float
        Largest negative peak of view 0.
    sampling_frequency, max_tries_per_unit : float, default 30000.0 (Hz), and int, default 400

    Returns
    -------
    UnitTemplates

    Raises
    ------
    ValueError
        If the source is unknown, or too few units fall into the amplitude range.
    """
    draw_views = _source(source)
    positions = np.asarray(positions, float)
    vary = displacements_um is None
    waveforms: list[np.ndarray] = []
    peak = _peak_index(sampling_frequency)
    for _ in range(max_tries_per_unit * num_units):
        if len(waveforms) == num_units:
            break
        moves = _draw_moves(rng, num_views, drift_um) if vary else np.asarray(displacements_um, float)
        views = draw_views(rng, positions, moves, amplitude_range_uv, sampling_frequency, vary)
        if views is not None:
            waveforms.append(_align(views, peak))
    if len(waveforms) < num_units:
        raise ValueError(
            f"expected {num_units} units with peaks of {amplitude_range_uv} uV, found {len(waveforms)} in "
            f"{max_tries_per_unit * num_units} tries: widen amplitude_range_uv."
        )
    return UnitTemplates(np.array(waveforms), positions, peak, float(sampling_frequency))


def _source(source: str | Path | Sequence[DetailedCell]) -> DrawViews:
    """Function that draws the views of one unit."""
    sources: dict[str, DrawViews] = {"cells": _cell_views, "spikeinterface": _spikeinterface_views}
    if isinstance(source, str) and source in sources:
        return sources[source]
    cells = load_cells(source) if isinstance(source, str | Path) and Path(source).is_dir() else source
    if isinstance(cells, str | Path) or not cells:
        raise ValueError(
            f"expected source to be one of {sorted(sources)}, a folder of cells or a list of some, found {source!r}: "
            "choose one of them."
        )
    return partial(_detailed_cell_views, cells)


def _draw_moves(rng: np.random.Generator, num_views: int, drift_um: float) -> np.ndarray:
    """Displacements (num_views, 3) in um, the first 0."""
    moves = rng.normal(size=(num_views, 3)) * (2, 2, drift_um)
    moves[0] = 0
    return moves


def _peak_index(sampling_frequency: float) -> int:
    return int(round(PEAK_MS * 1e-3 * sampling_frequency))


def _align(views: np.ndarray, peak: int) -> np.ndarray:
    """Shift all views by the same lag, so that view 0's trough is at the peak index; the ends fade to zero."""
    trough = int(views[0].min(1).argmin())
    shifted = np.roll(views, peak - trough, axis=1)
    fade = 0.5 - 0.5 * np.cos(np.pi * np.arange(20) / 20)
    shifted[:, :20] *= fade[:, None]
    shifted[:, -20:] *= fade[::-1, None]
    return shifted.astype(np.float32)


def _accepted(first: np.ndarray, amplitude_range_uv: tuple[float, float]) -> bool:
    low, high = amplitude_range_uv
    return low < -first.min() < high and first.max() < -first.min()


def _draw_place(rng: np.random.Generator, positions: np.ndarray) -> np.ndarray | None:
    """Soma (away from, across, along the probe) in um, or None."""
    low, high = positions.min(0) - MARGIN_UM, positions.max(0) + MARGIN_UM
    across, along = rng.uniform(low, high)
    place = np.array([rng.uniform(*DEPTH_UM), across, along])
    # Most places are too far away. They are rejected by distance, before a cell is drawn there.
    nearest = np.sqrt(place[0] ** 2 + ((positions - place[1:]) ** 2).sum(1).min())
    return None if nearest > MAX_DISTANCE_UM else place


def _cell_views(
    rng: np.random.Generator,
    positions: np.ndarray,
    moves: np.ndarray,
    amplitude_range_uv: tuple[float, float],
    sampling_frequency: float,
    vary: bool,
) -> np.ndarray | None:
    place = _draw_place(rng, positions)
    if place is None:
        return None
    cell = draw_cell(rng, sampling_frequency=sampling_frequency)
    rotation = _draw_rotation(rng)
    starts, ends = cell.starts @ rotation.T, cell.ends @ rotation.T
    points = _contact_points(positions)

    def view(move: np.ndarray, shape: int) -> np.ndarray:
        at = (points - (place + move)).reshape(-1, 3)
        transfer = line_source_potential(at, starts, ends, cell.diameters)
        transfer = transfer.reshape(len(positions), -1, len(starts)).mean(1)
        return SHANK_FACTOR * (transfer @ cell.currents[shape]).T

    first = view(moves[0], 0)
    if not _accepted(first, amplitude_range_uv):
        return None
    shapes = rng.integers(len(cell.currents), size=len(moves)) if vary else np.zeros(len(moves), int)
    views = [first] + [view(move, shape) for move, shape in zip(moves[1:], shapes[1:], strict=True)]
    return np.array(views)


def _detailed_cell_views(
    cells: Sequence[DetailedCell],
    rng: np.random.Generator,
    positions: np.ndarray,
    moves: np.ndarray,
    amplitude_range_uv: tuple[float, float],
    sampling_frequency: float,
    vary: bool,
) -> np.ndarray | None:
    place = _draw_place(rng, positions)
    if place is None:
        return None
    # As in cortex, a larger share of the units is excitatory than of the cell models.
    groups = [[cell for cell in cells if cell.is_excitatory is wanted] for wanted in (True, False)]
    group = groups[int(rng.random() > EXCITATORY_SHARE)] or groups[0] or groups[1]
    cell = group[rng.integers(len(group))]
    rotation = _draw_typed_rotation(rng, cell.is_upright)
    spikes = rng.integers(len(cell.currents), size=len(moves) if vary else 1)
    spikes = np.broadcast_to(spikes, len(moves))
    points = _contact_points(positions)
    potentials = partial(spike_potentials, cell, rotation, points=points)
    first = SHANK_FACTOR * potentials(place[None], spikes[:1])
    if not _accepted(first, amplitude_range_uv):
        return None
    waves = np.concatenate([first, SHANK_FACTOR * potentials(place + moves[1:], spikes[1:])])
    trough = int(first[0].min(0).argmin())
    warp = draw_time_warp(rng, cell.is_excitatory)
    return (waves @ resampling_operator(waves.shape[-1], trough, sampling_frequency, warp)).swapaxes(1, 2)


def _contact_points(positions: np.ndarray) -> np.ndarray:
    """Points (num_contacts, 4, 3) over which a round contact averages the potential (sunflower spiral)."""
    contacts = np.concatenate([np.zeros((len(positions), 1)), positions], 1)
    k = np.arange(4)
    radius, angle = CONTACT_RADIUS_UM * np.sqrt((k + 0.5) / 4), k * np.pi * (3 - np.sqrt(5))
    offsets = np.stack([0 * radius, radius * np.cos(angle), radius * np.sin(angle)], 1)
    return contacts[:, None] + offsets[None]


def _draw_rotation(rng: np.random.Generator) -> np.ndarray:
    """Rotation of a cell: two thirds are upright within some degrees, the others have any orientation."""
    return _frame(rng, np.array([0, 0, 1.0]) + rng.normal(size=3) * (0.15 if rng.random() < 0.67 else 3.0))


def _draw_typed_rotation(rng: np.random.Generator, is_upright: bool) -> np.ndarray:
    """Rotation of a cell: upright ones within 15 degrees, uniform over that cap; the others have any orientation."""
    if not is_upright:
        return _frame(rng, rng.normal(size=3))
    cosine, azimuth = rng.uniform(np.cos(np.deg2rad(MAX_TILT_DEGREES)), 1.0), rng.uniform(0, 2 * np.pi)
    sine = np.sqrt(1 - cosine**2)
    return _frame(rng, np.array([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine]))


def _frame(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    """Rotation that maps +z to `z`, with a random angle about it."""
    z = z / np.linalg.norm(z)
    x = np.cross(z, rng.normal(size=3))
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], 1)


def _spikeinterface_views(
    rng: np.random.Generator,
    positions: np.ndarray,
    moves: np.ndarray,
    amplitude_range_uv: tuple[float, float],
    sampling_frequency: float,
    _: bool,
) -> np.ndarray | None:
    from spikeinterface.core import generate_templates

    low, high = positions.min(0) - MARGIN_UM, positions.max(0) + MARGIN_UM
    place = np.concatenate([rng.uniform(low, high), [rng.uniform(8, 60)]])
    # SpikeInterface's places are (across, along, away from the probe).
    places = place[None] + moves[:, [1, 2, 0]]
    places[:, 2] = np.maximum(places[:, 2], 2.0)
    alpha = rng.lognormal(np.log(500), 0.7)
    if not amplitude_range_uv[0] < alpha < 20 * amplitude_range_uv[1]:
        return None
    one = dict(
        alpha=alpha,
        depolarization_ms=rng.uniform(0.06, 0.15),
        repolarization_ms=rng.uniform(0.3, 1.0),
        recovery_ms=rng.uniform(0.8, 2.0),
        positive_amplitude=rng.uniform(0.05, 0.25),
        smooth_ms=rng.uniform(0.03, 0.07),
        spatial_decay=rng.uniform(15, 50),
        propagation_speed=rng.uniform(200, 500),
        ellipse_shrink=rng.uniform(0.4, 1.0),
        ellipse_angle=rng.uniform(0, 2 * np.pi),
        spatial_power=2.0,
    )
    parameters = {name: np.full(len(moves), value) for name, value in one.items()}
    waves = generate_templates(
        positions,
        places,
        sampling_frequency,
        ms_before=PEAK_MS,
        ms_after=DURATION_MS - PEAK_MS,
        seed=int(rng.integers(2**31)),
        dtype="float64",
        unit_params=parameters,
        mode="ellipsoid",
    )
    waves = waves[:, : int(round(DURATION_MS * 1e-3 * sampling_frequency))]
    return waves if _accepted(waves[0], amplitude_range_uv) else None
