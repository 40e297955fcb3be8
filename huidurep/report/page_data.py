"""Arrays of a sorting as compact JSON values: what the page's script draws from."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from spikeinterface.postprocessing.correlograms import compute_auto_correlograms

from ..sorting.postprocessing import Measures
from .similar_units import CORRELOGRAM_BIN_MS, CORRELOGRAM_MS

if TYPE_CHECKING:
    from ..result import SortingResult

TEMPLATE_SAMPLES = 48  # of a drawn waveform: as many as a small picture shows
SPARKLINE_SAMPLES = 40
AMPLITUDE_POINTS = 1000  # of a unit
DRIFT_POINTS = 12000
RATE_BINS = 480
MAX_SHORT = 32767
TREND_BINS, TREND_SPIKES = 24, 5
MOTION_BINS = 60
SHORTEST_SHANK_UM = 60.0  # on shorter ones tissue that moves is not seen as moving


class TimeAxis:
    """Segments one after the other on one axis of time.

    Parameters
    ----------
    result : SortingResult
        Its provenance tells how long the segments are; without it, the last spikes do.
    """

    def __init__(self, result: SortingResult):
        sorting = result.sorting
        self.sampling_frequency = sorting.get_sampling_frequency()
        self.is_exact = "num_samples" in result.provenance
        if self.is_exact:
            num_samples = np.array(result.provenance["num_samples"], dtype="int64")
        else:
            num_samples = np.zeros(sorting.get_num_segments(), dtype="int64")
            vector = sorting.to_spike_vector()
            np.maximum.at(num_samples, vector["segment_index"], vector["sample_index"] + 1)
        self.durations_s = num_samples / self.sampling_frequency
        self.starts_s = np.concatenate([[0.0], np.cumsum(self.durations_s)[:-1]])
        self.total_s = float(max(self.durations_s.sum(), 1.0 / self.sampling_frequency))

    def of(self, spikes: np.ndarray) -> np.ndarray:
        """Place of spikes on the axis.

        Parameters
        ----------
        spikes : ndarray, (num_spikes,)
            SpikeInterface's spike vector.

        Returns
        -------
        ndarray of float64, (num_spikes,)
            Seconds.
        """
        return self.starts_s[spikes["segment_index"]] + spikes["sample_index"] / self.sampling_frequency

    def pack(self, times_s: np.ndarray) -> str:
        """Times as 65536ths of the axis.

        Parameters
        ----------
        times_s : ndarray, (num_spikes,)

        Returns
        -------
        str
            As `to_base64` has it, uint16.
        """
        return to_base64(np.clip(times_s / self.total_s * 65535, 0, 65535), "<u2")

    def describe(self) -> dict:
        """The axis for the page.

        Returns
        -------
        dict
            total_s, and starts_s of segments after the first.
        """
        return {"total_s": self.total_s, "starts_s": [round(float(start), 4) for start in self.starts_s[1:]]}


def spike_counts(sorting) -> np.ndarray:
    """Number of spikes of every unit, as they are now: the property of that name may be older than a curation.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    ndarray of int, (num_units,)
    """
    return np.bincount(sorting.to_spike_vector()["unit_index"], minlength=sorting.get_num_units())


def to_base64(values: np.ndarray, dtype: str) -> str:
    """Numbers as text, rounded to whole ones.

    Parameters
    ----------
    values : ndarray
        Any shape; flattened.
    dtype : str
        Little-endian integer type of numpy.

    Returns
    -------
    str
    """
    return base64.b64encode(np.rint(values).astype(dtype).tobytes()).decode("ascii")


def pack_templates(measures: Measures, sampling_frequency: float) -> list[dict]:
    """Waveforms of every unit at the contacts around it.

    Parameters
    ----------
    measures : Measures
    sampling_frequency : float
        Hz.

    Returns
    -------
    list of dict
        channels (rows of the contacts), values (int16, channel by channel, num_samples each), uv (of one step),
        start_ms and end_ms (from the peak).
    """
    num_samples = measures.templates_uv.shape[1]
    kept = np.unique(np.linspace(0, num_samples - 1, min(TEMPLATE_SAMPLES, num_samples)).round().astype(int))
    window_ms = (kept[[0, -1]] - int(measures.peak_index)) / sampling_frequency * 1000.0
    packed = []
    for template_uv, channels in zip(measures.templates_uv, measures.template_channels, strict=True):
        shown = template_uv[kept][:, channels >= 0].T
        step_uv = float(np.abs(shown).max(initial=0.0)) / MAX_SHORT or 1.0
        packed.append(
            {
                "channels": channels[channels >= 0].tolist(),
                "values": to_base64(shown / step_uv, "<i2"),
                "uv": step_uv,
                "num_samples": len(kept),
                "start_ms": round(float(window_ms[0]), 4),
                "end_ms": round(float(window_ms[1]), 4),
            }
        )
    return packed


def pack_amplitudes(measures: Measures, unit_index: np.ndarray, times_s: np.ndarray, axis: TimeAxis, seed: int) -> list:
    """Amplitude over time of every unit, thinned to 1000 spikes.

    Parameters
    ----------
    measures : Measures
    unit_index : ndarray of int, (num_spikes,)
    times_s : ndarray of float, (num_spikes,)
        On the axis.
    axis : TimeAxis
    seed : int
        Which spikes are drawn.

    Returns
    -------
    list of dict
        times, values (int16), uv (of one step), num_shown.
    """
    rng, packed = np.random.default_rng(seed), []
    for unit in range(len(measures.templates_uv)):
        rows = np.flatnonzero(unit_index == unit)
        rows = np.sort(rng.permutation(rows)[:AMPLITUDE_POINTS])
        values = measures.amplitudes_uv[rows]
        step_uv = float(np.abs(values).max(initial=0.0)) / MAX_SHORT or 1.0
        packed.append(
            {
                "times": axis.pack(times_s[rows]),
                "values": to_base64(values / step_uv, "<i2"),
                "uv": step_uv,
                "num_shown": len(rows),
            }
        )
    return packed


def pack_autocorrelograms(sorting) -> list[list[int]]:
    """Lags between the spikes of each unit, from SpikeInterface.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    list of list of int
        Counts in bins of 0.5 ms from 0 to 25 ms; the other half is its mirror image.
    """
    counts, _ = compute_auto_correlograms(sorting, window_ms=CORRELOGRAM_MS, bin_ms=CORRELOGRAM_BIN_MS)
    return counts[:, counts.shape[1] // 2 :].astype(int).tolist()


def pack_rates(unit_index: np.ndarray, times_s: np.ndarray, num_units: int, axis: TimeAxis) -> dict:
    """How much each unit fires over time, each against its own busiest moment.

    Parameters
    ----------
    unit_index : ndarray of int, (num_spikes,)
    times_s : ndarray of float, (num_spikes,)
        On the axis.
    num_units : int
    axis : TimeAxis

    Returns
    -------
    dict
        num_bins, bin_s, values (uint8, unit by unit).
    """
    bins = np.minimum((times_s / axis.total_s * RATE_BINS).astype(int), RATE_BINS - 1)
    counts = np.bincount(unit_index * RATE_BINS + bins, minlength=num_units * RATE_BINS).reshape(num_units, RATE_BINS)
    # the root, for else one burst makes the rest of a unit's life look silent
    shares = np.sqrt(counts / np.maximum(counts.max(axis=1, keepdims=True), 1))
    return {"num_bins": RATE_BINS, "bin_s": axis.total_s / RATE_BINS, "values": to_base64(255 * shares, "<u1")}


def pack_drift(measures: Measures, times_s: np.ndarray, axis: TimeAxis, seed: int) -> dict | None:
    """Depth of spikes over time as recorded, before motion was corrected.

    Parameters
    ----------
    measures : Measures
    times_s : ndarray of float, (num_spikes,)
        On the axis.
    axis : TimeAxis
    seed : int
        Which spikes are drawn, at most 12000.

    Returns
    -------
    dict | None
        times, depths (int16), um (of one step), sizes (uint8, 0 to 3: quarters of the spikes by amplitude), moved_um
        (most that the tissue moved), line (its median in 60 stretches). None for contacts too near to each other.
    """
    spans_um = [
        np.ptp(measures.channel_positions_um[measures.channel_groups == group, 1])
        for group in np.unique(measures.channel_groups)
    ]
    if len(times_s) == 0 or max(spans_um, default=0.0) < SHORTEST_SHANK_UM:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(len(times_s))[:DRIFT_POINTS])
    rows = rows[np.isfinite(measures.positions_um[rows, 1])]
    depths_um = measures.positions_um[rows, 1] + measures.motion_um[rows]
    size = np.abs(measures.amplitudes_uv[rows])
    step_um = float(np.abs(depths_um).max(initial=0.0)) / MAX_SHORT or 1.0
    return {
        "times": axis.pack(times_s[rows]),
        "depths": to_base64(depths_um / step_um, "<i2"),
        "um": step_um,
        "sizes": to_base64(np.searchsorted(np.quantile(size, [0.25, 0.5, 0.75]), size), "<u1"),
        "num_shown": len(rows),
        "moved_um": round(float(np.ptp(measures.motion_um)), 1),
        "line": _stretch_medians(measures.motion_um, times_s, axis, MOTION_BINS) if measures.motion_um.any() else None,
    }


def pack_trend(measures: Measures, unit_index: np.ndarray, times_s: np.ndarray, axis: TimeAxis) -> list:
    """How the amplitude of each unit changes: drift where contacts are too near to each other to see tissue move.

    Parameters
    ----------
    measures : Measures
    unit_index : ndarray of int, (num_spikes,)
    times_s : ndarray of float, (num_spikes,)
        On the axis.
    axis : TimeAxis

    Returns
    -------
    list of list
        A line a unit: medians in 24 stretches of the axis, as shares of the median of all; None where it has fewer than
        five spikes.
    """
    lines = []
    for unit in range(len(measures.templates_uv)):
        own = unit_index == unit
        usual = float(np.median(measures.amplitudes_uv[own])) if own.any() else 1.0
        medians = _stretch_medians(measures.amplitudes_uv[own], times_s[own], axis, TREND_BINS, TREND_SPIKES)
        lines.append([None if value is None else round(value / (usual or 1.0), 3) for value in medians])
    return lines


def sparkline(template_uv: np.ndarray, width: float, height: float) -> str:
    """A waveform as the points of an SVG polyline.

    Parameters
    ----------
    template_uv : ndarray, (num_samples,)
    width, height : float
        Of the picture.

    Returns
    -------
    str
        "x,y x,y ...", 0 uV at half the height.
    """
    kept = np.linspace(0, len(template_uv) - 1, SPARKLINE_SAMPLES).round().astype(int)
    values = template_uv[kept] / max(float(np.abs(template_uv).max()), 1e-9)
    x, y = np.linspace(1, width - 1, len(kept)), height / 2 * (1 - 0.9 * values)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _stretch_medians(values: np.ndarray, times_s: np.ndarray, axis: TimeAxis, num_bins: int, fewest: int = 1) -> list:
    """Medians in equal stretches of the axis; None where there are fewer values."""
    bins = np.minimum((times_s / axis.total_s * num_bins).astype(int), num_bins - 1)
    parts = [values[bins == number] for number in range(num_bins)]
    return [round(float(np.median(part)), 2) if len(part) >= fewest else None for part in parts]
