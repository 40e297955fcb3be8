"""Ground-truth recordings of real units: their mean waveforms at their own spike times, in noise as measured.

The units are the opto-tagged ones of sessions that training holds out (benchmarks/embedding_real.py says how they come
to lie on one window of contacts): eight contacts of a silicon shank or twelve of Neuropixels 1.0. Waveforms and spike
times are real, and so are the covariances of the noise over contacts and over time; that units of different sessions
meet, that spikes differ by their gain only and that the noise is Gaussian is not.
"""

import numpy as np
from embedding_real import (
    FEWEST_UNITS,
    GAIN_SPREAD,
    NOISE_SAMPLING_HZ,
    WINDOW_CONTACTS,
    common_window,
    measured_noise,
    read_opto,
    read_opto_trains,
)

PROBES = tuple(WINDOW_CONTACTS)
NUM_UNITS = 8
DURATION_S = 90.0
START_STEP_S = 5.0  # starts of the part of a unit's 20 minutes that a recording takes
FEWEST_SPIKES = 50
DEAD_MS = 1.0  # what follows a spike sooner is a double detection or another unit's
TAPER_MS = 0.25
NOISE_LAGS = 61  # samples at 30 kHz, all that was measured
KERNEL_SAMPLES = 512


def hybrid_recording(probe, *, noise_uv, seed, opto, noise, duration_s=DURATION_S):
    """Make a recording and its truth.

    `probe` is one of PROBES, `opto` the .npz of the units and `noise` the folder of the covariances. The same seed
    gives the same units at the same times for any `noise_uv`. Returns (recording, sorting) of SpikeInterface: float32
    in uV, and eight units (or as many as fire enough) with the property `peak_uv`.
    """
    kind = next(kind for kind, units in read_opto(opto).items() if kind[0] == probe and len(units) >= FEWEST_UNITS)
    units, trains = read_opto(opto)[kind], read_opto_trains(opto)[kind]
    templates, positions_um, peak_index = common_window(units, WINDOW_CONTACTS[probe])
    rate = float(np.round(1e3 / np.diff(units[0][2]).mean()))
    templates = tapered(templates[:, 0], rate)
    rng, num_samples = np.random.default_rng(seed), int(duration_s * rate)
    spikes = []
    for unit in rng.permutation(len(templates)):
        samples = np.round(rate * cut_train(rng, trains[unit], duration_s)).astype(int)
        fits = (samples >= peak_index) & (samples < num_samples - templates.shape[1])
        if fits.sum() >= FEWEST_SPIKES and len(spikes) < NUM_UNITS:
            spikes.append((unit, samples[fits], rng.lognormal(0, GAIN_SPREAD, fits.sum())))
    lags = int((NOISE_LAGS - 1) * rate / NOISE_SAMPLING_HZ) + 1
    traces = noise_uv * coloured_noise(rng, num_samples, *measured_noise(noise, positions_um, lags, rate))
    for unit, samples, gains in spikes:
        for sample, gain in zip(samples - peak_index, gains, strict=True):
            traces[sample : sample + templates.shape[1]] += gain * templates[unit]
    chosen = [unit for unit, *_ in spikes]
    return as_recording(traces, positions_um, rate), as_sorting([s for _, s, _ in spikes], templates[chosen], rate)


def tapered(templates, rate):
    """Templates (units, samples, contacts) that begin and end at 0, so that adding one adds no step."""
    num_samples, length = templates.shape[1], int(round(TAPER_MS * 1e-3 * rate)) + 1
    ramp = np.ones(num_samples, "f4")
    ramp[:length] = np.sin(np.linspace(0, np.pi / 2, length)) ** 2
    return templates * np.minimum(ramp, ramp[::-1])[:, None]


def cut_train(rng, times_s, duration_s):
    """Spike times (s) of a part of a train, drawn among those in which the unit fires often enough; none where none.

    Cells fall silent for minutes: a part is not wanted where there is nothing to be found.
    """
    times_s = times_s[np.diff(times_s, prepend=-1.0) >= DEAD_MS * 1e-3]
    starts = np.arange(0, max(times_s[-1] - duration_s, 0) + START_STEP_S / 2, START_STEP_S)
    counts = np.searchsorted(times_s, starts + duration_s) - np.searchsorted(times_s, starts)
    starts = starts[counts > 1.1 * FEWEST_SPIKES]
    if not len(starts):
        return np.zeros(0)
    start = rng.choice(starts)
    return times_s[(times_s >= start) & (times_s < start + duration_s)] - start


def coloured_noise(rng, num_samples, spatial, temporal):
    """Gaussian noise (num_samples, num_contacts) float32 of covariance spatial x temporal, mean variance 1.

    Over time: white noise through the symmetric filter whose power is the Fourier transform of the mean autocovariance,
    faded to 0 at the longest lag known.
    """
    from scipy.signal import oaconvolve

    lags = np.array([np.diag(temporal, lag).mean() for lag in range(len(temporal))])
    lags *= np.cos(np.pi / 2 * np.arange(len(lags)) / len(lags)) ** 2
    around = np.zeros(KERNEL_SAMPLES)
    around[: len(lags)], around[1 - len(lags) :] = lags, lags[:0:-1]
    power = np.maximum(np.fft.rfft(around).real, 0)
    kernel = np.fft.fftshift(np.fft.irfft(np.sqrt(power), KERNEL_SAMPLES))
    kernel = (kernel / np.linalg.norm(kernel)).astype("f4")
    root = np.linalg.cholesky(spatial + 1e-9 * np.eye(len(spatial))).astype("f4")
    white = rng.standard_normal((num_samples + KERNEL_SAMPLES - 1, len(spatial)), "f4")
    return oaconvolve(white, kernel[:, None], mode="valid", axes=0) @ root.T


def as_recording(traces, positions_um, rate):
    """A SpikeInterface recording of traces in uV."""
    from spikeinterface.core import NumpyRecording

    recording = NumpyRecording([traces], rate)
    recording.set_dummy_probe_from_locations(positions_um)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def as_sorting(samples, templates, rate):
    """The truth, from the spikes of each unit and its template."""
    from spikeinterface.core import NumpySorting

    trains = {str(unit): np.unique(each) for unit, each in enumerate(samples)}
    sorting = NumpySorting.from_unit_dict([trains], rate)
    sorting.set_property("peak_uv", -templates.min((1, 2)))
    return sorting
