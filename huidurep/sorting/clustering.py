"""From embeddings to the units of one channel group.

A small group (a tetrode) has one mixture for all its spikes. In a larger group the channels of a snippet depend on its
peak channel, so the spikes of each peak channel are clustered separately. Then `template_merging` merges the units that
were found on several channels, and removes redundant ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from ..clustering.disk_arrays import take
from ..clustering.mixture import Clustering, cluster_as_in_paper, cluster_embeddings
from ..clustering.unit_mixture import MixtureSettings, UnitMixture
from .job_kwargs import resolve_job_kwargs
from .parameters import PAPER, SortingParameters
from .preprocessing import PreparedGroup
from .redundant_units import OverlapUnitSettings, RedundancySettings, remove_overlap_units, remove_redundant_units
from .run_log import RunLog
from .spike_trains import spike_times_s
from .template_merging import TemplateMergingSettings, merge_templates

NUM_NAMED = 10  # small groups in one sentence of the log


@dataclass(frozen=True)
class ClusteringSettings:
    """Settings of `find_units`.

    Parameters
    ----------
    mixture : MixtureSettings
    template_merging : TemplateMergingSettings
        Used in groups that are clustered channel by channel.
    redundancy : RedundancySettings
    overlap_units : OverlapUnitSettings
    """

    mixture: MixtureSettings = MixtureSettings()
    template_merging: TemplateMergingSettings = TemplateMergingSettings()
    redundancy: RedundancySettings = RedundancySettings()
    overlap_units: OverlapUnitSettings = OverlapUnitSettings()


DEFAULT_SETTINGS = ClusteringSettings()


@dataclass(frozen=True)
class Assignment:
    """The units of spikes.

    Attributes
    ----------
    labels : ndarray of int64, (num_spikes,)
        Unit of every spike, -1 where it has none.
    posteriors : ndarray of float32, (num_spikes,)
        Posterior of that unit, given the embedding; 0 where it has none.
    is_one_mixture : bool
        The spikes of all units were embedded on the same channels, and can be compared.
    """

    labels: np.ndarray
    posteriors: np.ndarray
    is_one_mixture: bool = False


@dataclass(frozen=True)
class UnitModel:
    """The mixture model of the units of a group.

    Attributes
    ----------
    unit_channels : ndarray of int64, (num_units,)
        Main channel of each unit: its spikes are embedded around it.
    components : tuple of (UnitMixture, ndarray of int64)
        For every unit, the mixture at its channel and the units of this mixture that it consists of. Empty where units
        are given by their spikes alone.
    """

    unit_channels: np.ndarray
    components: tuple[tuple[UnitMixture, np.ndarray], ...] = ()

    @property
    def num_units(self) -> int:
        """Number of units."""
        return len(self.unit_channels)

    @property
    def is_one_mixture(self) -> bool:
        """Whether all units are components of one mixture, whose posteriors compare every spike with all of them."""
        return len({id(mixture) for mixture, _ in self.components}) == 1

    def posterior_of(self, embeddings: np.ndarray, labels: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Posterior of the given unit of each spike.

        Parameters
        ----------
        embeddings : ndarray, (num_spikes, embedding_size)
            Of snippets around the channel of the unit.
        labels : ndarray of int, (num_spikes,)
            Unit of each spike, -1 for none.
        times_s : ndarray, (num_spikes,)
            As `spike_times_s` counts them.

        Returns
        -------
        ndarray of float32, (num_spikes,)
            0 for spikes of no unit.
        """
        posteriors = np.zeros(len(labels), dtype="float32")
        for unit in np.unique(labels[labels >= 0]):
            rows = np.flatnonzero(labels == unit)
            own, (mixture, members) = take(embeddings, rows), self.components[unit]
            for member in members:
                posteriors[rows] += mixture.posterior_of(own, np.full(len(rows), member), times_s[rows])
        return np.minimum(posteriors, 1.0)

    def merged(self, merges: dict[int, int]) -> UnitModel:
        """Add the components of merged units to the units that are kept.

        Parameters
        ----------
        merges : dict of int to int
            The unit that is kept, for every unit that is merged into another one.

        Returns
        -------
        UnitModel
            With the same numbers of units.
        """
        components = list(self.components)
        for unit, kept in merges.items():
            # posteriors of two mixtures cannot be added
            if components[unit][0] is components[kept][0]:
                components[kept] = components[kept][0], np.union1d(components[kept][1], components[unit][1])
        return replace(self, components=tuple(components))


