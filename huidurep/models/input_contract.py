"""Maps waveforms of any window, sampling rate and channel count to the input that an encoder was trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from .configuration_huidurep import HuiduRepConfig

# These belong to the contract: other values would change the embeddings of every published checkpoint.
LANCZOS_LOBES = 8
SIGN_MS = 0.07  # around a given peak index: the width of a trough
TROUGH_MS = 0.15  # around the largest deflection, where the trough is not given
# Standard deviations of a smoothed trough and of what is subtracted: after-waves of a spike are slower than its trough.
SMOOTHED_MS, SLOW_MS = 0.05, 0.35
# Where a trough is expected in a snippet, as shares of its window, and how much a deflection elsewhere counts.
EXPECTED_PLACES, PLACE_SPREAD, ELSEWHERE = (0.21, 0.45), 0.2, 0.3
UPWARD_FACTOR = 1.4  # most spikes point down: fewer are turned over because of noise or of an overlapping spike
NOMINAL_TETRODE_UM = ((0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5))
NOMINAL_PITCH_UM = 25.0


@dataclass(frozen=True)
class MappedWaveforms:
    """Snippets that meet the input contract of an encoder.

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
        Sample of the input window that became the contract's peak index.
    polarity : ndarray (num_spikes,) float32
        -1 where positive spikes were inverted, else 1.
    positions_um : ndarray (num_spikes, num_channels, 2) float32 or None
        Contact positions relative to the first contact; None if the encoder mixes channels by index.
    """

    snippets: np.ndarray
    channel_mask: np.ndarray
    sample_mask: np.ndarray
    channels: np.ndarray
    peak_index: np.ndarray
    polarity: np.ndarray
    positions_um: np.ndarray | None = None

    def __getitem__(self, rows: slice | np.ndarray) -> "MappedWaveforms":
        """Select spikes by a slice or an index (num_selected,)."""
        selected: dict[str, Any] = {name: None if each is None else each[rows] for name, each in vars(self).items()}
        return MappedWaveforms(**selected)


def _checked(waveforms: ArrayLike, **description: Any) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        from huidurep.models.waveform_checks import check_waveforms
    except ModuleNotFoundError:  # published code: the checks with advice are in the package
        array, positions = np.asarray(waveforms, np.float32), description["channel_positions"]
        if array.ndim != 3 or not np.isfinite(array).all():
            raise ValueError("expected finite waveforms (num_spikes, num_samples, num_channels)") from None
        return array, None if positions is None else np.asarray(positions, float)
    return check_waveforms(waveforms, **description)


def nominal_positions(num_channels: int) -> list[tuple[float, float]]:
    """Contact positions to assume when they are unknown: a tetrode's square, or one column.

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


def _find_polarity(waveforms: np.ndarray, sampling_frequency: float, peak_index: int) -> np.ndarray:
    """Sign (num_spikes,) of each spike at its peak: -1 where it points up, else 1.

    Mean deflections of the channels within ``SIGN_MS`` decide, by their power. Neither a larger after-wave nor a larger
    spike elsewhere in the snippet turns a spike over.
    """
    reach, peak = int(round(SIGN_MS * 1e-3 * sampling_frequency)), int(round(peak_index))
    mean = waveforms[:, max(0, peak - reach) : peak + reach + 1].mean(1)
    up, down = ((np.maximum(sign * mean, 0) ** 2).sum(1) for sign in (1, -1))
    return np.where(up > UPWARD_FACTOR**2 * down, -1, 1).astype(np.float32)


