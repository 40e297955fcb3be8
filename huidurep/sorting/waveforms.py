"""Snippets of spikes, in batches of bounded size, with their contact positions, and templates of units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from spikeinterface.core import BaseRecording, get_channel_distances
from spikeinterface.core.base import minimum_spike_dtype
from spikeinterface.core.node_pipeline import (
    ExtractDenseWaveforms,
    ExtractSparseWaveforms,
    PeakRetriever,
    run_node_pipeline,
)

from .job_kwargs import map_in_threads, resolve_job_kwargs
from .parameters import SortingParameters

# Of snippets: extraction, and then embedding, holds four times as much.
BATCH_BYTES, BATCH_SPIKES = 64 * 2**20, 12_000
READ_BYTES = 8 * 2**20  # of traces that a thread of `mean_waveforms` reads at once
NUM_PHASES, LANCZOS_LOBES = 16, 8  # of `align_to_trough`


@dataclass(frozen=True)
class WaveformBatch:
    """Snippets on channels that lie alike.

    Attributes
    ----------
    spike_indices : ndarray of int, (num_spikes,)
        Rows of their spikes.
    waveforms : ndarray of float32, (num_spikes, num_samples, num_channels)
        uV.
    channel_positions_um : ndarray of float, (num_channels, 2)
        Contacts of the channels of these snippets, from the first of them.
    peak_index : int
        Sample of the peak in each snippet.
    """

    spike_indices: np.ndarray
    waveforms: np.ndarray
    channel_positions_um: np.ndarray
    peak_index: int


def iterate_waveforms(
    recording: BaseRecording,
    spikes: np.ndarray,
    parameters: SortingParameters,
    *,
    num_channels: int,
    batch_bytes: int = BATCH_BYTES,
    job_kwargs: dict | None = None,
) -> Iterator[WaveformBatch]:
    """Extract snippets, on all channels of a small group, else on those nearest to each spike's channel.

    In this process: a batch is read in less time than worker processes start.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, uV, with contacts.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments.
    parameters : SortingParameters
        The window.
    num_channels : int
        Maximum number of channels of a snippet: what the model takes.
    batch_bytes : int
        Maximum size of the snippets of a batch, which has `BATCH_SPIKES` spikes at most.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Yields
    ------
    WaveformBatch
        Together they cover every spike once.
    """
    sampling_frequency = recording.get_sampling_frequency()
    num_before = parameters.num_samples_before(sampling_frequency)
    num_samples = parameters.num_samples(sampling_frequency)
    window = {"nbefore": num_before, "nafter": num_samples - num_before}
    positions_um = recording.get_channel_locations()
    is_small = recording.get_num_channels() <= num_channels
    near = nearest_channels(recording, num_channels)
    arrangements, arrangement_of_channel = _arrangements(positions_um, near)
    job_kwargs = resolve_job_kwargs(job_kwargs) | {"n_jobs": 1}
    batch_size = max(1, batch_bytes // (4 * num_samples * min(num_channels, recording.get_num_channels())))
    batch_size = min(batch_size, BATCH_SPIKES)
    for start in range(0, len(spikes), batch_size):
        batch = spikes[start : start + batch_size]
        waveforms = _extract(recording, batch, window, None if is_small else near, job_kwargs)
        if is_small:
            places_um = positions_um - positions_um[:1]
            yield WaveformBatch(np.arange(start, start + len(batch)), waveforms, places_um, num_before)
        else:
            arrangement_of_spike = arrangement_of_channel[batch["channel_index"]]
            for arrangement in np.unique(arrangement_of_spike):
                rows = np.flatnonzero(arrangement_of_spike == arrangement)
                # ExtractSparseWaveforms orders channels by their indices, and so does the mask
                yield WaveformBatch(start + rows, waveforms[rows], arrangements[arrangement], num_before)
        del waveforms  # before the next batch is extracted


def _arrangements(positions_um: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How channels lie around a channel: contacts (num_arrangements, num_near, 2) um from the first, and which of them.

    A probe repeats itself along its shank, so that few arrangements are found around hundreds of channels.
    """
    places_um = np.stack([positions_um[is_near] for is_near in near])
    places_um = np.round(places_um - places_um[:, :1], 3)
    arrangements_um, arrangement = np.unique(places_um, axis=0, return_inverse=True)
    return arrangements_um, arrangement.ravel()


