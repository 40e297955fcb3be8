"""From a recording as it was stored to one filtered recording in uV for each channel group.

Built on SpikeInterface's lazy preprocessing; what is decided here is which channels are sorted together, where they
lie, which are useless and what one unit of the file is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spikeinterface.preprocessing as spre

from .bad_channels import useful_channels
from .caching import cache_traces
from .noise_levels import CHUNK_S, NUM_CHUNKS, draw_chunks, find_active, noise_levels, read_chunks
from .parameters import SortingParameters
from .run_log import RunLog

NOMINAL_NOISE_UV = 10.0  # a file that does not say what its numbers mean is scaled so that its noise is this
PLAUSIBLE_NOISE_UV = (0.2, 500.0)  # outside, the gains are not gains to uV (volts, raw steps) and are not used
COMMON_REFERENCE_CHANNELS = 32
HIGHEST_FREQUENCY = 0.9  # of the Nyquist frequency
TETRODE_SPACING_UM = 12.5
LINEAR_SPACING_UM = 20.0


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are sorted together.

    Attributes
    ----------
    name : object
        Value of the property "group", or the shank.
    recording : BaseRecording
        These channels of the recording as stored, with contacts in a plane; segments shorter than a snippet left out.
    segment_indices : ndarray of int, (num_segments,)
        Segment of the original recording of each segment of `recording`.
    num_groups : int
        Groups of the whole recording.
    is_placed : bool
        The contacts are where the recording says, not where a usual probe has them.
    """

    name: object
    recording: object
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
        float32, uV, filtered, without flat, copied and noisy channels.
    noise_levels_uv : ndarray of float, (num_channels,)
        Standard deviation of the noise by its median absolute deviation.
    motion : Motion | None
        SpikeInterface's estimate of the motion of the tissue that was undone in `recording`.
    """

    name: object
    recording: object
    segment_indices: np.ndarray
    noise_levels_uv: np.ndarray
    num_groups: int = 1
    is_placed: bool = True
    motion: object | None = None


def split_groups(recording, parameters: SortingParameters, log: RunLog) -> list[ChannelGroup]:
    """Split a recording into the channel groups that are sorted by themselves.

    The property "group" decides where it has several values, the shanks of the probe otherwise. Contacts of different
    groups may have the same place.

    Parameters
    ----------
    recording : BaseRecording
        A recording that `SortingParameters.check_recording` has accepted.
    parameters : SortingParameters
        `bad_channel_ids` and the length of a snippet are read.
    log : RunLog
        Told what was decided.

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
        log.warning("preprocessing", f"segments {short} are shorter than a snippet: no spikes in them")
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
        view.set_dummy_probe_from_locations(_positions_or_dummy(positions_um, indices, name, log))
        groups.append(ChannelGroup(name.item(), view, segment_indices, num_groups, positions_um is not None))
    return groups


