"""Template banks of real units: published mean waveforms, moved to other windows of contacts by kriging."""

import json
from pathlib import Path

import numpy as np

from ..simulation.probes import contact_layout

LENGTH_UM = 35.0
RIDGE = 1e-2
SAMPLES, PEAK = 256, 90
RATE_HZ = 30000.0
WARP = (0.85, 1.2)
# The file's positions of Neuropixels units are not in the order of its channels: predicting each channel from its
# neighbours leaves 0.69 of the power with them and 0.20 with the probe's own order, better on 21 of 22 units.
NEUROPIXELS_CHANNELS = 384
NEUROPIXELS_EDGE_UM = 59.0  # the file counts its columns from the other edge of the shank
AMPLITUDE_UV = (25.0, 400.0)
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


def read_real_units(path, *, exclude_sessions=HELD_OUT_SESSIONS):
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


def neuropixels_places(num_channels):
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


def draw_real_units(rng, units, positions, num_units, *, num_views=4, drift_um=8.0):
    """Draw units for a window of contacts from real ones: elsewhere in the window, of other width and size.

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
        Standard deviation of the views' displacement along the probe.

    Returns
    -------
    waveforms : ndarray (num_units, num_views, 256, num_channels) float32
        uV at 30 kHz, trough at sample 90.

    Notes
    -----
    Potentials between contacts are simple kriging with a squared-exponential covariance (Matheron 1963), as motion
    correction of dense probes interpolates them.
    """
    low, high = positions.min(0) - 15, positions.max(0) + 15
    waveforms = np.zeros((num_units, num_views, SAMPLES, len(positions)), np.float32)
    for index in range(num_units):
        waveform, contacts, time_ms = units[int(rng.integers(len(units)))]
        place = rng.uniform(low, high)
        peak = contacts[np.abs(waveform).max(0).argmax()]
        mirror = np.where(rng.random(2) < 0.5, -1.0, 1.0)
        moves = rng.normal(size=(num_views, 2)) * (2.0, drift_um)
        moves[0] = 0
        near = np.linalg.norm(contacts - peak, axis=1) < 250
        to_time = _warp(time_ms, rng.uniform(*WARP))
        shape = to_time @ waveform[:, near]
        for view, move in enumerate(moves):
            to_place = _kriging((contacts[near] - peak) * mirror, positions - place - move)
            waveforms[index, view] = shape @ to_place.T
        wanted = np.exp(rng.uniform(*np.log(AMPLITUDE_UV)))
        waveforms[index] *= wanted / max(-waveforms[index, 0].min(), 1e-3)
    return waveforms


def _kriging(known, wanted):
    """Weights (num_wanted, num_known) of potentials at other places."""

    def covariance(a, b):
        return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1) / LENGTH_UM**2)

    return np.linalg.solve(covariance(known, known) + RIDGE * np.eye(len(known)), covariance(known, wanted)).T


def _warp(time_ms, width):
    """Operator (256, num_samples): stretches by `width` around the trough; fades where the window ends."""
    wanted = (np.arange(SAMPLES) - PEAK) / RATE_HZ * 1e3 / width
    step = np.median(np.diff(time_ms))
    place = (wanted - time_ms[0]) / step
    lower = np.clip(np.floor(place).astype(int), 0, len(time_ms) - 2)
    share = place - lower
    inside = (place >= 0) & (place <= len(time_ms) - 1)
    operator = np.zeros((SAMPLES, len(time_ms)))
    rows = np.flatnonzero(inside)
    operator[rows, lower[rows]] = 1 - share[rows]
    operator[rows, lower[rows] + 1] += share[rows]
    edge = np.minimum(place, len(time_ms) - 1 - place).clip(0, 5) / 5
    return operator * np.where(inside, edge, 0)[:, None]
