"""Merge the units of a large group that are one neuron.

In a large group each channel has a mixture of its own, which does not see the units of other channels. Two units with
similar templates (SpikeInterface's l1 similarity at the best shift) are compared on the channels that both have in
common, by the same criterion as groups within a mixture: Ashman's D of their snippets plus the refractory
log-likelihood ratio of their spike times (`huidurep.clustering.separation`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.signal import fftconvolve, resample_poly
from scipy.special import rel_entr
from spikeinterface.core import get_channel_distances
from spikeinterface.sortingcomponents.tools import compute_sparsity_from_peaks_and_label
from threadpoolctl import threadpool_limits

from ..clustering.refractory import SHORT_LAGS, RefractorySettings, two_neurons_log_likelihood_ratio
from ..clustering.separation import MergeSettings, merge_groups, merge_limit, merge_statistic, separation
from .parameters import SortingParameters
from .peak_signs import unit_signs
from .preprocessing import PreparedGroup
from .spike_trains import has_coincident, lags_behind, running_sample_index, spike_times_s
from .waveforms import iterate_waveforms, mean_waveforms, nearest_channels, to_spike_vector


@dataclass(frozen=True)
class TemplateMergingSettings:
    """Settings of `merge_templates`.

    Parameters
    ----------
    min_similarity : float
        1 minus the normalised l1 distance of two templates. Pairs of units below it are never merged.
    same_template_similarity : float
        Above it, templates differ only by drift: D counts as 0, and only spike times can tell two neurons apart.
    min_common_activity : float
        Units with a lower share of their spikes in common periods fire at different times, as one neuron does when the
        probe drifts. D would measure the drift, so their template similarity decides instead. 0: never.
    num_periods : int
        Number of periods of a recording in which spikes are counted for this.
    max_shift_ms : float
        Largest time shift between two templates of one neuron.
    radius_um : float
        Units whose main channels are further apart are never merged.
    num_spikes, num_channels : int
        Number of spikes of each unit, drawn at random, and of channels around it, from which D is computed.
    min_common_channels : int
        D is not computed on fewer common channels.
    num_components, num_basis_spikes : int
        Number of principal components of the waveform on each channel, and of spikes from which they are computed.
    unlike_distance : float
        D of two units that are not compared, since their templates are not similar or they are too far apart, where
        groups that hold them are.
    merge : MergeSettings
    """

    min_similarity: float = 0.7
    same_template_similarity: float = 0.88
    min_common_activity: float = 0.0
    num_periods: int = 12
    max_shift_ms: float = 0.3
    radius_um: float = 100.0
    num_spikes: int = 200
    num_channels: int = 16
    min_common_channels: int = 4
    num_components: int = 6
    num_basis_spikes: int = 2000
    unlike_distance: float = 5.0
    merge: MergeSettings = MergeSettings()


DEFAULT_SETTINGS = TemplateMergingSettings()


def merge_templates(
    group: PreparedGroup,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    *,
    settings: TemplateMergingSettings = DEFAULT_SETTINGS,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Merge units that are one neuron.

    The pair with the lowest merge statistic is merged first, up to a limit that `merge_bias` shifts. Between merged
    units D is the average over all pairs of their parts (average linkage); the refractory log-likelihood ratio is that
    of all spikes.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV, with contact positions.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments.
    labels : ndarray of int, (num_spikes,)
        Unit of each spike, -1 for none.
    parameters : SortingParameters
        Waveform window, merge bias and seed.
    settings : TemplateMergingSettings
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    ndarray of int, (num_spikes,)
        Unit after merging, which has the label of the largest unit in it.
    """
    is_labelled = labels >= 0
    spikes = spikes[is_labelled]
    unit_ids, unit_index, counts = np.unique(labels[is_labelled], return_inverse=True, return_counts=True)
    if len(unit_ids) < 2:
        return labels.copy()
    snippets = _Snippets(group, spikes, unit_index, parameters, settings, job_kwargs)
    times_s = spike_times_s(spikes, group.recording)
    pairs = snippets.similar_pairs()
    fire_apart = _common_activity(times_s, unit_index, settings.num_periods) < settings.min_common_activity
    # the matrices are small: more threads only wait for each other, and their number would change the last digits
    with threadpool_limits(limits=1):
        distances = snippets.distances(pairs, fire_apart)
    times_s = [times_s[rows] for rows in _rows_by_unit(unit_index)]
    limit = merge_limit(parameters.merge_bias, settings.merge)

    def statistic(distance: float, first: list[int], second: list[int]) -> float:
        trains = (np.concatenate([times_s[unit] for unit in units]) for units in (first, second))
        return merge_statistic(distance, *trains, limit=limit, settings=settings.merge)

    # the largest unit has the most reliable main channel
    merged_index = np.arange(len(unit_ids))
    for members in _agglomerate(counts, distances, statistic, limit, settings.unlike_distance):
        merged_index[members] = max(members, key=lambda unit: counts[unit])
    merged = labels.copy()
    merged[is_labelled] = unit_ids[merged_index][unit_index]
    return merged