def preprocess(
    group: ChannelGroup, parameters: SortingParameters, log: RunLog, *, cache: bool = True
) -> PreparedGroup | None:
    """Scale to uV, remove the offset, filter, leave out useless channels, reference, cache.

    Parameters
    ----------
    group : ChannelGroup
        One group of `split_groups`.
    parameters : SortingParameters
        Filter, reference and seed are read.
    log : RunLog
        Told what was decided.
    cache : bool
        Compute the traces once, as `cache_traces`. False: computed when read, and saved by saying how.

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
    chunks = draw_chunks(recording, parameters.seed)
    offsets, active = _measure_offsets(group, chunks, log)
    highest_hz = min(parameters.freq_max_hz, HIGHEST_FREQUENCY * recording.get_sampling_frequency() / 2)
    filtered = _scale_and_filter(recording, offsets, (parameters.freq_min_hz, highest_hz))
    traces = np.concatenate(read_chunks(filtered, chunks))[np.concatenate(active)]
    kept = useful_channels(traces, recording, group.name, log, is_placed=group.is_placed, seed=parameters.seed)
    if len(kept) == 0:
        return None
    factor = _factor_to_uv(traces[:, kept], recording, group.name, log)
    if len(kept) < recording.get_num_channels():
        filtered = filtered.select_channels(recording.channel_ids[kept])
    if factor != 1.0:
        filtered = spre.scale(filtered, gain=factor, dtype="float32")
    reference = parameters.common_reference
    if reference or (reference is None and len(kept) >= COMMON_REFERENCE_CHANNELS):
        filtered = spre.common_reference(filtered, reference="global", operator="median", dtype="float32")
    if cache:
        filtered = cache_traces(filtered, "preprocessing", log)
    noise_levels_uv = noise_levels(read_chunks(filtered, chunks), active)
    log(
        "preprocessing",
        f"group {group.name}: {len(kept)} channels, {parameters.freq_min_hz:g}-{highest_hz:g} Hz, "
        f"noise {np.median(noise_levels_uv):.1f} uV",
    )
    return PreparedGroup(
        group.name, filtered, group.segment_indices, noise_levels_uv, group.num_groups, group.is_placed
    )


def _scale_and_filter(recording, offsets: np.ndarray, band_hz: tuple):
    """The recording in uV, if its gains are, between two frequencies; `offsets` (num_channels,) as stored."""
    gains = _read_gains(recording)
    # the offset is measured, not read: it goes together with the electrode's own, before the filter can ring on it
    scaled = spre.scale(recording, gain=gains, offset=-gains * offsets, dtype="float32")
    return spre.bandpass_filter(
        scaled, freq_min=band_hz[0], freq_max=band_hz[1], ftype="bessel", filter_order=2, dtype="float32"
    )


def _measure_offsets(group: ChannelGroup, chunks: list, log: RunLog) -> tuple[np.ndarray, list[np.ndarray]]:
    """Offsets (num_channels,) as stored, and the samples of each chunk that were not blanked."""
    raw = read_chunks(group.recording, chunks)
    active = find_active(raw, group.recording.get_sampling_frequency())
    is_active = np.concatenate(active)
    if not is_active.all():
        share = f"{100 * (1 - is_active.mean()):.1f} % of the samples"
        log("preprocessing", f"group {group.name}: blanked stretches, {share}, tell nothing of the noise")
    return np.median(np.concatenate(raw)[is_active], axis=0), active


def _read_gains(recording) -> np.ndarray:
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


def statistics_kwargs(recording, seed: int) -> dict:
    """Seeded chunks for whitening: about ten seconds over all segments, never longer than a segment.

    Parameters
    ----------
    recording : BaseRecording
        Its segments are counted and measured.
    seed : int
        Where the chunks lie.

    Returns
    -------
    dict
        Keyword arguments for SpikeInterface's `get_random_data_chunks`.
    """
    num_segments = recording.get_num_segments()
    shortest = min(recording.get_num_samples(index) for index in range(num_segments))
    chunk_size = min(int(CHUNK_S * recording.get_sampling_frequency()), shortest)
    num_chunks = max(1, NUM_CHUNKS // num_segments)
    return {"chunk_duration": None, "chunk_size": chunk_size, "num_chunks_per_segment": num_chunks, "seed": seed}


def _group_of_channels(recording) -> np.ndarray:
    """Group of every channel: the property "group" where it tells channels apart, else the shank of the probe."""
    groups = recording.get_property("group")
    if groups is not None and len(np.unique(groups)) > 1:
        return np.asarray(groups)
    if recording.has_probe() and len(recording.get_probegroup().probes) == 1:
        shanks = recording.get_probe().shank_ids
        if shanks is not None and len(shanks) == recording.get_num_channels() and len(np.unique(shanks)) > 1:
            return np.asarray(shanks)
    return np.zeros(recording.get_num_channels(), dtype="int64") if groups is None else np.asarray(groups)


def _planar_positions(recording, log: RunLog) -> np.ndarray | None:
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
        log("preprocessing", f"3-D probe: its contacts lie in the plane {''.join('xyz'[axis] for axis in axes)}")
    is_usable = np.isfinite(positions_um).all() and (len(positions_um) == 1 or np.ptp(positions_um, axis=0).max() > 0)
    if not is_usable:
        log.warning("preprocessing", "the probe's contacts all have one place or none: positions are not used")
        return None
    return positions_um


def _positions_or_dummy(positions_um: np.ndarray | None, indices: np.ndarray, name, log: RunLog) -> np.ndarray:
    """Positions (num_channels, 2) um of a group's channels, or those of a usual probe where there are none."""
    if positions_um is not None:
        return positions_um[indices]
    num_channels = len(indices)
    if num_channels <= 4:
        log.warning(
            "preprocessing",
            f"group {name}: the recording has no probe; its {num_channels} channels are taken as a tetrode "
            f"({TETRODE_SPACING_UM} um square). Attach the real one with recording.set_probe",
        )
        return TETRODE_SPACING_UM * np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])[:num_channels]
    log.warning(
        "preprocessing",
        f"group {name}: the recording has no probe; its {num_channels} channels are taken as a linear probe in the "
        f"order of the channels, {LINEAR_SPACING_UM:g} um apart. Attach the real one with recording.set_probe",
    )
    return np.column_stack([np.zeros(num_channels), LINEAR_SPACING_UM * np.arange(num_channels)])


def _factor_to_uv(traces: np.ndarray, recording, name, log: RunLog) -> float:
    """Factor to uV: 1 where the gains can be believed, otherwise what makes the noise NOMINAL_NOISE_UV."""
    noise = float(np.median(np.median(np.abs(traces), axis=0))) / 0.6745
    if noise == 0.0:  # spikes on silence: no noise to scale by
        return 1.0
    is_plausible = PLAUSIBLE_NOISE_UV[0] <= noise <= PLAUSIBLE_NOISE_UV[1]
    if recording.has_scaleable_traces() and is_plausible:
        return 1.0
    if recording.has_scaleable_traces():
        reason = f"its gains to uV would make the noise {noise:.3g} uV (plausible: {PLAUSIBLE_NOISE_UV})"
    else:
        reason = "the recording has no gains to uV"
    log.warning(
        "preprocessing",
        f"group {name}: {reason}; amplitudes are expressed so that the noise is {NOMINAL_NOISE_UV:g} uV. "
        "Set them with recording.set_channel_gains and set_channel_offsets",
    )
    return NOMINAL_NOISE_UV / noise
