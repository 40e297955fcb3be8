"""Evaluation of whole sortings: recordings resampled from the units of a recording, sorted before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..sorting.parameters import SortingParameters
from .recording_data import crossfade
from .settings import DEFAULT_SETTINGS, FinetuningSettings
from .template_resampling import RecordingWindow, fade, gain_jitter

if TYPE_CHECKING:
    from spikeinterface import BaseRecording, BaseSorting

    from ..models.modeling_huidurep import HuiduRep

WIDE_BAND_HZ = 100.0  # the spikes are filtered already; SpikeInterface takes lower bands for an LFP filter


class SortingEvaluation:
    """Evaluation of whole sortings on the same recordings with known units for every encoder.

    Embeddings that separate units better do not always sort better (a unit that is split is well separated, too), so
    that a fine-tuned encoder also has to sort. The units are those that were learned from: their mean waveforms, with
    their drift and amplitudes, at random times with their own rates, in noise of the held-out time.

    Parameters
    ----------
    windows : list of RecordingWindow
        Recordings are made of those with the most units.
    parameters : SortingParameters
    seed : int
    settings : FinetuningSettings, optional
    job_kwargs : dict, optional
        SpikeInterface's job arguments.
    """

    def __init__(
        self,
        windows: Sequence[RecordingWindow],
        parameters: SortingParameters,
        seed: int,
        settings: FinetuningSettings = DEFAULT_SETTINGS,
        job_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.job_kwargs = settings.sorting_evaluation, job_kwargs
        highest = min((0.45 * window.sampling_frequency for window in windows), default=1.0)
        self.parameters = replace(parameters, freq_min_hz=min(WIDE_BAND_HZ, 0.5 * highest), common_reference=False)
        usable = [window for window in windows if len(window.unit_ids) > 1 and len(window.held_out_noise)]
        usable.sort(key=lambda window: -len(window.unit_ids))
        count = self.settings.num_recordings if usable else 0
        chosen = [usable[number % len(usable)] for number in range(count)]
        self.recordings = [
            resample_recording(window, seed=seed + number, settings=settings) for number, window in enumerate(chosen)
        ]

    def score(self, model: HuiduRep) -> dict[str, Any]:
        """Sort the recordings with an encoder.

        Parameters
        ----------
        model : HuiduRep

        Returns
        -------
        dict
            ``sorting_accuracy``, the mean over recordings of the mean accuracy TP / (TP + FP + FN) of true units, and
            ``sortings``, that of each recording. Empty if no recording could be made.
        """
        from spikeinterface.comparison import compare_sorter_to_ground_truth

        from ..pipeline import SpikeSortingPipeline

        accuracies = []
        for recording, truth in self.recordings:
            found = SpikeSortingPipeline(model, self.parameters)(recording, job_kwargs=self.job_kwargs).sorting
            compared = compare_sorter_to_ground_truth(
                truth, found, exhaustive_gt=True, delta_time=self.settings.delta_time_ms
            )
            accuracies.append(float(compared.get_performance()["accuracy"].astype(float).mean()))
        return dict(sorting_accuracy=float(np.mean(accuracies)), sortings=accuracies) if accuracies else {}


def resample_recording(
    window: RecordingWindow, *, seed: int, settings: FinetuningSettings = DEFAULT_SETTINGS
) -> tuple[BaseRecording, BaseSorting]:
    """Make a recording of a window's units with known spike times.

    Parameters
    ----------
    window : RecordingWindow
    seed : int
    settings : FinetuningSettings, optional

    Returns
    -------
    recording : BaseRecording
        uV, filtered as the window's spikes are.
    truth : BaseSorting
        Its units.
    """
    rng, rate, evaluation = np.random.default_rng(seed), window.sampling_frequency, settings.sorting_evaluation
    num_samples = int(evaluation.duration_s * rate)
    traces = _noise(window.held_out_noise, num_samples, rng, rate, settings.reading.crossfade_ms)
    length = window.waveforms[0].shape[1]
    weights, trains = fade(length, rate, settings.resampling.fade_ms)[:, None], {}
    for unit, rate_hz in enumerate(_rates_hz(window, settings)):
        spikes = window.waveforms[unit]
        samples = _draw_train(rng, rate_hz, rate, settings)
        samples = samples[(samples >= window.peak_index) & (samples < num_samples - length)]
        gains = rng.lognormal(0, gain_jitter(window, spikes), len(samples))
        shapes = _drifting_shapes(spikes, window.times_s[unit], samples / num_samples, settings)
        for sample, gain, shape in zip(samples, gains, shapes, strict=True):
            start = sample - window.peak_index
            traces[start : start + length] += gain * weights * shape
        trains[window.unit_ids[unit]] = samples
    return _as_recording(traces, window.positions_um, rate), _as_sorting(trains, rate)


def _drifting_shapes(
    spikes: np.ndarray, times_s: np.ndarray, moments: np.ndarray, settings: FinetuningSettings
) -> Iterator[np.ndarray]:
    """Yield mean waveforms of a unit at moments from 0 (start) to 1 (end), interpolated between time bins."""
    resampling = settings.resampling
    count = int(np.clip(len(spikes) // resampling.spikes_per_view, 1, resampling.num_time_bins))
    means = np.stack([spikes[rows].mean(0) for rows in np.array_split(np.argsort(times_s, kind="stable"), count)])
    for place in np.clip(moments * count - 0.5, 0, count - 1):
        first = min(int(place), max(count - 2, 0))
        yield means[first] + (place - first) * (means[min(first + 1, count - 1)] - means[first])


def _rates_hz(window: RecordingWindow, settings: FinetuningSettings) -> np.ndarray:
    """Firing rate of each unit; all are lowered by the same factor if together they exceed the maximum."""
    evaluation = settings.sorting_evaluation
    rates_hz = window.rates_hz or [len(spikes) / evaluation.duration_s for spikes in window.waveforms]
    raised = np.maximum(rates_hz, evaluation.min_rate_hz)
    return raised * min(1.0, evaluation.max_total_rate_hz / raised.sum())


def _draw_train(rng: np.random.Generator, rate_hz: float, rate: float, settings: FinetuningSettings) -> np.ndarray:
    """Samples of a Poisson train with a refractory period."""
    evaluation = settings.sorting_evaluation
    count = int(2 * rate_hz * evaluation.duration_s) + 20
    times_s = np.cumsum(evaluation.refractory_ms * 1e-3 + rng.exponential(1 / rate_hz, count))
    return np.round(times_s[times_s < evaluation.duration_s] * rate).astype(int)


def _noise(
    noise: np.ndarray, num_samples: int, rng: np.random.Generator, rate: float, crossfade_ms: float
) -> np.ndarray:
    """Traces (num_samples, num_channels): parts of the noise, forwards or backwards, cross-faded."""
    overlap = max(2, min(int(crossfade_ms * 1e-3 * rate), len(noise) // 4))
    parts, total = [], 0
    while total < num_samples:
        parts.append(noise[rng.integers(len(noise) // 2) :][:: rng.choice((-1, 1))])
        total += len(parts[-1]) - overlap
    return crossfade(parts, overlap, noise.shape[1])[:num_samples]


def _as_recording(traces: np.ndarray, positions_um: np.ndarray, rate: float) -> BaseRecording:
    from spikeinterface.core import NumpyRecording

    recording = NumpyRecording([traces], rate)
    recording.set_dummy_probe_from_locations(positions_um)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def _as_sorting(trains: dict[Any, np.ndarray], rate: float) -> BaseSorting:
    from spikeinterface.core import NumpySorting

    return NumpySorting.from_unit_dict([{str(unit): np.unique(each) for unit, each in trains.items()}], rate)
