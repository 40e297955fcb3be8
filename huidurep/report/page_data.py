"""Data of the figures in the report, as compact JSON values for its script."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting
from spikeinterface.postprocessing.correlograms import compute_auto_correlograms

from ..provenance import check_same_recording
from ..sorting.postprocessing import UnitMeasurements, measure_again
from ..sorting.recorded_times import has_times
from ..sorting.stored_arrays import check_parts
from .clusters import draw_spikes, embedding_plane, find_views
from .settings import REPORT_SETTINGS, ReportSettings
from .similar_units import CORRELOGRAM_BIN_MS, CORRELOGRAM_MS

if TYPE_CHECKING:
    from ..result import SortingResult

TEMPLATE_SAMPLES = 48  # a small figure does not show more
SPARKLINE_SAMPLES = 40
AMPLITUDE_POINTS = 1000  # a unit
DRIFT_POINTS = 12000
RATE_BINS = 480
MAX_INT16 = 32767
ISI_EDGES_MS = 10.0 ** np.linspace(-0.5, 4.5, 51)  # 0.3 ms to 32 s, ten bins a decade
TREND_BINS, MIN_TREND_SPIKES = 24, 5
MOTION_BINS = 60
MIN_SPAN_UM = 60.0  # on shorter probes drift changes amplitudes, not depths


def get_measurements(result: SortingResult, recording: BaseRecording | None = None) -> UnitMeasurements | None:
    """Measurements of a result, or of the recording where those of the result are missing or incomplete.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted.

    Returns
    -------
    UnitMeasurements | None
        None without measurements and recording, and without units.

    Raises
    ------
    ValueError
        Another recording than the one that was sorted, or units that were replaced.
    """
    check_parts(result)
    known = result.measurements
    if recording is None:
        return known
    check_same_recording(result, recording)
    if known is not None and known.drawn_spikes is not None:
        return known
    return measure_again(result.sorting, recording, result.parameters)


class TimeAxis:
    """One time axis for all segments, one after the other, labelled with the recording's own times.

    Parameters
    ----------
    result : SortingResult
        Segments end at their durations in the provenance, or at their last spikes in results of earlier versions.

    Attributes
    ----------
    durations_s : ndarray of float64, (num_segments,)
        Of what was recorded, without the gaps of a time vector.
    first_s : float
        Time of the first sample of the first segment.
    starts_s : ndarray of float64, (num_segments,)
        Start of each segment on the axis, from `first_s` on.
    recorded_s : ndarray of float64, (num_segments,)
        Time of the first sample of each segment; segments of recordings without own times follow each other.
    total_s : float
        Length of the axis, with gaps.
    """

    def __init__(self, result: SortingResult):
        self._sorting = sorting = result.sorting
        self.sampling_frequency = sorting.get_sampling_frequency()
        known = result.provenance.get("recording", {})
        self.is_exact = "num_samples" in known
        if self.is_exact:
            num_samples = np.array(known["num_samples"], dtype="int64")
        else:
            num_samples = np.zeros(sorting.get_num_segments(), dtype="int64")
            vector = sorting.to_spike_vector()
            np.maximum.at(num_samples, vector["segment_index"], vector["sample_index"] + 1)
        self.durations_s = num_samples / self.sampling_frequency
        self.first_s = float(np.nan_to_num(sorting.get_start_time(0)))
        lengths_s = [self._length_s(index, int(count)) for index, count in enumerate(num_samples)]
        self.starts_s = np.concatenate([[0.0], np.cumsum(lengths_s)[:-1]])
        self.recorded_s = self.starts_s
        if has_times(sorting):
            self.recorded_s = np.nan_to_num([sorting.get_start_time(index) for index in range(len(num_samples))])
        self.total_s = float(max(sum(lengths_s), 1.0 / self.sampling_frequency))

    def _length_s(self, segment_index: int, num_samples: int) -> float:
        """Length of a segment on the axis."""
        length_s = num_samples / self.sampling_frequency
        if num_samples and self._sorting.has_time_vector(segment_index):
            last = self._sorting.sample_index_to_time(num_samples - 1, segment_index)
            with_gaps_s = float(last - self._sorting.get_start_time(segment_index)) + 1.0 / self.sampling_frequency
            return with_gaps_s if with_gaps_s > length_s else length_s  # wrong times may go back, or be NaN
        return length_s

    def of(self, spikes: np.ndarray) -> np.ndarray:
        """Times of spikes on the axis.

        Parameters
        ----------
        spikes : ndarray, (num_spikes,)
            SpikeInterface's spike vector.

        Returns
        -------
        ndarray of float64, (num_spikes,)
            Seconds from `first_s` on.
        """
        times_s = self.starts_s[spikes["segment_index"]] + spikes["sample_index"] / self.sampling_frequency
        for index, start_s in enumerate(self.starts_s):
            if self._sorting.has_time_vector(index):
                own = spikes["segment_index"] == index
                recorded_s = self._sorting.sample_index_to_time(spikes["sample_index"][own], index)
                times_s[own] = start_s + recorded_s - self._sorting.get_start_time(index)
        return np.fmin(np.fmax(times_s, 0.0), self.total_s)  # wrong times may go back, or be NaN

    def pack(self, times_s: np.ndarray) -> str:
        """Encode times as fractions of the axis.

        Parameters
        ----------
        times_s : ndarray, (num_spikes,)

        Returns
        -------
        str
            uint16 (0: start, 65535: end) in base64.
        """
        return to_base64(np.clip(times_s / self.total_s * 65535, 0, 65535), "<u2")

    def describe(self) -> dict:
        """Describe the axis for the script.

        Returns
        -------
        dict
            first_s, total_s, and starts_s and recorded_s of all segments but the first.
        """
        return {
            "first_s": self.first_s,
            "total_s": self.total_s,
            "starts_s": [round(float(start), 4) for start in self.starts_s[1:]],
            "recorded_s": [round(float(start), 4) for start in self.recorded_s[1:]],
        }


def spike_counts(sorting: BaseSorting) -> np.ndarray:
    """Count the spikes of every unit; the property num_spikes may be older than a manual curation.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    ndarray of int, (num_units,)
    """
    return np.bincount(sorting.to_spike_vector()["unit_index"], minlength=sorting.get_num_units())


def to_base64(values: np.ndarray, dtype: str) -> str:
    """Encode rounded numbers in base64.

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


