"""Ground-truth recordings of detailed cells: spikes that drift, burst and adapt, in noise of two sources.

The cells are those of `huidurep simulate cells`. What SpikeInterface's generators and `huidurep.simulate_recording` do
not have, and what makes these recordings harder: templates computed at every position of the drift, sub-sample spike
times, bursts with adapting amplitudes, slow changes of amplitude, drift with jumps, and far neurons that drift, too.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt, sosfiltfilt
from scipy.spatial.transform import Rotation

from huidurep.simulation.cell_library import DetailedCell, draw_time_warp, resampling_operator, spike_potentials
from huidurep.simulation.cells import PEAK_MS
from huidurep.simulation.templates import CONTACT_RADIUS_UM, EXCITATORY_SHARE, MAX_TILT_DEGREES, SHANK_FACTOR

RATE_HZ = 30000.0
NUM_PHASES = 4  # templates of a spike between two samples
PEAK_INDEX = int(PEAK_MS * 1e-3 * RATE_HZ) - 1  # of a template; the first phases of the finer grid are cut off
FADE_SAMPLES = 20
NUM_CONTACT_POINTS = 6

NEAR_MARGIN_UM, NEAR_DEPTH_UM, NEAR_STEP_UM = 25.0, (8.0, 70.0), 1.0
FAR_MARGIN_UM, FAR_DEPTH_UM, FAR_STEP_UM = 120.0, (40.0, 160.0), 4.0
FAR_AMPLITUDE_UV = (0.8, 18.0)
MIN_DISTANCE_UM = 12.0  # between the somas of two units
MAX_TRIES_PER_UNIT = 20000
# Drift makes a unit larger than it is in the middle of the drift, but not by more than this factor.
MAX_DRIFT_GAIN = 1.4

FAR_SHARE = 0.75  # of the noise variance, at most
FAR_SAMPLE_S = 20.0  # in which their standard deviation is measured
BAND_HZ = (300.0, 6000.0)
NOISE_CHUNK_S = 10.0
DRIFT_HZ = 100.0
REFRACTORY_MS = 2.2


@dataclass(frozen=True)
class PlacedCell:
    """One spike of a detailed cell at a place beside the probe.

    Parameters
    ----------
    cell : DetailedCell
    rotation : ndarray (3, 3)
    place_um : ndarray (3,)
        The soma: away from, across and along the probe.
    spike : int
        Which of the cell's simulated spikes.
    """

    cell: DetailedCell
    rotation: np.ndarray
    place_um: np.ndarray
    spike: int

    def potentials(self, points, along_um=(0.0,)):
        """Potentials (num_moves, num_contacts, num_samples) in uV at 32 kHz of the cell moved along the probe."""
        places = self.place_um + np.array([(0.0, 0.0, move) for move in along_um])
        spikes = np.full(len(places), self.spike)
        return SHANK_FACTOR * spike_potentials(self.cell, self.rotation, places, spikes, points)


@dataclass(frozen=True)
class CellRecordingSettings:
    """What is simulated; a row of recordings.json sets it.

    Parameters
    ----------
    num_units, duration_s : int and float
    drift_um : float, default 0.0
        Peak-to-peak drift along the probe.
    is_rigid : bool, default True
        Otherwise a neuron at the lower end of the probe receives 40 % of the drift.
    amplitude_range_uv : tuple of float, default (40.0, 350.0)
        Largest negative peak of a unit.
    noise_uv : float, default 8.0
        Standard deviation of the noise between 300 and 6000 Hz.
    num_far : int, default 300
        Neurons of at most 18 uV, which make up to three quarters of the noise variance.
    """

    num_units: int
    duration_s: float
    drift_um: float = 0.0
    is_rigid: bool = True
    amplitude_range_uv: tuple[float, float] = (40.0, 350.0)
    noise_uv: float = 8.0
    num_far: int = 300


@dataclass(frozen=True)
class ProbeDrift:
    """Drift along the probe over time.

    Parameters
    ----------
    time_s, drift_um : ndarray (num_times,)
    moves_um : ndarray (num_moves,)
        Displacements at which templates are computed.
    span_um : tuple of float
        Lowest and highest contact.
    is_rigid : bool
    """

    time_s: np.ndarray
    drift_um: np.ndarray
    moves_um: np.ndarray
    span_um: tuple[float, float]
    is_rigid: bool

    def move_indices(self, times_s, along_um, step=1):
        """Index into ``moves_um[::step]`` of the drift of a neuron at `along_um`, at each of its spikes."""
        low, high = self.span_um
        depth = np.clip((along_um - low) / max(high - low, 1e-6), 0, 1)
        drift = np.interp(times_s, self.time_s, self.drift_um) * (1.0 if self.is_rigid else 0.4 + 0.6 * depth)
        moves = self.moves_um[::step]
        spacing = moves[1] - moves[0] if len(moves) > 1 else 1.0
        return np.round((drift - moves[0]) / spacing).astype(int).clip(0, len(moves) - 1)


def simulate_cell_recording(cells, probe, settings, *, seed):
    """Simulate a recording of detailed cells with its ground truth.

    `cells` are those of `load_cells`, `probe` is a probeinterface.Probe in um. Returns (recording, sorting) of
    SpikeInterface: float32 in uV, in memory; units with the properties peak_uv, cell, place_um and is_bursting.
    """
    rng, duration_s = np.random.default_rng(seed), settings.duration_s
    positions = np.asarray(probe.contact_positions, float)
    drift = draw_drift(rng, positions, settings)
    units = draw_units(rng, cells, positions, drift.moves_um, settings)
    traces, trains = np.zeros((int(duration_s * RATE_HZ), len(positions)), "f4"), []
    for placed, templates in units:
        bursting = bool(placed.cell.is_excitatory and rng.random() < 0.4)
        rate_hz = np.clip(rng.lognormal(np.log(4 if placed.cell.is_excitatory else 10), 0.5), 0.7, 35)
        times_s = draw_spike_times(rng, rate_hz, duration_s, bursting)
        gains = draw_gains(rng, times_s, duration_s, bursting)
        moves = drift.move_indices(times_s, placed.place_um[2])
        trains.append((add_spikes(traces, times_s, templates, gains, moves), bursting))
    far_uv = add_far_neurons(rng, cells, positions, traces, drift, settings)
    add_electronic_noise(rng, positions, traces, np.sqrt(settings.noise_uv**2 - far_uv**2))
    return as_recording(traces, probe), as_sorting(units, trains)


def draw_drift(rng, positions, settings):
    """Drift at 100 Hz, within +-drift_um / 2: a slow wave, slow random movement and some jumps."""
    time_s, span_um = np.arange(0, settings.duration_s, 1 / DRIFT_HZ), (positions[:, 1].min(), positions[:, 1].max())
    if not settings.drift_um:
        return ProbeDrift(time_s, np.zeros_like(time_s), np.zeros(1), span_um, settings.is_rigid)
    padding = 6000
    slow = butter(2, 0.03, fs=DRIFT_HZ, output="sos")
    wandering = sosfiltfilt(slow, rng.normal(size=len(time_s) + 2 * padding))[padding:-padding]
    drift = np.sin(2 * np.pi * time_s / (0.8 * settings.duration_s) + rng.uniform(0, 2 * np.pi))
    drift += 0.5 * wandering / wandering.std()
    drift /= np.abs(drift).max()
    for jump_s in rng.uniform(0.1, 0.9, max(2, int(settings.duration_s / 60))) * settings.duration_s:
        drift += rng.choice([-1, 1]) * 0.375 / (1 + np.exp(-((time_s - jump_s) / 0.05).clip(-50, 50)))
    drift -= 0.5 * (drift.max() + drift.min())
    half_um = settings.drift_um / 2
    moves_um = np.arange(-half_um, half_um + NEAR_STEP_UM / 2, NEAR_STEP_UM)
    return ProbeDrift(time_s, drift * 0.97 * half_um / np.abs(drift).max(), moves_um, span_um, settings.is_rigid)


def draw_cell(rng, cells, low, high):
    """A cell of random type, place (within low, high in um), orientation and spike."""
    groups = [[cell for cell in cells if cell.is_excitatory is wanted] for wanted in (True, False)]
    group = groups[int(rng.random() > EXCITATORY_SHARE)] or groups[0] or groups[1]
    cell = group[rng.integers(len(group))]
    if cell.is_upright:
        tilt = np.arccos(rng.uniform(np.cos(np.deg2rad(MAX_TILT_DEGREES)), 1.0))
        spin, azimuth = rng.uniform(0, 2 * np.pi, 2)
        rotation = Rotation.from_euler("zyz", [spin, tilt, azimuth])
    else:
        rotation = Rotation.from_quat(rng.normal(size=4))
    return PlacedCell(cell, rotation.as_matrix(), rng.uniform(low, high), int(rng.integers(len(cell.currents))))


def bounds(positions, margin_um, depth_um):
    """Lowest and highest (away, across, along) of a soma, um."""
    low, high = positions.min(0) - margin_um, positions.max(0) + margin_um
    return np.array([depth_um[0], *low]), np.array([depth_um[1], *high])


def contact_points(positions, num_points):
    """Points (num_contacts, num_points, 3) over which a round contact averages the potential (sunflower spiral)."""
    k = np.arange(num_points)
    radius = CONTACT_RADIUS_UM * np.sqrt((k + 0.5) / num_points) if num_points > 1 else np.zeros(1)
    angle = k * np.pi * (3 - np.sqrt(5))
    offsets = np.stack([0 * radius, radius * np.cos(angle), radius * np.sin(angle)], 1)
    return np.insert(positions, 0, 0.0, axis=1)[:, None] + offsets[None]


def draw_units(rng, cells, positions, moves_um, settings):
    """Pairs of (PlacedCell, templates (num_moves, NUM_PHASES, num_samples, num_contacts)) of the units to be found."""
    low_uv, high_uv = settings.amplitude_range_uv
    centres, points = contact_points(positions, 1), contact_points(positions, NUM_CONTACT_POINTS)
    low, high = bounds(positions, NEAR_MARGIN_UM, NEAR_DEPTH_UM)
    units = []
    for _ in range(MAX_TRIES_PER_UNIT * settings.num_units):
        if len(units) == settings.num_units:
            return units
        placed = draw_cell(rng, cells, low, high)
        if any(np.linalg.norm(placed.place_um - other.place_um) < MIN_DISTANCE_UM for other, _ in units):
            continue
        # Most places are too far away, which the nearest contacts show at little cost.
        nearest = ((positions - placed.place_um[1:]) ** 2).sum(1).argsort()[:3]
        if not low_uv < -placed.potentials(centres[nearest]).min() < high_uv:
            continue
        templates = make_templates(rng, placed, points, moves_um, NUM_PHASES)
        middle = templates[len(moves_um) // 2, 0]
        largest_uv = -middle.min()
        is_negative = middle.max() <= largest_uv
        if low_uv < largest_uv < high_uv and is_negative and -templates.min() <= MAX_DRIFT_GAIN * high_uv:
            units.append((placed, templates))
    raise RuntimeError(
        f"expected {settings.num_units} units of {low_uv:g} to {high_uv:g} uV, found {len(units)}: ask for fewer units."
    )


def make_templates(rng, placed, points, moves_um, num_phases):
    """Templates (num_moves, num_phases, num_samples, num_contacts) in uV at 30 kHz, `phase` / num_phases samples late.

    The time axis is aligned once, at the trough in the middle of the drift, so that a template changes smoothly.
    """
    waves = placed.potentials(points, moves_um)
    middle = waves[len(moves_um) // 2]
    trough = np.unravel_index(middle.argmin(), middle.shape)[1]
    warp = draw_time_warp(rng, placed.cell.is_excitatory)
    fine = resampling_operator(waves.shape[-1], trough, num_phases * RATE_HZ, warp)
    num_samples = fine.shape[1] // num_phases - 1
    ramp = np.ones(num_samples, "f4")
    ramp[:FADE_SAMPLES] = 0.5 - 0.5 * np.cos(np.pi * np.arange(FADE_SAMPLES) / FADE_SAMPLES)
    ramp *= ramp[::-1]
    # phase p of a spike is later by p samples of the fine grid, so its samples begin p earlier on that grid
    starts = num_phases - np.arange(num_phases)
    phases = [fine[:, start::num_phases][:, :num_samples] * ramp for start in starts]
    return np.ascontiguousarray(np.stack([(waves @ phase).swapaxes(1, 2) for phase in phases], 1))


def draw_spike_times(rng, rate_hz, duration_s, bursting):
    """Spike times (s) with gamma-distributed intervals; a fifth of the spikes of a bursting cell start a burst."""
    refractory_s, shape = 2.5e-3, 1.5
    count = int(2 * rate_hz * duration_s) + 50
    intervals = refractory_s + rng.gamma(shape, (1 / rate_hz - refractory_s) / shape, count)
    times_s = np.cumsum(intervals) - rng.uniform(0, intervals[0])
    if bursting:
        starts = times_s[rng.random(len(times_s)) < 0.2]
        bursts = [start + np.cumsum(rng.uniform(3e-3, 8e-3, rng.integers(1, 5))) for start in starts]
        times_s = np.sort(np.concatenate([times_s, *bursts]))
        times_s = times_s[np.diff(times_s, prepend=-1.0) > REFRACTORY_MS * 1e-3]
    return times_s[(times_s > 0.01) & (times_s < duration_s - 0.01)]


def draw_gains(rng, times_s, duration_s, bursting):
    """Amplitude of each spike relative to its template: slow changes, 4 % jitter, adaptation that recovers in 60 ms."""
    seconds, margin = int(duration_s) + 2, 300
    # The margins keep the filter's edges out, and a few seconds have no standard deviation of so slow a change.
    slow = sosfiltfilt(butter(1, 1 / 60, fs=1.0, output="sos"), rng.normal(size=seconds + 2 * margin))
    gains = np.interp(times_s, np.arange(seconds), 1 + 0.06 * slow[margin:-margin] / slow.std())
    gains *= 1 + 0.04 * rng.normal(size=len(times_s))
    level, drop = 1.0, 0.12 if bursting else 0.05
    for spike, interval_s in enumerate(np.diff(times_s, prepend=-1.0)):
        level = 1 - (1 - level) * np.exp(-interval_s / 0.06)
        gains[spike] *= level
        level = max(0.5, level - drop)
    return gains


def add_spikes(traces, times_s, templates, gains, moves):
    """Add a neuron's spikes to traces (num_samples, num_contacts); returns the sample of each trough, rounded."""
    exact = times_s * RATE_HZ
    samples = np.floor(exact).astype(int)
    phases = ((exact - samples) * templates.shape[1]).astype(int)
    for sample, phase, gain, move in zip(samples - PEAK_INDEX, phases, gains, moves, strict=True):
        first, last = max(sample, 0), min(sample + templates.shape[2], len(traces))
        traces[first:last] += gain * templates[move, phase, first - sample : last - sample]
    return np.round(samples + phases / templates.shape[1]).astype(int)


