"""Bad channels: flat, duplicated and noisy ones are removed, doubtful ones are named in the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import BaseRecording

from .job_kwargs import resolve_job_kwargs
from .noise_levels import NoiseLevelSettings, channel_medians, draw_chunks, read_chunks
from .run_log import RunLog

DOUBTS = {"dead": "that look dead (unlike their neighbours)", "out": "that look as if outside of the brain"}


@dataclass(frozen=True)
class BadChannelSettings:
    """When a channel is bad.

    Attributes
    ----------
    flat_ratio : float
        A channel is flat whose standard deviation is at most this times that of the median channel.
    duplicate_correlation : float
        Two channels are duplicates whose correlation is larger: two amplifiers never agree so well.
    noisy_ratio : float
        A channel is noisy whose median absolute deviation is more than this times that of the median channel, as
        method="mad" of SpikeInterface's `detect_bad_channels`.
    clipped_samples, min_clipped : int
        A channel is clipped that stays at its highest or lowest value for so many samples, so many times in the chunks.
        No spike has the same value three times at its peak, except where steps are as large as the noise.
    max_step_ratio : float
        Samples are too coarse whose smallest step is larger than this times the standard deviation between successive
        samples (divided by the root of 2).
    min_coherence_channels : int
        Smallest group on which `detect_bad_channels` compares neighbours.
    min_coherence_s : float
        Shortest recording on which it does.
    num_coherence_chunks : int
        Chunks of 0.3 s that it reads.
    """

    flat_ratio: float = 1e-3
    duplicate_correlation: float = 0.9995
    noisy_ratio: float = 5.0
    clipped_samples: int = 3
    min_clipped: int = 3
    max_step_ratio: float = 2.5
    min_coherence_channels: int = 32
    min_coherence_s: float = 10.0
    num_coherence_chunks: int = 25


BAD_CHANNELS = BadChannelSettings()
COPY_CHUNKS = NoiseLevelSettings(chunk_s=0.05)


def useful_channels(
    traces: np.ndarray,
    recording: BaseRecording,
    name: object,
    log: RunLog,
    *,
    is_placed: bool,
    seed: int,
    settings: BadChannelSettings = BAD_CHANNELS,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Find the channels of a group that can be sorted.

    Flat channels, duplicates, channels whose noise is over five times that of the median channel, and channels that
    SpikeInterface's `detect_bad_channels` (method "coherence+psd": International Brain Laboratory 2022,
    https://doi.org/10.6084/m9.figshare.19705522) labels "noise" are removed. Those that it labels "dead" or "out" are
    named in the log and kept, for it labels active channels "dead" now and then.

    Parameters
    ----------
    traces : ndarray, (num_samples, num_channels)
        Filtered chunks of the recording.
    recording : BaseRecording
        The group as stored; `detect_bad_channels` reads it where it has 32 channels or more, gains and 10 s.
    name : object
        Name of the group, for the log.
    log : RunLog
        Receives a warning for every channel that is removed or doubtful.
    is_placed : bool
        The contact positions are those of the recording, not default ones.
    seed : int
        Of the chunks that `detect_bad_channels` reads.
    settings : BadChannelSettings
        Thresholds.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    ndarray of int
        Indices of the channels to sort.
    """
    channel_ids = recording.channel_ids
    kept = _remove_flat(traces, channel_ids, name, log, settings)
    kept = _remove_duplicates(traces, kept, channel_ids, name, log, settings)
    noisy = _noisy(traces, kept, settings)
    if is_placed and _has_neighbours(recording, kept, settings):
        _, labels = spre.detect_bad_channels(
            _as_signed(recording).select_channels(channel_ids[kept]),
            method="coherence+psd",
            seed=seed,
            num_random_chunks=settings.num_coherence_chunks,
            job_kwargs=resolve_job_kwargs(job_kwargs),
        )
        noisy |= labels == "noise"
        _log_doubts(labels, channel_ids[kept], name, log)
    if noisy.any():
        found = ", ".join(str(each) for each in channel_ids[kept[noisy]])
        log.warning("preprocessing", f"group {name}: noisy channels removed: {found}")
    return kept[~noisy]


