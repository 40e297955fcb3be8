"""Validation of waveforms and their description, with errors that say what to change. Only in the package."""

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

logger = logging.getLogger(__name__)
MIN_COVERED_MS = 0.4
MAX_SAMPLE_UV = 1e15  # squares of larger ones overflow float32
FLAT_UM = 1e-3  # largest extent across the plane of the contacts
# as `huidurep.sorting.geometry` has them, which this room must not import
SPACING_UM = (3.0, 5000.0)
RATE_HZ = (1000.0, 1e6)  # rates in kHz are below
# largest distance of a channel's median from zero, as a share of the largest deflection from it: of band-passed spikes
# 0.05 to 0.12 in windows of 1.3 ms or more, of raw ones with an offset of their own size 1
MAX_OFFSET_SHARE, OFFSET_WINDOW_MS, NUM_LOOKED_AT = 0.5, 1.3, 200
MANY_SPIKES, MAX_PEAK_SHIFT_MS = 20, 0.5
PEAK_UV = (1.0, 1e4)  # of a typical spike: volts and millivolts are below, steps of fine converters above


def check_waveforms(
    waveforms: ArrayLike,
    *,
    sampling_frequency: float,
    peak_index: int | None = None,
    channel_positions: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Validate the arguments of :func:`huidurep.models.input_contract.map_waveforms` before any computation.

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
    waveforms : ndarray (num_spikes, num_samples, num_channels) float32
    channel_positions : ndarray (num_channels, 2) float64 or None

    Raises
    ------
    ValueError
        If shapes or values are impossible.
    TypeError
        If waveforms, rate, peak index or positions are not numbers.
    """
    _check_number("sampling_frequency", sampling_frequency, "pass the recording's rate in Hz")
    if peak_index is not None:
        _check_number("peak_index", peak_index, "count it from the snippet's first sample, or leave it out")
    array = _as_array(waveforms)
    num_samples = array.shape[1]
    if not RATE_HZ[0] <= sampling_frequency <= RATE_HZ[1]:  # nor NaN
        raise ValueError(
            f"expected sampling_frequency of {RATE_HZ[0]:g} to {RATE_HZ[1]:g} Hz, found {sampling_frequency}: pass the "
            "recording's rate in Hz, not in kHz."
        )
    duration_ms = num_samples / sampling_frequency * 1e3
    if duration_ms < MIN_COVERED_MS:
        raise ValueError(
            f"expected snippets of at least {MIN_COVERED_MS} ms, found {num_samples} samples at {sampling_frequency} "
            f"Hz ({duration_ms:.2f} ms): cut longer snippets or correct sampling_frequency."
        )
    if peak_index is not None and not 0 <= peak_index < num_samples:
        raise ValueError(
            f"expected peak_index within the {num_samples} samples, found {peak_index}: count it from the snippet's "
            "first sample, or leave it out to have it found."
        )
    if peak_index is not None:
        _warn_of_another_peak(array, peak_index, sampling_frequency)
    _warn_unless_microvolts(array)
    if duration_ms >= OFFSET_WINDOW_MS:
        _warn_of_offsets(array)
    return array, _check_positions(channel_positions, array.shape[2])


def _warn_of_another_peak(waveforms: np.ndarray, peak_index: int, sampling_frequency: float) -> None:
    """Log a warning where many spikes are largest elsewhere in the mean: the index is that of another window."""
    if len(waveforms) < MANY_SPIKES:
        return
    sizes = np.abs(waveforms).mean(axis=0).max(axis=1)
    found = int(sizes.argmax())
    if abs(found - peak_index) > MAX_PEAK_SHIFT_MS * 1e-3 * sampling_frequency and sizes[found] > 2 * np.median(sizes):
        logger.warning("expected spikes at peak_index=%g, found them at sample %d: correct it", peak_index, found)


def _warn_unless_microvolts(waveforms: np.ndarray) -> None:
    """Log a warning where the largest deflections of the spikes are none that an electrode measures."""
    if not waveforms.size:
        return
    highest, lowest = waveforms.max(axis=(1, 2)), waveforms.min(axis=(1, 2))
    peak_uv = float(np.median(np.maximum(highest, -lowest)))
    if peak_uv > 0 and not PEAK_UV[0] <= peak_uv <= PEAK_UV[1]:
        logger.warning(
            "expected waveforms in uV, found a median peak of %.3g (plausible: %g to %g uV): embeddings depend on the "
            "amplitude; multiply volts by 1e6, and steps of an ADC by the recording's gain to uV",
            peak_uv,
            *PEAK_UV,
        )


def _warn_of_offsets(waveforms: np.ndarray) -> None:
    """Log a warning where the spikes do not stand on zero, as those of an unfiltered recording do not."""
    some = waveforms[:: max(1, len(waveforms) // NUM_LOOKED_AT)]
    if not some.size:
        return
    offsets = np.median(some, axis=1, keepdims=True)
    deflections = np.abs(some - offsets).max(axis=(1, 2))
    share = np.median(np.abs(offsets).max(axis=(1, 2)) / np.maximum(deflections, 1e-12))
    if deflections.any() and share > MAX_OFFSET_SHARE:
        logger.warning(
            "expected band-passed waveforms, found offsets of %.2g times the spikes (plausible: up to %g): embeddings "
            "depend on them; cut the waveforms from a recording filtered to 300-6000 Hz",
            share,
            MAX_OFFSET_SHARE,
        )


def _as_array(waveforms: ArrayLike) -> np.ndarray:
    """Array (num_spikes, num_samples, num_channels) float32 of finite values."""
    if np.ma.is_masked(waveforms):
        bad = int(np.ma.getmaskarray(waveforms).reshape(len(waveforms), -1).any(axis=1).argmax())  # type: ignore[arg-type]
        raise ValueError(f"expected waveforms without masked samples, found some first in spike {bad}: remove them.")
    try:
        array = np.asarray(waveforms)
    except ValueError as error:
        raise ValueError("expected one array of waveforms, found snippets of other sizes: cut them alike.") from error
    if array.dtype.kind not in "iufb":
        raise TypeError(f"expected waveforms of real numbers in uV, found dtype {array.dtype}: convert them.")
    if array.ndim != 3:
        raise ValueError(
            f"expected waveforms (num_spikes, num_samples, num_channels), found shape {array.shape}: add the "
            "missing axis, e.g. waveforms[None] for one spike or waveforms[:, :, None] for one channel."
        )
    if array.shape[1] < 2 or array.shape[2] < 1:
        raise ValueError(f"expected at least 2 samples and 1 channel, found shape {array.shape}: pass whole snippets.")
    array = array.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):
        is_possible = np.abs(array) <= MAX_SAMPLE_UV  # not true of NaN
    if not is_possible.all():
        bad = int((~is_possible).any((1, 2)).argmax())
        raise ValueError(
            f"expected finite waveforms of at most {MAX_SAMPLE_UV:g} uV, found more, NaN or infinity first in spike "
            f"{bad}: remove such spikes."
        )
    return array


def _check_number(name: str, value: Any, remedy: str) -> None:
    """Raise a TypeError that names the argument, where numpy would raise one later that does not."""
    try:
        number = np.asarray(value)
    except ValueError:  # rows of different lengths
        number = np.zeros((), dtype=object)
    if number.ndim or number.dtype.kind not in "iuf":
        raise TypeError(f"expected {name} as one number, found {value!r}: {remedy}.")


def _check_positions(given: ArrayLike | None, num_channels: int) -> np.ndarray | None:
    if given is None:
        return None
    try:
        positions = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"expected channel_positions ({num_channels}, 2) of numbers in um, found others ({error}): convert them."
        ) from error
    if positions.ndim != 2 or positions.shape[0] != num_channels or positions.shape[1] not in (2, 3):
        raise ValueError(
            f"expected channel_positions ({num_channels}, 2) in um, one per channel, found shape {positions.shape}: "
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
    _check_spacing(positions)
    return positions


def _check_spacing(positions: np.ndarray) -> None:
    """Raise ValueError where all contacts are closer, or further apart, than on any probe: another unit than um."""
    if len(positions) < 2:
        return
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    if nearest.max() < SPACING_UM[0] or nearest.min() > SPACING_UM[1]:
        raise ValueError(
            f"expected channel_positions in um, {SPACING_UM[0]:g} to {SPACING_UM[1]:g} um apart, found "
            f"{np.median(nearest):g} (median): multiply positions in mm by 1000, leave out unknown ones."
        )
