"""Pictures of a sorting. matplotlib is imported when a picture is drawn, not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..sorting.postprocessing import Measures, measure_again

if TYPE_CHECKING:
    from ..result import SortingResult

# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers. Black is kept for text.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
MARKERS = "os^Dv<>PX*"  # changes when the colours have been used up, so that units stay distinct
MAX_POINTS = 20000
MAX_UNITS = 24  # panels of a picture
NUM_COLUMNS = 6
MAX_CONTACTS = 12  # of a template
TRACE_WIDTH = 0.85  # of the distance to the next contact
TRACE_HEIGHT = 0.9


def plot_templates(result: SortingResult, recording=None):
    """Mean waveform of every unit, drawn at the contacts of the probe.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording | None
        The recording that was sorted; only needed for results of versions that did not keep templates.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a unit, at most 24 (those with the most spikes); all share one scale, written in the title.

    Raises
    ------
    ValueError
        Neither kept templates nor a recording.
    """
    new_figure = _figure_class()
    units = _largest_units(result)
    if len(units) == 0:
        return _empty_figure(new_figure, "no units")
    measures = _measures(result, recording)
    figure, axes = _panels(new_figure, len(units), height=2.3)
    span_uv = float(np.nanmax(np.ptp(measures.templates_uv[units], axis=1)))
    for axis, unit in zip(axes, units, strict=True):
        _draw_template(axis, measures, unit, COLORS[unit % len(COLORS)], span_uv)
        snr = result.sorting.get_property("snr")[unit]
        axis.set_title(f"unit {result.sorting.unit_ids[unit]}, SNR {snr:.1f}", fontsize=8)
    shown = "" if len(units) == result.sorting.get_num_units() else f", {len(units)} largest units"
    figure.suptitle(f"templates at the contacts, full height {span_uv:.0f} uV{shown}", fontsize=9)
    return figure


def plot_autocorrelograms(result: SortingResult):
    """Lags between the spikes of each unit.

    Parameters
    ----------
    result : SortingResult

    Returns
    -------
    matplotlib.figure.Figure
        One panel a unit, at most 24 (those with the most spikes), by SpikeInterface's widget.
    """
    new_figure = _figure_class()
    units = _largest_units(result)
    if len(units) == 0:
        return _empty_figure(new_figure, "no units")
    import spikeinterface.widgets

    unit_ids = result.sorting.unit_ids[units]
    figure, axes = _panels(new_figure, len(units), height=1.7)
    spikeinterface.widgets.plot_autocorrelograms(
        result.sorting,
        unit_ids=list(unit_ids),
        window_ms=50.0,
        bin_ms=0.5,
        unit_colors={unit_id: COLORS[unit % len(COLORS)] for unit, unit_id in zip(units, unit_ids, strict=True)},
        axes=axes,
    )
    for axis, unit_id in zip(axes, unit_ids, strict=True):
        axis.set_title(f"unit {unit_id}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("lag (ms)", fontsize=9)
    figure.supylabel("spikes", fontsize=9)
    return figure


def plot_amplitudes(result: SortingResult, recording=None, *, segment_index: int = 0):
    """Amplitude of the spikes of each unit over time: a slope is drift.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording | None
        The recording that was sorted; only needed for results of versions that did not keep amplitudes.
    segment_index : int
        Segment of the recording.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a unit, at most 24 (those with the most spikes).

    Raises
    ------
    ValueError
        Neither kept amplitudes nor a recording.
    """
    new_figure = _figure_class()
    units = _largest_units(result)
    if len(units) == 0:
        return _empty_figure(new_figure, "no units")
    amplitudes_uv = _measures(result, recording).amplitudes_uv
    vector = result.sorting.to_spike_vector()
    is_here = vector["segment_index"] == segment_index
    figure, axes = _panels(new_figure, len(units), height=1.7)
    for axis, unit in zip(axes, units, strict=True):
        rows = np.flatnonzero(is_here & (vector["unit_index"] == unit))
        times_s = vector["sample_index"][rows] / result.sorting.get_sampling_frequency()
        # thousands of markers make a file that no editor opens
        axis.plot(times_s, amplitudes_uv[rows], ".", color=COLORS[unit % len(COLORS)], markersize=1.5, rasterized=True)
        axis.set_title(f"unit {result.sorting.unit_ids[unit]}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("amplitude (uV)", fontsize=9)
    return figure


def plot_raster(result: SortingResult, *, segment_index: int = 0):
    """When each unit fires.

    Parameters
    ----------
    result : SortingResult
    segment_index : int
        Segment of the recording.

    Returns
    -------
    matplotlib.figure.Figure
        One row a unit.
    """
    new_figure = _figure_class()
    sorting = result.sorting
    if sorting.get_num_units() == 0:
        return _empty_figure(new_figure, "no units")
    figure = new_figure(figsize=(8.0, 1.0 + 0.22 * sorting.get_num_units()), layout="constrained")
    axis = figure.subplots()
    vector = sorting.to_spike_vector()
    vector = vector[vector["segment_index"] == segment_index]
    # SpikeInterface's raster gives all units one colour
    for unit, unit_id in enumerate(sorting.unit_ids):
        times_s = vector["sample_index"][vector["unit_index"] == unit] / sorting.get_sampling_frequency()
        axis.vlines(
            times_s, unit - 0.4, unit + 0.4, color=COLORS[unit % len(COLORS)], linewidth=0.4, label=str(unit_id)
        )
    axis.set_yticks(np.arange(sorting.get_num_units()), [str(unit_id) for unit_id in sorting.unit_ids])
    axis.set(xlabel="time (s)", ylabel="unit", title=f"segment {segment_index}")
    return figure


def plot_embedding(result: SortingResult, *, seed: int = 0):
    """The spikes in the plane of the two largest principal components of their embeddings.

    Parameters
    ----------
    result : SortingResult
    seed : int
        Which spikes are drawn where there are more than 20000.

    Returns
    -------
    matplotlib.figure.Figure
        One colour and marker a unit; spikes that their unit explains poorly are drawn fainter.
    """
    new_figure = _figure_class()
    from matplotlib.lines import Line2D

    if len(result.embeddings) == 0:
        return _empty_figure(new_figure, "no spikes")
    rows = np.arange(len(result.embeddings))
    if len(rows) > MAX_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_POINTS, replace=False))
    points, shares = _principal_plane(result.embeddings, rows)
    unit_index = result.sorting.to_spike_vector()["unit_index"][rows]
    figure = new_figure(figsize=(6.5, 5.0), layout="constrained")
    axis = figure.subplots()
    styles = []
    for unit in np.unique(unit_index):
        is_member = unit_index == unit
        styles.append((COLORS[unit % len(COLORS)], MARKERS[unit // len(COLORS) % len(MARKERS)]))
        axis.scatter(
            *points[is_member].T,
            s=6,
            color=styles[-1][0],
            marker=styles[-1][1],
            alpha=np.clip(result.posteriors[rows][is_member], 0.15, 0.8),
            linewidths=0,
        )
    axis.set(xlabel=f"component 1 ({shares[0]:.0%})", ylabel=f"component 2 ({shares[1]:.0%})", title="embeddings")
    handles = [Line2D([], [], color=color, marker=marker, linestyle="", markersize=4) for color, marker in styles]
    names = [str(result.sorting.unit_ids[unit]) for unit in np.unique(unit_index)]
    axis.legend(handles, names, title="unit", fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _largest_units(result: SortingResult) -> np.ndarray:
    """Index of the units with the most spikes, in the order of the units."""
    counts = np.bincount(result.sorting.to_spike_vector()["unit_index"], minlength=result.sorting.get_num_units())
    return np.sort(np.argsort(-counts, kind="stable")[:MAX_UNITS])


def _measures(result: SortingResult, recording) -> Measures:
    if result.measures is not None:
        return result.measures
    if recording is None:
        raise ValueError(
            "expected templates and amplitudes in the result, found none: an earlier version made it; give the "
            "recording that was sorted as recording="
        )
    return measure_again(result.sorting, recording, result.parameters)


def _panels(new_figure, num_panels: int, *, height: float) -> tuple:
    """A figure with one axis a panel, in rows of at most six."""
    num_columns = min(num_panels, NUM_COLUMNS)
    num_rows = -(-num_panels // num_columns)
    figure = new_figure(figsize=(2.1 * num_columns, height * num_rows + 0.5), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axis in axes[num_panels:]:
        axis.remove()
    return figure, axes[:num_panels]


def _draw_template(axis, measures: Measures, unit: int, color: str, span_uv: float) -> None:
    near = np.flatnonzero(measures.template_channels[unit] >= 0)[:MAX_CONTACTS]
    positions_um = measures.channel_positions_um[measures.template_channels[unit, near]]
    step_x, step_y = (_spacing(positions_um[:, dimension]) for dimension in (0, 1))
    time = np.linspace(-0.5, 0.5, measures.templates_uv.shape[1]) * TRACE_WIDTH * step_x
    for row, (x, y) in zip(near, positions_um, strict=True):
        axis.plot(x, y, ".", color="0.75", markersize=3)
        height = TRACE_HEIGHT * step_y * measures.templates_uv[unit, :, row] / span_uv
        axis.plot(x + time, y + height, color=color, linewidth=1.0 if row else 1.8)
    axis.set_axis_off()


def _spacing(values_um: np.ndarray) -> float:
    """Smallest distance between two different coordinates; 20 um where there is only one."""
    gaps = np.diff(np.unique(values_um))
    return float(gaps[gaps > 1e-3].min()) if np.any(gaps > 1e-3) else 20.0


def _principal_plane(embeddings: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (num_rows, 2) on the first two principal components, and their shares of the variance."""
    centred = embeddings[rows].astype("float64")
    centred -= centred.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(-values)[:2]
    if len(order) < 2:  # a one-dimensional embedding
        order = np.array([order[0], order[0]])
    return centred @ vectors[:, order], values[order] / max(values.sum(), 1e-12)


def _empty_figure(new_figure, text: str):
    figure = new_figure(figsize=(4.0, 2.0))
    axis = figure.subplots()
    axis.text(0.5, 0.5, text, ha="center", va="center")
    axis.set_axis_off()
    return figure


def _figure_class():
    """Return matplotlib's Figure: unlike pyplot's it needs no window, and is gone when nobody holds it any more."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("expected matplotlib for pictures, found none; pip install huidurep[report]") from error
    return Figure
