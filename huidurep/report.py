"""Pictures of a sorting. matplotlib is imported when a picture is drawn, not before."""

from __future__ import annotations

import numpy as np

from .sorting.export import SortingResult
from .sorting.preprocessing import preprocess, split_groups
from .sorting.run_log import RunLog
from .sorting.waveforms import mean_waveforms

# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers. Black is kept for text.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
MARKERS = "os^Dv<>PX*"  # changes when the colours have been used up, so that units stay distinct
MAX_POINTS = 20000
MAX_UNITS_TEMPLATES = 24
TRACE_WIDTH = 0.85  # of the distance to the next contact
TRACE_HEIGHT = 0.9


def plot_templates(result: SortingResult, recording):
    """Mean waveform of every unit, drawn at the contacts of the probe.

    Parameters
    ----------
    result : SortingResult
        Of this recording.
    recording : BaseRecording
        The recording that was sorted.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a unit, at most 24 (those with the most spikes); all share one scale, written in the title.
    """
    new_figure = _figure_class()
    templates = _templates(result, recording)
    if not templates:
        return _empty_figure(new_figure, "no units")
    num_columns = min(len(templates), 6)
    num_rows = -(-len(templates) // num_columns)
    figure = new_figure(figsize=(2.1 * num_columns, 2.3 * num_rows + 0.5), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    span_uv = max(np.ptp(template["waveform_uv"], axis=0).max() for template in templates.values())
    for axis in axes.ravel()[len(templates) :]:
        axis.set_axis_off()
    for axis, (unit_index, template) in zip(axes.ravel(), templates.items(), strict=False):
        _draw_template(axis, template, COLORS[unit_index % len(COLORS)], span_uv)
        snr = result.sorting.get_property("snr")[unit_index]
        axis.set_title(f"unit {result.sorting.unit_ids[unit_index]}, SNR {snr:.1f}", fontsize=8)
    shown = "" if len(templates) == result.sorting.get_num_units() else f", {len(templates)} largest units"
    figure.suptitle(f"templates at the contacts, full height {span_uv:.0f} uV{shown}", fontsize=9)
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


def _templates(result: SortingResult, recording) -> dict:
    """Template and contacts of the units with the most spikes, by unit index."""
    counts = np.bincount(result.sorting.to_spike_vector()["unit_index"], minlength=result.sorting.get_num_units())
    shown = np.sort(np.argsort(-counts, kind="stable")[:MAX_UNITS_TEMPLATES])
    unit_groups = result.sorting.get_property("group")
    spikes = result.sorting.to_spike_vector()
    templates = {}
    log = RunLog()
    for group in split_groups(recording, result.parameters, log):
        units = [unit for unit in shown if unit_groups[unit] == group.name]
        prepared = preprocess(group, result.parameters, log) if units else None
        if prepared is None:
            continue
        vector = spikes[np.isin(spikes["unit_index"], units)].copy()
        vector["unit_index"] = np.searchsorted(units, vector["unit_index"])
        vector["segment_index"] = np.searchsorted(group.segment_indices, vector["segment_index"])
        waveforms_uv = mean_waveforms(prepared.recording, vector, len(units), result.parameters)
        positions_um = prepared.recording.get_channel_locations()
        for unit, waveform_uv in zip(units, waveforms_uv, strict=True):
            templates[unit] = {"waveform_uv": waveform_uv, "positions_um": positions_um}
    return dict(sorted(templates.items()))


def _draw_template(axis, template: dict, color: str, span_uv: float) -> None:
    waveform_uv, positions_um = template["waveform_uv"], template["positions_um"]
    main = np.ptp(waveform_uv, axis=0).argmax()
    near = np.argsort(np.linalg.norm(positions_um - positions_um[main], axis=1), kind="stable")[:12]
    step_x, step_y = (_spacing(positions_um[near, dimension]) for dimension in (0, 1))
    time = np.linspace(-0.5, 0.5, len(waveform_uv)) * TRACE_WIDTH * step_x
    for channel in near:
        x, y = positions_um[channel]
        axis.plot(x, y, ".", color="0.75", markersize=3)
        height = TRACE_HEIGHT * step_y * waveform_uv[:, channel] / span_uv
        axis.plot(x + time, y + height, color=color, linewidth=1.8 if channel == main else 1.0)
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
