"""Templates of real units: published mean waveforms, interpolated to other contacts by kriging."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..simulation.probes import contact_layout

# Window and rate of all templates of a library
NUM_SAMPLES, PEAK_INDEX = 256, 90
SAMPLING_FREQUENCY_HZ = 30000.0
# The file's positions of Neuropixels units are not in the order of its channels: predicting each channel from its
# neighbours leaves 0.69 of the power with them and 0.20 with the probe's own order, better on 21 of 22 units.
NEUROPIXELS_CHANNELS = 384
NEUROPIXELS_EDGE_UM = 59.0  # the file counts its columns from the other edge of the shank
# Whole sessions that no training sees (every third of the file's sessions in order of name).
HELD_OUT_SESSIONS = (
    "20160225",
    "20170301",
    "mouse1_180501a",
    "mouse1_180502b",
    "mouse3_180629",
    "mouse5_181116",
    "session_715093703",
    "session_755434585",
    "session_760345702",
    "session_819701982",
)
RealUnit = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class RealTemplateSettings:
    """How templates are drawn from real units.

    Parameters
    ----------
    kriging_length_um, kriging_ridge : float
        Length of the squared-exponential covariance of potentials, and the variance that is added to its diagonal.
    width : tuple of float
        Range of the factor by which a waveform is stretched in time.
    amplitude_uv : tuple of float
        Range of the trough, drawn uniformly in its logarithm.
    margin_um : float
        How far beside the contacts the peak of a unit may lie.
    max_distance_um : float
        Contacts farther from a unit's peak are not used.
    """

    kriging_length_um: float = 35.0
    kriging_ridge: float = 1e-2
    width: tuple[float, float] = (0.85, 1.2)
    amplitude_uv: tuple[float, float] = (25.0, 400.0)
    margin_um: float = 15.0
    max_distance_um: float = 250.0


def read_real_units(path: str | Path, *, exclude_sessions: Sequence[str] = HELD_OUT_SESSIONS) -> list[RealUnit]:
    """Read mean waveforms of real units.

    Parameters
    ----------
    path : str or Path
        .npz with ``waveform_uv_k`` (num_channels, num_samples), ``position_um_k`` (num_channels, 2) and ``time_ms_k``
        (num_samples,) of unit k, and beside it a .json of the same name: a list of dicts with ``unit`` and ``session``.
    exclude_sessions : sequence of str

    Returns
    -------
    list of (ndarray (num_samples, num_channels), ndarray (num_channels, 2), ndarray (num_samples,))
        Waveforms (uV), contacts (um), time from the trough (ms).

    Raises
    ------
    FileNotFoundError
        If one of the two files is missing.
    """
    path = Path(path)
    described = path.with_suffix(".json")
    for file in (path, described):
        if not file.is_file():
            raise FileNotFoundError(f"expected real units in {path} and {described}, found no {file}: correct `real`.")
    units = []
    with np.load(path, allow_pickle=False) as arrays:
        for entry in json.loads(described.read_text(encoding="utf8")):
            if entry["session"] in exclude_sessions:
                continue
            number = entry["unit"]
            waveform = arrays[f"waveform_uv_{number}"].astype(float).T
            positions = arrays[f"position_um_{number}"].astype(float)
            time_ms = arrays[f"time_ms_{number}"].astype(float)
            if len(positions) == NEUROPIXELS_CHANNELS:
                positions = neuropixels_places(NEUROPIXELS_CHANNELS)
            peak = np.abs(waveform).max(0).argmax()
            units.append((waveform, positions, time_ms - time_ms[waveform[:, peak].argmin()]))
    return units


def neuropixels_places(num_channels: int) -> np.ndarray:
    """Contacts of a Neuropixels 1.0 probe as the file of real units places them, in the order of the channels.

    Parameters
    ----------
    num_channels : int

    Returns
    -------
    ndarray (num_channels, 2)
        Across and along the probe, um.
    """
    return np.array([NEUROPIXELS_EDGE_UM, 0.0]) + contact_layout("neuropixels-1.0", num_channels) * (-1, 1)


def draw_real_units(
    rng: np.random.Generator,
    units: Sequence[RealUnit],
    positions: np.ndarray,
    num_units: int,
    *,
    num_views: int = 4,
    drift_um: float = 8.0,
    settings: RealTemplateSettings = RealTemplateSettings(),
) -> np.ndarray:
    """Draw units for a window of contacts from real ones: at another place, of another width and amplitude.

    Parameters
    ----------
    rng : numpy.random.Generator
    units : list
        From :func:`read_real_units`.
    positions : ndarray (num_channels, 2)
        um.
    num_units : int
    num_views : int, default 4
    drift_um : float, default 8.0
        Standard deviation of the drift between views along the probe.
    settings : RealTemplateSettings, optional

    Returns
    -------
    waveforms : ndarray (num_units, num_views, 256, num_channels) float32
        uV at 30 kHz, trough at sample 90.

    Notes
    -----
    Potentials between contacts are simple kriging with a squared-exponential covariance (Matheron 1963), as motion
    correction of dense probes interpolates them.
    """
    low, high = positions.min(0) - settings.margin_um, positions.max(0) + settings.margin_um
    waveforms = np.zeros((num_units, num_views, NUM_SAMPLES, len(positions)), np.float32)
    for index in range(num_units):
        waveform, contacts, time_ms = units[int(rng.integers(len(units)))]
        place = rng.uniform(low, high)
        peak = contacts[np.abs(waveform).max(0).argmax()]
        mirror = np.where(rng.random(2) < 0.5, -1.0, 1.0)
        drift = rng.normal(size=(num_views, 2)) * (2.0, drift_um)
        drift[0] = 0
        near = np.linalg.norm(contacts - peak, axis=1) < settings.max_distance_um
        shape = _warp(time_ms, rng.uniform(*settings.width)) @ waveform[:, near]
        for view, moved in enumerate(drift):
            weights = _kriging((contacts[near] - peak) * mirror, positions - place - moved, settings)
            waveforms[index, view] = shape @ weights.T
        wanted = np.exp(rng.uniform(*np.log(settings.amplitude_uv)))
        waveforms[index] *= wanted / max(-waveforms[index, 0].min(), 1e-3)
    return waveforms


def _kriging(
    known: np.ndarray, wanted: np.ndarray, settings: RealTemplateSettings = RealTemplateSettings()
) -> np.ndarray:
    """Weights (num_wanted, num_known) that interpolate potentials from known to wanted places (um)."""

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1) / settings.kriging_length_um**2)

    noise = settings.kriging_ridge * np.eye(len(known))
    return np.linalg.solve(covariance(known, known) + noise, covariance(known, wanted)).T


def _warp(time_ms: np.ndarray, width: float) -> np.ndarray:
    """Operator (256, num_samples): stretches by `width` around the trough; fades where the window ends."""
    wanted = (np.arange(NUM_SAMPLES) - PEAK_INDEX) / SAMPLING_FREQUENCY_HZ * 1e3 / width
    step = np.median(np.diff(time_ms))
    place = (wanted - time_ms[0]) / step
    lower = np.clip(np.floor(place).astype(int), 0, len(time_ms) - 2)
    share = place - lower
    inside = (place >= 0) & (place <= len(time_ms) - 1)
    operator = np.zeros((NUM_SAMPLES, len(time_ms)))
    rows = np.flatnonzero(inside)
    operator[rows, lower[rows]] = 1 - share[rows]
    operator[rows, lower[rows] + 1] += share[rows]
    edge = np.minimum(place, len(time_ms) - 1 - place).clip(0, 5) / 5
    return operator * np.where(inside, edge, 0)[:, None]
