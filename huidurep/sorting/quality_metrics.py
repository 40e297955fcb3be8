"""Quality metrics of units: short intervals, mean posterior, presence ratio, and the label "good" or "mua"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeinterface.core import BaseRecording
from spikeinterface.metrics.quality.misc_metrics import isi_violations

from .spike_trains import running_sample_index


@dataclass(frozen=True)
class QualitySettings:
    """Thresholds of the quality metrics.

    Attributes
    ----------
    refractory_ms : float
        Inter-spike intervals below this are too short for one neuron; SpikeInterface's default.
    max_short_isi_fraction : float
        Largest share of such intervals of a unit that is labelled good; 1 % is customary in manual curation.
    min_mean_posterior : float
        Smallest mean posterior of a unit that is labelled good.
    presence_bin_s : float
        Bin of the presence ratio; SpikeInterface's default.
    min_presence_bins : int
        Smallest number of bins; bins of short recordings are shorter than `presence_bin_s`.
    """

    refractory_ms: float = 1.5
    max_short_isi_fraction: float = 0.01
    min_mean_posterior: float = 0.9
    presence_bin_s: float = 60.0
    min_presence_bins: int = 10


QUALITY_SETTINGS = QualitySettings()


def compute_quality_metrics(
    recording: BaseRecording,
    spike_vector: np.ndarray,
    posteriors: np.ndarray,
    num_units: int,
    *,
    settings: QualitySettings = QUALITY_SETTINGS,
) -> dict[str, list]:
    """Compute the quality metrics of every unit from its spike times and posteriors.

    Parameters
    ----------
    recording : BaseRecording
        The recording that was sorted; only its duration is used.
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector, in order of time within segments.
    posteriors : ndarray of float32, (num_spikes,)
        Posterior probability of each spike's unit.
    num_units : int
        Number of units; each has at least one spike.
    settings : QualitySettings

    Returns
    -------
    dict of list
        One value a unit. short_isi_fraction: share of its inter-spike intervals below 1.5 ms. isi_violations_ratio:
        contamination estimated from these intervals, by SpikeInterface (after Hill et al. 2011). mean_posterior: mean
        posterior of its spikes. presence_ratio: share of bins in which it fires, of 60 s, or of a tenth of recordings
        below ten minutes. quality: "good" where mean_posterior is at least 0.9 and short_isi_fraction at most 0.01,
        otherwise "mua" (multi-unit activity).
    """
    rows = [np.flatnonzero(spike_vector["unit_index"] == unit) for unit in range(num_units)]
    sampling_frequency, num_samples = recording.get_sampling_frequency(), recording.get_total_samples()
    duration_s = num_samples / sampling_frequency
    num_bins = max(settings.min_presence_bins, int(np.ceil(duration_s / settings.presence_bin_s)))
    # in recordings of a few minutes, a bin of a minute would hide most gaps
    edges = np.linspace(0, num_samples, num_bins + 1)
    ticks = running_sample_index(recording, spike_vector)
    trains = [_trains_of_segments(spike_vector[own]) for own in rows]
    refractory_samples = settings.refractory_ms * sampling_frequency / 1000.0
    short = [_short_isi_fraction(segments, refractory_samples) for segments in trains]
    ratios = [
        isi_violations([each / sampling_frequency for each in segments], duration_s, settings.refractory_ms / 1000.0)[0]
        for segments in trains
    ]
    mean_posteriors = [float(posteriors[own].mean(dtype="float64")) for own in rows]
    is_good = (np.array(short) <= settings.max_short_isi_fraction) & (
        np.array(mean_posteriors) >= settings.min_mean_posterior
    )
    return {
        "short_isi_fraction": short,
        "isi_violations_ratio": [float(ratio) for ratio in ratios],
        "mean_posterior": mean_posteriors,
        "presence_ratio": [float((np.histogram(ticks[own], edges)[0] > 0).mean()) for own in rows],
        "quality": np.where(is_good, "good", "mua").tolist(),
    }


def _trains_of_segments(spike_vector: np.ndarray) -> list[np.ndarray]:
    """Sample indices of one unit's spikes, one array a segment, so that no interval crosses segments."""
    ends = np.flatnonzero(np.diff(spike_vector["segment_index"])) + 1
    return np.split(spike_vector["sample_index"], ends)


def _short_isi_fraction(segments: list[np.ndarray], refractory_samples: float) -> float:
    intervals = np.concatenate([np.diff(samples) for samples in segments])
    return float(np.mean(intervals < refractory_samples)) if len(intervals) else 0.0
