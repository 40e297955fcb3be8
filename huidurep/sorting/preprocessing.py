"""From a raw recording to one filtered recording in uV for each channel group.

The steps are SpikeInterface's lazy preprocessing. Decided here: which channels are bad, and the gain to uV where the
recording has none. `geometry` decides which channels are sorted together and where their contacts are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import BaseRecording
from spikeinterface.core.motion import Motion

from .artifacts import ARTIFACTS, ArtifactSettings, find_artifacts, is_in_periods, make_periods
from .bad_channels import BAD_CHANNELS, BadChannelSettings, copied_channels, log_clipped, log_coarse, useful_channels
from .caching import CACHING, CachingSettings, cache_traces
from .filled_periods import FilledPeriodsRecording
from .geometry import GEOMETRY, GeometrySettings, group_of_channels, place_groups
from .noise_levels import (
    MAD_TO_SD,
    NOISE_LEVELS,
    NoiseLevelSettings,
    channel_medians,
    draw_chunks,
    find_active,
    is_silence,
    noise_levels,
    read_chunks,
)
from .parameters import SortingParameters
from .run_log import RunLog
from .scaling import check_joined_gains, complete_gains, scale_traces


@dataclass(frozen=True)
class PreprocessingSettings:
    """What is assumed of a recording that does not say it, and when channels are referenced.

    Attributes
    ----------
    nominal_noise_uv : float
        A recording without credible gains is scaled so that its median noise is this.
    plausible_noise_uv : (float, float)
        Gains that make the noise smaller or larger are not gains to uV (but to volts, or 1) and are not used.
    usual_noise_uv : (float, float)
        Gains that make the noise smaller or larger are used with a warning: amplifiers alone have 2 uV, and whitened or
        z-scored traces about 1.
    possible_gains : (float, float)
        Gains to uV are refused whose absolute value is smaller or larger, whatever the samples are stored in.
    reference_channels : int
        Smallest group of which the common median is subtracted where `common_reference` is None.
    max_nyquist_ratio : float
        Largest upper edge of the band-pass filter, as a share of the Nyquist frequency.
    geometry : GeometrySettings
        Positions of contacts.
    artifacts : ArtifactSettings
        What is left out as an artefact.
    """

    nominal_noise_uv: float = 10.0
    plausible_noise_uv: tuple[float, float] = (0.2, 500.0)
    usual_noise_uv: tuple[float, float] = (1.5, 60.0)
    possible_gains: tuple[float, float] = (1e-12, 1e12)
    reference_channels: int = 32
    max_nyquist_ratio: float = 0.9
    geometry: GeometrySettings = GEOMETRY
    artifacts: ArtifactSettings = ARTIFACTS


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
    is_still : bool
        Motion was estimated from enough spikes, and is too small to be corrected.
    artifact_periods : ndarray, (num_periods,)
        SpikeInterface's `base_period_dtype`: artefacts and blanks, which are zeros in `recording`; in order of time.
    sign_channels : dict of int to ndarray of bool, (num_channels,) | None
        Channels on which spikes that point down (-1) and up (1) are looked for. None: not decided yet.
    """

    name: object
    recording: BaseRecording
    segment_indices: np.ndarray
    noise_levels_uv: np.ndarray
    num_groups: int = 1
    is_placed: bool = True
    motion: Motion | None = None
    is_still: bool = False
    artifact_periods: np.ndarray = field(default_factory=make_periods)
    sign_channels: dict[int, np.ndarray] | None = None


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
        Positions of contacts.

    Returns
    -------
    list of ChannelGroup
        Empty where no segment holds a snippet.

    Raises
    ------
    ValueError
        Contacts that do not lie in a plane, or whose distances cannot be true; joined recordings of other gains.
    """
    check_joined_gains(recording)
    num_samples = np.array([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    is_long = num_samples >= parameters.num_samples(recording.get_sampling_frequency())
    segment_indices = np.flatnonzero(is_long)
    if len(segment_indices) == 0:
        return []
    if len(segment_indices) < len(num_samples):
        short = np.flatnonzero(~is_long).tolist()
        log.warning("preprocessing", f"segments {short} are shorter than a snippet: not sorted")
        recording = recording.select_segments(segment_indices.tolist())
    recording = complete_gains(recording)
    names = group_of_channels(recording, log)
    is_kept = ~np.isin(recording.channel_ids, list(parameters.bad_channel_ids))
    is_kept[is_kept] = ~copied_channels(recording.select_channels(recording.channel_ids[is_kept]), names[is_kept], log)
    for name in np.setdiff1d(names, names[is_kept]):
        log.warning("preprocessing", f"group {name}: no channel is left")
    members = [(name.item(), np.flatnonzero((names == name) & is_kept)) for name in np.unique(names[is_kept])]
    groups, placed = [], place_groups(recording, members, log, settings=settings.geometry)
    for (name, indices), (positions_um, is_placed) in zip(members, placed, strict=True):
        order = np.lexsort(positions_um.T)  # ties between channels are resolved by their order: units depend on it
        # a view: the user's recording stays as it is
        view = recording.select_channels(recording.channel_ids[indices[order]])
        view.set_dummy_probe_from_locations(positions_um[order])
        groups.append(ChannelGroup(name, view, segment_indices, len(members), is_placed))
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
    """Scale to uV, subtract the offset, fill artefacts, filter, remove bad channels, reference, cache.

    Parameters
    ----------
    group : ChannelGroup
        One group of `split_groups`.
    parameters : SortingParameters
        Filter, reference, times of artefacts and seed are read.
    log : RunLog
    settings, bad_channel_settings, noise_settings : PreprocessingSettings, BadChannelSettings, NoiseLevelSettings
    caching : CachingSettings | None
        As `cache_traces`. None: traces are computed at each reading.
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
    scaled = _scale(recording, offsets)
    periods, active, unfilled = _find_artifacts(group, scaled, chunks, active, parameters, log, settings, job_kwargs)
    scaled = _fill(scaled, periods, settings.artifacts) if len(periods) else scaled
    band_hz = _band_hz(scaled, parameters, settings)
    filtered = _filter(scaled, band_hz)
    traces = np.concatenate(read_chunks(filtered, chunks) if len(periods) else unfilled)[np.concatenate(active)]
    options: dict[str, Any] = dict(is_placed=group.is_placed, seed=parameters.seed, job_kwargs=job_kwargs)
    stored = scaled if len(periods) else recording
    kept = useful_channels(traces, stored, group.name, log, settings=bad_channel_settings, **options)
    if len(kept) == 0:
        return None
    noise = float(np.median(channel_medians(np.abs(traces[:, kept])))) / MAD_TO_SD
    factor = _factor_to_uv(noise, group.recording, group.name, log, settings)
    filtered = _select_scale_reference(filtered, kept, factor, parameters.common_reference, periods, settings)
    if caching is not None:
        shared: dict[str, Any] = dict(noise_uv=noise * factor, settings=caching, job_kwargs=job_kwargs)
        filtered = cache_traces(filtered, "preprocessing", log, **shared)
    noise_levels_uv, silent_share = noise_levels(read_chunks(filtered, chunks), active, settings=noise_settings)
    _log_noise(group, noise_levels_uv, dict(zip(filtered.channel_ids, silent_share, strict=True)), band_hz, log)
    known: dict[str, Any] = dict(num_groups=group.num_groups, is_placed=group.is_placed, artifact_periods=periods)
    return PreparedGroup(group.name, filtered, group.segment_indices, noise_levels_uv, **known)