def find_units(
    embeddings: np.ndarray,
    peaks: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    by_channel: bool,
    settings: ClusteringSettings = DEFAULT_SETTINGS,
    job_kwargs: dict | None = None,
) -> tuple[UnitModel, Assignment]:
    """Cluster the spikes of a group.

    Parameters
    ----------
    embeddings : ndarray of float32, (num_peaks, embedding_size)
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype.
    group : PreparedGroup
        The group in which they were detected.
    parameters : SortingParameters
        Number of units, thresholds, merge bias and seed.
    log : RunLog
        Receives the number of units.
    by_channel : bool
        Snippets are those around each peak's own channel: cluster channel by channel.
    settings : ClusteringSettings
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    units : UnitModel
        Without units where there are fewer spikes than `min_unit_spikes`, or, in one of several groups, fewer than
        `num_units`.
    assignment : Assignment
        Unit of each peak.

    Raises
    ------
    ValueError
        Fewer spikes than `num_units` in the only group.
    """
    if parameters.num_units is not None and len(peaks) < parameters.num_units:
        return _fewer_spikes_than_units(len(peaks), group, parameters, log)
    if parameters.num_units is None and len(peaks) < parameters.min_unit_spikes:
        return _fewer_spikes_than_a_unit(peaks, group, parameters, log)
    # the matrices are small: more threads only wait for each other, and their number would change the last digits
    with threadpool_limits(limits=1):
        if by_channel:
            units, assignment, small = _cluster_by_channel(embeddings, peaks, group, parameters, settings, job_kwargs)
        else:
            units, assignment, small = _cluster_together(embeddings, peaks, group, parameters, settings, job_kwargs)
    assignment = _remove_low_amplitude_units(units, assignment, peaks, group, parameters)
    if not (assignment.labels >= 0).any():
        units, assignment = _without_units(len(peaks))
    _log_units(units, assignment, group, parameters, log)
    log_small_groups(small, peaks, group, parameters, log)
    return units, assignment


def log_small_groups(
    labels: np.ndarray,
    peaks: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    stage: str = "clustering",
) -> None:
    """Log the clusters that were removed because they have fewer than `min_unit_spikes` spikes, largest first.

    Parameters
    ----------
    labels : ndarray of int64, (num_peaks,)
        Small cluster of each spike, -1 for none; those of one spike are not named, and none where num_units is given.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype.
    group : PreparedGroup
    parameters : SortingParameters
    log : RunLog
    stage : str
        To which the entry belongs.
    """
    found = []
    for label in np.unique(labels[labels >= 0]) if parameters.num_units is None else ():
        own = peaks[labels == label]
        if len(own) > 1:
            amplitude_uv = float(np.median(own["amplitude"]))
            channel_id = group.recording.channel_ids[_most_frequent(own["channel_index"])]
            found.append((-abs(amplitude_uv), f"{len(own)} on channel {channel_id} ({amplitude_uv:.0f} uV)"))
    if found:
        named = ", ".join(text for _, text in sorted(found)[:NUM_NAMED]) + (", ..." if len(found) > NUM_NAMED else "")
        limit = f"fewer than min_unit_spikes={parameters.min_unit_spikes} spikes"
        log(stage, f"group {group.name}: {len(found)} clusters of {limit} removed: {named}")


def _log_units(
    units: UnitModel, assignment: Assignment, group: PreparedGroup, parameters: SortingParameters, log: RunLog
) -> None:
    """Log the drift and the number of units; warn where it is not the number that was asked for."""
    mixtures = {id(mixture): mixture for mixture, _ in units.components}.values()
    gains = [mixture.drift.gain for mixture in mixtures if mixture.drift is not None]
    if gains:
        tracked = f"drift is tracked in {len(gains)} of {len(mixtures)} mixtures"
        log("clustering", f"group {group.name}: {tracked} (log-likelihood +{np.mean(gains):.2f} per spike)")
    num_spikes, num_assigned = len(assignment.labels), int((assignment.labels >= 0).sum())
    log("clustering", f"group {group.name}: {units.num_units} units of {num_assigned} among {num_spikes} spikes")
    if parameters.num_units is not None and units.num_units != parameters.num_units:
        message = f"expected num_units={parameters.num_units}, found {units.num_units}"
        log.warning("clustering", f"group {group.name}: {message}")


