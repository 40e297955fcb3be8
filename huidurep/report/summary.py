"""What the page says before it shows anything: what was found, how far to trust it, where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..sorting.quality_metrics import LEAST_ISOLATION, MOST_VIOLATIONS
from .page_data import TimeAxis, spike_counts
from .similar_units import Pair

if TYPE_CHECKING:
    from ..result import SortingResult

SMALL_SNR = 5.0
LEAST_PRESENCE = 0.9
FEW_SPIKES = 100  # too few for the measures to mean much


@dataclass(frozen=True)
class Remark:
    """Something to look at.

    Attributes
    ----------
    text : str
        What was seen, and what it may mean.
    units : list of int
        Index of the units it is about; none for what concerns the run.
    flag : str
        In a word or two.
    """

    text: str
    units: list
    flag: str


def summarise(result: SortingResult, axis: TimeAxis) -> list[str]:
    """Say what was found, in sentences.

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
    span = ("" if axis.is_exact else "at least ") + format_duration(axis.total_s)
    num_segments = len(axis.durations_s)
    span += f" in {num_segments} segments" if num_segments > 1 else ""
    channels = result.provenance.get("num_channels")
    of = f" of {count(channels, 'channel')}" if channels else ""
    if num_units == 0:
        sentences = [f"No units were found in {span}{of}: no group of spikes was large and distinct enough."]
    else:
        num_good = int((result.sorting.get_property("quality") == "good").sum()) if _has_quality(result) else None
        sentences = [f"{count(num_units, 'unit')} with {count(num_spikes, 'spike')} in {span}{of}."]
        if num_good is not None:
            sentences.append(_describe_quality(num_good, num_units - num_good))
    revision = f" (revision {result.model_revision})" if result.model_revision else ""
    seconds = sum(entry["seconds"] for entry in result.log)
    took = f" in {format_duration(seconds)}" if result.log else ""
    sentences.append(f"Sorted with the model {result.model_name or 'without a name'}{revision}{took}.")
    return sentences


def find_remarks(result: SortingResult, candidates: list[Pair]) -> list[Remark]:
    """Find what a person should look at first, the gravest first.

    Parameters
    ----------
    result : SortingResult
    candidates : list of Pair
        Pairs that may be one neuron.

    Returns
    -------
    list of Remark
        Empty where nothing stands out.
    """
    warnings = [entry for entry in result.log if entry.get("is_warning")]
    remarks = [Remark(f"{entry['stage']}: {entry['message']}", [], "run") for entry in warnings]
    if result.sorting.get_num_units() == 0:
        return remarks
    if candidates:
        units = sorted({unit for pair in candidates for unit in (pair.first, pair.second)})
        text = f"May be pieces of one neuron ({count(len(candidates), 'pair')}): compare them before you trust either"
        remarks.append(Remark(text, units, "merge?"))
    for name, is_meant, flag, text in _CONDITIONS:
        values = spike_counts(result.sorting) if name == "num_spikes" else result.sorting.get_property(name)
        if values is not None and np.any(is_meant(values)):
            remarks.append(Remark(text, np.flatnonzero(is_meant(values)).tolist(), flag))
    return remarks


def format_duration(seconds: float) -> str:
    """A time in words.

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
    """A number with its noun.

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


def _describe_quality(num_good: int, num_mua: int) -> str:
    rule = f"isolation of at least {LEAST_ISOLATION:g}, at most {MOST_VIOLATIONS:.0%} of intervals below 1.5 ms"
    if num_mua == 0:
        return f"All are good ({rule})."
    if num_good == 0:
        return f"None is good ({rule}): all look like several neurons or noise (mua)."
    good, mua = ("is" if num_good == 1 else "are"), ("looks" if num_mua == 1 else "look")
    return f"{num_good} {good} good ({rule}); {num_mua} {mua} like several neurons (mua)."


# property, what is meant, flag in the table, words in the list
_CONDITIONS = (
    (
        "refractory_violations",
        lambda share: share > MOST_VIOLATIONS,
        "violations",
        f"Fire within 1.5 ms of themselves in more than {MOST_VIOLATIONS:.0%} of intervals: several neurons, or noise",
    ),
    (
        "isolation",
        lambda mean: mean < LEAST_ISOLATION,
        "overlap",
        f"Overlap with neighbours in the embedding (isolation below {LEAST_ISOLATION:g}): spikes may be another unit's",
    ),
    (
        "presence",
        lambda share: share < LEAST_PRESENCE,
        "gaps",
        f"Fire in less than {LEAST_PRESENCE:.0%} of the recording's stretches: lost by drift, or truly silent",
    ),
    ("snr", lambda snr: snr < SMALL_SNR, "small", f"Small (SNR below {SMALL_SNR:g}): spikes may have been missed"),
    (
        "num_spikes",
        lambda number: number < FEW_SPIKES,
        "few spikes",
        f"Under {FEW_SPIKES} spikes: what is measured of them is rough",
    ),
)


def _has_quality(result: SortingResult) -> bool:
    return result.sorting.get_property("quality") is not None
