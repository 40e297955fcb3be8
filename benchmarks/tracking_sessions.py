"""Simulated sessions of one probe: mean waveforms of neurons that stay, leave and come while the probe moves."""

from dataclasses import dataclass

import numpy as np
import probeinterface
from scipy.signal import butter, lfilter, sosfiltfilt
from spikeinterface.comparison import compare_sorter_to_ground_truth
from spikeinterface.core import NumpyRecording, generate_sorting
from spikeinterface.preprocessing import bandpass_filter

import huidurep
from huidurep.simulation.probes import contact_layout
from huidurep.simulation.templates import draw_templates

# contacts, and neurons found in each session
KINDS = {
    "tetrode": ("tetrode", 4, 10),
    "column": ("linear", 24, 20),
    "staggered": ("staggered", 24, 20),
    "neuropixels": ("neuropixels-1.0", 64, 40),
}
SOURCES = ("cells", "spikeinterface")
RATE_HZ = 30000.0
NOISE_UV = 8.0
MIN_PEAK_UV = 40.0  # five noise levels: smaller neurons are not found
MAX_SHIFT_UM = 60.0
GAIN_RANGE = (0.7, 1.4)
LOST_SHARE = 1 / 3
LOCAL_MOVE_UM = 2.0  # of each neuron by itself, in each direction
NUM_SPIKES = (100, 3000)
MIN_AGREEMENT, MAX_SPIKES = 0.5, 500  # of sorted units
BEFORE_MS, AFTER_MS = 1.4, 2.6  # of the kept window


@dataclass
class Session:
    """Mean waveforms of one session.

    Attributes
    ----------
    neurons : ndarray (num_units,)
        Number of the neuron of each unit.
    halves_uv : ndarray (2, num_units, num_samples, num_channels)
        Means of the first and of the second half of the spikes, band-passed.
    positions_um : ndarray (num_channels, 2)
    shift_um : float
        Movement of the probe.
    clean_uv : ndarray (num_units, num_samples, num_channels)
        The same without noise.
    peak_index : int
    """

    neurons: np.ndarray
    halves_uv: np.ndarray
    positions_um: np.ndarray
    shift_um: float
    clean_uv: np.ndarray
    peak_index: int = int(BEFORE_MS * RATE_HZ / 1000)

    @property
    def templates_uv(self):
        return self.halves_uv.mean(axis=0)


def draw_shifts(rng, num_sessions):
    """Movement (num_sessions,) um of the probe; any two sessions are at most `MAX_SHIFT_UM` apart."""
    shifts = rng.uniform(0, MAX_SHIFT_UM, num_sessions)
    return shifts - shifts[0]


def make_sessions(kind, num_sessions, seed, *, source="cells"):
    """Sessions of one probe.

    Parameters
    ----------
    kind : str
        Key of `KINDS`.
    num_sessions, seed : int
    source : {"cells", "spikeinterface"}
        Neurons of this package, or SpikeInterface's templates.

    Returns
    -------
    list of Session
    """
    rng = np.random.default_rng(seed)
    layout, num_contacts, num_units = KINDS[kind]
    positions_um = contact_layout(layout, num_contacts)
    shifts = draw_shifts(rng, num_sessions)
    band = butter(5, (300.0, 6000.0), "bandpass", fs=RATE_HZ, output="sos")
    seen = [[] for _ in range(num_sessions)]  # per session: (neuron, template)
    num_neurons, alive = 0, []  # alive: (neuron, views of all sessions)
    for session in range(num_sessions):
        alive = [each for each in alive if rng.random() > LOST_SHARE]
        found = [(neuron, views[session]) for neuron, views in alive if _peak(views[session]) >= MIN_PEAK_UV]
        while len(found) < num_units:
            views = _draw_neuron(rng, positions_um, shifts, session, source, band)
            if _peak(views[session]) >= MIN_PEAK_UV:
                alive.append((num_neurons, views))
                found.append((num_neurons, views[session]))
                num_neurons += 1
        order = rng.permutation(len(found))
        seen[session] = [found[index] for index in order]
    return [_record(rng, each, positions_um, shift) for each, shift in zip(seen, shifts, strict=True)]


def _peak(template):
    return -template.min()


def _draw_neuron(rng, positions_um, shifts, first, source, band):
    """Filtered templates (num_sessions, num_samples, num_channels) of a neuron that appears in session `first`."""
    moves = np.zeros((len(shifts), 3))
    moves[:, 2] = shifts - shifts[first]
    moves += rng.normal(0, LOCAL_MOVE_UM, moves.shape)
    moves = np.concatenate([np.zeros((1, 3)), moves])
    units = draw_templates(
        rng, positions_um, 1, displacements_um=moves, source=source, amplitude_range_uv=(40.0, 400.0)
    )
    gains = np.exp(rng.uniform(*np.log(GAIN_RANGE), len(shifts)))
    raw = np.pad(units.waveforms[0, 1:], ((0, 0), (300, 300), (0, 0)))
    filtered = sosfiltfilt(band, raw, axis=1) * gains[:, None, None]
    before, after = int(BEFORE_MS * RATE_HZ / 1000), int(AFTER_MS * RATE_HZ / 1000)
    views = []
    for view in filtered:
        near = view[300 + units.peak_index - 30 : 300 + units.peak_index + 31]
        trough = 300 + units.peak_index - 30 + int(near.min(axis=1).argmin())
        views.append(view[trough - before : trough + after])
    return np.array(views)