def _remove_low_amplitude_units(
    units: UnitModel, assignment: Assignment, peaks: np.ndarray, group: PreparedGroup, parameters: SortingParameters
) -> Assignment:
    """Remove the labels of units below `unit_threshold`: clusters of noise are near the detection threshold."""
    if parameters.num_units is not None or not parameters.unit_threshold:
        return assignment
    labels = assignment.labels
    amplitudes = np.abs(peaks["amplitude"]) / group.noise_levels_uv[peaks["channel_index"]]
    medians = [np.median(amplitudes[labels == unit]) for unit in range(units.num_units)]
    is_low = np.isin(labels, np.flatnonzero(np.array(medians) < parameters.unit_threshold))
    return Assignment(np.where(is_low, -1, labels), np.where(is_low, 0, assignment.posteriors))


def _fewer_spikes_than_units(
    num_peaks: int, group: PreparedGroup, parameters: SortingParameters, log: RunLog
) -> tuple[UnitModel, Assignment]:
    """No units in one of several groups, because the others can still be sorted; an error in the only one."""
    message = (
        f"expected at least as many spikes as num_units={parameters.num_units}, found {num_peaks} in group "
        f"{group.name}; lower num_units, or detect_threshold ({parameters.detect_threshold:g})"
    )
    if group.num_groups == 1:
        raise ValueError(message)
    log.warning("clustering", f"{message}. No unit in this group")
    return _without_units(num_peaks)


def _fewer_spikes_than_a_unit(
    peaks: np.ndarray, group: PreparedGroup, parameters: SortingParameters, log: RunLog
) -> tuple[UnitModel, Assignment]:
    log("clustering", f"group {group.name}: {len(peaks)} spikes are fewer than min_unit_spikes, no unit")
    log_small_groups(np.zeros(len(peaks), dtype="int64"), peaks, group, parameters, log)
    return _without_units(len(peaks))


def _without_units(num_peaks: int) -> tuple[UnitModel, Assignment]:
    assignment = Assignment(np.full(num_peaks, -1, dtype="int64"), np.zeros(num_peaks, dtype="float32"))
    return UnitModel(np.zeros(0, dtype="int64")), assignment


def _cluster(
    embeddings: np.ndarray,
    times_s: np.ndarray,
    parameters: SortingParameters,
    num_units: int | None,
    settings: MixtureSettings,
) -> Clustering:
    return cluster_embeddings(
        embeddings,
        num_units=num_units,
        merge_bias=parameters.merge_bias,
        min_unit_spikes=parameters.min_unit_spikes,
        max_fit_spikes=parameters.max_fit_spikes,
        max_dimensions=parameters.max_dimensions,
        times_s=times_s,  # no seed: the units depend on the data alone
        settings=settings,
    )


def _cluster_together(
    embeddings: np.ndarray,
    peaks: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    settings: ClusteringSettings,
    job_kwargs: dict | None,
) -> tuple[UnitModel, Assignment, np.ndarray]:
    """One mixture for all spikes of the group, and its groups that are too small."""
    if parameters.preset == PAPER:
        options = dict(num_units=parameters.num_units, max_fit_spikes=parameters.max_fit_spikes, seed=parameters.seed)
        mixture = cluster_as_in_paper(embeddings, **options)
    else:
        times_s = spike_times_s(peaks, group.recording)
        mixture = _cluster(embeddings, times_s, parameters, parameters.num_units, settings.mixture)
    labels = np.asarray(mixture.labels, dtype="int64")
    channels = [_most_frequent(peaks["channel_index"][labels == unit]) for unit in range(mixture.num_units)]
    components = tuple((mixture, np.array([unit])) for unit in range(mixture.num_units))
    units = UnitModel(np.array(channels, dtype="int64"), components)
    small = np.full(len(peaks), -1) if mixture.small_groups is None else mixture.small_groups
    if parameters.num_units is None:
        options: dict = dict(job_kwargs=job_kwargs)
        labels = remove_redundant_units(group, peaks, labels, parameters, settings=settings.redundancy, **options)
        labels = remove_overlap_units(group, peaks, labels, parameters, settings=settings.overlap_units, **options)
    posteriors = np.where(labels >= 0, mixture.posteriors, 0).astype("float32")
    return units, Assignment(labels, posteriors), small


