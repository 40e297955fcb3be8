"""From waveforms of any window, rate and channel count to what an encoder was trained on. numpy only."""

import logging
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)
LANCZOS_LOBES = 8
MIN_COVERED_MS = 0.4
SEARCH_MS = 0.5
# Above this share of spikes that point up the array is taken to have the other sign convention.
UPWARD_SHARE = 0.75
# Contacts in one plane are described by two of their three coordinates.
FLAT_UM = 1e-3
NOMINAL_TETRODE_UM = ((0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5))
NOMINAL_PITCH_UM = 25.0


@dataclass(frozen=True)
class MappedWaveforms:
    """Snippets that meet an input contract.

    Parameters
    ----------
    snippets : ndarray (num_spikes, num_samples, num_channels) float32
        uV; 0 where a sample or channel does not exist.
    channel_mask : ndarray (num_spikes, num_channels) float32
        1 where a channel exists.
    sample_mask : ndarray (num_spikes, num_samples) float32
        1 where a sample exists.
    channels : ndarray (num_spikes, num_channels) int64
        Input channel of each, -1 where missing.
    peak_index : ndarray (num_spikes,) float64
        Sample of the input window that was put at the contract's peak index.
    polarity : ndarray (num_spikes,) float32
        -1 where the spikes pointed up and were turned over (Axona's convention, for one), else 1.
    positions_um : ndarray (num_spikes, num_channels, 2) float32 or None
        Contacts of the channels, from the first of them; None if the contract tells channels apart by index.
    """

    snippets: np.ndarray
    channel_mask: np.ndarray
    sample_mask: np.ndarray
    channels: np.ndarray
    peak_index: np.ndarray
    polarity: np.ndarray
    positions_um: np.ndarray | None = None


def check_waveforms(waveforms, *, sampling_frequency, peak_index=None, channel_positions=None):
    """Refuse what cannot be mapped, before any work.

    Parameters
    ----------
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV.
    sampling_frequency : float
        Hz.
    peak_index : int, optional
    channel_positions : array_like (num_channels, 2 or 3), optional
        um.

    Returns
    -------
    waveforms : ndarray float32
    channel_positions : ndarray (num_channels, 2) float64 or None

    Raises
    ------
    ValueError
        With expected, found and remedy.
    TypeError
        If waveforms, rate, peak index or positions are not numbers.
    """
    _check_number("sampling_frequency", sampling_frequency, "pass the recording's rate in Hz")
    if peak_index is not None:
        _check_number("peak_index", peak_index, "count it from the snippet's first sample, or leave it out")
    waveforms = _as_array(waveforms)
    if waveforms.dtype.kind not in "iufb":
        raise TypeError(f"expected waveforms of real numbers in uV, found dtype {waveforms.dtype}: convert them.")
    if waveforms.ndim != 3:
        raise ValueError(
            f"expected waveforms (num_spikes, num_samples, num_channels), found shape {waveforms.shape}: add the "
            "missing axis, e.g. waveforms[None] for one spike or waveforms[:, :, None] for one channel."
        )
    waveforms = waveforms.astype(np.float32, copy=False)
    _, num_samples, num_channels = waveforms.shape
    if num_samples < 2 or num_channels < 1:
        raise ValueError(
            f"expected at least 2 samples and 1 channel, found shape {waveforms.shape}: pass whole snippets."
        )
    if not np.isfinite(waveforms).all():
        bad = int((~np.isfinite(waveforms)).any((1, 2)).argmax())
        raise ValueError(f"expected finite waveforms, found NaN or infinity first in spike {bad}: remove such spikes.")
    if not np.isfinite(sampling_frequency) or sampling_frequency <= 0:
        raise ValueError(f"expected sampling_frequency > 0 Hz, found {sampling_frequency}: pass the recording's rate.")
    if num_samples / sampling_frequency * 1e3 < MIN_COVERED_MS:
        raise ValueError(
            f"expected snippets of at least {MIN_COVERED_MS} ms, found {num_samples} samples at {sampling_frequency} "
            f"Hz ({num_samples / sampling_frequency * 1e3:.2f} ms): cut longer snippets or correct sampling_frequency."
        )
    if peak_index is not None and not 0 <= peak_index < num_samples:
        raise ValueError(
            f"expected peak_index within the {num_samples} samples, found {peak_index}: count it from the snippet's "
            "first sample, or leave it out to have it found."
        )
    return waveforms, _check_positions(channel_positions, num_channels)


