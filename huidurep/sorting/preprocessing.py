"""From a raw recording to one filtered recording in uV for each channel group.

The steps are SpikeInterface's lazy preprocessing. Decided here: which channels are sorted together, the positions of
their contacts, which channels are bad, and the gain to uV where the recording has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import BaseRecording
from spikeinterface.core.motion import Motion

from .bad_channels import BAD_CHANNELS, BadChannelSettings, useful_channels
from .caching import CACHING, CachingSettings, cache_traces
from .noise_levels import (
    NOISE_LEVELS,
    NoiseLevelSettings,
    draw_chunks,
    find_active,
    noise_levels,
    read_chunks,
)
from .parameters import SortingParameters
from .run_log import RunLog


@dataclass(frozen=True)
class PreprocessingSettings:
    """What is assumed of a recording that does not say it, and when channels are referenced.

    Attributes
    ----------
    nominal_noise_uv : float
        A recording without credible gains is scaled so that its median noise is this.
    plausible_noise_uv : (float, float)
        Gains that make the noise smaller or larger are not gains to uV (but to volts, or 1) and are not used.
    reference_channels : int
        Smallest group of which the common median is subtracted where `common_reference` is None.
    max_nyquist_ratio : float
        Largest upper edge of the band-pass filter, as a share of the Nyquist frequency.
    tetrode_spacing_um : float
        Of the square on which up to four channels without a probe are placed.
    linear_spacing_um : float
        Of the column on which more channels without a probe are placed.
    """

    nominal_noise_uv: float = 10.0
    plausible_noise_uv: tuple[float, float] = (0.2, 500.0)
    reference_channels: int = 32
    max_nyquist_ratio: float = 0.9
    tetrode_spacing_um: float = 12.5
    linear_spacing_um: float = 20.0


PREPROCESSING = PreprocessingSettings()


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are sorted together.

    Attributes
    ----------
    name : object
        Value of the property "group", or the shank.
    recording : BaseRecording
        These channels of the recording as stored, with contacts in a plane, without segments shorter than a snippet.
    segment_indices : ndarray of int, (num_segments,)
        Segment of the original recording of each segment of `recording`.
    num_groups : int
        Groups of the whole recording.
    is_placed : bool
        The contact positions are those of the recording, not default ones.
    """

    name: object
    recording: BaseRecording
    segment_indices: np.ndarray
    num_groups: int = 1
    is_placed: bool = True


@dataclass(frozen=True)
class PreparedGroup:
    """A group ready for detection.

    Attributes
    ----------
    name, segment_indices, num_groups, is_placed
        As in `ChannelGroup`.
    recording : BaseRecording
        float32, uV, filtered, without bad channels.
    noise_levels_uv : ndarray of float, (num_channels,)
        Standard deviation of the noise by its median absolute deviation.
    motion : Motion | None
        SpikeInterface's estimate of the probe movement that was corrected in `recording`.
    """

    name: object
    recording: BaseRecording
    segment_indices: np.ndarray
    noise_levels_uv: np.ndarray
    num_groups: int = 1
    is_placed: bool = True
    motion: Motion | None = None