def copied_channels(recording: BaseRecording, groups: np.ndarray, log: RunLog) -> np.ndarray:
    """Find channels that repeat, sample by sample, one of another group: their spikes would be sorted twice.

    Parameters
    ----------
    recording : BaseRecording
        All groups, as stored.
    groups : ndarray, (num_channels,)
        Group of each channel.
    log : RunLog
        Receives a warning with their names.

    Returns
    -------
    ndarray of bool, (num_channels,)
        The first one of several equal channels is none of them.
    """
    is_copy = np.zeros(len(groups), dtype=bool)
    if len(set(groups.tolist())) < 2:
        return is_copy
    traces = np.concatenate(read_chunks(recording, draw_chunks(recording, settings=COPY_CHUNKS)))
    firsts: dict[bytes, int] = {}
    for channel, column in enumerate(np.ascontiguousarray(traces.T)):
        first = firsts.setdefault(column.tobytes(), channel)
        is_copy[channel] = groups[channel] != groups[first] and np.ptp(column) > 0
    if is_copy.any():
        copies = zip(recording.channel_ids[is_copy], groups[is_copy], strict=True)
        found = ", ".join(f"{channel} (group {group})" for channel, group in copies)
        log.warning(
            "preprocessing",
            f"expected each channel in one group, found channels that repeat one of another group: {found}; they are "
            "removed, but a neuron near them may still be a unit of both groups: give channels that share spikes the "
            "same value of the property 'group'",
        )
    return is_copy


def log_clipped(
    traces: list[np.ndarray],
    active: list[np.ndarray],
    recording: BaseRecording,
    name: object,
    log: RunLog,
    *,
    settings: BadChannelSettings = BAD_CHANNELS,
) -> None:
    """Warn of channels whose spikes are cut off at the limits of the amplifier or of the stored numbers.

    Parameters
    ----------
    traces : list of ndarray, (num_samples, num_channels)
        Chunks of the recording as stored.
    active : list of ndarray of bool, (num_samples,)
        Samples that are not blanked.
    recording : BaseRecording
        Its channel ids are read.
    name : object
        Name of the group, for the log.
    log : RunLog
        Receives the warning.
    settings : BadChannelSettings
        What is clipped.
    """
    chunks = [chunk[is_active] for chunk, is_active in zip(traces, active, strict=True) if is_active.any()]
    limits = [np.max([each.max(axis=0) for each in chunks], 0), np.min([each.min(axis=0) for each in chunks], 0)]
    num_clipped = np.zeros(recording.get_num_channels(), dtype="int64")
    for chunk in chunks:
        for limit in limits:
            is_at_limit = chunk == limit
            counts = np.count_nonzero(is_at_limit, axis=0)
            # a limit at which a channel mostly is, is the rest of a simulation without noise, or of a flat channel
            is_looked_at = (counts >= settings.clipped_samples) & (counts < 0.1 * len(chunk))
            for channel in np.flatnonzero(is_looked_at):
                edges = np.flatnonzero(np.diff(is_at_limit[:, channel], prepend=False, append=False)).reshape(-1, 2)
                num_clipped[channel] += (np.diff(edges, axis=1) >= settings.clipped_samples).sum()
    clipped = np.flatnonzero(num_clipped >= settings.min_clipped)
    if len(clipped):
        found = ", ".join(str(each) for each in recording.channel_ids[clipped])
        log.warning(
            "preprocessing",
            f"group {name}: channels clipped at their largest or smallest value: {found}; amplitudes of larger spikes "
            "are too small, and their units may not be told apart",
        )


