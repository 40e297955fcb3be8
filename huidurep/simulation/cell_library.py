"""Detailed cells, as `huidurep simulate cells` writes them, and the potentials of their spikes at contacts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from .cells import CONDUCTIVITY_S_PER_M, DURATION_MS, PEAK_MS

logger = logging.getLogger(__name__)

CELLS_HZ = 32000.0
BASELINE_SAMPLES = 3
# The simulated spikes end before the undershoot does; from there on they fade.
FADE_MS = 2.0
# MEArec's table: apical axis within 15 degrees of the pia's direction; other types have any orientation.
UPRIGHT_TYPES = ("BP", "MC", "PC", "SS", "SP")
EXCITATORY_TYPES = ("PC", "SS", "SP")
# Rounding and the constant current that made the cell fire; otherwise the currents of a cell sum to 0.
MAX_NET_SHARE = 0.01
CHUNK_ELEMENTS = 2**18


@dataclass(frozen=True)
class DetailedCell:
    """A neuron as line sources; `huidurep.simulation.cells.Cell` with a name and a rate.

    Parameters
    ----------
    name : str
        Such as ``L5_TTPC1_cADpyr232_1``: layer, type, electrical type, number.
    starts, ends : ndarray (num_segments, 3) float32
        Ends of the segments in um; soma at the origin; +z points to the pia.
    diameters : ndarray (num_segments,) float32
        um.
    currents : ndarray (num_spikes, num_segments, num_samples) float32
        Transmembrane current in nA at 32 kHz, without the constant one before the spike.
    """

    name: str
    starts: np.ndarray
    ends: np.ndarray
    diameters: np.ndarray
    currents: np.ndarray

    @property
    def is_upright(self) -> bool:
        """Whether cells of this type are upright."""
        return self._is_one_of(UPRIGHT_TYPES)

    @property
    def is_excitatory(self) -> bool:
        """Whether the type is pyramidal or spiny stellate."""
        return self._is_one_of(EXCITATORY_TYPES)

    def _is_one_of(self, types: tuple[str, ...]) -> bool:
        parts = self.name.split("_")
        return any(each in parts[min(1, len(parts) - 1)] for each in types)


def load_cells(folder: str | Path) -> list[DetailedCell]:
    """Read the cells of a folder; broken files are left out, with an error in the log.

    Parameters
    ----------
    folder : str or Path
        Files ``CELL.npz`` with seg (2, num_segments, 3) and diam (num_segments,) in um, +y to the pia, and imem
        (num_spikes, num_segments, num_samples) in nA at 32 kHz.

    Returns
    -------
    list of DetailedCell
        In the order of their names; they are a source of `huidurep.simulation.templates.draw_templates`.

    Raises
    ------
    FileNotFoundError
        If the folder holds no such files.
    ValueError
        If no cell is left.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise FileNotFoundError(
            f"expected a folder of cells (.npz), found none in {folder}: make one with `huidurep simulate cells`."
        )
    cells = []
    for path in paths:
        try:
            cells.append(_read_cell(path))
        except Exception as error:  # numpy and zipfile raise half a dozen kinds for a damaged file
            logger.error("cell %s is left out: %s", path.name, error)
    if not cells:
        raise ValueError(
            f"expected sound cells in {folder}, found all {len(paths)} broken (see the log): make the cells again."
        )
    return cells


def _read_cell(path: Path) -> DetailedCell:
    with np.load(path) as file:
        missing = [name for name in ("seg", "diam", "imem") if name not in file]
        if missing:
            raise ValueError(f"expected the arrays seg, diam and imem, found no {' and no '.join(missing)}")
        segments, diameters, currents = (file[name].astype(np.float32) for name in ("seg", "diam", "imem"))
        step_ms = float(file["dt"]) if "dt" in file else 1e3 / CELLS_HZ
    count = len(diameters)
    if segments.shape != (2, count, 3) or currents.ndim != 3 or currents.shape[1] != count or not currents.size:
        raise ValueError(
            f"expected seg (2, n, 3), diam (n,) and imem (spikes, n, samples), found {segments.shape}, "
            f"{diameters.shape} and {currents.shape}"
        )
    if abs(step_ms * CELLS_HZ / 1e3 - 1) > 1e-6:
        raise ValueError(f"expected samples {1e3 / CELLS_HZ} ms apart, found dt = {step_ms}")
    if not all(np.isfinite(array).all() for array in (segments, diameters, currents)):
        raise ValueError("expected finite numbers, found others")
    if (diameters <= 0).any() or (np.linalg.norm(segments[1] - segments[0], axis=1) <= 0).any():
        raise ValueError("expected diameters and lengths above 0, found others")
    currents = currents - currents[..., :BASELINE_SAMPLES].mean(-1, keepdims=True)
    net, largest = float(abs(currents.sum(1)).max()), float(abs(currents).max())
    if not net <= MAX_NET_SHARE * largest:
        raise ValueError(f"expected currents that sum to 0, found {net:.3g} nA beside a largest of {largest:.3g} nA")
    starts, ends = segments[..., [0, 2, 1]] * np.array(
        [1, -1, 1], np.float32
    )  # a quarter turn about x: +y to the pia -> +z
    return DetailedCell(path.stem, starts, ends, diameters, currents)


