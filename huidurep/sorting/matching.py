"""Template matching: the spikes of each unit found again in the recording, overlapping ones among them."""

from __future__ import annotations

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import ChannelSparsity, Templates
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.sortingcomponents.matching import find_spikes_from_templates
from spikeinterface.sortingcomponents.matching.method_list import matching_methods

from .clustering import GroupUnits
from .detection import has_whole_snippet
from .jobs import get_job_kwargs
from .parameters import SortingParameters
from .preprocessing import PreparedGroup, statistics_kwargs
from .presets import PAPER
from .run_log import RunLog
from .spike_trains import DUPLICATE_MS, is_duplicate, is_near, running_sample_index
from .waveforms import mean_waveforms, to_spike_vector

CONFIDENT_POSTERIOR = 0.8
SURE_POSTERIOR = 0.95  # a detected spike that is so probable needs no matching
MIN_CONFIDENT_SPIKES = 10  # a unit with fewer takes its template from all its spikes
WHITENING_RADIUS_UM = 100.0
DENSE_CHANNELS = 16  # larger groups give each template only the channels on which it stands out
SPARSE_PEAK_TO_PEAK = 2.0  # noise levels
BORROWED_SPIKES = 15.0


def match_spikes(
    group: PreparedGroup, peaks: np.ndarray, units: GroupUnits, parameters: SortingParameters, log: RunLog
) -> tuple[np.ndarray, np.ndarray]:
    """Find the spikes of the units by their templates (or take those of the clusters) and drop units too small.

    Spikes of which the mixture of a small group is sure stay where matching did not give them to their unit: a template
    does not follow a burst, whose spikes shrink, nor a fast movement.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    peaks : ndarray, (num_peaks,)
        The detected peaks.
    units : GroupUnits
        Their units.
    parameters : SortingParameters
        Method, window and smallest unit are read.
    log : RunLog
        Told how many spikes were found.

    Returns
    -------
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments; channel_index is that of the unit.
    labels : ndarray of int64, (num_spikes,)
        Unit of each, as `units` counts them.
    """
    if parameters.matching is None:
        is_labelled = units.labels >= 0
        spikes, labels = peaks[is_labelled].copy(), units.labels[is_labelled]
    else:
        spikes, labels = _match(group, peaks, units, parameters)
        if units.is_one_mixture:
            spikes, labels = _with_sure(spikes, labels, group.recording, peaks, units)
    spikes["channel_index"] = units.unit_channels[labels]
    is_kept = has_whole_snippet(spikes, group.recording, parameters)
    if parameters.preset != PAPER:
        is_kept &= ~is_duplicate(spikes, labels, group.recording)
    if parameters.num_units is None:  # units that were asked for stay, however few their spikes
        counts = np.bincount(labels[is_kept], minlength=units.num_units)
        is_kept &= counts[labels] >= parameters.min_unit_spikes
    num_found = len(spikes)
    spikes, labels = spikes[is_kept], labels[is_kept]
    log(
        "matching",
        f"group {group.name}: {parameters.matching or 'none'}, {len(labels)} spikes of {len(np.unique(labels))} units, "
        f"{num_found - len(labels)} duplicates and spikes of small units left out",
    )
    return spikes, labels


