"""A page about neurons that were tracked over sessions: one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..output_files import check_output_file, new_file
from .page import load_template

if TYPE_CHECKING:
    from ..tracking.unit_tracks import UnitTracks

MARK = '<p class="kicker">Neurons tracked over sessions'  # of tracks_page.html
WIDTH, HEIGHT = 44, 40  # of the picture of one contact, in pixels


def write_tracks_page(tracks: UnitTracks, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the page: each neuron's templates over the sessions, probabilities, and what it could be confused with.

    Parameters
    ----------
    tracks : UnitTracks
    path : str or Path
        File to write; its folder is created.
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
    check_output_file(path, overwrite=overwrite, mark=MARK)
    text = load_template("tracks_page.html").render(**describe_tracks(tracks))
    with new_file(path, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf8", errors="backslashreplace")
    return Path(path)


def describe_tracks(tracks: UnitTracks) -> dict[str, Any]:
    """Values of the template's variables.

    Parameters
    ----------
    tracks : UnitTracks

    Returns
    -------
    dict
    """
    table = tracks.neurons
    neuron_of = dict(zip(zip(table["session"], table["unit"], strict=True), table["neuron"], strict=True))
    links: dict[int, list] = {}
    rivals: dict[int, dict] = {}
    for session_1, unit_1, session_2, unit_2, probability in tracks.pairs.itertuples(index=False):
        first, second = neuron_of[session_1, unit_1], neuron_of[session_2, unit_2]
        if first == second:
            links.setdefault(first, []).append((session_1, session_2, probability))
            continue
        for own, other in ((first, second), (second, first)):
            found = rivals.setdefault(own, {})
            found[other] = max(found.get(other, 0.0), probability)
    neurons = []
    for neuron, own in table.groupby("neuron"):
        cells: list = [None] * tracks.num_sessions
        scale = float(np.nanmax(np.abs(tracks.waveforms_uv[own.index])))
        for row, session, unit in zip(own.index, own["session"], own["unit"], strict=True):
            cells[session] = {"unit": unit, "lines": _lines(tracks.waveforms_uv[row], scale)}
        ranked = sorted(rivals.get(neuron, {}).items(), key=lambda each: -each[1])[:3]
        probabilities = sorted(links.get(neuron, []))
        neurons.append({"number": neuron, "cells": cells, "links": probabilities, "rivals": ranked, "scale": scale})
    neurons.sort(key=lambda each: (-sum(cell is not None for cell in each["cells"]), each["number"]))
    several = sum(len(set(own["session"])) > 1 for _, own in table.groupby("neuron"))
    return {
        "num_sessions": tracks.num_sessions,
        "num_units": len(table),
        "num_neurons": len(neurons),
        "num_several": several,
        "neurons": neurons,
        "displacement_um": tracks.displacement_um,
        "info": tracks.info,
        "width": WIDTH,
        "height": HEIGHT,
    }


def _lines(waveforms_uv: np.ndarray, scale: float) -> list[str]:
    """Points of a polyline for each contact (num_contacts, num_samples), on one scale for all sessions."""
    known = waveforms_uv[np.isfinite(waveforms_uv).all(axis=1)]
    x = np.linspace(1, WIDTH - 1, waveforms_uv.shape[1])
    y = HEIGHT / 2 * (1 - 0.95 * known / max(scale, 1e-9))
    return [" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, row, strict=True)) for row in y]
