"""The result of a curated sorting, from what the earlier result holds or, with the recording, measured again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting
from spikeinterface.core.base import base_peak_dtype

from ..provenance import check_same_recording
from ..sorting.aggregation import GroupSorting, assemble, describe_group, describe_units
from ..sorting.clustering import Assignment
from ..sorting.curated_units import (
    TracedSpikes,
    combine_templates,
    merged_across_groups,
    parts_of_units,
    recompute_posteriors,
    stored_group,
    stored_recording,
    trace_spikes,
)
from ..sorting.embedding import embed_spikes
from ..sorting.geometry import is_missing
from ..sorting.motion import correct_motion
from ..sorting.peak_signs import SIGNS
from ..sorting.phy_folder import UNDECIDED
from ..sorting.postprocessing import main_channels, make_sorting
from ..sorting.preprocessing import PreparedGroup, preprocess, split_groups
from ..sorting.quality_metrics import label_units
from ..sorting.recorded_times import choose_times
from ..sorting.run_log import RunLog
from ..sorting.waveforms import has_whole_snippet, mean_waveforms, to_spike_vector
from .curated import NEURON, CuratedSorting, further_properties, read_curated, recording_samples

if TYPE_CHECKING:
    from ..result import SortingResult

STAGE = "after curation"
MISSING = {"f": np.nan, "c": np.nan, "m": None, "M": None, "S": b"", "U": ""}  # by kind of dtype; others have none
BY_CURATOR = "label of the curator"


def apply_curated(
    result: SortingResult,
    curated: Any,
    recording: BaseRecording | None,
    encoder: Any,
    *,
    job_kwargs: dict | None = None,
) -> SortingResult:
    """Describe curated units as the pipeline describes its own.

    Parameters
    ----------
    result : SortingResult
    curated : BaseSorting, SortingAnalyzer, dict, list, Curation, SequentialCuration, str or Path
        As `read_curated`.
    recording : BaseRecording | None
        The raw recording that was sorted.
    encoder : HuiduRep or StoredEncoder
    job_kwargs : dict, optional

    Returns
    -------
    SortingResult

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `read_curated`; another recording; spikes or units that need the recording, which is not given.
    OSError
        Spikes are to be embedded, and the checkpoint of the result is not found.
    """
    if recording is not None:
        check_same_recording(result, recording)
    found, sorting = read_curated(curated, result), result.sorting
    if recording is not None:
        _check_within(found.spikes, recording)
    names, groups = np.unique(sorting.get_property("group"), return_inverse=True)
    traced = trace_spikes(sorting.to_spike_vector(), found.spikes, len(found.unit_ids), groups)
    log = RunLog()
    _log_changes(log, found, traced, sorting)
    units = _CuratedUnits(result, found, traced, names.tolist(), encoder, log)
    if recording is None:
        _check_complete(result, found, traced)
        if result.measurements is None:  # there were no units, and there are none
            return replace(result, log=[*result.log, *log.entries])
        parts, members = units.from_stored()
        source: Any = stored_recording(sorting, result.measurements.channel_ids, recording_samples(result))
    else:
        parts, members = units.from_recording(recording, job_kwargs)
        source = recording
    combined, embeddings, posteriors, measurements = assemble(parts, source, result.embeddings.shape[1])
    order = np.concatenate([np.zeros(0, dtype="int64"), *members])
    return replace(
        result,
        sorting=_label(combined, source, order, result, found, traced),
        embeddings=embeddings,
        posteriors=posteriors,
        log=[*result.log, *log.entries],
        measurements=measurements,
    )


@dataclass(frozen=True)
class _CuratedUnits:
    """The curated units of a result; each method describes them group by group."""

    result: SortingResult
    found: CuratedSorting
    traced: TracedSpikes
    names: list  # of the channel groups in which the result has units
    encoder: Any
    log: RunLog

    def from_stored(self) -> tuple[list[GroupSorting], list[np.ndarray]]:
        """Units of each group, and their numbers in the curated sorting, from what the result holds."""
        result, parts, members = self.result, [], []
        num_samples, signs = recording_samples(result), _unit_signs(result.sorting)
        for number, name in enumerate(self.names):
            units = np.flatnonzero(self.traced.unit_groups == number)
            if len(units) == 0:
                continue
            group = stored_group(result.sorting, result.measurements, name, num_samples)
            measured = combine_templates(result.measurements, self.traced, group, units, signs, result.parameters)
            rows = np.flatnonzero(np.isin(self.traced.spikes["unit_index"], units))
            peaks = self._peaks(rows, group)
            embeddings = result.embeddings[self.traced.rows[rows]]
            assignment = self._assign(peaks, rows, embeddings, group)
            numbered = replace(assignment, labels=np.searchsorted(units, assignment.labels))
            parts.append(describe_units(group, peaks, embeddings, numbered, measured, result.parameters))
            members.append(units)
        self.log(STAGE, "templates of merged units are means of those of their parts; positions of spikes are kept")
        return parts, members

    def from_recording(
        self, recording: BaseRecording, job_kwargs: dict | None
    ) -> tuple[list[GroupSorting], list[np.ndarray]]:
        """The same, with all units measured in the recording."""
        parameters, parts, members = self.result.parameters, [], []
        groups = split_groups(recording, parameters, self.log)
        group_names = self._group_names([group.name for group in groups])
        for group in groups:
            units = np.flatnonzero([name == group.name for name in group_names])
            prepared = preprocess(group, parameters, self.log, job_kwargs=job_kwargs) if len(units) else None
            if prepared is None:
                continue
            prepared = correct_motion(prepared, parameters, self.log, job_kwargs=job_kwargs)
            rows = np.flatnonzero(np.isin(self.traced.spikes["unit_index"], units))
            rows = rows[self._is_readable(rows, prepared)]
            peaks = self._peaks(rows, prepared, job_kwargs=job_kwargs)
            embeddings = self._embed(peaks, rows, prepared, job_kwargs)
            assignment = self._assign(peaks, rows, embeddings, prepared)
            parts.append(describe_group(prepared, peaks, embeddings, assignment, parameters, job_kwargs=job_kwargs))
            members.append(np.unique(assignment.labels))
        return parts, members

    def _group_names(self, known: list) -> list:
        """Channel group of each unit: that of its earlier spikes, else the one that it names, else the only one."""
        names = []
        for unit_id, number in zip(self.found.unit_ids.tolist(), self.traced.unit_groups.tolist(), strict=True):
            name = self.names[number] if number >= 0 else self.found.groups.get(unit_id)
            names.append(known[0] if number < 0 and len(known) == 1 else name)
        missing = [unit for unit, name in zip(self.found.unit_ids.tolist(), names, strict=True) if name not in known]
        if missing:
            raise ValueError(
                f"expected units of the channel groups {known}, found no group of the units {missing[:8]}, whose "
                "spikes are none of this result; give the sorting their names as property 'group'"
            )
        return names

    def _is_readable(self, rows: np.ndarray, group: PreparedGroup) -> np.ndarray:
        """Which spikes are earlier ones or have a whole snippet in a segment that was sorted."""
        spikes = self.traced.spikes[rows]
        is_sorted = np.isin(spikes["segment_index"], group.segment_indices)
        within = spikes[is_sorted]
        within["segment_index"] = np.searchsorted(group.segment_indices, within["segment_index"])
        is_readable = self.traced.rows[rows] >= 0
        is_readable[is_sorted] |= has_whole_snippet(within, group.recording, self.result.parameters)
        if not is_readable.all():
            ends = f"{(~is_readable).sum()} spikes at the ends of segments have no whole snippet: left out"
            self.log.warning(STAGE, f"group {group.name}: {ends}")
        return is_readable

    def _peaks(self, rows: np.ndarray, group: PreparedGroup, *, job_kwargs: dict | None = None) -> np.ndarray:
        """Spikes in SpikeInterface's peak dtype: earlier ones on the main channel of the unit that they were of."""
        spikes, origins = self.traced.spikes[rows], self.traced.origins[rows]
        counts, sorting = self.traced.counts[spikes["unit_index"]], self.result.sorting
        peaks = np.zeros(len(rows), dtype=base_peak_dtype)
        peaks["sample_index"] = spikes["sample_index"]
        peaks["segment_index"] = np.searchsorted(group.segment_indices, spikes["segment_index"])
        is_known = counts.any(axis=1)
        if is_known.any():
            # a new spike of a unit that had others is read where most of these are
            own = np.where(origins >= 0, origins, counts.argmax(axis=1))[is_known]
            peaks["channel_index"][is_known] = group.recording.ids_to_indices(
                sorting.get_property("main_channel_id")[own]
            )
            peaks["amplitude"][is_known] = _unit_signs(sorting)[own]
        if not is_known.all():
            units, labels = np.unique(spikes["unit_index"][~is_known], return_inverse=True)
            vector, parameters = to_spike_vector(peaks[~is_known], labels), self.result.parameters
            means_uv = mean_waveforms(group.recording, vector, len(units), parameters, job_kwargs=job_kwargs)
            channels, _, peaks_uv = main_channels(means_uv, group.recording.get_sampling_frequency(), parameters)
            peaks["channel_index"][~is_known], peaks["amplitude"][~is_known] = channels[labels], peaks_uv[labels]
        return peaks

    def _embed(self, peaks: np.ndarray, rows: np.ndarray, group: PreparedGroup, job_kwargs: dict | None) -> np.ndarray:
        """Embeddings of spikes: earlier ones keep theirs."""
        earlier, stored = self.traced.rows[rows], self.result.embeddings
        embeddings, is_new = np.zeros((len(rows), stored.shape[1]), dtype="float32"), earlier < 0
        embeddings[~is_new] = stored[earlier[~is_new]]
        if is_new.any():
            options: dict = dict(job_kwargs=job_kwargs)
            parameters = self.result.parameters
            embeddings[is_new] = embed_spikes(self.encoder, group.recording, peaks[is_new], parameters, **options)
        return embeddings

    def _assign(self, peaks: np.ndarray, rows: np.ndarray, embeddings: np.ndarray, group: PreparedGroup) -> Assignment:
        """Unit and posterior of each spike: spikes of units that have changed get another posterior."""
        labels, origins, earlier = self.traced.spikes["unit_index"][rows], self.traced.origins[rows], self.traced.rows
        posteriors = np.zeros(len(rows), dtype="float32")
        posteriors[origins >= 0] = self.result.posteriors[earlier[rows][origins >= 0]]
        is_one_mixture = self._is_one_mixture(group)
        centres = np.zeros(len(rows), dtype="int64") if is_one_mixture else peaks["channel_index"]
        is_changed = self.traced.is_changed
        posteriors = recompute_posteriors(embeddings, posteriors, labels, origins, centres, is_changed)
        return Assignment(labels, posteriors, is_one_mixture)

    def _is_one_mixture(self, group: PreparedGroup) -> bool:
        """Whether all spikes of a group were embedded on the same channels."""
        try:
            return bool(group.recording.get_num_channels() <= self.encoder.config.num_channels)
        except (OSError, ValueError) as error:
            unknown = f"only spikes of the same main channel are compared, for the encoder is not known: {error}"
            self.log.warning(STAGE, f"group {group.name}: {unknown}")
            return False


