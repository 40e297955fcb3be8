"""Remove units that are a second view of another one: its after-waves, or its spikes on another channel.

A large spike can have a second trough 1 to 2 ms behind its first, which is detected as a spike of its own. The spikes
of such a unit have one fixed lag to those of a larger unit, and where none of them is detected the larger unit's
waveform has the same deflection at this lag all the same. A second neuron that often fires together with another one
has neither: its lags vary, and the other neuron's waveform is flat where it does not fire.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeinterface.core import NumpySorting, get_channel_distances

from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .spike_trains import has_coincident, running_sample_index
from .waveforms import mean_waveforms, to_spike_vector


@dataclass(frozen=True)
class RedundancySettings:
    """Settings of `remove_redundant_units`.

    Parameters
    ----------
    max_lag_deviation_ms : float
        Lags are fixed within this distance from the most frequent one; noise shifts the trough of a small after-wave.
    min_share : float
        A unit with a larger share of its spikes at the most frequent lag behind (or before) larger spikes may be a
        second view of them. Chance makes a share of 0.05 at 100 Hz.
    max_coincidence_ms : float
        In groups that are clustered channel by channel, a spike that was detected on two channels is in two units. A
        unit that shares more than `min_share` of its spikes with a larger one within this lag is its second view there.
    min_deflection : float
        It is one only if the larger spikes without one of its spikes have, at this lag, a larger deflection than this
        in units of its own.
    min_alone_spikes, min_alone_share : int, float
        With fewer larger spikes without one of its spikes, it is one in any case: no other neuron fires with each
        spike, and those few are overlapping spikes.
    radius_um : float
        Units whose main channels are further apart have nothing to do with each other.
    """

    max_lag_deviation_ms: float = 0.25
    min_share: float = 0.5
    max_coincidence_ms: float = 0.8
    min_deflection: float = 0.5
    min_alone_spikes: int = 10
    min_alone_share: float = 0.1
    radius_um: float = 100.0


DEFAULT_SETTINGS = RedundancySettings()


def remove_redundant_units(
    group: PreparedGroup,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    *,
    by_channel: bool = False,
    settings: RedundancySettings = DEFAULT_SETTINGS,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Remove the labels of units that are a second view of larger ones.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV, with contact positions.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each spike, -1 for none.
    parameters : SortingParameters
        Waveform window, which is as far as a second view is looked for.
    by_channel : bool
        Units were found channel by channel: only coincident spikes count, no after-waves.
    settings : RedundancySettings
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    ndarray of int64, (num_spikes,)
        -1 for the spikes of a second view.
    """
    labels = labels.copy()
    unit_ids, counts = np.unique(labels[labels >= 0], return_counts=True)
    if len(unit_ids) < 2:
        return labels
    if by_channel:
        return _without_coincident_units(group, spikes, labels, settings)
    samples = running_sample_index(group.recording, spikes)
    comparison = _Comparison(group, spikes, samples, parameters, settings)
    sizes = [np.abs(spikes["amplitude"][labels == unit]).mean() for unit in unit_ids]
    by_size = unit_ids[np.argsort(np.negative(sizes), kind="stable")]
    channels = {unit: np.bincount(spikes["channel_index"][labels == unit]).argmax() for unit in unit_ids}
    distances_um, radius_um = get_channel_distances(group.recording), settings.radius_um
    for position, unit in enumerate(by_size):
        rows = np.flatnonzero(labels == unit)
        near = [other for other in by_size[:position] if distances_um[channels[unit], channels[other]] <= radius_um]
        if comparison.is_second_view(rows, [np.flatnonzero(labels == each) for each in near], job_kwargs):
            labels[rows] = -1
    return labels