def spike_potentials(
    cell: DetailedCell, rotation: np.ndarray, places: np.ndarray, spikes: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Potential of a cell's spikes in free space, at contacts that average over points.

    Line sources in a homogeneous medium (Holt & Koch 1999), as `huidurep.simulation.cells.line_source_potential`,
    in single precision and with squared distances by one matrix product, which is fifteen times as fast.

    Parameters
    ----------
    cell : DetailedCell
    rotation : ndarray (3, 3)
    places : ndarray (num_views, 3)
        The soma in each view, um.
    spikes : ndarray (num_views,) int
        Spike of the cell that each view shows.
    points : ndarray (num_contacts, num_points, 3)
        um.

    Returns
    -------
    ndarray (num_views, num_contacts, num_samples) float32
        uV at 32 kHz.
    """
    relative = (points[None] - places[:, None, None]).reshape(
        -1, 3
    ) @ rotation  # rotates the contacts instead of the cell
    transfer = _transfer(relative.astype(np.float32), cell.starts, cell.ends, cell.diameters)
    transfer = transfer.reshape(len(places), *points.shape[:2], len(cell.diameters)).mean(2)
    waves = np.empty((*transfer.shape[:2], cell.currents.shape[2]), np.float32)
    for spike in np.unique(spikes):
        waves[spikes == spike] = transfer[spikes == spike] @ cell.currents[spike]
    return waves


def _transfer(points: np.ndarray, starts: np.ndarray, ends: np.ndarray, diameters: np.ndarray) -> np.ndarray:
    """Potential (num_points, num_segments) of unit line sources, uV per nA."""
    length = np.linalg.norm(ends - starts, axis=1)
    nearest = np.sqrt(length**2 + diameters**2)
    # |p - e|^2 = |p|^2 - 2 p e + |e|^2 as one product a segment end
    rows = np.concatenate([points, np.ones((len(points), 1), "f4"), (points**2).sum(1, keepdims=True)], 1)
    columns = [
        np.concatenate([-2 * end.T, (end**2).sum(1)[None], np.ones((1, len(end)), "f4")]) for end in (starts, ends)
    ]
    result = np.empty((len(points), len(length)), np.float32)
    step = max(1, CHUNK_ELEMENTS // len(length))
    for first in range(0, len(points), step):
        total, to_end = (np.sqrt(np.maximum(rows[first : first + step] @ each, 0)) for each in columns)
        total += to_end
        np.maximum(total, nearest, out=total)
        ratio = total + length
        ratio /= np.subtract(total, length, out=total)
        result[first : first + step] = np.log(ratio, out=ratio)
    return result * (1e3 / (4 * np.pi * CONDUCTIVITY_S_PER_M * length))


def draw_time_warp(rng: np.random.Generator, is_excitatory: bool) -> tuple[float, float, float]:
    """Draw the factor by which a cell repolarises faster than its model.

    The models take about twice as long from trough to peak as cortical units do, whose 0.4 to 0.8 ms this restores.

    Parameters
    ----------
    rng : numpy.random.Generator
    is_excitatory : bool

    Returns
    -------
    tuple of float
        Share of the model's time long after the trough, the same before it, and the ms over which the change sets in.
    """
    after = rng.uniform(0.35, 0.6) if is_excitatory else rng.uniform(0.3, 0.6)
    return after, rng.uniform(0.6, 1.0), 0.1 if is_excitatory else 0.08


def resampling_operator(
    num_samples: int,
    trough_index: int,
    sampling_frequency: float,
    warp: tuple[float, float, float] = (1.0, 1.0, 0.1),
) -> np.ndarray:
    """Matrix that resamples waveforms from 32 kHz, with their trough at 3 ms, and warps time around it.

    Parameters
    ----------
    num_samples, trough_index : int
        Of the waves.
    sampling_frequency : float
        Hz.
    warp : tuple of float
        As of `draw_time_warp`; ones change nothing.

    Returns
    -------
    ndarray (num_samples, num_new_samples) float32
        A cubic spline; 8.5 ms long.
    """
    after, before, onset_ms = warp
    count = int(round(DURATION_MS * 1e-3 * sampling_frequency))
    time_ms = np.arange(count) * 1e3 / sampling_frequency - PEAK_MS
    old_ms = np.linspace(0, 40, 16001)

    def unwarp(share: float, new_ms: np.ndarray) -> np.ndarray:
        slowing = onset_ms * (1 - np.exp(-old_ms / onset_ms))
        return np.interp(new_ms, share * old_ms + (1 - share) * slowing, old_ms)

    model_ms = np.where(time_ms >= 0, unwarp(after, time_ms), -unwarp(before, -time_ms))
    index = trough_index + model_ms * CELLS_HZ * 1e-3
    spline = _unit_splines(num_samples)
    is_late = index > num_samples - 1
    first_late_ms = time_ms[is_late][0] if is_late.any() else 0.0
    fade = np.where(is_late, np.exp(-(time_ms - first_late_ms) / FADE_MS), 1.0)
    return (spline(index.clip(0, num_samples - 1)) * fade[:, None]).T.astype(np.float32)


@lru_cache(maxsize=4)
def _unit_splines(num_samples: int) -> CubicSpline:
    return CubicSpline(np.arange(num_samples), np.eye(num_samples), axis=0)