def _log_noise(
    group: ChannelGroup, noise_levels_uv: np.ndarray, silent: dict, band_hz: tuple[float, float], log: RunLog
) -> None:
    """Log the noise, and the channels with the share of the recording in which they had none."""
    noise = f"noise {np.median(noise_levels_uv):.1f} uV"
    found = f"{len(noise_levels_uv)} channels, {band_hz[0]:g}-{band_hz[1]:g} Hz, {noise}"
    log("preprocessing", f"group {group.name}: {found}")
    named = [f"{channel} ({100 * share:.0f} %)" for channel, share in silent.items() if share > 0]
    if named:
        log.warning(
            "preprocessing",
            f"group {group.name}: channels without noise for a part of the recording: {', '.join(named)}; they are "
            "sorted, and units that they see may come apart; bad_channel_ids removes them",
        )


def _select_scale_reference(
    filtered: BaseRecording,
    kept: np.ndarray,
    factor: float,
    common_reference: bool | None,
    periods: np.ndarray,
    settings: PreprocessingSettings,
) -> BaseRecording:
    """The kept channels, scaled by a factor, without their common median where it is subtracted; zeros in periods."""
    if len(kept) < filtered.get_num_channels():
        filtered = filtered.select_channels(filtered.channel_ids[kept])
    if factor != 1.0:
        filtered = scale_traces(filtered, factor)
    if common_reference is None:
        common_reference = len(kept) >= settings.reference_channels
    if common_reference:
        filtered = spre.common_reference(filtered, reference="global", operator="median", dtype="float32")
    if len(periods):
        filtered = spre.silence_periods(filtered, periods=periods)
    # the traces are in uV, but scaling keeps the gains of the raw samples: whoever asks for uV would scale twice
    filtered.set_channel_gains(1.0)
    filtered.set_channel_offsets(0.0)
    return filtered


