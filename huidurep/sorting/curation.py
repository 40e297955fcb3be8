"""Automatic curation of matched units: remove noise units, merge over-split ones, reassign spikes by posterior.

The units of a tetrode are components of one mixture, whose posteriors can be compared (`reassign_spikes`). In a larger
group every peak channel has a mixture of its own, so noise units are found by detected peaks (`remove_noise_units`) and
over-split units by their templates (`merge_over_split_units`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeinterface.core import get_channel_distances

from ..clustering.disk_arrays import take
from ..clustering.separation import MergeSettings
from .clustering import Assignment, UnitModel
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .run_log import RunLog
from .spike_trains import has_coincident, is_duplicate_spike, running_sample_index
from .template_merging import (
    RefractoryMergingSettings,
    TemplateMergingSettings,
    merge_refractory_units,
    merge_templates,
)


@dataclass(frozen=True)
class CurationSettings:
    """Settings of automatic curation.

    Parameters
    ----------
    max_detected_lag_ms : float
        Largest distance of a matched spike from a detected peak that confirms it.
    min_detected_share : float
        Units with a smaller share of confirmed spikes are noise.
    min_mean_posterior : float
        Units with a smaller mean posterior of their matched spikes are removed.
    template_merging : TemplateMergingSettings
        Merges more than before template matching: now most spikes of every unit are found, overlapping ones among
        them, so that spike times tell more and D tells less. Units are large enough for `min_common_activity`. Only in
        groups that were clustered channel by channel.
    refractory_merging : RefractoryMergingSettings
    """

    max_detected_lag_ms: float = 0.3
    min_detected_share: float = 0.5
    min_mean_posterior: float = 0.5
    template_merging: TemplateMergingSettings = TemplateMergingSettings(
        min_similarity=0.65, min_common_activity=0.3, merge=MergeSettings(limit=4.0)
    )
    refractory_merging: RefractoryMergingSettings = RefractoryMergingSettings()


DEFAULT_SETTINGS = CurationSettings()


def remove_noise_units(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: UnitModel,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: CurationSettings = DEFAULT_SETTINGS,
) -> tuple[np.ndarray, np.ndarray]:
    """Remove units whose template was matched to noise: less than half of their spikes are at a detected peak.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV.
    peaks : ndarray, (num_peaks,)
        Detected peaks.
    units : UnitModel
        The units that were matched.
    spikes : ndarray, (num_spikes,)
        Matched spikes, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each spike.
    parameters : SortingParameters
        Nothing is removed where `num_units` is given.
    log : RunLog
        Receives the number of removed units.
    settings : CurationSettings

    Returns
    -------
    spikes : ndarray, (num_kept,)
    labels : ndarray of int64, (num_kept,)
    """
    if parameters.num_units is not None or len(labels) == 0:
        return spikes, labels
    distances_um = get_channel_distances(group.recording)
    peak_samples = running_sample_index(group.recording, peaks)
    max_lag = int(settings.max_detected_lag_ms * group.recording.get_sampling_frequency() / 1000.0)
    noise = []
    for unit in np.unique(labels):
        is_around = distances_um[units.unit_channels[unit]] <= parameters.radius_um
        # a large spike elsewhere on the probe, or one of the other sign, does not confirm this one
        is_own = peaks["amplitude"] * spikes["amplitude"][labels == unit][0] >= 0
        near = peak_samples[is_around[peaks["channel_index"]] & is_own]
        samples = running_sample_index(group.recording, spikes[labels == unit])
        if has_coincident(samples, near, max_lag).mean() < settings.min_detected_share:
            noise.append(int(unit))
    log("curation", f"group {group.name}: {len(noise)} noise units removed")
    is_kept = ~np.isin(labels, noise)
    return spikes[is_kept], labels[is_kept]


def merge_over_split_units(
    group: PreparedGroup,
    units: UnitModel,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: CurationSettings = DEFAULT_SETTINGS,
    job_kwargs: dict | None = None,
) -> tuple[UnitModel, np.ndarray, np.ndarray]:
    """Merge matched units that are one neuron, and remove the spikes that both had found.

    By `merge_refractory_units`; in a group that was clustered channel by channel, by `merge_templates` first.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV, with contact positions.
    units : UnitModel
        The units that were matched.
    spikes : ndarray, (num_spikes,)
        Matched spikes, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each spike.
    parameters : SortingParameters
        Nothing is merged where `num_units` is given. `merge_bias` shifts the limit of merging.
    log : RunLog
        Receives the number of merged units.
    settings : CurationSettings
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    units : UnitModel
        Numbered as before; a unit into which others were merged has their components, too.
    spikes : ndarray, (num_kept,)
    labels : ndarray of int64, (num_kept,)
    """
    if parameters.num_units is not None or len(labels) == 0:
        return units, spikes, labels
    merged, options = labels, dict(job_kwargs=job_kwargs)
    if not units.is_one_mixture:
        merged = merge_templates(group, spikes, labels, parameters, settings=settings.template_merging, **options)
    merged = merge_refractory_units(group, spikes, merged, parameters, settings=settings.refractory_merging, **options)
    is_merged = merged != labels
    merges = dict(zip(labels[is_merged].tolist(), merged[is_merged].tolist(), strict=True))
    spikes = spikes.copy()
    spikes["channel_index"] = units.unit_channels[merged]
    # the templates of both units had matched some spikes twice
    is_kept = ~is_duplicate_spike(spikes, merged, group.recording)
    log("curation", f"group {group.name}: {len(merges)} over-split units merged")
    return units.merged(merges), spikes[is_kept], merged[is_kept]


def reassign_spikes(
    units: UnitModel,
    embeddings: np.ndarray,
    labels: np.ndarray,
    times_s: np.ndarray,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: CurationSettings = DEFAULT_SETTINGS,
) -> Assignment:
    """Compare the matched spikes of each unit with the mixture, which template matching does not use.

    If the mean posterior of a unit's spikes is larger for another unit than for itself, the unit was over-split from
    that one: its spikes are reassigned to it. Units that only have a low mean posterior, such as those made of
    overlapping spikes, are removed. Only units of one mixture can be compared.

    Parameters
    ----------
    units : UnitModel
    embeddings : ndarray of float32, (num_spikes, embedding_size)
        Of the matched spikes.
    labels : ndarray of int64, (num_spikes,)
        Unit of each spike.
    times_s : ndarray, (num_spikes,)
        As `spike_times_s` counts them.
    parameters : SortingParameters
        No spike is reassigned where `num_units` is given.
    log : RunLog
        Receives the numbers of merged and removed units.
    settings : CurationSettings

    Returns
    -------
    Assignment
        Of these spikes: label -1 and posterior 0 for those of removed units.
    """
    if parameters.num_units is None and units.is_one_mixture and len(labels):
        merges, removed = _compare_with_mixture(units, embeddings, labels, times_s, settings.min_mean_posterior)
        labels = np.where(np.isin(labels, removed), -1, labels)
        for unit, kept in merges.items():
            labels[labels == unit] = kept
        units = units.merged(merges)
        if merges or removed:
            log("reassignment", f"{len(merges)} units merged, {len(removed)} units removed")
    return Assignment(labels, units.posterior_of(embeddings, labels, times_s), units.is_one_mixture)


def _compare_with_mixture(
    units: UnitModel, embeddings: np.ndarray, labels: np.ndarray, times_s: np.ndarray, min_mean_posterior: float
) -> tuple[dict[int, int], list[int]]:
    """Units to merge, each with the unit that is kept, and units to remove; all are components of one mixture."""
    means = {}  # for each unit the mean posterior of every unit over its matched spikes
    for unit in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == unit)
        of_components = units.components[0][0].unit_posteriors(take(embeddings, rows), times_s[rows])
        posteriors = np.stack([of_components[:, members].sum(axis=1) for _, members in units.components], axis=1)
        means[unit] = posteriors.mean(axis=0)
    best = {unit: unit if mean[unit] >= mean.max() else int(mean.argmax()) for unit, mean in means.items()}
    # only into units that are best for their own spikes: no chains
    merges = {unit: kept for unit, kept in best.items() if kept != unit and best.get(kept) == kept}
    involved = {*merges, *merges.values()}
    removed = [unit for unit, mean in means.items() if mean[unit] < min_mean_posterior and unit not in involved]
    return merges, removed
