"""Real spikes for benchmarks/embedding.py: labelled sets of one contact, hand-cut tetrodes, opto-tagged units.

`opto` has mean waveforms of units of held-out sessions only, in measured noise. Units of one kind of probe are placed
on one set of contacts, those around the main channel of the first unit. Other units are mirrored and shifted such that
their contacts fit these: columns are staggered, and some units are at the tip of the probe. The contact in the middle
is preferred for the main channel.

The contact positions stored with the Neuropixels units are not in the order of their channels: interpolation of each
channel's waveform from its neighbours leaves 0.69 of its power unexplained with them, but 0.20 with the order of the
probe (by rows, staggered columns; better for 21 of 22 units). The order of the probe is used.
"""

import json
import logging
from functools import partial
from itertools import product

import numpy as np
from embedding_sources import NOISE_UV, NUM_UNITS, SPIKES_PER_UNIT, Condition, Spikes, collide, oracle_labels

from huidurep.hub.probe_types import recognise_probe
from huidurep.simulation.probes import contact_layout
from huidurep.training.real_templates import HELD_OUT_SESSIONS, NEUROPIXELS_CHANNELS, neuropixels_places

logger = logging.getLogger(__name__)

TETRODE_UM = contact_layout("tetrode", 4)
AXONA_SAMPLING_HZ = 48000.0
AXONA_MIN_SPIKES = 50
NOISE_SAMPLING_HZ = 30000.0
WINDOW_CONTACTS = {"neuropixels-1.0": 12, "linear": 8, "staggered": 8}
FEWEST_UNITS = 4
GAIN_SPREAD = 0.1  # standard deviation of the logarithm of a spike's gain


def read_axona(path, step_uv):
    """Spikes of one file, or None and the reason why it is left out.

    int8 steps are converted to uV with one nominal gain, since the files store none, and inverted, since Axona stores
    depolarisation as positive. Spikes without label and units of fewer than 50 spikes are left out.
    """
    with np.load(path) as data:
        waveforms, labels = data["waveforms"].astype("f4"), data["label"]
        if float(data["fs"]) != AXONA_SAMPLING_HZ:
            raise ValueError(f"{path}: expected {AXONA_SAMPLING_HZ} Hz, found {float(data['fs'])} Hz; check the file")
    units, counts = np.unique(labels[labels > 0], return_counts=True)
    keep = np.isin(labels, units[counts >= AXONA_MIN_SPIKES])
    waveforms, labels = -step_uv * waveforms[keep], labels[keep]
    if len(np.unique(labels)) < 2:
        return None, f"{len(np.unique(labels))} unit of {AXONA_MIN_SPIKES} spikes or more, expected two"
    # the trigger is at 0.2 ms (sample 10), the trough shortly after it
    peak_index = int(np.median(waveforms.min(2).argmin(1)))
    return Spikes(waveforms, labels, peak_index, AXONA_SAMPLING_HZ, TETRODE_UM), ""


def axona_conditions(folder, *, step_uv):
    """One condition for each file, and the reasons of files that are left out."""
    if not folder.is_dir():
        return [], {"axona": f"no folder {folder}"}
    found, left_out = [], {}
    for path in sorted(folder.glob("*.npz")):
        spikes, reason = read_axona(path, step_uv)
        if spikes is None:
            left_out[path.stem] = reason
        else:
            found.append(Condition("axona", "tetrode", path.stem, 1, partial(_same, spikes)))
    return found, left_out


def one_contact_conditions(folder):
    """One condition for each published set of spikes of one contact, and the reason if there are none.

    `waveforms` (n, samples, 1), `label`, `sampling_hz` and `trough_index`, the peak; most point up.
    """
    if not folder.is_dir():
        return [], {"one contact": f"no folder {folder}"}
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as data:
            where = int(data["trough_index"]), float(data["sampling_hz"]), np.zeros((1, 2))
            spikes = Spikes(data["waveforms"].astype("f4"), data["label"], *where, peak_sign=None)
        found.append(Condition("one contact", "single-contact", path.stem, 1, partial(_same, spikes)))
    return found, {}


