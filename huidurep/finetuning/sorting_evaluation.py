"""What fine-tuning does to whole sortings: recordings resampled from a lab's own units, sorted before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..sorting.parameters import SortingParameters
from .recording_data import SEAM_MS, join_pieces
from .template_resampling import NUM_STRETCHES, SPIKES_A_VIEW, LabWindow, fade, gain_jitter

NUM_RECORDINGS, SECONDS = 4, 45.0
MOST_RATE_HZ = 100.0  # of all units of a recording together
REFRACTORY_MS = 2.0
DELTA_TIME_MS = 0.4
WIDE_BAND_HZ = 100.0  # the spikes are filtered already; SpikeInterface takes less for an LFP filter


class SortingExamination:
    """Recordings with known units, the same for every encoder.

    Embeddings that separate better do not sort better as a matter of course (a unit that is cut in two is separated
    well), so that a fine-tuned encoder has to sort, too. The units are those that were learned from: their mean
    waveforms, drifting as they did and of their own amplitudes, at random times with their own rates, in noise of the
    time held out.

    Parameters
    ----------
    windows : list of LabWindow
        Those with the most units make recordings, in turn.
    parameters : SortingParameters
    seed : int
    """

    def __init__(self, windows: list[LabWindow], parameters: SortingParameters, seed: int):
        highest = min((0.45 * window.sampling_frequency for window in windows), default=1.0)
        self.parameters = replace(parameters, freq_min_hz=min(WIDE_BAND_HZ, 0.5 * highest), common_reference=False)
        usable = [window for window in windows if len(window.unit_ids) > 1 and len(window.held_out_noise)]
        usable.sort(key=lambda window: -len(window.unit_ids))
        chosen = [usable[number % len(usable)] for number in range(NUM_RECORDINGS if usable else 0)]
        self.recordings = [resample_recording(window, seed=seed + number) for number, window in enumerate(chosen)]

    def score(self, model) -> dict:
        """Sort the recordings with an encoder.

        Parameters
        ----------
        model : HuiduRep

        Returns
        -------
        dict
            ``sorting_accuracy``, the mean over recordings of the mean accuracy TP / (TP + FP + FN) of true units, and
            ``sortings``, that of each recording. Empty where no recording could be made.
        """
        from spikeinterface.comparison import compare_sorter_to_ground_truth

        from ..pipeline import SpikeSortingPipeline

        accuracies = []
        for recording, truth in self.recordings:
            found = SpikeSortingPipeline(model, self.parameters)(recording).sorting
            compared = compare_sorter_to_ground_truth(truth, found, exhaustive_gt=True, delta_time=DELTA_TIME_MS)
            accuracies.append(float(compared.get_performance()["accuracy"].astype(float).mean()))
        return dict(sorting_accuracy=float(np.mean(accuracies)), sortings=accuracies) if accuracies else {}


def resample_recording(window: LabWindow, *, seed: int, seconds: float = SECONDS):
    """Make a recording of a window's units with known spike times.

    Parameters
    ----------
    window : LabWindow
    seed : int
    seconds : float, default 45.0

    Returns
    -------
    recording : BaseRecording
        uV, filtered as the window's spikes are.
    truth : BaseSorting
        Its units.
    """
    rng, rate = np.random.default_rng(seed), window.sampling_frequency
    num_samples = int(seconds * rate)
    traces = _noise(window.held_out_noise, num_samples, rng, rate)
    length = window.waveforms[0].shape[1]
    weights, trains = fade(length, rate)[:, None], {}
    for unit, rate_hz in enumerate(_rates_hz(window, seconds)):
        spikes = window.waveforms[unit]
        samples = _draw_train(rng, rate_hz, seconds, rate)
        samples = samples[(samples >= window.peak_index) & (samples < num_samples - length)]
        gains = rng.lognormal(0, gain_jitter(window, spikes), len(samples))
        shapes = _shapes(spikes, window.times_s[unit], samples / num_samples)
        for sample, gain, shape in zip(samples, gains, shapes, strict=True):
            start = sample - window.peak_index
            traces[start : start + length] += gain * weights * shape
        trains[window.unit_ids[unit]] = samples
    return _as_recording(traces, window.positions_um, rate), _as_sorting(trains, rate)


def _shapes(spikes, times_s, moments):
    """Yield the mean waveform of a unit at moments from 0 (start) to 1 (end): it goes from stretch to stretch."""
    count = int(np.clip(len(spikes) // SPIKES_A_VIEW, 1, NUM_STRETCHES))
    means = np.stack([spikes[rows].mean(0) for rows in np.array_split(np.argsort(times_s, kind="stable"), count)])
    places = np.clip(moments * count - 0.5, 0, count - 1)
    for place in places:
        first = min(int(place), max(count - 2, 0))
        yield means[first] + (place - first) * (means[min(first + 1, count - 1)] - means[first])


def _rates_hz(window, seconds):
    """Firing rate of each unit, lowered alike where all together would leave hardly a sample alone."""
    rates_hz = window.rates_hz or [len(spikes) / seconds for spikes in window.waveforms]
    rates_hz = np.maximum(rates_hz, 1.0)  # a unit with fewer spikes than a sorting wants would be missed by any encoder
    return rates_hz * min(1.0, MOST_RATE_HZ / rates_hz.sum())


def _draw_train(rng, rate_hz, seconds, rate):
    """Samples of a Poisson train with a refractory period."""
    intervals = REFRACTORY_MS * 1e-3 + rng.exponential(1 / rate_hz, int(2 * rate_hz * seconds) + 20)
    times_s = np.cumsum(intervals)
    return np.round(times_s[times_s < seconds] * rate).astype(int)


def _noise(noise, num_samples, rng, rate):
    """Traces (num_samples, num_channels): pieces of the noise, forwards or backwards, each faded into the next."""
    seam = max(2, min(int(SEAM_MS * 1e-3 * rate), len(noise) // 4))
    pieces, total = [], 0
    while total < num_samples:
        pieces.append(noise[rng.integers(len(noise) // 2) :][:: rng.choice((-1, 1))])
        total += len(pieces[-1]) - seam
    return join_pieces(pieces, seam, noise.shape[1])[:num_samples]


def _as_recording(traces, positions_um, rate):
    from spikeinterface.core import NumpyRecording

    recording = NumpyRecording([traces], rate)
    recording.set_dummy_probe_from_locations(positions_um)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def _as_sorting(trains, rate):
    from spikeinterface.core import NumpySorting

    return NumpySorting.from_unit_dict([{str(unit): np.unique(each) for unit, each in trains.items()}], rate)
