"""A result after curation: what phy, SpikeInterface or a person made of its units becomes a result again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseSorting, SortingAnalyzer, load
from spikeinterface.core.base import minimum_spike_dtype

from ..output_files import FILES_LIST
from ..sorting.aggregation import LABELS, UNIT_PROPERTIES
from ..sorting.geometry import is_missing
from ..sorting.phy_folder import (
    GROUPS,
    UNDECIDED,
    is_phy_folder,
    plain_label,
    read_phy_columns,
    read_phy_spikes,
    unit_ids_of_clusters,
)
from ..sorting.postprocessing import make_sorting
from ..sorting.stored_arrays import check_parts, without_objects

if TYPE_CHECKING:
    from ..result import SortingResult

# properties that every result has, and those that a curated one has
COMPUTED = {*UNIT_PROPERTIES, *LABELS, "machine_quality", "is_curated"}
NEURON = "neuron"  # of `huidurep.track`: the only property that names one unit
MARKS = ("is_merged", "is_split")  # properties that SpikeInterface gives
NO_LABEL = {"quality": UNDECIDED}  # what a label is that was taken back, where it is not empty
FLAGS = {"True": "1", "False": "0"}
# columns that exports to phy write, and phy's own: no labels of the curator
PHY_COLUMNS = {
    *COMPUTED,
    NEURON,
    "channel_group",
    "si_unit_id",
    "si_unit_ids",
    "KSLabel",
    "id",
}


@dataclass(frozen=True)
class CuratedSorting:
    """What a curator left.

    Attributes
    ----------
    spikes : ndarray, (num_spikes,)
        SpikeInterface's spike vector in the segments of the result, in order of time within segments.
    unit_ids : ndarray, (num_units,)
        Every unit has spikes.
    labels : dict
        The curator's label of a unit, where something is said of it; "unsorted" where it was taken back.
    properties : dict of str to ndarray, (num_units, ...)
        Properties of units beside those that a result computes.
    groups : dict
        Channel group of a unit, where the sorting names it.
    numbers : dict of str to ndarray of float64, (num_units,)
        phy's columns of earlier properties that are numbers, which the curator may have changed; NaN for empty cells.
    is_own_label : bool
        The labels are decisions of the curator; otherwise merged units may have those that their parts had.
    """

    spikes: np.ndarray
    unit_ids: np.ndarray
    labels: dict = field(default_factory=dict)
    properties: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    is_own_label: bool = True


def read_curated(curated: Any, result: SortingResult) -> CuratedSorting:
    """Read a curated sorting in whatever form it is given.

    Parameters
    ----------
    curated : BaseSorting, SortingAnalyzer, dict, list, Curation, SequentialCuration, str or Path
        A sorting of the same recording; SpikeInterface's curation of the result's units; a phy folder, a JSON file of
        such a curation, or what `spikeinterface.load` opens. phy's params.py is not executed.
    result : SortingResult

    Returns
    -------
    CuratedSorting

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    TypeError
        Something else.
    ValueError
        Another number of segments or sampling frequency, units that the result does not have, or damaged files.
    """
    check_parts(result)
    if isinstance(curated, str | Path):
        path = Path(curated)
        if not path.exists():
            raise FileNotFoundError(f"expected a curated sorting at {path}, found nothing; correct the path")
        if is_phy_folder(path):
            return _read_phy(path, result.sorting)
        curated = _read_file(path)
    is_curation = isinstance(curated, dict | list) or hasattr(curated, "model_copy")
    if is_curation:
        curated = _apply_curation(curated, result.sorting)
    if not isinstance(curated, BaseSorting | SortingAnalyzer):
        raise TypeError(
            f"expected a sorting, an analyzer, a curation of SpikeInterface or a phy folder, found "
            f"{type(curated).__name__}; give one of these"
        )
    sorting = curated.sorting if isinstance(curated, SortingAnalyzer) else curated
    found = _from_sorting(sorting, _segments_of(curated, result), result.sorting)
    return replace(found, is_own_label=is_curation)


def _read_file(path: Path) -> Any:
    """A curation, or what SpikeInterface opens."""
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf8"))
        return load(path)
    except Exception as error:  # spikeinterface raises many classes for other folders
        raise ValueError(
            f"expected a phy folder, a JSON file of a curation, or what spikeinterface.load opens at {path}, found "
            f"{describe_load_error(error)}; give what the curation wrote"
        ) from error


def describe_load_error(error: Exception) -> str:
    """What `spikeinterface.load` found; in a folder without any file of its own it stumbles over an unset variable.

    Parameters
    ----------
    error : Exception
        As it was raised.

    Returns
    -------
    str
    """
    is_other_folder = isinstance(error, UnboundLocalError)
    return "no file of SpikeInterface" if is_other_folder else f"{type(error).__name__} ({error})"


def recording_samples(result: SortingResult) -> list[int]:
    """Number of samples of each segment of the recording that was sorted.

    Parameters
    ----------
    result : SortingResult
        Of an early version: the recording is taken to end at the last spike.

    Returns
    -------
    list of int
    """
    sorting, spikes = result.sorting, result.sorting.to_spike_vector()
    if "num_samples" in result.provenance.get("recording", {}):
        return result.provenance["recording"]["num_samples"]
    segments = range(sorting.get_num_segments())
    if sorting.has_recording():
        return [sorting.get_num_samples(index) for index in segments]
    return [int(spikes["sample_index"][spikes["segment_index"] == index].max(initial=-1)) + 1 for index in segments]


def _apply_curation(curation: Any, earlier: BaseSorting) -> BaseSorting:
    """The curated sorting by SpikeInterface; its properties are the labels and marks of this and earlier curations."""
    from spikeinterface.curation import apply_curation
    from spikeinterface.curation.curation_model import Curation, SequentialCuration

    spikes, rate_hz = earlier.to_spike_vector(), earlier.get_sampling_frequency()
    curated: BaseSorting = make_sorting(spikes, rate_hz, earlier.unit_ids, earlier.get_num_segments())
    try:
        if isinstance(curation, dict) and {"labelsByUnit", "mergeGroups"} & curation.keys():
            curation = _from_sortingview(curation, earlier.unit_ids.tolist())
        if isinstance(curation, dict | list):
            is_list = isinstance(curation, list)
            curation = SequentialCuration(curation_steps=curation) if is_list else Curation(**curation)
        steps = getattr(curation, "curation_steps", [curation])
        flags = _begin_labels(curated, steps, earlier)
        for step in steps:
            _set_labels(curated, step)
            before, unlabelled = curated, {"label_definitions": {}, "manual_labels": []}
            curated = apply_curation(before, step.model_copy(update=unlabelled))
            _mark_changed(curated, before)
    except (ValueError, TypeError, KeyError, AssertionError, AttributeError) as error:
        raise ValueError(
            f"expected a curation of SpikeInterface for the units {earlier.unit_ids.tolist()}, found "
            f"{' '.join(str(error).split())}; curate the units of this result"
        ) from error
    for name in flags:  # a merged unit has a flag that one of its parts has, as SpikeInterface's rules say
        values = curated.get_property(name) != "False"
        curated.delete_property(name)
        curated.set_property(name, values)
    return curated


def _from_sortingview(curation: dict, unit_ids: list) -> dict:
    """SpikeInterface's form of a curation that sortingview wrote, which names only units that are labelled or merged.

    Labels are flags of their own; "good", "mua" and "noise" are the quality as well.
    """
    known = {str(unit): unit for unit in unit_ids}
    labels = {known.get(unit, unit): list(words) for unit, words in curation.get("labelsByUnit", {}).items()}
    used = {word for words in labels.values() for word in words}
    options = sorted(used if len(used) > 1 else {*used, "accept", "reject"})  # SpikeInterface wants two
    manual = []
    for unit, words in labels.items():
        quality = [word for word in map(plain_label, words) if word in GROUPS]
        manual.append({"unit_id": unit, "sortingview": words} | ({"quality": quality} if len(quality) == 1 else {}))
    groups = [[known.get(str(unit), unit) for unit in group] for group in curation.get("mergeGroups", [])]
    return {
        "format_version": "2",
        "unit_ids": unit_ids,
        "label_definitions": {
            "sortingview": {"label_options": options, "exclusive": False},
            "quality": {"label_options": list(GROUPS), "exclusive": True},
        },
        "manual_labels": manual,
        "merges": [{"unit_ids": group} for group in groups],
    }


def _begin_labels(sorting: BaseSorting, steps: list, earlier: BaseSorting) -> list[str]:
    """Give units the earlier values of the labels that a curation may change, as text, which SpikeInterface can merge.

    Returns the labels of which a unit may have several: each is a property of its own, "True" or "False".
    """
    definitions = [each for step in steps for each in step.label_definitions.items()]
    flags = {name for _, each in definitions if not each.exclusive for name in each.label_options}
    for name in {category for category, each in definitions if each.exclusive} | flags:
        known = {} if name in COMPUTED else _by_unit(earlier, name)
        values = [known.get(unit, 0 if name in flags else "") for unit in sorting.unit_ids.tolist()]
        words = ["" if is_missing(each) else str(each == 1 if name in flags else each) for each in values]
        sorting.set_property(name, np.array(words, dtype=str))
    for name in MARKS:
        if name in earlier.get_property_keys():
            sorting.set_property(name, earlier.get_property(name) == 1)
    return sorted(flags)


def _set_labels(sorting: BaseSorting, step: Any) -> None:
    """Set the labels of a curation; units of which it does not name a category keep theirs, an empty list clears it."""
    from spikeinterface.curation.curation_format import curation_label_to_vectors

    vectors = curation_label_to_vectors(step)
    for category, definition in step.label_definitions.items():
        said = {each.unit_id for each in step.manual_labels if category in each.labels}
        for name in [category] if definition.exclusive else definition.label_options:
            words = _by_unit(sorting, name)
            given = zip(step.unit_ids, vectors[name].tolist(), strict=True)
            words |= {unit: str(word) or NO_LABEL.get(name, "") for unit, word in given if unit in said}
            sorting.set_property(name, np.array([words[unit] for unit in sorting.unit_ids.tolist()], dtype=str))


def _mark_changed(sorting: BaseSorting, before: BaseSorting) -> None:
    """Keep the marks of merged and split units: SpikeInterface marks those of its last step alone."""
    for name in MARKS:
        marked = {unit for each in (before, sorting) for unit, mark in _by_unit(each, name).items() if mark}
        if marked:
            sorting.set_property(name, np.array([unit in marked for unit in sorting.unit_ids.tolist()]))


def _segments_of(curated: Any, result: SortingResult) -> np.ndarray:
    """Segment of the result of each segment of a curated sorting, which may lack those at the end without spikes.

    Analyzers also lack segments that are shorter than a snippet; where lengths are known, segments are found by these.
    """
    num_found, num_expected = curated.get_num_segments(), result.sorting.get_num_segments()
    segments = np.arange(num_found)
    if isinstance(curated, SortingAnalyzer) or (num_found < num_expected and curated.has_recording()):
        segments, known = np.zeros(0, dtype="int64"), recording_samples(result)
        for index in range(num_found):
            later = [each for each in range(segments.max(initial=-1) + 1, num_expected)]
            segments = np.append(segments, [s for s in later if known[s] == curated.get_num_samples(index)][:1])
    if len(segments) < num_found or num_found > num_expected:
        raise ValueError(
            f"expected a sorting of the {num_expected} segments of this result, found {num_found} others; give a "
            "sorting of the same recording"
        )
    return segments


def _from_sorting(sorting: BaseSorting, segments: np.ndarray, earlier: BaseSorting) -> CuratedSorting:
    """Spikes, labels and further properties of a sorting."""
    if sorting.get_sampling_frequency() != earlier.get_sampling_frequency():
        raise ValueError(
            f"expected a sorting of {earlier.get_sampling_frequency()!r} Hz, found "
            f"{sorting.get_sampling_frequency()!r} Hz; give a sorting of the same recording"
        )
    spikes = sorting.to_spike_vector().copy()
    spikes["segment_index"] = segments[spikes["segment_index"]]
    labels, groups = (_by_unit(sorting, name) for name in ("quality", "group"))
    labels = {unit: str(label) for unit, label in labels.items()}
    return replace(_with_spikes(spikes, sorting.unit_ids, labels, further_properties(sorting)), groups=groups)


def further_properties(sorting: BaseSorting) -> dict[str, np.ndarray]:
    """Properties of units beside those that a result computes.

    Parameters
    ----------
    sorting : BaseSorting

    Returns
    -------
    dict of str to ndarray, (num_units, ...)
        Without objects, which cannot be saved.
    """
    names = set(sorting.get_property_keys()) - COMPUTED
    return {name: without_objects(sorting.get_property(name)) for name in names}


def _by_unit(sorting: BaseSorting, name: str) -> dict:
    values = sorting.get_property(name)
    return {} if values is None else dict(zip(sorting.unit_ids.tolist(), values.tolist(), strict=True))


def _with_spikes(
    spikes: np.ndarray, unit_ids: np.ndarray, labels: dict, properties: dict[str, np.ndarray]
) -> CuratedSorting:
    """Leave out units without spikes and labels that say nothing; put the spikes in order."""
    kept, numbers = np.unique(spikes["unit_index"], return_inverse=True)
    spikes = spikes[np.lexsort((numbers, spikes["sample_index"], spikes["segment_index"]))]
    spikes["unit_index"] = np.searchsorted(kept, spikes["unit_index"])
    plain = {unit: plain_label(label) for unit, label in labels.items()}
    labels = {unit: label for unit, label in plain.items() if not is_missing(label)}
    return CuratedSorting(spikes, unit_ids[kept], labels, {name: values[kept] for name, values in properties.items()})


def _read_phy(folder: Path, earlier: BaseSorting) -> CuratedSorting:
    """Spikes and labels of a phy folder, whose params.py SpikeInterface would execute."""
    if earlier.get_num_segments() != 1:
        raise ValueError(
            f"expected a result of one segment, as phy has it, found {earlier.get_num_segments()}; curate with "
            "SpikeInterface's tools"
        )
    samples, clusters = read_phy_spikes(folder)
    columns = dict(read_phy_columns(folder))
    clusters, units = np.unique(clusters, return_inverse=True)
    unit_ids = unit_ids_of_clusters(clusters, columns.get("si_unit_id", {}))
    spikes = np.zeros(len(samples), dtype=minimum_spike_dtype)
    spikes["sample_index"], spikes["unit_index"] = samples, units
    kinds = {name: values.dtype.kind for name, values in further_properties(earlier).items()}
    labels: dict = {}
    found: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        column = [values.get(cluster, "") for cluster in clusters.tolist()]
        kind = kinds.get(name, "new")
        if kind == "b":
            column = [FLAGS.get(each, each) for each in column]
        if name == "group":
            labels = dict(zip(unit_ids.tolist(), column, strict=True))
        elif name in PHY_COLUMNS or kind in "cmMV" or (not any(column) and (values or kind == "new")):
            continue
        elif kind in "SU" or not all(map(_is_number, column)):
            found[name] = np.array(column, dtype=str)
        elif kind != "new":
            numbers[name] = np.array([float(each or "nan") for each in column])
        elif _is_added(folder, name):
            found[name] = np.array([float(each or "nan") for each in column])
    return replace(_with_spikes(spikes, unit_ids, labels, found), numbers=numbers)


def _is_added(folder: Path, name: str) -> bool:
    """Whether a column was added to a phy folder after the export; numbers that the export wrote are metrics."""
    path, exported = folder / f"cluster_{name}.tsv", folder / FILES_LIST
    return path.is_file() and exported.is_file() and f'"{path.name}"' not in exported.read_text(encoding="utf8")


def _is_number(text: str) -> bool:
    """Whether a cell is a number or empty."""
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
