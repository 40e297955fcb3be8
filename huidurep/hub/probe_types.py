"""Types of probe, recognised by the positions of their contacts."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

# The embedded checkpoints have the same names.
PROBE_TYPES = {
    "single-contact": "single contacts: microwires, Utah arrays",
    "tetrode": "tetrodes and other bundles of up to 4 contacts",
    "linear": "silicon shanks with one column of contacts",
    "staggered": "silicon shanks with two or three columns or a staggered tip",
    "neuropixels-1.0": "Neuropixels 1.0 (four staggered columns, rows 20 um apart)",
    "neuropixels-2.0": "Neuropixels 2.0 (two columns, rows 15 um apart)",
    "hd-mea": "dense planar arrays",
    "base": "any probe",
}
# Other types have served these probes, too, and do where their own checkpoint is not installed.
SPECIAL_TYPES = ("single-contact", "staggered")
LONE_UM = 150.0  # contacts so far apart do not see the same spikes
TETRODE_CHANNELS = 4
TETRODE_SPAN_UM = 60.0
NEIGHBOURS_UM = (10.0, 50.0)  # distance of neighbours on staggered shanks
STAGGER_UM = 25.0  # width of staggered shanks in the training of the checkpoint for one column
SAME_PLACE_UM = 2.0  # coordinates of one row or column differ by at most this
NEUROPIXELS_ROW_UM = {"neuropixels-1.0": 20.0, "neuropixels-2.0": 15.0}
ROW_TOLERANCE_UM = 1.0
LATTICE_TOLERANCE = 0.15  # of the pitch
SQUARE_TOLERANCE = 0.05  # of the pitch: every other row of a Neuropixels 2.0 (32 x 30 um) is not a square lattice


def recognise_probe(positions_um: np.ndarray, skip: Collection[str] = ()) -> tuple[str, str]:
    """Recognise the type of probe from the positions of its contacts.

    Columns are distinct positions across the probe and rows distinct positions along it, where "along" is the direction
    of its larger extent and positions within 2 um count as one. The first rule that holds decides:

    1. single-contact: one contact, or any number with no two less than 150 um apart (Utah arrays);
    2. tetrode: at most 4 contacts, no two more than 60 um apart;
    3. linear: one column;
    4. staggered: more than 4 contacts, one in each row, in columns at most 50 um apart in all, whose neighbours are 10
       to 50 um apart (poly2, staggered tips);
    5. linear: other columns at most 25 um apart in all with one contact a row (up to 4 contacts, or further apart);
    6. hd-mea: a square lattice of at least two columns and two rows, of which contacts may be missing;
    7. neuropixels-1.0, neuropixels-2.0: two columns, or four staggered columns, with rows 20 or 15 um apart (median,
       within 1 um);
    8. staggered: two or three columns, each at most 50 um from the next, whose neighbours are 10 to 50 um apart;
    9. hd-mea: any other lattice of at least four columns and two rows;
    10. base: anything else.

    Parameters
    ----------
    positions_um : ndarray (num_channels, 2)
        Contacts in a plane, um.
    skip : collection of str, optional
        Types whose rules are left out.

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
    if "single-contact" not in skip and _are_single(positions_um):
        apart = f", none less than {LONE_UM:g} um apart" if num_contacts > 1 else ""
        return "single-contact", f"{num_contacts} contact{'s' if num_contacts > 1 else ''}{apart}"
    if num_contacts <= TETRODE_CHANNELS and _largest_distance(positions_um) <= TETRODE_SPAN_UM:
        return "tetrode", f"{num_contacts} contacts within {TETRODE_SPAN_UM:g} um"
    return _recognise_shank(positions_um, "staggered" not in skip)


def _recognise_shank(positions_um: np.ndarray, may_be_staggered: bool) -> tuple[str, str]:
    """Rules 3 to 10 of :func:`recognise_probe`."""
    num_contacts, extent = len(positions_um), np.ptp(positions_um, axis=0)
    across, along = positions_um.T if extent[1] >= extent[0] else positions_um.T[::-1]
    columns, rows = _distinct(across), _distinct(along)
    pitch_um = float(np.median(np.diff(rows))) if len(rows) > 1 else 0.0
    seen = f"{num_contacts} contacts in {len(columns)} column{'s' if len(columns) > 1 else ''}"
    seen += f", rows {pitch_um:.3g} um apart" if len(rows) > 1 else ""
    is_one_a_row = len(rows) == num_contacts
    may_be_staggered = may_be_staggered and num_contacts > TETRODE_CHANNELS and _are_neighbours(positions_um)
    if len(columns) > 1 and may_be_staggered and is_one_a_row and np.ptp(columns) <= NEIGHBOURS_UM[1]:
        return "staggered", seen
    if len(columns) == 1 or (is_one_a_row and np.ptp(columns) <= STAGGER_UM):
        return "linear", seen
    is_lattice = len(rows) > 1 and _is_lattice(columns) and _is_lattice(rows)
    is_checkered = len(rows) > 1 and _is_checkered(across, along, columns, rows)
    if is_lattice and not is_checkered and abs(_pitch(columns) / _pitch(rows) - 1) <= SQUARE_TOLERANCE:
        return "hd-mea", seen
    for name, expected_um in NEUROPIXELS_ROW_UM.items():
        is_theirs = len(columns) == 2 or (len(columns) == 4 and is_checkered)
        if is_theirs and abs(pitch_um - expected_um) <= ROW_TOLERANCE_UM:
            return name, seen
    if may_be_staggered and len(columns) <= 3 and np.diff(columns).max() <= NEIGHBOURS_UM[1]:
        return "staggered", seen
    if len(columns) >= 4 and is_lattice:
        return "hd-mea", seen
    return "base", f"{seen}, not a known type"


def _are_single(positions_um: np.ndarray) -> bool:
    """Whether no spike is seen by two contacts."""
    return len(positions_um) == 1 or bool(_nearest_um(positions_um).min() >= LONE_UM)


def _are_neighbours(positions_um: np.ndarray) -> bool:
    """Whether the contact nearest to a contact is as far away as on staggered shanks (median)."""
    return bool(NEIGHBOURS_UM[0] <= np.median(_nearest_um(positions_um)) <= NEIGHBOURS_UM[1] + ROW_TOLERANCE_UM)


def _nearest_um(positions_um: np.ndarray) -> np.ndarray:
    """Distance of each contact from the one nearest to it (num_contacts,)."""
    from scipy.spatial import cKDTree

    return cKDTree(positions_um).query(positions_um, k=2)[0][:, 1]


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
