"""SpikeInterface's SortingAnalyzer of a result, with the traces that were sorted."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import spikeinterface.metrics  # noqa: F401 - makes its extension known to SortingAnalyzer.compute
import spikeinterface.postprocessing  # noqa: F401 - likewise
from spikeinterface.core import (
    BaseRecording,
    BaseSorting,
    ChannelSparsity,
    SortingAnalyzer,
    aggregate_channels,
    create_sorting_analyzer,
    get_available_analyzer_extensions,
    get_channel_distances,
    load_sorting_analyzer,
    select_segment_sorting,
)

from ..output_files import check_free_space, check_output_folder, new_folder
from ..provenance import check_same_recording
from ..sorting.job_kwargs import resolve_job_kwargs
from ..sorting.motion import correct_motion
from ..sorting.parameters import SortingParameters
from ..sorting.preprocessing import preprocess, split_groups
from ..sorting.recorded_times import choose_times, has_times
from ..sorting.run_log import RunLog

if TYPE_CHECKING:
    from ..result import SortingResult

EXTENSIONS = (
    "random_spikes",
    "waveforms",
    "templates",
    "noise_levels",
    "spike_amplitudes",
    "unit_locations",
    "correlograms",
    "template_similarity",
    "quality_metrics",
)
SPARSITY_UM = 100.0  # largest distance of a unit's channels from its main channel
GROUP_DISTANCE_UM = 300.0  # between groups whose contacts have the same positions, as separately described tetrodes do
ANALYZER_FILE = "spikeinterface_info.json"
TIMES_WARNING = "The recording registered to this sorting"
EXPECTED_WARNINGS = (
    TIMES_WARNING,  # the recording is saved beside it
    ".*not serializable",
    "The following metrics will not be computed",  # metrics of extensions that were not requested
)
# Sizes of SpikeInterface's extensions: random spikes of a unit, channels within `SPARSITY_UM`, bins.
SAMPLED_SPIKES, NEAR_CHANNELS, CORRELOGRAM_BINS = 500, 40, 100
BYTES_A_SPIKE = 100  # time, unit, amplitude and position, in the analyzer and in the result
RESULT_FOLDER = "huidurep"  # subfolder of the analyzer with the result itself


def build_analyzer(
    result: SortingResult,
    recording: BaseRecording,
    folder: str | Path | None = None,
    *,
    extensions: Sequence[str] | None = None,
    overwrite: bool = False,
    job_kwargs: dict | None = None,
) -> SortingAnalyzer:
    """Combine a result with its traces, preprocessed as in the pipeline; compute what viewers and exporters need.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording, raw
    folder : str or Path, optional
        Folder to write, with the result in its subfolder "huidurep"; None: in memory.
    extensions : sequence of str, optional
        Names of SpikeInterface's extensions. Default: `EXTENSIONS`.
    overwrite : bool
        Replace an earlier analyzer; refused if files in it were added or changed.
    job_kwargs : dict, optional

    Returns
    -------
    SortingAnalyzer
        Sparse; units with all properties of the result, without segments after the last spike or below a snippet.

    Raises
    ------
    FileExistsError, ImportError, OSError
        The folder is not empty; pandas is not installed; the disk is too small.
    TypeError, ValueError
        Another recording, a result without units, or an unknown extension.
    """
    names, output = _check_extensions(extensions), {"overwrite": overwrite, "mark": ANALYZER_FILE, "others": "refuse"}
    check_exportable(result, recording)
    if folder is not None:
        check_output_folder(folder, **output)
        check_free_space(folder, export_bytes(result, recording, names))
    prepared, indices = prepare_recording(recording, result.parameters, job_kwargs=job_kwargs)
    sorting, prepared, times = _common_segments(result.sorting, prepared, recording, indices)
    # traces are in uV already; opened from disk, the recording has the gains of the raw samples again
    options = {"sparsity": unit_channels(sorting, prepared), "return_in_uV": False}

    def compute(**where: Any) -> SortingAnalyzer:
        analyzer = create_sorting_analyzer(sorting, prepared, **options, **where)
        analyzer.compute(_extension_parameters(names, result.parameters), **resolve_job_kwargs(job_kwargs))
        return analyzer

    with _no_expected_warnings(are_times_lost=times is not None and folder is not None):
        if folder is None:
            return _register_times(compute(format="memory"), times)
        with new_folder(folder, **output) as partial:
            compute(format="binary_folder", folder=partial, overwrite=True)
            result.save(partial / RESULT_FOLDER)
        analyzer = load_sorting_analyzer(folder)  # the one above has the temporary path
    if not analyzer.has_recording():  # a recording in memory
        analyzer.set_temporary_recording(prepared)
    return _register_times(analyzer, times)


def _common_segments(
    sorting: BaseSorting, prepared: BaseRecording, recording: BaseRecording, segment_indices: np.ndarray
) -> tuple[BaseSorting, BaseRecording, BaseRecording | None]:
    """Units and traces of the segments that the analyzer has, and their times where there are any.

    Segments shorter than a snippet were not sorted. SpikeInterface's NumpySorting, which every analyzer holds, ends at
    the segment of the last spike.
    """
    spikes = sorting.to_spike_vector()
    is_kept = segment_indices <= spikes["segment_index"].max(initial=0)
    kept = segment_indices[is_kept].tolist()
    times = choose_times(sorting, recording)
    if len(kept) < sorting.get_num_segments():
        sorting, times = select_segment_sorting(sorting, kept), times.select_segments(kept)
    if not is_kept.all():
        prepared = prepared.select_segments(np.flatnonzero(is_kept).tolist())
    return sorting, prepared, times if has_times(times) else None


def _register_times(analyzer: SortingAnalyzer, times: BaseRecording | None) -> SortingAnalyzer:
    """The analyzer; its units are in the times of a recording where it has some."""
    if times is not None:
        analyzer.sorting.register_recording(times)
    return analyzer


def export_bytes(
    result: SortingResult, recording: BaseRecording, extensions: Sequence[str], *, has_traces: bool = False
) -> float:
    """Estimated size of an export, rather too large than too small.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording
        The raw recording that was sorted.
    extensions : sequence of str
        Names of SpikeInterface's extensions that are written.
    has_traces : bool
        The preprocessed traces are written too.

    Returns
    -------
    float
        Bytes.
    """
    num_spikes, num_units = len(result.posteriors), result.sorting.get_num_units()
    num_channels = recording.get_num_channels()
    num_samples = result.parameters.num_samples(recording.get_sampling_frequency())
    total = 4.0 * result.embeddings.size + BYTES_A_SPIKE * num_spikes
    if "waveforms" in extensions:
        sampled = min(num_spikes, SAMPLED_SPIKES * num_units)
        total += 4.0 * sampled * num_samples * min(num_channels, NEAR_CHANNELS)
    if "templates" in extensions:  # mean and standard deviation
        total += 8.0 * num_units * num_samples * num_channels
    if "correlograms" in extensions:
        total += 8.0 * CORRELOGRAM_BINS * num_units**2
    return total + 4.0 * recording.get_total_samples() * num_channels * has_traces


@contextmanager
def _no_expected_warnings(*, are_times_lost: bool) -> Iterator[None]:
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        if are_times_lost:  # SpikeInterface does not save them with the analyzer, and says so
            warnings.filterwarnings("default", message=TIMES_WARNING)
        yield


def prepare_recording(
    recording: BaseRecording, parameters: SortingParameters, *, job_kwargs: dict | None = None
) -> tuple[BaseRecording, np.ndarray]:
    """Preprocess a recording as the pipeline did, lazily, with all channel groups in one recording.

    Parameters
    ----------
    recording : BaseRecording
        The raw recording.
    parameters : SortingParameters
        Parameters of the sorting.
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

    Returns
    -------
    recording : BaseRecording
        float32, uV, without bad channels; channels have the property "group" as the units have it.
    segment_indices : ndarray of int, (num_segments,)
        Index in the raw recording of each of its segments.

    Raises
    ------
    ValueError
        No channel is left, or no segment holds a snippet.
    """
    log = RunLog()
    options: dict = {"caching": None, "job_kwargs": job_kwargs}  # no traces are kept in memory or on disk
    prepared = [preprocess(group, parameters, log, **options) for group in split_groups(recording, parameters, log)]
    groups = [correct_motion(group, parameters, log, **options) for group in prepared if group is not None]
    if not groups:
        raise ValueError(
            "expected a recording with spikes, found every channel flat or every segment shorter than a snippet; "
            "give the recording that was sorted"
        )
    recordings = [group.recording for group in groups]
    combined = aggregate_channels(recordings) if len(groups) > 1 else recordings[0]
    combined = combined.select_channels(combined.channel_ids)  # a view, since positions and groups are changed below
    combined.set_dummy_probe_from_locations(_distinct_positions(recordings))
    names = [group.name for group in groups for _ in group.recording.channel_ids]
    combined.set_property("group", np.array(names))
    return combined, groups[0].segment_indices


def unit_channels(sorting: BaseSorting, recording: BaseRecording) -> ChannelSparsity:
    """Channels of every unit: those of its group within 100 um of its main channel.

    Parameters
    ----------
    sorting : BaseSorting
        Units with main_channel_id and group.
    recording : BaseRecording
        Channels with positions and the property "group".

    Returns
    -------
    ChannelSparsity
    """
    main = recording.ids_to_indices(sorting.get_property("main_channel_id"))
    is_near = get_channel_distances(recording)[main] <= SPARSITY_UM
    groups = recording.get_property("group")
    return ChannelSparsity(is_near & (groups[main][:, None] == groups[None]), sorting.unit_ids, recording.channel_ids)


def check_exportable(result: SortingResult, recording: BaseRecording) -> None:
    """Refuse a recording that is not the one that was sorted, and a result without units.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording

    Raises
    ------
    TypeError
        Not a recording.
    ValueError
        Another recording, or no units.
    """
    check_same_recording(result, recording)
    if result.sorting.get_num_units() == 0:
        raise ValueError("expected a result with units, found none; there is nothing to export, see the result's log")


def _check_extensions(extensions: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the extensions to compute, after a check that they can be computed."""
    names, known = EXTENSIONS if extensions is None else tuple(extensions), get_available_analyzer_extensions()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"expected extensions among {', '.join(known)}, found {', '.join(unknown)}; correct the name")
    if "quality_metrics" in names and importlib.util.find_spec("pandas") is None:
        raise ImportError("expected pandas, which SpikeInterface's quality metrics need; pip install huidurep[phy]")
    return names


def _extension_parameters(names: tuple[str, ...], parameters: SortingParameters) -> dict[str, dict]:
    """Parameters of each extension: snippet window and seed of the pipeline where it has such parameters."""
    seed = parameters.seed
    window = {"ms_before": parameters.ms_before, "ms_after": parameters.ms_after}
    options: dict[str, dict] = {
        "random_spikes": {"seed": seed},
        "waveforms": window,
        "templates": {**window, "operators": ["average", "std"]},
        "noise_levels": {"random_slices_kwargs": {"seed": seed}},
        "quality_metrics": {"seed": seed},
    }
    return {name: options.get(name, {}) for name in names}


def _distinct_positions(recordings: list) -> np.ndarray:
    """Positions (num_channels, 2) um of all groups, side by side where some of them would coincide."""
    positions = [recording.get_channel_locations() for recording in recordings]
    combined = np.concatenate(positions)
    if len(np.unique(combined, axis=0)) == len(combined):
        return combined
    pitch_um = np.ptp(combined[:, 0]) + GROUP_DISTANCE_UM
    return np.concatenate([each + [index * pitch_um, 0.0] for index, each in enumerate(positions)])