def _agglomerate(
    counts: np.ndarray,
    distances: dict[tuple[int, int], float],
    statistic: Callable[[float, list[int], list[int]], float],
    limit: float,
    unlike: float,
) -> list[list[int]]:
    """Groups of units; D between two groups is the average over their pairs of units, `unlike` for those not compared.

    Otherwise clusters of noise, which are alike from channel to channel, would chain all units near them.
    """

    def candidate_pairs(groups: dict[int, list[int]]) -> list[tuple[int, int]]:
        group_of = {unit: key for key, members in groups.items() for unit in members}
        pairs = {(group_of[first], group_of[second]) for first, second in distances}
        return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})

    def group_statistic(first: list[int], second: list[int]) -> float:
        pairs = [(min(a, b), max(a, b)) for a in first for b in second]
        # the D of small units is the least reliable
        weights = [np.sqrt(counts[a] * counts[b]) for a, b in pairs]
        distance = float(np.average([distances.get(pair, unlike) for pair in pairs], weights=weights))
        return statistic(distance, first, second)

    return list(merge_groups(range(len(counts)), candidate_pairs, group_statistic, limit).values())


@dataclass(frozen=True)
class _Snippets:
    """Templates and snippets of the units of a group, compared pair by pair."""

    group: PreparedGroup
    spikes: np.ndarray
    unit_index: np.ndarray
    parameters: SortingParameters
    settings: TemplateMergingSettings
    job_kwargs: dict | None

    @property
    def max_shift(self) -> int:
        """Largest shift of a template, samples."""
        return int(self.settings.max_shift_ms * self.group.recording.get_sampling_frequency() / 1000.0)

    def main_channels(self) -> np.ndarray:
        """Channel (num_units,) at which most spikes of each unit peak."""
        channels = self.spikes["channel_index"]
        return np.array([np.bincount(channels[rows]).argmax() for rows in _rows_by_unit(self.unit_index)])

    def similar_pairs(self) -> dict[tuple[int, int], tuple[float, int]]:
        """Similarity, and shift of the second unit in samples, of the pairs of units with similar templates."""
        recording, radius_um = self.group.recording, self.settings.radius_um
        num_units = int(self.unit_index.max()) + 1
        sparsity, _ = compute_sparsity_from_peaks_and_label(
            self.spikes, self.unit_index, np.arange(num_units), recording, radius_um
        )
        vector = to_spike_vector(self.spikes, self.unit_index)
        templates = mean_waveforms(recording, vector, num_units, self.parameters, job_kwargs=self.job_kwargs)
        channels = self.main_channels()
        is_near = get_channel_distances(recording)[channels][:, channels] <= radius_um
        signs = unit_signs(self.spikes, self.unit_index, num_units)
        is_near &= signs[:, None] == signs
        pairs = _template_similarity(templates, sparsity.mask, is_near, self.max_shift)
        return {pair: found for pair, found in pairs.items() if found[0] >= self.settings.min_similarity}

    def distances(self, pairs: dict, fire_apart: np.ndarray) -> dict[tuple[int, int], float]:
        """Ashman's D, or what replaces it, plus 1 - similarity, of pairs of units with enough channels in common."""
        recording, settings = self.group.recording, self.settings
        near = nearest_channels(recording, settings.num_channels)
        channels = self.main_channels()
        shifts: dict[int, set] = {}
        for (first, second), (_, shift) in pairs.items():
            shifts.setdefault(first, set()).add(0)
            shifts.setdefault(second, set()).add(shift)
        snippets = self.project(channels, shifts)
        distances = {}
        for (first, second), (similarity, shift) in pairs.items():
            common = np.flatnonzero(near[channels[first]] & near[channels[second]])
            unlikeness = 1.0 - similarity  # decides between pairs of equal D: the most similar units are merged first
            if similarity > settings.same_template_similarity or fire_apart[first, second]:
                distances[first, second] = unlikeness
            elif len(common) >= min(settings.min_common_channels, recording.get_num_channels()):
                features = []
                for unit, unit_shift in ((first, 0), (second, shift)):
                    is_common = np.isin(np.flatnonzero(near[channels[unit]]), common)
                    shown = snippets[unit, unit_shift][:, is_common]
                    features.append(shown.reshape(len(shown), -1))
                separated = separation(*features, seed=self.parameters.seed, settings=settings.merge)
                distances[first, second] = separated + unlikeness
        return distances

    def project(self, channels: np.ndarray, shifts: dict[int, set]) -> dict[tuple[int, int], np.ndarray]:
        """Snippets (num_drawn, num_channels, num_components) of each unit at each shift, around its main channel.

        Only projections on principal components are kept in memory: a full probe has hundreds of units.
        """
        rng = np.random.default_rng(self.parameters.seed)
        by_unit = _rows_by_unit(self.unit_index)
        drawn_rows = [rng.permutation(by_unit[unit])[: self.settings.num_spikes] for unit in shifts]
        rows = np.sort(np.concatenate(drawn_rows)) if drawn_rows else np.zeros(0, dtype=int)
        drawn, owners = self.spikes[rows].copy(), self.unit_index[rows]
        basis = self.temporal_basis(drawn)
        # snippets of one unit on the same channels, wherever each spike has its peak
        drawn["channel_index"] = channels[owners]
        recording, margin, parameters = self.group.recording, self.max_shift, self.parameters
        margin_ms = margin / recording.get_sampling_frequency() * 1000.0 + 1e-6
        window = {"ms_before": parameters.ms_before + margin_ms, "ms_after": parameters.ms_after + margin_ms}
        wide = dataclasses.replace(parameters, **window)
        options = dict(num_channels=self.settings.num_channels, job_kwargs=self.job_kwargs)
        projected: dict[tuple[int, int], list] = {}
        for batch in iterate_waveforms(recording, drawn, wide, **options):
            for unit in np.unique(owners[batch.spike_indices]):
                waveforms = batch.waveforms[owners[batch.spike_indices] == unit]
                for shift in shifts[unit]:
                    shifted = waveforms[:, margin + shift : margin + shift + basis.shape[1]]
                    projected.setdefault((int(unit), shift), []).append(np.einsum("nsc,ks->nck", shifted, basis))
        return {key: np.concatenate(each) for key, each in projected.items()}

    def temporal_basis(self, spikes: np.ndarray) -> np.ndarray:
        """Principal waveforms (num_components, num_samples) at the peak channel, each spike scaled to norm 1."""
        sample = spikes[:: max(1, len(spikes) // self.settings.num_basis_spikes)]
        recording, options = self.group.recording, dict(num_channels=1, job_kwargs=self.job_kwargs)
        batches = iterate_waveforms(recording, sample, self.parameters, **options)
        waveforms = [batch.waveforms[:, :, 0] for batch in batches]
        if not waveforms:
            return np.zeros((0, self.parameters.num_samples(recording.get_sampling_frequency())))
        stacked = np.concatenate(waveforms)
        norms = np.linalg.norm(stacked, axis=1, keepdims=True)
        # not centred, as PCA would: the mean waveform is the most important one
        axes = np.linalg.svd(stacked / np.where(norms > 0, norms, 1.0), full_matrices=False)[2]
        return axes[: self.settings.num_components]


def _rows_by_unit(unit_index: np.ndarray) -> list[np.ndarray]:
    """Rows of the spikes of each unit, in order."""
    return np.split(np.argsort(unit_index, kind="stable"), np.cumsum(np.bincount(unit_index))[:-1])


def _template_similarity(
    templates: np.ndarray, mask: np.ndarray, is_candidate: np.ndarray, max_shift: int
) -> dict[tuple[int, int], tuple[float, int]]:
    """Similarity of two templates at the best shift, and by how many samples the second is late.

    1 minus the sum of absolute differences over the sum of absolute values, on the channels of either template: "l1" of
    SpikeInterface's `compute_template_similarity`, whose compilation takes longer than hundreds of units do here, and
    which tries shifts of one sign only.

    Parameters
    ----------
    templates : ndarray, (num_units, num_samples, num_channels)
    mask : ndarray of bool, (num_units, num_channels)
        Channels of each template.
    is_candidate : ndarray of bool, (num_units, num_units)
        Pairs i < j to compare, if they have a channel in common.
    max_shift : int
        Samples.

    Returns
    -------
    dict of (int, int) to (float, int)
    """
    num_inside = templates.shape[1] - 2 * max_shift
    found = {}
    for i, j in np.argwhere(np.triu(is_candidate, k=1)).tolist():
        if not (mask[i] & mask[j]).any():
            continue
        shown = mask[i] | mask[j]
        first = templates[i][max_shift : max_shift + num_inside, shown].T
        # the second template on these channels at every shift
        seconds = np.lib.stride_tricks.sliding_window_view(templates[j][:, shown].T, num_inside, axis=1)
        differences = np.abs(seconds - first[:, None]).sum(axis=(0, 2))
        sizes = np.abs(first).sum() + np.abs(seconds).sum(axis=(0, 2))
        similarities = 1.0 - differences / np.maximum(sizes, np.finfo("float32").tiny)
        best = int(similarities.argmax())
        found[i, j] = float(similarities[best]), best - max_shift
    return found


def _common_activity(times_s: np.ndarray, unit_index: np.ndarray, num_periods: int) -> np.ndarray:
    """Share (num_units, num_units) of spikes in common periods: 1 for equal rates over time, 0 without overlap."""
    period = np.minimum(times_s / (times_s.max() + 1e-9) * num_periods, num_periods - 1).astype(int)
    counts = np.zeros((unit_index.max() + 1, num_periods))
    np.add.at(counts, (unit_index, period), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return np.stack([np.minimum(share, shares).sum(axis=1) for share in shares])


@dataclass(frozen=True)
class RefractoryMergingSettings:
    """Settings of `merge_refractory_units`.

    Parameters
    ----------
    min_cosine : float
        Smallest cosine similarity of two templates around their trough, at the best shift. Templates of one neuron in a
        burst are scaled versions of each other.
    min_log_likelihood_ratio : float
        Evidence of spike times for one neuron that is needed: the natural logarithm of the likelihood ratio against
        two, of the refractory period and of overlaps with a third unit. Two neurons that fire at random reach 5 with a
        probability of 0.1 %.
    same_difference : (float, float)
        Squared difference of two templates, as a share of the larger one's square, below which none of that evidence is
        needed, and above which all is: hardly any neuron has the waveform and the amplitude of another one.
    overlap_ms : float
        A snippet shows spikes of other units within this time. Overlaps count up to `min_log_likelihood_ratio`.
    max_shift_ms, half_window_ms : float
        Largest shift between two templates, and what is compared before and after the trough: other spikes overlap what
        follows.
    shift_resolution_hz : float
        Templates are interpolated to at least this rate, at which they are shifted.
    min_alone_spikes : int
        Templates are means of the spikes that no other unit overlaps within half of `overlap_ms`. With fewer of these,
        they are means of all spikes of a unit, without what the overlapping ones add on average.
    radius_um : float
        Channels around both main channels on which templates are compared. Units whose main channels are further apart
        do not overlap.
    refractory : RefractorySettings
        Lags that are compared.
    """

    min_cosine: float = 0.99
    min_log_likelihood_ratio: float = 5.0
    same_difference: tuple[float, float] = (0.005, 0.05)
    overlap_ms: float = 3.0
    max_shift_ms: float = 0.2
    shift_resolution_hz: float = 90000.0
    min_alone_spikes: int = 10
    half_window_ms: float = 0.5
    radius_um: float = 60.0
    refractory: RefractorySettings = SHORT_LAGS


REFRACTORY_MERGING = RefractoryMergingSettings()


def merge_refractory_units(
    group: PreparedGroup,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    *,
    settings: RefractoryMergingSettings = REFRACTORY_MERGING,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Merge units whose templates are scaled versions of each other and which share a refractory period.

    A burst whose spikes become smaller, or a fast neuron, has several clusters, whose spikes never follow each other
    within a refractory period. So have neurons that a fast one, or one that drives them, overlaps with.

    Parameters
    ----------
    group, spikes, labels, job_kwargs
        As in :func:`merge_templates`.
    parameters : SortingParameters
        Waveform window; `merge_bias` is subtracted from the evidence that is needed.
    settings : RefractoryMergingSettings

    Returns
    -------
    ndarray of int64, (num_spikes,)
        Unit after merging, which has the label of the largest unit in it.
    """
    unit_ids, unit_index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(unit_ids) < 2:
        return labels.copy()
    both_times = spike_times_s(spikes, group.recording), running_sample_index(group.recording, spikes)
    trains = [[each[rows] for rows in _rows_by_unit(unit_index)] for each in both_times]
    overlap = round(settings.overlap_ms * group.recording.get_sampling_frequency() / 1000.0)
    templates = _templates_alone(spikes, unit_index, trains[1], group, parameters, settings, job_kwargs)
    cosines, differences, is_near = compare_templates(templates, group, parameters, settings)

    def candidate_pairs(groups: dict[int, list[int]]) -> list[tuple[int, int]]:
        pairs = combinations(sorted(groups), 2)
        return [(a, b) for a, b in pairs if cosines[np.ix_(groups[a], groups[b])].max() >= settings.min_cosine]

    def statistic(first: list[int], second: list[int]) -> float:
        times_s, samples = ([np.concatenate([of[u] for u in units]) for units in (first, second)] for of in trains)
        thirds = set(np.flatnonzero(is_near[first + second].any(axis=0)).tolist()) - {*first, *second}
        overlaps = _overlap_evidence(*samples, [trains[1][unit] for unit in thirds], overlap)
        two_neurons = two_neurons_log_likelihood_ratio(*times_s, settings.refractory)
        share = np.interp(differences[np.ix_(first, second)].min(), settings.same_difference, (0, 1))  # that is needed
        return two_neurons - min(overlaps, most) - (1.0 - share) * most

    most = settings.min_log_likelihood_ratio
    merged_index = np.arange(len(unit_ids))
    for members in merge_groups(
        range(len(unit_ids)), candidate_pairs, statistic, parameters.merge_bias - most
    ).values():
        merged_index[members] = max(members, key=lambda unit: counts[unit])
    return unit_ids[merged_index][unit_index]


def _templates_alone(
    spikes: np.ndarray,
    unit_index: np.ndarray,
    trains: list[np.ndarray],
    group: PreparedGroup,
    parameters: SortingParameters,
    settings: RefractoryMergingSettings,
    job_kwargs: dict | None,
) -> np.ndarray:
    """Templates of the spikes that no other unit near overlaps; of few such, of all without what overlaps them."""
    reach = round(settings.overlap_ms / 2 * group.recording.get_sampling_frequency() / 1000.0)
    chosen = _rows_by_unit(unit_index)
    channels = np.array([np.bincount(spikes["channel_index"][rows]).argmax() for rows in chosen])
    is_near = get_channel_distances(group.recording)[np.ix_(channels, channels)] <= settings.radius_um
    np.fill_diagonal(is_near, False)
    is_clean = np.ones(len(chosen), dtype=bool)
    for unit, own in enumerate(trains):
        overlapping = [trains[other] for other in np.flatnonzero(is_near[unit])]
        is_alone = ~has_coincident(own, np.sort(np.concatenate([own[:0], *overlapping])), reach)
        is_clean[unit] = is_alone.sum() >= min(settings.min_alone_spikes, len(own))
        if is_clean[unit]:
            chosen[unit] = chosen[unit][is_alone]
    rows = np.sort(np.concatenate(chosen))
    vector = to_spike_vector(spikes[rows], unit_index[rows])
    templates = mean_waveforms(group.recording, vector, len(trains), parameters, job_kwargs=job_kwargs)
    for unit in np.flatnonzero(~is_clean):
        for other in np.flatnonzero(is_near[unit] & is_clean):
            templates[unit] -= _mean_overlap(trains[unit], trains[other], templates[other])
    return templates


def _mean_overlap(own: np.ndarray, other: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Mean of what spikes at the samples `other`, of a template, add to snippets of spikes at the samples `own`."""
    num_samples = len(template)
    lags = -lags_behind(own, other, num_samples - 1)  # of the others behind its own
    shares = np.bincount(lags + num_samples - 1, minlength=2 * num_samples - 1) / len(own)
    return fftconvolve(shares[:, None], template, axes=0)[num_samples - 1 : 2 * num_samples - 1]


def _overlap_evidence(first: np.ndarray, second: np.ndarray, thirds: list[np.ndarray], reach: int) -> float:
    """Evidence that the spikes of one of two groups of units are those that overlap with spikes of a third unit.

    One neuron overlaps by chance, whichever of its spikes are in a group of their own, and its other spikes less often
    than that. Of two neurons, one of which the third unit drives, the other overlaps by chance.

    Parameters
    ----------
    first, second : ndarray of int64 (num_first,) and (num_second,)
        Samples of the spikes of each group.
    thirds : list of ndarray of int64
        Those of every other unit nearby, in ascending order.
    reach : int
        Samples within which spikes overlap.

    Returns
    -------
    float
        Largest log-likelihood ratio of one neuron against two, over all third units; at least 0. Overlaps are binomial;
        chance is their share with spikes shifted by some reaches.
    """
    groups, evidence = (first, second, np.concatenate([first, second])), 0.0
    for third in thirds:
        shifted = [has_coincident(groups[2] + shift * reach, third, reach).mean() for shift in (-6, -4, 4, 6)]
        chance = float(np.clip(np.mean(shifted), 1e-3, 1.0 - 1e-3))
        shares = np.array([has_coincident(own, third, reach).mean() for own in groups])
        sizes = np.array([len(own) for own in groups])
        ratios = sizes * (rel_entr(shares, chance) + rel_entr(1 - shares, 1 - chance))
        fewer, more = ratios * (shares < chance), ratios * (shares > chance)
        evidence = max(evidence, float(fewer[:2].max() - more[2]))
    return evidence


def compare_templates(
    templates: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    settings: RefractoryMergingSettings = REFRACTORY_MERGING,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare templates around their trough, on the channels near both, at the best shift of the second.

    Parameters
    ----------
    templates : ndarray, (num_units, num_samples, num_channels)
    group : PreparedGroup
        Positions of the channels.
    parameters : SortingParameters
        Waveform window.
    settings : RefractoryMergingSettings

    Returns
    -------
    cosines : ndarray, (num_units, num_units)
        0 for units that are not near.
    differences : ndarray, (num_units, num_units)
        Squared distance over the larger squared norm.
    is_near : ndarray of bool, (num_units, num_units)
    """
    rate_hz = group.recording.get_sampling_frequency()
    peak = parameters.num_samples_before(rate_hz)
    # half a sample between two troughs makes templates of one neuron look different, most of all at low rates
    finer = int(np.ceil(settings.shift_resolution_hz / rate_hz))
    templates, rate_hz, peak = resample_poly(templates, finer, 1, axis=1), finer * rate_hz, finer * peak
    half = min(round(settings.half_window_ms * rate_hz / 1000.0), peak, templates.shape[1] - peak - 1)
    max_shift = round(settings.max_shift_ms * rate_hz / 1000.0)
    max_shift = min(max_shift, peak - half, templates.shape[1] - 1 - peak - half)
    distances_um = get_channel_distances(group.recording)
    channels = np.abs(templates[:, peak]).argmax(axis=1)
    is_near = distances_um[channels] <= settings.radius_um
    cosines, differences = np.eye(len(templates)), 1.0 - np.eye(len(templates))
    for first, second in zip(*np.triu_indices(len(templates), 1), strict=True):
        if not is_near[first, channels[second]]:
            continue
        compared = is_near[first] | is_near[second]
        one = templates[first, peak - half : peak + half + 1][:, compared].ravel()
        for shift in range(-max_shift, max_shift + 1):
            start = peak - half + shift
            other = templates[second, start : start + 2 * half + 1][:, compared].ravel()
            sizes = one @ one, other @ other
            if min(sizes) > 0:
                cosine = one @ other / np.sqrt(sizes[0] * sizes[1])
                cosines[first, second] = max(cosines[first, second], cosine)
                difference = (sizes[0] + sizes[1] - 2 * one @ other) / max(sizes)
                differences[first, second] = min(differences[first, second], difference)
    return np.maximum(cosines, cosines.T), np.minimum(differences, differences.T), is_near[:, channels]