def _same(spikes, draw):
    return spikes


def read_opto(path):
    """Held-out units by kind of probe: list of (waveform (channels, samples) uV, contacts (channels, 2) um, times ms).

    Kinds: Neuropixels 1.0, whose staggering is the same all along the shank, and every other layout for itself.
    """
    kinds = {}
    for kind, unit, _ in _held_out_units(path):
        kinds.setdefault(kind, []).append(unit)
    return kinds


def read_opto_trains(path):
    """Spike times (s, from the unit's first spike on) of the units of `read_opto`, in its order."""
    kinds = {}
    for kind, _, train in _held_out_units(path):
        kinds.setdefault(kind, []).append(train)
    return kinds


def _held_out_units(path):
    """Yield kind, unit (waveform, contacts, times) and spike times (s) of held-out units."""
    facts = json.loads(path.with_suffix(".json").read_text())
    with np.load(path) as data:
        for fact in facts:
            if fact["session"] not in HELD_OUT_SESSIONS:
                continue
            number = fact["unit"]
            places, times = data[f"position_um_{number}"].astype(float), data[f"time_ms_{number}"]
            layout = tuple(map(tuple, np.unique(np.round(places - places.min(0)), axis=0)))
            neuropixels = len(places) == NEUROPIXELS_CHANNELS
            if neuropixels:
                places = neuropixels_places(NEUROPIXELS_CHANNELS)
            probe = "neuropixels-1.0" if neuropixels else recognise_probe(places)[0]
            probe = probe if probe in WINDOW_CONTACTS else "linear"
            kind = (probe, len(times), () if neuropixels else layout)
            train = data[f"spike_times_s_{number}"].astype(float)
            yield kind, (data[f"waveform_uv_{number}"].astype("f4"), places, times), train


def match_places(targets, places):
    """Nearest row of `places` for each row of `targets`, each used once, and the sum of distances (um)."""
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm(targets[:, None] - places[None], axis=-1)
    rows, columns = linear_sum_assignment(distance)
    return columns, distance[rows, columns].sum()


def fit_window(window, around):
    """Channels of a unit for a window and the largest misfit (um); `around`: its contacts relative to the main one."""
    best = None
    for flip in product((1, -1), repeat=2):
        for anchor in window:
            channels, misfit = match_places(window - anchor, around * flip)
            # a main channel beside the middle costs less than contacts that do not fit
            cost = misfit + np.linalg.norm(anchor)
            if best is None or cost < best[0] - 1e-6:
                off = np.linalg.norm(window - anchor - (around * flip)[channels], axis=1).max()
                best = cost, channels, off
    return best[1:]


def common_window(units, num_contacts):
    """Templates (units, 1, samples, contacts) on one window, its contacts (contacts, 2) um and the trough's sample."""
    window, templates, worst = None, [], 0.0
    peak_index = int(np.median([np.abs(times).argmin() for _, _, times in units]))
    for waveform, places, _ in units:
        peak = waveform.min(1).argmin()
        around = places - places[peak]
        if window is None:
            near = np.argsort(np.round(np.linalg.norm(around, axis=1), 3), kind="stable")[:num_contacts]
            window = around[near[np.lexsort((around[near, 0], around[near, 1]))]]
        channels, misfit = fit_window(window, around)
        worst = max(worst, misfit)
        # aligned at the trough, as by a detector
        shift = int(waveform[peak].argmin()) - peak_index
        padded = np.pad(waveform[channels], ((0, 0), (abs(shift), abs(shift))), mode="edge")
        templates.append(padded[:, abs(shift) + shift :][:, : waveform.shape[1]].T)
    logger.info("%d units on a window of %d contacts: largest misfit %.1f um", len(units), len(window), worst)
    return np.array(templates)[:, None], window, peak_index


