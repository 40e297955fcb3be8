"""The report as an HTML file: collects text and data, fills in the template, writes the file."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording

from ..clustering.separation import merge_limit
from ..output_files import check_output_file, new_file
from ..sorting.parameters import SortingParameters
from ..sorting.postprocessing import UnitMeasurements
from .clusters import find_overlapping, unit_colors, unit_positions
from .colors import PALETTE
from .page_data import (
    ISI_EDGES_MS,
    TimeAxis,
    get_measurements,
    isi_histograms,
    pack_amplitudes,
    pack_autocorrelograms,
    pack_clusters,
    pack_drift,
    pack_rates,
    pack_templates,
    pack_trend,
    sparkline,
    spike_counts,
)
from .settings import REPORT_SETTINGS, ReportSettings
from .similar_units import CORRELOGRAM_BIN_MS, Pair, cross_correlogram, find_pairs
from .summary import count, find_remarks, format_duration, summarise

if TYPE_CHECKING:
    from ..result import SortingResult

MARK = '<p class="kicker">Spike sorting report'  # of page.html
SPARKLINE = {"width": 60, "height": 24}
# property, header of the column, meaning, digits, factor
COLUMNS = (
    ("num_spikes", "spikes", "Number of spikes", 0, 1.0),
    ("rate_hz", "rate (Hz)", "Mean firing rate", 1, 1.0),
    ("snr", "SNR", "Peak of the template over the noise level of its main channel", 1, 1.0),
    ("peak_uv", "peak (µV)", "Peak of the template on its main channel", 0, 1.0),
    ("short_isi_fraction", "short ISIs (%)", "Share of inter-spike intervals below 1.5 ms", 1, 100.0),
    (
        "isi_violations_ratio",
        "ISI violations",
        "Contamination estimated from inter-spike intervals below 1.5 ms (SpikeInterface's isi_violations_ratio)",
        2,
        1.0,
    ),
    (
        "contamination",
        "contam. (%)",
        "Share of foreign spikes, estimated from intervals below 2 ms (SpikeInterface's rp_contamination)",
        0,
        100.0,
    ),
    (
        "amplitude_cutoff",
        "missed (%)",
        "Share of its spikes below the detection threshold, estimated from its amplitudes (SpikeInterface's "
        "amplitude_cutoff; of units with 500 spikes or more)",
        0,
        100.0,
    ),
    ("mean_posterior", "posterior", "Mean posterior probability of its spikes, given their embeddings", 2, 1.0),
    ("presence_ratio", "presence (%)", "Share of the bins of the recording in which it fires", 0, 100.0),
)


def write_page(
    result: SortingResult,
    path: str | Path,
    *,
    name: str = "",
    recording: BaseRecording | None = None,
    overwrite: bool = False,
    seed: int = 0,
    settings: ReportSettings = REPORT_SETTINGS,
) -> Path:
    """Write the report of a sorting: one HTML file that needs no other file and no network.

    Parameters
    ----------
    result : SortingResult
    path : str or Path
        File to write; its folder is created.
    name : str
        Name of the recording or the sorting, for the title.
    recording : BaseRecording, optional
        The recording that was sorted. What results of earlier versions lack, such as templates or the peaks on all
        contacts, is measured from it; without it the page says what is missing.
    overwrite : bool
        Replace an earlier file.
    seed : int
        Selects the spikes that are drawn where there are too many.
    settings : ReportSettings

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileExistsError
        The file exists.
    ImportError
        jinja2 is not installed.
    ValueError
        Another recording than the one that was sorted.
    """
    check_output_file(path, overwrite=overwrite, mark=MARK)
    template = load_template("page.html")
    measurements = get_measurements(result, recording)
    text = template.render(name=name, **_collect(result, measurements, seed, settings))
    with new_file(path, overwrite=overwrite) as partial:
        # paths and names of units may have bytes that are no UTF-8
        partial.write_text(text, encoding="utf8", errors="backslashreplace")
    return Path(path)


def load_template(name: str) -> Any:
    """One of the templates in this folder.

    Parameters
    ----------
    name : str
        Of the file.

    Returns
    -------
    jinja2.Template

    Raises
    ------
    ImportError
        jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("expected jinja2 for the report, found none; pip install huidurep[report]") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # JSON has no NaN: an error here is better than a page without figures
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template(name)