def _unit_signs(sorting: BaseSorting) -> np.ndarray:
    """-1 or 1 (num_units,): whether spikes point down or up; results of early versions point down."""
    stored = sorting.get_property("peak_sign")
    if stored is None:
        return np.full(sorting.get_num_units(), -1)
    return np.array([SIGNS[name] for name in stored], dtype="int64")


def _log_changes(log: RunLog, found: CuratedSorting, traced: TracedSpikes, sorting: BaseSorting) -> None:
    """Log what the curator did, in one sentence, and doubt a sorting that shares few spikes."""
    num_parts, num_new = (traced.counts > 0).sum(axis=1), int((traced.rows < 0).sum())
    num_merged = int(((num_parts > 1) & traced.is_changed).sum())
    num_gone = int((traced.counts.sum(axis=0) < traced.earlier_counts).sum())
    changes = f"{traced.is_changed.sum()} of them changed, {num_merged} with spikes of several"
    spikes = f"{num_new} spikes are new, {len(traced.rows) - num_new} of {traced.earlier_counts.sum()} were kept"
    log(
        STAGE,
        f"{sorting.get_num_units()} units became {len(found.unit_ids)}: {changes}; {num_gone} lost spikes; {spikes}; "
        f"{sum(label != UNDECIDED for label in found.labels.values())} labels",
    )
    for unit, other in merged_across_groups(sorting.to_spike_vector(), traced):
        places = f"{sorting.unit_ids[other]} of the channel group {sorting.get_property('group')[other]}"
        log.warning(
            STAGE, f"unit {found.unit_ids[unit]} has spikes of unit {places}, read on channels of another group"
        )
    if num_new > 0.5 * len(traced.rows):
        log.warning(STAGE, f"{num_new} of {len(traced.rows)} spikes are new: is the sorting one of this recording?")


