"""Quality metrics of units, and the label "good" or "mua" with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import poisson
from spikeinterface.core import BaseRecording, BaseSorting
from spikeinterface.metrics.quality.misc_metrics import amplitude_cutoff, isi_violations

from .spike_trains import DUPLICATE_MS, running_sample_index


@dataclass(frozen=True)
class QualitySettings:
    """Thresholds of the quality metrics and of the label.

    They were chosen on simulated recordings (`benchmarks/labels.py`, seeds 1 and 2) and are wide: between them and
    the values of most accurate units there is room.

    Attributes
    ----------
    refractory_ms : float
        Inter-spike intervals below this are too short for one neuron; SpikeInterface's default of `isi_violations`.
    contamination_refractory_ms : float
        Refractory period of the contamination estimate. 1.5 and 2.5 ms give the same labels.
    max_contamination : float
        Largest share of foreign spikes in a good unit: 10 %, as is customary (Hill et al. 2011,
        doi:10.1523/JNEUROSCI.0971-11.2011).
    contamination_significance : float
        A unit fails if its violations have a smaller probability at this contamination. In units of few spikes, one
        violation proves nothing.
    max_neighbour_share : float
        Largest share of embedding neighbours that belong to one other unit. 97 % of accurate units were below 0.06,
        half of those with an accuracy of 0.1 to 0.9 on tetrodes above 0.1.
    min_template_distance : float
        Smallest distance from another unit's template, in noise levels. Accurate units were above 9.
    min_snr : float
        52 of 57 clusters of noise and of far neurons were below, and 6 of 445 accurate units. Whatever is detected
        at a threshold of 4 has an SNR near 4.
    max_amplitude_cutoff : float
        Largest share of spikes missing below the detection threshold, estimated by SpikeInterface. The Allen Institute
        uses 0.1; accurate units with up to 0.2 were seen.
    min_presence_ratio : float
        Smallest share of bins in which a good unit fires. Low, as true neurons may be silent for most of a recording.
    presence_bin_s : float
        Bin of the presence ratio; SpikeInterface's default.
    min_presence_bins : int
        Smallest number of bins; bins of short recordings are shorter than `presence_bin_s`.
    """

    refractory_ms: float = 1.5
    contamination_refractory_ms: float = 2.0
    max_contamination: float = 0.1
    contamination_significance: float = 0.05
    max_neighbour_share: float = 0.1
    min_template_distance: float = 8.0
    min_snr: float = 4.5
    max_amplitude_cutoff: float = 0.2
    min_presence_ratio: float = 0.25
    presence_bin_s: float = 60.0
    min_presence_bins: int = 10


QUALITY_SETTINGS = QualitySettings()


def compute_quality_metrics(
    recording: BaseRecording,
    spike_vector: np.ndarray,
    posteriors: np.ndarray,
    num_units: int,
    *,
    settings: QualitySettings = QUALITY_SETTINGS,
) -> dict[str, list]:
    """Compute the quality metrics of every unit from its spike times and posteriors.

    Parameters
    ----------
    recording : BaseRecording
        The recording that was sorted; only its duration is used.
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector, in order of time within segments.
    posteriors : ndarray of float32, (num_spikes,)
        Posterior probability of each spike's unit.
    num_units : int
        Number of units; each has at least one spike.
    settings : QualitySettings

    Returns
    -------
    dict of list
        One value a unit. short_isi_fraction: share of its inter-spike intervals below 1.5 ms. isi_violations_ratio:
        contamination estimated from these intervals, by SpikeInterface (after Hill et al. 2011). contamination: share
        of foreign spikes estimated from intervals of 0.6 to 2 ms, as SpikeInterface's rp_contamination (Llobet,
        Wyngaard & Barbour 2022, doi:10.1101/2022.02.08.479192), and contamination_p_value: probability of as many
        violations at a share of 10 %. mean_posterior: mean posterior of its spikes. presence_ratio: share of bins in
        which it fires, of 60 s, or of a tenth of recordings below ten minutes.
    """
    rows = [np.flatnonzero(spike_vector["unit_index"] == unit) for unit in range(num_units)]
    sampling_frequency, num_samples = recording.get_sampling_frequency(), recording.get_total_samples()
    duration_s = num_samples / sampling_frequency
    num_bins = max(settings.min_presence_bins, int(np.ceil(duration_s / settings.presence_bin_s)))
    # in recordings of a few minutes, a bin of a minute would hide most gaps
    edges = np.linspace(0, num_samples, num_bins + 1)
    ticks = running_sample_index(recording, spike_vector)
    trains = [_trains_of_segments(spike_vector[own]) for own in rows]
    refractory_samples = settings.refractory_ms * sampling_frequency / 1000.0
    ratios = [
        isi_violations([each / sampling_frequency for each in segments], duration_s, settings.refractory_ms / 1000.0)[0]
        for segments in trains
    ]
    contamination, p_values = _contamination(trains, recording, settings)
    return {
        "short_isi_fraction": [_short_isi_fraction(segments, refractory_samples) for segments in trains],
        "isi_violations_ratio": [float(ratio) for ratio in ratios],
        "contamination": contamination,
        "contamination_p_value": p_values,
        "mean_posterior": [float(posteriors[own].mean(dtype="float64")) for own in rows],
        "presence_ratio": [float((np.histogram(ticks[own], edges)[0] > 0).mean()) for own in rows],
    }


def compute_amplitude_cutoffs(amplitudes_uv: np.ndarray, unit_index: np.ndarray, num_units: int) -> list[float]:
    """Estimate the share of spikes that each unit lacks at small amplitudes, by SpikeInterface.

    Parameters
    ----------
    amplitudes_uv : ndarray, (num_spikes,)
    unit_index : ndarray of int, (num_spikes,)
    num_units : int

    Returns
    -------
    list of float
        NaN for units of fewer than 500 spikes.
    """
    sizes = np.abs(amplitudes_uv)
    return [float(amplitude_cutoff(sizes[unit_index == unit])) for unit in range(num_units)]


def label_units(
    properties: Mapping[str, Sequence], *, settings: QualitySettings = QUALITY_SETTINGS
) -> tuple[list[str], list[str]]:
    """Label every unit as good or as multi-unit activity, from its properties alone.

    Parameters
    ----------
    properties : mapping of str to sequence
        The properties of the units of a sorting, one value a unit; those that are NaN are not tested.
    settings : QualitySettings

    Returns
    -------
    quality : list of str
        "good" where the unit passes every test, otherwise "mua".
    reasons : list of str
        The tests that a unit failed, such as "overlaps with unit 12; SNR 3.2"; "" for good units.
    """
    num_units = len(properties["snr"])
    units = [{name: column[unit] for name, column in properties.items()} for unit in range(num_units)]
    tests = _tests(settings)
    reasons = ["; ".join(test.reason.format(**unit) for test in tests if test.fails(unit)) for unit in units]
    return ["mua" if reason else "good" for reason in reasons], reasons


def explain_unit(sorting: BaseSorting, unit_id: object, *, settings: QualitySettings = QUALITY_SETTINGS) -> str:
    """Say in words why a unit is good or not.

    Parameters
    ----------
    sorting : BaseSorting
        Units with the properties of a result; tests of properties that they lack are not mentioned.
    unit_id : int or str
    settings : QualitySettings

    Returns
    -------
    str
        Its label, then a line for each test: passed, failed or not tested, the value and the limit.

    Raises
    ------
    ValueError
        There is no such unit.
    """
    known = sorting.unit_ids.tolist()
    if unit_id not in known:
        raise ValueError(f"expected one of the units {known[:20]}, found {unit_id!r}; give the id of a unit")
    names, index = sorting.get_property_keys(), known.index(unit_id)
    unit = {name: sorting.get_property(name)[index] for name in names}
    label, reason = unit.get("quality", "not labelled"), unit.get("quality_reason", "")
    lines = [
        f"Unit {unit_id} ({unit.get('num_spikes', 'unknown number of')} spikes) is {label}: {reason or 'it passes'}"
    ]
    for test in _tests(settings):
        if not set(test.names) <= unit.keys():
            continue
        is_unknown = any(np.isnan(unit[name]) for name in test.names)
        outcome = "failed" if test.fails(unit) else "not tested" if is_unknown else "passed"
        said = test.unknown if outcome == "not tested" else test.explanation.format(limit=settings, **unit)
        lines.append(f"  {outcome:10}  {said}")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Test:
    """A test of the label: properties that it reads, when a unit fails, and what is said of it."""

    names: tuple[str, ...]
    fails: Callable[[dict], bool]
    reason: str
    explanation: str
    unknown: str = "not measured"


def _tests(settings: QualitySettings) -> tuple[_Test, ...]:
    return (
        _Test(
            ("snr",),
            lambda unit: unit["snr"] < settings.min_snr,
            "SNR {snr:.1f}",
            "SNR {snr:.1f}; {limit.min_snr:g} or more is good",
        ),
        _Test(
            ("contamination", "contamination_p_value"),
            lambda unit: unit["contamination_p_value"] < settings.contamination_significance,
            "refractory contamination {contamination:.0%}",
            "refractory contamination {contamination:.0%}: its short intervals have the probability "
            "{contamination_p_value:.2g} in a unit with {limit.max_contamination:.0%} of foreign spikes; "
            "{limit.contamination_significance:g} or more is good",
        ),
        _Test(
            ("neighbour_share", "template_distance"),
            lambda unit: (
                unit["neighbour_share"] > settings.max_neighbour_share
                or unit["template_distance"] < settings.min_template_distance
            ),
            "overlaps with unit {overlapping_unit}",
            "overlap with unit {overlapping_unit}: {neighbour_share:.0%} of the nearest spikes in the embedding are of "
            "another unit, up to {limit.max_neighbour_share:.0%} is good; the nearest template is "
            "{template_distance:.1f} noise levels away, {limit.min_template_distance:g} or more is good",
            "overlap: no other unit is near",
        ),
        _Test(
            ("amplitude_cutoff",),
            lambda unit: unit["amplitude_cutoff"] > settings.max_amplitude_cutoff,
            "{amplitude_cutoff:.0%} of spikes below the detection threshold",
            "{amplitude_cutoff:.0%} of spikes are estimated to lie below the detection threshold; up to "
            "{limit.max_amplitude_cutoff:.0%} is good",
            "spikes below the detection threshold: fewer than 500 spikes tell nothing of them",
        ),
        _Test(
            ("presence_ratio",),
            lambda unit: unit["presence_ratio"] < settings.min_presence_ratio,
            "present in {presence_ratio:.0%} of the recording",
            "fires in {presence_ratio:.0%} of the recording; {limit.min_presence_ratio:.0%} or more is good",
        ),
    )


def _contamination(
    trains: list[list[np.ndarray]], recording: BaseRecording, settings: QualitySettings
) -> tuple[list[float], list[float]]:
    """Contamination of every unit, and the probability of as many violations at the largest that is allowed.

    The formula is that of SpikeInterface's `compute_refrac_period_violations`, which needs an analyzer with templates.
    """
    # within the censored period, spikes of a unit were counted as one
    censored, refractory = (
        round(ms * recording.get_sampling_frequency() / 1000.0)
        for ms in (DUPLICATE_MS, settings.contamination_refractory_ms)
    )
    violations, independent = np.zeros(len(trains)), np.zeros(len(trains))
    for unit, segments in enumerate(trains):
        count = sum(len(samples) for samples in segments)
        violations[unit] = sum(_count_close_pairs(samples.astype("int64"), refractory) for samples in segments)
        free_samples = max(recording.get_total_samples() - 2 * count * censored, 1)
        independent[unit] = count**2 * (refractory - censored) / free_samples
    contamination = 1 - np.sqrt(np.maximum(1 - violations / independent, 0))
    expected = independent * (1 - (1 - settings.max_contamination) ** 2)
    return contamination.tolist(), poisson.sf(violations - 1, expected).tolist()


def _count_close_pairs(samples: np.ndarray, max_lag: int) -> int:
    """Number of pairs of spikes within a lag."""
    return int((np.searchsorted(samples, samples + max_lag, side="right") - np.arange(1, len(samples) + 1)).sum())


def _trains_of_segments(spike_vector: np.ndarray) -> list[np.ndarray]:
    """Sample indices of one unit's spikes, one array a segment, so that no interval crosses segments."""
    ends = np.flatnonzero(np.diff(spike_vector["segment_index"])) + 1
    return np.split(spike_vector["sample_index"], ends)


def _short_isi_fraction(segments: list[np.ndarray], refractory_samples: float) -> float:
    intervals = np.concatenate([np.diff(samples) for samples in segments])
    return float(np.mean(intervals < refractory_samples)) if len(intervals) else 0.0
