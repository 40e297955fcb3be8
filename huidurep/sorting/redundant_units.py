"""Remove units that are no neuron of their own: second views of another unit, and overlapping spikes of two others.

A large spike can have a second trough 1 to 2 ms behind its first, which is detected as a spike of its own. The spikes
of such a unit have one fixed lag to those of a larger unit, and where none of them is detected the larger unit's
waveform has the same deflection at this lag all the same. A second neuron that often fires together with another one
has neither: its lags vary, and the other neuron's waveform is flat where it does not fire.

Spikes of two fast neurons overlap so often that those at one lag become a cluster. Its template is the sum of the two
others (Yger et al. 2018, doi 10.7554/eLife.34518), and it has no more spikes than overlap by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d
from spikeinterface.core import NumpySorting, get_channel_distances

from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .spike_trains import has_coincident, lags_behind, running_sample_index
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


@dataclass(frozen=True)
class OverlapUnitSettings:
    """Settings of `remove_overlap_units`.

    Parameters
    ----------
    min_explained : float
        A unit is overlapping spikes of two others if their sum explains this share of what the better one of them
        leaves of its template.
    max_chance_ratio : float
        Units with more spikes than this times those of two others that overlap by chance are neurons.
    chance_window_ms : float
        Lags that may lie in one cluster of overlapping spikes.
    max_shift_ms, max_lag_ms : float
        Largest distance of the spikes of the first, and of the second, from those of the unit.
    lag_spread_ms : float
        The second's template is also tried as its mean over lags that differ by this much.
    """

    min_explained: float = 0.7
    max_chance_ratio: float = 2.0
    chance_window_ms: float = 1.0
    max_shift_ms: float = 0.3
    max_lag_ms: float = 1.5
    lag_spread_ms: float = 0.4


OVERLAP_UNITS = OverlapUnitSettings()


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
    """Labels without those of units most of whose spikes are spikes of a unit of larger amplitude."""
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
    samples = running_sample_index(group.recording, spikes[is_labelled])
    max_lag = int(settings.max_coincidence_ms * group.recording.get_sampling_frequency() / 1000.0)
    redundant = set()
    for pair in pairs:  # those in which either unit has its spikes in common with the other
        smaller, larger = sorted(pair, key=lambda unit: mean_amplitudes[unit])
        is_common = has_coincident(samples[unit_index == smaller], samples[unit_index == larger], max_lag)
        if is_common.mean() > settings.min_share:
            redundant.add(smaller)
    return np.where(np.isin(labels, unit_ids[list(redundant)]), -1, labels)


def remove_overlap_units(
    group: PreparedGroup,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    *,
    settings: OverlapUnitSettings = OVERLAP_UNITS,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Remove the labels of units that are overlapping spikes of two larger units.

    Parameters
    ----------
    group, spikes, labels, parameters
        As in :func:`remove_redundant_units`.
    settings : OverlapUnitSettings
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    ndarray of int64, (num_spikes,)
        -1 for overlapping spikes: template matching finds both.
    """
    labels = labels.copy()
    unit_ids, counts = np.unique(labels[labels >= 0], return_counts=True)
    chance_s = settings.chance_window_ms * 1e-3 / group.recording.get_total_duration()
    max_counts = settings.max_chance_ratio * chance_s * np.outer(counts, counts)  # of overlapping spikes of each pair
    by_count = np.argsort(counts, kind="stable")
    if len(unit_ids) < 3 or counts[by_count[0]] > max_counts[by_count[-1], by_count[-2]]:
        return labels
    rows = np.flatnonzero(labels >= 0)
    vector = to_spike_vector(spikes[rows], np.searchsorted(unit_ids, labels[rows]))
    templates = mean_waveforms(group.recording, vector, len(unit_ids), parameters, job_kwargs=job_kwargs)
    sums = _Sums(templates, group.recording.get_sampling_frequency(), settings)
    remaining = list(by_count)
    for unit in by_count:
        others = [other for other in remaining if other != unit and counts[other] >= counts[unit]]
        pairs = [(a, b) for a in others for b in others if a != b and counts[unit] <= max_counts[a, b]]
        if pairs and max(sums.explained(unit, *pair) for pair in pairs) >= settings.min_explained:
            remaining.remove(unit)
            labels[labels == unit_ids[unit]] = -1
    return labels


class _Sums:
    """Templates as sums of two others."""

    def __init__(self, templates: np.ndarray, sampling_frequency: float, settings: OverlapUnitSettings) -> None:
        per_ms = sampling_frequency / 1000.0
        lags = np.arange(-round(settings.max_lag_ms * per_ms), round(settings.max_lag_ms * per_ms) + 1)
        self.is_small_shift = np.abs(lags) <= settings.max_shift_ms * per_ms
        self.templates = templates.reshape(len(templates), -1)
        self.shifted = [_shift(template, lags) for template in templates]  # (num_lags, num_samples * num_channels)
        spread = max(1, round(settings.lag_spread_ms * per_ms))
        smeared = (uniform_filter1d(each, spread, axis=0, mode="nearest") for each in self.shifted)
        self.seconds = [np.concatenate([*both]) for both in zip(self.shifted, smeared, strict=True)]

    def explained(self, unit: int, first: int, second: int) -> float:
        """Share of what the better one of two units leaves of the unit's template that their sum explains."""
        left = self.templates[unit] - self.shifted[first][self.is_small_shift]
        candidates = self.seconds[second]
        by_sum = (left**2).sum(axis=1, keepdims=True) - 2 * left @ candidates.T + (candidates**2).sum(axis=1)
        by_one = min(self.left_by_one(unit, first), self.left_by_one(unit, second))
        return 1.0 - float(by_sum.min()) / by_one if by_one else 0.0

    def left_by_one(self, unit: int, other: int) -> float:
        """Squared distance of the unit's template from another one at the best lag."""
        return float(((self.templates[unit] - self.shifted[other]) ** 2).sum(axis=1).min())


def _shift(template: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """A template (num_samples, num_channels) later by each lag, with zeros beyond its ends: one row each."""
    num_samples, reach = len(template), int(np.abs(lags).max())
    padded = np.pad(template, ((reach, reach), (0, 0)))
    return np.stack([padded[reach - lag : reach - lag + num_samples].ravel() for lag in lags])


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
    lags = lags_behind(samples, others, reach)
    if not len(lags):
        return None
    histogram = np.bincount(lags + reach, minlength=2 * reach + 1)
    # of equal counts the middle of the run
    near = np.convolve(histogram, np.ones(2 * deviation + 1, dtype=int), mode="same")
    best = np.flatnonzero(near == near.max())
    return int(best[len(best) // 2]) - reach
