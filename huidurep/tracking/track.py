"""Track neurons over sessions: results of the same probe -> UnitTracks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hub.select import resolve_auto
from ..provenance import versions
from .assignment import assign_neurons
from .group_units import GroupUnits, describe_units, near_waveforms
from .matching import (
    estimate_displacement,
    log_odds,
    pair_features,
    pair_probabilities,
    probe_group,
)
from .sessions import SessionUnits, isi_histograms, read_session
from .settings import TRACKING_SETTINGS, Calibration, TrackingSettings, load_calibration
from .unit_tracks import NEURON_COLUMNS, PAIR_COLUMNS, UnitTracks

if TYPE_CHECKING:
    import pandas as pd

    from ..models.modeling_huidurep import HuiduRep

SAME_CONTACT_UM = 1.0
MIN_SHARED_CONTACTS = 0.5  # of the contacts of the session with fewer: bad channels are left out
LISTED_PROBABILITY = 0.001


@dataclass(frozen=True, eq=False)
class _GroupTracks:
    """Neurons of one channel group: units of each session, their rows in it, and what was found."""

    rows: list[np.ndarray]
    units: list[GroupUnits]
    model: str
    moves_um: np.ndarray
    probabilities: dict[tuple[int, int], np.ndarray]
    neurons: list[np.ndarray]


def track(
    results: Sequence,
    *,
    model: str | Path | HuiduRep = "auto",
    use_isi: bool = False,
    job_kwargs: dict | None = None,
    settings: TrackingSettings | None = None,
) -> UnitTracks:
    """Find the same neurons in sortings of several sessions of one probe.

    Units are compared by the embeddings of their templates, by the templates themselves, which are shifted by the
    estimated displacement of the probe, by their places and amplitudes. Firing statistics are not used, since they are
    what experiments ask about.

    Parameters
    ----------
    results : sequence
        In the order of the sessions; each a SortingResult or its folder, a SortingAnalyzer with templates, or a phy
        folder with its recording as (folder, recording).
    model : str, Path or HuiduRep
        Embeds the templates. "auto": the embedded checkpoint for the probe; the model that sorted is not needed.
    use_isi : bool
        Also compare the histograms of inter-spike intervals.
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on, for phy folders.
    settings : TrackingSettings, optional
        Tuned numbers, for benchmarks.

    Returns
    -------
    UnitTracks

    Raises
    ------
    FileNotFoundError, ImportError, OSError
        A folder that is no result; pandas is not installed; no such checkpoint.
    TypeError
        Not a result.
    ValueError
        Less than two sessions, other probes or rates, a session without units or given twice.
    """
    sessions = _read_sessions(results, job_kwargs, settings := settings or TRACKING_SETTINGS)
    histograms = [isi_histograms(each.sorting) if use_isi else None for each in sessions]
    neurons = [np.full(len(each.unit_groups), -1) for each in sessions]
    waveforms: list[list] = [[None] * len(each.unit_groups) for each in sessions]
    pairs, displacement_um, models, num_neurons = [], {}, {}, 0
    for group in dict.fromkeys(str(name) for each in sessions for name in each.channel_groups):
        found = _track_group(group, sessions, histograms, model, settings)
        for session, rows in enumerate(found.rows):
            neurons[session][rows] = found.neurons[session] + num_neurons
            for unit, shown in zip(rows, near_waveforms(found.units[session]), strict=True):
                waveforms[session][unit] = shown
        pairs += _list_pairs(found.probabilities, found.rows)
        num_neurons += 1 + max((int(each.max()) for each in found.neurons if len(each)), default=-1)
        displacement_um[group] = [None if np.isnan(move) else round(float(move), 1) for move in found.moves_um[0]]
        models[group] = found.model
    identities = [each.identity and list(each.identity) for each in sessions]
    info = {"model": models, "use_isi": use_isi, "versions": versions(), "recordings": identities}
    shapes = np.stack([each for own in waveforms for each in own])
    return UnitTracks(_neuron_table(sessions, neurons), _pair_table(sessions, pairs), displacement_um, shapes, info)


def estimate_displacements(
    units: Sequence[GroupUnits], calibration: Calibration, *, settings: TrackingSettings = TRACKING_SETTINGS
) -> np.ndarray:
    """Displacement between any two sessions of a channel group.

    Parameters
    ----------
    units : sequence of GroupUnits
        One per session.
    calibration : Calibration
    settings : TrackingSettings

    Returns
    -------
    ndarray (num_sessions, num_sessions)
        um; how much higher neurons lie in the second session, NaN where it is not known. The median of the direct
        estimate, counted twice, and of the ways over each other session, so that a session with few common neurons is
        placed by the others.
    """
    num_sessions = len(units)
    direct = np.zeros((num_sessions, num_sessions))
    for first, second in combinations(range(num_sessions), 2):
        move = estimate_displacement(units[first], units[second], calibration, settings=settings)
        direct[first, second], direct[second, first] = move, -move
    # over the first or the second session itself, the way is the direct estimate
    ways = direct[:, :, None] + direct[None]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # no way is known
        return np.nanmedian(ways, axis=1)


def compare_sessions(
    units: Sequence[GroupUnits],
    moves_um: np.ndarray,
    calibration: Calibration,
    *,
    settings: TrackingSettings = TRACKING_SETTINGS,
) -> dict[tuple[int, int], np.ndarray]:
    """Probability that two units are one neuron, for all sessions of a channel group.

    Parameters
    ----------
    units : sequence of GroupUnits
        One per session.
    moves_um : ndarray (num_sessions, num_sessions)
        From `estimate_displacements`.
    calibration : Calibration
    settings : TrackingSettings

    Returns
    -------
    dict of (int, int) to ndarray (num_first, num_second)
    """
    probabilities = {}
    for first, second in combinations(range(len(units)), 2):
        pair = units[first], units[second]
        move_um = float(np.nan_to_num(moves_um[first, second]))
        features, may_match = pair_features(*pair, move_um, calibration, settings=settings)
        odds = log_odds(features, may_match, calibration, group=probe_group(pair[0].positions_um, settings))
        probabilities[first, second] = pair_probabilities(odds, settings=settings)
    return probabilities


def _track_group(
    group: str,
    sessions: Sequence[SessionUnits],
    histograms: Sequence[np.ndarray | None],
    model: str | Path | HuiduRep,
    settings: TrackingSettings,
) -> _GroupTracks:
    """Find the neurons of one channel group."""
    calibration = load_calibration()
    rows = [np.flatnonzero(each.unit_groups == group) for each in sessions]
    name, encoder = _load_model(model, sessions, group)
    units = [
        _describe(session, group, own, encoder, isi, settings)
        for session, own, isi in zip(sessions, rows, histograms, strict=True)
    ]
    moves_um = estimate_displacements(units, calibration, settings=settings)
    probabilities = compare_sessions(units, moves_um, calibration, settings=settings)
    neurons = assign_neurons([len(own) for own in rows], probabilities, settings=settings)
    return _GroupTracks(rows, units, name, moves_um, probabilities, neurons)


def _read_sessions(results: Sequence, job_kwargs: dict | None, settings: TrackingSettings) -> list[SessionUnits]:
    """Sessions that can be compared."""
    try:
        import pandas  # noqa: F401 - tables of neurons and pairs
    except ImportError as error:
        raise ImportError("expected pandas for the tables of neurons, found none; pip install pandas") from error
    if isinstance(results, str | Path) or not isinstance(results, Sequence):
        raise TypeError(f"expected a list of results, one per session, found {type(results).__name__}; put them in one")
    if len(results) < 2:
        raise ValueError(f"expected at least two sessions, found {len(results)}; give the results of several days")
    sessions = [read_session(source, job_kwargs=job_kwargs, settings=settings) for source in results]
    for index, session in enumerate(sessions):
        if not len(session.templates_uv):
            raise ValueError(f"expected units in every session, found none in session {index}; leave it out")
        for earlier, other in enumerate(sessions[:index]):
            same = results[index] is results[earlier] or (session.identity and session.identity == other.identity)
            if same:
                raise ValueError(
                    f"expected different recordings, found session {earlier} again as session {index}; leave it out"
                )
        _check_same_probe(sessions[0], session, index, settings)
    return sessions


def _check_same_probe(first: SessionUnits, session: SessionUnits, index: int, settings: TrackingSettings) -> None:
    rates = [each.sorting.get_sampling_frequency() for each in (first, session)]
    if abs(rates[1] / rates[0] - 1) > settings.max_rate_difference:
        raise ValueError(
            f"expected the sampling frequency of session 0, {rates[0]:g} Hz, found {rates[1]:g} Hz in session {index}; "
            "resample the recording with spikeinterface.preprocessing.resample and sort again"
        )
    shared, names = 0, [np.unique(each.channel_groups) for each in (first, session)]
    for group in names[0]:
        own, other = (each.positions_um[each.channel_groups == group] for each in (first, session))
        if len(own) and len(other):
            near = np.linalg.norm(own[:, None] - other[None], axis=2) <= SAME_CONTACT_UM
            shared += int(near.any(axis=1).sum())
    fewest = min(len(first.positions_um), len(session.positions_um))
    if shared < MIN_SHARED_CONTACTS * fewest:
        named = [f"{len(each)} ({', '.join(each[:4])}{', ...' * (len(each) > 4)})" for each in names]
        raise ValueError(
            f"expected the contacts of session 0 ({len(first.positions_um)}), found {len(session.positions_um)} in "
            f"session {index}, of which {shared} are at the same places in a channel group of the same name; track "
            f"sessions of one probe, sorted with the same groups: here {named[0]} and {named[1]}"
        )


def _load_model(model: str | Path | HuiduRep, sessions: Sequence[SessionUnits], group: str) -> tuple[str, HuiduRep]:
    """Name and encoder for a channel group."""
    if not isinstance(model, str | Path):
        return str(getattr(model.config, "_name_or_path", "")) or "given", model
    from ..models.modeling_huidurep import HuiduRep

    name = str(model)
    if name == "auto":
        contacts = [each.positions_um[each.channel_groups == group] for each in sessions]
        name, _ = resolve_auto(contacts)
    return name, HuiduRep.from_pretrained(name)


def _describe(
    session: SessionUnits,
    group: str,
    rows: np.ndarray,
    encoder: HuiduRep,
    histograms: np.ndarray | None,
    settings: TrackingSettings,
) -> GroupUnits:
    """Units of one channel group."""
    channels = session.channel_groups == group
    if not channels.any():  # all of them were bad channels: no units, on some contact
        channels = np.arange(len(channels)) == 0
    units = describe_units(
        session.templates_uv[rows][:, :, channels],
        session.positions_um[channels],
        encoder,
        sampling_frequency=session.sorting.get_sampling_frequency(),
        peak_index=session.peak_index,
        settings=settings,
    )
    return units if histograms is None else replace(units, isi_histograms=histograms[rows])


def _list_pairs(probabilities: dict[tuple[int, int], np.ndarray], rows: Sequence[np.ndarray]) -> list[tuple]:
    """(session_1, row, session_2, row, probability) of all pairs that are not negligible."""
    listed = []
    for (first, second), matrix in probabilities.items():
        for one, other in zip(*np.nonzero(matrix > LISTED_PROBABILITY), strict=True):
            listed.append((first, rows[first][one], second, rows[second][other], float(matrix[one, other])))
    return listed


def _neuron_table(sessions: Sequence[SessionUnits], neurons: Sequence[np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (int(neuron), session, unit)
        for session, (each, own) in enumerate(zip(sessions, neurons, strict=True))
        for unit, neuron in zip(each.sorting.unit_ids.tolist(), own, strict=True)
    ]
    return pd.DataFrame(rows, columns=NEURON_COLUMNS)


def _pair_table(sessions: Sequence[SessionUnits], pairs: list[tuple]) -> pd.DataFrame:
    import pandas as pd

    ids: list[list[Any]] = [each.sorting.unit_ids.tolist() for each in sessions]
    rows = [(one, ids[one][row], two, ids[two][column], p) for one, row, two, column, p in pairs]
    table = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    return table.sort_values("probability", ascending=False, kind="stable", ignore_index=True)