def pack_templates(measurements: UnitMeasurements, sampling_frequency: float) -> list[dict]:
    """Encode the template of every unit.

    Parameters
    ----------
    measurements : UnitMeasurements
    sampling_frequency : float
        Hz.

    Returns
    -------
    list of dict
        channels (row of each in the channel positions), values (int16, num_samples of each channel in turn), uv (of
        one integer step), num_samples, start_ms and end_ms (relative to the peak); spread (uint8, distance of the 10 %
        quantile below and of the 90 % quantile above, each like values; None where the result has no quantiles) and
        spread_uv (of one step).
    """
    num_samples = measurements.templates_uv.shape[1]
    kept = np.unique(np.linspace(0, num_samples - 1, min(TEMPLATE_SAMPLES, num_samples)).round().astype(int))
    window_ms = (kept[[0, -1]] - int(measurements.peak_index)) / sampling_frequency * 1000.0
    packed = []
    for unit, channels in enumerate(measurements.template_channels):
        shown = measurements.templates_uv[unit][kept][:, channels >= 0].T
        spread, spread_uv = None, 1.0
        if measurements.template_quantiles_uv is not None:
            quantiles_uv = measurements.template_quantiles_uv[:, unit][:, kept][:, :, channels >= 0].transpose(0, 2, 1)
            # a median of means may lie beside the quantiles of a few spikes
            distances_uv = np.nan_to_num(np.maximum([shown - quantiles_uv[0], quantiles_uv[1] - shown], 0.0))
            spread_uv = float(distances_uv.max(initial=0.0)) / 255 or 1.0
            spread = to_base64(distances_uv / spread_uv, "<u1")
        step_uv = float(np.abs(shown).max(initial=0.0)) / MAX_INT16 or 1.0
        packed.append(
            {
                "channels": channels[channels >= 0].tolist(),
                "values": to_base64(shown / step_uv, "<i2"),
                "uv": step_uv,
                "num_samples": len(kept),
                "start_ms": round(float(window_ms[0]), 4),
                "end_ms": round(float(window_ms[1]), 4),
                "spread": spread,
                "spread_uv": spread_uv,
            }
        )
    return packed


def pack_amplitudes(
    measurements: UnitMeasurements, unit_index: np.ndarray, times_s: np.ndarray, axis: TimeAxis, seed: int
) -> list:
    """Encode the amplitudes of every unit, of at most 1000 spikes drawn at random.

    Parameters
    ----------
    measurements : UnitMeasurements
    unit_index : ndarray of int, (num_spikes,)
    times_s : ndarray of float, (num_spikes,)
        Times on the axis.
    axis : TimeAxis
    seed : int
        Selects the spikes.

    Returns
    -------
    list of dict
        times, values (int16), uv (of one integer step), num_shown.
    """
    rng, packed = np.random.default_rng(seed), []
    for unit in range(len(measurements.templates_uv)):
        rows = np.flatnonzero(unit_index == unit)
        rows = np.sort(rng.permutation(rows)[:AMPLITUDE_POINTS])
        values = measurements.amplitudes_uv[rows]
        step_uv = float(np.abs(values).max(initial=0.0)) / MAX_INT16 or 1.0
        packed.append(
            {
                "times": axis.pack(times_s[rows]),
                "values": to_base64(values / step_uv, "<i2"),
                "uv": step_uv,
                "num_shown": len(rows),
            }
        )
    return packed


