"""From embeddings to the units of one channel group.

A small group (a tetrode) is one mixture over all its spikes. In a larger one the channels of a snippet depend on where
its peak is, so the spikes of each peak channel are clustered by themselves, and the same unit seen from two channels
is put together by what both see of it (`joining`); what is only the echo of another unit's spikes goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from ..clustering import mixture as clustering
from ..clustering.mixture import cluster_plainly
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .presets import PAPER
from .run_log import RunLog
from .template_merging import drop_echoes, join_units
from .waveforms import spike_times_s


@dataclass(frozen=True)
class GroupUnits:
    """The units of a group, and how well a spike fits them.

    Attributes
    ----------
    labels : ndarray of int64, (num_peaks,)
        Unit of every peak, -1 where it has none.
    posteriors : ndarray of float32, (num_peaks,)
        Probability of that unit, given the embedding.
    unit_channels : ndarray of int64, (num_units,)
        Channel from which each unit is seen: its spikes are embedded around it.
    components : list of (clustering, ndarray of int64)
        For every unit, the mixture at its channel and the components of it that are this unit.
    """

    labels: np.ndarray
    posteriors: np.ndarray
    unit_channels: np.ndarray
    components: list = field(default_factory=list)

    @property
    def num_units(self) -> int:
        """How many units there are."""
        return len(self.unit_channels)

    @property
    def is_one_mixture(self) -> bool:
        """Whether all units are components of one mixture, which judges every spike against all of them."""
        return len({id(mixture) for mixture, _ in self.components}) == 1

    def posterior_of(self, embeddings: np.ndarray, labels: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Probability of the unit that each spike was given to.

        Parameters
        ----------
        embeddings : ndarray, (num_spikes, embedding_size)
            Embedded around the channel of the unit.
        labels : ndarray of int, (num_spikes,)
            Units.
        times_s : ndarray, (num_spikes,)
            As `spike_times_s` counts them.

        Returns
        -------
        ndarray of float32, (num_spikes,)
        """
        posteriors = np.zeros(len(labels), dtype="float32")
        for unit in np.unique(labels):
            rows = np.flatnonzero(labels == unit)
            mixture, members = self.components[unit]
            for member in members:
                posteriors[rows] += mixture.posterior_of(embeddings[rows], np.full(len(rows), member), times_s[rows])
        return np.minimum(posteriors, 1.0)


def find_units(
    embeddings: np.ndarray,
    peaks: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    by_channel: bool,
) -> GroupUnits:
    """Cluster the spikes of a group.

    Parameters
    ----------
    embeddings : ndarray of float32, (num_peaks, embedding_size)
        One row a peak.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype.
    group : PreparedGroup
        The group they were found in.
    parameters : SortingParameters
        Number of units, bias, sizes and seed are read.
    log : RunLog
        Told how many units were found.
    by_channel : bool
        The snippets are those of each peak's own channels: cluster channel by channel.

    Returns
    -------
    GroupUnits
        Without units where there are fewer spikes than the smallest unit may have, or, in one of several groups,
        fewer than `num_units`.

    Raises
    ------
    ValueError
        Fewer spikes than `num_units` in the only group.
    """
    if parameters.num_units is not None and len(peaks) < parameters.num_units:
        return _fewer_spikes_than_units(len(peaks), group, parameters, log)
    if parameters.num_units is None and len(peaks) < parameters.min_unit_spikes:
        log("clustering", f"group {group.name}: {len(peaks)} spikes are fewer than min_unit_spikes, no unit")
        return _no_units(len(peaks))
    # the matrices are small: more threads only wait for each other, and their number would change the last digits
    with threadpool_limits(limits=1):
        if by_channel:
            units = _cluster_by_channel(embeddings, peaks, group, parameters)
        else:
            units = _cluster_together(embeddings, peaks, group, parameters)
    units = _without_faint(units, peaks, group, parameters)
    _log_following(units, group, log)
    num_assigned = int((units.labels >= 0).sum())
    if num_assigned == 0:
        units = _no_units(len(peaks))
    log("clustering", f"group {group.name}: {units.num_units} units of {num_assigned} among {len(peaks)} spikes")
    if parameters.num_units is not None and units.num_units != parameters.num_units:
        log.warning(
            "clustering", f"group {group.name}: {parameters.num_units} units asked for, {units.num_units} found"
        )
    return units


def _log_following(units: GroupUnits, group: PreparedGroup, log: RunLog) -> None:
    mixtures = {id(mixture): mixture for mixture, _ in units.components}.values()
    gains = [mixture.displacement.gain for mixture in mixtures if mixture.displacement is not None]
    if gains:
        what = f"{len(gains)} of {len(mixtures)} mixtures follow tissue that moved"
        log("clustering", f"group {group.name}: {what} ({np.mean(gains):.2f} nats a spike)")


def _without_faint(
    units: GroupUnits, peaks: np.ndarray, group: PreparedGroup, parameters: SortingParameters
) -> GroupUnits:
    """Without the labels of units that hardly rise above the threshold, as clusters of noise do not."""
    if parameters.num_units is not None or not parameters.unit_threshold:
        return units
    height = np.abs(peaks["amplitude"]) / group.noise_levels_uv[peaks["channel_index"]]
    medians = [np.median(height[units.labels == unit]) for unit in range(units.num_units)]
    faint = np.flatnonzero(np.array(medians) < parameters.unit_threshold)
    is_faint = np.isin(units.labels, faint)
    return replace(
        units, labels=np.where(is_faint, -1, units.labels), posteriors=np.where(is_faint, 0, units.posteriors)
    )


