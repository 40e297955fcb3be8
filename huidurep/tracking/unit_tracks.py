"""The neurons of several sessions: tables, files, and the ids as a property of the units."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hub.json_files import read_json_object
from ..output_files import new_folder
from ..sorting.recorded_times import DAMAGED_ARRAY, describe_damage
from .sessions import find_tracked, recording_identity

if TYPE_CHECKING:
    import pandas as pd

TRACKS_FORMAT, FORMAT_VERSION = "huidurep-tracks", 1
INFO_FILE, NEURONS_FILE, PAIRS_FILE = "huidurep_tracks.json", "neurons.csv", "pairs.csv"
WAVEFORMS_FILE = "waveforms.npy"
NEURON_COLUMNS = ("neuron", "session", "unit")
PAIR_COLUMNS = ("session_1", "unit_1", "session_2", "unit_2", "probability")
REMEDY = "copy the folder again or track again"


@dataclass(frozen=True, eq=False)
class UnitTracks:
    """Which units of several sessions are one neuron.

    Attributes
    ----------
    neurons : pandas.DataFrame
        One row per unit: neuron (0, 1, ...), session (0, 1, ..., in the given order) and unit (its id). Units that were
        found in no other session have a neuron of their own.
    pairs : pandas.DataFrame
        Pairs of units of different sessions with a probability above 0.001 of being one neuron: session_1, unit_1,
        session_2, unit_2, probability. The most probable come first.
    displacement_um : dict of str to list of float or None
        For each channel group, how far neurons lie above their place in session 0, in each session; None where it is
        not known, as on tetrodes, whose contacts do not tell depths apart.
    waveforms_uv : ndarray of float32 (num_rows, num_contacts, num_samples)
        Templates of the rows of `neurons` on the main channel and up to three others nearest to it, at 30 kHz; NaN
        where a channel group has fewer.
    info : dict
        model (checkpoint of each channel group), use_isi, the versions, and recordings (hash and size of each).
    """

    neurons: pd.DataFrame
    pairs: pd.DataFrame
    displacement_um: dict[str, list[float | None]]
    waveforms_uv: np.ndarray
    info: dict[str, Any]

    @property
    def num_sessions(self) -> int:
        """Number of sessions."""
        return len(next(iter(self.displacement_um.values())))

    def neuron_of_units(self, session: int, unit_ids: Sequence) -> np.ndarray:
        """Neurons of the units of a session.

        Parameters
        ----------
        session : int
        unit_ids : sequence
            Ids of units, in any order.

        Returns
        -------
        ndarray of int (num_units,)

        Raises
        ------
        ValueError
            A unit that was not tracked.
        """
        own = self.neurons[self.neurons["session"] == session]
        known = dict(zip(own["unit"].astype(str), own["neuron"], strict=True))
        missing = [each for each in unit_ids if str(each) not in known]
        if missing:
            raise ValueError(
                f"expected units of session {session} ({len(known)} units), found {missing[0]!r}, which was not "
                "tracked; give the sortings in the order in which they were tracked"
            )
        return np.array([known[str(each)] for each in unit_ids], dtype="int64")

    def set_neurons(self, results: Sequence) -> None:
        """Set the property "neuron" of the units of each result; exports to phy and NWB have it as a column.

        Units without spikes, and those whose property "quality" is "noise", were not tracked: their neuron is -1.

        Parameters
        ----------
        results : sequence of SortingResult, SortingAnalyzer or BaseSorting
            All sessions, in the order in which they were tracked.

        Raises
        ------
        ValueError
            Another number of sessions, another order, or other units.
        """
        if len(results) != self.num_sessions:
            raise ValueError(
                f"expected {self.num_sessions} sessions, found {len(results)}; give all of them, in the same order"
            )
        self._check_order(results)
        sortings = [getattr(result, "sorting", result) for result in results]
        found = []
        for session, sorting in enumerate(sortings):
            is_tracked = find_tracked(sorting)
            found.append(np.full(sorting.get_num_units(), -1))
            found[-1][is_tracked] = self.neuron_of_units(session, sorting.unit_ids[is_tracked])
        for sorting, neurons in zip(sortings, found, strict=True):
            sorting.set_property("neuron", neurons)

    def _check_order(self, results: Sequence) -> None:
        """Refuse a result whose recording is that of another session."""
        known = self.info.get("recordings", [])
        for session, result in enumerate(results):
            found = recording_identity(getattr(result, "provenance", {}).get("recording", {}))
            places = [place for place, each in enumerate(known) if found is not None and each == list(found)]
            if places and session not in places:
                raise ValueError(
                    f"expected the result of session {session}, found that of session {places[0]}; give the results in "
                    "the order in which they were tracked"
                )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder with neurons.csv, pairs.csv, waveforms.npy and huidurep_tracks.json.

        Parameters
        ----------
        folder : str or Path
        overwrite : bool
            Replace earlier tracks.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            The folder is not empty.
        """
        with new_folder(folder, overwrite=overwrite, mark=INFO_FILE) as partial:
            self.neurons.to_csv(partial / NEURONS_FILE, index=False)
            self.pairs.to_csv(partial / PAIRS_FILE, index=False, float_format="%.4g")
            np.save(partial / WAVEFORMS_FILE, self.waveforms_uv)
            described = {"format": TRACKS_FORMAT, "format_version": FORMAT_VERSION}
            described |= {"displacement_um": self.displacement_um, "info": self.info}
            described["unit_dtype"] = self.neurons["unit"].to_numpy().dtype.kind
            # a session may have names for units, and another one numbers
            described["numbered_sessions"] = [
                session for session, units in self.neurons.groupby("session")["unit"] if all(map(_is_number, units))
            ]
            (partial / INFO_FILE).write_text(json.dumps(described, indent=1), encoding="utf8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> UnitTracks:
        """Read a folder that `save` wrote.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        UnitTracks

        Raises
        ------
        FileNotFoundError
            No tracks at `folder`.
        ValueError
            Files that are damaged, or of a later version.
        """
        folder = Path(folder)
        if not (folder / INFO_FILE).is_file():
            raise FileNotFoundError(
                f"expected a folder with {INFO_FILE} as UnitTracks.save writes it, found none at {folder}; give the "
                "folder of the tracks"
            )
        described = read_json_object(folder / INFO_FILE, REMEDY)
        number = described.get("format_version")
        if described.get("format") != TRACKS_FORMAT or not isinstance(number, int) or number > FORMAT_VERSION:
            raise ValueError(
                f"expected {TRACKS_FORMAT} up to version {FORMAT_VERSION}, found {described.get('format')!r} "
                f"{number!r} in {folder}; update huidurep"
            )
        displacement_um, info = described.get("displacement_um"), described.get("info")
        if not isinstance(displacement_um, dict) or not displacement_um or not isinstance(info, dict):
            raise ValueError(f"expected displacement_um and info in {folder / INFO_FILE}, found others; {REMEDY}")
        names: dict[str, type] = (
            {each: str for each in ("unit", "unit_1", "unit_2")} if described.get("unit_dtype") != "i" else {}
        )
        neurons = _read_table(folder / NEURONS_FILE, NEURON_COLUMNS, names)
        pairs = _read_table(folder / PAIRS_FILE, PAIR_COLUMNS, names)
        if names:
            numbered = described.get("numbered_sessions") or []
            for table, session, unit in (
                (neurons, "session", "unit"),
                (pairs, "session_1", "unit_1"),
                (pairs, "session_2", "unit_2"),
            ):
                table[unit] = _restore_numbers(table[unit], table[session].isin(numbered))
        waveforms_uv = _read_waveforms(folder / WAVEFORMS_FILE, len(neurons))
        return cls(neurons, pairs, displacement_um, waveforms_uv, info)

    def write_report(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a page about the neurons: one HTML file that needs no other file and no network.

        Parameters
        ----------
        path : str or Path
        overwrite : bool
            Replace an earlier file.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        FileExistsError
            The file exists.
        ImportError
            jinja2 is not installed.
        """
        from ..report.tracks_page import write_tracks_page

        return write_tracks_page(self, path, overwrite=overwrite)


def _is_number(unit: Any) -> bool:
    return isinstance(unit, int | np.integer)


def _restore_numbers(units: pd.Series, is_number: pd.Series) -> pd.Series:
    """Ids of units as they were before they were written as text."""
    kept = [int(unit) if number else unit for unit, number in zip(units, is_number, strict=True)]
    return units.__class__(kept, index=units.index, dtype=object)


def _read_waveforms(path: Path, num_rows: int) -> np.ndarray:
    try:
        waveforms_uv = np.load(path, allow_pickle=False)
    except DAMAGED_ARRAY as error:
        raise ValueError(f"expected an array in {path}, found {describe_damage(error)}; {REMEDY}") from error
    if waveforms_uv.dtype.kind != "f" or waveforms_uv.ndim != 3 or len(waveforms_uv) != num_rows:
        raise ValueError(f"expected waveforms of {num_rows} units in {path}, found {waveforms_uv.shape}; {REMEDY}")
    return waveforms_uv


def _read_table(path: Path, columns: tuple[str, ...], dtypes: dict[str, type]) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=dtypes, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a table in {path}, found: {error}; {REMEDY}") from error
    if tuple(table.columns) != columns:
        raise ValueError(f"expected the columns {', '.join(columns)} in {path}, found others; {REMEDY}")
    return table