def has_whole_snippet(spikes: np.ndarray, recording: BaseRecording, parameters: SortingParameters) -> np.ndarray:
    """Which spikes are far enough from both ends of their segment for a whole snippet.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With fields sample_index and segment_index.
    recording : BaseRecording
        Recording of the spikes.
    parameters : SortingParameters
        The window.

    Returns
    -------
    ndarray of bool, (num_spikes,)
    """
    sampling_frequency = recording.get_sampling_frequency()
    num_before = parameters.num_samples_before(sampling_frequency)
    num_after = parameters.num_samples(sampling_frequency) - num_before
    ends = np.array([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    samples = spikes["sample_index"]
    return (samples >= num_before) & (samples + num_after <= ends[spikes["segment_index"]])


def align_to_trough(
    batch: WaveformBatch, *, num_phases: int = NUM_PHASES, num_lobes: int = LANCZOS_LOBES
) -> WaveformBatch:
    """Move each snippet by a fraction of a sample, so that its extremum between the samples is at the peak index.

    A spike falls between two samples. Its trough can be half a sample away from its peak index, which at low rates
    changes a snippet more than noise does: one neuron would have a cluster for each phase.

    Parameters
    ----------
    batch : WaveformBatch
        The extremum of each snippet at the peak index is that of a spike, of either sign.
    num_phases : int
        Steps in which a sample is divided.
    num_lobes : int
        Samples on both sides from which a value between samples is interpolated (Lanczos; Duchon 1979).

    Returns
    -------
    WaveformBatch
        Extrema within one sample of the peak index are moved there; no snippet depends on another one.
    """
    waveforms, peak = batch.waveforms, batch.peak_index
    num_spikes, num_samples, _ = waveforms.shape
    channels = np.abs(waveforms[:, peak]).argmax(axis=1)
    traces = waveforms[np.arange(num_spikes), :, channels]
    shifts = np.arange(-num_phases, num_phases + 1) / num_phases
    values = traces @ _lanczos(peak + shifts, num_samples, num_lobes).T
    best = (np.sign(traces[:, peak])[:, None] * values).argmax(axis=1)
    moved = waveforms.copy()
    for phase in np.unique(best[shifts[best] != 0]):
        matrix = _lanczos(np.arange(num_samples) + shifts[phase], num_samples, num_lobes)
        moved[best == phase] = np.matmul(matrix, waveforms[best == phase])
    return replace(batch, waveforms=moved)


def _lanczos(wanted: np.ndarray, num_samples: int, num_lobes: int) -> np.ndarray:
    """Weights (num_wanted, num_samples) float32 that interpolate at the times `wanted`, in samples."""
    lags = wanted[:, None] - np.arange(num_samples)
    weights = np.sinc(lags) * np.sinc(lags / num_lobes) * (np.abs(lags) < num_lobes)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def nearest_channels(recording: BaseRecording, num_channels: int) -> np.ndarray:
    """For every channel, the channels nearest to it, itself among them.

    Parameters
    ----------
    recording : BaseRecording
        With contacts.
    num_channels : int
        Number of nearest channels; all where there are fewer.

    Returns
    -------
    ndarray of bool, (num_recording_channels, num_recording_channels)
        Exactly min(num_channels, num_recording_channels) of every row are True.
    """
    distances = get_channel_distances(recording)
    order = np.argsort(distances, axis=1, kind="stable")[:, :num_channels]
    mask = np.zeros(distances.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def mean_waveforms(
    recording: BaseRecording,
    spike_vector: np.ndarray,
    num_units: int,
    parameters: SortingParameters,
    *,
    mask: np.ndarray | None = None,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Templates of units: the mean waveforms of their spikes.

    Threads read the traces, and spikes are added in their order: SpikeInterface's `estimate_templates_with_accumulator`
    adds those of each worker apart, so that the last digits differ from run to run.

    Parameters
    ----------
    recording : BaseRecording
        Filtered traces.
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector, in order of time within segments.
    num_units : int
        Number of units of the spike vector.
    parameters : SortingParameters
        The window.
    mask : ndarray of bool, (num_units, num_recording_channels), optional
        Channels of each unit; by default all.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    ndarray of float32, (num_units, num_samples, num_channels)
        In the unit of the traces; zeros for a unit without spikes. With a mask, the channels of each unit in their
        order, then zeros up to the largest number of channels.
    """
    sampling_frequency = recording.get_sampling_frequency()
    num_before = parameters.num_samples_before(sampling_frequency)
    num_samples = parameters.num_samples(sampling_frequency)
    num_channels = recording.get_num_channels() if mask is None else int(mask.sum(axis=1).max(initial=0))
    means = np.zeros((num_units, num_samples, num_channels), dtype="float32")

    def read(rows: slice) -> tuple[int, np.ndarray]:
        return _read_around(recording, spike_vector[rows], num_before, num_samples)

    parts = _parts_of_spikes(spike_vector, max(1, READ_BYTES // (4 * recording.get_num_channels())))
    for rows, (start, traces) in map_in_threads(read, parts, resolve_job_kwargs(job_kwargs)["n_jobs"]):
        begins = spike_vector["sample_index"][rows] - num_before - start
        for begin, unit in zip(begins.tolist(), spike_vector["unit_index"][rows].tolist(), strict=True):
            snippet = traces[begin : begin + num_samples]
            if mask is None:
                means[unit] += snippet
            else:
                its = snippet[:, mask[unit]]
                means[unit, :, : its.shape[1]] += its
    means /= np.maximum(np.bincount(spike_vector["unit_index"], minlength=num_units), 1)[:, None, None]
    return means


def _read_around(
    recording: BaseRecording, spikes: np.ndarray, num_before: int, num_samples: int
) -> tuple[int, np.ndarray]:
    """First sample and traces (num_samples, num_channels) of the snippets of spikes of one segment, in order of time.

    What lies beyond the segment is zeros.
    """
    segment, (first, last) = int(spikes["segment_index"][0]), spikes["sample_index"][[0, -1]].tolist()
    start, end = first - num_before, last - num_before + num_samples
    limits = max(start, 0), min(end, recording.get_num_samples(segment))
    traces = recording.get_traces(segment_index=segment, start_frame=limits[0], end_frame=limits[1])
    if limits == (start, end):  # as nearly always; padding copies
        return start, traces
    return start, np.pad(traces, ((limits[0] - start, end - limits[1]), (0, 0)))


def _parts_of_spikes(spike_vector: np.ndarray, num_samples: int) -> list[slice]:
    """Rows of the spikes of each part of `num_samples` samples of each segment that has any."""
    part = spike_vector["sample_index"] // num_samples
    is_first = np.diff(part, prepend=-1) != 0
    is_first |= np.diff(spike_vector["segment_index"], prepend=-1) != 0
    starts = np.flatnonzero(is_first).tolist()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(spike_vector)], strict=True)]


def robust_waveforms(
    recording: BaseRecording,
    spike_vector: np.ndarray,
    num_units: int,
    parameters: SortingParameters,
    *,
    num_means: int,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Templates of units that a few spikes in artefacts do not shift: medians of the means of subsets.

    A median over all spikes would hold all snippets in memory. The median of means (Nemirovsky, Yudin 1983) needs one
    pass, and bears as many bad spikes as half of its means.

    Parameters
    ----------
    recording, spike_vector, num_units, parameters, job_kwargs
        As `mean_waveforms`.
    num_means : int
        Number of subsets; one a spike for a unit with fewer.

    Returns
    -------
    ndarray of float32, (num_units, num_samples, num_channels)
        In the unit of the traces; zeros for a unit without spikes.
    """
    units = spike_vector["unit_index"]
    order = np.argsort(units, kind="stable")
    counts = np.bincount(units, minlength=num_units)
    number = np.empty(len(units), dtype="int64")  # of each spike among those of its unit
    number[order] = np.arange(len(units)) - np.repeat(np.cumsum(counts) - counts, counts)
    vector = spike_vector.copy()
    vector["unit_index"] = units * num_means + number % num_means
    means = mean_waveforms(recording, vector, num_units * num_means, parameters, job_kwargs=job_kwargs)
    means = means.reshape(num_units, num_means, *means.shape[1:])
    templates = np.zeros((num_units, *means.shape[2:]), dtype="float32")
    for unit, each in enumerate(means):
        if counts[unit]:
            templates[unit] = np.median(each[: counts[unit]], axis=0)
    return templates


def to_spike_vector(peaks: np.ndarray, unit_index: np.ndarray) -> np.ndarray:
    """Peaks and their units as SpikeInterface's spike vector.

    Parameters
    ----------
    peaks : ndarray, (num_spikes,)
        With fields sample_index and segment_index.
    unit_index : ndarray of int, (num_spikes,)
        Unit of each.

    Returns
    -------
    ndarray, (num_spikes,)
        Fields sample_index, unit_index and segment_index.
    """
    spikes = np.zeros(len(peaks), dtype=minimum_spike_dtype)
    spikes["sample_index"] = peaks["sample_index"]
    spikes["segment_index"] = peaks["segment_index"]
    spikes["unit_index"] = unit_index
    return spikes


def _extract(
    recording: BaseRecording, spikes: np.ndarray, window: dict, mask: np.ndarray | None, job_kwargs: dict
) -> np.ndarray:
    """Snippets (num_spikes, num_samples, num_channels), extracted by SpikeInterface chunk by chunk."""
    source = PeakRetriever(recording, spikes)
    if mask is None:
        node = ExtractDenseWaveforms(recording, parents=[source], return_output=True, **window)
    else:
        node = ExtractSparseWaveforms(recording, parents=[source], return_output=True, sparsity_mask=mask, **window)
    return run_node_pipeline(recording, [source, node], job_kwargs=job_kwargs, job_name="extract waveforms")