def _collect(result: SortingResult, measurements: UnitMeasurements | None, seed: int, settings: ReportSettings) -> dict:
    """Collect the values of the template's variables."""
    axis = TimeAxis(result)
    num_units = result.sorting.get_num_units()
    pairs = find_pairs(result, measurements, seed=seed, settings=settings) if num_units > 1 else []
    candidates = [pair for pair in pairs if pair.is_candidate(result.parameters.merge_bias, settings=settings)]
    candidates = sorted(candidates, key=lambda pair: pair.merge_statistic)
    candidates = candidates[: settings.max_candidates]
    remarks = find_remarks(result, candidates, settings=settings)
    rows = _table_rows(result, measurements, axis, remarks)
    return {
        "title": f"{count(num_units, 'unit')}, {format_duration(axis.durations_s.sum())}",
        "sentences": summarise(result, axis),
        "remarks": remarks,
        "columns": [each for each in COLUMNS if any(row["values"][each[0]] is not None for row in rows)],
        "rows": rows,
        "candidates": candidates,
        "limit": f"{merge_limit(result.parameters.merge_bias):g}",
        "labels": list(dict.fromkeys(["good", "mua", *sorted(row["quality"] for row in rows if row["quality"])])),
        "flags": list(dict.fromkeys(remark.flag for remark in remarks if remark.units)),
        "num_groups": len({row["group"] for row in rows}),
        "has_measurements": measurements is not None,
        "has_peaks": measurements is not None and measurements.drawn_spikes is not None,
        "run": _describe_run(result),
        "sparkline": SPARKLINE,
        "palette": PALETTE,
        "data": {
            "axis": axis.describe(),
            "bin_ms": CORRELOGRAM_BIN_MS,
            "isi_ms": ISI_EDGES_MS[[0, -1]].round(4).tolist(),
            "merge_limit": merge_limit(result.parameters.merge_bias),
            "units": _pack_units(result, measurements, axis, seed),
            "pairs": [_pack_pair(pair, result, pair in candidates) for pair in pairs],
            "overview": _pack_overview(result, measurements, axis, seed),
            "clusters": pack_clusters(result, measurements, seed, settings) if num_units else None,
        },
    }


def _table_rows(
    result: SortingResult, measurements: UnitMeasurements | None, axis: TimeAxis, remarks: list
) -> list[dict]:
    sorting = result.sorting
    counts = spike_counts(sorting)
    values = {name: sorting.get_property(name) for name, *_ in COLUMNS}
    values |= {"num_spikes": counts, "rate_hz": counts / max(axis.durations_s.sum(), 1.0 / axis.sampling_frequency)}
    words = {name: sorting.get_property(name) for name in ("quality", "quality_reason", "main_channel_id", "group")}
    overlapping = find_overlapping(result)
    colors = unit_colors(result, measurements)
    rows = []
    for unit, unit_id in enumerate(sorting.unit_ids):
        rows.append(
            {
                "id": str(unit_id),
                "color": int(colors[unit]),
                "overlap": overlapping[unit],
                "values": {name: _known(column, unit) for name, column in values.items()},
                "flags": [remark.flag for remark in remarks if unit in remark.units],
                "sparkline": None
                if measurements is None
                else sparkline(measurements.templates_uv[unit, :, 0], **SPARKLINE),
                **{name: "" if column is None else str(column[unit]) for name, column in words.items()},
            }
        )
    return rows


def _known(column: np.ndarray | None, unit: int) -> float | None:
    """The value of a unit; None where its column is missing or it is NaN."""
    return None if column is None or np.isnan(column[unit]) else float(column[unit])


