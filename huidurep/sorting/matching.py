"""Template matching, which also finds overlapping spikes and spikes below the detection threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import (
    BaseRecording,
    ChannelSparsity,
    NumpyRecording,
    Templates,
    get_channel_distances,
    get_random_data_chunks,
)
from spikeinterface.core.base import base_peak_dtype
from spikeinterface.core.node_pipeline import run_node_pipeline
from spikeinterface.preprocessing.whiten import compute_whitening_matrix
from spikeinterface.sortingcomponents.matching import find_spikes_from_templates
from spikeinterface.sortingcomponents.matching.method_list import matching_methods

from .artifacts import are_spikes_in_periods
from .clustering import Assignment, UnitModel, log_small_groups
from .job_kwargs import in_chunks, resolve_job_kwargs
from .noise_levels import NOISE_LEVELS, NoiseLevelSettings
from .parameters import PAPER, SortingParameters
from .peak_signs import unit_signs
from .preprocessing import PreparedGroup, statistics_kwargs
from .run_log import RunLog
from .spike_trains import DUPLICATE_MS, has_coincident, is_duplicate_spike, nearest_rows, running_sample_index
from .template_merging import compare_templates
from .waveforms import has_whole_snippet, mean_waveforms, to_spike_vector
from .wobble import FoldedWobble


@dataclass(frozen=True)
class MatchingSettings:
    """Settings of template matching.

    Parameters
    ----------
    confident_posterior : float
        Templates are means of the spikes with a higher posterior.
    min_confident_spikes : int
        The template of a unit with fewer such spikes is the mean of all its spikes.
    sure_posterior : float
        Detected spikes with a higher posterior in the one mixture of a group are kept even if they are not matched.
    alike_cosine : float
        They stay with another unit that was matched there if the cosine similarity of the templates is larger: the
        match tells these apart better than the mixture does, or both are one neuron.
    num_dense_channels : int
        Whitening is global and templates have all channels in groups with as many channels or fewer.
    whitening_radius_um : float
        Radius of local whitening in larger groups.
    clip_noise_levels : float
        Traces are cut there, in noise levels, before whitening is computed: large spikes are not noise. Not in a group
        with one mixture, whose detected spikes are kept: no gain on tetrodes.
    min_peak_to_peak : float
        In larger groups a template has only the channels on which it is at least as large, in noise levels.
    min_mean_peak_to_peak : float
        And the mean template of the whole recording at least as large as this.
    template_rank : int
        Rank of the templates in larger groups, with the method "wobble". Its default of 5 takes half as long again.
    min_error_decrease : float
        A template becomes a spike where it lowers the squared error of the whitened traces by more, with the method
        "wobble" (its `threshold`). Its default of 50, which groups with one mixture have, takes more noise for spikes
        of small units.
    chunk_duration : str
        Chunks in larger groups, where `job_kwargs` has no size of chunks. A quarter less time than with 1 s.
    residual_lag_ms : float
        What a large spike's template leaves unexplained is matched to smaller units, within this lag. Not looked for
        in a group with one mixture.
    min_residual_ratio : float
        Smallest ratio of the amplitudes of two such units.
    max_coincidence_ratio, min_coincidences : float, int
        The smaller unit's spikes at those of the larger one are removed where they are more than the first times those
        expected by chance, and the second.
    pooled_spikes : float
        Weight, in spikes, of the template of the whole recording in the template of each interval.
    noise_levels : NoiseLevelSettings
        Number and duration of the chunks from which whitening is computed.
    """

    confident_posterior: float = 0.8
    min_confident_spikes: int = 10
    sure_posterior: float = 0.95
    alike_cosine: float = 0.95
    num_dense_channels: int = 16
    whitening_radius_um: float = 100.0
    clip_noise_levels: float = 3.0
    min_peak_to_peak: float = 2.0
    min_mean_peak_to_peak: float = 1.0
    template_rank: int = 3
    min_error_decrease: float = 75.0
    chunk_duration: str = "500ms"
    residual_lag_ms: float = 0.3
    min_residual_ratio: float = 2.0
    max_coincidence_ratio: float = 3.0
    min_coincidences: int = 5
    pooled_spikes: float = 15.0
    noise_levels: NoiseLevelSettings = NOISE_LEVELS


DEFAULT_SETTINGS = MatchingSettings()


def match_spikes(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: UnitModel,
    assignment: Assignment,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: MatchingSettings = DEFAULT_SETTINGS,
    job_kwargs: dict | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the spikes of the units by template matching (or take those of the clusters), and remove small units.

    In a group with one mixture, detected spikes of a high posterior are kept: templates do not follow bursts or drift.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    peaks : ndarray, (num_peaks,)
        The detected peaks.
    units : UnitModel
    assignment : Assignment
        Unit of each peak.
    parameters : SortingParameters
        Matching method, waveform window and smallest unit.
    log : RunLog
        Receives the number of spikes.
    settings : MatchingSettings
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments; channel_index is the main channel of the unit,
        and the amplitude has its sign.
    labels : ndarray of int64, (num_spikes,)
        Unit of each spike.
    """
    if parameters.matching is None:
        is_labelled = assignment.labels >= 0
        spikes, labels = peaks[is_labelled].copy(), assignment.labels[is_labelled]
    else:
        matching = _Matching(group, parameters, settings, job_kwargs, units.is_one_mixture)
        spikes, labels = matching.run(peaks, assignment, units.num_units)
        if units.is_one_mixture:
            spikes, labels = matching.add_sure_spikes(spikes, labels, peaks, assignment, units.num_units)
        else:
            spikes, labels = matching.without_residuals(spikes, labels, peaks, assignment, units, log)
    spikes["channel_index"] = units.unit_channels[labels]
    # matching gives scales, whose sign says nothing
    spikes["amplitude"] = np.abs(spikes["amplitude"]) * unit_signs(peaks, assignment.labels, units.num_units)[labels]
    is_kept = _is_kept(spikes, labels, group, parameters)
    vanished, spikes, labels = np.setdiff1d(labels, labels[is_kept]), spikes[is_kept], labels[is_kept]
    found = f"{parameters.matching or 'none'}, {len(labels)} spikes of {len(np.unique(labels))} units"
    log("matching", f"group {group.name}: {found}, {(~is_kept).sum()} duplicates and spikes of small units removed")
    small = np.where(np.isin(assignment.labels, vanished), assignment.labels, -1)
    log_small_groups(small, peaks, group, parameters, log, stage="matching")
    return spikes, labels


