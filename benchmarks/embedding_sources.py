"""Simulated spikes for benchmarks/embedding.py: templates of units outside the training data, noise, collisions.

`cells` are detailed neuron models, whose templates make_templates.py of --tools computes with another seed than that of
the training; `package cells` and `package spikeinterface` are templates of huidurep.simulation.
"""

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SAMPLING_HZ = 30000.0
BEFORE, AFTER = 30, 60  # samples of a window: 1 ms before the trough, 2 ms after it
NUM_UNITS, SPIKES_PER_UNIT, NUM_VIEWS = 10, 100, 9
FEW_UNITS = 4  # on a single contact
POOL_UNITS = 200
UNSEEN_SEED = 910_000  # training uses smaller seeds
ALIGN = 10  # samples before and after the peak index among which the trough of a view is searched
COLLISION_PROBABILITY = 0.15
NOISE_UV = (10.0, 20.0)
CONDITIONS = tuple((noise_uv, drift) for noise_uv in NOISE_UV for drift in (False, True))
WARM_UP = 50  # samples of filtered noise that are dropped, where the filter starts
FILTER_HZ = 1500.0
SHARED_SCALE, OWN_SCALE = 1.8, 0.8  # coloured noise correlated over channels, and independent white noise
# probe type -> name of its window in the tools, number of contacts
WINDOWS = {
    "tetrode": ("tetrode", 4),
    "linear": ("linear-8", 8),
    "neuropixels-1.0": ("np1-12", 12),
    "neuropixels-2.0": ("np2-12", 12),
    "hd-mea": ("hdmea-16", 16),
    "single-contact": ("tetrode", 1),
    "staggered": ("", 8),  # the tools have none
}
PACKAGE_PROBES = ("tetrode", "neuropixels-1.0", "single-contact", "staggered")


@dataclass(frozen=True)
class Spikes:
    """Spikes in uV with their true units, the arguments of `model.embed`, and the labels of the oracle if there is one.

    `waveforms` (num_spikes, num_samples, num_channels), `labels` (num_spikes,), `positions_um` (num_channels, 2).
    """

    waveforms: np.ndarray
    labels: np.ndarray
    peak_index: int
    sampling_frequency: float
    positions_um: np.ndarray
    oracle: np.ndarray | None = None
    peak_sign: str | None = "neg"


@dataclass(frozen=True)
class Condition:
    """One row of the results; `make(draw)` returns the Spikes of a draw."""

    source: str
    probe: str
    name: str
    num_draws: int
    make: object