def _band_hz(
    recording: BaseRecording, parameters: SortingParameters, settings: PreprocessingSettings
) -> tuple[float, float]:
    highest_hz = settings.max_nyquist_ratio * recording.get_sampling_frequency() / 2
    return parameters.freq_min_hz, min(parameters.freq_max_hz, highest_hz)


def _scale(recording: BaseRecording, offsets: np.ndarray) -> BaseRecording:
    """The recording in uV if its gains are to uV; `offsets` (num_channels,) as stored."""
    gains = _read_gains(recording)
    # The offset is measured, not read, so that the electrode's own offset is subtracted with that of the amplifier,
    # before the filter can ring on it.
    return scale_traces(recording, gains, -gains * offsets)


def _filter(recording: BaseRecording, band_hz: tuple[float, float]) -> BaseRecording:
    return spre.bandpass_filter(
        recording, freq_min=band_hz[0], freq_max=band_hz[1], ftype="bessel", filter_order=2, dtype="float32"
    )


def _find_artifacts(
    group: ChannelGroup,
    scaled: BaseRecording,
    chunks: list,
    active: list[np.ndarray],
    parameters: SortingParameters,
    log: RunLog,
    settings: PreprocessingSettings,
    job_kwargs: dict | None,
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Periods of artefacts of a scaled recording, the samples of each chunk outside of them and of blanks, and chunks.

    The chunks are filtered, with the artefacts in them.
    """
    band_hz = _band_hz(scaled, parameters, settings)
    traces, sampling_frequency = read_chunks(scaled, chunks), scaled.get_sampling_frequency()
    lowest, highest = settings.plausible_noise_uv
    filtered = read_chunks(_filter(scaled, band_hz), chunks)
    noise = float(np.median(channel_medians(np.abs(np.concatenate(filtered))))) / MAD_TO_SD
    periods = find_artifacts(
        scaled,
        traces,
        band_hz=band_hz,
        trigger_samples=parameters.trigger_samples(group.recording, group.segment_indices),
        is_in_uv=group.recording.has_scaleable_traces() and lowest <= noise <= highest,
        has_blanks=not is_silence(traces, sampling_frequency, settings=settings.artifacts.noise_levels),
        settings=settings.artifacts,
        job_kwargs=job_kwargs,
    )
    if len(periods) == 0:
        return periods, active, filtered
    outside = [
        own & ~is_in_periods(segment_index, np.arange(start, end), periods)
        for own, (segment_index, start, end) in zip(active, chunks, strict=True)
    ]
    if np.mean(np.concatenate(outside)) < settings.artifacts.noise_levels.min_active_share:
        log.warning("preprocessing", f"group {group.name}: artefacts nearly everywhere, none is left out")
        return make_periods(), active, filtered
    _log_periods(periods, group, log)
    return periods, outside, filtered


def _fill(scaled: BaseRecording, periods: np.ndarray, settings: ArtifactSettings) -> BaseRecording:
    """The recording without its artefacts, in the unit of its traces."""
    sampling_frequency = scaled.get_sampling_frequency()
    rows = np.stack([periods[name] for name in ("segment_index", "start_sample_index", "end_sample_index")], axis=1)
    num_level = max(1, round(settings.gap_ms * sampling_frequency / 1000.0))
    return FilledPeriodsRecording(scaled, rows.tolist(), num_level, settings.decay_s * sampling_frequency)


def _log_periods(periods: np.ndarray, group: ChannelGroup, log: RunLog, num_shown: int = 5) -> None:
    recording = group.recording
    sampling_frequency = recording.get_sampling_frequency()
    durations_s = (periods["end_sample_index"] - periods["start_sample_index"]) / sampling_frequency
    share = durations_s.sum() / recording.get_total_duration()
    starts_s = [f"{start / sampling_frequency:.3f}" for start in periods["start_sample_index"][:num_shown]]
    found = f"{len(periods)} artefacts or blanks of {durations_s.sum():.3g} s in all ({100 * share:.2g} %) left out"
    more = ", ..." if len(periods) > num_shown else ""
    log("preprocessing", f"group {group.name}: {found}, from {', '.join(starts_s)}{more} s of their segment on")


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
    log_clipped(raw, active, group.recording, group.name, log)
    log_coarse(raw, active, group.name, log)
    return channel_medians(np.concatenate(raw)[is_active]), active


def _read_gains(recording: BaseRecording, settings: PreprocessingSettings = PREPROCESSING) -> np.ndarray:
    """Gains to uV (num_channels,); ones where the recording has none."""
    if not recording.has_scaleable_traces():
        return np.ones(recording.get_num_channels())
    gains = recording.get_channel_gains()
    lowest, highest = settings.possible_gains
    is_possible = (np.abs(gains) >= lowest) & (np.abs(gains) <= highest)  # False with NaN
    if not is_possible.all():
        raise ValueError(
            f"expected finite gains to uV other than 0, {lowest:g} to {highest:g}, found {gains[~is_possible][0]:g}; "
            "set them with recording.set_channel_gains"
        )
    return gains


def statistics_kwargs(recording: BaseRecording, seed: int = 0, *, settings: NoiseLevelSettings = NOISE_LEVELS) -> dict:
    """Seeded random chunks for SpikeInterface: up to ten seconds over all segments, never longer than a segment.

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
    chunk_size = min(settings.chunk_size(recording), shortest)
    num_chunks = max(1, settings.num_chunks // num_segments)
    return {"chunk_duration": None, "chunk_size": chunk_size, "num_chunks_per_segment": num_chunks, "seed": seed}


def _factor_to_uv(
    noise: float, recording: BaseRecording, name: object, log: RunLog, settings: PreprocessingSettings
) -> float:
    """Factor to uV: 1 where the gains are plausible, otherwise what makes the noise nominal."""
    if noise == 0.0:  # a simulation without noise, by which nothing can be scaled
        return 1.0
    lowest, highest = settings.plausible_noise_uv
    if recording.has_scaleable_traces() and lowest <= noise <= highest:
        _warn_unless_usual(noise, name, log, settings)
        return 1.0
    if recording.has_scaleable_traces():
        reason = f"its gains to uV would make the noise {noise:.3g} uV (plausible: {lowest:g} to {highest:g} uV)"
    else:
        reason = "the recording has no gains to uV"
    log.warning(
        "preprocessing",
        f"group {name}: {reason}; it is scaled so that the noise is {settings.nominal_noise_uv:g} uV. "
        "Set them with recording.set_channel_gains",
    )
    return settings.nominal_noise_uv / noise


def _warn_unless_usual(noise_uv: float, name: object, log: RunLog, settings: PreprocessingSettings) -> None:
    lowest, highest = settings.usual_noise_uv
    if not lowest <= noise_uv <= highest:
        log.warning(
            "preprocessing",
            f"group {name}: its gains to uV make the noise {noise_uv:.3g} uV (usual: {lowest:g} to {highest:g} uV); "
            "amplitudes are not in uV if the traces were whitened, z-scored or scaled before: give the recording as it "
            "was recorded, or its gains with recording.set_channel_gains",
        )