def _record(rng, found, positions_um, shift):
    """Session of the neurons that were found: their templates plus the noise that a mean of spikes has."""
    clean = np.array([template for _, template in found])
    num_spikes = np.exp(rng.uniform(*np.log(NUM_SPIKES), len(found))).astype(int)
    halves = [clean + _noise(rng, clean.shape, positions_um, num_spikes / 2) for _ in range(2)]
    return Session(np.array([neuron for neuron, _ in found]), np.array(halves), positions_um, float(shift), clean)


def _noise(rng, shape, positions_um, num_spikes):
    """Noise of means: correlated over contacts and time as in `huidurep.simulation.recordings`."""
    distance = np.linalg.norm(positions_um[:, None] - positions_um[None], axis=-1)
    mixing = np.linalg.cholesky(0.6 * np.exp(-distance / 40) + 0.4 * np.eye(len(positions_um)))
    white = rng.standard_normal((shape[0], shape[1] + 100, shape[2]))
    low = lfilter(*butter(1, 1500.0, fs=RATE_HZ), white @ mixing.T, axis=1)
    noise = 1.8 * low + 0.8 * rng.standard_normal(white.shape)
    noise = sosfiltfilt(butter(3, (300.0, 6000.0), "bandpass", fs=RATE_HZ, output="sos"), noise, axis=1)
    return (noise * NOISE_UV / noise.std())[:, 50:-50] / np.sqrt(num_spikes)[:, None, None]


def sort_sessions(sessions, duration_s, seed):
    """The same sessions as recordings that are sorted with the default checkpoint: units are what the sorting found.

    A unit is the neuron with which it shares most spikes, if these are at least half of the spikes of either; other
    units are no neuron.
    """
    rng, found = np.random.default_rng(seed), []
    for number, session in enumerate(sessions):
        recording, truth = _make_recording(rng, session, duration_s)
        sorting = huidurep.sort(recording)
        agreement = compare_sorter_to_ground_truth(truth, sorting, exhaustive_gt=True).agreement_scores.to_numpy()
        best = agreement.argmax(axis=0)
        is_neuron = agreement.max(axis=0) >= MIN_AGREEMENT
        unknown = 10**6 * (number + 1) + np.arange(len(best))  # in no other session
        neurons = np.where(is_neuron, session.neurons[best], unknown)
        halves = _half_means(recording, sorting, session)
        found.append(Session(neurons, halves, session.positions_um, session.shift_um, halves.mean(axis=0)))
    return found


def _make_recording(rng, session, duration_s):
    """Recording of a session's neurons in noise, and their spikes."""
    probe = probeinterface.Probe(ndim=2)
    probe.set_contacts(session.positions_um, shapes="circle", shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(len(session.positions_um)))
    rates = rng.lognormal(np.log(6), 0.5, len(session.neurons)).clip(1, 30)
    truth = generate_sorting(
        num_units=len(session.neurons),
        sampling_frequency=RATE_HZ,
        durations=[duration_s],
        firing_rates=list(rates),
        refractory_period_ms=3.0,
        seed=int(rng.integers(2**31)),
    )
    num_samples = int(duration_s * RATE_HZ)
    traces = _noise(rng, (1, num_samples, len(session.positions_um)), session.positions_um, np.ones(1))[0]
    length, before = session.clean_uv.shape[1], session.peak_index
    for spike in truth.to_spike_vector():
        start = int(spike["sample_index"]) - before
        if 0 <= start <= num_samples - length:
            traces[start : start + length] += rng.normal(1, 0.05) * session.clean_uv[spike["unit_index"]]
    recording = NumpyRecording([traces.astype("float32")], RATE_HZ)
    recording = recording.set_probe(probe) or recording
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording, truth


def _half_means(recording, sorting, session):
    """Means (2, num_units, num_samples, num_channels) of the even and of the odd spikes of each unit."""
    traces = bandpass_filter(recording, 300.0, 6000.0).get_traces()
    length, before = session.clean_uv.shape[1], session.peak_index
    means = np.zeros((2, sorting.get_num_units(), length, traces.shape[1]))
    for unit, unit_id in enumerate(sorting.unit_ids):
        starts = sorting.get_unit_spike_train(unit_id) - before
        starts = starts[(starts >= 0) & (starts <= len(traces) - length)]
        for half in range(2):
            chosen = starts[half::2][:MAX_SPIKES]
            means[half, unit] = traces[chosen[:, None] + np.arange(length)].mean(axis=0)
    return means