def _without_coincident_units(
    group: PreparedGroup, spikes: np.ndarray, labels: np.ndarray, settings: RedundancySettings
) -> np.ndarray:
    """Labels without those of the smaller of two units that share their spikes."""
    # seconds of imports that tetrodes need not wait for
    from spikeinterface.curation.remove_redundant import find_redundant_units

    is_labelled = labels >= 0
    unit_ids, unit_index = np.unique(labels[is_labelled], return_inverse=True)
    mean_amplitudes = np.bincount(unit_index, np.abs(spikes["amplitude"][is_labelled])) / np.bincount(unit_index)
    vector = to_spike_vector(spikes[is_labelled], unit_index)
    sorting = NumpySorting(vector, group.recording.get_sampling_frequency(), np.arange(len(unit_ids)))
    pairs = find_redundant_units(
        sorting,
        delta_time=settings.max_coincidence_ms,
        agreement_threshold=1e-6,  # all pairs that agree at all are compared
        duplicate_threshold=settings.min_share,
    )
    # a pair does not say which of its units is redundant
    redundant = {min(pair, key=lambda unit: mean_amplitudes[unit]) for pair in pairs}
    return np.where(np.isin(labels, unit_ids[list(redundant)]), -1, labels)


@dataclass(frozen=True)
class _Comparison:
    """Spikes of a unit, compared with larger spikes around them."""

    group: PreparedGroup
    spikes: np.ndarray
    samples: np.ndarray
    parameters: SortingParameters
    settings: RedundancySettings

    def is_second_view(self, rows: np.ndarray, larger: list[np.ndarray], job_kwargs: dict | None) -> bool:
        """Whether the spikes `rows` of one unit are second views of spikes of the `larger` units."""
        settings, samples = self.settings, self.samples
        sampling_frequency = self.group.recording.get_sampling_frequency()
        reach = self.parameters.num_samples(sampling_frequency)
        deviation = max(1, round(settings.max_lag_deviation_ms * sampling_frequency / 1000.0))
        larger = [each for each in larger if len(each)]
        others = np.sort(samples[np.concatenate([rows[:0], *larger])])
        lag = most_frequent_lag(samples[rows], others, reach, deviation)
        if lag is None:
            return False
        is_behind = has_coincident(samples[rows], others + lag, deviation)
        if is_behind.mean() <= settings.min_share:
            return False
        # several when the neuron of the larger spikes is split
        followed = [has_coincident(samples[each] + lag, samples[rows], deviation).mean() for each in larger]
        seen = np.concatenate(
            [each for each, share in zip(larger, followed, strict=True) if 2 * share >= max(followed)]
        )
        alone = seen[~has_coincident(samples[seen], samples[rows], reach)]
        if len(alone) >= max(settings.min_alone_spikes, settings.min_alone_share * len(seen)):
            return self.has_deflection(rows[is_behind], alone, lag, job_kwargs)
        return True

    def has_deflection(self, rows: np.ndarray, alone: np.ndarray, lag: int, job_kwargs: dict | None) -> bool:
        """Whether the spikes `alone` have at this lag the deflection that the spikes `rows` have at their peak."""
        compared = np.concatenate([self.spikes[rows], self.spikes[alone]])
        unit_index = np.repeat([0, 1], [len(rows), len(alone)])
        compared["sample_index"][len(rows) :] += lag
        order = np.lexsort((compared["sample_index"], compared["segment_index"]))
        vector = to_spike_vector(compared[order], unit_index[order])
        own, expected = mean_waveforms(self.group.recording, vector, 2, self.parameters, job_kwargs=job_kwargs)
        peak = self.parameters.num_samples_before(self.group.recording.get_sampling_frequency())
        channel = np.abs(own[peak]).argmax()
        return bool(expected[peak, channel] / own[peak, channel] > self.settings.min_deflection)


def most_frequent_lag(samples: np.ndarray, others: np.ndarray, reach: int, deviation: int) -> int | None:
    """Lag of samples behind others around which most of them lie.

    Parameters
    ----------
    samples, others : ndarray of int64, (num_samples,), (num_others,)
        In ascending order.
    reach : int
        Largest lag, in both directions.
    deviation : int
        Lags are counted within this distance.

    Returns
    -------
    int | None
        None where there is no pair within the reach.
    """
    start, end = np.searchsorted(others, samples - reach), np.searchsorted(others, samples + reach, "right")
    counts = end - start
    if not counts.sum():
        return None
    first = np.repeat(start - np.cumsum(counts) + counts, counts)
    lags = np.repeat(samples, counts) - others[first + np.arange(counts.sum())]
    histogram = np.bincount(lags + reach, minlength=2 * reach + 1)
    # of equal counts the middle of the run
    near = np.convolve(histogram, np.ones(2 * deviation + 1, dtype=int), mode="same")
    best = np.flatnonzero(near == near.max())
    return int(best[len(best) // 2]) - reach