def log_coarse(
    traces: list[np.ndarray],
    active: list[np.ndarray],
    name: object,
    log: RunLog,
    *,
    settings: BadChannelSettings = BAD_CHANNELS,
) -> None:
    """Warn where the steps of the numbers are larger than the noise, as with an offset of 1e8 times the noise.

    Parameters
    ----------
    traces, active, name, log
        As `log_clipped`; the chunk with most samples that are not blanked is looked at.
    settings : BadChannelSettings
        What is too coarse.
    """
    chunk, is_active = max(zip(traces, active, strict=True), key=lambda each: each[1].sum())
    stored = chunk[is_active]
    values = stored.astype("float32")  # in which all is computed
    steps = np.diff(np.sort(values, axis=0), axis=0)
    smallest = np.min(steps, axis=0, where=steps > 0, initial=np.inf)
    noise = np.diff(values, axis=0).std(axis=0, dtype="float64") / np.sqrt(2)
    is_seen = (noise > 0) & np.isfinite(smallest)
    ratio = float(np.median(smallest[is_seen] / noise[is_seen])) if is_seen.any() else 0.0
    if (np.ptp(stored, axis=0) > 0)[np.ptp(values, axis=0) == 0].any():  # nothing is left of them
        ratio = np.inf
    if ratio > settings.max_step_ratio:
        log.warning(
            "preprocessing",
            f"group {name}: expected numbers in steps smaller than the noise, found steps of {ratio:.1f} times the "
            "noise: small spikes and amplitudes are rounded away; record with a larger gain, or, where an offset is so "
            "large that single precision does not hold the noise, subtract it before",
        )


def _log_doubts(labels: np.ndarray, channel_ids: np.ndarray, name: object, log: RunLog) -> None:
    for label, doubt in DOUBTS.items():
        if (labels == label).any():
            found = ", ".join(str(each) for each in channel_ids[labels == label])
            message = f"group {name}: channels {doubt}: {found}; they are sorted, bad_channel_ids removes them"
            log.warning("preprocessing", message)


def _remove_flat(
    traces: np.ndarray, channel_ids: np.ndarray, name: object, log: RunLog, settings: BadChannelSettings
) -> np.ndarray:
    """Indices of the channels that are not flat."""
    deviation = traces.std(axis=0, dtype="float64")
    usual = np.median(deviation[deviation > 0]) if np.any(deviation > 0) else 0.0
    alive = np.flatnonzero(deviation > settings.flat_ratio * usual)
    if len(alive) < len(channel_ids):
        flat = [str(channel_ids[index]) for index in np.setdiff1d(np.arange(len(channel_ids)), alive)]
        log.warning("preprocessing", f"group {name}: flat channels removed: {', '.join(flat)}")
    return alive


def _remove_duplicates(
    traces: np.ndarray,
    alive: np.ndarray,
    channel_ids: np.ndarray,
    name: object,
    log: RunLog,
    settings: BadChannelSettings,
) -> np.ndarray:
    """Those of the channels `alive` that duplicate none before them."""
    if len(alive) < 2:
        return alive
    duplicates = np.triu(np.abs(np.corrcoef(traces[:, alive].T)) > settings.duplicate_correlation, k=1)
    is_duplicate = duplicates.any(axis=0)
    for index in np.flatnonzero(is_duplicate):
        source = channel_ids[alive[np.flatnonzero(duplicates[:, index])[0]]]
        duplicate = channel_ids[alive[index]]
        log.warning("preprocessing", f"group {name}: channel {duplicate} removed, a duplicate of {source}")
    return alive[~is_duplicate]


def _noisy(traces: np.ndarray, kept: np.ndarray, settings: BadChannelSettings) -> np.ndarray:
    """Which of the channels are noisy; none of fewer than three, among which the median tells nothing."""
    if len(kept) < 3:
        return np.zeros(len(kept), dtype=bool)
    noise = channel_medians(np.abs(traces[:, kept]))
    return noise > settings.noisy_ratio * np.median(noise)


def _as_signed(recording: BaseRecording) -> BaseRecording:
    """SpikeInterface filters no unsigned numbers, which Intan's files have."""
    return spre.astype(recording, "float32") if recording.get_dtype().kind == "u" else recording


def _has_neighbours(recording: BaseRecording, kept: np.ndarray, settings: BadChannelSettings) -> bool:
    """Whether enough channels were recorded for long enough to compare neighbours."""
    return bool(
        len(kept) >= settings.min_coherence_channels
        and recording.has_scaleable_traces()
        and recording.get_total_duration() >= settings.min_coherence_s
    )
