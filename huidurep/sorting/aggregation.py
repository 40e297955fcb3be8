"""Properties of the units of one channel group, and one sorting of all groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from spikeinterface.core import BaseRecording, NumpySorting
from spikeinterface.core.base import minimum_spike_dtype

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
from .quality_metrics import QUALITY_SETTINGS, QualitySettings, compute_quality_metrics
from .waveforms import mean_waveforms, to_spike_vector

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
    "mean_posterior": "float64",
    "presence_ratio": "float64",
    "quality": "<U4",
}


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
        One value a unit for each name in `UNIT_PROPERTIES`.
    measurements : UnitMeasurements | None
        None for a group without units.
    """

    spike_vector: np.ndarray
    embeddings: np.ndarray
    posteriors: np.ndarray
    properties: dict
    measurements: UnitMeasurements | None = None


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
    spikes, embeddings, posteriors = spikes[is_kept], embeddings[is_kept], assignment.posteriors[is_kept]
    unit_labels, unit_index = np.unique(assignment.labels[is_kept], return_inverse=True)
    spike_vector = to_spike_vector(spikes, unit_index)
    sampling_frequency = group.recording.get_sampling_frequency()
    templates_uv = mean_waveforms(group.recording, spike_vector, len(unit_labels), parameters, job_kwargs=job_kwargs)
    signs = unit_signs(spikes, unit_index, len(unit_labels))
    measuring = dict(signs=signs, settings=postprocessing)
    channels, _, peaks_uv = main_channels(templates_uv, sampling_frequency, parameters, **measuring)
    properties = {
        "main_channel_id": list(group.recording.channel_ids[channels]),
        "group": [group.name] * len(unit_labels),
        "snr": list(np.abs(peaks_uv) / group.noise_levels_uv[channels]),
        "peak_uv": list(peaks_uv),
        "peak_sign": np.where(peaks_uv > 0, "pos", "neg").tolist(),
        "num_spikes": [int((unit_index == unit).sum()) for unit in range(len(unit_labels))],
    }
    properties |= compute_quality_metrics(group.recording, spike_vector, posteriors, len(unit_labels), settings=quality)
    measurements = measure_units(group, spike_vector, templates_uv, parameters, job_kwargs=job_kwargs, **measuring)
    # the stages before counted only segments that are long enough for a snippet
    spike_vector["segment_index"] = group.segment_indices[spike_vector["segment_index"]]
    return GroupSorting(spike_vector, embeddings, posteriors, properties, measurements)


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
    groups: list[GroupSorting], recording: BaseRecording, embedding_size: int
) -> tuple[NumpySorting, np.ndarray, np.ndarray, UnitMeasurements | None]:
    """Combine the channel groups into one sorting with the unit ids 0, 1, and so on.

    Parameters
    ----------
    groups : list of GroupSorting
        May be empty.
    recording : BaseRecording
        The raw recording.
    embedding_size : int
        Number of columns of the embeddings where there is no spike.

    Returns
    -------
    sorting : NumpySorting
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    posteriors : ndarray of float32, (num_spikes,)
    measurements : UnitMeasurements | None
        None for a sorting without units.
    """
    num_units, vectors = 0, [np.zeros(0, dtype=minimum_spike_dtype)]
    for group in groups:
        vector = group.spike_vector.copy()
        vector["unit_index"] += num_units
        num_units += len(group.properties["num_spikes"])
        vectors.append(vector)
    spikes = np.concatenate(vectors)
    order = np.lexsort((spikes["unit_index"], spikes["sample_index"], spikes["segment_index"]))
    sorting = make_sorting(
        spikes[order], recording.get_sampling_frequency(), np.arange(num_units), recording.get_num_segments()
    )
    for name, empty in UNIT_PROPERTIES.items():
        values = [value for group in groups for value in group.properties[name]]
        dtype = recording.channel_ids.dtype if name == "main_channel_id" else None
        sorting.set_property(name, np.array(values, dtype=dtype) if values else np.zeros(0, dtype=dtype or empty))
    sorting.register_recording(recording)
    embeddings = np.concatenate([np.zeros((0, embedding_size), "float32"), *[group.embeddings for group in groups]])
    posteriors = np.concatenate([np.zeros(0, "float32"), *[group.posteriors for group in groups]])
    measured = [group.measurements for group in groups if group.measurements is not None]
    return sorting, embeddings[order], posteriors[order], concatenate_measurements(measured, order)
