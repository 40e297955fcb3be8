"""From a recording to what fine-tuning learns from: spikes of confident units, the noise between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..sorting.detection import detect_spikes, has_whole_snippet
from ..sorting.parameters import SortingParameters
from ..sorting.postprocessing import main_channels
from ..sorting.preprocessing import PreparedGroup, preprocess, split_groups
from ..sorting.run_log import RunLog
from ..sorting.waveforms import iterate_waveforms, mean_waveforms, nearest_channels, to_spike_vector
from .embedding_evaluation import HeldOutSpikes
from .template_resampling import LabWindow, bank_window

HELD_OUT_SHARE = 0.25  # of the time of every segment, its end
MIN_SPIKES, MIN_POSTERIOR, MIN_SNR, MAX_VIOLATIONS = 40, 0.8, 4.0, 0.05
MAX_SPIKES_A_UNIT, MAX_UNITS, MAX_WINDOWS = 300, 120, 12
MAX_HELD_OUT_SPIKES = 2500
NOISE_S, SEAM_MS, SHORTEST_QUIET_MS = 4.0, 0.5, 3.0
BUSY_MS = (1.0, 2.0)  # before and after the trough of a spike
SEARCH_MS = 0.5  # how far from its time the trough of a unit may lie
COLLISION_MS = 2.0
SEGMENT_GAP_S = 1e5  # no interval between spikes of two segments is short


@dataclass
class LabData:
    """What one recording gives.

    Attributes
    ----------
    windows : list of LabWindow
    held_out : list of HeldOutSpikes
    description : dict
        Figures of the recording, ready for JSON.
    """

    windows: list = field(default_factory=list)
    held_out: list = field(default_factory=list)
    description: dict = field(default_factory=dict)


def read_lab_data(recording, sorting, pipeline, *, number: int, seed: int) -> LabData:
    """Cut spikes and noise of one recording.

    The last quarter of every segment is held out. Without a sorting the pipeline sorts the rest, and units are kept
    that have 40 spikes of posterior 0.8 or more, these being half of them at least, a signal-to-noise ratio of 4 and
    at most 5 % of their intervals below 1.5 ms; of a sorting that was given, units with 40 spikes.

    Parameters
    ----------
    recording : BaseRecording
        Raw.
    sorting : BaseSorting | None
        Curated units of it.
    pipeline : SpikeSortingPipeline
        Its model's contract and its parameters are read, too.
    number : int
        Of the recording.
    seed : int

    Returns
    -------
    LabData
        Without windows where no unit is good enough.
    """
    parameters, config, log = pipeline.parameters, pipeline.model.config, RunLog()
    train_part, held_part = split_time(recording)
    units, num_found = _units_of(train_part, sorting, pipeline)
    data, rng = LabData(), np.random.default_rng(seed)
    held_groups = {group.name: group for group in split_groups(held_part, parameters, log)}
    for group in split_groups(train_part, parameters, log):
        prepared = preprocess(group, parameters, log)
        held = preprocess(held_groups[group.name], parameters, log) if group.name in held_groups else None
        if prepared is None or held is None:
            continue
        prepared, held = _same_channels(prepared, held)
        reader = _GroupReader(prepared, held, parameters, config, rng, number)
        windows, real_spikes = reader.read(_units_of_group(units, prepared))
        data.windows += windows
        data.held_out += real_spikes
    kept = {}
    for window in data.windows:
        kept |= {unit_id: len(spikes) for unit_id, spikes in zip(window.unit_ids, window.waveforms, strict=True)}
    data.description = dict(
        seconds=round(float(recording.get_total_duration()), 1),
        num_channels=int(recording.get_num_channels()),
        sampling_frequency=float(recording.get_sampling_frequency()),
        units="curated" if sorting is not None else "sorted",
        num_units_found=num_found,
        num_units=len(kept),
        num_spikes=int(sum(kept.values())),
        num_held_out_spikes=int(sum(len(each.waveforms) for each in data.held_out)),
    )
    return data


def split_time(recording):
    """The first three quarters of every segment, and the rest, which is held out.

    Parameters
    ----------
    recording : BaseRecording

    Returns
    -------
    train_part, held_part : BaseRecording
        Of as many segments.
    """
    from spikeinterface.core import append_recordings

    segments = [recording.select_segments([index]) for index in range(recording.get_num_segments())]
    cuts = [int((1 - HELD_OUT_SHARE) * segment.get_num_samples(0)) for segment in segments]
    first = [segment.frame_slice(0, cut) for segment, cut in zip(segments, cuts, strict=True)]
    rest = [each.frame_slice(cut, each.get_num_samples(0)) for each, cut in zip(segments, cuts, strict=True)]
    return tuple(part[0] if len(part) == 1 else append_recordings(part) for part in (first, rest))


def _units_of(train_part, sorting, pipeline):
    """Spikes of units in the time to train on: unit id -> (segments, samples, channel id or None); and all units."""
    if sorting is None:
        result = pipeline(train_part)
        return _confident_units(result), int(result.sorting.get_num_units())
    vector, units = sorting.to_spike_vector(), {}
    ends = np.array([train_part.get_num_samples(index) for index in range(train_part.get_num_segments())])
    vector = vector[vector["sample_index"] < ends[vector["segment_index"]]]
    for index, unit_id in enumerate(sorting.unit_ids):
        spikes = vector[vector["unit_index"] == index]
        if len(spikes) >= MIN_SPIKES:
            units[_plain(unit_id)] = (spikes["segment_index"], spikes["sample_index"], None)
    return units, len(sorting.unit_ids)


def _confident_units(result):
    sorting, units = result.sorting, {}
    vector = sorting.to_spike_vector()
    properties = {name: sorting.get_property(name) for name in ("snr", "short_isi_fraction", "main_channel_id")}
    for index, unit_id in enumerate(sorting.unit_ids):
        is_its = vector["unit_index"] == index
        sure = vector[is_its & (result.posteriors >= MIN_POSTERIOR)]
        is_sure = len(sure) >= max(MIN_SPIKES, 0.5 * is_its.sum())
        is_clean = properties["short_isi_fraction"][index] <= MAX_VIOLATIONS
        if is_sure and is_clean and properties["snr"][index] >= MIN_SNR:
            channel_id = properties["main_channel_id"][index]
            units[_plain(unit_id)] = (sure["segment_index"], sure["sample_index"], channel_id)
    return units


def _units_of_group(units, group: PreparedGroup):
    """Those units that are of this group; those of a curated sorting, whose place nobody knows, all."""
    ids = list(group.recording.channel_ids)
    return {unit_id: each for unit_id, each in units.items() if each[2] is None or each[2] in ids}


def _same_channels(prepared, held):
    """Both parts with the channels that are good in both."""
    ours, theirs = list(prepared.recording.channel_ids), list(held.recording.channel_ids)
    if ours == theirs:
        return prepared, held
    common = [channel_id for channel_id in ours if channel_id in theirs]
    return tuple(
        replace(
            group,
            recording=group.recording.select_channels(common),
            noise_levels_uv=group.noise_levels_uv[np.isin(group.recording.channel_ids, common)],
        )
        for group in (prepared, held)
    )


class _GroupReader:
    """Cuts what one channel group has."""

    def __init__(self, prepared, held, parameters, config, rng, number):  # noqa: PLR0913 - all stay together
        self.prepared, self.held, self.parameters, self.rng, self.number = prepared, held, parameters, rng, number
        self.rate = prepared.recording.get_sampling_frequency()
        num_before, num_samples = bank_window(config)
        before_ms, all_ms = (1e3 * count / config.sampling_frequency for count in (num_before, num_samples))
        self.long = replace(parameters, ms_before=before_ms, ms_after=all_ms - before_ms)
        self.num_channels = config.num_channels
        self.log = RunLog()

    def read(self, units):
        """Windows and held-out spikes of these units: id -> (segments, samples, channel id)."""
        spikes, main = self._align(units)
        peaks, held_peaks = (detect_spikes(each, self.parameters, self.log) for each in (self.prepared, self.held))
        windows, real_spikes = [], []
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

    def _align(self, units):
        """Spikes of each unit at its trough, and its main channel; units that are not this group's left out."""
        if not units:
            return {}, {}
        ids = list(units)
        peaks = np.concatenate([self._as_peaks(*units[unit_id][:2]) for unit_id in ids])
        labels = np.repeat(np.arange(len(ids)), [len(units[unit_id][0]) for unit_id in ids])
        inside = has_whole_snippet(peaks, self.prepared.recording, self.long)
        peaks, labels = peaks[inside], labels[inside]
        order = np.lexsort((peaks["sample_index"], peaks["segment_index"]))
        vector = to_spike_vector(peaks[order], labels[order])
        templates = mean_waveforms(self.prepared.recording, vector, len(ids), self.parameters)
        channels, _, peaks_uv = main_channels(templates, self.rate, self.parameters)
        snr = np.abs(peaks_uv) / self.prepared.noise_levels_uv[channels]
        reach, before = int(SEARCH_MS * 1e-3 * self.rate), self.parameters.num_samples_before(self.rate)
        spikes, main = {}, {}
        for index in np.sort(np.argsort(-snr)[:MAX_UNITS]):
            its = peaks[labels == index].copy()
            if snr[index] < MIN_SNR or len(its) < MIN_SPIKES:
                continue
            trough = templates[index, before - reach : before + reach + 1, channels[index]]
            its["sample_index"] += int(self._size(trough).argmax()) - reach
            spikes[ids[index]] = its[has_whole_snippet(its, self.prepared.recording, self.long)]
            main[ids[index]] = int(channels[index])
        return spikes, main

    def _size(self, values):
        """What is largest at a peak of the sign that is sorted."""
        return {"neg": -values, "pos": values}.get(self.parameters.peak_sign, np.abs(values))

    def _as_peaks(self, segments, samples):
        from spikeinterface.core.node_pipeline import base_peak_dtype

        peaks = np.zeros(len(samples), dtype=base_peak_dtype)
        peaks["segment_index"], peaks["sample_index"] = segments, samples
        return peaks

    def _choose_channels(self, main):
        """Channels of each window, and its middle one; of a small group all, None. Together they have all units."""
        total = self.prepared.recording.get_num_channels()
        if total <= self.num_channels:
            return [(np.arange(total), None)] if main else []
        near, left, chosen = nearest_channels(self.prepared.recording, self.num_channels), dict(main), []
        while left and len(chosen) < MAX_WINDOWS:
            counts = [sum(channel in self._middle(center) for channel in left.values()) for center in range(total)]
            center = int(np.argmax(counts))
            chosen.append((np.flatnonzero(near[center]), center))
            left = {unit_id: channel for unit_id, channel in left.items() if channel not in self._middle(center)}
        return chosen

    def _middle(self, center):
        """Channels so near to the middle of a window that spikes there are seen whole."""
        near = nearest_channels(self.prepared.recording, max(1, self.num_channels // 2))
        return set(np.flatnonzero(near[center]).tolist())

    def _window(self, recording, unit_ids, spikes, near, noise, held_noise):  # noqa: PLR0913
        chosen = {}
        for unit_id in unit_ids:
            its = spikes[unit_id]
            rows = np.sort(self.rng.permutation(len(its))[:MAX_SPIKES_A_UNIT])
            chosen[unit_id] = its[rows]
        waveforms, times = [], []
        for its in chosen.values():
            its = its[np.lexsort((its["sample_index"], its["segment_index"]))]
            waveforms.append(self._cut(recording, its, self.long))
            times.append(its["sample_index"] / self.rate + SEGMENT_GAP_S * its["segment_index"])
        rate_hz = len(near) / max(recording.get_total_duration(), 1e-9)
        return LabWindow(
            unit_ids=list(chosen),
            waveforms=waveforms,
            times_s=times,
            peak_index=self.long.num_samples_before(self.rate),
            sampling_frequency=self.rate,
            positions_um=recording.get_channel_locations(),
            noise=noise,
            held_out_noise=held_noise,
            collision_probability=float(1 - np.exp(-2e-3 * COLLISION_MS * rate_hz)),
            recording=self.number,
            rates_hz=[len(spikes[unit_id]) / max(recording.get_total_duration(), 1e-9) for unit_id in chosen],
        )

    def _cut(self, recording, spikes, parameters):
        """Snippets (num_spikes, num_samples, num_channels) on all channels."""
        num_channels = recording.get_num_channels()
        batches = list(iterate_waveforms(recording, spikes, parameters, num_channels=num_channels))
        return np.concatenate([batch.waveforms for batch in batches])

    def _held_out(self, recording, peaks, noise):
        """The last spikes of the time held out, in one piece: their intervals count."""
        spikes = peaks[-MAX_HELD_OUT_SPIKES:].copy()
        spikes["channel_index"] = 0  # of the whole group; not looked at where all channels are cut
        waveforms = self._cut(recording, spikes, self.parameters)
        starts = self.rng.integers(0, len(noise) - waveforms.shape[1], size=len(spikes))
        return HeldOutSpikes(
            waveforms=waveforms,
            noise=noise[starts[:, None] + np.arange(waveforms.shape[1])],
            times_s=spikes["sample_index"] / self.rate + SEGMENT_GAP_S * spikes["segment_index"],
            peak_index=self.parameters.num_samples_before(self.rate),
            sampling_frequency=self.rate,
            positions_um=recording.get_channel_locations(),
        )

    def _noise(self, recording, peaks):
        """Traces (num_samples, num_channels) between these spikes, in random order, faded into each other."""
        runs = _quiet_runs(recording, peaks, self.rate)
        seam, wanted = max(2, int(SEAM_MS * 1e-3 * self.rate)), int(NOISE_S * self.rate)
        pieces, total = [], 0
        for index in self.rng.permutation(len(runs)):
            if total >= wanted:
                break
            segment, start, end = runs[index]
            end = min(end, start + wanted - total + seam)
            pieces.append(recording.get_traces(segment_index=segment, start_frame=start, end_frame=end))
            total += end - start - seam
        return join_pieces(pieces, seam, recording.get_num_channels())


def _quiet_runs(recording, peaks, rate):
    """(segment, first sample, end) of stretches without a spike."""
    before, after, shortest = (int(ms * 1e-3 * rate) for ms in (*BUSY_MS, SHORTEST_QUIET_MS))
    runs = []
    for segment in range(recording.get_num_segments()):
        samples = np.sort(peaks["sample_index"][peaks["segment_index"] == segment]).astype("int64")
        starts = np.concatenate([[0], samples + after])
        ends = np.concatenate([samples - before, [recording.get_num_samples(segment)]])
        runs += [(segment, int(a), int(b)) for a, b in zip(starts, ends, strict=True) if b - a >= shortest]
    return runs


def join_pieces(pieces, seam, num_channels):
    """Join traces so that each piece goes over into the next in `seam` samples, in which the variance stays.

    Parameters
    ----------
    pieces : list of ndarray (num_samples, num_channels)
        Each of 2 * `seam` samples or more.
    seam : int
    num_channels : int
        For where there is no piece.

    Returns
    -------
    ndarray (num_samples, num_channels) float32
        Without the last `seam` samples of the last piece.
    """
    if not pieces:
        return np.zeros((0, num_channels), "float32")
    rise = np.sin(0.5 * np.pi * (np.arange(seam) + 0.5) / seam)[:, None]
    joined = [pieces[0][:-seam]]
    for before, piece in zip(pieces, pieces[1:], strict=False):
        joined += [before[-seam:] * rise[::-1] + piece[:seam] * rise, piece[seam:-seam]]
    return np.concatenate(joined).astype("float32")


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def check_parameters(parameters: SortingParameters, recording) -> None:
    """Refuse a recording that cannot be learned from, before anything is computed.

    Parameters
    ----------
    parameters : SortingParameters
    recording : BaseRecording

    Raises
    ------
    TypeError, ValueError
        As of `SortingParameters.check_recording`; or a probe that nobody knows.
    """
    parameters.check_recording(recording)
    if recording.get_num_channels() > 4 and not recording.has_probe():
        raise ValueError(
            f"expected a recording with a probe, found {recording.get_num_channels()} channels whose places nobody "
            "knows; attach one with recording.set_probe, or --probe on the command line"
        )