def add_far_neurons(rng, cells, positions, traces, drift, settings):
    """Add neurons too far away to be sorted; returns their standard deviation (uV), at most FAR_SHARE of the noise."""
    if not settings.num_far:
        return 0.0
    points, step = contact_points(positions, 1), int(FAR_STEP_UM / NEAR_STEP_UM)
    low, high = bounds(positions, FAR_MARGIN_UM, FAR_DEPTH_UM)
    neurons = []
    while len(neurons) < settings.num_far:
        placed = draw_cell(rng, cells, low, high)
        if not FAR_AMPLITUDE_UV[0] < -placed.potentials(points).min() < FAR_AMPLITUDE_UV[1]:
            continue
        times_s = draw_spike_times(rng, np.clip(rng.lognormal(np.log(6), 0.7), 0.5, 40), settings.duration_s, False)
        moves = drift.move_indices(times_s, placed.place_um[2], step)
        neurons.append((times_s, make_templates(rng, placed, points, drift.moves_um[::step], 1), moves))
    sample_s = min(FAR_SAMPLE_S, settings.duration_s)
    sample = np.zeros((int(sample_s * RATE_HZ), len(positions)), "f4")
    for times_s, templates, moves in neurons:
        early = times_s < sample_s
        add_spikes(sample, times_s[early], templates, np.ones(early.sum()), moves[early])
    sample_uv = sosfilt(noise_band(), sample, axis=0).std()
    scale = min(1.0, settings.noise_uv * np.sqrt(FAR_SHARE) / sample_uv)
    for times_s, templates, moves in neurons:
        add_spikes(traces, times_s, templates, np.full(len(times_s), scale), moves)
    return scale * sample_uv


