"""Template banks of a pretraining run: which probes, which sources of units, made once and kept."""

import logging
from pathlib import Path

import numpy as np

from ..simulation.probes import PROBE_TYPES, contact_layout
from ..simulation.templates import draw_templates
from .dataset import TemplateBank, load_banks, save_banks
from .real_templates import PEAK, RATE_HZ, SAMPLES, draw_real_units, read_real_units

logger = logging.getLogger(__name__)
CHANNELS = dict(zip(PROBE_TYPES, (4, 8, 12, 12, 16), strict=True))


def make_banks(path, wanted, seed):
    """Make the template banks of a run, or read them where an earlier session made them.

    Parameters
    ----------
    path : Path
        File .npz of the banks.
    wanted : dict
        ``templates`` of the settings: ``banks`` (number of banks for each type of probe), ``units_per_bank``,
        ``num_views``, ``drift_um``, ``spikeinterface_share`` (of the banks; the others hold procedural neurons),
        ``real`` (file of real units, or None), ``real_share`` (of the banks), ``cells`` (folder of detailed cells, or
        None), ``cells_share``, ``reuse`` (a bank file of another run, of which all banks for the types of probe in
        ``banks`` are copied and nothing is simulated; or None).
    seed : int

    Returns
    -------
    list of TemplateBank

    Raises
    ------
    ValueError
        If a type of probe is unknown, or the file to reuse has no bank for one.
    FileNotFoundError
        If a file named in the settings is missing.
    """
    unknown = sorted(set(wanted["banks"]) - set(PROBE_TYPES))
    if unknown:
        raise ValueError(f"expected types of probe among {list(PROBE_TYPES)}, found {unknown}: correct `banks`.")
    if path.exists():
        return load_banks(path)
    banks = _simulate_banks(wanted, seed) if wanted["reuse"] is None else _reuse_banks(wanted)
    save_banks(banks, path)
    return load_banks(path)  # as a resumed run reads them


def _reuse_banks(wanted):
    """Banks of another run for the types of probe that are wanted."""
    source = Path(wanted["reuse"])
    if not source.is_file():
        raise FileNotFoundError(f"expected template banks in {source}, found none: correct `templates.reuse`.")
    banks = load_banks(source)
    found = sorted({bank.kind for bank in banks})
    missing = sorted(kind for kind, count in wanted["banks"].items() if count and kind not in found)
    if missing:
        raise ValueError(
            f"expected banks for {missing} in {source}, found those for {found}: take these types out of `banks`, or "
            "leave out `reuse`."
        )
    return [bank for bank in banks if wanted["banks"].get(bank.kind)]


def _simulate_banks(wanted, seed):
    """Banks that are drawn for this run."""
    real = None if wanted["real"] is None else read_real_units(wanted["real"])
    rng, banks, shares = np.random.default_rng(seed), [], source_shares(wanted)
    for kind, count in wanted["banks"].items():
        for number in range(count):
            source = _source_of(number, count, shares)
            logger.info("template bank %d of %d, %s: %s", number + 1, count, kind, source)
            positions = contact_layout(kind, CHANNELS[kind], rng)
            waveforms, peak, rate = _draw(rng, positions, source, wanted, real)
            banks.append(TemplateBank(waveforms, positions, peak, rate, kind=kind))
    return banks


def source_shares(wanted):
    """Say which sources the units of a run come from.

    Parameters
    ----------
    wanted : dict
        As for :func:`make_banks`.

    Returns
    -------
    dict of str to float
        Share of each source in the banks of a probe, in the order in which they take them; those without are left out.
        Procedural neurons ("cells") have what is left.
    """
    shares = dict(real=wanted["real_share"] if wanted["real"] is not None else 0.0)
    shares["detailed"] = wanted["cells_share"] if wanted["cells"] is not None else 0.0
    shares["spikeinterface"] = wanted["spikeinterface_share"]
    shares = {source: share for source, share in shares.items() if share}
    left = 1 - sum(shares.values())
    return shares | ({"cells": left} if left > 1e-9 else {})


def _source_of(number, count, shares):
    """Sources take their shares of a probe's banks in turn."""
    reached = 0.0
    for name, share in shares.items():
        reached += share
        if number + 0.5 < reached * count:
            return name
    return "cells"


def _draw(rng, positions, source, wanted, real):
    """Waveforms (units, views, 256, channels), peak sample and rate."""
    options = dict(num_views=wanted["num_views"], drift_um=wanted["drift_um"])
    if source == "real":
        return draw_real_units(rng, real, positions, wanted["units_per_bank"], **options), PEAK, RATE_HZ
    source = wanted["cells"] if source == "detailed" else source
    units = draw_templates(rng, positions, wanted["units_per_bank"], source=source, **options)
    # An even number of samples: the grid of frequencies that filters are computed on then is the transform's own.
    missing = SAMPLES - units.waveforms.shape[2]
    waveforms = np.pad(units.waveforms, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return waveforms, units.peak_index, units.sampling_frequency
