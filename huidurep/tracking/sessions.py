"""Units of one session, from a result, a SortingAnalyzer, or a phy folder with its recording."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting, NumpySorting, SortingAnalyzer, create_sorting_analyzer
from spikeinterface.preprocessing import bandpass_filter

from ..provenance import describe_recording
from ..result import SortingResult
from ..sorting.geometry import um_per_unit
from ..sorting.phy_folder import (
    is_phy_folder,
    plain_label,
    read_phy_columns,
    read_phy_spikes,
    unit_ids_of_clusters,
)
from ..sorting.scaling import complete_gains
from ..sorting.stored_arrays import check_parts
from .settings import TRACKING_SETTINGS, TrackingSettings

if TYPE_CHECKING:
    from spikeinterface.core.sortinganalyzer import ComputeTemplates

logger = logging.getLogger(__name__)
IDENTITY = ("sha256", "num_samples", "num_channels")
ISI_EDGES_S = np.geomspace(1e-3, 30.0, 31)
BEFORE_MS, AFTER_MS = 1.0, 2.0  # of templates that are computed here
BAND_HZ = (300.0, 6000.0)
SEED = 0


@dataclass(frozen=True, eq=False)
class SessionUnits:
    """Templates of one session.

    Attributes
    ----------
    sorting : BaseSorting
    templates_uv : ndarray of float32 (num_units, num_samples, num_channels)
        0 on channels where a template is not known.
    unit_groups : ndarray of str (num_units,)
    channel_groups : ndarray of str (num_channels,)
    positions_um : ndarray (num_channels, 2)
    peak_index : int
        Sample of the spike time.
    identity : tuple | None
        By which a session that is given twice is recognised; None where nothing is known.
    """

    sorting: BaseSorting
    templates_uv: np.ndarray
    unit_groups: np.ndarray
    channel_groups: np.ndarray
    positions_um: np.ndarray
    peak_index: int
    identity: tuple | None = None


def read_session(
    source: Any, *, job_kwargs: dict | None = None, settings: TrackingSettings = TRACKING_SETTINGS
) -> SessionUnits:
    """Read the units of a session.

    Parameters
    ----------
    source : SortingResult, SortingAnalyzer, path, or (path, BaseRecording)
        A path is the folder of a result; with a recording, a phy folder.
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on, for phy folders.
    settings : TrackingSettings

    Returns
    -------
    SessionUnits
        Without units that have no spikes, and without those whose property "quality" is "noise": a curator gave it.

    Raises
    ------
    FileNotFoundError, ValueError
        No such folder, or one that cannot be used.
    TypeError
        Anything else.
    """
    if isinstance(source, str | Path):
        _check_result_folder(Path(source))
        source = SortingResult.load(source)
    if isinstance(source, SortingResult):
        return _neurons_of(_from_result(source))
    if isinstance(source, SortingAnalyzer):
        return _neurons_of(_from_analyzer(source))
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], BaseRecording):
        units = _from_analyzer(_analyze_phy(Path(source[0]), source[1], job_kwargs or {}, settings))
        return replace(units, identity=recording_identity(describe_recording(source[1])))
    raise TypeError(
        "expected a SortingResult, its folder, a SortingAnalyzer, or a phy folder with its recording, found "
        f"{type(source).__name__}; sort the session with SpikeSortingPipeline, or give (folder, recording)"
    )


def find_tracked(sorting: BaseSorting) -> np.ndarray:
    """Which units may be neurons: they have spikes, and no curator called them noise.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    ndarray of bool (num_units,)
    """
    has_spikes = np.bincount(sorting.to_spike_vector()["unit_index"], minlength=sorting.get_num_units()) > 0
    labels = sorting.get_property("quality")
    if labels is None:
        return has_spikes
    return has_spikes & np.array([plain_label(label) != "noise" for label in labels], dtype=bool)


def recording_identity(facts: dict) -> tuple | None:
    """By which a recording is recognised.

    Parameters
    ----------
    facts : dict
        From `huidurep.provenance.describe_recording`.

    Returns
    -------
    tuple of str | None
        None for results of early versions.
    """
    return tuple(str(facts[name]) for name in IDENTITY) if set(IDENTITY) <= set(facts) else None


def isi_histograms(sorting: BaseSorting) -> np.ndarray:
    """Number of inter-spike intervals of each unit in logarithmic bins from 1 ms to 30 s.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    ndarray (num_units, num_bins)
    """
    histograms = np.zeros((sorting.get_num_units(), len(ISI_EDGES_S) - 1))
    for segment in range(sorting.get_num_segments()):
        for index, unit in enumerate(sorting.unit_ids):
            samples = sorting.get_unit_spike_train(unit, segment_index=segment)
            intervals_s = np.diff(samples) / sorting.get_sampling_frequency()
            histograms[index] += np.histogram(np.clip(intervals_s, *ISI_EDGES_S[[0, -1]]), ISI_EDGES_S)[0]
    return histograms


def _check_result_folder(folder: Path) -> None:
    """Say of folders that are tracked otherwise how this is done."""
    if is_phy_folder(folder):
        raise ValueError(
            f"expected the recording of a phy folder beside it, found {folder} alone; give (folder, recording), on the "
            "command line --recording once for each folder"
        )
    if (folder / "spikeinterface_info.json").is_file():
        raise ValueError(
            f"expected the folder of a result, found a SortingAnalyzer in {folder}; give "
            "spikeinterface.load_sorting_analyzer(folder), or the result in its subfolder huidurep if there is one"
        )


def _neurons_of(session: SessionUnits) -> SessionUnits:
    kept = np.flatnonzero(find_tracked(session.sorting))
    return replace(
        session,
        sorting=session.sorting.select_units(session.sorting.unit_ids[kept]),
        templates_uv=session.templates_uv[kept],
        unit_groups=session.unit_groups[kept],
    )


def _from_result(result: SortingResult) -> SessionUnits:
    check_parts(result)
    measured, num_units = result.measurements, result.sorting.get_num_units()
    if num_units and measured is None:
        raise ValueError(
            "expected a result with templates, found one of an early version without them; sort the session again"
        )
    identity = recording_identity(result.provenance.get("recording", {}))
    if measured is None:
        empty = np.zeros(0)
        return SessionUnits(result.sorting, np.zeros((0, 1, 0)), empty, empty, np.zeros((0, 2)), 0, identity)
    num_samples, num_channels = measured.templates_uv.shape[1], len(measured.channel_ids)
    templates = np.zeros((num_units, num_samples, num_channels), dtype="float32")
    for unit, channels in enumerate(measured.template_channels):
        known = channels >= 0
        templates[unit][:, channels[known]] = measured.templates_uv[unit][:, known]
    return SessionUnits(
        result.sorting,
        templates,
        result.sorting.get_property("group").astype(str),
        measured.channel_groups.astype(str),
        measured.channel_positions_um,
        int(measured.peak_index),
        identity,
    )


def _from_analyzer(analyzer: SortingAnalyzer) -> SessionUnits:
    templates: ComputeTemplates | None = analyzer.get_extension("templates")
    if templates is None:
        raise ValueError(
            "expected a SortingAnalyzer with templates, found none; call analyzer.compute(['random_spikes', "
            "'templates'])"
        )
    if analyzer.has_recording() and not analyzer.recording.is_filtered():
        logger.warning("the recording of an analyzer is not band-passed: filter it to 300-6000 Hz if it is raw")
    dense = np.asarray(templates.get_templates(operator="average"), dtype="float32")
    if not analyzer.return_in_uV:  # the recording of an analyzer from disk may have other gains
        dense = dense * np.asarray(analyzer.rec_attributes["properties"].get("gain_to_uV", 1.0), dtype="float32")
    groups = analyzer.get_recording_property("group")
    channel_groups = np.full(dense.shape[2], "0") if groups is None else groups.astype(str)
    main = np.ptp(dense, axis=1).argmax(axis=1) if len(dense) else np.zeros(0, dtype=int)
    identity = None
    if analyzer.has_recording():
        identity = recording_identity(describe_recording(analyzer.recording))
    contacts = analyzer.get_probegroup().to_numpy(complete=True)
    units = contacts["si_units"][np.argsort(contacts["device_channel_indices"])]  # as get_channel_locations
    positions_um = np.asarray(analyzer.get_channel_locations(), dtype="float64")[:, :2] * um_per_unit(units)[:, None]
    unit_groups = channel_groups[main]
    return SessionUnits(
        analyzer.sorting, dense, unit_groups, channel_groups, positions_um, int(templates.nbefore), identity
    )


def _analyze_phy(
    folder: Path, recording: BaseRecording, job_kwargs: dict, settings: TrackingSettings
) -> SortingAnalyzer:
    """Templates of a phy folder's units, from its recording band-passed as phy's own traces are not always there."""
    sorting, recording = _read_phy(folder, recording), complete_gains(recording)
    filtered = recording if recording.is_filtered() else bandpass_filter(recording, *BAND_HZ)
    analyzer = create_sorting_analyzer(
        sorting, filtered, format="memory", sparse=False, return_in_uV=recording.has_scaleable_traces()
    )
    options = {"random_spikes": {"seed": SEED}, "templates": {"ms_before": BEFORE_MS, "ms_after": AFTER_MS}}
    options["noise_levels"] = {"method": "std", "random_slices_kwargs": {"seed": SEED}}
    analyzer.compute(options, **{"n_jobs": 1, "progress_bar": False, **job_kwargs})
    errors = _standard_errors(analyzer)
    if len(errors) and np.median(errors) < settings.min_standard_errors:
        raise ValueError(
            f"expected spikes in the recording at the times of {folder}, found mean waveforms as at random times; give "
            "the recording of this folder, and several of them in the order of the folders"
        )
    return analyzer


def _standard_errors(analyzer: SortingAnalyzer) -> np.ndarray:
    """Largest value of each unit's mean waveform (num_units,), in standard errors of means at random times."""
    templates: Any = analyzer.get_extension("templates")
    largest_uv = np.abs(templates.get_templates(operator="average")).max(axis=1)
    chosen = analyzer.get_extension("random_spikes").get_random_spikes()
    numbers = np.bincount(chosen["unit_index"], minlength=len(largest_uv))
    return (largest_uv / analyzer.get_extension("noise_levels").get_data()).max(axis=1) * np.sqrt(numbers)