def noise_band():
    """Band-pass filter in which the noise is measured."""
    return butter(3, BAND_HZ, "bandpass", fs=RATE_HZ, output="sos")


def add_electronic_noise(rng, positions, traces, noise_uv):
    """Add noise of `noise_uv` between 300 and 6000 Hz: white, and below 1500 Hz shared by neighbouring contacts."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    mixing = np.linalg.cholesky(0.6 * np.exp(-distance / 40) + 0.4 * np.eye(len(positions))).astype("f4")
    b, a = butter(1, 1500.0, fs=RATE_HZ)
    state, scale, step = np.zeros((len(a) - 1, len(positions))), None, int(NOISE_CHUNK_S * RATE_HZ)
    for start in range(0, len(traces), step):
        part = traces[start : start + step]
        shared, state = lfilter(b, a, rng.standard_normal(part.shape, "f4") @ mixing.T, axis=0, zi=state)
        noise = 1.8 * shared + 0.8 * rng.standard_normal(part.shape, "f4")
        if scale is None:
            scale = noise_uv / sosfilt(noise_band(), noise, axis=0).std()
        part += scale * noise


def as_recording(traces, probe):
    """A SpikeInterface recording of traces in uV."""
    from spikeinterface.core import NumpyRecording

    recording = NumpyRecording([traces], RATE_HZ)
    recording = recording.set_probe(probe) or recording
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def as_sorting(units, trains):
    """The ground truth, with properties of the units."""
    from spikeinterface.core import NumpySorting

    trains_of = {str(unit): samples for unit, (samples, _) in enumerate(trains)}
    sorting = NumpySorting.from_unit_dict([trains_of], RATE_HZ)
    middle = units[0][1].shape[0] // 2
    sorting.set_property("peak_uv", np.array([-templates[middle, 0].min() for _, templates in units]))
    sorting.set_property("cell", np.array([placed.cell.name for placed, _ in units]))
    sorting.set_property("place_um", np.array([placed.place_um for placed, _ in units]))
    sorting.set_property("is_bursting", np.array([bursting for _, bursting in trains]))
    return sorting
