"""SpikeInterface's SortingAnalyzer of a result, on the traces that were sorted."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path

import numpy as np
import spikeinterface
import spikeinterface.metrics  # noqa: F401 - makes its extension known to SortingAnalyzer.compute
import spikeinterface.postprocessing  # noqa: F401 - likewise
from spikeinterface.core import (
    ChannelSparsity,
    aggregate_channels,
    create_sorting_analyzer,
    get_available_analyzer_extensions,
    get_channel_distances,
    select_segment_sorting,
)

from ..sorting.job_kwargs import resolve_job_kwargs
from ..sorting.motion import correct_motion
from ..sorting.parameters import SortingParameters
from ..sorting.preprocessing import preprocess, split_groups
from ..sorting.run_log import RunLog

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
SPARSITY_UM = 100.0  # a unit's channels lie within this of its main channel, in its own group
GROUP_DISTANCE_UM = 300.0  # between groups whose contacts were given the same places
ANALYZER_FILE = "spikeinterface_info.json"
EXPECTED_WARNINGS = (
    "The recording registered to this sorting",  # a recording in memory does not go along into the folder
    ".*not serializable",
    "The following metrics will not be computed",  # those of extensions that nobody asked for
)
RESULT_FOLDER = "huidurep"  # inside the analyzer's folder: the result itself, with embeddings and posteriors


def build_analyzer(result, recording, folder=None, *, extensions=None, overwrite: bool = False):
    """Pair a result with the traces it was found in, and compute what viewers and exporters ask for.

    The recording is prepared as the pipeline prepared it, motion correction included; nothing is copied: where the
    recording can be opened from disk, the folder remembers how.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording
        The raw recording that was sorted.
    folder : str or Path, optional
        Folder to write; the result goes along into its subfolder "huidurep". Default: in memory.
    extensions : sequence of str, optional
        Names of SpikeInterface's extensions, in order. Default: `EXTENSIONS`.
    overwrite : bool
        Replace an earlier analyzer there.

    Returns
    -------
    SortingAnalyzer
        Sparse; units with all properties of the result.

    Raises
    ------
    FileExistsError
        The folder holds something.
    ImportError
        pandas is not installed.
    TypeError
        Not a recording.
    ValueError
        Another recording than the one that was sorted, a result without units, or an unknown extension.
    """
    names = _check_extensions(extensions)
    where = {"format": "memory"}
    if folder is not None:
        folder = Path(folder)
        check_new(folder, overwrite=overwrite, mark=ANALYZER_FILE)
        where = {"format": "binary_folder", "folder": folder, "overwrite": folder.exists()}
    check_pair(result, recording)
    prepared, segment_indices = prepare_recording(recording, result.parameters)
    sorting = result.sorting
    if len(segment_indices) < sorting.get_num_segments():  # those too short for a spike
        sorting = select_segment_sorting(sorting, segment_indices.tolist())
    try:
        with warnings.catch_warnings():
            for message in EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            analyzer = create_sorting_analyzer(sorting, prepared, sparsity=unit_channels(sorting, prepared), **where)
            analyzer.compute(_with_parameters(names, result.parameters), **resolve_job_kwargs(None))
        if folder is not None:
            result.save(folder / RESULT_FOLDER)
    except BaseException:
        if folder is not None:  # no half analyzer is left behind
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return analyzer


def prepare_recording(recording, parameters: SortingParameters):
    """The traces that were sorted, as one recording over all channel groups, computed when they are read.

    Parameters
    ----------
    recording : BaseRecording
        The raw recording.
    parameters : SortingParameters
        Those it was sorted with.

    Returns
    -------
    recording : BaseRecording
        float32, uV, without bad channels; property "group" is that of the result's units.
    segment_indices : ndarray of int, (num_segments,)
        Segment of the raw recording of each of its segments.

    Raises
    ------
    ValueError
        No channel is left, or no segment holds a snippet.
    """
    log = RunLog()
    groups = [preprocess(group, parameters, log, caching=None) for group in split_groups(recording, parameters, log)]
    groups = [correct_motion(group, parameters, log, caching=None) for group in groups if group is not None]
    if not groups:
        raise ValueError(
            "expected a recording with spikes, found every channel flat or every segment shorter than a snippet; "
            "give the recording that was sorted"
        )
    recordings = [group.recording for group in groups]
    joined = aggregate_channels(recordings) if len(groups) > 1 else recordings[0]
    joined = joined.select_channels(joined.channel_ids)  # a view, for its contacts and groups are set below
    joined.set_dummy_probe_from_locations(_distinct_positions(recordings))
    names = [group.name for group in groups for _ in group.recording.channel_ids]
    joined.set_property("group", np.array(names))
    return joined, groups[0].segment_indices


def unit_channels(sorting, recording) -> ChannelSparsity:
    """Channels on which a unit is looked at: those of its group near its main channel.

    Parameters
    ----------
    sorting : BaseSorting
        With main_channel_id and group.
    recording : BaseRecording
        With contacts and the property "group".

    Returns
    -------
    ChannelSparsity
    """
    main = recording.ids_to_indices(sorting.get_property("main_channel_id"))
    is_near = get_channel_distances(recording)[main] <= SPARSITY_UM
    groups = recording.get_property("group")
    return ChannelSparsity(is_near & (groups[main][:, None] == groups[None]), sorting.unit_ids, recording.channel_ids)


def check_pair(result, recording) -> None:
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
        Sampling frequency, segments, channels or duration that do not fit, or nothing to write.
    """
    sorting = result.sorting
    if not isinstance(recording, spikeinterface.BaseRecording):
        raise TypeError(
            f"expected the SpikeInterface recording that was sorted, found {type(recording).__name__}; open it with "
            "spikeinterface.load or spikeinterface.extractors"
        )
    if sorting.get_num_units() == 0:
        raise ValueError("expected a result with units, found none; there is nothing to write, see the result's log")
    same = "give the recording that was sorted, opened in the same way"
    facts = {
        "segments": (sorting.get_num_segments(), recording.get_num_segments()),
        "sampling frequency in Hz": (sorting.get_sampling_frequency(), recording.get_sampling_frequency()),
    }
    for name, (sorted_with, found) in facts.items():
        if sorted_with != found:
            raise ValueError(f"expected a recording with {name} {sorted_with!r}, found {found!r}; {same}")
    missing = sorted(set(sorting.get_property("main_channel_id").tolist()) - set(recording.channel_ids.tolist()))
    if missing:
        found = recording.channel_ids.tolist()[:8]
        raise ValueError(f"expected a recording with channels {missing}, found others such as {found}; {same}")
    spikes = sorting.to_spike_vector()
    for segment_index in range(sorting.get_num_segments()):
        samples = spikes["sample_index"][spikes["segment_index"] == segment_index]
        num_samples = recording.get_num_samples(segment_index)
        if len(samples) and samples.max() >= num_samples:
            raise ValueError(
                f"expected a recording of more than {samples.max()} samples in segment {segment_index}, found "
                f"{num_samples}; {same}"
            )