def split_groups(
    recording: BaseRecording,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: PreprocessingSettings = PREPROCESSING,
) -> list[ChannelGroup]:
    """Split a recording into the channel groups that are sorted separately.

    Groups are the values of the property "group" where it has several, the shanks of the probe otherwise. Contacts of
    different groups may have the same position.

    Parameters
    ----------
    recording : BaseRecording
        A recording that `SortingParameters.check_recording` has accepted.
    parameters : SortingParameters
        `bad_channel_ids` and the length of a snippet are read.
    log : RunLog
        Receives what was assumed or left out.
    settings : PreprocessingSettings
        Spacing of contacts without a probe.

    Returns
    -------
    list of ChannelGroup
        Empty where no segment holds a snippet.

    Raises
    ------
    ValueError
        Contacts that do not lie in a plane.
    """
    num_samples = np.array([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    is_long = num_samples >= parameters.num_samples(recording.get_sampling_frequency())
    segment_indices = np.flatnonzero(is_long)
    if len(segment_indices) == 0:
        return []
    if len(segment_indices) < len(num_samples):
        short = np.flatnonzero(~is_long).tolist()
        log.warning("preprocessing", f"segments {short} are shorter than a snippet: not sorted")
        recording = recording.select_segments(segment_indices.tolist())
    positions_um = _planar_positions(recording, log)
    names = _group_of_channels(recording)
    is_kept = ~np.isin(recording.channel_ids, list(parameters.bad_channel_ids))
    groups, num_groups = [], len(np.unique(names[is_kept]))
    for name in np.unique(names):
        indices = np.flatnonzero((names == name) & is_kept)
        if len(indices) == 0:
            log.warning("preprocessing", f"group {name}: all channels are in bad_channel_ids")
            continue
        view = recording.select_channels(recording.channel_ids[indices])  # a view: the user's recording stays as it is
        view.set_dummy_probe_from_locations(_positions_or_default(positions_um, indices, name, log, settings))
        groups.append(ChannelGroup(name.item(), view, segment_indices, num_groups, positions_um is not None))
    return groups


def preprocess(
    group: ChannelGroup,
    parameters: SortingParameters,
    log: RunLog,
    *,
    settings: PreprocessingSettings = PREPROCESSING,
    noise_settings: NoiseLevelSettings = NOISE_LEVELS,
    bad_channel_settings: BadChannelSettings = BAD_CHANNELS,
    caching: CachingSettings | None = CACHING,
    job_kwargs: dict | None = None,
) -> PreparedGroup | None:
    """Scale to uV, subtract the offset, filter, remove bad channels, reference, cache.

    Parameters
    ----------
    group : ChannelGroup
        One group of `split_groups`.
    parameters : SortingParameters
        Filter, reference and seed are read.
    log : RunLog
        Receives what was decided.
    settings : PreprocessingSettings
    noise_settings : NoiseLevelSettings
        Chunks from which offsets and noise levels are estimated.
    bad_channel_settings : BadChannelSettings
    caching : CachingSettings | None
        As `cache_traces`. None: traces are computed whenever they are read.
    job_kwargs : dict | None
        As :func:`resolve_job_kwargs` completes them.

    Returns
    -------
    PreparedGroup | None
        None where every channel is flat: there is nothing to sort.

    Raises
    ------
    ValueError
        Gains that are 0 or not finite.
    """
    recording = group.recording
    chunks = draw_chunks(recording, settings=noise_settings)
    offsets, active = _measure_offsets(group, chunks, log, noise_settings)
    highest_hz = settings.max_nyquist_ratio * recording.get_sampling_frequency() / 2
    band_hz = parameters.freq_min_hz, min(parameters.freq_max_hz, highest_hz)
    filtered = _scale_and_filter(recording, offsets, band_hz)
    traces = np.concatenate(read_chunks(filtered, chunks))[np.concatenate(active)]
    options: dict[str, Any] = dict(is_placed=group.is_placed, seed=parameters.seed, job_kwargs=job_kwargs)
    kept = useful_channels(traces, recording, group.name, log, settings=bad_channel_settings, **options)
    if len(kept) == 0:
        return None
    factor = _factor_to_uv(traces[:, kept], recording, group.name, log, settings)
    filtered = _select_scale_reference(filtered, kept, factor, parameters.common_reference, settings)
    if caching is not None:
        filtered = cache_traces(filtered, "preprocessing", log, settings=caching, job_kwargs=job_kwargs)
    noise_levels_uv = noise_levels(read_chunks(filtered, chunks), active)
    noise = f"noise {np.median(noise_levels_uv):.1f} uV"
    log("preprocessing", f"group {group.name}: {len(kept)} channels, {band_hz[0]:g}-{band_hz[1]:g} Hz, {noise}")
    of_group: dict[str, Any] = dict(num_groups=group.num_groups, is_placed=group.is_placed)
    return PreparedGroup(group.name, filtered, group.segment_indices, noise_levels_uv, **of_group)


def _select_scale_reference(
    filtered: BaseRecording,
    kept: np.ndarray,
    factor: float,
    common_reference: bool | None,
    settings: PreprocessingSettings,
) -> BaseRecording:
    """The kept channels, scaled by a factor, without their common median where it is subtracted."""
    if len(kept) < filtered.get_num_channels():
        filtered = filtered.select_channels(filtered.channel_ids[kept])
    if factor != 1.0:
        filtered = spre.scale(filtered, gain=factor, dtype="float32")
    if common_reference is None:
        common_reference = len(kept) >= settings.reference_channels
    if common_reference:
        filtered = spre.common_reference(filtered, reference="global", operator="median", dtype="float32")
    # the traces are in uV, but spre.scale keeps the gains of the raw samples: whoever asks for uV would scale twice
    filtered.set_channel_gains(1.0)
    filtered.set_channel_offsets(0.0)
    return filtered


def _scale_and_filter(recording: BaseRecording, offsets: np.ndarray, band_hz: tuple[float, float]) -> BaseRecording:
    """The band-passed recording, in uV if its gains are to uV; `offsets` (num_channels,) as stored."""
    gains = _read_gains(recording)
    # The offset is measured, not read, so that the electrode's own offset is subtracted with that of the amplifier,
    # before the filter can ring on it.
    scaled = spre.scale(recording, gain=gains, offset=-gains * offsets, dtype="float32")
    return spre.bandpass_filter(
        scaled, freq_min=band_hz[0], freq_max=band_hz[1], ftype="bessel", filter_order=2, dtype="float32"
    )


def _measure_offsets(
    group: ChannelGroup, chunks: list, log: RunLog, settings: NoiseLevelSettings
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Offsets (num_channels,) as stored, and the samples of each chunk that were not blanked."""
    raw = read_chunks(group.recording, chunks)
    active = find_active(raw, group.recording.get_sampling_frequency(), settings=settings)
    is_active = np.concatenate(active)
    if not is_active.all():
        share = f"{100 * (1 - is_active.mean()):.1f} % of samples"
        log("preprocessing", f"group {group.name}: {share} are blanked and not used to estimate noise")
    return np.median(np.concatenate(raw)[is_active], axis=0), active


def _read_gains(recording: BaseRecording) -> np.ndarray:
    """Gains to uV (num_channels,); ones where the recording has none."""
    if not recording.has_scaleable_traces():
        return np.ones(recording.get_num_channels())
    gains = recording.get_channel_gains()
    if not np.all(np.isfinite(gains) & (gains != 0)):
        raise ValueError(
            f"expected finite gains to uV other than 0, found {gains.tolist()}; "
            "set them with recording.set_channel_gains"
        )
    return gains


def statistics_kwargs(recording: BaseRecording, seed: int = 0, *, settings: NoiseLevelSettings = NOISE_LEVELS) -> dict:
    """Seeded random chunks for SpikeInterface: about ten seconds over all segments, never longer than a segment.

    Parameters
    ----------
    recording : BaseRecording
        Only the lengths of its segments are read.
    seed : int
        Of the places of the chunks.
    settings : NoiseLevelSettings
        Number and duration of the chunks.

    Returns
    -------
    dict
        Keyword arguments for SpikeInterface's `get_random_data_chunks`.
    """
    num_segments = recording.get_num_segments()
    shortest = min(recording.get_num_samples(index) for index in range(num_segments))
    chunk_size = min(int(settings.chunk_s * recording.get_sampling_frequency()), shortest)
    num_chunks = max(1, settings.num_chunks // num_segments)
    return {"chunk_duration": None, "chunk_size": chunk_size, "num_chunks_per_segment": num_chunks, "seed": seed}


def _group_of_channels(recording: BaseRecording) -> np.ndarray:
    """Group of every channel: the property "group" where it has several values, else the shank of the probe."""
    groups = recording.get_property("group")
    if groups is not None and len(np.unique(groups)) > 1:
        return np.asarray(groups)
    if recording.has_probe() and len(recording.get_probegroup().probes) == 1:
        shanks = recording.get_probe().shank_ids
        if shanks is not None and len(shanks) == recording.get_num_channels() and len(np.unique(shanks)) > 1:
            return np.asarray(shanks)
    return np.zeros(recording.get_num_channels(), dtype="int64") if groups is None else np.asarray(groups)


def _planar_positions(recording: BaseRecording, log: RunLog) -> np.ndarray | None:
    """Positions (num_channels, 2) um in the plane of the probe; None where the recording has none that can be used."""
    if not recording.has_probe():
        return None
    if not recording.has_3d_probe():
        positions_um = np.asarray(recording.get_channel_locations(), dtype="float64")
    else:
        positions_um = np.asarray(recording.get_channel_locations(axes="xyz"), dtype="float64")
        spans = np.flatnonzero(np.ptp(positions_um, axis=0) > 1e-3)
        if len(spans) > 2:
            spread = ", ".join(
                f"{axis} {span:.1f}" for axis, span in zip("xyz", np.ptp(positions_um, axis=0), strict=True)
            )
            raise ValueError(
                f"expected contacts in a plane, found a 3-D probe that extends along all axes (um: {spread}); choose "
                'the plane with recording.planarize(axes="xy"), or sort its shanks one by one'
            )
        axes = sorted({*spans.tolist(), *[axis for axis in range(3) if axis not in spans][: 2 - len(spans)]})
        positions_um = positions_um[:, axes]
        log("preprocessing", f"3-D probe: contacts in the plane {''.join('xyz'[axis] for axis in axes)}")
    is_usable = np.isfinite(positions_um).all() and (len(positions_um) == 1 or np.ptp(positions_um, axis=0).max() > 0)
    if not is_usable:
        log.warning("preprocessing", "the contacts of the probe have no distinct positions: none is used")
        return None
    return positions_um


def _positions_or_default(
    positions_um: np.ndarray | None, indices: np.ndarray, name: object, log: RunLog, settings: PreprocessingSettings
) -> np.ndarray:
    """Positions (num_channels, 2) um of a group's channels, by default on a tetrode or a column of contacts."""
    if positions_um is not None:
        return positions_um[indices]
    num_channels = len(indices)
    if num_channels <= 4:
        spacing_um = settings.tetrode_spacing_um
        log.warning(
            "preprocessing",
            f"group {name}: the recording has no probe; its {num_channels} channels are placed as a tetrode "
            f"({spacing_um:g} um square). Attach the real one with recording.set_probe",
        )
        return spacing_um * np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])[:num_channels]
    spacing_um = settings.linear_spacing_um
    log.warning(
        "preprocessing",
        f"group {name}: the recording has no probe; its {num_channels} channels are placed as a linear probe in the "
        f"order of the channels, {spacing_um:g} um apart. Attach the real one with recording.set_probe",
    )
    return np.column_stack([np.zeros(num_channels), spacing_um * np.arange(num_channels)])


def _factor_to_uv(
    traces: np.ndarray, recording: BaseRecording, name: object, log: RunLog, settings: PreprocessingSettings
) -> float:
    """Factor to uV: 1 where the gains are plausible, otherwise what makes the noise nominal."""
    noise = float(np.median(np.median(np.abs(traces), axis=0))) / 0.6745
    if noise == 0.0:  # a simulation without noise, by which nothing can be scaled
        return 1.0
    lowest, highest = settings.plausible_noise_uv
    if recording.has_scaleable_traces() and lowest <= noise <= highest:
        return 1.0
    if recording.has_scaleable_traces():
        reason = f"its gains to uV would make the noise {noise:.3g} uV (plausible: {lowest:g} to {highest:g} uV)"
    else:
        reason = "the recording has no gains to uV"
    log.warning(
        "preprocessing",
        f"group {name}: {reason}; it is scaled so that the noise is {settings.nominal_noise_uv:g} uV. "
        "Set them with recording.set_channel_gains and set_channel_offsets",
    )
    return settings.nominal_noise_uv / noise
