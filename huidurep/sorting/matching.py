"""Template matching: the spikes of each unit found again in the recording, overlapping ones among them."""

from __future__ import annotations

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import ChannelSparsity, Templates
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.curation.curation_tools import find_duplicated_spikes
from spikeinterface.sortingcomponents.matching import find_spikes_from_templates
from spikeinterface.sortingcomponents.matching.method_list import matching_methods

from .detection import has_whole_snippet
from .merging import GroupUnits
from .parameters import SortingParameters
from .preprocessing import PreparedGroup, get_job_kwargs, statistics_kwargs
from .run_log import RunLog
from .waveforms import mean_waveforms, to_spike_vector

CONFIDENT_POSTERIOR = 0.8
MIN_CONFIDENT_SPIKES = 10  # a unit with fewer takes its template from all its spikes
DUPLICATE_MS = 0.3  # no neuron fires twice so soon
WHITENING_RADIUS_UM = 100.0
DENSE_CHANNELS = 16  # larger groups give each template only the channels on which it stands out
SPARSE_PEAK_TO_PEAK = 2.0  # noise levels


def match_spikes(
    group: PreparedGroup, peaks: np.ndarray, units: GroupUnits, parameters: SortingParameters, log: RunLog
) -> tuple[np.ndarray, np.ndarray]:
    """Find the spikes of the units by their templates (or take those of the clusters) and drop units too small.

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
    spikes["channel_index"] = units.unit_channels[labels]
    is_kept = ~_is_duplicate(spikes, labels, group.recording.get_sampling_frequency())
    is_kept &= has_whole_snippet(spikes, group.recording, parameters)
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
    """Spikes and units that SpikeInterface's matching finds, in order of time within segments."""
    recording = _whiten(group, parameters)
    templates = _confident_templates(recording, group, peaks, units, parameters)
    method_kwargs = {}
    if matching_methods[parameters.matching].need_noise_levels:
        method_kwargs["noise_levels"] = np.ones(recording.get_num_channels(), dtype="float32")
    found = find_spikes_from_templates(
        recording,
        templates,
        method=parameters.matching,
        method_kwargs=method_kwargs,
        job_kwargs=get_job_kwargs(),
    )
    found = found[np.lexsort((found["cluster_index"], found["sample_index"], found["segment_index"]))]
    spikes = np.zeros(len(found), dtype=base_peak_dtype)
    for name in ("sample_index", "segment_index", "amplitude"):
        spikes[name] = found[name]
    return spikes, templates.unit_ids[found["cluster_index"]].astype("int64")


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


def _confident_templates(
    recording, group: PreparedGroup, peaks: np.ndarray, units: GroupUnits, parameters: SortingParameters
) -> Templates:
    """Mean waveforms, whitened, of the spikes that are surely of their unit; unit ids count as `units` does."""
    is_labelled = units.labels >= 0
    is_used = is_labelled & (units.posteriors > CONFIDENT_POSTERIOR)
    counts = np.bincount(units.labels[is_used], minlength=units.num_units)
    is_used |= is_labelled & (counts < MIN_CONFIDENT_SPIKES)[units.labels]
    unit_ids, unit_index = np.unique(units.labels[is_used], return_inverse=True)
    spike_vector = to_spike_vector(peaks[is_used], unit_index)
    templates = mean_waveforms(recording, spike_vector, len(unit_ids), parameters)
    mask = np.ones((len(unit_ids), templates.shape[2]), dtype=bool)
    if templates.shape[2] > DENSE_CHANNELS:
        peak_to_peak = np.ptp(templates, axis=1)
        mask = peak_to_peak >= np.minimum(SPARSE_PEAK_TO_PEAK, peak_to_peak.max(axis=1, keepdims=True))
    sampling_frequency = recording.get_sampling_frequency()
    dense = Templates(
        templates_array=templates,
        sampling_frequency=sampling_frequency,
        nbefore=parameters.num_samples_before(sampling_frequency),
        channel_ids=recording.channel_ids,
        unit_ids=unit_ids,
        probe=group.recording.get_probe(),
        is_in_uV=False,
    )
    return dense.to_sparse(ChannelSparsity(mask, unit_ids, recording.channel_ids))


def _is_duplicate(spikes: np.ndarray, labels: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """Which spikes (num_spikes,) follow another one of their unit too soon."""
    is_duplicate = np.zeros(len(spikes), dtype=bool)
    num_samples = int(DUPLICATE_MS * sampling_frequency / 1000.0)
    for unit in np.unique(labels):
        for segment_index in np.unique(spikes["segment_index"]):
            rows = np.flatnonzero((labels == unit) & (spikes["segment_index"] == segment_index))
            train = spikes["sample_index"][rows].astype("int64")
            if len(train) > 1:
                is_duplicate[rows[find_duplicated_spikes(train, num_samples, method="keep_first_iterative")]] = True
    return is_duplicate
