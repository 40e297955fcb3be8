"""How far a unit can be trusted: violations of its refractory period, isolation, presence, and a flag made of them."""

from __future__ import annotations

import numpy as np

from .spike_trains import running_sample_index

REFRACTORY_MS = 1.5
MOST_VIOLATIONS = 0.01  # of the intervals of a good unit; as much is the custom of curators
LEAST_ISOLATION = 0.9
FEWEST_STRETCHES, STRETCH_S = 10, 60.0  # a minute is the bin of SpikeInterface's presence_ratio


def unit_confidence(recording, spike_vector: np.ndarray, posteriors: np.ndarray, num_units: int) -> dict:
    """Measure each unit by its own spikes.

    Parameters
    ----------
    recording : BaseRecording
        The recording they are of.
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector, in order of time within segments.
    posteriors : ndarray of float32, (num_spikes,)
        Probability of the unit of each spike.
    num_units : int
        Units counted by the spike vector; each has a spike.

    Returns
    -------
    dict of list
        One value a unit: refractory_violations, share of its intervals below 1.5 ms; isolation, the mean posterior of
        its spikes; presence, the share of stretches of a minute (or of tenths of a shorter recording) in which it
        fires; quality, "good" where isolation is at least 0.9 and violations are at most 0.01, otherwise "mua", for
        several units.
    """
    rows = [np.flatnonzero(spike_vector["unit_index"] == unit) for unit in range(num_units)]
    sampling_frequency = recording.get_sampling_frequency()
    num_samples = recording.get_total_samples()
    stretches = max(FEWEST_STRETCHES, int(np.ceil(num_samples / sampling_frequency / STRETCH_S)))
    edges = np.linspace(0, num_samples, stretches + 1)
    ticks = running_sample_index(recording, spike_vector)
    violations = [_refractory_violations(spike_vector[own], sampling_frequency) for own in rows]
    isolation = [float(posteriors[own].mean(dtype="float64")) for own in rows]
    is_good = [
        share <= MOST_VIOLATIONS and mean >= LEAST_ISOLATION for share, mean in zip(violations, isolation, strict=True)
    ]
    return {
        "refractory_violations": violations,
        "isolation": isolation,
        "presence": [float((np.histogram(ticks[own], edges)[0] > 0).mean()) for own in rows],
        "quality": ["good" if good else "mua" for good in is_good],
    }


def _refractory_violations(spike_vector: np.ndarray, sampling_frequency: float) -> float:
    """Share of the intervals of one unit that are shorter than REFRACTORY_MS."""
    same_segment = np.diff(spike_vector["segment_index"]) == 0
    intervals = np.diff(spike_vector["sample_index"])[same_segment]
    return float(np.mean(intervals < REFRACTORY_MS * sampling_frequency / 1000.0)) if len(intervals) else 0.0