def _as_array(waveforms):
    try:
        return np.asarray(waveforms)
    except ValueError as error:
        raise ValueError("expected one array of waveforms, found snippets of other sizes: cut them alike.") from error


def _check_number(name, value, remedy):
    """Refuse, with the name of the argument, what numpy would refuse later in its own words."""
    try:
        number = np.asarray(value)
    except ValueError:  # rows of different lengths
        number = np.zeros((), dtype=object)
    if number.ndim or number.dtype.kind not in "iuf":
        raise TypeError(f"expected {name} as one number, found {value!r}: {remedy}.")


def _check_positions(positions, num_channels):
    if positions is None:
        return None
    try:
        positions = np.asarray(positions, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"expected channel_positions ({num_channels}, 2) of numbers in um, found others ({error}): convert them."
        ) from error
    if positions.ndim != 2 or positions.shape[0] != num_channels or positions.shape[1] not in (2, 3):
        raise ValueError(
            f"expected channel_positions ({num_channels}, 2) in um, one row a channel, found shape {positions.shape}: "
            "pass the positions of the waveforms' own channels."
        )
    if not np.isfinite(positions).all():
        raise ValueError("expected finite channel_positions in um, found NaN or infinity: correct the probe.")
    if positions.shape[1] == 3:
        flat = np.ptp(positions, axis=0) < FLAT_UM
        if not flat.any():
            raise ValueError(
                "expected contacts in one plane, found 3-D channel_positions: pass the two coordinates along the shank."
            )
        positions = np.delete(positions, int(flat.argmax()), axis=1)
    return positions


def nominal_positions(num_channels):
    """Contacts to assume where nobody knows them: a tetrode's square, or a column.

    Parameters
    ----------
    num_channels : int

    Returns
    -------
    list of (float, float)
        um.
    """
    if num_channels <= len(NOMINAL_TETRODE_UM):
        return list(NOMINAL_TETRODE_UM[:num_channels])
    return [(0.0, NOMINAL_PITCH_UM * index) for index in range(num_channels)]


def find_polarity(waveforms, peak_index=None):
    """Which way the spikes of an array point: -1 if most of them point up, else 1.

    Parameters
    ----------
    waveforms : ndarray (num_spikes, num_samples, num_channels)
    peak_index : int, optional
        Where to look; by default at each spike's largest deflection.

    Returns
    -------
    float
    """
    if not len(waveforms):
        return 1.0
    flat = waveforms.reshape(len(waveforms), -1) if peak_index is None else waveforms[:, int(round(peak_index))]
    largest = np.take_along_axis(flat, np.abs(flat).argmax(1)[:, None], 1)
    return -1.0 if (largest > 0).mean() > UPWARD_SHARE else 1.0


def find_peak_index(waveforms, sampling_frequency):
    """Sample of each spike's trough, searched near where the spikes of the array have it.

    Parameters
    ----------
    waveforms : ndarray (num_spikes, num_samples, num_channels)
    sampling_frequency : float
        Hz.

    Returns
    -------
    ndarray (num_spikes,) int64
    """
    size = -waveforms.min(2)
    common = int(size.mean(0).argmax())
    reach = int(round(SEARCH_MS * 1e-3 * sampling_frequency))
    start = max(0, common - reach)
    return start + size[:, start : common + reach + 1].argmax(1)