def kept(cache, name, code, make):
    """Arrays of `make()`, cached in a file whose name has a digest of the code that makes them."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(code))).hexdigest()[:12]
    path = Path(cache) / f"{name.replace(' ', '_')}-{digest}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        views, positions = make()
        part = path.with_suffix(".part.npz")
        np.savez(part, views=views, positions=positions)
        part.replace(path)
    with np.load(path) as stored:
        return stored["views"], stored["positions"]


def cells_views(tools, cells, probe, *, seed):
    """Views (units, NUM_VIEWS, samples, channels) of detailed cells in uV at 30 kHz, trough at 30, and contacts in um.

    make_templates.py also makes the templates of the training, with other seeds.
    """
    sys.path.insert(0, str(tools))
    from eap import probe_positions

    if probe == "single-contact":  # of each unit the contact of the tetrode on which it is largest
        views, positions_um = cells_views(tools, cells, "tetrode", seed=seed)
        main = np.abs(views[:, 0]).max(1).argmax(1)
        return np.take_along_axis(views, main[:, None, None, None], axis=3), positions_um[:1]
    window, num_channels = WINDOWS[probe]
    with tempfile.TemporaryDirectory(prefix="benchmark_views_") as folder:
        out = Path(folder) / "views.npz"
        command = [sys.executable, str(tools / "make_templates.py"), "--cells", str(cells), "--probe", window]
        command += ["--units", str(POOL_UNITS), "--views", str(NUM_VIEWS), "--channels", str(num_channels)]
        subprocess.run([*command, "--seed", str(UNSEEN_SEED + seed), "--out", str(out)], check=True)
        with np.load(out) as made:
            views, channels = made["views"].astype("f4"), made["channels"]
    # from the order of distance to the main channel back to that of the contacts, as in recordings
    order = np.argsort(channels, axis=1)[:, None, :, None]
    return np.take_along_axis(views, order, axis=2).swapaxes(2, 3), probe_positions(window)[:, 1:]


def package_views(kind, probe, *, seed):
    """The same from huidurep.simulation ("cells" or "spikeinterface"); each view is aligned at its trough."""
    from huidurep.simulation.probes import contact_layout
    from huidurep.simulation.templates import draw_templates

    positions_um = contact_layout(probe, WINDOWS[probe][1])
    rng = np.random.default_rng(UNSEEN_SEED + seed)
    made = draw_templates(rng, positions_um, POOL_UNITS, num_views=NUM_VIEWS, source=kind)
    lowest = made.waveforms.min(axis=3)
    near = slice(made.peak_index - ALIGN, made.peak_index + ALIGN + 1)
    start = made.peak_index - ALIGN + lowest[:, :, near].argmin(axis=2) - BEFORE
    index = (start[:, :, None] + np.arange(BEFORE + AFTER))[..., None]
    return np.take_along_axis(made.waveforms, index, axis=2).astype("f4"), positions_um


def noise_mixing(positions_um):
    """Root (channels, channels) of the covariance of correlated noise, as in make_recording.py."""
    distance = np.linalg.norm(positions_um[:, None] - positions_um[None], axis=-1)
    return np.linalg.cholesky(0.6 * np.exp(-distance / 40) + 0.4 * np.eye(len(positions_um)))


def draw_noise(rng, num_spikes, num_samples, positions_um, noise_uv):
    """Noise (num_spikes, num_samples, num_channels) with standard deviation `noise_uv`, as in make_recording.py."""
    from scipy.signal import butter, lfilter

    mix = noise_mixing(positions_um)
    shared = rng.standard_normal((num_spikes, num_samples + WARM_UP, len(mix)), "f4") @ mix.T.astype("f4")
    shared = lfilter(*butter(1, FILTER_HZ, fs=SAMPLING_HZ), shared, axis=1)[:, WARM_UP:]
    noise = SHARED_SCALE * shared + OWN_SCALE * rng.standard_normal((num_spikes, num_samples, len(mix)), "f4")
    return (noise_uv / noise.std() * noise).astype("f4")


def noise_covariances(num_samples, positions_um, noise_uv):
    """Covariance of `draw_noise`, spatial (C, C) x temporal (T, T) + white: these three."""
    from scipy.linalg import toeplitz
    from scipy.signal import butter, lfilter

    impulse = lfilter(*butter(1, FILTER_HZ, fs=SAMPLING_HZ), np.eye(1, num_samples + WARM_UP)[0])
    response = toeplitz(impulse, np.zeros_like(impulse))[WARM_UP:]
    mix = noise_mixing(positions_um)
    spatial, temporal = mix @ mix.T, SHARED_SCALE**2 * response @ response.T
    scale = noise_uv**2 / (np.diag(spatial).mean() * np.diag(temporal).mean() + OWN_SCALE**2)
    return spatial, scale * temporal, scale * OWN_SCALE**2


def oracle_labels(waveforms, templates, covariances, gains=None):
    """Maximum likelihood unit of each spike with known templates, noise and gains, without a model of collisions.

    `templates` (units, views, samples, channels), all views of a unit equally likely; `covariances`: spatial, temporal
    and white variance of the noise, which is whitened in the common eigenbasis.
    """
    from scipy.special import logsumexp

    spatial, temporal, white = covariances
    (across, along_space), (along, in_time) = np.linalg.eigh(spatial), np.linalg.eigh(temporal)
    deviation = np.sqrt(along[:, None] * across[None] + white)

    def whiten(values):
        return (in_time.T @ values @ along_space / deviation).reshape(-1, deviation.size)

    known = whiten(templates.reshape(-1, *templates.shape[2:]))
    gains = np.ones(len(waveforms)) if gains is None else gains
    gains = gains[:, None]
    logs = gains * (whiten(waveforms) @ known.T) - 0.5 * gains**2 * (known**2).sum(1)
    return logsumexp(logs.reshape(len(waveforms), *templates.shape[:2]), axis=2).argmax(1)


def collide(rng, waveforms, labels, source_of):
    """Add another unit's spike to some spikes, scaled by 0.2 to 1 and shifted by 5 to 59 samples, as in the paper.

    `source_of(spike, unit)` is the waveform (num_samples or more, num_channels) of that unit for that spike.
    """
    num_units, num_samples = labels.max() + 1, waveforms.shape[1]
    for index in np.flatnonzero(rng.random(len(labels)) < COLLISION_PROBABILITY):
        other = (labels[index] + rng.integers(1, num_units)) % num_units
        shift = int(rng.integers(5, 60)) * rng.choice([-1, 1])
        padded = np.pad(source_of(index, other), ((60, 60), (0, 0)))
        waveforms[index] += rng.uniform(0.2, 1.0) * padded[60 - shift : 60 - shift + num_samples]


def draw_simulated(draw, *, views, positions_um, noise_uv, drift, seed):
    """Spikes of ten units (of four on a single contact), the same in all conditions of a draw.

    With `drift`, each spike is one of eight views of its unit, moved by a few um, mostly along the probe.
    """
    rng = np.random.default_rng((seed, draw))
    num_units = FEW_UNITS if views.shape[3] == 1 else NUM_UNITS
    chosen = rng.choice(len(views), num_units, replace=False)
    labels = np.repeat(np.arange(num_units), SPIKES_PER_UNIT)
    view = rng.integers(1, views.shape[1], len(labels)) if drift else np.zeros(len(labels), int)
    waveforms = views[chosen[labels], view, : BEFORE + AFTER].copy()
    collide(rng, waveforms, labels, lambda spike, unit: views[chosen[unit], view[spike]])
    waveforms = waveforms + draw_noise(rng, *waveforms.shape[:2], positions_um, noise_uv)
    templates = views[chosen, 1 if drift else 0 :][:, : views.shape[1] - 1 if drift else 1, : BEFORE + AFTER]
    covariances = noise_covariances(waveforms.shape[1], positions_um, noise_uv)
    oracle = oracle_labels(waveforms, templates, covariances)
    return Spikes(waveforms, labels, BEFORE, SAMPLING_HZ, positions_um, oracle)


def simulated_conditions(source, probe, *, cache, tools, cells, num_draws, seed):
    """Four conditions of one simulator on one type of probe, or the reason why there are none."""
    if source == "cells" and not WINDOWS[probe][0]:
        return [], "the tools have no such probe"
    if source == "cells":
        code = [tools / "make_templates.py", tools / "eap.py"]
        missing = [str(path) for path in [*code, cells] if not path.exists()]
        if missing:
            return [], f"{', '.join(missing)} is missing"
        make = partial(cells_views, tools, cells, probe, seed=seed)
    else:
        code = list((ROOT / "huidurep/simulation").glob("*.py"))
        make = partial(package_views, source.split()[1], probe, seed=seed)
    views, positions_um = kept(cache, f"{source}-{probe}-{seed}", code, make)
    settings = dict(views=views, positions_um=positions_um, seed=seed)
    found = []
    for noise_uv, drift in CONDITIONS:
        draw = partial(draw_simulated, noise_uv=noise_uv, drift=drift, **settings)
        found.append(Condition(source, probe, f"{noise_uv:.0f} uV noise" + ", drift" * drift, num_draws, draw))
    return found, ""