def _match(
    group: PreparedGroup, peaks: np.ndarray, units: GroupUnits, parameters: SortingParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and units that SpikeInterface's matching finds, in order of time within segments.

    Tissue moves: each stretch of `template_interval_s` is matched with templates of its own time.
    """
    recording = _whiten(group, parameters)
    intervals = _intervals(recording, parameters.template_interval_s)
    unit_ids, templates = _interval_templates(recording, intervals, peaks, units, parameters)
    found = [
        _match_interval(
            recording, interval, _make_templates(recording, group, unit_ids, waveforms, parameters), parameters
        )
        for interval, waveforms in zip(intervals, templates, strict=True)
    ]
    found = np.concatenate(found)
    found = found[np.lexsort((found["cluster_index"], found["sample_index"], found["segment_index"]))]
    spikes = np.zeros(len(found), dtype=base_peak_dtype)
    for name in ("sample_index", "segment_index", "amplitude"):
        spikes[name] = found[name]
    return spikes, unit_ids[found["cluster_index"]].astype("int64")


def _with_sure(
    spikes: np.ndarray, labels: np.ndarray, recording, peaks: np.ndarray, units: GroupUnits
) -> tuple[np.ndarray, np.ndarray]:
    """Matched spikes with the peaks of sure units that are not among their unit's, in order of time within segments."""
    reach = int(DUPLICATE_MS * recording.get_sampling_frequency() / 1000.0)
    matched, detected = running_sample_index(recording, spikes), running_sample_index(recording, peaks)
    is_missing = (units.labels >= 0) & (units.posteriors > SURE_POSTERIOR)
    for unit in np.unique(units.labels[is_missing]):
        rows = np.flatnonzero(is_missing & (units.labels == unit))
        is_missing[rows] = ~is_near(detected[rows], matched[labels == unit], reach)
    spikes = np.concatenate([spikes, peaks[is_missing].astype(spikes.dtype)])
    labels = np.concatenate([labels, units.labels[is_missing]])
    order = np.lexsort((labels, spikes["sample_index"], spikes["segment_index"]))
    return spikes[order], labels[order]


def _intervals(recording, interval_s: float | None) -> list[tuple[int, int, int]]:
    """(segment, first sample, end) of stretches of about `interval_s`; whole segments where it is None."""
    intervals = []
    for segment_index in range(recording.get_num_segments()):
        num_samples = recording.get_num_samples(segment_index)
        wanted = num_samples if interval_s is None else interval_s * recording.get_sampling_frequency()
        edges = np.linspace(0, num_samples, max(1, round(num_samples / wanted)) + 1).astype(int)
        intervals += [(segment_index, first, end) for first, end in zip(edges[:-1], edges[1:], strict=True)]
    return intervals


def _match_interval(recording, interval: tuple[int, int, int], templates: Templates, parameters: SortingParameters):
    """What matching finds in one stretch, in samples of its segment."""
    segment_index, first, end = interval
    num_samples = recording.get_num_samples(segment_index)
    margin = 2 * parameters.num_samples(recording.get_sampling_frequency())
    start, stop = max(0, first - margin), min(num_samples, end + margin)
    stretch = recording.select_segments([segment_index])
    if (start, stop) != (0, num_samples):
        stretch = stretch.frame_slice(start, stop)
    method_kwargs = {}
    if matching_methods[parameters.matching].need_noise_levels:
        method_kwargs["noise_levels"] = np.ones(recording.get_num_channels(), dtype="float32")
    found = find_spikes_from_templates(
        stretch,
        templates,
        method=parameters.matching,
        method_kwargs=method_kwargs,
        job_kwargs=get_job_kwargs(),
    )
    found["sample_index"] += start
    found["segment_index"] = segment_index
    # spikes in the margins are the neighbouring stretch's
    return found[(found["sample_index"] >= first) & (found["sample_index"] < end)]


def _whiten(group: PreparedGroup, parameters: SortingParameters):
    """The group's traces with the noise of nearby channels made independent, each of variance 1.

    The methods' thresholds are made for such traces, and their least-squares fit is only right on them: with the true
    templates of a tetrode recording wobble's mean accuracy is .87 on them and .48 on traces in noise levels.
    """
    is_small = group.recording.get_num_channels() <= DENSE_CHANNELS
    return spre.whiten(
        group.recording,
        dtype="float32",
        mode="global" if is_small else "local",
        radius_um=WHITENING_RADIUS_UM,
        **statistics_kwargs(group.recording, parameters.seed),
    )


def _interval_templates(
    recording, intervals: list, peaks: np.ndarray, units: GroupUnits, parameters: SortingParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Units, and their mean waveforms (num_intervals, num_units, num_samples, num_channels), from confident spikes.

    A stretch borrows half from both its neighbours and, as `BORROWED_SPIKES` more spikes, the mean of the whole
    recording, so that a unit with few spikes there keeps a usable template.
    """
    is_labelled = units.labels >= 0
    is_used = is_labelled & (units.posteriors > CONFIDENT_POSTERIOR)
    counts = np.bincount(units.labels[is_used], minlength=units.num_units)
    is_used |= is_labelled & (counts < MIN_CONFIDENT_SPIKES)[units.labels]
    unit_ids, unit_index = np.unique(units.labels[is_used], return_inverse=True)
    used = peaks[is_used]
    interval_index = np.zeros(len(used), dtype="int64")
    for number, (segment_index, first, end) in enumerate(intervals):
        sample_index = used["sample_index"]
        is_here = (used["segment_index"] == segment_index) & (sample_index >= first) & (sample_index < end)
        interval_index[is_here] = number
    cells = interval_index * len(unit_ids) + unit_index
    num_cells = len(intervals) * len(unit_ids)
    means = mean_waveforms(recording, to_spike_vector(used, cells), num_cells, parameters)
    sizes = np.bincount(cells, minlength=num_cells).reshape(len(intervals), len(unit_ids), 1, 1)
    sums = means.reshape(len(intervals), len(unit_ids), *means.shape[1:]) * sizes
    overall = sums.sum(0) / sizes.sum(0)
    borrowed = BORROWED_SPIKES if len(intervals) > 1 else 0
    templates = (_with_neighbours(sums) + borrowed * overall) / (_with_neighbours(sizes) + borrowed)
    return unit_ids, templates.astype("float32")


def _with_neighbours(sums: np.ndarray) -> np.ndarray:
    """Sums of every stretch (num_intervals, ...) with half of those before and after it."""
    near = sums.astype("float64")
    near[1:] += 0.5 * sums[:-1]
    near[:-1] += 0.5 * sums[1:]
    return near


def _make_templates(
    recording, group: PreparedGroup, unit_ids: np.ndarray, waveforms: np.ndarray, parameters: SortingParameters
) -> Templates:
    """Whitened means (num_units, num_samples, num_channels) as SpikeInterface's templates, sparse on large groups."""
    mask = np.ones((len(unit_ids), waveforms.shape[2]), dtype=bool)
    if waveforms.shape[2] > DENSE_CHANNELS:
        peak_to_peak = np.ptp(waveforms, axis=1)
        mask = peak_to_peak >= np.minimum(SPARSE_PEAK_TO_PEAK, peak_to_peak.max(axis=1, keepdims=True))
    sampling_frequency = recording.get_sampling_frequency()
    dense = Templates(
        templates_array=waveforms,
        sampling_frequency=sampling_frequency,
        nbefore=parameters.num_samples_before(sampling_frequency),
        channel_ids=recording.channel_ids,
        unit_ids=unit_ids,
        probe=group.recording.get_probe(),
        is_in_uV=False,
    )
    return dense.to_sparse(ChannelSparsity(mask, unit_ids, recording.channel_ids))