def select_channels(waveforms, peak_index, config, channel_positions=None):
    """Which input channels stand where in the contract.

    The channels nearest the spike's peak channel are kept; then they are ordered as ``config.channel_order`` says.

    Parameters
    ----------
    waveforms : ndarray (num_spikes, num_samples, num_channels)
    peak_index : ndarray (num_spikes,)
    config : HuiduRepConfig
    channel_positions : ndarray (num_channels, 2), optional
        um. Without it up to four channels are taken for a tetrode, more for a column.

    Returns
    -------
    ndarray (num_spikes, config.num_channels) int64
        -1 where there is no channel; fewer columns where the contract takes any number of channels.
    """
    num_spikes, _, num_channels = waveforms.shape
    keep = min(num_channels, config.num_channels)
    by_position = config.channel_mixing == "position"
    channels = np.full((num_spikes, keep if by_position else config.num_channels), -1)
    if channel_positions is None and config.channel_order == "center":
        # Fewer channels than the contract's stand in its middle, so that the peak channel of a snippet stays there.
        into = (channels.shape[1] - keep) // 2
        channels[:, into : into + keep] = (num_channels - keep) // 2 + np.arange(keep)
        return channels
    places = np.array(nominal_positions(num_channels)) if channel_positions is None else channel_positions
    # Rank along the probe: breaks ties of distance the same way whatever order the channels came in.
    rank = np.empty(num_channels, int)
    rank[np.lexsort((places[:, 0], places[:, 1]))] = np.arange(num_channels)
    rows = np.round(peak_index).astype(int)[:, None]
    peak_channel = np.abs(np.take_along_axis(waveforms, rows[:, :, None], 1)[:, 0]).argmax(1)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    nearest = np.stack([np.lexsort((rank, np.round(d, 3)))[:keep] for d in distance])
    if config.channel_order != "nearest_first":
        nearest = np.stack([row[np.argsort(rank[row])] for row in nearest])
    channels[:, :keep] = nearest[peak_channel]
    return channels


def resampling_matrix(num_samples, peak_index, sampling_frequency, config):
    """Operator from an input window to the contract's: resamples, and puts the peak at its place.

    Lanczos-windowed sinc, band-limited to the lower of both rates (Duchon 1979); exact copying where the rates agree
    and the shift is whole.

    Parameters
    ----------
    num_samples : int
        Of the input.
    peak_index : float
        Of the input.
    sampling_frequency : float
        Of the input, Hz.
    config : HuiduRepConfig

    Returns
    -------
    matrix : ndarray (config.num_samples, num_samples) float32
    exists : ndarray (config.num_samples,) float32
        1 where the input window covers the sample.
    """
    ratio = sampling_frequency / config.sampling_frequency
    wanted = (np.arange(config.num_samples) - config.peak_index) * ratio + peak_index
    exists = (wanted >= -0.5) & (wanted <= num_samples - 0.5)
    matrix = _lanczos_weights(wanted, num_samples, ratio)
    total = matrix.sum(1, keepdims=True)
    matrix = np.where(exists[:, None] & (np.abs(total) > 1e-6), matrix / np.where(np.abs(total) > 1e-6, total, 1), 0)
    return matrix.astype(np.float32), exists.astype(np.float32)


def _lanczos_weights(wanted, num_samples, ratio):
    """Weights (num_wanted, num_samples) of samples at `wanted` places; `ratio` is the old rate over the new one."""
    x = (wanted[:, None] - np.arange(num_samples)[None]) * min(1.0, 1 / ratio)
    weights = np.sinc(x) * np.sinc(x / LANCZOS_LOBES) * (np.abs(x) < LANCZOS_LOBES)
    # sin(pi n) is not quite 0 in floating point; without this a shift by whole samples would not copy exactly.
    weights[np.abs(weights) < 1e-12] = 0.0
    return weights


def _is_research_snippet(waveforms, config, sampling_frequency):
    """Whether snippets are what the research code feeds its encoder, which never aligns them: its window and rate."""
    is_research = config.channel_order == "center"
    return is_research and waveforms.shape[1] == config.num_samples and sampling_frequency == config.sampling_frequency