def _is_kept(spikes: np.ndarray, labels: np.ndarray, group: PreparedGroup, parameters: SortingParameters) -> np.ndarray:
    """Whether each spike has a whole snippet outside of artefacts, is no duplicate and belongs to a unit of enough."""
    is_kept = has_whole_snippet(spikes, group.recording, parameters)
    is_kept &= ~are_spikes_in_periods(spikes, group.artifact_periods)
    if parameters.preset != PAPER:
        is_kept &= ~is_duplicate_spike(spikes, labels, group.recording)
    if parameters.num_units is None:  # given units are kept, however few spikes they have
        counts = np.bincount(labels[is_kept], minlength=labels.max(initial=-1) + 1)
        is_kept &= counts[labels] >= parameters.min_unit_spikes
    return is_kept


@dataclass(frozen=True)
class _Matching:
    """Template matching of one group by SpikeInterface."""

    group: PreparedGroup
    parameters: SortingParameters
    settings: MatchingSettings
    job_kwargs: dict | None
    is_one_mixture: bool

    def run(self, peaks: np.ndarray, assignment: Assignment, num_units: int) -> tuple[np.ndarray, np.ndarray]:
        """Matched spikes and their units, in order of time within segments.

        Each interval of `template_interval_s` has templates of its own, because waveforms change with drift.
        """
        recording, whitening = self.group.recording, self.whitening()
        intervals = _intervals(recording, self.parameters.template_interval_s)
        unit_ids, mask, waveforms = self.interval_waveforms(whitening, intervals, peaks, assignment, num_units)
        matched, labels = [], []
        for interval, each in zip(intervals, waveforms, strict=True):
            found = self.match_interval(whitening, interval, self.make_templates(whitening, unit_ids, mask, each))
            # later stages need spikes in order of time, as SpikeInterface's spike vector has them
            found = found[np.lexsort((found["cluster_index"], found["sample_index"]))]
            spikes = np.zeros(len(found), dtype=base_peak_dtype)
            for name in ("sample_index", "segment_index", "amplitude"):
                spikes[name] = found[name]
            matched.append(spikes)
            labels.append(unit_ids[found["cluster_index"]].astype("int64"))
        return np.concatenate(matched), np.concatenate(labels)

    def add_sure_spikes(
        self, spikes: np.ndarray, labels: np.ndarray, peaks: np.ndarray, assignment: Assignment, num_units: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Peaks of high posterior that were not matched to their unit are added; in order of time within segments.

        Where another unit was matched, it becomes theirs. Of units whose templates are alike, the match decides.
        """
        recording, are_alike = self.group.recording, self.are_alike(peaks, assignment.labels, num_units)
        max_lag = int(DUPLICATE_MS * recording.get_sampling_frequency() / 1000.0)
        matched, detected = running_sample_index(recording, spikes), running_sample_index(recording, peaks)
        is_missing = (assignment.labels >= 0) & (assignment.posteriors > self.settings.sure_posterior)
        for unit in np.unique(assignment.labels[is_missing]):
            rows = np.flatnonzero(is_missing & (assignment.labels == unit))
            of_alike = matched[are_alike[unit][labels]]
            is_missing[rows] = ~has_coincident(detected[rows], of_alike, max_lag)
        # where another unit was matched, the spike of this one would be the same again
        is_found = is_missing & has_coincident(detected, matched, max_lag)
        labels = labels.copy()
        labels[nearest_rows(matched, detected[is_found])] = assignment.labels[is_found]
        is_missing &= ~is_found
        spikes = np.concatenate([spikes, peaks[is_missing].astype(spikes.dtype)])
        labels = np.concatenate([labels, assignment.labels[is_missing]])
        order = np.lexsort((labels, spikes["sample_index"], spikes["segment_index"]))
        return spikes[order], labels[order]

    def are_alike(self, peaks: np.ndarray, labels: np.ndarray, num_units: int) -> np.ndarray:
        """Which units (num_units, num_units) have alike templates; each with itself."""
        rows = np.flatnonzero(labels >= 0)
        vector = to_spike_vector(peaks[rows], labels[rows])
        options: dict = dict(job_kwargs=self.job_kwargs)
        templates = mean_waveforms(self.group.recording, vector, num_units, self.parameters, **options)
        cosines, *_ = compare_templates(templates, self.group, self.parameters)
        return cosines >= self.settings.alike_cosine

    def whitening(self) -> np.ndarray:
        """Matrix (num_channels, num_channels) after which the noise of nearby channels is independent, of variance 1.

        The thresholds of the matching methods are made for such traces, and their least-squares fit is only right on
        them: with the true templates of a tetrode recording wobble's mean accuracy is .87 on whitened traces and .48 on
        traces in noise levels.
        """
        recording, settings = self.group.recording, self.settings
        is_small = recording.get_num_channels() <= settings.num_dense_channels
        radius_um = None if is_small else settings.whitening_radius_um
        chunks = statistics_kwargs(recording, settings=settings.noise_levels)
        traces = get_random_data_chunks(recording, concatenated=True, return_in_uV=False, **chunks)
        if len(self.group.artifact_periods):
            traces = traces[traces.any(axis=1)]  # artefacts are zeros, which would make the noise too small
        if not self.is_one_mixture:
            levels_uv = self.group.noise_levels_uv
            limits_uv = np.where(levels_uv > 0, settings.clip_noise_levels * levels_uv, np.inf).astype("float32")
            traces = np.clip(traces, -limits_uv, limits_uv)
        sample = NumpyRecording([traces], recording.get_sampling_frequency(), channel_ids=recording.channel_ids)
        sample.set_dummy_probe_from_locations(recording.get_channel_locations())
        whole = {"num_chunks_per_segment": 1, "chunk_duration": None, "chunk_size": len(traces), "seed": 0}
        mode = "global" if is_small else "local"
        whitening, _ = compute_whitening_matrix(sample, mode, whole, apply_mean=False, radius_um=radius_um)
        return whitening

    def without_residuals(
        self,
        spikes: np.ndarray,
        labels: np.ndarray,
        peaks: np.ndarray,
        assignment: Assignment,
        units: UnitModel,
        log: RunLog,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Remove spikes that are what the template of a larger spike leaves of it, since its shape varies.

        Those at spikes of a larger unit nearby, if the two coincide far more often than by chance.
        """
        recording, settings = self.group.recording, self.settings
        max_lag = int(settings.residual_lag_ms * recording.get_sampling_frequency() / 1000.0)
        share = (2 * max_lag + 1) / recording.get_total_samples()
        distances_um = get_channel_distances(recording)[np.ix_(units.unit_channels, units.unit_channels)]
        samples, amplitudes = running_sample_index(recording, spikes), np.abs(peaks["amplitude"])
        rows = {unit: np.flatnonzero(labels == unit) for unit in np.unique(labels)}
        amplitudes_uv = {unit: np.median(amplitudes[assignment.labels == unit]) for unit in rows}
        is_residual = np.zeros(len(labels), dtype=bool)
        for unit, own in rows.items():
            for larger, others in rows.items():
                is_near = distances_um[unit, larger] <= settings.whitening_radius_um
                if not is_near or amplitudes_uv[larger] <= settings.min_residual_ratio * amplitudes_uv[unit]:
                    continue
                is_there = has_coincident(samples[own], samples[others], max_lag)
                by_chance = len(own) * len(others) * share
                if is_there.sum() > settings.max_coincidence_ratio * by_chance + settings.min_coincidences:
                    is_residual[own[is_there]] = True
        found = f"{is_residual.sum()} spikes removed that were matched to the remainder of a larger spike"
        log("matching", f"group {self.group.name}: {found}")
        return spikes[~is_residual], labels[~is_residual]

    def interval_waveforms(
        self, whitening: np.ndarray, intervals: list, peaks: np.ndarray, assignment: Assignment, num_units: int
    ) -> tuple[np.ndarray, np.ndarray, Iterator[np.ndarray]]:
        """Units, channels of their templates, and for each interval mean waveforms of `_read_channels`, not whitened.

        Of confident spikes. Spikes of both neighbouring intervals count half, and the mean of the whole recording
        counts as `pooled_spikes`, so that a unit with few spikes in an interval still has a usable template.
        """
        labels, settings = assignment.labels, self.settings
        is_labelled = labels >= 0
        is_used = is_labelled & (assignment.posteriors > settings.confident_posterior)
        counts = np.bincount(labels[is_used], minlength=num_units)
        is_used |= is_labelled & (counts < settings.min_confident_spikes)[labels]
        unit_ids, unit_index = np.unique(labels[is_used], return_inverse=True)
        used = peaks[is_used]
        shown = self.shown_channels(whitening, used, unit_index, len(unit_ids), len(intervals))
        mask = np.tile(_read_channels(shown, whitening), (len(intervals), 1))
        interval_index = np.zeros(len(used), dtype="int64")
        for number, (segment_index, first, end) in enumerate(intervals):
            samples = used["sample_index"]
            interval_index[(used["segment_index"] == segment_index) & (samples >= first) & (samples < end)] = number
        cells, shape = interval_index * len(unit_ids) + unit_index, (len(intervals), len(unit_ids))
        recording, options = self.group.recording, dict(mask=mask, job_kwargs=self.job_kwargs)
        sums = mean_waveforms(recording, to_spike_vector(used, cells), len(mask), self.parameters, **options)
        sizes = np.bincount(cells, minlength=len(mask)).reshape(*shape, 1, 1)
        sums = sums.reshape(*shape, *sums.shape[1:])
        sums *= sizes
        return unit_ids, shown, self.pool(sums, sizes)

    def shown_channels(
        self, whitening: np.ndarray, spikes: np.ndarray, unit_index: np.ndarray, num_units: int, num_intervals: int
    ) -> np.ndarray:
        """Channels (num_units, num_channels) on which templates of several intervals are kept; others hold noise."""
        recording, num_channels = self.group.recording, len(whitening)
        if num_channels <= self.settings.num_dense_channels or num_intervals == 1:
            return np.ones((num_units, num_channels), dtype=bool)
        vector = to_spike_vector(spikes, unit_index)
        means = mean_waveforms(recording, vector, num_units, self.parameters, job_kwargs=self.job_kwargs)
        peak_to_peak = np.ptp(means @ whitening.astype("float32"), axis=1)
        smallest = np.minimum(self.settings.min_mean_peak_to_peak, peak_to_peak.max(axis=1, keepdims=True))
        return peak_to_peak >= smallest

    def pool(self, sums: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
        """Mean waveforms of each interval, from the sums (num_intervals, num_units, ...) and numbers of spikes."""
        overall = sums.sum(0) / sizes.sum(0)
        # a single interval has the mean of the whole recording already
        pooled = self.settings.pooled_spikes if len(sums) > 1 else 0
        for number in range(len(sums)):
            near, size = (_with_neighbours(each, number) for each in (sums, sizes))
            yield ((near + pooled * overall) / (size + pooled)).astype("float32")

    def make_templates(
        self, whitening: np.ndarray, unit_ids: np.ndarray, mask: np.ndarray, waveforms: np.ndarray
    ) -> Templates:
        """SpikeInterface's whitened templates, on the channels of the mask, from those of `interval_waveforms`."""
        recording, is_read = self.group.recording, _read_channels(mask, whitening)
        templates = np.zeros((*waveforms.shape[:2], mask.shape[1]), dtype="float32")
        for template, channels, waveform in zip(templates, is_read, waveforms, strict=True):
            template[:, channels] = waveform[:, : channels.sum()]
        # as the traces are, before or after the mean: whitening is linear
        templates = np.where(mask[:, None], templates @ whitening.astype("float32"), 0)
        if mask.shape[1] > self.settings.num_dense_channels:
            peak_to_peak = np.ptp(templates, axis=1)
            smallest = np.minimum(self.settings.min_peak_to_peak, peak_to_peak.max(axis=1, keepdims=True))
            mask = mask & (peak_to_peak >= smallest)
        sampling_frequency = recording.get_sampling_frequency()
        dense = Templates(
            templates_array=templates,
            sampling_frequency=sampling_frequency,
            nbefore=self.parameters.num_samples_before(sampling_frequency),
            channel_ids=recording.channel_ids,
            unit_ids=unit_ids,
            probe=recording.get_probe(),
            is_in_uV=False,
        )
        return dense.to_sparse(ChannelSparsity(mask, unit_ids, recording.channel_ids))

    def match_interval(self, whitening: np.ndarray, interval: tuple[int, int, int], templates: Templates) -> np.ndarray:
        """Spikes that matching finds in one interval, in samples of its segment."""
        recording, (segment_index, first, end) = self.group.recording, interval
        num_samples = recording.get_num_samples(segment_index)
        # a spike at the edge of an interval overlaps spikes beyond it
        margin = 2 * self.parameters.num_samples(recording.get_sampling_frequency())
        start, stop = max(0, first - margin), min(num_samples, end + margin)
        part = recording.select_segments([segment_index])
        if (start, stop) != (0, num_samples):
            part = part.frame_slice(start, stop)
        match = self.match_by_wobble if self.parameters.matching == "wobble" else self.match_whitened
        found = match(part, whitening, templates)
        found["sample_index"] += start
        found["segment_index"] = segment_index
        # spikes in the margins are found in the neighbouring interval
        return found[(found["sample_index"] >= first) & (found["sample_index"] < end)]

    def match_by_wobble(self, recording: BaseRecording, whitening: np.ndarray, templates: Templates) -> np.ndarray:
        job_kwargs, parameters = resolve_job_kwargs(self.job_kwargs), {}
        if not self.is_one_mixture:
            parameters["threshold"] = self.settings.min_error_decrease
        if len(whitening) > self.settings.num_dense_channels:
            parameters["approx_rank"] = self.settings.template_rank
            job_kwargs = in_chunks(job_kwargs, self.settings.chunk_duration)
        node = FoldedWobble(recording, templates, whitening, parameters)
        return run_node_pipeline(recording, [node], job_kwargs, job_name="find spikes", squeeze_output=True)

    def match_whitened(self, recording: BaseRecording, whitening: np.ndarray, templates: Templates) -> np.ndarray:
        """By another method of SpikeInterface, which gets whitened traces."""
        method = self.parameters.matching
        needs_levels = matching_methods[method].need_noise_levels
        return find_spikes_from_templates(
            spre.whiten(recording, dtype="float32", W=whitening),
            templates,
            method=method,
            method_kwargs={"noise_levels": np.ones(len(whitening), dtype="float32")} if needs_levels else {},
            job_kwargs=resolve_job_kwargs(self.job_kwargs),
        )


def _read_channels(mask: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Channels (num_units, num_channels) from which whitening computes those of the mask."""
    return mask @ (whitening != 0).T


def _intervals(recording, interval_s: float | None) -> list[tuple[int, int, int]]:
    """(segment, first sample, end) of intervals of about `interval_s`; whole segments where it is None."""
    intervals = []
    for segment_index in range(recording.get_num_segments()):
        num_samples = recording.get_num_samples(segment_index)
        wanted = num_samples if interval_s is None else interval_s * recording.get_sampling_frequency()
        edges = np.linspace(0, num_samples, max(1, round(num_samples / wanted)) + 1).astype(int)
        intervals += [(segment_index, first, end) for first, end in zip(edges[:-1], edges[1:], strict=True)]
    return intervals


def _with_neighbours(sums: np.ndarray, number: int) -> np.ndarray:
    """The sum of an interval, of sums (num_intervals, ...), with half of those of both neighbouring intervals."""
    near = sums[number].astype("float64")
    for neighbour in (number - 1, number + 1):
        if 0 <= neighbour < len(sums):
            near += 0.5 * sums[neighbour]
    return near
