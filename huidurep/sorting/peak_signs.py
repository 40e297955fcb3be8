"""Whether the spikes of a group point down, up, or both: decided from the data, before anything is detected.

Most spikes point down. Spikes of inverted inputs, of axons and of some microwires point up. Every spike that points
down has an after-wave that points up, on other contacts also returning currents, so that a deflection alone is no
evidence: what counts are large ones without a larger deflection of the other sign around them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from spikeinterface.core import BaseRecording, get_channel_distances
from spikeinterface.sortingcomponents.peak_detection import detect_peaks

from ..clustering.disk_arrays import iterate_blocks, release, zeros_on_disk
from .job_kwargs import resolve_job_kwargs
from .parameters import SortingParameters
from .preprocessing import PreparedGroup
from .run_log import RunLog
from .waveforms import has_whole_snippet, mean_waveforms, to_spike_vector

if TYPE_CHECKING:
    from .clustering import Assignment, UnitModel

SIGNS = {"neg": -1, "pos": 1}


@dataclass(frozen=True)
class PeakSignSettings:
    """What counts as evidence of spikes of one sign, and which deflections are part of another spike.

    Attributes
    ----------
    noise_levels : float
        Smallest deflections that are evidence; noise makes as many of both signs below it.
    sweep_ms, radius_um : float
        Evidence is the largest deflection of either sign within this time and distance.
    min_share : float
        Spikes of a sign are looked for on a channel where their number, within the radius of detection, is at least
        `min_unit_spikes` and this share of that of the other sign. Overlaps of after-waves make a share of 0.006 on
        development tetrodes.
    max_return_ratio : float
        Deflections whose mean waveform has, beyond the radius of detection, a simultaneous deflection of the other sign
        this many times as large are returning currents of a neuron there.
    return_ms : float
        How simultaneous.
    part_of_spike_ms : float
        Within this time and the radius of detection, a deflection is part of a larger one of the other sign.
    max_residual : float
        A unit that points down and one that points up are one neuron, whose two deflections are about as large, where
        their mean waveforms differ by at most this share of their power at the best shift within `part_of_spike_ms`.
    single_site_channels : int
        Groups of up to this many channels see every spike together: a peak excludes smaller ones on all channels.
    """

    noise_levels: float = 6.0
    sweep_ms: float = 1.5
    radius_um: float = 250.0
    min_share: float = 0.0125
    max_return_ratio: float = 0.4
    return_ms: float = 0.2
    part_of_spike_ms: float = 1.0
    max_residual: float = 0.1
    single_site_channels: int = 4


PEAK_SIGNS = PeakSignSettings()


def find_signs(
    group: PreparedGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: PeakSignSettings = PEAK_SIGNS,
    job_kwargs: dict | None = None,
) -> PreparedGroup:
    """Decide which sign the spikes of a group have, and on which channels.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    parameters : SortingParameters
        `peak_sign`, `radius_um`, `min_unit_spikes` and the window are read.
    log : RunLog
        Receives the signs that were found.
    settings : PeakSignSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    PreparedGroup
        With `sign_channels`. Where only one sign has evidence, its spikes are looked for on all channels; where both
        have, the less frequent one on the channels around its evidence. Without any, the more frequent one.
    """
    if group.sign_channels is not None:
        return group
    everywhere = np.ones(group.recording.get_num_channels(), dtype=bool)
    if parameters.peak_sign != "auto":
        return replace(group, sign_channels={SIGNS[parameters.peak_sign]: everywhere})
    peaks = _large_deflections(group, settings, job_kwargs)
    counts = {sign: np.count_nonzero(np.sign(peaks["amplitude"]) == sign) for sign in (-1, 1)}
    main = 1 if counts[1] > counts[-1] else -1
    is_one_site = len(everywhere) <= settings.single_site_channels
    near = (get_channel_distances(group.recording) <= parameters.radius_um) | is_one_site
    shown = {sign: _channels_of(sign, peaks, near, group, parameters, settings, job_kwargs) for sign in (-1, 1)}
    # the more frequent sign is that of most noise and far neurons: it has spikes wherever there is one
    found = {main: everywhere} if shown[main].any() or not shown[-main].any() else {}
    if shown[-main].any():
        found[-main] = shown[-main] if found else everywhere
    words = {-1: "down", 1: "up"}
    texts = [f"{words[sign]} on {int(found[sign].sum())} of {len(everywhere)} channels" for sign in sorted(found)]
    numbers = f"{counts[-1]} troughs and {counts[1]} peaks above {settings.noise_levels:g} noise levels"
    log("detection", f"group {group.name}: spikes point {' and '.join(texts)} ({numbers})")
    return replace(group, sign_channels=found)


def _large_deflections(group: PreparedGroup, settings: PeakSignSettings, job_kwargs: dict | None) -> np.ndarray:
    """Peaks of either sign that are the largest around them."""
    is_one_site = group.recording.get_num_channels() <= settings.single_site_channels
    radius_um = np.inf if is_one_site else settings.radius_um
    method_kwargs = dict(
        peak_sign="both",
        detect_threshold=settings.noise_levels,
        exclude_sweep_ms=settings.sweep_ms,
        radius_um=radius_um,
        noise_levels=group.noise_levels_uv,
    )
    return detect_peaks(
        group.recording,
        method="locally_exclusive",
        method_kwargs=method_kwargs,
        job_kwargs=resolve_job_kwargs(job_kwargs),
    )


def _channels_of(
    sign: int,
    peaks: np.ndarray,
    near: np.ndarray,
    group: PreparedGroup,
    parameters: SortingParameters,
    settings: PeakSignSettings,
    job_kwargs: dict | None,
) -> np.ndarray:
    """Channels (num_channels,) bool around which there are spikes of a sign that nothing else explains."""
    is_own = np.sign(peaks["amplitude"]) == sign
    own, other = (near @ np.bincount(peaks["channel_index"][rows], minlength=len(near)) for rows in (is_own, ~is_own))
    enough = (own >= parameters.min_unit_spikes) & (own >= settings.min_share * other)
    rows = np.flatnonzero(is_own & enough[peaks["channel_index"]])
    if len(rows) == 0:
        return np.zeros(len(near), dtype=bool)
    rows = rows[np.lexsort((peaks["sample_index"][rows], peaks["segment_index"][rows]))]
    channels, index = np.unique(peaks["channel_index"][rows], return_inverse=True)
    vector = to_spike_vector(peaks[rows], index)
    means = sign * mean_waveforms(group.recording, vector, len(channels), parameters, job_kwargs=job_kwargs)
    rate_hz = group.recording.get_sampling_frequency()
    before, reach = parameters.num_samples_before(rate_hz), int(np.ceil(settings.return_ms * rate_hz / 1000.0))
    around = means[:, max(0, before - reach) : before + reach + 1]
    largest = np.where(near[channels], 0.0, -around.min(axis=1)).max(axis=1, initial=0.0)
    height = means[np.arange(len(channels)), before, channels]
    is_spike = largest < settings.max_return_ratio * height
    return near[channels[is_spike]].any(axis=0)


def merge_signs(
    by_sign: list[np.ndarray], recording: BaseRecording, *, radius_um: float, settings: PeakSignSettings = PEAK_SIGNS
) -> np.ndarray:
    """Peaks of both signs, each spike once: without those that are part of a larger deflection of the other sign.

    Template matching finds the spikes that truly overlap a larger one of the other sign.

    Parameters
    ----------
    by_sign : list of ndarray, (num_peaks,)
        SpikeInterface's peak dtype, of one sign each.
    recording : BaseRecording
        The recording of the peaks, with contacts.
    radius_um : float
        Of one site.
    settings : PeakSignSettings

    Returns
    -------
    ndarray, (num_peaks,)
        In order of time within segments.
    """
    peaks = np.concatenate(by_sign)
    peaks = peaks[np.lexsort((peaks["sample_index"], peaks["segment_index"]))]
    if len(by_sign) == 1:
        return peaks
    near = get_channel_distances(recording) <= radius_um
    max_lag = int(settings.part_of_spike_ms * recording.get_sampling_frequency() / 1000.0)
    size, is_part = np.abs(peaks["amplitude"]), np.zeros(len(peaks), dtype=bool)
    for step in range(1, len(peaks)):
        first, second = peaks[:-step], peaks[step:]
        is_close = (first["segment_index"] == second["segment_index"]) & (
            second["sample_index"] - first["sample_index"] <= max_lag
        )
        if not is_close.any():
            break
        is_pair = is_close & (first["amplitude"] * second["amplitude"] < 0)
        is_pair &= near[first["channel_index"], second["channel_index"]]
        rows = np.flatnonzero(is_pair)
        is_part[np.where(size[rows] < size[rows + step], rows, rows + step)] = True
    return peaks[~is_part]


def unit_signs(spikes: np.ndarray, labels: np.ndarray, num_units: int) -> np.ndarray:
    """Sign of each unit: that of most of its spikes.

    Parameters
    ----------
    spikes : ndarray, (num_spikes,)
        With the field amplitude, which has the sign of the spike.
    labels : ndarray of int, (num_spikes,)
        Unit of each spike, -1 for none.
    num_units : int

    Returns
    -------
    ndarray of int, (num_units,)
        -1, 1, or 0 for a unit without spikes.
    """
    has_unit = labels >= 0
    signs = np.sign(spikes["amplitude"][has_unit])
    return np.sign(np.bincount(labels[has_unit], signs, minlength=num_units)).astype("int64")


def join_signs(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: UnitModel,
    assignment: Assignment,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: PeakSignSettings = PEAK_SIGNS,
    job_kwargs: dict | None = None,
) -> tuple[np.ndarray, UnitModel, Assignment]:
    """Join the two units of a neuron whose deflections down and up are about as large; noise had chosen for each spike.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype, with the sign of the spike in the amplitude.
    units : UnitModel
    assignment : Assignment
        Unit and posterior of each peak.
    parameters : SortingParameters
        The window. Nothing is joined where `num_units` is given.
    log : RunLog
        Receives the number of joined units.
    settings : PeakSignSettings
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    peaks : ndarray, (num_peaks,)
        Those of a joined unit are moved to the deflection of the larger one, in order of time within segments.
    units : UnitModel
    assignment : Assignment
    """
    labels, signs = assignment.labels, unit_signs(peaks, assignment.labels, units.num_units)
    if parameters.num_units is not None or not ((signs > 0).any() and (signs < 0).any()):
        return peaks, units, assignment
    rows = np.flatnonzero(labels >= 0)
    vector = to_spike_vector(peaks[rows], labels[rows])
    templates = mean_waveforms(group.recording, vector, units.num_units, parameters, job_kwargs=job_kwargs)
    reach = int(settings.part_of_spike_ms * group.recording.get_sampling_frequency() / 1000.0)
    pairs = _same_neurons(templates, signs, np.bincount(labels[rows], minlength=units.num_units), reach, settings)
    peaks, labels = peaks.copy(), labels.copy()
    for small, (unit, shift) in pairs.items():
        its = np.flatnonzero(labels == small)
        peaks["sample_index"][its] += shift
        peaks["amplitude"][its] *= -1
        peaks["channel_index"][its], labels[its] = units.unit_channels[unit], unit
    merges = {small: unit for small, (unit, _) in pairs.items()}
    log("clustering", f"group {group.name}: {len(merges)} units joined with one of the other sign")
    order = np.lexsort((peaks["sample_index"], peaks["segment_index"]))
    order = order[has_whole_snippet(peaks[order], group.recording, parameters)]
    joined = replace(assignment, labels=labels[order], posteriors=assignment.posteriors[order])
    return peaks[order], units.merged(merges), joined


def _same_neurons(
    templates: np.ndarray, signs: np.ndarray, counts: np.ndarray, reach: int, settings: PeakSignSettings
) -> dict[int, tuple[int, int]]:
    """For the smaller unit of each pair that is one neuron, the larger one, of the other sign, and the shift to it."""
    found: dict[int, tuple[int, int]] = {}
    for small in sorted(np.flatnonzero(signs).tolist(), key=lambda unit: counts[unit]):
        others = [unit for unit in np.flatnonzero(signs == -signs[small]).tolist() if unit not in found]
        larger = [unit for unit in others if (counts[unit], unit) > (counts[small], small)]
        fits = [(*_residual(templates[unit], templates[small], reach), unit) for unit in larger]
        residual, shift, unit = min(fits, default=(np.inf, 0, 0))
        if residual <= settings.max_residual:
            found[small] = (unit, shift)
    return found


def _residual(template: np.ndarray, other: np.ndarray, reach: int) -> tuple[float, int]:
    """Share of the power in which two templates differ, and the shift that makes the second one like the first."""
    num_samples = len(template)
    found = []
    for shift in range(-reach, reach + 1):
        first = template[max(0, -shift) : num_samples - max(0, shift)]
        second = other[max(0, shift) : num_samples - max(0, -shift)]
        power = (first**2).sum() + (second**2).sum()
        found.append((float(((first - second) ** 2).sum() / max(power, 1e-12)), shift))
    return min(found)


def sign_offset(embeddings: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """What is added to the embeddings of upward spikes, so that no cluster has spikes of both signs.

    The encoder sees upward spikes turned over, where two neurons of opposite sign may look the same.

    Parameters
    ----------
    embeddings : ndarray, (num_peaks, embedding_size)
    peaks : ndarray, (num_peaks,)
        With the field amplitude, which has the sign of the spike.

    Returns
    -------
    ndarray of float32, (embedding_size,)
        Four times the spread of the embeddings; 0 where all peaks have one sign.
    """
    is_up = peaks["amplitude"] > 0
    if len(peaks) == 0 or is_up.all() or not is_up.any():
        return np.zeros(embeddings.shape[1], dtype="float32")
    mean = sum(block.sum(axis=0, dtype="float64") for _, block in iterate_blocks(embeddings)) / len(embeddings)
    squares = sum(((block - mean) ** 2).sum() for _, block in iterate_blocks(embeddings))
    spread = np.sqrt(squares / len(embeddings))
    return np.full(embeddings.shape[1], 4 * spread / np.sqrt(embeddings.shape[1]), dtype="float32")


def set_apart(embeddings: np.ndarray, spikes: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Embeddings with those of upward spikes moved by `sign_offset`.

    Parameters
    ----------
    embeddings : ndarray, (num_spikes, embedding_size)
    spikes : ndarray, (num_spikes,)
        With the field amplitude, which has the sign of the spike.
    offset : ndarray, (embedding_size,)

    Returns
    -------
    ndarray, (num_spikes, embedding_size)
        The same array where the offset is 0.
    """
    if not offset.any():
        return embeddings
    moved = zeros_on_disk(embeddings.shape)
    for rows, block in iterate_blocks(embeddings):
        moved[rows] = block + (spikes["amplitude"][rows] > 0)[:, None] * offset
        release(moved)
    return moved
