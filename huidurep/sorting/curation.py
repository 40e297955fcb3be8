"""Units of a large group that are none: noise that matching liked, and pieces of one neuron.

A tetrode's units are one mixture, and the mixture judges them (`settle_units`). In a larger group every peak channel
has a mixture of its own, which cannot tell what the others saw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from spikeinterface.core import get_channel_distances

from .clustering import GroupUnits
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .run_log import RunLog
from .spike_trains import is_duplicate, is_near, running_sample_index
from .template_merging import join_units

DETECTED_MS = 0.3  # from a matched spike to the peak that bears it out
DETECTED_SHARE = 0.5
# Looser than before matching, which found most spikes of every unit and overlaps among them: times say more, D less.
MATCHED_SIMILARITY, MATCHED_LIMIT = 0.65, 4.0
MATCHED_TURNS = 0.3  # before matching, pieces are too small to tell turns from chance


def clean_units(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: GroupUnits,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    log: RunLog,
) -> tuple[GroupUnits, np.ndarray, np.ndarray]:
    """Drop the units that are matched to noise, and join the pieces of one neuron.

    A template that is hardly more than noise is matched to noise: a unit goes of whose matched spikes less than half
    lie at a detected peak. What is left of pieces of one neuron joins by `join_units`: with spikes found again by
    matching, pieces are larger and tell more.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    peaks : ndarray, (num_peaks,)
        The detected peaks.
    units : GroupUnits
        The units that were matched.
    spikes : ndarray, (num_spikes,)
        Matched spikes, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each.
    parameters : SortingParameters
        Nothing is changed where `num_units` was asked for. `merge_bias` shifts the limit of joining.
    log : RunLog
        Told what joined and what went.

    Returns
    -------
    units : GroupUnits
        As many, counted as before; a unit that others joined has their components, too.
    spikes : ndarray, (num_kept,)
    labels : ndarray of int64, (num_kept,)
    """
    if parameters.num_units is not None or len(labels) == 0:
        return units, spikes, labels
    noise = _undetected(group, peaks, units, spikes, labels, parameters)
    is_kept = ~np.isin(labels, noise)
    spikes, labels = spikes[is_kept], labels[is_kept]
    spikes["channel_index"] = units.unit_channels[labels]
    limits = {"similarity": MATCHED_SIMILARITY, "limit": MATCHED_LIMIT, "turns": MATCHED_TURNS}
    joined = join_units(group, spikes, labels, parameters, **limits)
    into = {unit: whole for unit, whole in joined.items() if unit != whole}
    components = list(units.components)
    for unit, whole in into.items():
        labels = np.where(labels == unit, whole, labels)
        # only those of one mixture can be added up
        if components[unit][0] is components[whole][0]:
            components[whole] = (components[whole][0], np.union1d(components[whole][1], components[unit][1]))
    spikes["channel_index"] = units.unit_channels[labels]
    is_kept = ~is_duplicate(spikes, labels, group.recording)
    log("cleaning", f"group {group.name}: {len(into)} units joined another, {len(noise)} were noise")
    return replace(units, components=components), spikes[is_kept], labels[is_kept]


def _undetected(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: GroupUnits,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
) -> list:
    """Units most of whose spikes are at no detected peak of the channels around them."""
    distances = get_channel_distances(group.recording)
    ticks = running_sample_index(group.recording, peaks)
    reach = int(DETECTED_MS * group.recording.get_sampling_frequency() / 1000.0)
    noise = []
    for unit in np.unique(labels):
        is_around = distances[units.unit_channels[unit]] <= parameters.radius_um
        near = ticks[is_around[peaks["channel_index"]]]
        times = running_sample_index(group.recording, spikes[labels == unit])
        if is_near(times, near, reach).mean() < DETECTED_SHARE:
            noise.append(int(unit))
    return noise


SURE_ENOUGH = 0.5  # a unit whose spikes are on average less probable than this is not one


def settle_units(
    units: GroupUnits,
    embeddings: np.ndarray,
    labels: np.ndarray,
    times_s: np.ndarray,
    parameters: SortingParameters,
    log: RunLog,
) -> GroupUnits:
    """Hold the units against the spikes that matching gave them.

    Matching knows nothing of the mixture. A unit whose matched spikes the mixture gives to another unit rather than to
    itself was a piece of that unit and joins it; one whose spikes the mixture gives to nobody in particular (mean
    posterior below 0.5) was made of overlaps or leftovers and goes.

    Parameters
    ----------
    units : GroupUnits
    embeddings : ndarray of float32, (num_spikes, embedding_size)
        Of the matched spikes.
    labels : ndarray of int64, (num_spikes,)
        Unit of each.
    times_s : ndarray, (num_spikes,)
        As `spike_times_s` counts them.
    parameters : SortingParameters
        Nothing is changed where `num_units` was asked for.
    log : RunLog
        Told what joined and what went.

    Returns
    -------
    GroupUnits
        With the labels and posteriors of these spikes: -1 and 0 for those of units that went.
    """
    components = list(units.components)
    if parameters.num_units is None and units.is_one_mixture and len(labels):
        joined, gone = _judge(components, embeddings, labels, times_s)
        labels = np.where(np.isin(labels, gone), -1, labels)
        for unit, into in joined.items():
            labels[labels == unit] = into
            components[into] = (components[into][0], np.union1d(components[into][1], components[unit][1]))
        if joined or gone:
            log("settling", f"{len(joined)} units joined another, {len(gone)} went")
    posteriors = np.zeros(len(labels), dtype="float32")
    kept = labels >= 0
    units = replace(units, components=components, labels=labels, posteriors=posteriors)
    posteriors[kept] = units.posterior_of(embeddings[kept], labels[kept], times_s[kept])
    return units


def _judge(
    components: list[tuple], embeddings: np.ndarray, labels: np.ndarray, times_s: np.ndarray
) -> tuple[dict, list]:
    """Which matched units join which other, and which go; all are components of one mixture."""
    of_components = components[0][0].unit_posteriors(embeddings, times_s)
    posteriors = np.stack([of_components[:, members].sum(axis=1) for _, members in components], axis=1)
    matched = np.unique(labels)
    # row: mean posterior of every unit over the spikes that matching gave to one
    shares = {unit: posteriors[labels == unit].mean(axis=0) for unit in matched}
    best = {unit: unit if share[unit] >= share.max() else int(share.argmax()) for unit, share in shares.items()}
    joined = {unit: into for unit, into in best.items() if into != unit and best.get(into) == into}
    gone = [unit for unit, share in shares.items() if share[unit] < SURE_ENOUGH]
    return joined, [unit for unit in gone if unit not in joined and unit not in joined.values()]