def _fewer_spikes_than_units(num_peaks: int, group: PreparedGroup, parameters: SortingParameters, log: RunLog):
    """No units for one group of several, for the others' work must not be lost; an error for the only one."""
    sentence = (
        f"expected at least as many spikes as num_units={parameters.num_units}, found {num_peaks} in group "
        f"{group.name}; lower num_units, or detect_threshold ({parameters.detect_threshold:g})"
    )
    if group.num_groups == 1:
        raise ValueError(sentence)
    log.warning("clustering", f"{sentence}. No unit in this group")
    return _no_units(num_peaks)


def _cluster(
    embeddings: np.ndarray, times_s: np.ndarray, parameters: SortingParameters, num_units: int | None
) -> clustering.Clustering:
    return clustering.cluster_embeddings(
        embeddings,
        num_units=num_units,
        merge_bias=parameters.merge_bias,
        min_unit_spikes=parameters.min_unit_spikes,
        max_fit_spikes=parameters.max_fit_spikes,
        max_dimensions=parameters.max_dimensions,
        seed=parameters.seed,
        times_s=times_s,
    )


def _cluster_together(
    embeddings: np.ndarray, peaks: np.ndarray, group: PreparedGroup, parameters: SortingParameters
) -> GroupUnits:
    if parameters.preset == PAPER:
        options = dict(num_units=parameters.num_units, max_fit_spikes=parameters.max_fit_spikes, seed=parameters.seed)
        mixture = cluster_plainly(embeddings, **options)
    else:
        mixture = _cluster(embeddings, spike_times_s(peaks, group.recording), parameters, parameters.num_units)
    labels = np.asarray(mixture.labels, dtype="int64")
    channels = [_most_frequent(peaks["channel_index"][labels == unit]) for unit in range(mixture.num_units)]
    components = [(mixture, np.array([unit])) for unit in range(mixture.num_units)]
    return GroupUnits(labels, np.asarray(mixture.posteriors), np.array(channels, dtype="int64"), components)


def _cluster_by_channel(
    embeddings: np.ndarray, peaks: np.ndarray, group: PreparedGroup, parameters: SortingParameters
) -> GroupUnits:
    labels = np.full(len(peaks), -1, dtype="int64")
    posteriors = np.zeros(len(peaks), dtype="float32")
    times_s = spike_times_s(peaks, group.recording)
    parts: list[tuple] = []  # (channel, mixture, its component), one a label before merging
    for channel in np.unique(peaks["channel_index"]):
        rows = np.flatnonzero(peaks["channel_index"] == channel)
        if len(rows) < parameters.min_unit_spikes:
            continue  # matching finds these again if they are some unit's
        mixture = _cluster(embeddings[rows], times_s[rows], parameters, None)
        found = np.asarray(mixture.labels, dtype="int64")
        labels[rows] = np.where(found >= 0, found + len(parts), -1)
        posteriors[rows] = mixture.posteriors
        parts += [(channel, mixture, component) for component in range(mixture.num_units)]
    if not parts:
        return _no_units(len(peaks))
    into = join_units(group, peaks, labels, parameters)
    merged = np.array([into.get(label, -1) for label in labels.tolist()])
    merged = drop_echoes(merged, peaks, group.recording)
    if parameters.num_units is not None:
        merged = _keep_largest(merged, parameters.num_units)
    return _gather_units(labels, merged, posteriors, peaks, parts)


def _gather_units(
    labels: np.ndarray, merged: np.ndarray, posteriors: np.ndarray, peaks: np.ndarray, parts: list[tuple]
) -> GroupUnits:
    """Number the merged units, and give each the channel most of its spikes peak at, with the components there."""
    unit_ids = np.unique(merged[merged >= 0])
    final = np.full_like(labels, -1)
    channels, components = [], []
    for unit, unit_id in enumerate(unit_ids):
        is_member = merged == unit_id
        final[is_member] = unit
        channel = _most_frequent(peaks["channel_index"][is_member])
        there = [label for label in np.unique(labels[is_member]) if parts[label][0] == channel]
        channels.append(channel)
        components.append((parts[there[0]][1], np.array([parts[label][2] for label in there])))
    return GroupUnits(final, posteriors, np.array(channels, dtype="int64"), components)


def _keep_largest(labels: np.ndarray, num_units: int) -> np.ndarray:
    unit_ids, counts = np.unique(labels[labels >= 0], return_counts=True)
    kept = unit_ids[np.argsort(-counts, kind="stable")[:num_units]]
    return np.where(np.isin(labels, kept), labels, -1)


def _no_units(num_peaks: int) -> GroupUnits:
    return GroupUnits(
        np.full(num_peaks, -1, dtype="int64"), np.zeros(num_peaks, dtype="float32"), np.zeros(0, dtype="int64")
    )


def _most_frequent(values: np.ndarray) -> int:
    return int(np.bincount(values).argmax()) if len(values) else 0
