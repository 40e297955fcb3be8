"""Template libraries of a pretraining run: for which probes, from which sources of units; made once and kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..simulation.probes import PROBE_TYPES, contact_layout
from ..simulation.templates import draw_templates
from .dataset import TemplateLibrary, load_libraries, save_libraries
from .real_templates import (
    NUM_SAMPLES,
    PEAK_INDEX,
    SAMPLING_FREQUENCY_HZ,
    RealUnit,
    draw_real_units,
    read_real_units,
)

logger = logging.getLogger(__name__)
# Contacts of a library, by type of probe
NUM_CHANNELS = dict(zip(PROBE_TYPES, (4, 8, 12, 12, 16, 2, 8), strict=True))


def make_libraries(path: Path, wanted: dict[str, Any], seed: int) -> list[TemplateLibrary]:
    """Make the template libraries of a run, or read them where an earlier session made them.

    Parameters
    ----------
    path : Path
        File .npz of the libraries.
    wanted : dict
        ``templates`` of the settings: ``banks`` (number of libraries for each type of probe), ``units_per_bank`` (of
        each library), ``fewer_contacts`` (for some types of probe the share of the libraries with one contact less, as
        three of a tetrode or one of a stereotrode), ``num_views``, ``drift_um``, ``spikeinterface_share`` (of the
        libraries; the others hold procedural neurons), ``real`` (file of real units, or None), ``real_share`` (of the
        libraries), ``cells`` (folder of detailed cells, or None), ``cells_share``, ``reuse`` (a library file of another
        run, of which all libraries for the types of probe in ``banks`` are copied and nothing is simulated; or None).
    seed : int

    Returns
    -------
    list of TemplateLibrary

    Raises
    ------
    ValueError
        If a type of probe is unknown, or the file to reuse has no library for one.
    FileNotFoundError
        If a file named in the settings is missing.
    """
    unknown = sorted(set(wanted["banks"]) - set(PROBE_TYPES))
    if unknown:
        raise ValueError(f"expected types of probe among {list(PROBE_TYPES)}, found {unknown}: correct `banks`.")
    if path.exists():
        return load_libraries(path)
    libraries = _simulate_libraries(wanted, seed) if wanted["reuse"] is None else _reuse_libraries(wanted)
    save_libraries(libraries, path)
    return load_libraries(path)  # as a resumed run reads them


def _reuse_libraries(wanted: dict[str, Any]) -> list[TemplateLibrary]:
    """Libraries of another run for the types of probe that are wanted."""
    source = Path(wanted["reuse"])
    if not source.is_file():
        raise FileNotFoundError(f"expected template libraries in {source}, found none: correct `templates.reuse`.")
    libraries = load_libraries(source)
    found = sorted({library.kind for library in libraries})
    missing = sorted(kind for kind, count in wanted["banks"].items() if count and kind not in found)
    if missing:
        raise ValueError(
            f"expected template libraries for {missing} in {source}, found those for {found}: remove these types from "
            "`banks`, or leave out `reuse`."
        )
    return [library for library in libraries if wanted["banks"].get(library.kind)]


def _simulate_libraries(wanted: dict[str, Any], seed: int) -> list[TemplateLibrary]:
    """Libraries that are drawn for this run."""
    real = [] if wanted["real"] is None else read_real_units(wanted["real"])
    rng, libraries, shares = np.random.default_rng(seed), [], source_shares(wanted)
    for kind, count in wanted["banks"].items():
        for number in range(count):
            source = _source_of(number, count, shares)
            logger.info("template library %d of %d, %s: %s", number + 1, count, kind, source)
            fewer = _is_among(number, wanted["fewer_contacts"].get(kind, 0.0))
            positions = contact_layout(kind, NUM_CHANNELS[kind] - fewer, rng)
            waveforms, peak_index, rate = _draw(rng, positions, source, wanted, real)
            libraries.append(TemplateLibrary(waveforms, positions, peak_index, rate, kind=kind))
    return libraries


def source_shares(wanted: dict[str, Any]) -> dict[str, float]:
    """Shares of the sources of units in the template libraries of a run.

    Parameters
    ----------
    wanted : dict
        As for :func:`make_libraries`.

    Returns
    -------
    dict of str to float
        Share of each source in the libraries of a probe, in the order of the libraries; sources without a share are
        left out. Procedural neurons ("cells") have the remaining share.
    """
    shares = dict(real=wanted["real_share"] if wanted["real"] is not None else 0.0)
    shares["detailed"] = wanted["cells_share"] if wanted["cells"] is not None else 0.0
    shares["spikeinterface"] = wanted["spikeinterface_share"]
    shares = {source: share for source, share in shares.items() if share}
    left = 1 - sum(shares.values())
    return shares | ({"cells": left} if left > 1e-9 else {})


def _source_of(number: int, count: int, shares: dict[str, float]) -> str:
    """Source of library `number` of `count`: the first libraries are of the first source, and so on."""
    reached = 0.0
    for name, share in shares.items():
        reached += share
        if number + 0.5 < reached * count:
            return name
    return "cells"


def _is_among(number: int, share: float) -> bool:
    """Whether library `number` is among a share of the libraries that is spread evenly over all sources."""
    return math.floor((number + 1) * share + 1e-9) > math.floor(number * share + 1e-9)


def _draw(
    rng: np.random.Generator, positions: np.ndarray, source: str, wanted: dict[str, Any], real: Sequence[RealUnit]
) -> tuple[np.ndarray, int, float]:
    """Waveforms (num_units, num_views, 256, num_channels) in uV, peak index and sampling frequency (Hz)."""
    options = dict(num_views=wanted["num_views"], drift_um=wanted["drift_um"])
    if source == "real":
        waveforms = draw_real_units(rng, real, positions, wanted["units_per_bank"], **options)
        return waveforms, PEAK_INDEX, SAMPLING_FREQUENCY_HZ
    source = wanted["cells"] if source == "detailed" else source
    units = draw_templates(rng, positions, wanted["units_per_bank"], source=source, **options)
    # An even number of samples: the grid of frequencies that filters are computed on then is the transform's own.
    missing = NUM_SAMPLES - units.waveforms.shape[2]
    waveforms = np.pad(units.waveforms, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return waveforms, units.peak_index, units.sampling_frequency
