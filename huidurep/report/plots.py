"""Figures of a sorting for papers, from what the page of the report shows. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording
from spikeinterface.postprocessing.correlograms import compute_auto_correlograms

from ..sorting.postprocessing import UnitMeasurements
from ..sorting.stored_arrays import check_parts
from .clusters import (
    ClusterView,
    DrawnSpikes,
    draw_spikes,
    embedding_plane,
    find_views,
    peaks_on,
    principal_plane,
    unit_colors,
)
from .colors import COLORS
from .page_data import ISI_EDGES_MS, get_measurements, isi_histograms
from .settings import REPORT_SETTINGS
from .similar_units import CORRELOGRAM_BIN_MS, CORRELOGRAM_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..result import SortingResult

MARKERS = "os^Dv<>PX*"  # the next one where a colour is repeated in a figure, so that units stay distinct
MAX_POINTS = 20000
MAX_UNITS = 24  # panels of a figure
NUM_COLUMNS = 6
MAX_CONTACTS = 12  # of a template
TRACE_WIDTH = 0.85  # relative to the distance between contacts
TRACE_HEIGHT = 0.9
SHORT_ISI_MS = 1.5


def plot(result: SortingResult, figure: str, **options: Any) -> Figure:
    """Draw a figure by its name.

    Parameters
    ----------
    result : SortingResult
    figure : str
        A name in `FIGURES`.
    **options
        Arguments of its function.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        No such figure or unit, or what its function raises.
    """
    if figure not in FIGURES:
        raise ValueError(f"expected one of the figures {sorted(FIGURES)}, found {figure!r}; choose one of them")
    check_parts(result)
    return FIGURES[figure](result, **options)


def plot_templates(
    result: SortingResult, recording: BaseRecording | None = None, *, units: Sequence | None = None
) -> Figure:
    """Plot the mean waveform of every unit at the contacts of the probe, with the spread of its spikes.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted; only needed for results of versions that did not keep templates.
    units : sequence, optional
        Ids of the units; default: the 24 with the most spikes.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit with a common scale, given in the title; shaded from the 10 % to the 90 % quantile.

    Raises
    ------
    ValueError
        Neither templates nor a recording, or another recording, or no such unit.
    """
    new_figure = _figure_class()
    shown = _select_units(result, units)
    if len(shown) == 0:
        return _empty_figure(new_figure, "no units")
    measurements = _require_measurements(result, recording)
    figure, axes = _panels(new_figure, len(shown), height=2.3)
    span_uv = float(np.nanmax(np.ptp(measurements.templates_uv[shown], axis=1)))
    colors = unit_colors(result, measurements)
    for axis, unit in zip(axes, shown, strict=True):
        _draw_template(axis, measurements, unit, COLORS[colors[unit]], span_uv)
        snr = result.sorting.get_property("snr")[unit]
        axis.set_title(f"unit {_plain(result.sorting.unit_ids[unit])}, SNR {snr:.1f}", fontsize=8)
    is_all = units is not None or len(shown) == result.sorting.get_num_units()
    largest = "" if is_all else f", {len(shown)} largest units"
    figure.suptitle(f"templates at the contacts, full height {span_uv:.0f} µV{largest}", fontsize=9)
    return figure


def plot_autocorrelograms(result: SortingResult, *, units: Sequence | None = None) -> Figure:
    """Plot the autocorrelogram of every unit.

    Parameters
    ----------
    result : SortingResult
    units : sequence, optional
        Ids of the units; default: the 24 with the most spikes.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit, drawn by SpikeInterface's widget.

    Raises
    ------
    ValueError
        No such unit.
    """
    new_figure = _figure_class()
    shown = _select_units(result, units)
    if len(shown) == 0:
        return _empty_figure(new_figure, "no units")
    import spikeinterface.widgets

    unit_ids = result.sorting.unit_ids[shown]
    colors = unit_colors(result, result.measurements)
    figure, axes = _panels(new_figure, len(shown), height=1.7)
    spikeinterface.widgets.plot_autocorrelograms(
        result.sorting,
        unit_ids=list(unit_ids),
        window_ms=CORRELOGRAM_MS,
        bin_ms=CORRELOGRAM_BIN_MS,
        unit_colors={unit_id: COLORS[colors[unit]] for unit, unit_id in zip(shown, unit_ids, strict=True)},
        axes=axes,
    )
    for axis, unit_id in zip(axes, unit_ids, strict=True):
        axis.set_title(f"unit {_plain(unit_id)}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("lag (ms)", fontsize=9)
    figure.supylabel("spikes", fontsize=9)
    return figure


def plot_intervals(result: SortingResult, *, units: Sequence | None = None) -> Figure:
    """Plot the histogram of inter-spike intervals of every unit, in logarithmic bins.

    Parameters
    ----------
    result : SortingResult
    units : sequence, optional
        Ids of the units; default: the 24 with the most spikes.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit; intervals below 1.5 ms are shaded.

    Raises
    ------
    ValueError
        No such unit.
    """
    new_figure = _figure_class()
    shown = _select_units(result, units)
    if len(shown) == 0:
        return _empty_figure(new_figure, "no units")
    counts, colors = isi_histograms(result.sorting), unit_colors(result, result.measurements)
    figure, axes = _panels(new_figure, len(shown), height=1.7)
    for axis, unit in zip(axes, shown, strict=True):
        _draw_intervals(axis, counts[unit], COLORS[colors[unit]])
        axis.set_title(f"unit {_plain(result.sorting.unit_ids[unit])}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("inter-spike interval (ms)", fontsize=9)
    figure.supylabel("intervals", fontsize=9)
    return figure


def plot_amplitudes(
    result: SortingResult,
    recording: BaseRecording | None = None,
    *,
    segment_index: int = 0,
    units: Sequence | None = None,
) -> Figure:
    """Plot the spike amplitudes of every unit over time; a slope indicates drift.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted; only needed for results of versions that did not keep amplitudes.
    segment_index : int
        Segment of the recording.
    units : sequence, optional
        Ids of the units; default: the 24 with the most spikes.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit.

    Raises
    ------
    ValueError
        Neither amplitudes nor a recording, or another recording, or no such unit or segment.
    """
    new_figure = _figure_class()
    _check_segment(result, segment_index)
    shown = _select_units(result, units)
    if len(shown) == 0:
        return _empty_figure(new_figure, "no units")
    measurements = _require_measurements(result, recording)
    colors = unit_colors(result, measurements)
    figure, axes = _panels(new_figure, len(shown), height=1.7)
    for axis, unit in zip(axes, shown, strict=True):
        _draw_amplitudes(axis, result, measurements, unit, segment_index, COLORS[colors[unit]])
        axis.set_title(f"unit {_plain(result.sorting.unit_ids[unit])}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("amplitude (µV)", fontsize=9)
    return figure


def plot_raster(result: SortingResult, *, segment_index: int = 0, units: Sequence | None = None) -> Figure:
    """Plot the spike times of every unit.

    Parameters
    ----------
    result : SortingResult
    segment_index : int
        Segment of the recording.
    units : sequence, optional
        Ids of the units; default: all.

    Returns
    -------
    matplotlib.figure.Figure
        One row for each unit.

    Raises
    ------
    ValueError
        No such unit or segment.
    """
    new_figure = _figure_class()
    sorting = result.sorting
    _check_segment(result, segment_index)
    shown = _select_units(result, sorting.unit_ids if units is None else units)
    if len(shown) == 0:
        return _empty_figure(new_figure, "no units")
    figure = new_figure(figsize=(8.0, 1.0 + 0.22 * len(shown)), layout="constrained")
    axis = figure.subplots()
    vector = sorting.to_spike_vector()
    vector = vector[vector["segment_index"] == segment_index]
    colors = unit_colors(result, result.measurements)
    # SpikeInterface's raster widget draws all units in one colour
    for row, unit in enumerate(shown):
        times_s = sorting.sample_index_to_time(vector["sample_index"][vector["unit_index"] == unit], segment_index)
        color, name = COLORS[colors[unit]], str(sorting.unit_ids[unit])
        axis.vlines(times_s, row - 0.4, row + 0.4, color=color, linewidth=0.4, label=name)
    axis.set_yticks(np.arange(len(shown)), [_plain(unit_id) for unit_id in sorting.unit_ids[shown]])
    axis.set(xlabel="time (s)", ylabel="unit", title=f"segment {segment_index}")
    return figure


def plot_embedding(result: SortingResult, *, seed: int = 0, max_points: int = MAX_POINTS) -> Figure:
    """Plot the first two principal components of the embeddings.

    Parameters
    ----------
    result : SortingResult
    seed : int
        Selects the spikes that are shown where there are too many.
    max_points : int
        Maximum number of spikes that are shown.

    Returns
    -------
    matplotlib.figure.Figure
        One colour and marker for each unit; spikes with a low posterior are more transparent.
    """
    new_figure = _figure_class()
    if len(result.embeddings) == 0:
        return _empty_figure(new_figure, "no spikes")
    rows = np.arange(len(result.embeddings))
    if len(rows) > max_points:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_points, replace=False))
    points, shares = principal_plane(result.embeddings[rows])
    unit_index = result.sorting.to_spike_vector()["unit_index"][rows]
    figure = new_figure(figsize=(6.5, 5.0), layout="constrained")
    axis = figure.subplots()
    shown = np.unique(unit_index).tolist()
    styles = _styles(result, result.measurements, shown)
    for unit in shown:
        own = unit_index == unit
        alpha = np.clip(result.posteriors[rows][own], 0.15, 0.8)
        axis.scatter(*points[own].T, s=6, alpha=alpha, linewidths=0, rasterized=True, **styles[unit])
    axis.set(xlabel=f"component 1 ({shares[0]:.0%})", ylabel=f"component 2 ({shares[1]:.0%})", title="embeddings")
    _add_legend(figure, result, styles)
    return figure


def plot_clusters(
    result: SortingResult,
    recording: BaseRecording | None = None,
    *,
    units: Sequence | None = None,
    seed: int = 0,
) -> Figure:
    """Plot the peaks of spikes on pairs of contacts, and the map of their embeddings.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted; only needed for results of versions that did not keep the peaks.
    units : sequence, optional
        Ids of the units, on the contacts of the first one. A single one is drawn with the units near it; default: the
        unit with the most spikes.
    seed : int
        Selects the spikes that are shown.

    Returns
    -------
    matplotlib.figure.Figure
        The map, and a panel for each pair of at most four contacts.

    Raises
    ------
    ValueError
        Neither peaks nor a recording, or another recording, or no such unit.
    """
    new_figure = _figure_class()
    if result.sorting.get_num_units() == 0:
        return _empty_figure(new_figure, "no units")
    measurements = _require_measurements(result, recording)
    if measurements.drawn_spikes is None:
        raise ValueError(
            "expected the peaks on the contacts in the result, found none: it is of an earlier version, or was curated "
            "without the recording; give the recording that was sorted as recording="
        )
    chosen = _select_units(result, units)
    most = int(np.argmax(result.sorting.count_num_spikes_per_unit(outputs="array")))
    view = find_views(result, measurements)[most if units is None else chosen[0]]
    if units is not None and len(chosen) > 1:
        view = ClusterView(tuple(chosen.tolist()), view.contacts)
    drawn = draw_spikes(result, measurements, REPORT_SETTINGS.max_cluster_spikes, seed=seed)
    styles = _styles(result, measurements, view.units)
    num_columns = min(3, max(1, len(view.pairs)))
    num_rows = max(1, -(-len(view.pairs) // num_columns))
    figure = new_figure(figsize=(3.6 + 2.1 * num_columns, 0.5 + max(3.2, 2.1 * num_rows)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3.2, 2.1 * num_columns])
    _draw_map(left.subplots(), result, [(unit, drawn[unit].rows, styles[unit]) for unit in view.units])
    for axis, pair in zip(right.subplots(num_rows, num_columns, squeeze=False).ravel(), view.pairs, strict=False):
        _draw_peaks(axis, measurements, pair, [(unit, drawn[unit], styles[unit]) for unit in view.units])
    _add_legend(figure, result, styles)
    return figure


def plot_unit(
    result: SortingResult, recording: BaseRecording | None = None, *, units: Sequence | None = None
) -> Figure:
    """Plot one unit: template with spread, amplitudes over time, autocorrelogram and inter-spike intervals.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted; only needed for results of versions that did not keep templates.
    units : sequence, optional
        Id of the unit, as a sequence of one; default: the unit with the most spikes.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Neither templates nor a recording, or another recording, or not one unit of the result.
    """
    new_figure = _figure_class()
    sorting = result.sorting
    if sorting.get_num_units() == 0:
        return _empty_figure(new_figure, "no units")
    most = int(np.argmax(sorting.count_num_spikes_per_unit(outputs="array")))
    chosen = [most] if units is None else _select_units(result, units)
    if len(chosen) != 1:
        raise ValueError(f"expected one unit for this figure, found {len(chosen)}; give units=[one of them]")
    unit, measurements = chosen[0], _require_measurements(result, recording)
    color = COLORS[unit_colors(result, measurements)[unit]]
    figure = new_figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplot_mosaic([["template", "amplitude", "amplitude"], ["template", "lags", "intervals"]])
    span_uv = float(np.nanmax(np.ptp(measurements.templates_uv[unit], axis=0)))
    _draw_template(axes["template"], measurements, unit, color, span_uv)
    axes["template"].set_title(f"full height {span_uv:.0f} µV", fontsize=8)
    _draw_amplitudes(axes["amplitude"], result, measurements, unit, 0, color)
    axes["amplitude"].set(xlabel="time (s)", ylabel="amplitude (µV)")
    own = sorting.select_units([sorting.unit_ids[unit]])
    counts, edges_ms = compute_auto_correlograms(own, window_ms=CORRELOGRAM_MS, bin_ms=CORRELOGRAM_BIN_MS)
    axes["lags"].stairs(counts[0], edges_ms, fill=True, color=color)
    axes["lags"].set(xlabel="lag (ms)", ylabel="spikes")
    _draw_intervals(axes["intervals"], isi_histograms(own)[0], color)
    axes["intervals"].set(xlabel="inter-spike interval (ms)", ylabel="intervals")
    figure.suptitle(f"unit {_plain(sorting.unit_ids[unit])}", fontsize=10)
    return figure


FIGURES: dict[str, Callable[..., Any]] = {
    "amplitudes": plot_amplitudes,
    "autocorrelograms": plot_autocorrelograms,
    "clusters": plot_clusters,
    "embedding": plot_embedding,
    "intervals": plot_intervals,
    "raster": plot_raster,
    "templates": plot_templates,
    "unit": plot_unit,
}


def _plain(name: object) -> str:
    """A name as text in which matplotlib sees no formula."""
    return str(name).replace("$", r"\$")


def _check_segment(result: SortingResult, segment_index: int) -> None:
    num_segments = result.sorting.get_num_segments()
    if segment_index not in range(num_segments):
        raise ValueError(
            f"expected a segment_index from 0 to {num_segments - 1}, found {segment_index!r}; give one of these"
        )


def _select_units(result: SortingResult, units: Sequence | None) -> np.ndarray:
    """Index of the given units, or of those with the most spikes in the order of the units."""
    sorting = result.sorting
    if units is None:
        counts = np.bincount(sorting.to_spike_vector()["unit_index"], minlength=sorting.get_num_units())
        return np.sort(np.argsort(-counts, kind="stable")[:MAX_UNITS])
    index = {unit_id: unit for unit, unit_id in enumerate(sorting.unit_ids.tolist())}
    if isinstance(units, str) or not isinstance(units, Iterable):
        raise ValueError(f"expected a list of ids of units, found {units!r}; give units=[{units!r}]")
    unknown = [unit_id for unit_id in units if unit_id not in index]
    if unknown or (len(units) == 0 and index):
        raise ValueError(f"expected units of the result, such as {[*index][:3]}, found {unknown}; give ids of units")
    return np.array([index[unit_id] for unit_id in units], dtype=int)


def _styles(result: SortingResult, measurements: UnitMeasurements | None, units: Sequence[int]) -> dict[int, dict]:
    """Colour and marker of each of the units of a figure."""
    colors, styles = unit_colors(result, measurements), {}
    repeats = dict.fromkeys(range(len(COLORS)), 0)
    for unit in units:
        color = int(colors[unit])
        styles[int(unit)] = {"color": COLORS[color], "marker": MARKERS[repeats[color] % len(MARKERS)]}
        repeats[color] += 1
    return styles


def _add_legend(figure: Figure, result: SortingResult, styles: dict[int, dict]) -> None:
    """Name the units beside the axes, in as many columns as they need."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="", markersize=4, **style) for style in styles.values()]
    names = [_plain(result.sorting.unit_ids[unit]) for unit in styles]
    num_rows = int(figure.get_figheight() / 0.17) - 2
    figure.legend(handles, names, title="unit", fontsize=7, loc="outside right", ncols=-(-len(names) // num_rows))


def _draw_map(axis: Axes, result: SortingResult, shown: list[tuple[int, np.ndarray, dict]]) -> None:
    """Draw the plane of the embeddings in which these units are farthest apart."""
    owners = np.repeat(np.arange(len(shown)), [len(rows) for _, rows, _ in shown])
    embeddings = result.embeddings[np.concatenate([rows for _, rows, _ in shown])]
    points = embedding_plane(embeddings, owners, shrinkage=REPORT_SETTINGS.plane_shrinkage)
    for number, (_, _, style) in enumerate(shown):
        axis.scatter(*points[owners == number].T, s=4, alpha=0.6, linewidths=0, rasterized=True, **style)
    kind = "discriminant" if len(shown) > 2 else "component"
    axis.set_xlabel(f"{kind} 1 of the embeddings", fontsize=8)
    axis.set_ylabel(f"{kind} 2 of the embeddings", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.locator_params(nbins=5)


def _draw_peaks(
    axis: Axes, measurements: UnitMeasurements, pair: tuple[int, int], shown: list[tuple[int, DrawnSpikes, dict]]
) -> None:
    """Draw the peaks of the units on one contact against those on another."""
    for unit, drawn, style in shown:
        peaks = [peaks_on(measurements, drawn, unit, contact) for contact in pair]
        if peaks[0] is not None and peaks[1] is not None:
            axis.scatter(*peaks, s=4, alpha=0.6, linewidths=0, rasterized=True, **style)
    first, second = (_plain(measurements.channel_ids[contact]) for contact in pair)
    axis.set_xlabel(f"peak on {first} (µV)", fontsize=8)
    axis.set_ylabel(f"peak on {second} (µV)", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.locator_params(nbins=5)


def _draw_intervals(axis: Axes, counts: np.ndarray, color: str) -> None:
    axis.axvspan(ISI_EDGES_MS[0], SHORT_ISI_MS, color="0.9", linewidth=0)
    axis.stairs(counts, ISI_EDGES_MS, fill=True, color=color)
    axis.set_xscale("log")
    axis.set_xlim(ISI_EDGES_MS[0], ISI_EDGES_MS[-1])


def _draw_amplitudes(
    axis: Axes, result: SortingResult, measurements: UnitMeasurements, unit: int, segment_index: int, color: str
) -> None:
    vector = result.sorting.to_spike_vector()
    rows = np.flatnonzero((vector["segment_index"] == segment_index) & (vector["unit_index"] == unit))
    times_s = result.sorting.sample_index_to_time(vector["sample_index"][rows], segment_index)
    # rasterized: vector graphics programs cannot handle thousands of markers
    axis.plot(times_s, measurements.amplitudes_uv[rows], ".", color=color, markersize=1.5, rasterized=True)


def _require_measurements(result: SortingResult, recording: BaseRecording | None) -> UnitMeasurements:
    measurements = get_measurements(result, recording)
    if measurements is None:
        raise ValueError(
            "expected templates and amplitudes in the result, found none: an earlier version made it; give the "
            "recording that was sorted as recording="
        )
    return measurements


def _panels(new_figure: type[Figure], num_panels: int, *, height: float) -> tuple[Figure, np.ndarray]:
    """A figure with `num_panels` axes, in rows of six."""
    num_columns = min(num_panels, NUM_COLUMNS)
    num_rows = -(-num_panels // num_columns)
    figure = new_figure(figsize=(2.1 * num_columns, height * num_rows + 0.5), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axis in axes[num_panels:]:
        axis.remove()
    return figure, axes[:num_panels]


def _draw_template(axis: Axes, measurements: UnitMeasurements, unit: int, color: str, span_uv: float) -> None:
    near = np.flatnonzero(measurements.template_channels[unit] >= 0)[:MAX_CONTACTS]
    positions_um = measurements.channel_positions_um[measurements.template_channels[unit, near]]
    step_x, step_y = (_spacing(positions_um[:, dimension]) for dimension in (0, 1))
    time = np.linspace(-0.5, 0.5, measurements.templates_uv.shape[1]) * TRACE_WIDTH * step_x
    um_per_uv = TRACE_HEIGHT * step_y / span_uv
    for row, (x, y) in zip(near, positions_um, strict=True):
        axis.plot(x, y, ".", color="0.75", markersize=3)
        if measurements.template_quantiles_uv is not None:
            low_uv, high_uv = measurements.template_quantiles_uv[:, unit, :, row]
            axis.fill_between(
                x + time, y + um_per_uv * low_uv, y + um_per_uv * high_uv, color=color, alpha=0.25, linewidth=0
            )
        height = um_per_uv * measurements.templates_uv[unit, :, row]
        axis.plot(x + time, y + height, color=color, linewidth=1.0 if row else 1.8)
    axis.set_axis_off()


def _spacing(values_um: np.ndarray) -> float:
    """Smallest distance between two different coordinates; 20 um for a single one."""
    gaps = np.diff(np.unique(values_um))
    return float(gaps[gaps > 1e-3].min()) if np.any(gaps > 1e-3) else 20.0


def _empty_figure(new_figure: type[Figure], text: str) -> Figure:
    figure = new_figure(figsize=(4.0, 2.0))
    axis = figure.subplots()
    axis.text(0.5, 0.5, text, ha="center", va="center")
    axis.set_axis_off()
    return figure


def _figure_class() -> type[Figure]:
    """Matplotlib's Figure, which unlike pyplot's needs no window and is freed with its last reference."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("expected matplotlib for figures, found none; pip install huidurep[report]") from error
    return Figure
