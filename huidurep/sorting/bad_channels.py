"""Channels that spoil others: flat, copied and noisy ones are left out, doubtful ones are named in the log."""

from __future__ import annotations

import numpy as np
import spikeinterface.preprocessing as spre

from .jobs import get_job_kwargs
from .run_log import RunLog

FLAT_RATIO = 1e-3  # a channel whose sd is this small beside the median channel is dead
DUPLICATE_CORRELATION = 0.9995  # two amplifiers never agree so well
NOISY_RATIO = 5.0  # as method="mad" of SpikeInterface's detect_bad_channels
LOOKED_AT_CHANNELS = 32  # fewer say too little of how alike neighbours are
LOOKED_AT_S = 10.0
NUM_CHUNKS = 50  # of 0.3 s
DOUBTS = {"dead": "look dead (unlike their neighbours)", "out": "look as if they lay outside of the tissue"}


def useful_channels(traces: np.ndarray, recording, name, log: RunLog, *, is_placed: bool, seed: int) -> np.ndarray:
    """Decide which channels of a group are sorted.

    Left out are channels that are flat, that repeat another one, whose noise is over five times that of the median
    channel, or that SpikeInterface's `detect_bad_channels` (method "coherence+psd": International Brain Laboratory
    2022, https://doi.org/10.6084/m9.figshare.19705522) calls noise. What it calls dead or outside of the tissue is
    named in the log and sorted all the same, for it takes active channels for dead ones now and then.

    Parameters
    ----------
    traces : ndarray, (num_samples, num_channels)
        Filtered pieces of the recording.
    recording : BaseRecording
        The group as stored; `detect_bad_channels` reads it where it has 32 channels or more, gains and 10 s.
    name : object
        Of the group, for the log.
    log : RunLog
        Told of every channel.
    is_placed : bool
        The contacts are where the recording says.
    seed : int
        Where `detect_bad_channels` looks.

    Returns
    -------
    ndarray of int
        Indices of the channels to sort.
    """
    channel_ids = recording.channel_ids
    kept = _without_flat(traces, channel_ids, name, log)
    kept = _without_copies(traces, kept, channel_ids, name, log)
    noisy = _noisy(traces, kept)
    if is_placed and _can_be_looked_at(recording, kept):
        labels = _labels(recording.select_channels(channel_ids[kept]), seed)
        noisy |= labels == "noise"
        for label, doubt in DOUBTS.items():
            if (labels == label).any():
                found = ", ".join(str(each) for each in channel_ids[kept[labels == label]])
                log.warning(
                    "preprocessing",
                    f"group {name}: channels that {doubt}: {found}; they are sorted all the same, "
                    "bad_channel_ids leaves them out",
                )
    if noisy.any():
        found = ", ".join(str(each) for each in channel_ids[kept[noisy]])
        log.warning("preprocessing", f"group {name}: noisy channels left out: {found}")
    return kept[~noisy]


def _without_flat(traces: np.ndarray, channel_ids, name, log: RunLog) -> np.ndarray:
    """Indices of the channels that are not flat."""
    deviation = traces.std(axis=0, dtype="float64")
    usual = np.median(deviation[deviation > 0]) if np.any(deviation > 0) else 0.0
    alive = np.flatnonzero(deviation > FLAT_RATIO * usual)
    if len(alive) < len(channel_ids):
        dead = [str(channel_ids[index]) for index in np.setdiff1d(np.arange(len(channel_ids)), alive)]
        log.warning("preprocessing", f"group {name}: flat channels left out: {', '.join(dead)}")
    return alive


def _without_copies(traces: np.ndarray, alive: np.ndarray, channel_ids, name, log: RunLog) -> np.ndarray:
    """Those of the channels `alive` that repeat none before them."""
    if len(alive) < 2:
        return alive
    copies = np.triu(np.abs(np.corrcoef(traces[:, alive].T)) > DUPLICATE_CORRELATION, k=1)
    is_copy = copies.any(axis=0)
    for index in np.flatnonzero(is_copy):
        source = channel_ids[alive[np.flatnonzero(copies[:, index])[0]]]
        log.warning("preprocessing", f"group {name}: channel {channel_ids[alive[index]]} repeats {source}: left out")
    return alive[~is_copy]


def _noisy(traces: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which of the channels have far more noise than the median one; with fewer than three there is no usual noise."""
    if len(kept) < 3:
        return np.zeros(len(kept), dtype=bool)
    noise = np.median(np.abs(traces[:, kept]), axis=0)
    return noise > NOISY_RATIO * np.median(noise)


def _can_be_looked_at(recording, kept: np.ndarray) -> bool:
    return bool(
        len(kept) >= LOOKED_AT_CHANNELS
        and recording.has_scaleable_traces()
        and recording.get_total_duration() >= LOOKED_AT_S
    )


def _labels(recording, seed: int) -> np.ndarray:
    """What SpikeInterface thinks of each channel: good, noise, dead or out."""
    options = {"seed": seed, "num_random_chunks": NUM_CHUNKS, "job_kwargs": get_job_kwargs()}
    return np.asarray(spre.detect_bad_channels(recording, method="coherence+psd", **options)[1])