def _read_phy(folder: Path, recording: BaseRecording) -> BaseSorting:
    """Units of a phy folder without those that were curated as noise.

    From its arrays alone: SpikeInterface's reader runs params.py, which may be anybody's.
    """
    samples, clusters = read_phy_spikes(folder)
    if recording.get_num_segments() != 1:
        raise ValueError(
            f"expected a recording of one segment, as phy has it, found {recording.get_num_segments()}; give "
            "spikeinterface.concatenate_recordings([recording])"
        )
    if samples.min(initial=0) < 0 or samples.max(initial=-1) >= recording.get_num_samples(0):
        raise ValueError(
            f"expected spikes within the {recording.get_num_samples(0)} samples of the recording, found others in "
            f"{folder}; give the recording of this folder"
        )
    columns = dict(read_phy_columns(folder))
    noise = [cluster for cluster, label in columns.get("group", {}).items() if plain_label(label) == "noise"]
    kept = ~np.isin(clusters, noise)
    order = np.argsort(samples[kept], kind="stable")
    sorting = NumpySorting.from_samples_and_labels(
        [samples[kept][order]], [clusters[kept][order]], recording.get_sampling_frequency()
    )
    every = np.unique(clusters)
    unit_ids = unit_ids_of_clusters(every, columns.get("si_unit_id", {}))
    return sorting.rename_units(unit_ids[np.isin(every, sorting.unit_ids)])
