"""The page, put together: what is measured, what is said of it, and the file."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..clustering.separation import merge_limit
from ..sorting.parameters import SortingParameters
from ..sorting.postprocessing import Measures, measure_again
from .page_data import (
    TimeAxis,
    pack_amplitudes,
    pack_autocorrelograms,
    pack_drift,
    pack_rates,
    pack_templates,
    pack_trend,
    sparkline,
    spike_counts,
)
from .similar_units import CORRELOGRAM_BIN_MS, MAX_CANDIDATES, Pair, cross_correlogram, find_pairs
from .summary import count, find_remarks, format_duration, summarise

if TYPE_CHECKING:
    from ..result import SortingResult

SPARKLINE = {"width": 60, "height": 24}
# property, head of the column, what it means, digits, factor
COLUMNS = (
    ("num_spikes", "spikes", "Number of spikes", 0, 1.0),
    ("rate_hz", "rate (Hz)", "Spikes per second of the recording", 1, 1.0),
    ("snr", "SNR", "Peak of the template in noise levels of its channel", 1, 1.0),
    ("peak_uv", "peak (µV)", "Peak of the template on its main channel", 0, 1.0),
    ("refractory_violations", "violations (%)", "Intervals between its spikes that are below 1.5 ms", 1, 100.0),
    ("isolation", "isolation", "Mean probability of its spikes to be its own, by their embeddings", 2, 1.0),
    ("presence", "presence (%)", "Stretches of the recording in which it fires", 0, 100.0),
)


def write_page(
    result: SortingResult, path, *, name: str = "", recording=None, overwrite: bool = False, seed: int = 0
) -> Path:
    """Write the report of a sorting: one HTML file that needs nothing else.

    Parameters
    ----------
    result : SortingResult
    path : str or Path
        File to write; its folder is made.
    name : str
        Of the recording or the sorting, for the head of the page.
    recording : BaseRecording | None
        The recording that was sorted. Templates, amplitudes and places are measured from it where the result does not
        have them, as results of earlier versions do not. None: the page says what is missing.
    overwrite : bool
        Replace a file.
    seed : int
        Which spikes are drawn where there are too many to show.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileExistsError
        The file is there.
    ImportError
        No jinja2.
    ValueError
        A recording that does not fit.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"expected a new file, found {path}; name another one or overwrite it")
    template = _load_template()
    measures = result.measures
    if measures is None and recording is not None:
        measures = measure_again(result.sorting, recording, result.parameters)
    text = template.render(name=name, **_collect(result, measures, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8")
    return path


def _load_template():
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
    # NaN is no JSON: better an error here than a page that does not draw
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template("page.html")


def _collect(result: SortingResult, measures: Measures | None, seed: int) -> dict:
    """What the template is filled with."""
    axis = TimeAxis(result)
    num_units = result.sorting.get_num_units()
    pairs = find_pairs(result, measures, seed=seed) if num_units > 1 else []
    candidates = [pair for pair in pairs if pair.is_candidate(result.parameters.merge_bias)]
    candidates = sorted(candidates, key=lambda pair: pair.merge_statistic)[:MAX_CANDIDATES]
    remarks = find_remarks(result, candidates)
    rows = _table_rows(result, measures, axis, remarks)
    return {
        "title": f"{count(num_units, 'unit')}, {format_duration(axis.total_s)}",
        "sentences": summarise(result, axis),
        "remarks": remarks,
        "columns": [each for each in COLUMNS if any(row["values"][each[0]] is not None for row in rows)],
        "rows": rows,
        "candidates": candidates,
        "limit": f"{merge_limit(result.parameters.merge_bias):g}",
        "flags": list(dict.fromkeys(remark.flag for remark in remarks if remark.units)),
        "num_groups": len({row["group"] for row in rows}),
        "has_measures": measures is not None,
        "run": _describe_run(result),
        "sparkline": SPARKLINE,
        "data": {
            "axis": axis.describe(),
            "bin_ms": CORRELOGRAM_BIN_MS,
            "units": _pack_units(result, measures, axis, seed),
            "pairs": [_pack_pair(pair, result, pair in candidates) for pair in pairs],
            "overview": _pack_overview(result, measures, axis, seed),
        },
    }


def _table_rows(result: SortingResult, measures: Measures | None, axis: TimeAxis, remarks: list) -> list[dict]:
    sorting = result.sorting
    counts = spike_counts(sorting)
    values = {name: sorting.get_property(name) for name, *_ in COLUMNS}
    values |= {"num_spikes": counts, "rate_hz": counts / axis.total_s}
    words = {name: sorting.get_property(name) for name in ("quality", "main_channel_id", "group")}
    rows = []
    for unit, unit_id in enumerate(sorting.unit_ids):
        rows.append(
            {
                "id": str(unit_id),
                "values": {name: None if column is None else float(column[unit]) for name, column in values.items()},
                "flags": [remark.flag for remark in remarks if unit in remark.units],
                "sparkline": None if measures is None else sparkline(measures.templates_uv[unit, :, 0], **SPARKLINE),
                **{name: "" if column is None else str(column[unit]) for name, column in words.items()},
            }
        )
    return rows


def _pack_units(result: SortingResult, measures: Measures | None, axis: TimeAxis, seed: int) -> list[dict]:
    sorting = result.sorting
    num_units = sorting.get_num_units()
    if num_units == 0:
        return []
    vector = sorting.to_spike_vector()
    correlograms = pack_autocorrelograms(sorting)
    templates = amplitudes = [None] * num_units
    if measures is not None:
        templates = pack_templates(measures, sorting.get_sampling_frequency())
        amplitudes = pack_amplitudes(measures, vector["unit_index"], axis.of(vector), axis, seed)
    return [
        {"id": str(unit_id), "template": template, "amplitudes": amplitude, "acg": correlogram}
        for unit_id, template, amplitude, correlogram in zip(
            sorting.unit_ids, templates, amplitudes, correlograms, strict=True
        )
    ]


def _pack_pair(pair: Pair, result: SortingResult, is_candidate: bool) -> dict:
    return {
        "units": [pair.first, pair.second],
        "distance": round(pair.distance, 4),
        "separation": round(pair.separation, 2),
        "evidence": round(pair.refractory_log_likelihood_ratio, 1),
        "similarity": None if pair.similarity is None else round(pair.similarity, 2),
        "projection": pair.projection.tolist(),
        "ccg": cross_correlogram(result.sorting, pair.first, pair.second).tolist() if is_candidate else None,
    }


def _pack_overview(result: SortingResult, measures: Measures | None, axis: TimeAxis, seed: int) -> dict:
    vector = result.sorting.to_spike_vector()
    num_units, times_s = result.sorting.get_num_units(), axis.of(vector)
    order = np.arange(num_units)
    packed = {"probe": None, "drift": None}
    if measures is not None and num_units:
        places_um = _unit_places(measures)
        # by depth within groups, as the eye meets them on the probe
        order = np.lexsort((-places_um[:, 1], measures.channel_groups[measures.template_channels[:, 0]]))
        packed["probe"] = {
            "contacts": measures.channel_positions_um.round(1).tolist(),
            "groups": np.unique(measures.channel_groups, return_inverse=True)[1].tolist(),
            "units": places_um.round(1).tolist(),
        }
        packed["drift"] = pack_drift(measures, times_s, axis, seed)
        if packed["drift"] is None:
            packed["trend"] = pack_trend(measures, vector["unit_index"], times_s, axis)
    rates = pack_rates(vector["unit_index"], times_s, num_units, axis)
    return packed | {"rates": rates, "order": order.tolist()}


def _unit_places(measures: Measures) -> np.ndarray:
    """Place (num_units, 2) um of each unit: its contacts, weighted by the square of the template's height there."""
    weights = np.ptp(np.nan_to_num(measures.templates_uv), axis=1) ** 2 + 1e-9
    weights[measures.template_channels < 0] = 0.0
    contacts_um = measures.channel_positions_um[measures.template_channels]
    return (contacts_um * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)


def _describe_run(result: SortingResult) -> dict:
    """What was done: model, versions, parameters and timings."""
    defaults, used = SortingParameters().to_dict(), result.parameters.to_dict()
    provenance = result.provenance
    facts = {
        "model": result.model_name or "without a name",
        "revision of the model": result.model_revision,
        "sorted (UTC)": provenance.get("time"),
        "channels": provenance.get("num_channels"),
        "sampling frequency": f"{result.sorting.get_sampling_frequency():g} Hz",
        "platform": provenance.get("platform"),
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
