"""Which units of a large group are one neuron that was seen from several places.

Each place of a probe has a mixture of its own, and no mixture sees the units of another. Here two units are held
against each other on the channels that both have, by the rule of the mixtures: Ashman's D on the linear discriminant
of their snippets, plus the evidence of their spike times, says whether they are two (`clustering`). Like templates
(SpikeInterface's l1 similarity at the best shift) only say which pairs are worth asking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from spikeinterface.core import NumpySorting, get_channel_distances
from spikeinterface.sortingcomponents.tools import compute_sparsity_from_peaks_and_label
from threadpoolctl import threadpool_limits

from ..clustering.refractory import evidence_of_two
from ..clustering.separation import SEPARATION, separation
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .waveforms import iterate_waveforms, mean_waveforms, nearest_channels, spike_times_s, to_spike_vector

SIMILARITY = 0.7  # 1 - normalised l1 distance of two templates; less is nobody's piece
ALIKE = 0.88  # so alike, templates differ by what the tissue moved: only spike times tell two from one
NUM_PERIODS = 12  # of a recording, in which two units fire together or take turns
SHIFT_MS = 0.3  # between two views of one spike
TEMPLATE_RADIUS_UM = 100.0
NUM_SPIKES = 200  # of a unit, drawn
NUM_CHANNELS = 16  # around a unit
FEWEST_COMMON = 4  # channels
NUM_COMPONENTS = 6  # in time, of each channel
BASIS_SPIKES = 2000


def join_units(
    group: PreparedGroup,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    *,
    similarity: float = SIMILARITY,
    limit: float = SEPARATION,
    turns: float = 0.0,
) -> dict[int, int]:
    """Find the units that are pieces of one neuron.

    The pair that is least separated joins first, up to a limit that `merge_bias` shifts. Between units of several
    pieces D is the mean over their pairs; the evidence is that of all their spikes. Where two units take turns, as a
    neuron does that the tissue moves, D would only say by how much it moved: the templates are believed instead.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV, with contacts.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments.
    labels : ndarray of int, (num_spikes,)
        Unit of each, -1 for none.
    parameters : SortingParameters
        Window, seed and bias are read.
    similarity : float
        Pairs whose templates are less alike are not looked at.
    limit : float
        Of D plus evidence, nats.
    turns : float
        Two units take turns that have less than this share of their spikes in common periods.

    Returns
    -------
    dict
        For every unit the largest of those that are one with it; itself where it stands alone.
    """
    is_labelled = labels >= 0
    spikes, labels = spikes[is_labelled], labels[is_labelled]
    unit_ids, unit_index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(unit_ids) < 2:
        return {int(unit): int(unit) for unit in unit_ids}
    times_s = spike_times_s(spikes, group.recording)
    pairs = _like_pairs(group, spikes, unit_index, similarity, parameters)
    takes_turns = _common_activity(times_s, unit_index) < turns
    # the matrices are small: more threads only wait for each other, and their number would change the last digits
    with threadpool_limits(limits=1):
        distances = _separations(group, spikes, unit_index, pairs, takes_turns, parameters)
    times_s = [times_s[rows] for rows in _rows_by_unit(unit_index)]

    def evidence(first: list, second: list) -> float:
        return evidence_of_two(*(np.concatenate([times_s[piece] for piece in pieces]) for pieces in (first, second)))

    into = {}
    for pieces in _agglomerate(len(unit_ids), counts, distances, evidence, limit + parameters.merge_bias):
        whole = max(pieces, key=lambda piece: counts[piece])
        into |= {int(unit_ids[piece]): int(unit_ids[whole]) for piece in pieces}
    return into


def _rows_by_unit(unit_index: np.ndarray) -> list[np.ndarray]:
    """The spikes of each unit, in order."""
    return np.split(np.argsort(unit_index, kind="stable"), np.cumsum(np.bincount(unit_index))[:-1])


def _main_channels(spikes: np.ndarray, unit_index: np.ndarray) -> np.ndarray:
    """The channel (num_units,) at which most spikes of each unit peak."""
    return np.array([np.bincount(spikes["channel_index"][rows]).argmax() for rows in _rows_by_unit(unit_index)])


def _like_pairs(
    group: PreparedGroup, spikes: np.ndarray, unit_index: np.ndarray, least: float, parameters: SortingParameters
) -> dict[tuple[int, int], tuple[float, int]]:
    """Similarity and shift of the second, samples, for the pairs of units whose templates are alike."""
    num_units = int(unit_index.max()) + 1
    sparsity, _ = compute_sparsity_from_peaks_and_label(
        spikes, unit_index, np.arange(num_units), group.recording, TEMPLATE_RADIUS_UM
    )
    templates = mean_waveforms(group.recording, to_spike_vector(spikes, unit_index), num_units, parameters)
    similarity, lags = _template_similarity(templates, sparsity.mask, _shift_samples(group))
    channels = _main_channels(spikes, unit_index)
    is_near = get_channel_distances(group.recording)[channels][:, channels] <= TEMPLATE_RADIUS_UM
    first, second = np.nonzero(np.triu((similarity >= least) & is_near, k=1))
    return {(int(i), int(j)): (float(similarity[i, j]), int(lags[i, j])) for i, j in zip(first, second, strict=True)}


def _template_similarity(templates: np.ndarray, mask: np.ndarray, num_shifts: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity (num_units, num_units) of templates at the best shift, and by how many samples the second is late."""
    # seconds of imports and compilation that tetrodes need not pay
    from spikeinterface.postprocessing.template_similarity import compute_similarity_with_templates_array

    options = dict(method="l1", support="union", num_shifts=num_shifts, sparsity=mask, other_sparsity=mask)
    # SpikeInterface 0.105 tries shifts of one sign only where both arrays are the same; backwards, those of the other
    early, late = (
        compute_similarity_with_templates_array(each, each, **options) for each in (templates, templates[:, ::-1])
    )
    return np.maximum(early[0], late[0]), np.where(late[0] > early[0], -late[1], early[1])