def _peaks_of(waveforms, config, sampling_frequency, peak_index):
    """Sample (num_spikes,) float64 of each spike's trough: the one given, the research code's, or the one found."""
    if not len(waveforms):
        return np.zeros(0)
    if peak_index is None and _is_research_snippet(waveforms, config, sampling_frequency):
        peak_index = config.peak_index
    if peak_index is None:
        return find_peak_index(waveforms, sampling_frequency).astype(float)
    return np.full(len(waveforms), float(peak_index))


def map_waveforms(waveforms, config, *, sampling_frequency=30000.0, peak_index=None, channel_positions=None):
    """Align, resample, window and map channels.

    Parameters
    ----------
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV, any window, rate and channel count.
    config : HuiduRepConfig
        The contract.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough, the same for all; by default each spike's own. Snippets of exactly the window and rate of
        a converted research checkpoint are taken as they are, as its own code took them.
    channel_positions : array_like (num_channels, 2), optional
        um.

    Returns
    -------
    MappedWaveforms

    Raises
    ------
    ValueError, TypeError
        See :func:`check_waveforms`.
    """
    waveforms, positions = check_waveforms(
        waveforms, sampling_frequency=sampling_frequency, peak_index=peak_index, channel_positions=channel_positions
    )
    num_spikes, num_samples, num_channels = waveforms.shape
    polarity = find_polarity(waveforms, peak_index) if config.spike_polarity == "negative" else 1.0
    if polarity < 0:
        logger.info("the spikes point up: they were turned over, for the encoder knows troughs")
        waveforms = -waveforms
    peaks = _peaks_of(waveforms, config, sampling_frequency, peak_index)
    channels = select_channels(waveforms, peaks, config, positions)
    picked = (
        np.take_along_axis(waveforms, np.maximum(channels, 0)[:, None, :], axis=2)
        if num_spikes
        else waveforms[:, :, :0]
    )
    shape = (num_spikes, config.num_samples, channels.shape[1])
    snippets, sample_mask = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
    for peak in np.unique(peaks):
        rows = peaks == peak
        matrix, exists = resampling_matrix(num_samples, peak, sampling_frequency, config)
        snippets[rows] = np.matmul(matrix, picked[rows])
        sample_mask[rows] = exists
    channel_mask = (channels >= 0).astype(np.float32)
    polarities = np.full(num_spikes, polarity, np.float32)
    places = None
    if config.channel_mixing == "position":
        known = np.array(nominal_positions(num_channels)) if positions is None else positions
        # from one of them, for whole millimetres along a shank would cost float32 its micrometres
        places = (known - known[:1])[channels].astype(np.float32)
    snippets = snippets * channel_mask[:, None, :]
    return MappedWaveforms(snippets, channel_mask, sample_mask, channels, peaks, polarities, places)


def unmap_waveforms(snippets, mapped, waveforms, config, *, sampling_frequency):
    """Put snippets back into the window and channels they came from; what the contract does not cover stays as it was.

    Parameters
    ----------
    snippets : ndarray (num_spikes, config.num_samples, config.num_channels)
    mapped : MappedWaveforms
        From :func:`map_waveforms` of `waveforms`.
    waveforms : ndarray (num_spikes, num_samples, num_channels)
    config : HuiduRepConfig
    sampling_frequency : float
        Of `waveforms`, Hz.

    Returns
    -------
    ndarray like `waveforms`, float32
    """
    result = np.array(waveforms, np.float32)
    ratio = config.sampling_frequency / sampling_frequency
    for peak in np.unique(mapped.peak_index):
        rows = np.flatnonzero(mapped.peak_index == peak)
        at = (np.arange(result.shape[1]) - peak) * ratio + config.peak_index
        covered = np.flatnonzero((at >= -1e-9) & (at <= config.num_samples - 1 + 1e-9))
        matrix = _lanczos_weights(at[covered], config.num_samples, ratio)
        back = np.matmul((matrix / matrix.sum(1, keepdims=True)).astype(np.float32), snippets[rows])
        back = back * mapped.polarity[rows, None, None]
        for column in range(mapped.channels.shape[1]):
            into = mapped.channels[rows, column]
            exists = into >= 0
            result[rows[exists, None], covered[None], into[exists, None]] = back[exists, :, column]
    return result
