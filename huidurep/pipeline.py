"""The whole road from a recording to its units: the one place where the model and `sorting/` meet."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np

from .hub.repository import HUB_KEYWORDS, commit_of
from .hub.select import choose_checkpoint
from .provenance import describe_run, peak_memory_mb
from .result import SortingResult
from .sorting.aggregation import GroupSorting, assemble, describe_group, empty_group
from .sorting.clustering import find_units
from .sorting.curation import merge_over_split_units, reassign_spikes, remove_noise_units
from .sorting.detection import detect_spikes
from .sorting.matching import match_spikes
from .sorting.motion import correct_motion
from .sorting.parameters import SortingParameters
from .sorting.preprocessing import ChannelGroup, PreparedGroup, preprocess, split_groups
from .sorting.presets import check_groups, preset_values
from .sorting.run_log import RunLog
from .sorting.spike_trains import spike_times_s
from .sorting.waveforms import iterate_waveforms

__all__ = ["SortingParameters", "SortingResult", "SpikeSortingPipeline", "choose_checkpoint", "sort"]
PARAMETERS_FILE = "sorting_parameters.json"
ADAPT_SPIKES = 4000  # as many as HuiduRep.adapt takes


def sort(recording, model="auto", **parameters):
    """Sort a recording: the one line.

    Parameters
    ----------
    recording : BaseRecording
        Any SpikeInterface recording, raw; several segments and channel groups are sorted in one call.
    model : str, Path or HuiduRep
        "auto" picks an embedded checkpoint by the probe; otherwise whatever `HuiduRep.from_pretrained` opens, or a
        model.
    **parameters
        Fields of `SortingParameters`.

    Returns
    -------
    BaseSorting
        Units with main_channel_id, group, snr, peak_uv, num_spikes, refractory_violations, isolation, presence and
        quality ("good" or "mua"); empty where there are no spikes.

    Raises
    ------
    TypeError
        Unknown parameter, or not a recording.
    ValueError
        A recording or a value that cannot be used; the sentence says what to change.
    """
    if isinstance(model, str | Path):
        return SpikeSortingPipeline.from_pretrained(model, **parameters)(recording).sorting
    return SpikeSortingPipeline(model, SortingParameters(**parameters))(recording).sorting


class SpikeSortingPipeline:
    """A model with the parameters of sorting; calling it sorts a recording.

    Parameters
    ----------
    model : HuiduRep | None
        The encoder. None: picked by the probe at each call, as "auto" does.
    parameters : SortingParameters | dict | None
        None: the defaults.
    model_name, model_revision : str | None
        Kept in the result: what was asked for, and the commit of a Hub repository.
    """

    def __init__(self, model=None, parameters=None, model_name=None, model_revision=None):
        if isinstance(parameters, dict):
            parameters = SortingParameters(**parameters)
        if model is not None and not callable(getattr(model, "embed", None)):
            raise TypeError(
                f"expected a HuiduRep, the name or folder of a checkpoint, or 'auto', found {model!r}; load one with "
                "HuiduRep.from_pretrained"
            )
        self.model = model
        self.parameters = parameters or SortingParameters()
        self.model_name = model_name or getattr(getattr(model, "config", None), "_name_or_path", None) or None
        self.model_revision = model_revision
        # "auto" lays these over the parameters beside the weights it picks
        self._given_parameters = {} if parameters is None else self.parameters.to_dict()

    @classmethod
    def from_pretrained(cls, name="auto", *, revision=None, **parameters) -> SpikeSortingPipeline:
        """Load a checkpoint with the sorting parameters beside it.

        Parameters
        ----------
        name : str or Path
            "auto", an embedded checkpoint, a local folder or a Hub repository.
        revision : str | None
            Of a Hub repository.
        **parameters
            Fields of `SortingParameters`; they go before those of the checkpoint. Also ``cache_dir``, ``token``,
            ``local_files_only`` and ``force_download``, as in :meth:`HuiduRep.from_pretrained`.

        Returns
        -------
        SpikeSortingPipeline

        Raises
        ------
        OSError, ValueError
            A checkpoint that is missing, truncated or foreign.
        """
        hub_options = {key: parameters.pop(key) for key in HUB_KEYWORDS if key in parameters}
        SortingParameters(**parameters)  # a wrong name is found before anything is downloaded
        if str(name) == "auto":
            pipeline = cls(None, parameters)
            pipeline._given_parameters = parameters
            return pipeline
        from .hub.resolve import resolve_checkpoint
        from .models.modeling_huidurep import HuiduRep

        folder = resolve_checkpoint(name, revision=revision, **hub_options)
        beside = folder / PARAMETERS_FILE
        defaults = json.loads(beside.read_text(encoding="utf8")) if beside.is_file() else {}
        values = {**defaults, **preset_values(parameters.get("preset")), **parameters}
        return cls(HuiduRep.from_pretrained(folder), values, str(name), commit_of(folder))

    def __call__(self, recording, *, progress=None) -> SortingResult:
        """Sort a recording.

        Parameters
        ----------
        recording : BaseRecording
            Any SpikeInterface recording, raw.
        progress : callable | None
            Called before each stage with the share of the work that is done (0 to 1, a guess) and a text such as
            "group 2 of 4, stage 5 of 8: clustering". What it raises ends the sorting.

        Returns
        -------
        SortingResult

        Raises
        ------
        TypeError, ValueError
            As `sort`.
        """
        log = RunLog(progress)
        self.parameters.check_recording(recording)
        provenance = describe_run(recording)
        log("checks", _describe(recording))
        groups = split_groups(recording, self.parameters, log)
        # one ChannelGroup a tetrode, shank or probe; none where the recording is empty
        pipeline = self if self.model is not None else self._pick(groups, log)
        # with the model that suits the groups
        check_groups(pipeline.parameters.preset, groups, pipeline.model.config.num_channels)
        sorted_groups = [pipeline._sort_group(group, log) for group in log.follow(groups)]
        # one GroupSorting a group
        embedding_size = pipeline.model.config.embedding_size
        sorting, embeddings, posteriors, measures = assemble(sorted_groups, recording, embedding_size)
        # units of all groups, (num_spikes, embedding_size), (num_spikes,), templates and places
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
            measures,
            provenance,
        )

    def _sort_group(self, group: ChannelGroup, log: RunLog) -> GroupSorting:
        """Sort one channel group, stage by stage."""
        prepared = preprocess(group, self.parameters, log)
        if prepared is None:
            return empty_group(self.model.config.embedding_size)
        prepared = correct_motion(prepared, self.parameters, log)
        # as if the tissue had not moved
        peaks = detect_spikes(prepared, self.parameters, log)
        # -> (num_peaks,)
        pipeline = self._adapt(prepared, peaks, log) if self.parameters.adapt else self
        # with an encoder adapted to them
        embeddings = pipeline._embed(prepared, peaks, log)
        # -> (num_peaks, embedding_size)
        by_channel = prepared.recording.get_num_channels() > self.model.config.num_channels
        units, assignment = find_units(embeddings, peaks, prepared, self.parameters, log, by_channel=by_channel)
        # mixture model of the units, unit and posterior of every peak
        if units.num_units == 0:
            return empty_group(self.model.config.embedding_size)
        spikes, labels = match_spikes(prepared, peaks, units, assignment, self.parameters, log)
        # -> (num_spikes,), (num_spikes,)
        if by_channel:
            spikes, labels = remove_noise_units(prepared, peaks, units, spikes, labels, self.parameters, log)
            units, spikes, labels = merge_over_split_units(prepared, units, spikes, labels, self.parameters, log)
            # fewer units and spikes
        embeddings = pipeline._embed(prepared, spikes, log)
        # -> (num_spikes, embedding_size)
        times_s = spike_times_s(spikes, prepared.recording)
        assignment = reassign_spikes(units, embeddings, labels, times_s, self.parameters, log)
        # unit and posterior of every spike
        return describe_group(prepared, spikes, embeddings, assignment, self.parameters)

    def _adapt(self, group: PreparedGroup, peaks: np.ndarray, log: RunLog) -> SpikeSortingPipeline:
        """A pipeline whose encoder is adapted to the spikes of a group, unless the encoder's guard finds that worse."""
        num_channels = self.model.config.num_channels
        drawn = np.random.default_rng(self.parameters.seed).permutation(len(peaks))[:ADAPT_SPIKES]
        spikes = peaks[np.sort(drawn)]
        waveforms, contacts = [None] * len(spikes), [None] * len(spikes)
        peak_index = None
        for batch in iterate_waveforms(group.recording, spikes, self.parameters, num_channels=num_channels):
            peak_index = batch.peak_index
            for row, snippet in zip(batch.spike_indices, batch.waveforms, strict=True):
                waveforms[row], contacts[row] = snippet, batch.channel_positions_um
        if not waveforms:
            return self
        model = self.model.adapt(
            np.stack(waveforms),
            sampling_frequency=group.recording.get_sampling_frequency(),
            peak_index=peak_index,
            channel_positions=np.stack(contacts),
            spike_times=spike_times_s(spikes, group.recording),
            seed=self.parameters.seed,
        )
        log("adaptation", f"group {group.name}: {model.adaptation.reason} ({model.adaptation.seconds:.1f} s)")
        adapted = copy.copy(self)
        adapted.model = model
        return adapted

    def _embed(self, group: PreparedGroup, spikes: np.ndarray, log: RunLog) -> np.ndarray:
        """Embeddings (num_spikes, embedding_size) float32 of spikes, cut and embedded batch by batch."""
        config = self.model.config
        embeddings = np.zeros((len(spikes), config.embedding_size), dtype="float32")
        for batch in iterate_waveforms(group.recording, spikes, self.parameters, num_channels=config.num_channels):
            embeddings[batch.spike_indices] = self.model.embed(
                batch.waveforms,
                sampling_frequency=group.recording.get_sampling_frequency(),
                peak_index=batch.peak_index,
                channel_positions=batch.channel_positions_um,
                denoise=self.parameters.denoise,
            )
        log("embedding", f"group {group.name}: {len(spikes)} spikes")
        return embeddings

    def _pick(self, groups: list[ChannelGroup], log: RunLog) -> SpikeSortingPipeline:
        """The pipeline that "auto" stands for: a checkpoint for the channels of these groups."""
        # what several groups have in common is decided by the largest
        largest = max((group.recording for group in groups), key=lambda each: each.get_num_channels(), default=None)
        name, reason = choose_checkpoint(None if largest is None else largest.get_channel_locations())
        pipeline = type(self).from_pretrained(name, **self._given_parameters)
        log("model", f"auto: checkpoint {name!r}, {reason}")
        return pipeline


def _describe(recording) -> str:
    """One sentence on a recording."""
    num_segments = recording.get_num_segments()
    num_samples = sum(recording.get_num_samples(index) for index in range(num_segments))
    return (
        f"{recording.get_num_channels()} channels, {num_segments} segments, "
        f"{num_samples / recording.get_sampling_frequency():.1f} s at {recording.get_sampling_frequency():g} Hz"
    )