def _pack_units(result: SortingResult, measurements: UnitMeasurements | None, axis: TimeAxis, seed: int) -> list[dict]:
    sorting = result.sorting
    num_units = sorting.get_num_units()
    if num_units == 0:
        return []
    vector = sorting.to_spike_vector()
    correlograms, intervals = pack_autocorrelograms(sorting), isi_histograms(sorting).tolist()
    colors, overlapping = unit_colors(result, measurements), find_overlapping(result)
    shares, distances = (sorting.get_property(name) for name in ("neighbour_share", "template_distance"))
    templates: list = [None] * num_units
    amplitudes: list = [None] * num_units
    if measurements is not None:
        templates = pack_templates(measurements, sorting.get_sampling_frequency())
        amplitudes = pack_amplitudes(measurements, vector["unit_index"], axis.of(vector), axis, seed)
    cutoffs = sorting.get_property("amplitude_cutoff")
    return [
        {
            "id": str(unit_id),
            "color": int(colors[unit]),
            "template": templates[unit],
            "amplitudes": amplitudes[unit],
            "cutoff": _known(cutoffs, unit),
            "acg": correlograms[unit],
            "isi": intervals[unit],
            "overlap": None
            if overlapping[unit] < 0
            else {
                "unit": overlapping[unit],
                "share": _known(shares, unit),
                "distance": _known(distances, unit),
            },
        }
        for unit, unit_id in enumerate(sorting.unit_ids)
    ]


def _pack_pair(pair: Pair, result: SortingResult, is_candidate: bool) -> dict:
    return {
        "units": [pair.first, pair.second],
        "distance": round(pair.distance, 4),
        "separation": round(pair.separation, 2),
        "log_likelihood_ratio": round(pair.log_likelihood_ratio, 1),
        "similarity": None if pair.similarity is None else round(pair.similarity, 2),
        "projection": pair.projection.tolist(),
        "ccg": cross_correlogram(result.sorting, pair.first, pair.second).tolist() if is_candidate else None,
    }


def _pack_overview(result: SortingResult, measurements: UnitMeasurements | None, axis: TimeAxis, seed: int) -> dict:
    vector = result.sorting.to_spike_vector()
    num_units, times_s = result.sorting.get_num_units(), axis.of(vector)
    order = np.arange(num_units)
    packed: dict = {"probe": None, "drift": None}
    if measurements is not None and num_units:
        positions_um = unit_positions(measurements)
        # by depth within groups, from top to bottom of the probe
        order = np.lexsort((-positions_um[:, 1], measurements.channel_groups[measurements.template_channels[:, 0]]))
        packed["probe"] = {
            "contacts": measurements.channel_positions_um.round(1).tolist(),
            "groups": np.unique(measurements.channel_groups, return_inverse=True)[1].tolist(),
            "units": positions_um.round(1).tolist(),
        }
        packed["drift"] = pack_drift(measurements, times_s, axis, seed)
        if packed["drift"] is None:
            packed["trend"] = pack_trend(measurements, vector["unit_index"], times_s, axis)
    rates = pack_rates(vector["unit_index"], times_s, num_units, axis)
    return packed | {"rates": rates, "order": order.tolist()}


def _describe_run(result: SortingResult) -> dict:
    """Model, recording, versions, parameters and run times of the sorting."""
    defaults, used = SortingParameters().to_dict(), result.parameters.to_dict()
    provenance, recording = result.provenance, result.provenance.get("recording", {})
    facts = {
        "model": result.model_name or "unnamed",
        "revision of the model": result.model_revision,
        "sorted (UTC)": provenance.get("time"),
        "recording": recording.get("kind"),
        "files": "\n".join(recording.get("files", [])) or None,
        "duration": f"{recording['duration_s']:.1f} s" if "duration_s" in recording else None,
        "channels": recording.get("num_channels"),
        "sampling frequency": f"{result.sorting.get_sampling_frequency():g} Hz",
        "sample type": recording.get("dtype"),
        "SHA-256 of the first 2 s": recording.get("sha256"),
        "platform": provenance.get("platform"),
        "commit": provenance.get("commit"),
        **provenance.get("versions", {}),
        "page written (UTC)": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    total = sum(entry["seconds"] for entry in result.log)
    return {
        "facts": {name: value for name, value in facts.items() if value is not None},
        "parameters": [(name, repr(value), value != defaults[name]) for name, value in used.items()],
        "log": [{"is_warning": False, **entry, "share": entry["seconds"] / max(total, 1e-9)} for entry in result.log],
        "total": format_duration(total),
    }
