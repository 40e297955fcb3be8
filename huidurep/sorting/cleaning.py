"""Units of a large group that are none: noise that matching liked, and pieces of one neuron.

A tetrode's units are one mixture, and the mixture judges them (`settle_units`). In a larger group every peak channel
has a mixture of its own, which cannot tell what the others saw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from spikeinterface.core import get_channel_distances

from .coincidences import is_near, running_sample_index
from .duplicates import is_duplicate
from .joining import join_units
from .merging import GroupUnits
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .run_log import RunLog

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
