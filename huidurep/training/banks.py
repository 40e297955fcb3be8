"""Template banks of a pretraining run: which probes, which sources of units, made once and kept."""

import logging

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
        None), ``cells_share``, ``reuse`` (a bank file of another run, or None).
    seed : int

    Returns
    -------
    list of TemplateBank

    Raises
    ------
    ValueError
        If a type of probe is unknown.
    FileNotFoundError
        If a file named in the settings is missing.
    """
    unknown = sorted(set(wanted["banks"]) - set(PROBE_TYPES))
    if unknown:
        raise ValueError(f"expected types of probe among {list(PROBE_TYPES)}, found {unknown}: correct `banks`.")
    if path.exists():
        return load_banks(path)
    if wanted["reuse"] is not None:
        banks = load_banks(wanted["reuse"])
        return [bank for bank in banks if bank.kind in wanted["banks"]]
    real = None if wanted["real"] is None else read_real_units(wanted["real"])
    rng, banks = np.random.default_rng(seed), []
    for kind, count in wanted["banks"].items():
        for number in range(count):
            source = _source_of(number, count, wanted)
            logger.info("template bank %d of %d, %s: %s", number + 1, count, kind, source)
            positions = contact_layout(kind, CHANNELS[kind], rng)
            waveforms, peak, rate = _draw(rng, positions, source, wanted, real)
            banks.append(TemplateBank(waveforms, positions, peak, rate, kind=kind))
    save_banks(banks, path)
    return load_banks(path)  # as a resumed run reads them


def _source_of(number, count, wanted):
    """Sources take their shares of a probe's banks in turn."""
    bounds = [("real", wanted["real"] is not None and wanted["real_share"])]
    bounds += [("detailed", wanted["cells"] is not None and wanted["cells_share"])]
    bounds += [("spikeinterface", wanted["spikeinterface_share"])]
    reached = 0.0
    for name, share in bounds:
        reached += share or 0.0
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