def _check_within(spikes: np.ndarray, recording: BaseRecording) -> None:
    """Refuse spikes before the first or after the last sample of their segment."""
    num_samples = np.array([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    outside = (spikes["sample_index"] < 0) | (spikes["sample_index"] >= num_samples[spikes["segment_index"]])
    if outside.any():
        spike = spikes[outside][0]
        raise ValueError(
            f"expected spikes within the recording, found {outside.sum()} others, the first at sample "
            f"{spike['sample_index']} of segment {spike['segment_index']} of {num_samples[spike['segment_index']]} "
            "samples; give a sorting of the same recording"
        )


def _check_complete(result: SortingResult, found: CuratedSorting, traced: TracedSpikes) -> None:
    """Refuse what cannot be described without the recording."""
    remedy = "give the recording (--recording on the command line)"
    if result.measurements is None and result.sorting.get_num_units():
        raise ValueError(f"expected a result with templates, found one of an early version; {remedy}")
    missing = np.flatnonzero(traced.rows < 0)
    if len(missing):
        spike = traced.spikes[missing[0]]
        raise ValueError(
            f"expected spikes of this result, found {len(missing)} others, the first at sample "
            f"{spike['sample_index']} of segment {spike['segment_index']}; {remedy}, so that they are embedded"
        )
    parts = found.unit_ids[parts_of_units(traced)].tolist()
    if parts:
        raise ValueError(
            f"expected whole units of this result, found that the units {parts[:8]} are parts of units, whose "
            f"templates it does not hold; {remedy}"
        )


def _label(
    combined: BaseSorting,
    source: BaseRecording,
    order: np.ndarray,
    result: SortingResult,
    found: CuratedSorting,
    traced: TracedSpikes,
) -> BaseSorting:
    """The units with the curator's ids and labels ("is_curated"); the rule's label is kept as "machine_quality"."""
    unit_ids = found.unit_ids[order]
    sorting = make_sorting(
        combined.to_spike_vector(), combined.get_sampling_frequency(), unit_ids, combined.get_num_segments()
    )
    for name, values in _further_properties(result.sorting, found, traced).items():
        sorting.set_property(name, values[order])
    for name in combined.get_property_keys():
        sorting.set_property(name, combined.get_property(name))
    overlapping = combined.get_property("overlapping_unit")
    none, dtype = (-1, np.dtype("int64")) if unit_ids.dtype.kind in "iu" else ("", unit_ids.dtype)
    named = [unit_ids[unit] if unit >= 0 else none for unit in overlapping]
    sorting.set_property("overlapping_unit", np.array(named, dtype=dtype))
    columns = {name: sorting.get_property(name).tolist() for name in sorting.get_property_keys()}
    machine, reasons = label_units(columns)
    labels = _labels_of_curator(result, found, traced)
    quality = [labels.get(unit, label) for unit, label in zip(unit_ids.tolist(), machine, strict=True)]
    said = [
        reason if label == own else BY_CURATOR for label, own, reason in zip(quality, machine, reasons, strict=True)
    ]
    text = {"quality": quality, "quality_reason": said, "machine_quality": machine}
    for name, words in text.items():
        sorting.set_property(name, np.array(words, dtype=str) if words else np.zeros(0, dtype="<U4"))
    sorting.set_property("is_curated", np.array([unit in labels for unit in unit_ids.tolist()], dtype=bool))
    sorting.register_recording(choose_times(result.sorting, source))
    return sorting


def _further_properties(earlier: BaseSorting, found: CuratedSorting, traced: TracedSpikes) -> dict[str, np.ndarray]:
    """Properties that the curator gave, and further ones of the earlier units."""
    properties = _shared_properties(earlier, traced)
    for name, values in found.properties.items():
        if name != NEURON or name not in properties:
            properties[name] = values
            continue
        # SpikeInterface gives all parts of a split unit its number: only another number is one of the curator
        of_parts = [earlier.get_property(name)[own > 0] for own in traced.counts]
        is_said = [not is_missing(value) and value not in own for value, own in zip(values, of_parts, strict=True)]
        properties[name] = np.where(is_said, values, properties[name])
    for name, values in found.numbers.items():
        properties[name] = _with_changed_numbers(properties[name], values, further_properties(earlier)[name], traced)
    return properties


def _with_changed_numbers(
    shared: np.ndarray, said: np.ndarray, earlier: np.ndarray, traced: TracedSpikes
) -> np.ndarray:
    """A property (num_units,) with the numbers that no part of the unit had before, as integers or flags if they fit.

    An empty cell of a merged or split unit says nothing.
    """
    of_parts = [earlier[own > 0].astype("float64") for own in traced.counts]
    is_known = [np.isclose(*pair, rtol=1e-7, atol=0, equal_nan=True).any() for pair in zip(of_parts, said, strict=True)]
    is_said = ~np.array(is_known, dtype=bool)
    is_said &= ~(np.isnan(said) & traced.is_changed)
    with np.errstate(invalid="ignore"):  # NaN
        fits = (said[is_said].astype(shared.dtype) == said[is_said]).all()
    changed = shared.copy() if fits else shared.astype("float64")
    changed[is_said] = said[is_said]
    return changed


def _shared_properties(earlier: BaseSorting, traced: TracedSpikes) -> dict[str, np.ndarray]:
    """Further properties of the earlier units, such as "area", for units whose parts all have the same value.

    Others have no value: NaN, which makes whole numbers floats, no date, or empty text. "neuron" stays with the unit
    that has more than half of the earlier unit's spikes: no two units are one neuron.
    """
    properties = {}
    for name, values in further_properties(earlier).items():
        if values.dtype.kind == "V":  # a record has no value that says nothing
            values = np.array([str(each) for each in values.ravel()], dtype=str).reshape(values.shape)
        is_part = traced.counts > (0.5 * traced.earlier_counts if name == NEURON else 0)
        parts = [np.unique(values[own], axis=0 if values.ndim > 1 else None) for own in is_part]
        if values.dtype.kind in "biu" and any(len(each) != 1 for each in parts):
            values = values.astype("float64")
        missing = np.full(values.shape[1:], MISSING.get(values.dtype.kind, 0), dtype=values.dtype)
        rows = [each[0] if len(each) == 1 else missing for each in parts]
        properties[name] = np.array(rows, dtype=values.dtype).reshape(len(rows), *values.shape[1:])
    return properties


def _labels_of_curator(result: SortingResult, found: CuratedSorting, traced: TracedSpikes) -> dict:
    """The label of each unit that a person gave, now or in an earlier curation of a unit that has not changed."""
    earlier, is_curated = result.sorting.get_property("quality"), _is_curated(result.sorting)
    labels = {}
    for unit, (unit_id, counts) in enumerate(zip(found.unit_ids.tolist(), traced.counts, strict=True)):
        before = set() if earlier is None else set(earlier[counts > 0].tolist())
        said = found.labels.get(unit_id)
        # SpikeInterface's sortings and merged units have the properties of the result: nobody has decided on these
        if said is not None and (found.is_own_label or before != {said}):
            if said != UNDECIDED:
                labels[unit_id] = said
        elif not traced.is_changed[unit] and is_curated[counts > 0].all():
            labels[unit_id] = earlier[counts > 0][0]
    return labels


def _is_curated(sorting: BaseSorting) -> np.ndarray:
    """Units (num_units,) whose label is that of a person: of a curation, or another one than that of the rule."""
    names = ("quality", "machine_quality", "quality_reason", "is_curated")
    quality, machine, reasons, is_curated = (sorting.get_property(name) for name in names)
    if quality is None or (machine is None and reasons is None):  # of early versions
        return np.zeros(sorting.get_num_units(), dtype=bool)
    is_other = quality != (np.where(reasons == "", "good", "mua") if machine is None else machine)
    return is_other if is_curated is None else is_other | is_curated
