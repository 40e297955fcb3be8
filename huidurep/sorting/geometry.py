"""Where the contacts of a recording are, in um, and which channels are sorted together."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from spikeinterface.core import BaseRecording

from .run_log import RunLog

# as probeinterface writes `si_units`; both characters for micro
UM_PER_UNIT = {"um": 1.0, "\u00b5m": 1.0, "\u03bcm": 1.0, "mm": 1e3, "m": 1e6}
NO_GROUP = "no group"


@dataclass(frozen=True)
class GeometrySettings:
    """What is assumed of contacts without positions, and which positions cannot be true.

    Attributes
    ----------
    tetrode_spacing_um : float
        Of the square on which two to four channels without positions are placed.
    linear_spacing_um : float
        Of the column on which more channels without positions are placed.
    min_spacing_um : float
        Two contacts of a group are never closer: the densest probes have 6 um (Neuropixels Ultra).
    max_spacing_um : float
        Most contacts of a group have another one within this distance; a spike reaches 0.2 mm.
    """

    tetrode_spacing_um: float = 12.5
    linear_spacing_um: float = 20.0
    min_spacing_um: float = 3.0
    max_spacing_um: float = 5000.0


GEOMETRY = GeometrySettings()


def contact_positions_um(recording: BaseRecording, *, axes: str = "xy") -> np.ndarray:
    """Positions of the contacts of all channels, converted by the `si_units` of their probes.

    Parameters
    ----------
    recording : BaseRecording
        With a probe.
    axes : str
        "xy", or "xyz" of a 3-D probe.

    Returns
    -------
    ndarray of float64, (num_channels, len(axes))

    Raises
    ------
    ValueError
        A unit that probeinterface does not know.
    """
    units = recording.get_probegroup().to_numpy(complete=True)["si_units"]  # in the order of the channels
    positions = np.asarray(recording.get_channel_locations(axes=axes), dtype="float64")
    return positions * um_per_unit(units)[:, None]


def um_per_unit(units: np.ndarray) -> np.ndarray:
    """Factors to um of the `si_units` of probeinterface.

    Parameters
    ----------
    units : ndarray of str, (num_channels,)

    Returns
    -------
    ndarray of float64, (num_channels,)

    Raises
    ------
    ValueError
        A unit that probeinterface does not know.
    """
    unknown = sorted(set(units.tolist()) - set(UM_PER_UNIT))
    if unknown:
        raise ValueError(
            f"expected a probe whose si_units are 'um', 'mm' or 'm', found {unknown[0]!r}; set probe.si_units to the "
            "unit of its contact positions"
        )
    return np.array([UM_PER_UNIT[unit] for unit in units.tolist()])


def group_of_channels(recording: BaseRecording, log: RunLog) -> np.ndarray:
    """Group of every channel: the property "group" where it has several values, else the shank of the probe.

    Channels without a value (None, NaN, empty text) are one group of their own, "no group". Values of several types,
    and those beside channels without one, become text.

    Parameters
    ----------
    recording : BaseRecording
    log : RunLog
        Receives which channels have no value.

    Returns
    -------
    ndarray, (num_channels,)
        Numbers or text; zeros where nothing divides the channels.

    Raises
    ------
    ValueError
        A number and a text that read alike, such as 1 and "1".
    """
    groups = recording.get_property("group")
    labels = [] if groups is None else [_plain_label(value) for value in groups]
    if len(set(labels)) <= 1:
        shanks = _shanks(recording)
        if len(set(shanks)) > 1:
            labels = shanks
    if not labels:
        return np.zeros(recording.get_num_channels(), dtype="int64")
    unlabelled = [str(channel) for channel, label in zip(recording.channel_ids, labels, strict=True) if label is None]
    if unlabelled:
        log.warning(
            "preprocessing",
            f"channels without a group (its value is empty, NaN or None) are sorted together as {NO_GROUP!r}: "
            f"{', '.join(unlabelled)}",
        )
    if all(isinstance(label, str) for label in labels) or all(isinstance(label, numbers.Number) for label in labels):
        return np.array(labels)
    alike = {_as_text(label) for label in labels if isinstance(label, numbers.Number)} & set(labels)
    if alike:
        name = min(alike)
        raise ValueError(
            f"expected one name for each channel group, found both the number {name} and the text {name!r} in the "
            "property 'group'; give them different names, or the same one if they are one group"
        )
    return np.array([NO_GROUP if label is None else _as_text(label) for label in labels])


def place_groups(
    recording: BaseRecording,
    groups: Sequence[tuple[object, np.ndarray]],
    log: RunLog,
    *,
    settings: GeometrySettings = GEOMETRY,
) -> list[tuple[np.ndarray, bool]]:
    """Positions of the contacts of each group in the plane of the probe, default ones where it has none.

    Parameters
    ----------
    recording : BaseRecording
    groups : sequence of (object, ndarray of int)
        Name and channel indices of each group.
    log : RunLog
        Receives one warning on all groups whose positions are assumed.
    settings : GeometrySettings

    Returns
    -------
    list of (ndarray of float64 (num_channels, 2), bool)
        Positions in um of each group, and whether they are those of the recording.

    Raises
    ------
    ValueError
        Contacts that do not lie in a plane, or whose distances cannot be true.
    """
    positions_um = _planar_positions(recording, log)
    placed, assumed = [], []
    for name, indices in groups:
        own_um = None if positions_um is None else positions_um[indices]
        if own_um is not None and _are_distinct(own_um):
            _check_spacing(own_um, recording.channel_ids[indices], name, settings)
            placed.append((own_um, True))
            continue
        placed.append((_default_positions(len(indices), settings), False))
        assumed += [(name, len(indices))] if len(indices) > 1 else []  # a single channel needs no position
    if assumed:
        reason = "the recording has no probe" if positions_um is None else "the probe has no distinct positions"
        log.warning("preprocessing", f"{reason} for {_describe_assumed(assumed, settings)}")
    return placed


def is_missing(label: Any) -> bool:
    """Whether a label says nothing: None, NaN, pandas' NA or no word, also after a conversion to text, as in a table.

    Parameters
    ----------
    label : object
        Of a channel group, of a unit, or of a spike.

    Returns
    -------
    bool
    """
    return str(label).strip().lower() in ("", "nan", "none", "<na>")


def _plain_label(value: Any) -> Any:
    """A value of the property "group" as a plain value, None where it says nothing."""
    value = value.item() if isinstance(value, np.generic) else value
    if is_missing(value):
        return None
    return value if isinstance(value, str | numbers.Number) else str(value)


def _as_text(label: Any) -> str:
    """A label as text; whole numbers as 3, not 3.0: NaN beside them had made them floats."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _shanks(recording: BaseRecording) -> list:
    """Shank of every channel of a single probe; empty where there is none."""
    if not recording.has_probe() or len(recording.get_probegroup().probes) != 1:
        return []
    shanks = recording.get_probe().shank_ids
    if shanks is None or len(shanks) != recording.get_num_channels():
        return []
    return [_plain_label(shank) for shank in shanks]