def _shift_samples(group: PreparedGroup) -> int:
    return int(SHIFT_MS * group.recording.get_sampling_frequency() / 1000.0)


def _separations(
    group: PreparedGroup,
    spikes: np.ndarray,
    unit_index: np.ndarray,
    pairs: dict,
    takes_turns: np.ndarray,
    parameters: SortingParameters,
) -> dict[tuple[int, int], float]:
    """D of every pair of units that share enough channels to be held against each other."""
    near = nearest_channels(group.recording, NUM_CHANNELS)
    channels = _main_channels(spikes, unit_index)
    shifts: dict[int, set] = {}
    for (first, second), (_, lag) in pairs.items():
        shifts.setdefault(first, set()).add(0)
        shifts.setdefault(second, set()).add(lag)
    snippets = _project_snippets(group, spikes, unit_index, channels, shifts, parameters)
    distances = {}
    for (first, second), (similarity, lag) in pairs.items():
        common = np.flatnonzero(near[channels[first]] & near[channels[second]])
        if similarity > ALIKE:
            distances[first, second] = 0.0
        elif takes_turns[first, second]:
            distances[first, second] = 1.0 - similarity  # the most alike join first
        elif len(common) >= min(FEWEST_COMMON, group.recording.get_num_channels()):
            seen = [
                snippets[unit, shift][:, np.isin(np.flatnonzero(near[channels[unit]]), common)]
                for unit, shift in ((first, 0), (second, lag))
            ]
            distances[first, second] = separation(*(each.reshape(len(each), -1) for each in seen), seed=parameters.seed)
    return distances


def _common_activity(times_s: np.ndarray, unit_index: np.ndarray) -> np.ndarray:
    """Share (num_units, num_units) of spikes in common: 1 where both units are active at the same times, 0 in turns."""
    period = np.minimum(times_s / (times_s.max() + 1e-9) * NUM_PERIODS, NUM_PERIODS - 1).astype(int)
    counts = np.zeros((unit_index.max() + 1, NUM_PERIODS))
    np.add.at(counts, (unit_index, period), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return np.stack([np.minimum(share, shares).sum(axis=1) for share in shares])


def _project_snippets(
    group: PreparedGroup,
    spikes: np.ndarray,
    unit_index: np.ndarray,
    channels: np.ndarray,
    shifts: dict[int, set],
    parameters: SortingParameters,
) -> dict[tuple[int, int], np.ndarray]:
    """Snippets (num_drawn, num_channels, NUM_COMPONENTS) of each unit at each shift, around its channel.

    Only what is projected is kept: a full probe has hundreds of units.
    """
    rng = np.random.default_rng(parameters.seed)
    by_unit = _rows_by_unit(unit_index)
    rows = [rng.permutation(by_unit[unit])[:NUM_SPIKES] for unit in shifts]
    rows = np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=int)
    drawn, owners = spikes[rows].copy(), unit_index[rows]
    basis = _temporal_basis(group, drawn, parameters)
    drawn["channel_index"] = channels[owners]
    margin = _shift_samples(group)
    margin_ms = margin / group.recording.get_sampling_frequency() * 1000.0 + 1e-6
    window = {"ms_before": parameters.ms_before + margin_ms, "ms_after": parameters.ms_after + margin_ms}
    wide = dataclasses.replace(parameters, **window)
    parts: dict[tuple[int, int], list] = {}
    for batch in iterate_waveforms(group.recording, drawn, wide, num_channels=NUM_CHANNELS):
        for unit in np.unique(owners[batch.spike_indices]):
            waveforms = batch.waveforms[owners[batch.spike_indices] == unit]
            for shift in shifts[unit]:
                moved = waveforms[:, margin + shift : margin + shift + basis.shape[1]]
                parts.setdefault((int(unit), shift), []).append(np.einsum("nsc,ks->nck", moved, basis))
    return {key: np.concatenate(each) for key, each in parts.items()}


