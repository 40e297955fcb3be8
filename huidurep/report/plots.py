"""Figures of a sorting. matplotlib is imported when a figure is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from spikeinterface.core import BaseRecording

from ..sorting.postprocessing import UnitMeasurements
from .page_data import get_measurements

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..result import SortingResult

# Okabe & Ito 2008, "Color universal design": distinct for colour-blind readers; black is kept for text
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
MARKERS = "os^Dv<>PX*"  # the next one for every round of colours, so that units stay distinct
MAX_POINTS = 20000
MAX_UNITS = 24  # panels of a figure
NUM_COLUMNS = 6
MAX_CONTACTS = 12  # of a template
TRACE_WIDTH = 0.85  # relative to the distance between contacts
TRACE_HEIGHT = 0.9


def plot_templates(result: SortingResult, recording: BaseRecording | None = None) -> Figure:
    """Plot the mean waveform of every unit at the contacts of the probe.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted; only needed for results of versions that did not keep templates.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit, at most 24 (those with the most spikes), with a common scale given in the title.

    Raises
    ------
    ValueError
        Neither templates nor a recording, or another recording.
    """
    new_figure = _figure_class()
    units = _largest_units(result)
    if len(units) == 0:
        return _empty_figure(new_figure, "no units")
    measurements = _require_measurements(result, recording)
    figure, axes = _panels(new_figure, len(units), height=2.3)
    span_uv = float(np.nanmax(np.ptp(measurements.templates_uv[units], axis=1)))
    for axis, unit in zip(axes, units, strict=True):
        _draw_template(axis, measurements, unit, COLORS[unit % len(COLORS)], span_uv)
        snr = result.sorting.get_property("snr")[unit]
        axis.set_title(f"unit {result.sorting.unit_ids[unit]}, SNR {snr:.1f}", fontsize=8)
    shown = "" if len(units) == result.sorting.get_num_units() else f", {len(units)} largest units"
    figure.suptitle(f"templates at the contacts, full height {span_uv:.0f} uV{shown}", fontsize=9)
    return figure


def plot_autocorrelograms(result: SortingResult) -> Figure:
    """Plot the autocorrelogram of every unit.

    Parameters
    ----------
    result : SortingResult

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit, at most 24 (those with the most spikes), drawn by SpikeInterface's widget.
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


def plot_amplitudes(result: SortingResult, recording: BaseRecording | None = None, *, segment_index: int = 0) -> Figure:
    """Plot the spike amplitudes of every unit over time; a slope indicates drift.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, optional
        The recording that was sorted; only needed for results of versions that did not keep amplitudes.
    segment_index : int
        Segment of the recording.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each unit, at most 24 (those with the most spikes).

    Raises
    ------
    ValueError
        Neither amplitudes nor a recording, or another recording.
    """
    new_figure = _figure_class()
    units = _largest_units(result)
    if len(units) == 0:
        return _empty_figure(new_figure, "no units")
    amplitudes_uv = _require_measurements(result, recording).amplitudes_uv
    vector = result.sorting.to_spike_vector()
    is_here = vector["segment_index"] == segment_index
    figure, axes = _panels(new_figure, len(units), height=1.7)
    for axis, unit in zip(axes, units, strict=True):
        rows = np.flatnonzero(is_here & (vector["unit_index"] == unit))
        times_s = vector["sample_index"][rows] / result.sorting.get_sampling_frequency()
        # rasterized: vector graphics programs cannot handle thousands of markers
        axis.plot(times_s, amplitudes_uv[rows], ".", color=COLORS[unit % len(COLORS)], markersize=1.5, rasterized=True)
        axis.set_title(f"unit {result.sorting.unit_ids[unit]}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("amplitude (uV)", fontsize=9)
    return figure


def plot_raster(result: SortingResult, *, segment_index: int = 0) -> Figure:
    """Plot the spike times of every unit.

    Parameters
    ----------
    result : SortingResult
    segment_index : int
        Segment of the recording.

    Returns
    -------
    matplotlib.figure.Figure
        One row for each unit.
    """
    new_figure = _figure_class()
    sorting = result.sorting
    if sorting.get_num_units() == 0:
        return _empty_figure(new_figure, "no units")
    figure = new_figure(figsize=(8.0, 1.0 + 0.22 * sorting.get_num_units()), layout="constrained")
    axis = figure.subplots()
    vector = sorting.to_spike_vector()
    vector = vector[vector["segment_index"] == segment_index]
    # SpikeInterface's raster widget draws all units in one colour
    for unit, unit_id in enumerate(sorting.unit_ids):
        times_s = vector["sample_index"][vector["unit_index"] == unit] / sorting.get_sampling_frequency()
        axis.vlines(
            times_s, unit - 0.4, unit + 0.4, color=COLORS[unit % len(COLORS)], linewidth=0.4, label=str(unit_id)
        )
    axis.set_yticks(np.arange(sorting.get_num_units()), [str(unit_id) for unit_id in sorting.unit_ids])
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
    from matplotlib.lines import Line2D

    if len(result.embeddings) == 0:
        return _empty_figure(new_figure, "no spikes")
    rows = np.arange(len(result.embeddings))
    if len(rows) > max_points:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_points, replace=False))
    points, shares = _principal_plane(result.embeddings[rows])
    unit_index = result.sorting.to_spike_vector()["unit_index"][rows]
    figure = new_figure(figsize=(6.5, 5.0), layout="constrained")
    axis = figure.subplots()
    styles = []
    for unit in np.unique(unit_index):
        is_member = unit_index == unit
        styles.append((COLORS[unit % len(COLORS)], MARKERS[unit // len(COLORS) % len(MARKERS)]))
        axis.scatter(
            points[is_member, 0],
            points[is_member, 1],
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
    for row, (x, y) in zip(near, positions_um, strict=True):
        axis.plot(x, y, ".", color="0.75", markersize=3)
        height = TRACE_HEIGHT * step_y * measurements.templates_uv[unit, :, row] / span_uv
        axis.plot(x + time, y + height, color=color, linewidth=1.0 if row else 1.8)
    axis.set_axis_off()


def _spacing(values_um: np.ndarray) -> float:
    """Smallest distance between two different coordinates; 20 um for a single one."""
    gaps = np.diff(np.unique(values_um))
    return float(gaps[gaps > 1e-3].min()) if np.any(gaps > 1e-3) else 20.0


def _principal_plane(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First two principal components (num_spikes, 2), and their shares of the variance."""
    # with a column of zeros, a single spike or a one-dimensional embedding has a second component too
    padded = np.pad(embeddings.astype("float64"), ((0, max(0, 2 - len(embeddings))), (0, 1)))
    with np.errstate(invalid="ignore"):
        components = PCA(n_components=2, svd_solver="covariance_eigh").fit(padded)
    return components.transform(padded)[: len(embeddings)], np.nan_to_num(components.explained_variance_ratio_)


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
