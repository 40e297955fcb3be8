"""From a recording to its units: the one place where the model and the stages of `sorting/` meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .hub.json_files import read_json_object
from .hub.repository import HUB_KEYWORDS, commit_of
from .hub.select import resolve_auto
from .provenance import describe_run, peak_memory_mb
from .result import SortingResult
from .sorting.aggregation import GroupSorting, assemble, describe_group, empty_group, list_artifacts
from .sorting.clustering import find_units
from .sorting.curation import merge_over_split_units, reassign_spikes, remove_noise_units
from .sorting.detection import detect_spikes
from .sorting.embedding import embed_spikes
from .sorting.job_kwargs import resolve_job_kwargs
from .sorting.matching import match_spikes
from .sorting.motion import correct_motion
from .sorting.parameters import SortingParameters
from .sorting.peak_signs import join_signs, set_apart, sign_offset
from .sorting.preprocessing import ChannelGroup, PreparedGroup, preprocess, split_groups
from .sorting.run_log import RunLog
from .sorting.spike_trains import spike_times_s
from .sorting.stage_settings import StageSettings

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording, BaseSorting

    from .models.modeling_huidurep import HuiduRep

__all__ = ["SpikeSortingPipeline", "sort"]
PARAMETERS_FILE = "sorting_parameters.json"


def sort(
    recording: BaseRecording,
    model: str | Path | HuiduRep = "auto",
    job_kwargs: dict | None = None,
    **parameters: Any,
) -> BaseSorting:
    """Sort a recording in one line.

    Parameters
    ----------
    recording : BaseRecording
        Any SpikeInterface recording, raw; several segments and channel groups are sorted in one call.
    model : str, Path or HuiduRep
        "auto": the embedded checkpoint for the recording's probe. Otherwise whatever `HuiduRep.from_pretrained` opens,
        or a model.
    job_kwargs : dict | None
        SpikeInterface's n_jobs, chunk_duration, progress_bar and others. None: `set_global_job_kwargs` of
        SpikeInterface, else one process without progress bars.
    **parameters
        Fields of `SortingParameters`.

    Returns
    -------
    BaseSorting
        Units with the properties that :attr:`huidurep.SortingResult.sorting` lists, "quality" ("good" or "mua") among
        them; empty where there are no spikes.

    Raises
    ------
    TypeError
        Unknown parameter, or not a recording.
    ValueError
        A recording or a value that cannot be used; the message says what to change.
    """
    if isinstance(model, str | Path):
        pipeline = SpikeSortingPipeline.from_pretrained(model, **parameters)
    else:
        pipeline = SpikeSortingPipeline(model, SortingParameters(**parameters))
    return pipeline(recording, job_kwargs=job_kwargs).sorting


class SpikeSortingPipeline:
    """A model and the parameters of a sorting; calling it sorts a recording.

    Parameters
    ----------
    model : HuiduRep | None
        The encoder. None: the embedded checkpoint for the probe of each recording, as "auto".
    parameters : SortingParameters | dict | None
        A dict holds fields of `SortingParameters`. None: the defaults.
    model_name, model_revision : str | None
        Noted in the result: the name that was asked for, and the commit of a Hub repository.
    settings : StageSettings | None
        Tuned numbers of the stages, for benchmarks. None: the defaults.

    Raises
    ------
    TypeError
        Not a model.
    """

    def __init__(
        self,
        model: HuiduRep | None = None,
        parameters: SortingParameters | dict | None = None,
        model_name: str | None = None,
        model_revision: str | None = None,
        *,
        settings: StageSettings | None = None,
    ) -> None:
        if model is not None and not callable(getattr(model, "embed", None)):
            raise TypeError(
                f"expected a HuiduRep, the name or folder of a checkpoint, or 'auto', found {model!r}; load one with "
                "HuiduRep.from_pretrained"
            )
        # "auto" overrides the parameters that ship with a checkpoint by these
        self._given = parameters.to_dict() if isinstance(parameters, SortingParameters) else dict(parameters or {})
        self.model: Any = model
        self.parameters = SortingParameters(**self._given)
        self.model_name = model_name or getattr(getattr(model, "config", None), "_name_or_path", None) or None
        self.model_revision = model_revision
        self.settings = settings or StageSettings()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "auto",
        *,
        revision: str | None = None,
        settings: StageSettings | None = None,
        **parameters: Any,
    ) -> SpikeSortingPipeline:
        """Load a checkpoint with the sorting parameters beside it.

        Parameters
        ----------
        name : str or Path
            "auto", an embedded checkpoint, a local folder or a Hub repository.
        revision : str | None
            Of a Hub repository.
        settings : StageSettings | None
            As the class.
        **parameters
            Fields of `SortingParameters`; they override those of the checkpoint. Also ``cache_dir``, ``token``,
            ``local_files_only`` and ``force_download``, as in :meth:`HuiduRep.from_pretrained`.

        Returns
        -------
        SpikeSortingPipeline

        Raises
        ------
        OSError, ValueError
            A checkpoint that is missing, truncated or foreign.
        TypeError
            Unknown parameter.
        """
        hub_options = {key: parameters.pop(key) for key in HUB_KEYWORDS if key in parameters}
        SortingParameters(**parameters)  # a wrong name is found before anything is downloaded
        if str(name) == "auto":
            return cls(None, parameters, settings=settings)
        from .hub.resolve import resolve_checkpoint
        from .models.modeling_huidurep import HuiduRep

        folder = resolve_checkpoint(name, revision=revision, **hub_options)
        combined = _combine(folder / PARAMETERS_FILE, parameters)
        return cls(HuiduRep.from_pretrained(folder), combined, str(name), commit_of(folder), settings=settings)

    def __call__(
        self,
        recording: BaseRecording,
        *,
        job_kwargs: dict | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> SortingResult:
        """Sort a recording.

        Parameters
        ----------
        recording : BaseRecording
            Any SpikeInterface recording, raw.
        job_kwargs : dict | None
            As `sort`.
        progress : callable | None
            Called before each stage with the share of the work that is done (0 to 1, estimated) and a text such as
            "group 2 of 4, stage 5 of 9: clustering". An exception that it raises ends the sorting.

        Returns
        -------
        SortingResult

        Raises
        ------
        TypeError, ValueError
            As `sort`.
        """
        log, job_kwargs = RunLog(progress), resolve_job_kwargs(job_kwargs)
        self.parameters.check_recording(recording)
        provenance = describe_run(recording)
        log("checks", _describe(recording))
        groups = split_groups(recording, self.parameters, log, settings=self.settings.preprocessing)
        # -> one ChannelGroup a tetrode, shank or probe; none where the recording is empty
        pipeline = self if self.model is not None else self._resolve_auto(groups, log)
        # -> with the model for these groups
        config = pipeline.model.config
        pipeline.parameters.check_groups(groups, config.num_channels)
        sorted_groups = [pipeline._sort_group(group, log, job_kwargs) for group in log.iterate_groups(groups)]
        # -> one GroupSorting a group
        sorting, embeddings, posteriors, measurements = assemble(
            sorted_groups, recording, config.embedding_size, quality=self.settings.quality
        )
        # -> units of all groups, (num_spikes, embedding_size), (num_spikes,), templates and locations
        found = f"{sorting.get_num_units()} units, {len(posteriors)} spikes"
        log("result", f"{found}, {log.total_seconds:.1f} s in all, peak memory {peak_memory_mb():.0f} MiB")
        return SortingResult(
            sorting,
            embeddings,
            posteriors,
            pipeline.parameters,
            pipeline.model_name,
            pipeline.model_revision,
            log.entries,
            measurements,
            provenance,
            list_artifacts(sorted_groups, recording),
        )

    def _sort_group(self, group: ChannelGroup, log: RunLog, job_kwargs: dict) -> GroupSorting:
        """Sort one channel group."""
        prepared = self._preprocess(group, log, job_kwargs)
        if prepared is None:
            return empty_group(self.model.config.embedding_size)
        # -> traces (num_samples, num_channels) uV, filtered, without artefacts, corrected for motion
        periods = prepared.artifact_periods.copy()
        periods["segment_index"] = group.segment_indices[periods["segment_index"]]
        return replace(self._sort_prepared(prepared, log, job_kwargs), artifact_periods=periods)

    def _sort_prepared(self, prepared: PreparedGroup, log: RunLog, job_kwargs: dict) -> GroupSorting:
        """Sort a preprocessed group, stage by stage."""
        parameters, settings = self.parameters, self.settings

        def options(stage_settings: object) -> dict[str, Any]:
            return dict(settings=stage_settings, job_kwargs=job_kwargs)

        detector: dict[str, Any] = dict(
            matched_filter_settings=settings.matched_filter, peak_sign_settings=settings.peak_signs
        )
        peaks = detect_spikes(prepared, parameters, log, **detector, job_kwargs=job_kwargs)
        # -> (num_peaks,)
        embeddings = self._embed(prepared, peaks, log, job_kwargs)
        # -> (num_peaks, embedding_size)
        by_channel = prepared.recording.get_num_channels() > self.model.config.num_channels
        clustering = options(settings.clustering) | dict(by_channel=by_channel)
        offset = sign_offset(embeddings, peaks)
        signed = set_apart(embeddings, peaks, offset)  # no cluster has spikes of both signs
        units, assignment = find_units(signed, peaks, prepared, parameters, log, **clustering)
        # -> mixture model of the units; unit and posterior of every peak
        peaks, units, assignment = join_signs(
            prepared, peaks, units, assignment, parameters, log, **options(settings.peak_signs)
        )
        if units.num_units == 0:
            return empty_group(self.model.config.embedding_size)
        matching = options(settings.matching)
        spikes, labels = match_spikes(prepared, peaks, units, assignment, parameters, log, **matching)
        # -> (num_spikes,), (num_spikes,)
        curation = settings.curation
        if by_channel:
            spikes, labels = remove_noise_units(
                prepared, peaks, units, spikes, labels, parameters, log, settings=curation
            )
        units, spikes, labels = merge_over_split_units(
            prepared, units, spikes, labels, parameters, log, **options(curation)
        )
        # -> fewer units and spikes
        log.skip("curation")
        embeddings = self._embed(prepared, spikes, log, job_kwargs)
        # -> (num_spikes, embedding_size)
        times_s = spike_times_s(spikes, prepared.recording)
        signed = set_apart(embeddings, spikes, offset)
        assignment = reassign_spikes(units, signed, labels, times_s, parameters, log, settings=settings.curation)
        # -> unit and posterior of every spike
        return describe_group(
            prepared,
            spikes,
            embeddings,
            assignment,
            parameters,
            postprocessing=settings.postprocessing,
            quality=settings.quality,
            job_kwargs=job_kwargs,
        )
        # -> spike vector, embeddings, posteriors and properties of the units

    def _preprocess(self, group: ChannelGroup, log: RunLog, job_kwargs: dict) -> PreparedGroup | None:
        """Filtered and motion-corrected traces of a group; None where all channels are flat."""
        settings = self.settings
        shared: dict[str, Any] = dict(
            noise_settings=settings.noise_levels, caching=settings.caching, job_kwargs=job_kwargs
        )
        prepared = preprocess(
            group,
            self.parameters,
            log,
            settings=settings.preprocessing,
            bad_channel_settings=settings.bad_channels,
            **shared,
        )
        if prepared is None:
            return None
        motion: dict[str, Any] = dict(settings=settings.motion, peak_sign_settings=settings.peak_signs)
        return correct_motion(prepared, self.parameters, log, **motion, **shared)

    def _embed(self, group: PreparedGroup, spikes: np.ndarray, log: RunLog, job_kwargs: dict) -> np.ndarray:
        """Embeddings (num_spikes, embedding_size) float32 of spikes, batch by batch."""
        num_threads = job_kwargs["n_jobs"]
        with _torch_threads(num_threads) as start:
            embeddings = embed_spikes(
                self.model, group.recording, spikes, self.parameters, start_thread=start, job_kwargs=job_kwargs
            )
        log("embedding", f"group {group.name}: {len(spikes)} spikes")
        return embeddings

    def _resolve_auto(self, groups: list[ChannelGroup], log: RunLog) -> SpikeSortingPipeline:
        """A pipeline with the embedded checkpoint for the channels of these groups."""
        name, reason = resolve_auto([group.recording.get_channel_locations() for group in groups])
        pipeline = type(self).from_pretrained(name, settings=self.settings, **self._given)
        log("model", f"auto: checkpoint {name!r}, {reason}")
        return pipeline


@contextmanager
def _torch_threads(num_workers: int) -> Iterator[Callable[[], None] | None]:
    """One torch thread for each of several workers; what each of them has to call."""
    if num_workers == 1:
        yield None
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(before)


def _combine(path: Path, given: dict[str, Any]) -> SortingParameters:
    """Parameters in a file beside a checkpoint, overridden by given ones; ValueError where the file is damaged."""
    remedy = "correct or remove this file, copy the checkpoint again, or update huidurep"
    defaults = read_json_object(path, remedy) if path.is_file() else {}
    try:
        return SortingParameters.combine(defaults, given)
    except (TypeError, ValueError) as error:
        if not defaults:
            raise
        raise ValueError(
            f"expected fields of SortingParameters in {path}, found others ({error}): {remedy}."
        ) from error


def _describe(recording: BaseRecording) -> str:
    """One sentence on a recording."""
    num_segments = recording.get_num_segments()
    num_samples = sum(recording.get_num_samples(index) for index in range(num_segments))
    return (
        f"{recording.get_num_channels()} channels, {num_segments} segments, "
        f"{num_samples / recording.get_sampling_frequency():.1f} s at {recording.get_sampling_frequency():g} Hz"
    )