def check_new(path: Path, *, overwrite: bool, mark: str | None = None) -> None:
    """Refuse to write over something.

    Parameters
    ----------
    path : Path
        Folder or file to write.
    overwrite : bool
        Accept a file, or a folder that holds the file `mark`.
    mark : str, optional
        File by which an earlier folder of the same kind is known.

    Raises
    ------
    FileExistsError
        Something else is there.
    """
    if not path.exists() or (path.is_dir() and mark is not None and not any(path.iterdir())):
        return
    is_earlier = path.is_file() if mark is None else (path / mark).is_file()
    if not (overwrite and is_earlier):
        remedy = "or overwrite it" if is_earlier else "or remove it yourself"
        raise FileExistsError(f"expected nothing yet at {path}, found a {_kind(path)}; name another place, {remedy}")


def _check_extensions(extensions) -> tuple:
    """The names to compute, if they can be computed."""
    names, known = EXTENSIONS if extensions is None else tuple(extensions), get_available_analyzer_extensions()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"expected extensions among {', '.join(known)}, found {', '.join(unknown)}; correct the name")
    if "quality_metrics" in names and importlib.util.find_spec("pandas") is None:
        raise ImportError("expected pandas, which SpikeInterface's quality metrics need; pip install huidurep[phy]")
    return names


def _kind(path: Path) -> str:
    return "folder that is not empty" if path.is_dir() else "file"


def _with_parameters(names: tuple, parameters: SortingParameters) -> dict:
    """Extensions and their options: the pipeline's window and seed where they have one."""
    seed = parameters.seed
    window = {"ms_before": parameters.ms_before, "ms_after": parameters.ms_after}
    options = {
        "random_spikes": {"seed": seed},
        "waveforms": window,
        "templates": {**window, "operators": ["average", "std"]},
        "noise_levels": {"random_slices_kwargs": {"seed": seed}},
        "quality_metrics": {"seed": seed},
    }
    return {name: options.get(name, {}) for name in names}


def _distinct_positions(recordings: list) -> np.ndarray:
    """Contacts (num_channels, 2) um of several groups, side by side where some would lie in one place."""
    positions = [recording.get_channel_locations() for recording in recordings]
    joined = np.concatenate(positions)
    if len(np.unique(joined, axis=0)) == len(joined):
        return joined
    pitch_um = np.ptp(joined[:, 0]) + GROUP_DISTANCE_UM
    return np.concatenate([each + [index * pitch_um, 0.0] for index, each in enumerate(positions)])