def measured_noise(folder, positions_um, num_samples, sampling_frequency):
    """Spatial (C, C) and temporal (T, T) covariance of measured noise on these contacts, both of mean variance 1.

    The stored matrices are roots of covariances. Contacts are matched with those of the probe on which the noise was
    measured, at the depth where they fit best.
    """
    spatial, temporal = (np.load(folder / f"{name}_cov.npy") for name in ("spatial", "temporal"))
    places = neuropixels_places(len(spatial))
    middle = len(places) // 2
    matches = [match_places(positions_um, places - places[anchor]) for anchor in range(middle, middle + 4)]
    channels = min(matches, key=lambda match: match[1])[0]
    times = np.arange(num_samples) * NOISE_SAMPLING_HZ / sampling_frequency
    if times[-1] > len(temporal) - 1:
        raise ValueError(f"expected windows up to {len(temporal)} samples at 30 kHz, found {times[-1] + 1:.0f}")
    resample = np.stack([np.interp(times, np.arange(len(temporal)), row) for row in np.eye(len(temporal))], 1)
    root = resample @ temporal
    covariances = spatial[channels] @ spatial[channels].T, root @ root.T
    return tuple(matrix / np.diag(matrix).mean() for matrix in covariances)


def draw_opto(draw, *, templates, positions_um, peak_index, sampling_frequency, noise, noise_uv, seed):
    """Spikes of ten held-out units (or all, if fewer) with random gains, collisions and measured noise."""
    rng = np.random.default_rng((seed, draw))
    chosen = rng.permutation(len(templates))[:NUM_UNITS]
    labels = np.repeat(np.arange(len(chosen)), SPIKES_PER_UNIT)
    gains = rng.lognormal(0, GAIN_SPREAD, len(labels)).astype("f4")
    waveforms = gains[:, None, None] * templates[chosen[labels], 0]
    collide(rng, waveforms, labels, lambda spike, unit: gains[spike] * templates[chosen[unit], 0])
    spatial, temporal = noise[0], noise_uv**2 * noise[1]
    roots = [np.linalg.cholesky(matrix + 1e-9 * np.eye(len(matrix))).astype("f4") for matrix in (spatial, temporal)]
    waveforms = waveforms + roots[1] @ rng.standard_normal(waveforms.shape, "f4") @ roots[0].T
    white = 1e-6 * noise_uv**2  # a ridge, because measured covariances are nearly singular
    oracle = oracle_labels(waveforms, templates[chosen], (spatial, temporal, white), gains)
    return Spikes(waveforms, labels, peak_index, sampling_frequency, positions_um, oracle)


def opto_conditions(path, noise_folder, *, num_draws, seed):
    """Two conditions for each kind of probe with enough held-out units, and the reasons of kinds that are left out."""
    missing = [str(place) for place in (path, noise_folder) if not place.exists()]
    if missing:
        return [], {"opto": f"{', '.join(missing)} is missing"}
    found, left_out = [], {}
    for (probe, num_samples, layout), units in read_opto(path).items():
        num_contacts = WINDOW_CONTACTS[probe]
        size = f"{len(layout) or NEUROPIXELS_CHANNELS} contacts, {num_samples} samples"
        if len(units) < FEWEST_UNITS:
            name = f"opto: {size}, #{len(left_out)}"
            left_out[name] = f"{len(units)} held-out units, expected {FEWEST_UNITS}"
            continue
        templates, positions_um, peak_index = common_window(units, num_contacts)
        rate = float(np.round(1e3 / np.diff(units[0][2]).mean()))
        noise = measured_noise(noise_folder, positions_um, num_samples, rate)
        settings = dict(templates=templates, positions_um=positions_um, peak_index=peak_index, noise=noise, seed=seed)
        for noise_uv in NOISE_UV:
            draw = partial(draw_opto, sampling_frequency=rate, noise_uv=noise_uv, **settings)
            found.append(Condition("opto", probe, f"{size}, {noise_uv:.0f} uV noise", num_draws, draw))
    return found, left_out