def _planar_positions(recording: BaseRecording, log: RunLog) -> np.ndarray | None:
    """Positions (num_channels, 2) um in the plane of the probe; None without a probe."""
    if not recording.has_probe():
        return None
    if not recording.has_3d_probe():
        return contact_positions_um(recording)
    positions_um = contact_positions_um(recording, axes="xyz")
    extents_um = np.ptp(positions_um, axis=0)
    spans = np.flatnonzero(extents_um > 1e-3)
    if len(spans) > 2:
        spread = ", ".join(f"{axis} {extent:.1f}" for axis, extent in zip("xyz", extents_um, strict=True))
        raise ValueError(
            f"expected contacts in a plane, found a 3-D probe that extends along all axes (um: {spread}); choose "
            'the plane with recording.planarize(axes="xy"), or sort its shanks one by one'
        )
    axes = sorted({*spans.tolist(), *[axis for axis in range(3) if axis not in spans][: 2 - len(spans)]})
    log("preprocessing", f"3-D probe: contacts in the plane {''.join('xyz'[axis] for axis in axes)}")
    return positions_um[:, axes]


def _are_distinct(positions_um: np.ndarray) -> bool:
    """Whether positions (num_channels, 2) say where the contacts are: finite, and not all at one place."""
    return bool(np.isfinite(positions_um).all() and (len(positions_um) == 1 or np.ptp(positions_um, axis=0).max() > 0))


def _check_spacing(positions_um: np.ndarray, channel_ids: np.ndarray, name: object, settings: GeometrySettings) -> None:
    """Raise ValueError where contacts are closer or further apart than any probe has them."""
    if len(positions_um) < 2:
        return
    distances_um, nearest = (each[:, 1] for each in cKDTree(positions_um).query(positions_um, k=2))
    smallest, usual_um = int(distances_um.argmin()), float(np.median(distances_um))
    if distances_um[smallest] < settings.min_spacing_um:
        pair = f"{channel_ids[smallest]} and {channel_ids[nearest[smallest]]}"
        found = f"{distances_um[smallest]:g} um between channels {pair} of group {name}"
    elif usual_um > settings.max_spacing_um:
        found = f"{1e-3 * usual_um:g} mm (median) between neighbours of group {name}"
    else:
        return
    raise ValueError(
        f"expected contacts of a group {settings.min_spacing_um:g} um to {1e-3 * settings.max_spacing_um:g} mm apart, "
        f"found {found}; set probe.si_units to the unit of the positions ('um', 'mm' or 'm'), correct the positions, "
        "or give channels that share no spikes different values of the property 'group'"
    )


def _default_positions(num_channels: int, settings: GeometrySettings) -> np.ndarray:
    """Positions (num_channels, 2) um on a tetrode or, for more channels, in a column."""
    if num_channels <= 4:
        return settings.tetrode_spacing_um * np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])[:num_channels]
    return np.column_stack([np.zeros(num_channels), settings.linear_spacing_um * np.arange(num_channels)])


def _describe_assumed(groups: list[tuple[object, int]], settings: GeometrySettings) -> str:
    """Half a sentence on the groups (name, number of channels) whose positions are assumed."""
    names = ", ".join(str(name) for name, _ in groups[:8]) + (", ..." if len(groups) > 8 else "")
    parts = []
    if any(count <= 4 for _, count in groups):
        parts.append(f"a tetrode ({settings.tetrode_spacing_um:g} um square)")
    if any(count > 4 for _, count in groups):
        parts.append(f"a linear probe in the order of the channels, {settings.linear_spacing_um:g} um apart")
    sizes = " (2 to 4 channels) or ".join(parts)
    counted = f"group {names}" if len(groups) == 1 else f"{len(groups)} groups ({names})"
    return f"{counted}: channels are placed as {sizes}. Attach the real one with recording.set_probe"
