"""Types of probe, recognised by the positions of their contacts."""

from __future__ import annotations

import numpy as np

# The embedded checkpoints have the same names.
PROBE_TYPES = {
    "tetrode": "tetrodes and other bundles of up to 4 contacts",
    "linear": "silicon shanks with one column of contacts",
    "neuropixels-1.0": "Neuropixels 1.0 (four staggered columns, rows 20 um apart)",
    "neuropixels-2.0": "Neuropixels 2.0 (two columns, rows 15 um apart)",
    "hd-mea": "dense planar arrays",
    "base": "any probe",
}
TETRODE_CHANNELS = 4
TETRODE_SPAN_UM = 60.0
STAGGER_UM = 25.0  # width of staggered shanks in the training of the checkpoint for one column
SAME_PLACE_UM = 2.0  # coordinates of one row or column differ by at most this
NEUROPIXELS_ROW_UM = {"neuropixels-1.0": 20.0, "neuropixels-2.0": 15.0}
ROW_TOLERANCE_UM = 1.0
LATTICE_TOLERANCE = 0.15  # of the pitch
SQUARE_TOLERANCE = 0.05  # of the pitch: every other row of a Neuropixels 2.0 (32 x 30 um) is not a square lattice


def recognise_probe(positions_um: np.ndarray) -> tuple[str, str]:
    """Recognise the type of probe from the positions of its contacts.

    Columns are distinct positions across the probe and rows distinct positions along it, where "along" is the direction
    of its larger extent and positions within 2 um count as one. The first rule that holds decides:

    1. tetrode: at most 4 contacts, no two more than 60 um apart;
    2. linear: one column, or several at most 25 um apart with one contact a row (a staggered shank);
    3. hd-mea: a square lattice of at least two columns and two rows, of which contacts may be missing;
    4. neuropixels-1.0, neuropixels-2.0: two columns, or four staggered columns, with rows 20 or 15 um apart (median,
       within 1 um);
    5. hd-mea: any other lattice of at least four columns and two rows;
    6. base: anything else.

    Parameters
    ----------
    positions_um : ndarray (num_channels, 2)
        Contacts in a plane, um.

    Returns
    -------
    probe_type : str
        A key of ``PROBE_TYPES``.
    reason : str
        What was found, for the log.

    Raises
    ------
    ValueError
        The positions are not in a plane.
    """
    positions_um = np.asarray(positions_um, dtype="float64")
    if positions_um.ndim != 2 or positions_um.shape[1] != 2 or not len(positions_um):
        raise ValueError(f"expected positions (num_channels, 2) in um, found shape {positions_um.shape}; correct them")
    num_contacts = len(positions_um)
    extent = np.ptp(positions_um, axis=0)
    across, along = positions_um.T if extent[1] >= extent[0] else positions_um.T[::-1]
    columns, rows = _distinct(across), _distinct(along)
    pitch_um = float(np.median(np.diff(rows))) if len(rows) > 1 else 0.0
    seen = f"{num_contacts} contacts in {len(columns)} column{'s' if len(columns) > 1 else ''}"
    seen += f", rows {pitch_um:.3g} um apart" if len(rows) > 1 else ""
    if num_contacts <= TETRODE_CHANNELS and _largest_distance(positions_um) <= TETRODE_SPAN_UM:
        return "tetrode", f"{num_contacts} contacts within {TETRODE_SPAN_UM:g} um"
    is_staggered = np.ptp(columns) <= STAGGER_UM and len(rows) == num_contacts
    if len(columns) == 1 or is_staggered:
        return "linear", seen
    is_lattice = len(rows) > 1 and _is_lattice(columns) and _is_lattice(rows)
    is_checkered = len(rows) > 1 and _is_checkered(across, along, columns, rows)
    if is_lattice and not is_checkered and abs(_pitch(columns) / _pitch(rows) - 1) <= SQUARE_TOLERANCE:
        return "hd-mea", seen
    for name, expected_um in NEUROPIXELS_ROW_UM.items():
        is_theirs = len(columns) == 2 or (len(columns) == 4 and is_checkered)
        if is_theirs and abs(pitch_um - expected_um) <= ROW_TOLERANCE_UM:
            return name, seen
    if len(columns) >= 4 and is_lattice:
        return "hd-mea", seen
    return "base", f"{seen}, not a known type"


def _distinct(places: np.ndarray) -> np.ndarray:
    """Mean of each group of coordinates (num_contacts,) whose neighbours differ by at most `SAME_PLACE_UM`."""
    places = np.sort(places)
    groups = np.split(places, np.flatnonzero(np.diff(places) > SAME_PLACE_UM) + 1)
    return np.array([group.mean() for group in groups])


def _largest_distance(positions_um: np.ndarray) -> float:
    return float(np.linalg.norm(positions_um[:, None] - positions_um[None], axis=2).max())


def _pitch(places: np.ndarray) -> float:
    """Smallest gap between sorted coordinates: the median of the gaps within 50 % of it."""
    gaps = np.diff(places)
    return float(np.median(gaps[gaps < 1.5 * gaps.min()]))


def _is_lattice(places: np.ndarray) -> bool:
    """Whether the gaps between sorted coordinates are whole multiples of the pitch."""
    steps = np.diff(places) / _pitch(places)
    return bool(np.all(np.abs(steps - np.round(steps)) <= LATTICE_TOLERANCE))


def _is_checkered(across: np.ndarray, along: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> bool:
    """Whether columns alternate between the even and the odd rows, as on staggered probes."""
    column = np.abs(across[:, None] - columns).argmin(1)
    row = np.round((along - rows[0]) / _pitch(rows)).astype(int)
    return len(np.unique((column + row) % 2)) == 1