def _temporal_basis(group: PreparedGroup, spikes: np.ndarray, parameters: SortingParameters) -> np.ndarray:
    """Principal shapes (NUM_COMPONENTS, num_samples) of spikes at their peak channels, each spike counting alike."""
    sample = spikes[:: max(1, len(spikes) // BASIS_SPIKES)]
    batches = iterate_waveforms(group.recording, sample, parameters, num_channels=1)
    shapes = [batch.waveforms[:, :, 0] for batch in batches]
    if not shapes:
        return np.zeros((0, parameters.num_samples(group.recording.get_sampling_frequency())))
    shapes = np.concatenate(shapes)
    norms = np.linalg.norm(shapes, axis=1, keepdims=True)
    return np.linalg.svd(shapes / np.where(norms > 0, norms, 1.0), full_matrices=False)[2][:NUM_COMPONENTS]


def _agglomerate(
    num_units: int, counts: np.ndarray, distances: dict, evidence: Callable[[list, list], float], limit: float
) -> list[list[int]]:
    """Groups of units, the least separated joined first until none is within the limit."""
    groups = {unit: [unit] for unit in range(num_units)}

    def value(first: int, second: int) -> float:
        pairs = [(min(a, b), max(a, b)) for a in groups[first] for b in groups[second]]
        known = [pair for pair in pairs if pair in distances]
        if not known:
            return np.inf
        weights = [np.sqrt(counts[a] * counts[b]) for a, b in known]
        distance = float(np.average([distances[pair] for pair in known], weights=weights))
        return distance if distance > limit else distance + evidence(groups[first], groups[second])

    values = {pair: value(*pair) for pair in distances}
    while values and min(values.values()) <= limit:
        first, second = min(values, key=values.get)
        groups[first] += groups.pop(second)
        touched = {unit for pair in values if {first, second} & set(pair) for unit in pair} - {first, second}
        values = {pair: each for pair, each in values.items() if not {first, second} & set(pair)}
        for other in touched:
            pair = min(first, other), max(first, other)
            values[pair] = value(*pair)
    return list(groups.values())


ECHO_MS = 0.8  # from a spike to its echo
ECHO_SHARE = 0.5  # of a unit's spikes that are beside another's; chance makes 0.16 of them at 100 Hz
SOME = 1e-6


def drop_echoes(labels: np.ndarray, peaks: np.ndarray, recording) -> np.ndarray:
    """Take the label from the spikes of units that are echoes.

    Parameters
    ----------
    labels : ndarray of int64, (num_peaks,)
        Unit of each peak, -1 for none.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype.
    recording : BaseRecording
        The recording they are of.

    Returns
    -------
    ndarray of int64, (num_peaks,)
        -1 for the spikes of a unit more than half of which lie within 0.8 ms of spikes of one other unit, where the
        other's are larger.
    """
    # seconds of imports that tetrodes need not pay
    from spikeinterface.curation.remove_redundant import find_redundant_units

    is_labelled = labels >= 0
    unit_ids, unit_index = np.unique(labels[is_labelled], return_inverse=True)
    if len(unit_ids) < 2:
        return labels
    size = np.bincount(unit_index, np.abs(peaks["amplitude"][is_labelled])) / np.bincount(unit_index)
    vector = to_spike_vector(peaks[is_labelled], unit_index)
    sorting = NumpySorting(vector, recording.get_sampling_frequency(), np.arange(len(unit_ids)))
    pairs = find_redundant_units(sorting, delta_time=ECHO_MS, agreement_threshold=SOME, duplicate_threshold=ECHO_SHARE)
    # the pair says nothing of whose spikes they are: of a small unit beside a large one, the small one's as a rule
    echoes = {min(pair, key=lambda unit: size[unit]) for pair in pairs}
    return np.where(np.isin(labels, unit_ids[list(echoes)]), -1, labels)