def _find_peaks(
    waveforms: np.ndarray, sampling_frequency: float, points_up: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """Sample (num_spikes,) of each spike's trough, and its sign (num_spikes,): -1 where it points up, else 1.

    The largest deflection of the snippet without its slow waves; one that is early or late in the window counts less.
    """
    num_samples = waveforms.shape[1]
    waveforms = np.matmul(_smoothing(num_samples, sampling_frequency), waveforms)
    places = np.arange(num_samples) / num_samples
    offset = (places - np.clip(places, *EXPECTED_PLACES)) / PLACE_SPREAD
    weights = ELSEWHERE + (1 - ELSEWHERE) * np.exp(-0.5 * offset**2)
    down, up = -waveforms.min(2), waveforms.max(2)
    is_up = (up * weights).max(1) > UPWARD_FACTOR * (down * weights).max(1)
    if points_up is not None:
        is_up = points_up
    size = np.where(is_up[:, None], up, down)
    reach = max(1, int(round(TROUGH_MS * 1e-3 * sampling_frequency)))
    near = np.abs(np.arange(num_samples) - (size * weights).argmax(1)[:, None]) <= reach
    return np.where(near, size, -np.inf).argmax(1), np.where(is_up, -1, 1).astype(np.float32)


def _smoothing(num_samples: int, sampling_frequency: float) -> np.ndarray:
    """Operator (num_samples, num_samples) float32: the difference of a narrow and a wide Gaussian mean."""
    lags_ms = (np.arange(num_samples)[:, None] - np.arange(num_samples)) * 1e3 / sampling_frequency
    narrow, wide = (np.exp(-0.5 * (lags_ms / width_ms) ** 2) for width_ms in (SMOOTHED_MS, SLOW_MS))
    return (narrow / narrow.sum(1, keepdims=True) - wide / wide.sum(1, keepdims=True)).astype(np.float32)


def _select_channels(
    waveforms: np.ndarray,
    peak_index: np.ndarray,
    config: "HuiduRepConfig",
    channel_positions: np.ndarray | None = None,
) -> np.ndarray:
    """Input channel (num_spikes, config.num_channels) int64 of each channel of the snippets, -1 where there is none.

    The channels nearest to the spike's peak channel are kept, in the order that ``config.channel_order`` asks for.
    Encoders that mix channels by position get fewer columns if the recording has fewer channels.
    """
    num_spikes, _, num_channels = waveforms.shape
    keep = min(num_channels, config.num_channels)
    by_position = config.channel_mixing == "position"
    channels = np.full((num_spikes, keep if by_position else config.num_channels), -1)
    if channel_positions is None and config.channel_order == "center":
        # Fewer channels than the contract's go into its middle, where the research code expects the peak channel.
        into = (channels.shape[1] - keep) // 2
        channels[:, into : into + keep] = (num_channels - keep) // 2 + np.arange(keep)
        return channels
    places = np.array(nominal_positions(num_channels)) if channel_positions is None else channel_positions
    # The rank along the probe breaks ties of distance, so that the order of the recording's channels has no influence.
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


def resampling_matrix(
    num_samples: int, peak_index: float, sampling_frequency: float, config: "HuiduRepConfig"
) -> tuple[np.ndarray, np.ndarray]:
    """Linear operator that resamples an input window and moves its peak to ``config.peak_index``.

    Lanczos-windowed sinc, band-limited to the lower of both rates (Duchon 1979). Samples are copied exactly where the
    rates are equal and the shift is a whole number of samples.

    Parameters
    ----------
    num_samples, peak_index, sampling_frequency
        Of the input window (Hz).
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


def _lanczos_weights(wanted: np.ndarray, num_samples: int, ratio: float) -> np.ndarray:
    """Weights (num_wanted, num_samples) that interpolate at the times `wanted`; `ratio` is old rate / new rate."""
    x = (wanted[:, None] - np.arange(num_samples)[None]) * min(1.0, 1 / ratio)
    weights = np.sinc(x) * np.sinc(x / LANCZOS_LOBES) * (np.abs(x) < LANCZOS_LOBES)
    # sin(pi n) is not exactly 0 in floating point; without this, a shift by whole samples would not copy exactly.
    weights[np.abs(weights) < 1e-12] = 0.0
    return weights


def sign_of_each(peak_sign: ArrayLike | None, num_spikes: int) -> np.ndarray | None:
    """Signs that were given, one for each spike.

    Parameters
    ----------
    peak_sign : {"neg", "pos"} or array_like of them (num_spikes,), optional
    num_spikes : int

    Returns
    -------
    ndarray (num_spikes,) of str, or None
        None where the signs have to be found.

    Raises
    ------
    ValueError
        Other words, or another number of them.
    """
    if peak_sign is None:
        return None
    given = np.asarray(peak_sign)
    if given.shape not in ((), (num_spikes,)) or not np.isin(given, ("neg", "pos")).all():
        found = f"an array {given.shape} with {np.unique(given)[:3].tolist()}" if given.ndim else repr(peak_sign)
        raise ValueError(
            f'expected peak_sign "neg", "pos" or an array with one of them for each of {num_spikes} spikes, found '
            f"{found}: leave it out to find the signs."
        )
    return np.broadcast_to(given, num_spikes)


def _peaks_and_signs(
    waveforms: np.ndarray,
    config: "HuiduRepConfig",
    sampling_frequency: float,
    peak_index: int | None,
    peak_sign: ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample (num_spikes,) float64 of each spike's trough, given or found, and the sign (num_spikes,) to multiply by.

    Spike by spike, so that a row never depends on the other rows of an array.
    """
    num_spikes = len(waveforms)
    signs_given = sign_of_each(peak_sign, num_spikes)
    if config.spike_polarity != "negative":
        signs_given = np.full(num_spikes, "neg")
    # The research code never aligns the spikes that it receives in its own window and rate.
    is_its_window = waveforms.shape[1] == config.num_samples and sampling_frequency == config.sampling_frequency
    if peak_index is None and config.channel_order == "center" and is_its_window:
        peak_index = config.peak_index
    points_up = None if signs_given is None else signs_given == "pos"
    if peak_index is None:
        peaks, signs = _find_peaks(waveforms, sampling_frequency, points_up)
    elif points_up is None:
        peaks, signs = np.full(num_spikes, peak_index), _find_polarity(waveforms, sampling_frequency, peak_index)
    else:
        peaks, signs = np.full(num_spikes, peak_index), np.where(points_up, -1, 1)
    return peaks.astype(float), signs.astype(np.float32)


def map_waveforms(
    waveforms: ArrayLike,
    config: "HuiduRepConfig",
    *,
    sampling_frequency: float = 30000.0,
    peak_index: int | None = None,
    peak_sign: ArrayLike | None = None,
    channel_positions: ArrayLike | None = None,
) -> MappedWaveforms:
    """Align, resample, window and select channels of waveforms.

    Parameters
    ----------
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV, any window, rate and channel count.
    config : HuiduRepConfig
        Input contract.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough, the same for all spikes; by default each spike's own: its largest deflection without slow
        waves; early and late ones count less. Windows of converted research checkpoints are not aligned.
    peak_sign : {"neg", "pos"} or array_like of them (num_spikes,), optional
        By default each spike's own: up where its deflections at the trough are 1.4 times as large upwards.
    channel_positions : array_like (num_channels, 2), optional
        um.

    Returns
    -------
    MappedWaveforms

    Raises
    ------
    ValueError, TypeError
        See :func:`huidurep.models.waveform_checks.check_waveforms`.
    """
    array, positions = _checked(
        waveforms, sampling_frequency=sampling_frequency, peak_index=peak_index, channel_positions=channel_positions
    )
    num_spikes, num_samples, num_channels = array.shape
    peaks, polarity = _peaks_and_signs(array, config, sampling_frequency, peak_index, peak_sign)
    if (polarity < 0).any():
        array = array * polarity[:, None, None]
    channels = _select_channels(array, peaks, config, positions)
    index = np.maximum(channels, 0)[:, None, :]
    picked = np.take_along_axis(array, index, axis=2) if num_spikes else array[:, :, :0]
    shape = (num_spikes, config.num_samples, channels.shape[1])
    snippets, sample_mask = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
    for peak in np.unique(peaks):
        rows = peaks == peak
        matrix, exists = resampling_matrix(num_samples, peak, sampling_frequency, config)
        snippets[rows] = np.matmul(matrix, picked[rows])
        sample_mask[rows] = exists
    channel_mask, places = (channels >= 0).astype(np.float32), None
    if config.channel_mixing == "position":
        known = np.array(nominal_positions(num_channels)) if positions is None else positions
        # relative to one contact: float32 cannot hold fractions of a micrometre at several millimetres along a shank
        places = (known - known[:1])[channels].astype(np.float32)
    snippets = snippets * channel_mask[:, None, :]
    return MappedWaveforms(snippets, channel_mask, sample_mask, channels, peaks, polarity, places)