def pack_autocorrelograms(sorting: BaseSorting) -> list[list[int]]:
    """Compute the autocorrelogram of every unit, with SpikeInterface.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    list of list of int
        Counts in bins of 0.5 ms for lags from 0 to 25 ms; negative lags are their mirror image.
    """
    counts, _ = compute_auto_correlograms(sorting, window_ms=CORRELOGRAM_MS, bin_ms=CORRELOGRAM_BIN_MS)
    return counts[:, counts.shape[1] // 2 :].astype(int).tolist()


def isi_histograms(sorting: BaseSorting) -> np.ndarray:
    """Count the inter-spike intervals of every unit in the bins of `ISI_EDGES_MS`.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    ndarray of int, (num_units, num_bins)
        Shorter and longer intervals are in the first and the last bin; none crosses segments.
    """
    vector = sorting.to_spike_vector()
    ordered = vector[np.argsort(vector["unit_index"], kind="stable")]
    is_pair = (np.diff(ordered["unit_index"]) == 0) & (np.diff(ordered["segment_index"]) == 0)
    intervals_ms = np.diff(ordered["sample_index"])[is_pair] / sorting.get_sampling_frequency() * 1000.0
    num_bins, num_units = len(ISI_EDGES_MS) - 1, sorting.get_num_units()
    bins = np.clip(np.searchsorted(ISI_EDGES_MS, intervals_ms, side="right") - 1, 0, num_bins - 1)
    owners = ordered["unit_index"][1:][is_pair]
    return np.bincount(owners * num_bins + bins, minlength=num_units * num_bins).reshape(num_units, num_bins)


def pack_clusters(
    result: SortingResult,
    measurements: UnitMeasurements | None,
    seed: int,
    settings: ReportSettings = REPORT_SETTINGS,
) -> dict:
    """Encode the figures of clusters: peaks on pairs of contacts, and planes of the embeddings.

    Parameters
    ----------
    result : SortingResult
        With units.
    measurements : UnitMeasurements | None
    seed : int
        Selects the spikes.
    settings : ReportSettings

    Returns
    -------
    dict
        contacts (names), units, views (of each unit: contacts, and map as index in maps) and maps. A unit has num_drawn
        and peaks (uint8, num_drawn of each channel of its template in turn; None where the result has none) with low
        and step (uV of 0 and of one step on each channel). A map has units and points (uint16, x and y of each drawn
        spike of these units in turn).
    """
    num_units = result.sorting.get_num_units()
    max_spikes = max(30, min(settings.max_cluster_spikes, settings.max_page_spikes // num_units))
    drawn = draw_spikes(result, measurements, max_spikes, seed=seed)
    units = []
    for unit, own in enumerate(drawn):
        packed: dict = {"num_drawn": len(own.rows), "peaks": None}
        if measurements is not None and own.peaks_uv is not None and len(own.rows):
            peaks_uv = own.peaks_uv[:, measurements.template_channels[unit] >= 0]
            low_uv = peaks_uv.min(axis=0)
            step_uv = np.maximum(np.ptp(peaks_uv, axis=0), 1e-3) / 255
            packed |= {
                "peaks": to_base64(((peaks_uv - low_uv) / step_uv).T, "<u1"),
                "low": low_uv.round(2).tolist(),
                "step": step_uv.round(5).tolist(),
            }
        units.append(packed)
    views = find_views(result, measurements, settings=settings)
    number = {together: index for index, together in enumerate(dict.fromkeys(view.units for view in views))}
    return {
        "contacts": [] if measurements is None else [str(name) for name in measurements.channel_ids],
        "units": units,
        "views": [{"contacts": list(view.contacts), "map": number[view.units]} for view in views],
        "maps": [_pack_map([drawn[unit].rows for unit in together], together, result, settings) for together in number],
    }


def _pack_map(rows: list[np.ndarray], units: tuple[int, ...], result: SortingResult, settings: ReportSettings) -> dict:
    owners = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    points = embedding_plane(result.embeddings[np.concatenate(rows)], owners, shrinkage=settings.plane_shrinkage)
    low, span = points.min(axis=0, initial=np.inf), np.maximum(np.ptp(points, axis=0), 1e-9)
    return {"units": list(units), "points": to_base64((points - low) / span * 65535, "<u2")}


def pack_rates(unit_index: np.ndarray, times_s: np.ndarray, num_units: int, axis: TimeAxis) -> dict:
    """Encode the firing rate of every unit over time, relative to its largest.

    Parameters
    ----------
    unit_index : ndarray of int, (num_spikes,)
    times_s : ndarray of float, (num_spikes,)
        Times on the axis.
    num_units : int
    axis : TimeAxis

    Returns
    -------
    dict
        num_bins, bin_s, values (uint8, num_bins of each unit in turn).
    """
    bins = np.minimum((times_s / axis.total_s * RATE_BINS).astype(int), RATE_BINS - 1)
    counts = np.bincount(unit_index * RATE_BINS + bins, minlength=num_units * RATE_BINS).reshape(num_units, RATE_BINS)
    # with the square root, a single burst does not make the rest of the recording look silent
    shares = np.sqrt(counts / np.maximum(counts.max(axis=1, keepdims=True), 1))
    return {"num_bins": RATE_BINS, "bin_s": axis.total_s / RATE_BINS, "values": to_base64(255 * shares, "<u1")}


def pack_drift(measurements: UnitMeasurements, times_s: np.ndarray, axis: TimeAxis, seed: int) -> dict | None:
    """Encode the depth of spikes over time as recorded, that is without motion correction.

    Parameters
    ----------
    measurements : UnitMeasurements
    times_s : ndarray of float, (num_spikes,)
        Times on the axis.
    axis : TimeAxis
    seed : int
        Selects at most 12000 spikes.

    Returns
    -------
    dict | None
        times, depths (int16), um (of one integer step), sizes (uint8, 0 to 3: quartile of the amplitude), num_shown,
        motion_range_um (range of the corrected motion), motion_line (its median in 60 bins; None without motion
        correction). None for probes shorter than 60 um.
    """
    spans_um = [
        np.ptp(measurements.channel_positions_um[measurements.channel_groups == group, 1])
        for group in np.unique(measurements.channel_groups)
    ]
    if len(times_s) == 0 or max(spans_um, default=0.0) < MIN_SPAN_UM:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(len(times_s))[:DRIFT_POINTS])
    rows = rows[np.isfinite(measurements.positions_um[rows, 1])]
    motion_um = measurements.motion_um
    depths_um = measurements.positions_um[rows, 1] + motion_um[rows]
    size = np.abs(measurements.amplitudes_uv[rows])
    step_um = float(np.abs(depths_um).max(initial=0.0)) / MAX_INT16 or 1.0
    return {
        "times": axis.pack(times_s[rows]),
        "depths": to_base64(depths_um / step_um, "<i2"),
        "um": step_um,
        "sizes": to_base64(np.searchsorted(np.quantile(size, [0.25, 0.5, 0.75]), size), "<u1"),
        "num_shown": len(rows),
        "motion_range_um": round(float(np.ptp(motion_um)), 1),
        "motion_line": _binned_medians(motion_um, times_s, axis, MOTION_BINS) if motion_um.any() else None,
    }


def pack_trend(measurements: UnitMeasurements, unit_index: np.ndarray, times_s: np.ndarray, axis: TimeAxis) -> list:
    """Amplitude of every unit over time, which shows drift on probes too short to show it as a change of depth.

    Parameters
    ----------
    measurements : UnitMeasurements
    unit_index : ndarray of int, (num_spikes,)
    times_s : ndarray of float, (num_spikes,)
        Times on the axis.
    axis : TimeAxis

    Returns
    -------
    list of list
        For each unit, medians in 24 bins relative to the median of all its spikes; None for bins with fewer than five
        spikes.
    """
    lines = []
    for unit in range(len(measurements.templates_uv)):
        own = unit_index == unit
        overall = float(np.median(measurements.amplitudes_uv[own])) if own.any() else 1.0
        medians = _binned_medians(measurements.amplitudes_uv[own], times_s[own], axis, TREND_BINS, MIN_TREND_SPIKES)
        lines.append([None if value is None else round(value / (overall or 1.0), 3) for value in medians])
    return lines


def sparkline(template_uv: np.ndarray, width: float, height: float) -> str:
    """Encode a waveform as the points of an SVG polyline.

    Parameters
    ----------
    template_uv : ndarray, (num_samples,)
    width, height : float
        Size of the figure.

    Returns
    -------
    str
        "x,y x,y ...", 0 uV at half the height.
    """
    kept = np.linspace(0, len(template_uv) - 1, SPARKLINE_SAMPLES).round().astype(int)
    values = template_uv[kept] / max(float(np.abs(template_uv).max()), 1e-9)
    x, y = np.linspace(1, width - 1, len(kept)), height / 2 * (1 - 0.9 * values)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _binned_medians(
    values: np.ndarray, times_s: np.ndarray, axis: TimeAxis, num_bins: int, min_values: int = 1
) -> list:
    """Medians in equal bins of the axis; None for bins with fewer values."""
    bins = np.minimum((times_s / axis.total_s * num_bins).astype(int), num_bins - 1)
    parts = [values[bins == number] for number in range(num_bins)]
    return [round(float(np.median(part)), 2) if len(part) >= min_values else None for part in parts]
