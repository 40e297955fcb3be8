"""Maps waveforms of any window, sampling rate and channel count to the input that an encoder was trained on."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from .configuration_huidurep import HuiduRepConfig

logger = logging.getLogger(__name__)
# These belong to the contract: other values would change the embeddings of every published checkpoint.
LANCZOS_LOBES = 8
SEARCH_MS = 0.5
# If more spikes than this share are positive, the recording has the opposite sign convention (Axona's, for one).
UPWARD_SHARE = 0.75
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


def _find_polarity(waveforms: np.ndarray, peak_index: int | None = None) -> float:
    """Sign convention of a recording: -1 if most of its spikes are positive at `peak_index`, else 1.

    Without `peak_index`, the sign of each spike's largest deflection counts.
    """
    if not len(waveforms):
        return 1.0
    flat = waveforms.reshape(len(waveforms), -1) if peak_index is None else waveforms[:, int(round(peak_index))]
    largest = np.take_along_axis(flat, np.abs(flat).argmax(1)[:, None], 1)
    return -1.0 if (largest > 0).mean() > UPWARD_SHARE else 1.0


def _find_peak_index(waveforms: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """Sample (num_spikes,) of each spike's trough, searched within ``SEARCH_MS`` of the mean waveform's trough."""
    size = -waveforms.min(2)
    common = int(size.mean(0).argmax())
    reach = int(round(SEARCH_MS * 1e-3 * sampling_frequency))
    start = max(0, common - reach)
    return start + size[:, start : common + reach + 1].argmax(1)


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


def _peaks_of(
    waveforms: np.ndarray, config: "HuiduRepConfig", sampling_frequency: float, peak_index: int | None
) -> np.ndarray:
    """Sample (num_spikes,) float64 of each spike's trough: the given one, or the one that is found."""
    if not len(waveforms):
        return np.zeros(0)
    # The research code never aligns the spikes that it receives in its own window and rate.
    is_its_window = waveforms.shape[1] == config.num_samples and sampling_frequency == config.sampling_frequency
    if peak_index is None and config.channel_order == "center" and is_its_window:
        peak_index = config.peak_index
    if peak_index is None:
        return _find_peak_index(waveforms, sampling_frequency).astype(float)
    return np.full(len(waveforms), float(peak_index))


def map_waveforms(
    waveforms: ArrayLike,
    config: "HuiduRepConfig",
    *,
    sampling_frequency: float = 30000.0,
    peak_index: int | None = None,
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
        Sample of the trough, the same for all spikes; by default each spike's own. Snippets that have the window and
        rate of a converted research checkpoint are not aligned, as in the research code.
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
    polarity = _find_polarity(array, peak_index) if config.spike_polarity == "negative" else 1.0
    if polarity < 0:
        logger.info("the spikes are positive: they were inverted, because the encoder was trained on negative spikes")
        array = -array
    peaks = _peaks_of(array, config, sampling_frequency, peak_index)
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
    channel_mask = (channels >= 0).astype(np.float32)
    polarities, places = np.full(num_spikes, polarity, np.float32), None
    if config.channel_mixing == "position":
        known = np.array(nominal_positions(num_channels)) if positions is None else positions
        # relative to one contact: float32 cannot hold fractions of a micrometre at several millimetres along a shank
        places = (known - known[:1])[channels].astype(np.float32)
    snippets = snippets * channel_mask[:, None, :]
    return MappedWaveforms(snippets, channel_mask, sample_mask, channels, peaks, polarities, places)
