"""Procedural neurons: random morphologies with a prescribed membrane potential during a spike.

No cell model is read. A tree of cylinders (soma, dendrites, axon) is drawn; an action potential of random shape occurs
at the soma, slightly earlier in the axon, and propagates into the dendrites, later, smaller and broader with distance.
The transmembrane currents follow from the axial resistances (cable equation, Rall 1962), so the currents of a cell sum
to zero at every moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AXIAL_RESISTIVITY_OHM_M = 1.5
CONDUCTIVITY_S_PER_M = 0.3  # of extracellular space
DURATION_MS, PEAK_MS = 8.5, 3.0


@dataclass(frozen=True)
class Cell:
    """A neuron as line sources.

    Parameters
    ----------
    starts, ends : ndarray (num_segments, 3) float64
        Ends of the segments in um; the soma is segment 0, centred at the origin; +z points to the pia.
    diameters : ndarray (num_segments,) float64
        um.
    currents : ndarray (num_shapes, num_segments, num_samples) float32
        Transmembrane current in nA, positive outwards, of several of its spikes (a burst's later spikes are smaller and
        broader); the first is the cell's usual one.
    """

    starts: np.ndarray
    ends: np.ndarray
    diameters: np.ndarray
    currents: np.ndarray


def draw_cell(rng: np.random.Generator, *, sampling_frequency: float = 30000.0, num_shapes: int = 2) -> Cell:
    """Draw a neuron and its spikes.

    Parameters
    ----------
    rng : numpy.random.Generator
    sampling_frequency : float, default 30000.0
        Hz.
    num_shapes : int, default 2
        Different spikes of the cell.

    Returns
    -------
    Cell
    """
    pyramidal = rng.random() < 0.6
    tree = _Tree(soma_diameter=rng.uniform(12, 24) if pyramidal else rng.uniform(8, 18))
    _grow_dendrites(tree, rng, pyramidal)
    down, length = _tilted(rng, -1.0, 0.4), rng.uniform(50, 120)
    tree.axon = set(tree.grow(0, down, length, rng.uniform(0.8, 2.0), rng.uniform(0.8, 1.5), rng))
    time_ms = np.arange(0, DURATION_MS, 1e3 / sampling_frequency) - PEAK_MS
    spike = _draw_spike(rng, pyramidal)
    currents = [_currents(tree, time_ms, spike)]
    for _ in range(num_shapes - 1):
        later = dict(spike, amplitude=spike["amplitude"] * rng.uniform(0.6, 1.0))
        later["width"], later["rise"] = spike["width"] * rng.uniform(1.0, 1.3), spike["rise"] * rng.uniform(1.0, 1.4)
        currents.append(_currents(tree, time_ms, later))
    return Cell(np.array(tree.starts), np.array(tree.ends), np.array(tree.diameters), np.array(currents, np.float32))


class _Tree:
    """Segments with their parent and path distance from the soma."""

    def __init__(self, soma_diameter: float) -> None:
        half = soma_diameter / 2
        self.starts, self.ends = [np.array([0.0, 0, -half])], [np.array([0.0, 0, half])]
        self.diameters = [soma_diameter]
        self.parents, self.distances = [-1], [0.0]
        self.axon: set[int] = set()

    def grow(
        self,
        parent: int,
        direction: np.ndarray,
        length: float,
        diameter: float,
        end_diameter: float,
        rng: np.random.Generator,
    ) -> list[int]:
        """Add a tapering branch of random curvature; returns the indices of its segments."""
        radius = self.diameters[0] / 2
        place = self.ends[parent] if parent else direction * radius
        distance, step, grown = self.distances[parent], 10.0, 0.0
        indices: list[int] = []
        while grown < length:
            direction = direction + 0.15 * rng.normal(size=3)
            direction = direction / np.linalg.norm(direction)
            end = place + step * direction
            share = min(1.0, grown / length)
            self.starts.append(place)
            self.ends.append(end)
            self.diameters.append(diameter * (1 - share) + end_diameter * share)
            self.parents.append(parent)
            self.distances.append(distance + step / 2)
            parent = len(self.parents) - 1
            indices.append(parent)
            place, distance, grown = end, distance + step, grown + step
            step = min(30.0, step * 1.2)
        return indices


def _tilted(rng: np.random.Generator, z: float, spread: float) -> np.ndarray:
    """Unit vector near +z or -z."""
    vector = np.array([0, 0, z]) + spread * rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _grow_dendrites(tree: _Tree, rng: np.random.Generator, pyramidal: bool) -> None:
    if pyramidal:
        diameter = rng.uniform(2.0, 5.0)
        trunk = tree.grow(0, _tilted(rng, 1.0, 0.15), rng.uniform(120, 500), diameter, 0.4 * diameter, rng)
        for _ in range(rng.integers(2, 6)):
            side = rng.choice(trunk)
            tree.grow(side, _tilted(rng, 0.3, 1.0), rng.uniform(40, 150), rng.uniform(0.8, 1.6), 0.6, rng)
    for _ in range(rng.integers(3, 8)):
        spread = _tilted(rng, -0.4 if pyramidal else 0.0, 1.0)
        diameter = rng.uniform(0.9, 3.0)
        branch = tree.grow(0, spread, rng.uniform(30, 120), diameter, 0.6 * diameter, rng)
        for _ in range(rng.integers(0, 3)):
            fork = spread + 0.6 * rng.normal(size=3)
            tree.grow(branch[-1], fork / np.linalg.norm(fork), rng.uniform(30, 120), 0.6 * diameter, 0.5, rng)


def _draw_spike(rng: np.random.Generator, pyramidal: bool) -> dict[str, float]:
    """Shape of the action potential; times in ms, distances in um, potential in mV."""
    return dict(
        amplitude=rng.uniform(70, 110),
        rise=rng.uniform(0.035, 0.09),
        width=rng.uniform(0.25, 0.9) if pyramidal else rng.uniform(0.12, 0.4),
        undershoot=rng.uniform(0.0, 0.2),
        recovery=rng.uniform(0.6, 4.0),
        axon_lead=rng.uniform(0.02, 0.15),
        axon_speed=rng.uniform(300, 1200),
        speed=rng.uniform(150, 700),
        length=rng.uniform(60, 500),
        broadening=rng.uniform(0.0, 0.006),
        failing=rng.uniform(0.0, 1.0),
    )


def _potential(
    time_ms: np.ndarray,
    amplitude: np.ndarray,
    rise: np.ndarray,
    width: np.ndarray,
    undershoot: float,
    recovery: float,
) -> np.ndarray:
    """Action potential in mV: sigmoid upstroke, Gaussian-shouldered fall, slow undershoot. Arguments broadcast."""
    after = rise * np.logaddexp(0, time_ms / rise)  # a smooth max(time, 0)
    up = 0.5 * (1 + np.tanh(time_ms / (2 * rise)))
    fall = np.exp(-((after / width) ** 1.5))
    return amplitude * up * (fall * (1 + undershoot) - undershoot * np.exp(-after / recovery))


def _currents(tree: _Tree, time_ms: np.ndarray, spike: dict[str, float]) -> np.ndarray:
    """Transmembrane currents (num_segments, num_samples) in nA of the prescribed potential."""
    distance = np.array(tree.distances)[:, None]
    axon = np.isin(np.arange(len(tree.parents)), list(tree.axon))[:, None]
    delay = np.where(axon, distance / spike["axon_speed"] - spike["axon_lead"], distance / spike["speed"])
    broader = np.where(axon, 1.0, 1 + spike["broadening"] * distance)
    # A share of the amplitude (1 - failing) propagates actively in the dendrites, the rest decays with distance.
    decay = spike["failing"] * np.exp(-distance / spike["length"]) + (1 - spike["failing"]) * np.exp(-distance / 600)
    amplitude = spike["amplitude"] * np.where(axon, 1.05, decay)
    rise, width = spike["rise"] * broader, spike["width"] * broader
    potential = _potential(time_ms[None] - delay, amplitude, rise, width, spike["undershoot"], spike["recovery"])
    length = np.linalg.norm(np.array(tree.ends) - np.array(tree.starts), axis=1) * 1e-6
    area = np.pi * (np.array(tree.diameters) * 1e-6) ** 2 / 4
    half_ohm = AXIAL_RESISTIVITY_OHM_M * length / 2 / area
    parents, children = np.array(tree.parents[1:]), np.arange(1, len(tree.parents))
    micro_siemens = 1e6 / (half_ohm[parents] + half_ohm[children])
    # Axial current from parent to child leaves the parent's inside and must leave the child through its membrane.
    flow = micro_siemens[:, None] * (potential[parents] - potential[children])
    currents = np.zeros_like(potential)
    np.add.at(currents, children, flow)
    np.subtract.at(currents, parents, flow)
    return currents


def line_source_potential(
    points: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    diameters: np.ndarray,
    *,
    conductivity_s_per_m: float = CONDUCTIVITY_S_PER_M,
) -> np.ndarray:
    """Potential of unit line sources in a homogeneous medium (Holt & Koch 1999).

    With `s` the sum of the distances from a point to both ends of a segment of length `L`, the integral of 1/r along
    it is ``ln((s + L) / (s - L))``. Points inside a segment are moved to its surface.

    Parameters
    ----------
    points : ndarray (num_points, 3)
        um.
    starts, ends : ndarray (num_segments, 3)
        um.
    diameters : ndarray (num_segments,)
        um.
    conductivity_s_per_m : float, default 0.3

    Returns
    -------
    ndarray (num_points, num_segments)
        uV per nA.
    """
    length = np.linalg.norm(ends - starts, axis=1)
    to_start = np.linalg.norm(points[:, None] - starts[None], axis=-1)
    to_end = np.linalg.norm(points[:, None] - ends[None], axis=-1)
    total = np.maximum(to_start + to_end, np.sqrt(length**2 + diameters**2))
    # nA / (S/m * um) = 1e-9 / 1e-6 V = 1e3 uV
    return 1e3 * np.log((total + length) / (total - length)) / (4 * np.pi * conductivity_s_per_m * length)
