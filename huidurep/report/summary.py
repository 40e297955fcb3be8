"""Text of the report: a summary of the sorting, and remarks on what should be checked first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..sorting.quality_metrics import QUALITY_SETTINGS
from .page_data import TimeAxis, spike_counts
from .settings import REPORT_SETTINGS, ReportSettings
from .similar_units import Pair

if TYPE_CHECKING:
    from ..result import SortingResult


@dataclass(frozen=True)
class Remark:
    """A finding that the user should check.

    Attributes
    ----------
    text : str
        What was found, and what it may mean.
    units : list of int
        Index of the units concerned; empty where the remark concerns the whole run.
    flag : str
        The remark in one or two words, for the table of units.
    """

    text: str
    units: list
    flag: str


def summarise(result: SortingResult, axis: TimeAxis) -> list[str]:
    """Summarise the sorting.

    Parameters
    ----------
    result : SortingResult
    axis : TimeAxis

    Returns
    -------
    list of str
        One sentence each.
    """
    num_units, num_spikes = result.sorting.get_num_units(), len(result.posteriors)
    span = ("" if axis.is_exact else "at least ") + format_duration(axis.durations_s.sum())
    num_segments = len(axis.durations_s)
    span += f" in {num_segments} segments" if num_segments > 1 else ""
    channels = result.provenance.get("recording", {}).get("num_channels")
    of = f" of {count(channels, 'channel')}" if channels else ""
    if num_units == 0:
        sentences = [f"No units were found in {span}{of}: no cluster of spikes was large and distinct enough."]
    else:
        labels = result.sorting.get_property("quality")
        sentences = [f"{count(num_units, 'unit')} with {count(num_spikes, 'spike')} in {span}{of}."]
        if labels is not None:
            sentences.append(_describe_quality(labels.tolist()))
    periods = result.artifact_periods
    if len(periods):
        seconds = float((periods["end_s"] - periods["start_s"]).sum())
        sentences.append(f"{count(len(periods), 'artefact')} or blanks of {format_duration(seconds)} in all left out.")
    revision = f" (revision {result.model_revision})" if result.model_revision else ""
    seconds = sum(entry["seconds"] for entry in result.log)
    took = f" in {format_duration(seconds)}" if result.log else ""
    sentences.append(f"Sorted with the model {result.model_name or 'without name'}{revision}{took}.")
    return sentences


def find_remarks(
    result: SortingResult, candidates: list[Pair], *, settings: ReportSettings = REPORT_SETTINGS
) -> list[Remark]:
    """List what the user should check, most important first.

    Parameters
    ----------
    result : SortingResult
    candidates : list of Pair
        Pairs of units that may be one neuron.
    settings : ReportSettings

    Returns
    -------
    list of Remark
        Empty where nothing is conspicuous.
    """
    warnings = [entry for entry in result.log if entry.get("is_warning")]
    remarks = [Remark(f"{entry['stage']}: {entry['message']}", [], "run") for entry in warnings]
    if result.sorting.get_num_units() == 0:
        return remarks
    if candidates:
        units = sorted({unit for pair in candidates for unit in (pair.first, pair.second)})
        text = f"May be over-split ({count(len(candidates), 'pair')}): compare the units of each pair before using them"
        remarks.append(Remark(text, units, "merge?"))
    for name, limit, is_above, flag, text in _conditions(settings):
        values = spike_counts(result.sorting) if name == "num_spikes" else result.sorting.get_property(name)
        if values is None:  # a result of an earlier version
            continue
        units = np.flatnonzero(values > limit if is_above else values < limit).tolist()
        if units:
            remarks.append(Remark(text, units, flag))
    return remarks


def format_duration(seconds: float) -> str:
    """Format a duration.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
        Such as "1.5 s", "2 min 5 s" or "3 h 20 min".
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 60:
        whole, rest = divmod(round(seconds), 60)
        return f"{whole} min {rest} s" if rest else f"{whole} min"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def count(number: int, noun: str) -> str:
    """Format a number with its noun.

    Parameters
    ----------
    number : int
    noun : str
        Singular.

    Returns
    -------
    str
        Such as "1 unit" or "12,345 spikes".
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _describe_quality(labels: list[str]) -> str:
    counts, mua = Counter(labels), "multi-unit activity (mua), the table says why"
    if set(counts) == {"good"}:
        return "All are good."
    if set(counts) == {"mua"}:
        return f"None is good: all are {mua}."
    others = [name for name in sorted(counts) if name != "good"]  # a curator has words of their own
    parts = [f"{counts[name]} {'is' if counts[name] == 1 else 'are'} " for name in ("good", *others)]
    words = ["good", *[mua if name == "mua" else name for name in others]]
    return "; ".join(part + word for part, word in zip(parts, words, strict=True)) + "."


def _conditions(settings: ReportSettings) -> list[tuple[str, float, bool, str, str]]:
    """Property, limit, whether values above (or below) it are marked, flag, and text of each remark."""
    quality = QUALITY_SETTINGS
    return [
        (
            "contamination_p_value",
            quality.contamination_significance,
            False,
            "contamination",
            f"More intervals below {quality.contamination_refractory_ms:g} ms than "
            f"{quality.max_contamination:.0%} of foreign spikes explain: the unit holds spikes of several neurons, or "
            "noise",
        ),
        (
            "neighbour_share",
            quality.max_neighbour_share,
            True,
            "overlap",
            f"Overlap with another unit in the embedding (more than {quality.max_neighbour_share:.0%} of the nearest "
            "spikes are of that unit): some spikes may be assigned to the wrong unit",
        ),
        (
            "template_distance",
            quality.min_template_distance,
            False,
            "similar",
            f"Waveform within {quality.min_template_distance:g} noise levels of that of another unit: some spikes may "
            "be assigned to the wrong unit",
        ),
        (
            "presence_ratio",
            settings.min_presence_ratio,
            False,
            "gaps",
            f"Presence ratio below {settings.min_presence_ratio:.0%}: lost by drift, or silent for a while",
        ),
        (
            "snr",
            settings.low_snr,
            False,
            "low SNR",
            f"SNR below {settings.low_snr:g}: some spikes may not have been detected",
        ),
        (
            "num_spikes",
            settings.few_spikes,
            False,
            "few spikes",
            f"Fewer than {settings.few_spikes} spikes: all metrics of these units are uncertain",
        ),
    ]