def _cluster_by_channel(
    embeddings: np.ndarray,
    peaks: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    settings: ClusteringSettings,
    job_kwargs: dict | None,
) -> tuple[UnitModel, Assignment, np.ndarray]:
    """One mixture for the spikes of each peak channel; their units are merged across channels. Also small groups."""
    labels, small = np.full((2, len(peaks)), -1, dtype="int64")
    posteriors = np.zeros(len(peaks), dtype="float32")
    times_s = spike_times_s(peaks, group.recording)
    one_start = replace(settings.mixture, num_starts=1)  # template merging compares the units of neighbouring channels
    if group.is_still:  # tracking drift takes as long as all the rest
        one_start = replace(one_start, drift=replace(one_start.drift, enabled=False))
    by_channel = [np.flatnonzero(peaks["channel_index"] == channel) for channel in np.unique(peaks["channel_index"])]
    # template matching finds the spikes of the other channels if they belong to a unit of one of these
    num_workers = resolve_job_kwargs(job_kwargs)["n_jobs"]
    # idle workers hold 330 MB each; as many threads in each as the environment allows would only wait for each other
    with parallel_config("loky", n_jobs=num_workers, inner_max_num_threads=1, idle_worker_timeout=2):
        calls = (
            delayed(_cluster)(take(embeddings, rows), times_s[rows], parameters, None, one_start)
            for rows in by_channel
            if len(rows) >= parameters.min_unit_spikes
        )
        mixtures = iter(Parallel()(calls))
    found: list[tuple] = []  # (channel, mixture, its unit), one a label before merging
    for rows in by_channel:
        if len(rows) < parameters.min_unit_spikes:
            small[rows] = small.max() + 1
            continue
        mixture, channel = next(mixtures), peaks["channel_index"][rows[0]]
        channel_labels = np.asarray(mixture.labels, dtype="int64")
        labels[rows] = np.where(channel_labels >= 0, channel_labels + len(found), -1)
        posteriors[rows] = mixture.posteriors
        if mixture.small_groups is not None:
            small[rows] = np.where(mixture.small_groups >= 0, mixture.small_groups + small.max() + 1, -1)
        found += [(channel, mixture, unit) for unit in range(mixture.num_units)]
    if not found:
        return *_without_units(len(peaks)), small
    # a neuron between two channels has spikes, and so a unit, on both
    merging = settings.template_merging
    merged = merge_templates(group, peaks, labels, parameters, settings=merging, job_kwargs=job_kwargs)
    merged = remove_redundant_units(
        group, peaks, merged, parameters, by_channel=True, settings=settings.redundancy, job_kwargs=job_kwargs
    )
    if parameters.num_units is not None:
        merged = _keep_largest(merged, parameters.num_units)
    units, merged = _number_units(labels, merged, peaks, found)
    return units, Assignment(merged, posteriors), small


def _number_units(
    labels: np.ndarray, merged: np.ndarray, peaks: np.ndarray, found: list[tuple]
) -> tuple[UnitModel, np.ndarray]:
    """Number merged units from 0; each has the channel of most of its peaks, and the components found there."""
    numbered = np.full_like(labels, -1)
    channels, components = [], []
    for unit, merged_label in enumerate(np.unique(merged[merged >= 0])):
        is_member = merged == merged_label
        numbered[is_member] = unit
        channel = _most_frequent(peaks["channel_index"][is_member])
        # spikes are embedded around this channel from now on, where only its own mixture applies
        there = [label for label in np.unique(labels[is_member]) if found[label][0] == channel]
        channels.append(channel)
        components.append((found[there[0]][1], np.array([found[label][2] for label in there])))
    return UnitModel(np.array(channels, dtype="int64"), tuple(components)), numbered


def _keep_largest(labels: np.ndarray, num_units: int) -> np.ndarray:
    unit_ids, counts = np.unique(labels[labels >= 0], return_counts=True)
    kept = unit_ids[np.argsort(-counts, kind="stable")[:num_units]]
    return np.where(np.isin(labels, kept), labels, -1)


def _most_frequent(values: np.ndarray) -> int:
    return int(np.bincount(values).argmax()) if len(values) else 0
