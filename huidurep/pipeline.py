"""From a recording to its units: the one place where the model and the stages of `sorting/` meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .hub.embedded import list_checkpoints
from .hub.json_files import read_json_object
from .hub.repository import HUB_KEYWORDS, commit_of
from .hub.select import resolve_auto
from .provenance import describe_run, peak_memory_mb
from .result import SortingResult
from .sorting.aggregation import GroupSorting, assemble, describe_group, empty_group, list_artifacts
from .sorting.clustering import Assignment, UnitModel, find_units
from .sorting.curation import merge_over_split_units, reassign_spikes, remove_noise_units
from .sorting.detection import detect_spikes
from .sorting.embedding import embed_spikes
from .sorting.job_kwargs import resolve_job_kwargs
from .sorting.matching import match_spikes
from .sorting.motion import correct_motion
from .sorting.parameters import SortingParameters
from .sorting.peak_signs import join_signs, set_apart, sign_offset
from .sorting.preprocessing import ChannelGroup, PreparedGroup, preprocess, split_groups
from .sorting.recorded_times import doubtful_times
from .sorting.run_log import RunLog
from .sorting.saved_stages import SavedStages, digest_of
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
    device: str = "auto",
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
    device : str
        Where the network computes: "auto", "cpu", "cuda", "mps" or another device of torch. "auto": CUDA or MPS where
        the machine has it, else the CPU; a model that is given stays where it is.
    **parameters
        Fields of `SortingParameters`. For a model of the Hub also ``revision`` and the other options of
        :meth:`SpikeSortingPipeline.from_pretrained`.

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
    OSError
        No such checkpoint, or the disk is full.
    """
    if isinstance(model, str | Path):
        pipeline = SpikeSortingPipeline.from_pretrained(model, device=device, **parameters)
    else:
        pipeline = SpikeSortingPipeline(model, SortingParameters(**parameters), device=device)
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
    device : str
        As `sort`. A model that has to be moved is copied.

    Raises
    ------
    TypeError
        Not a model.
    ValueError
        A device that this machine does not have.
    """

    def __init__(
        self,
        model: HuiduRep | None = None,
        parameters: SortingParameters | dict | None = None,
        model_name: str | None = None,
        model_revision: str | None = None,
        *,
        settings: StageSettings | None = None,
        device: str = "auto",
    ) -> None:
        if model is not None and not callable(getattr(model, "embed", None)):
            raise TypeError(
                f"expected a HuiduRep, the name or folder of a checkpoint, or 'auto', found {model!r}; load one with "
                "HuiduRep.from_pretrained"
            )
        # "auto" overrides the parameters that ship with a checkpoint by these
        self._given = parameters.to_dict() if isinstance(parameters, SortingParameters) else dict(parameters or {})
        self.device = device
        self.model: Any = model if device == "auto" else _place(model, device)
        self.parameters = SortingParameters(**self._given)
        self.model_name = model_name or _name_of(model)
        self.model_revision = model_revision
        self.settings = settings or StageSettings()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "auto",
        *,
        revision: str | None = None,
        settings: StageSettings | None = None,
        device: str = "auto",
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
        device : str
            As `sort`.
        **parameters
            Fields of `SortingParameters`; they override those of the checkpoint. Also ``cache_dir``, ``token``,
            ``local_files_only`` and ``force_download``, as in :meth:`HuiduRep.from_pretrained`.

        Returns
        -------
        SpikeSortingPipeline

        Raises
        ------
        OSError, ValueError
            A checkpoint that is missing, truncated or foreign, or a device that this machine does not have.
        TypeError
            Unknown parameter.
        """
        hub_options = {key: parameters.pop(key) for key in HUB_KEYWORDS if key in parameters}
        SortingParameters(**parameters)  # a wrong name is found before anything is downloaded
        if str(name) == "auto":
            return cls(None, parameters, settings=settings, device=device)
        from .hub.resolve import resolve_checkpoint
        from .models.modeling_huidurep import HuiduRep

        folder = resolve_checkpoint(name, revision=revision, **hub_options)
        combined = _combine(folder / PARAMETERS_FILE, parameters)
        model = _place(HuiduRep.from_pretrained(folder), device)
        return cls(model, combined, str(name), commit_of(folder), settings=settings)

    def __call__(
        self,
        recording: BaseRecording,
        *,
        job_kwargs: dict | None = None,
        progress: Callable[[float, str], None] | None = None,
        stages_folder: str | Path | None = None,
        resume: bool = False,
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
        stages_folder : str, Path or None
            Receives what finished stages found, and stays: remove it when the result is saved. None: nothing is kept.
        resume : bool
            Go on from the stages that an interrupted call left in `stages_folder`, to the same result.

        Returns
        -------
        SortingResult

        Raises
        ------
        TypeError, ValueError
            As `sort`. ValueError also where the folder holds stages of another sorting, or other files.
        """
        log, job_kwargs = RunLog(progress), resolve_job_kwargs(job_kwargs)
        self.parameters.check_recording(recording)
        provenance = describe_run(recording)
        log("checks", _describe(recording))
        for doubt in doubtful_times(recording):
            log.warning("checks", doubt)
        groups = split_groups(recording, self.parameters, log, settings=self.settings.preprocessing)
        # -> one ChannelGroup per tetrode, shank or probe; none where the recording is empty
        pipeline = self if self.model is not None else self._resolve_auto(groups, log)
        # -> with the model for these groups
        pipeline.parameters.check_groups(groups, pipeline.model.config.num_channels)
        stages = pipeline._open_stages(stages_folder, provenance, groups, log, resume)
        jobs = (log, job_kwargs, stages)
        sorted_groups = [
            stages.run("units", pipeline._sort_group, group, *jobs) for group in log.iterate_groups(groups)
        ]
        # -> one GroupSorting per group
        with_workers = job_kwargs["n_jobs"] != 1
        return pipeline._assemble(sorted_groups, recording, provenance, log, with_workers)

    def _assemble(
        self, groups: list[GroupSorting], recording: BaseRecording, provenance: dict, log: RunLog, with_workers: bool
    ) -> SortingResult:
        """The result of all groups."""
        sorting, embeddings, posteriors, measurements = assemble(
            groups, recording, self.model.config.embedding_size, quality=self.settings.quality
        )
        # -> units of all groups, (num_spikes, embedding_size), (num_spikes,), templates and locations
        found = f"{sorting.get_num_units()} units, {len(posteriors)} spikes"
        memory_mb = peak_memory_mb(workers=with_workers)  # the same figure as that of `huidurep sort`
        log("result", f"{found}, {log.total_seconds:.1f} s in all, peak memory {memory_mb:.0f} MiB")
        return SortingResult(
            sorting,
            embeddings,
            posteriors,
            self.parameters,
            self.model_name,
            self.model_revision,
            log.entries,
            measurements,
            provenance,
            list_artifacts(groups, recording),
        )

    def _sort_group(self, group: ChannelGroup, log: RunLog, job_kwargs: dict, stages: SavedStages) -> GroupSorting:
        """Sort one channel group."""
        prepared = self._preprocess(group, log, job_kwargs)
        if prepared is None:
            return empty_group(self.model.config.embedding_size)
        # -> traces (num_samples, num_channels) uV, filtered, without artefacts, corrected for motion
        displacement_um = [] if prepared.motion is None else prepared.motion.displacement
        measured = (prepared.noise_levels_uv, prepared.artifact_periods, *displacement_um)
        stages.check_same("noise levels, artefacts and motion", *measured)
        periods = prepared.artifact_periods.copy()
        periods["segment_index"] = group.segment_indices[periods["segment_index"]]
        return replace(self._sort_prepared(prepared, log, job_kwargs, stages), artifact_periods=periods)

    def _sort_prepared(
        self, prepared: PreparedGroup, log: RunLog, job_kwargs: dict, stages: SavedStages
    ) -> GroupSorting:
        """Sort a preprocessed group, stage by stage."""
        found = stages.run("clustering", self._find_units, prepared, log, job_kwargs, stages)
        peaks, units, assignment, offset = found
        # -> (num_peaks,), mixture model of the units, unit and posterior of every peak
        if units.num_units == 0:
            return empty_group(self.model.config.embedding_size)
        matching = (prepared, peaks, units, assignment, log, job_kwargs)
        units, spikes, labels = stages.run("matching", self._match_units, *matching)
        # -> fewer units; (num_spikes,), (num_spikes,)
        del found, peaks, assignment, matching  # as many rows as there are spikes
        log.skip("curation")
        embeddings = stages.run("matched-embedding", self._embed, prepared, spikes, log, job_kwargs)
        # -> (num_spikes, embedding_size)
        times_s = spike_times_s(spikes, prepared.recording)
        signed = set_apart(embeddings, spikes, offset)
        settings = self.settings
        assignment = reassign_spikes(units, signed, labels, times_s, self.parameters, log, settings=settings.curation)
        # -> unit and posterior of every spike
        return describe_group(
            prepared,
            spikes,
            embeddings,
            assignment,
            self.parameters,
            postprocessing=settings.postprocessing,
            quality=settings.quality,
            job_kwargs=job_kwargs,
        )
        # -> spike vector, embeddings, posteriors and properties of the units

    def _find_units(
        self, prepared: PreparedGroup, log: RunLog, job_kwargs: dict, stages: SavedStages
    ) -> tuple[np.ndarray, UnitModel, Assignment, np.ndarray]:
        """Peaks of a group, their units, and the offset in embeddings between spikes of both signs."""
        parameters, settings = self.parameters, self.settings
        detector: dict[str, Any] = dict(
            matched_filter_settings=settings.matched_filter, peak_sign_settings=settings.peak_signs
        )
        jobs: dict[str, Any] = dict(job_kwargs=job_kwargs)
        peaks = stages.run("detection", detect_spikes, prepared, parameters, log, **detector, **jobs)
        # -> (num_peaks,)
        embeddings = stages.run("embedding", self._embed, prepared, peaks, log, job_kwargs)
        # -> (num_peaks, embedding_size)
        offset = sign_offset(embeddings, peaks)
        signed = set_apart(embeddings, peaks, offset)  # no cluster has spikes of both signs
        jobs["by_channel"] = self._is_by_channel(prepared)
        units, assignment = find_units(signed, peaks, prepared, parameters, log, settings=settings.clustering, **jobs)
        # -> mixture model of the units; unit and posterior of every peak
        joined = join_signs(
            prepared, peaks, units, assignment, parameters, log, settings=settings.peak_signs, job_kwargs=job_kwargs
        )
        return *joined, offset

    def _match_units(
        self,
        prepared: PreparedGroup,
        peaks: np.ndarray,
        units: UnitModel,
        assignment: Assignment,
        log: RunLog,
        job_kwargs: dict,
    ) -> tuple[UnitModel, np.ndarray, np.ndarray]:
        """Curated units of a group, their matched spikes (num_spikes,), and the unit of each."""
        parameters, curation = self.parameters, self.settings.curation
        matching: dict[str, Any] = dict(settings=self.settings.matching, job_kwargs=job_kwargs)
        spikes, labels = match_spikes(prepared, peaks, units, assignment, parameters, log, **matching)
        # -> (num_spikes,), (num_spikes,)
        if self._is_by_channel(prepared):
            spikes, labels = remove_noise_units(
                prepared, peaks, units, spikes, labels, parameters, log, settings=curation
            )
        merging: dict[str, Any] = dict(settings=curation, job_kwargs=job_kwargs)
        return merge_over_split_units(prepared, units, spikes, labels, parameters, log, **merging)
        # -> fewer units and spikes

    def _is_by_channel(self, prepared: PreparedGroup) -> bool:
        return prepared.recording.get_num_channels() > self.model.config.num_channels

    def _open_stages(
        self, folder: str | Path | None, provenance: dict, groups: list[ChannelGroup], log: RunLog, resume: bool
    ) -> SavedStages:
        """The stages in a folder, if they are of this sorting."""
        if folder is None and resume:
            raise ValueError("expected the folder of an interrupted sorting with resume=True: give stages_folder")
        if folder is None:
            return SavedStages(None, {}, log)
        from .models.loading import digest_model

        channels: list[np.ndarray] = []
        for group in groups:
            gains = group.recording.get_property("gain_to_uV")
            channels += [
                np.array(str(group.name)),
                group.recording.channel_ids,
                group.recording.get_channel_locations(),
            ]
            channels += [] if gains is None else [gains]
        identity = {
            # a recording may be moved between two runs
            "recording": {name: value for name, value in provenance["recording"].items() if name != "files"},
            "channels": digest_of(*channels),
            "parameters": self.parameters.to_dict(),
            "settings": asdict(self.settings),
            "checkpoint": digest_model(self.model),
            "device": self._computes_on.split(":")[0],
            "versions": provenance["versions"],
            "commit": provenance["commit"],
        }
        stages = SavedStages(Path(folder), identity, log, resume=resume)
        if resume:
            stages.warn_of_changes(provenance["recording"]["files"])
        return stages

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
        log("embedding", f"group {group.name}: {len(spikes)} spikes on {self._computes_on}")
        return embeddings

    @property
    def _computes_on(self) -> str:
        return str(getattr(self.model, "device", "cpu"))

    def _resolve_auto(self, groups: list[ChannelGroup], log: RunLog) -> SpikeSortingPipeline:
        """A pipeline with the embedded checkpoint for the channels of these groups."""
        name, reason = resolve_auto([group.recording.get_channel_locations() for group in groups])
        pipeline = type(self).from_pretrained(name, settings=self.settings, device=self.device, **self._given)
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


def _name_of(model: Any) -> str | None:
    """Name of an embedded checkpoint, else the folder that a model was loaded from."""
    found = getattr(getattr(model, "config", None), "_name_or_path", None) or None
    return {str(folder): name for name, folder in list_checkpoints().items()}.get(str(found), found)


def _place(model: HuiduRep | None, device: str) -> HuiduRep | None:
    """The model, or a copy of it, on a device; refuses a device that is not there also where there is no model yet."""
    from .models.devices import find_device, place_model

    find_device(device)
    return place_model(model, device) if model is not None and hasattr(model, "parameters") else model


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
