"""Units of a large group that are none: echoes of another, noise that matching liked, pieces of one neuron.

A tetrode's units are one mixture, and the mixture judges them (`settle_units`). In a larger group every peak channel
has a mixture of its own, which cannot tell what the others saw; here spike times and templates do.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from spikeinterface.core import ChannelSparsity, NumpySorting, Templates, get_channel_distances
from spikeinterface.sortingcomponents.tools import create_sorting_analyzer_with_existing_templates

from .coincidences import is_near, running_sample_index
from .matching import is_duplicate
from .merging import GroupUnits
from .parameters import SortingParameters
from .preprocessing import PreparedGroup, get_job_kwargs
from .run_log import RunLog
from .waveforms import mean_waveforms, to_spike_vector

DETECTED_MS = 0.3  # from a matched spike to the peak that bears it out
DETECTED_SHARE = 0.5
MERGE_DIFFERENCES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # of templates, normalised l1: the most alike merge first
MERGE_BIAS_STEP = 0.05  # what one unit of merge_bias adds to the last of them
MERGE_SHIFT_MS = 0.5
MERGE_DISTANCE_UM = 100.0
REFRACTORY_MS = 1.5
CENSORED_MS = 0.3  # so near, one spike may be taken for two
SPARSE_PEAK_TO_PEAK = 1.5  # noise levels; smaller parts of templates are not compared


def clean_units(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: GroupUnits,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
    log: RunLog,
) -> tuple[GroupUnits, np.ndarray, np.ndarray]:
    """Drop the units that are matched to noise, and join the pieces of one neuron.

    A template that is hardly more than noise is matched to noise: a unit goes of whose matched spikes less than half
    lie at a detected peak. Two units join where their templates are alike, their places near, and their spikes keep
    one refractory period between them (SpikeInterface's `auto_merge_units`, preset "x_contaminations", as
    SpyKING CIRCUS 2 and Lupin use it).

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    peaks : ndarray, (num_peaks,)
        The detected peaks.
    units : GroupUnits
        The units that were matched.
    spikes : ndarray, (num_spikes,)
        Matched spikes, in order of time within segments.
    labels : ndarray of int64, (num_spikes,)
        Unit of each.
    parameters : SortingParameters
        Nothing is changed where `num_units` was asked for. `merge_bias` shifts how alike templates must be.
    log : RunLog
        Told what joined and what went.

    Returns
    -------
    units : GroupUnits
        As many, counted as before; a unit that others joined has their components, too.
    spikes : ndarray, (num_kept,)
    labels : ndarray of int64, (num_kept,)
    """
    if parameters.num_units is not None or len(labels) == 0:
        return units, spikes, labels
    noise = _undetected(group, peaks, units, spikes, labels, parameters)
    is_kept = ~np.isin(labels, noise)
    spikes, labels = spikes[is_kept], labels[is_kept]
    into = _pieces(group, spikes, labels, parameters) if len(np.unique(labels)) > 1 else {}
    components = list(units.components)
    for unit, whole in into.items():
        labels = np.where(labels == unit, whole, labels)
        # only those of one mixture can be added up
        if components[unit][0] is components[whole][0]:
            components[whole] = (components[whole][0], np.union1d(components[whole][1], components[unit][1]))
    spikes["channel_index"] = units.unit_channels[labels]
    is_kept = ~is_duplicate(spikes, labels, group.recording.get_sampling_frequency())
    log("cleaning", f"group {group.name}: {len(into)} units joined another, {len(noise)} were noise")
    return replace(units, components=components), spikes[is_kept], labels[is_kept]


def _undetected(
    group: PreparedGroup,
    peaks: np.ndarray,
    units: GroupUnits,
    spikes: np.ndarray,
    labels: np.ndarray,
    parameters: SortingParameters,
) -> list:
    """Units most of whose spikes are at no detected peak of the channels around them."""
    distances = get_channel_distances(group.recording)
    ticks = running_sample_index(group.recording, peaks)
    reach = int(DETECTED_MS * group.recording.get_sampling_frequency() / 1000.0)
    noise = []
    for unit in np.unique(labels):
        is_around = distances[units.unit_channels[unit]] <= parameters.radius_um
        near = ticks[is_around[peaks["channel_index"]]]
        times = running_sample_index(group.recording, spikes[labels == unit])
        if is_near(times, near, reach).mean() < DETECTED_SHARE:
            noise.append(int(unit))
    return noise


def _pieces(group: PreparedGroup, spikes: np.ndarray, labels: np.ndarray, parameters: SortingParameters) -> dict:
    """Units that join another: {unit: the largest of those that are one with it}."""
    # seconds of imports that tetrodes need not pay
    from spikeinterface.curation.auto_merge import auto_merge_units

    unit_ids, unit_index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    steps = _merge_steps(parameters.merge_bias)
    with warnings.catch_warnings():  # that like templates share too few channels to be merged needs no warning
        warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
        _, merged, *_ = auto_merge_units(
            _analyze(group, to_spike_vector(spikes, unit_index), len(unit_ids), parameters),
            presets=["x_contaminations"] * len(steps),
            steps_params=steps,
            recursive=True,
            censor_ms=CENSORED_MS,
            sparsity_overlap=0.5,
            extra_outputs=True,
            **get_job_kwargs(),
        )
    into = {}
    for pieces in merged.values():
        whole = max(pieces, key=lambda piece: counts[piece])
        into |= {int(unit_ids[piece]): int(unit_ids[whole]) for piece in pieces if piece != whole}
    return into


def _merge_steps(merge_bias: float) -> list[dict]:
    """What SpikeInterface asks of two units in each of its rounds."""
    last = float(np.clip(MERGE_DIFFERENCES[-1] + MERGE_BIAS_STEP * merge_bias, 0.01, 0.5))
    period = {"refractory_period_ms": REFRACTORY_MS, "censored_period_ms": CENSORED_MS}
    return [
        {
            "num_spikes": {"min_spikes": 1},
            # of a small unit's own spikes, two that are too near say little
            "remove_contaminated": {"contamination_thresh": 1.0, **period},
            "unit_locations": {"max_distance_um": MERGE_DISTANCE_UM},
            "template_similarity": {"template_diff_thresh": difference},
            "cross_contamination": {"cc_thresh": 0.1, "p_value": 0.2, **period},
            "quality_score": {"firing_contamination_balance": 1.5, **period},
        }
        for difference in (*(each for each in MERGE_DIFFERENCES if each < last), last)
    ]


def _analyze(group: PreparedGroup, spike_vector: np.ndarray, num_units: int, parameters: SortingParameters):
    """SpikeInterface's analyzer of units that are counted from 0, with what merging asks for."""
    recording = group.recording
    sampling_frequency = recording.get_sampling_frequency()
    unit_ids = np.arange(num_units)
    waveforms = mean_waveforms(recording, spike_vector, num_units, parameters)
    height = np.ptp(waveforms, axis=1)
    mask = height >= np.minimum(SPARSE_PEAK_TO_PEAK * group.noise_levels_uv, height.max(axis=1, keepdims=True))
    templates = Templates(
        templates_array=waveforms,
        sampling_frequency=sampling_frequency,
        nbefore=parameters.num_samples_before(sampling_frequency),
        channel_ids=recording.channel_ids,
        unit_ids=unit_ids,
        probe=recording.get_probe(),
        is_in_uV=True,
    ).to_sparse(ChannelSparsity(mask, unit_ids, recording.channel_ids))
    analyzer = create_sorting_analyzer_with_existing_templates(
        NumpySorting(spike_vector, sampling_frequency, unit_ids), recording, templates
    )
    analyzer.compute("unit_locations", method="center_of_mass")
    analyzer.compute("template_similarity", method="l1", support="union", max_lag_ms=MERGE_SHIFT_MS)
    return analyzer
