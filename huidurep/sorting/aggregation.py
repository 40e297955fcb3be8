"""Properties of the units of one channel group, and one sorting of all groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, NumpySorting
from spikeinterface.core.base import minimum_spike_dtype

from ..clustering.disk_arrays import place_rows
from .artifacts import make_periods, merge_periods
from .clustering import Assignment
from .parameters import SortingParameters
from .peak_signs import unit_signs
from .postprocessing import (
    POSTPROCESSING_SETTINGS,
    PostprocessingSettings,
    UnitMeasurements,
    concatenate_measurements,
    main_channels,
    make_sorting,
    measure_units,
)
from .preprocessing import PreparedGroup
from .quality_metrics import (
    QUALITY_SETTINGS,
    QualitySettings,
    compute_amplitude_cutoffs,
    compute_quality_metrics,
    label_units,
)
from .unit_overlap import measure_overlap
from .waveforms import robust_waveforms, to_spike_vector

ARTIFACT_DTYPE = np.dtype([("segment_index", "int64"), ("start_s", "float64"), ("end_s", "float64")])
# types of the properties of a sorting without units
UNIT_PROPERTIES = {
    "main_channel_id": "int64",
    "group": "int64",
    "snr": "float64",
    "peak_uv": "float64",
    "peak_sign": "<U3",
    "num_spikes": "int64",
    "short_isi_fraction": "float64",
    "isi_violations_ratio": "float64",
    "contamination": "float64",
    "contamination_p_value": "float64",
    "mean_posterior": "float64",
    "presence_ratio": "float64",
    "amplitude_cutoff": "float64",
    "neighbour_share": "float64",
    "template_distance": "float64",
    "overlapping_unit": "int64",
}
# computed from these properties, once units have their final numbers
LABELS = {"quality": "<U4", "quality_reason": "<U1"}


@dataclass(frozen=True)
class GroupSorting:
    """The units of one channel group.

    Attributes
    ----------
    spike_vector : ndarray, (num_spikes,)
        SpikeInterface's spike vector: segments of the raw recording, units of this group counted from 0.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    posteriors : ndarray of float32, (num_spikes,)
    properties : dict of str to list
        One value a unit for each name in `UNIT_PROPERTIES`; overlapping_unit counts from 0, too.
    measurements : UnitMeasurements | None
        None for a group without units.
    artifact_periods : ndarray, (num_periods,)
        SpikeInterface's `base_period_dtype`, in segments of the raw recording: what was left out.
    """

    spike_vector: np.ndarray
    embeddings: np.ndarray
    posteriors: np.ndarray
    properties: dict
    measurements: UnitMeasurements | None = None
    artifact_periods: np.ndarray = field(default_factory=make_periods)


def describe_group(
    group: PreparedGroup,
    spikes: np.ndarray,
    embeddings: np.ndarray,
    assignment: Assignment,
    parameters: SortingParameters,
    *,
    postprocessing: PostprocessingSettings = POSTPROCESSING_SETTINGS,
    quality: QualitySettings = QUALITY_SETTINGS,
    job_kwargs: dict | None = None,
) -> GroupSorting:
    """Number the units of a channel group and measure their properties.

    Parameters
    ----------
    group : PreparedGroup
        Filtered recording in uV with its noise levels.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    assignment : Assignment
        Unit (-1: none) and posterior of each spike.
    parameters : SortingParameters
        Snippet window and sign of the peak.
    postprocessing : PostprocessingSettings
    quality : QualitySettings
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

    Returns
    -------
    GroupSorting
    """
    is_kept = assignment.labels >= 0
    if not is_kept.any():
        return empty_group(embeddings.shape[1])
    spikes, posteriors = spikes[is_kept], assignment.posteriors[is_kept]
    embeddings = place_rows([embeddings], [np.where(is_kept, np.cumsum(is_kept) - 1, -1)])
    unit_labels, unit_index = np.unique(assignment.labels[is_kept], return_inverse=True)
    num_units, spike_vector = len(unit_labels), to_spike_vector(spikes, unit_index)
    options: dict[str, Any] = dict(num_means=postprocessing.num_means, job_kwargs=job_kwargs)
    templates_uv = robust_waveforms(group.recording, spike_vector, num_units, parameters, **options)
    signs = unit_signs(spikes, unit_index, num_units)
    measuring: dict[str, Any] = dict(signs=signs, settings=postprocessing, job_kwargs=job_kwargs)
    measured = templates_uv, measure_units(group, spike_vector, templates_uv, parameters, **measuring)
    numbered = Assignment(unit_index, posteriors, assignment.is_one_mixture)
    settings: dict[str, Any] = dict(postprocessing=postprocessing, quality=quality)
    return describe_units(group, spikes, embeddings, numbered, measured, parameters, **settings)


def describe_units(
    group: PreparedGroup,
    spikes: np.ndarray,
    embeddings: np.ndarray,
    assignment: Assignment,
    measured: tuple[np.ndarray, UnitMeasurements],
    parameters: SortingParameters,
    *,
    postprocessing: PostprocessingSettings = POSTPROCESSING_SETTINGS,
    quality: QualitySettings = QUALITY_SETTINGS,
) -> GroupSorting:
    """Compute the properties of the units of a channel group from what was measured; no traces are read.

    Parameters
    ----------
    group : PreparedGroup
        Contacts, sampling frequency, duration and noise levels.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    assignment : Assignment
        Units 0, 1, and so on, each with at least one spike.
    measured : tuple of ndarray of float32 (num_units, num_samples, num_channels) and UnitMeasurements
        Templates on all channels of the group, in uV, and measurements.
    parameters : SortingParameters
        Snippet window and sign of the peak.
    postprocessing : PostprocessingSettings
    quality : QualitySettings

    Returns
    -------
    GroupSorting
    """
    (templates_uv, measurements), unit_index, posteriors = measured, assignment.labels, assignment.posteriors
    num_units, spike_vector = len(templates_uv), to_spike_vector(spikes, unit_index)
    signs = unit_signs(spikes, unit_index, num_units)
    properties = _describe_templates(group, templates_uv, parameters, dict(signs=signs, settings=postprocessing))
    properties |= {"num_spikes": np.bincount(unit_index, minlength=num_units).tolist()}
    properties |= compute_quality_metrics(group.recording, spike_vector, posteriors, num_units, settings=quality)
    properties |= {"amplitude_cutoff": compute_amplitude_cutoffs(measurements.amplitudes_uv, unit_index, num_units)}
    # in one mixture all spikes were embedded on the same channels
    centres = np.zeros(len(spikes), dtype="int64") if assignment.is_one_mixture else spikes["channel_index"]
    overlap = measure_overlap(group, templates_uv, embeddings, unit_index, centres, seed=parameters.seed)
    properties |= overlap.to_properties(quality.max_neighbour_share)
    # the stages before counted only segments that are long enough for a snippet
    spike_vector["segment_index"] = group.segment_indices[spike_vector["segment_index"]]
    return GroupSorting(spike_vector, embeddings, posteriors, properties, measurements)


def _describe_templates(
    group: PreparedGroup, templates_uv: np.ndarray, parameters: SortingParameters, measuring: dict[str, Any]
) -> dict[str, list]:
    """Main channel, group and peak of each unit."""
    sampling_frequency = group.recording.get_sampling_frequency()
    channels, _, peaks_uv = main_channels(templates_uv, sampling_frequency, parameters, **measuring)
    return {
        "main_channel_id": list(group.recording.channel_ids[channels]),
        "group": [group.name] * len(templates_uv),
        "snr": list(np.abs(peaks_uv) / group.noise_levels_uv[channels]),
        "peak_uv": list(peaks_uv),
        "peak_sign": np.where(peaks_uv > 0, "pos", "neg").tolist(),
    }


def empty_group(embedding_size: int) -> GroupSorting:
    """Create the result of a channel group without spikes.

    Parameters
    ----------
    embedding_size : int
        Number of columns of its embeddings.

    Returns
    -------
    GroupSorting
    """
    return GroupSorting(
        np.zeros(0, dtype=minimum_spike_dtype),
        np.zeros((0, embedding_size), dtype="float32"),
        np.zeros(0, dtype="float32"),
        {name: [] for name in UNIT_PROPERTIES},
    )


def assemble(
    groups: list[GroupSorting],
    recording: BaseRecording,
    embedding_size: int,
    *,
    quality: QualitySettings = QUALITY_SETTINGS,
) -> tuple[NumpySorting, np.ndarray, np.ndarray, UnitMeasurements | None]:
    """Combine the channel groups into one sorting with the unit ids 0, 1, and so on, and label its units.

    Parameters
    ----------
    groups : list of GroupSorting
        May be empty.
    recording : BaseRecording
        The raw recording.
    embedding_size : int
        Number of columns of the embeddings where there is no spike.
    quality : QualitySettings
        Thresholds of the labels.

    Returns
    -------
    sorting : NumpySorting
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    posteriors : ndarray of float32, (num_spikes,)
    measurements : UnitMeasurements | None
        None for a sorting without units.
    """
    num_units, vectors = 0, [np.zeros(0, dtype=minimum_spike_dtype)]
    properties: dict[str, list] = {name: [] for name in UNIT_PROPERTIES}
    for group in groups:
        vector = group.spike_vector.copy()
        vector["unit_index"] += num_units
        vectors.append(vector)
        own = dict(group.properties)
        own["overlapping_unit"] = [unit if unit < 0 else unit + num_units for unit in own["overlapping_unit"]]
        for name, values in properties.items():
            values += list(own[name])
        num_units += len(own["num_spikes"])
    properties["quality"], properties["quality_reason"] = label_units(properties, settings=quality)
    spikes = np.concatenate(vectors)
    order = np.lexsort((spikes["unit_index"], spikes["sample_index"], spikes["segment_index"]))
    sorting = make_sorting(
        spikes[order], recording.get_sampling_frequency(), np.arange(num_units), recording.get_num_segments()
    )
    for name, empty in (UNIT_PROPERTIES | LABELS).items():
        values = properties[name]
        dtype = recording.channel_ids.dtype if name == "main_channel_id" else None
        sorting.set_property(name, np.array(values, dtype=dtype) if values else np.zeros(0, dtype=dtype or empty))
    sorting.register_recording(recording)
    places = np.empty(len(order), dtype="int64")  # of each spike of the groups among all
    places[order] = np.arange(len(order))
    embeddings = place_rows(
        [np.zeros((0, embedding_size), "float32"), *[group.embeddings for group in groups]],
        np.split(places, np.cumsum([len(each) for each in vectors])[:-1]),
    )
    posteriors = np.concatenate([np.zeros(0, "float32"), *[group.posteriors for group in groups]])
    measured = [group.measurements for group in groups if group.measurements is not None]
    return sorting, embeddings, posteriors[order], concatenate_measurements(measured, order)


def list_artifacts(groups: list[GroupSorting], recording: BaseRecording) -> np.ndarray:
    """Periods that were left out in at least one channel group.

    Parameters
    ----------
    groups : list of GroupSorting
        May be empty.
    recording : BaseRecording
        The raw recording.

    Returns
    -------
    ndarray, (num_periods,)
        Fields segment_index, start_s and end_s, as the recording counts times; in order of time within segments.
    """
    periods = merge_periods(np.concatenate([make_periods(), *[group.artifact_periods for group in groups]]))
    listed = np.zeros(len(periods), dtype=ARTIFACT_DTYPE)
    listed["segment_index"] = periods["segment_index"]
    for segment in np.unique(periods["segment_index"]).tolist():
        rows = periods["segment_index"] == segment
        for name, samples in (("start_s", periods["start_sample_index"]), ("end_s", periods["end_sample_index"] - 1)):
            listed[name][rows] = recording.sample_index_to_time(samples[rows], segment_index=segment)
    listed["end_s"] += 1.0 / recording.get_sampling_frequency()
    return listed
