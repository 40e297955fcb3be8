"""What fine-tuning learns from a recording: spikes of confident units, and the noise between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..sorting.detection import detect_spikes
from ..sorting.parameters import SortingParameters
from ..sorting.phy_folder import plain_label
from ..sorting.postprocessing import main_channels
from ..sorting.preprocessing import PreparedGroup, preprocess, split_groups
from ..sorting.run_log import RunLog
from ..sorting.waveforms import has_whole_snippet, iterate_waveforms, mean_waveforms, nearest_channels, to_spike_vector
from .embedding_evaluation import HeldOutSpikes
from .settings import DEFAULT_SETTINGS, FinetuningSettings, ReadingSettings
from .template_resampling import RecordingWindow, template_window

if TYPE_CHECKING:
    from spikeinterface import BaseRecording, BaseSorting

    from ..models.configuration_huidurep import HuiduRepConfig
    from ..pipeline import SpikeSortingPipeline
    from ..result import SortingResult

SEGMENT_GAP_S = 1e5  # added to the times of each segment: no interval between spikes of two segments is short
# (segment of each spike, sample of each spike, id of the unit's main channel or None)
UnitSpikes = tuple[np.ndarray, np.ndarray, Any]


@dataclass
class RecordingData:
    """Spikes and noise of one recording.

    Attributes
    ----------
    windows : list of RecordingWindow
    held_out : list of HeldOutSpikes
    description : dict
        Figures of the recording, ready for JSON.
    """

    windows: list = field(default_factory=list)
    held_out: list = field(default_factory=list)
    description: dict = field(default_factory=dict)


def read_recording_data(
    recording: BaseRecording,
    sorting: BaseSorting | None,
    pipeline: SpikeSortingPipeline,
    *,
    number: int,
    seed: int,
    settings: FinetuningSettings = DEFAULT_SETTINGS,
    job_kwargs: dict[str, Any] | None = None,
) -> RecordingData:
    """Cut spikes and noise of one recording.

    The last quarter of every segment is held out. Without a sorting the pipeline sorts the other three quarters, and
    confident units are used (see :class:`ReadingSettings`); of a curated sorting, all units with 40 spikes, but for
    those whose property "quality" is "noise".

    Parameters
    ----------
    recording : BaseRecording
        Raw.
    sorting : BaseSorting | None
        Curated units of it.
    pipeline : SpikeSortingPipeline
        Its model's input contract and its parameters are used, too.
    number : int
        Of the recording.
    seed : int
    settings : FinetuningSettings, optional
    job_kwargs : dict, optional
        SpikeInterface's job arguments.

    Returns
    -------
    RecordingData
        Without windows if no unit is good enough.
    """
    parameters, config, log = pipeline.parameters, pipeline.model.config, RunLog()
    train_part, held_part = split_time(recording, settings.reading.held_out_share)
    units, num_found = _units_of(train_part, sorting, pipeline, settings, job_kwargs)
    data, rng = RecordingData(), np.random.default_rng(seed)
    held_groups = {group.name: group for group in split_groups(held_part, parameters, log)}
    for group in split_groups(train_part, parameters, log):
        prepared = preprocess(group, parameters, log, job_kwargs=job_kwargs)
        held_group = held_groups.get(group.name)
        held = None if held_group is None else preprocess(held_group, parameters, log, job_kwargs=job_kwargs)
        if prepared is None or held is None:
            continue
        prepared, held = _same_channels(prepared, held)
        reader = _GroupReader(prepared, held, parameters, config, rng, number, settings, job_kwargs)
        windows, real_spikes = reader.read(_units_of_group(units, prepared))
        data.windows += windows
        data.held_out += real_spikes
    data.description = _describe(recording, sorting, num_found, data)
    return data


def _describe(
    recording: BaseRecording, sorting: BaseSorting | None, num_found: int, data: RecordingData
) -> dict[str, Any]:
    """Figures of a recording for the report."""
    kept: dict[Any, int] = {}
    for window in data.windows:
        kept |= {unit_id: len(spikes) for unit_id, spikes in zip(window.unit_ids, window.waveforms, strict=True)}
    return dict(
        seconds=round(float(recording.get_total_duration()), 1),
        num_channels=int(recording.get_num_channels()),
        sampling_frequency=float(recording.get_sampling_frequency()),
        units="curated" if sorting is not None else "sorted",
        num_units_found=num_found,
        num_units=len(kept),
        num_spikes=int(sum(kept.values())),
        num_held_out_spikes=int(sum(len(each.waveforms) for each in data.held_out)),
    )


def split_time(
    recording: BaseRecording, held_out_share: float = DEFAULT_SETTINGS.reading.held_out_share
) -> tuple[BaseRecording, BaseRecording]:
    """Split every segment into its beginning and its end, which is held out.

    Parameters
    ----------
    recording : BaseRecording
    held_out_share : float, default 0.25

    Returns
    -------
    train_part, held_part : BaseRecording
        With the same number of segments.
    """
    from spikeinterface.core import append_recordings

    segments = [recording.select_segments([index]) for index in range(recording.get_num_segments())]
    cuts = [int((1 - held_out_share) * segment.get_num_samples(0)) for segment in segments]
    first = [segment.frame_slice(0, cut) for segment, cut in zip(segments, cuts, strict=True)]
    rest = [each.frame_slice(cut, each.get_num_samples(0)) for each, cut in zip(segments, cuts, strict=True)]
    train_part, held_part = (part[0] if len(part) == 1 else append_recordings(part) for part in (first, rest))
    return train_part, held_part


def _units_of(
    train_part: BaseRecording,
    sorting: BaseSorting | None,
    pipeline: SpikeSortingPipeline,
    settings: FinetuningSettings,
    job_kwargs: dict[str, Any] | None,
) -> tuple[dict[Any, UnitSpikes], int]:
    """Spikes of the units in the time that is trained on, by unit id; and the number of all units."""
    if sorting is None:
        result = pipeline(train_part, job_kwargs=job_kwargs)
        return _confident_units(result, settings), int(result.sorting.get_num_units())
    vector, units = sorting.to_spike_vector(), {}
    ends = np.array([train_part.get_num_samples(index) for index in range(train_part.get_num_segments())])
    vector = vector[vector["sample_index"] < ends[vector["segment_index"]]]
    labels = sorting.get_property("quality")
    for index, unit_id in enumerate(sorting.unit_ids):
        spikes = vector[vector["unit_index"] == index]
        if labels is not None and plain_label(labels[index]) == "noise":
            continue
        if len(spikes) >= settings.reading.min_spikes:
            units[_plain(unit_id)] = (spikes["segment_index"], spikes["sample_index"], None)
    return units, len(sorting.unit_ids)


def _confident_units(result: SortingResult, settings: FinetuningSettings) -> dict[Any, UnitSpikes]:
    """Confident spikes of confident units."""
    reading, sorting, units = settings.reading, result.sorting, {}
    vector = sorting.to_spike_vector()
    snr, main_channel_id = sorting.get_property("snr"), sorting.get_property("main_channel_id")
    short_isi_fraction = sorting.get_property("short_isi_fraction")
    for index, unit_id in enumerate(sorting.unit_ids):
        is_its = vector["unit_index"] == index
        sure = vector[is_its & (result.posteriors >= reading.min_posterior)]
        has_spikes = len(sure) >= max(reading.min_spikes, 0.5 * is_its.sum())
        is_clean = short_isi_fraction[index] <= reading.max_short_isi_fraction
        if has_spikes and is_clean and snr[index] >= reading.min_snr:
            units[_plain(unit_id)] = (sure["segment_index"], sure["sample_index"], main_channel_id[index])
    return units


def _units_of_group(units: dict[Any, UnitSpikes], group: PreparedGroup) -> dict[Any, UnitSpikes]:
    """Units of this channel group; all units of a curated sorting, because their channels are unknown."""
    ids = list(group.recording.channel_ids)
    return {unit_id: each for unit_id, each in units.items() if each[2] is None or each[2] in ids}


def _same_channels(prepared: PreparedGroup, held: PreparedGroup) -> tuple[PreparedGroup, PreparedGroup]:
    """Both parts with the channels that are good in both."""
    ours, theirs = list(prepared.recording.channel_ids), list(held.recording.channel_ids)
    if ours == theirs:
        return prepared, held
    common = [channel_id for channel_id in ours if channel_id in theirs]
    first, second = (
        replace(
            group,
            recording=group.recording.select_channels(common),
            noise_levels_uv=group.noise_levels_uv[np.isin(group.recording.channel_ids, common)],
        )
        for group in (prepared, held)
    )
    return first, second


class _GroupReader:
    """Cuts the spikes and the noise of one channel group."""

    def __init__(
        self,
        prepared: PreparedGroup,
        held: PreparedGroup,
        parameters: SortingParameters,
        config: HuiduRepConfig,
        rng: np.random.Generator,
        number: int,
        settings: FinetuningSettings,
        job_kwargs: dict[str, Any] | None,
    ) -> None:
        self.prepared, self.held, self.parameters, self.rng, self.number = prepared, held, parameters, rng, number
        self.settings, self.rate = settings.reading, prepared.recording.get_sampling_frequency()
        num_before, num_samples = template_window(config, settings.resampling)
        before_ms, all_ms = (1e3 * count / config.sampling_frequency for count in (num_before, num_samples))
        self.long = replace(parameters, ms_before=before_ms, ms_after=all_ms - before_ms)
        self.num_channels, self.job_kwargs = config.num_channels, job_kwargs
        self.log = RunLog()

    def read(self, units: dict[Any, UnitSpikes]) -> tuple[list[RecordingWindow], list[HeldOutSpikes]]:
        """Windows and held-out spikes of these units."""
        spikes, main = self._align(units)
        peaks, held_peaks = (
            detect_spikes(each, self.parameters, self.log, job_kwargs=self.job_kwargs)
            for each in (self.prepared, self.held)
        )
        windows: list[RecordingWindow] = []
        real_spikes: list[HeldOutSpikes] = []
        for channels, center in self._choose_channels(main):
            ids = self.prepared.recording.channel_ids[channels]
            recording, held = (each.recording.select_channels(ids) for each in (self.prepared, self.held))
            near = peaks[np.isin(peaks["channel_index"], channels)]
            held_near = held_peaks[np.isin(held_peaks["channel_index"], channels)]
            noise, held_noise = self._noise(recording, near), self._noise(held, held_near)
            inside = [unit_id for unit_id, channel in main.items() if center is None or channel in self._middle(center)]
            window = self._window(recording, inside, spikes, near, noise, held_noise)
            windows += [window] if window.unit_ids else []
            seen = held_near if center is None else held_near[held_near["channel_index"] == center]
            if len(seen) and len(held_noise) > self.parameters.num_samples(self.rate):
                real_spikes.append(self._held_out(held, seen, held_noise))
        return windows, real_spikes

    def _align(self, units: dict[Any, UnitSpikes]) -> tuple[dict[Any, np.ndarray], dict[Any, int]]:
        """Spikes of each unit at its trough, and its main channel; without units that this group does not see."""
        if not units:
            return {}, {}
        ids = list(units)
        peaks = np.concatenate([self._as_peaks(*units[unit_id][:2]) for unit_id in ids])
        labels = np.repeat(np.arange(len(ids)), [len(units[unit_id][0]) for unit_id in ids])
        inside = has_whole_snippet(peaks, self.prepared.recording, self.long)
        peaks, labels = peaks[inside], labels[inside]
        order = np.lexsort((peaks["sample_index"], peaks["segment_index"]))
        vector = to_spike_vector(peaks[order], labels[order])
        templates = mean_waveforms(
            self.prepared.recording, vector, len(ids), self.parameters, job_kwargs=self.job_kwargs
        )
        channels, _, peaks_uv = main_channels(templates, self.rate, self.parameters)
        snr = np.abs(peaks_uv) / self.prepared.noise_levels_uv[channels]
        reach, before = int(self.settings.search_ms * 1e-3 * self.rate), self.parameters.num_samples_before(self.rate)
        spikes: dict[Any, np.ndarray] = {}
        main: dict[Any, int] = {}
        for index in np.sort(np.argsort(-snr)[: self.settings.max_units]):
            its = peaks[labels == index].copy()
            if snr[index] < self.settings.min_snr or len(its) < self.settings.min_spikes:
                continue
            sign = np.sign(peaks_uv[index])
            trough = templates[index, before - reach : before + reach + 1, channels[index]]
            its["sample_index"] += int((sign * trough).argmax()) - reach
            its["amplitude"] = sign
            spikes[ids[index]] = its[has_whole_snippet(its, self.prepared.recording, self.long)]
            main[ids[index]] = int(channels[index])
        return spikes, main

    def _as_peaks(self, segments: np.ndarray, samples: np.ndarray) -> np.ndarray:
        from spikeinterface.core.node_pipeline import base_peak_dtype

        peaks = np.zeros(len(samples), dtype=base_peak_dtype)
        peaks["segment_index"], peaks["sample_index"] = segments, samples
        return peaks

    def _choose_channels(self, main: dict[Any, int]) -> list[tuple[np.ndarray, int | None]]:
        """Channels and central channel (None for a single window) of windows that together contain all units."""
        total = self.prepared.recording.get_num_channels()
        if total <= self.num_channels:
            return [(np.arange(total), None)] if main else []
        near, left = nearest_channels(self.prepared.recording, self.num_channels), dict(main)
        chosen: list[tuple[np.ndarray, int | None]] = []
        while left and len(chosen) < self.settings.max_windows:
            counts = [sum(channel in self._middle(center) for channel in left.values()) for center in range(total)]
            center = int(np.argmax(counts))
            chosen.append((np.flatnonzero(near[center]), center))
            left = {unit_id: channel for unit_id, channel in left.items() if channel not in self._middle(center)}
        return chosen

    def _middle(self, center: int) -> set[int]:
        """Channels so near to the central channel of a window that spikes there lie inside the window."""
        near = nearest_channels(self.prepared.recording, max(1, self.num_channels // 2))
        return set(np.flatnonzero(near[center]).tolist())

    def _window(
        self,
        recording: BaseRecording,
        unit_ids: Sequence[Any],
        spikes: dict[Any, np.ndarray],
        near: np.ndarray,
        noise: np.ndarray,
        held_noise: np.ndarray,
    ) -> RecordingWindow:
        """Spikes of these units on the channels of `recording`."""
        chosen = {}
        for unit_id in unit_ids:
            its = spikes[unit_id]
            rows = np.sort(self.rng.permutation(len(its))[: self.settings.max_spikes_per_unit])
            chosen[unit_id] = its[rows]
        waveforms, times = [], []
        for its in chosen.values():
            its = its[np.lexsort((its["sample_index"], its["segment_index"]))]
            waveforms.append(turned_down(self._cut(recording, its, self.long), its))
            times.append(its["sample_index"] / self.rate + SEGMENT_GAP_S * its["segment_index"])
        rate_hz = len(near) / max(recording.get_total_duration(), 1e-9)
        return RecordingWindow(
            unit_ids=list(chosen),
            waveforms=waveforms,
            times_s=times,
            peak_index=self.long.num_samples_before(self.rate),
            sampling_frequency=self.rate,
            positions_um=recording.get_channel_locations(),
            noise=noise,
            held_out_noise=held_noise,
            collision_probability=float(1 - np.exp(-2e-3 * self.settings.collision_ms * rate_hz)),
            recording=self.number,
            rates_hz=[len(spikes[unit_id]) / max(recording.get_total_duration(), 1e-9) for unit_id in chosen],
        )

    def _cut(self, recording: BaseRecording, spikes: np.ndarray, parameters: SortingParameters) -> np.ndarray:
        """Snippets (num_spikes, num_samples, num_channels) on all channels."""
        num_channels = recording.get_num_channels()
        batches = list(
            iterate_waveforms(recording, spikes, parameters, num_channels=num_channels, job_kwargs=self.job_kwargs)
        )
        return np.concatenate([batch.waveforms for batch in batches])

    def _held_out(self, recording: BaseRecording, peaks: np.ndarray, noise: np.ndarray) -> HeldOutSpikes:
        """The last spikes of the held-out time, without gaps, because their intervals are evaluated."""
        spikes = peaks[-self.settings.max_held_out_spikes :].copy()
        spikes["channel_index"] = 0  # an index of the whole group; not used, because all channels are cut
        waveforms = turned_down(self._cut(recording, spikes, self.parameters), spikes)
        starts = self.rng.integers(0, len(noise) - waveforms.shape[1], size=len(spikes))
        return HeldOutSpikes(
            waveforms=waveforms,
            noise=noise[starts[:, None] + np.arange(waveforms.shape[1])],
            times_s=spikes["sample_index"] / self.rate + SEGMENT_GAP_S * spikes["segment_index"],
            peak_index=self.parameters.num_samples_before(self.rate),
            sampling_frequency=self.rate,
            positions_um=recording.get_channel_locations(),
        )

    def _noise(self, recording: BaseRecording, peaks: np.ndarray) -> np.ndarray:
        """Traces (num_samples, num_channels) between these spikes: noise segments in random order, cross-faded."""
        settings = self.settings
        runs = _quiet_runs(recording, peaks, self.rate, settings)
        overlap, wanted = max(2, int(settings.crossfade_ms * 1e-3 * self.rate)), int(settings.noise_s * self.rate)
        parts, total = [], 0
        for index in self.rng.permutation(len(runs)):
            if total >= wanted:
                break
            segment, start, end = runs[index]
            end = min(end, start + wanted - total + overlap)
            parts.append(recording.get_traces(segment_index=segment, start_frame=start, end_frame=end))
            total += end - start - overlap
        return crossfade(parts, overlap, recording.get_num_channels())


def turned_down(waveforms: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """Snippets in which every spike points down, as the encoder gets them.

    Parameters
    ----------
    waveforms : ndarray (num_spikes, num_samples, num_channels)
    spikes : ndarray (num_spikes,)
        With the field amplitude, which has the sign of the spike.

    Returns
    -------
    ndarray (num_spikes, num_samples, num_channels)
    """
    return np.where(spikes["amplitude"] > 0, -1, 1).astype(waveforms.dtype)[:, None, None] * waveforms


def _quiet_runs(
    recording: BaseRecording, peaks: np.ndarray, rate: float, settings: ReadingSettings
) -> list[tuple[int, int, int]]:
    """(segment, first sample, end) of noise segments: runs of samples without a spike."""
    times_ms = settings.spike_before_ms, settings.spike_after_ms, settings.min_quiet_ms
    before, after, shortest = (int(ms * 1e-3 * rate) for ms in times_ms)
    runs = []
    for segment in range(recording.get_num_segments()):
        samples = np.sort(peaks["sample_index"][peaks["segment_index"] == segment]).astype("int64")
        starts = np.concatenate([[0], samples + after])
        ends = np.concatenate([samples - before, [recording.get_num_samples(segment)]])
        runs += [(segment, int(a), int(b)) for a, b in zip(starts, ends, strict=True) if b - a >= shortest]
    return runs


def crossfade(parts: Sequence[np.ndarray], overlap: int, num_channels: int) -> np.ndarray:
    """Join traces with cross-fades of `overlap` samples, in which the variance is constant.

    Parameters
    ----------
    parts : list of ndarray (num_samples, num_channels)
        Each of 2 * `overlap` samples or more.
    overlap : int
    num_channels : int
        Used if there are no traces.

    Returns
    -------
    ndarray (num_samples, num_channels) float32
        Without the last `overlap` samples of the last array.
    """
    if not parts:
        return np.zeros((0, num_channels), "float32")
    # Squares of sine and cosine sum to 1: so do the variances of two independent segments.
    rise = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / overlap)[:, None]
    joined = [parts[0][:-overlap]]
    for before, after in zip(parts, parts[1:], strict=False):
        joined += [before[-overlap:] * rise[::-1] + after[:overlap] * rise, after[overlap:-overlap]]
    return np.concatenate(joined).astype("float32")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def check_parameters(parameters: SortingParameters, recording: BaseRecording) -> None:
    """Refuse an unsuitable recording before anything is computed.

    Parameters
    ----------
    parameters : SortingParameters
    recording : BaseRecording

    Raises
    ------
    TypeError, ValueError
        As of `SortingParameters.check_recording`; or no probe for more than four channels.
    """
    parameters.check_recording(recording)
    if recording.get_num_channels() > 4 and not recording.has_probe():
        raise ValueError(
            f"expected a recording with a probe, found {recording.get_num_channels()} channels of unknown positions; "
            "attach one with recording.set_probe, or --probe on the command line"
        )
