"""Arrays of a result's folder, checked when they are read."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import NumpySorting
from spikeinterface.core.base import minimum_spike_dtype

from ..clustering.disk_arrays import iterate_blocks
from .aggregation import ARTIFACT_DTYPE
from .geometry import is_missing
from .postprocessing import UnitMeasurements, make_sorting
from .recorded_times import DAMAGED_ARRAY, describe_damage

MAX_SEGMENTS = 1_000_000  # a damaged or foreign file must not ask for more memory than there is
REMEDY = "copy the folder again or sort again"
REMEDY_MEASURED = "copy the folder again, or remove this file, which can be measured again"
ROUNDING = 1e-5  # of sums of probabilities in single precision
# Properties that every version computed, and numbers that no unit lacks; later ones may be NaN or missing.
REQUIRED = ("main_channel_id", "group")
NEVER_NAN = ("snr", "peak_uv", "short_isi_fraction", "mean_posterior", "presence_ratio")


def write_embeddings(path: Path, embeddings: np.ndarray) -> None:
    """Write embeddings as `numpy.save` does, block by block.

    Parameters
    ----------
    path : Path
        .npy file.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    """
    embeddings = np.ascontiguousarray(embeddings)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(embeddings))
        for _, block in iterate_blocks(embeddings):
            file.write(block.tobytes())


def check_parts(result: Any) -> None:
    """Refuse a result whose units were replaced: its other arrays are still those of the units before.

    Parameters
    ----------
    result : SortingResult

    Raises
    ------
    ValueError
        Other numbers of spikes or units.
    """
    num_spikes, num_units = len(result.sorting.to_spike_vector()), result.sorting.get_num_units()
    remedy = "give changed units to result.with_sorting(sorting)"
    if not len(result.embeddings) == len(result.posteriors) == num_spikes:
        raise ValueError(
            f"expected one embedding and one posterior a spike ({num_spikes}), found {len(result.embeddings)} and "
            f"{len(result.posteriors)}; {remedy}"
        )
    if result.measurements is not None and len(result.measurements.templates_uv) != num_units:
        found = len(result.measurements.templates_uv)
        raise ValueError(f"expected the templates of {num_units} units, found {found}; {remedy}")


def read_embeddings(path: Path, num_spikes: int) -> np.ndarray:
    """Embeddings of the spikes.

    Parameters
    ----------
    path : Path
    num_spikes : int

    Returns
    -------
    ndarray of float, (num_spikes, embedding_size)

    Raises
    ------
    ValueError
        A damaged file, another array, or numbers that are not finite.
    """
    embeddings = _load_floats(path, num_spikes, num_axes=2)
    if not np.isfinite(embeddings).all():
        raise ValueError(f"expected finite embeddings in {path}, found NaN or infinity; {REMEDY}")
    return embeddings


def read_posteriors(path: Path, num_spikes: int) -> np.ndarray:
    """Posteriors of the spikes.

    Parameters
    ----------
    path : Path
    num_spikes : int

    Returns
    -------
    ndarray of float, (num_spikes,)

    Raises
    ------
    ValueError
        A damaged file, another array, or numbers that are no probabilities.
    """
    posteriors = _load_floats(path, num_spikes, num_axes=1)
    wrong = posteriors[~((posteriors >= 0) & (posteriors <= 1 + ROUNDING))]
    if len(wrong):
        raise ValueError(
            f"expected posteriors from 0 to 1 in {path}, found {len(wrong)} others, the first {wrong[0]:g}; {REMEDY}"
        )
    return posteriors


def without_objects(values: np.ndarray) -> np.ndarray:
    """A property of units as it can be saved: objects, as of pandas, as numbers where they are, else as text.

    Parameters
    ----------
    values : ndarray

    Returns
    -------
    ndarray
        What is missing is NaN or empty text.
    """
    if values.dtype.kind != "O":
        return values
    plain = [None if is_missing(each) else each for each in values]
    if all(each is None or isinstance(each, Real) for each in plain):
        numbers = np.array([np.nan if each is None else each for each in plain])
        if numbers.dtype.kind != "O":  # as of whole numbers beyond 64 bits, and fractions
            return numbers
    return np.array(["" if each is None else str(each) for each in plain], dtype=str)


def read_units(folder: Path, info: dict) -> NumpySorting:
    """Units from their arrays alone.

    `spikeinterface.load` would call whatever class a file of the folder names, and unpickle properties: a folder that
    somebody sends could then run code.

    Parameters
    ----------
    folder : Path
        With spikes.npy and the folder properties.
    info : dict
        unit_ids, sampling_frequency in Hz and num_segments, as SpikeInterface writes them.

    Returns
    -------
    NumpySorting

    Raises
    ------
    ValueError
        Damaged files, or values that no sorting has.
    """
    try:
        spikes = np.load(folder / "spikes.npy", allow_pickle=False)
        properties = {
            path.stem: np.load(path, allow_pickle=False) for path in sorted((folder / "properties").glob("*.npy"))
        }
        sampling_frequency, num_segments = float(info["sampling_frequency"]), int(info["num_segments"])
        unit_ids = np.array(info["unit_ids"])
        if not (0 < num_segments <= MAX_SEGMENTS and 0 < sampling_frequency < np.inf):
            raise ValueError(f"{num_segments} segments of {sampling_frequency} Hz")
        if len(set(unit_ids.tolist())) != len(unit_ids):
            raise ValueError(f"the same unit ids twice in {unit_ids.tolist()}")
        others = {name: len(values) for name, values in properties.items() if len(values) != len(unit_ids)}
        if others:
            raise ValueError(f"{len(unit_ids)} units and properties of other lengths, {others}")
    except (*DAMAGED_ARRAY, KeyError, TypeError) as error:
        raise ValueError(
            f"expected the arrays of a sorting in {folder}, found {describe_damage(error)}; {REMEDY}"
        ) from error
    _check_spikes(spikes, len(unit_ids), num_segments, folder / "spikes.npy")
    sorting = make_sorting(spikes, sampling_frequency, unit_ids, num_segments)
    for name, values in properties.items():
        sorting.set_property(name, values)
    return sorting


def _check_spikes(spikes: np.ndarray, num_units: int, num_segments: int, path: Path) -> None:
    """Refuse what is no spike vector of these units, in order of time."""
    if spikes.dtype != np.dtype(minimum_spike_dtype) or spikes.ndim != 1:
        found = f"{spikes.dtype} {spikes.shape}"
        raise ValueError(f"expected SpikeInterface's spike vector in {path}, found {found}; {REMEDY}")
    samples, segments = spikes["sample_index"], spikes["segment_index"]
    wrong = {"samples before 0": samples < 0}
    for name, count in (("unit", num_units), ("segment", num_segments)):
        index = spikes[f"{name}_index"]
        wrong[f"numbers of {name}s that are not 0 to {count - 1}"] = (index < 0) | (index >= count)
    steps = np.diff(segments)
    wrong["steps back in time"] = (steps < 0) | ((steps == 0) & (np.diff(samples) < 0))
    for name, is_wrong in wrong.items():
        if is_wrong.any():
            found = f"{name} ({is_wrong.sum()})"
            raise ValueError(f"expected spikes of {num_units} units in {path}, found {found}; {REMEDY}")


def check_units(
    sorting: NumpySorting, folder: Path, num_samples: list[int] | None, measurements: UnitMeasurements | None
) -> None:
    """Refuse units that cannot be of the recording, or that lack what every unit has.

    Parameters
    ----------
    sorting : NumpySorting
        From `read_units`, with today's names of properties.
    folder : Path
        That it was read from.
    num_samples : list of int, (num_segments,) | None
        Of the recording, as the provenance has them; None: not known.
    measurements : UnitMeasurements | None
        Whose channels are those of the units; None: not known.

    Raises
    ------
    ValueError
        Spikes after the end of their segment; properties that are missing or NaN; an unknown main channel.
    """
    if num_samples is not None:
        _check_ends(sorting.to_spike_vector(), num_samples, sorting.get_num_segments(), folder / "spikes.npy")
    properties = {name: sorting.get_property(name) for name in (*REQUIRED, *NEVER_NAN)}
    is_computed = any(values is not None for values in properties.values())  # not in a result that was put together
    for name, values in properties.items():
        path = folder / "properties" / f"{name}.npy"
        if values is None and name in REQUIRED and is_computed:
            raise ValueError(f"expected the property {name!r} of all units in {path}, found no such file; {REMEDY}")
        if values is not None and name in NEVER_NAN and (values.dtype.kind not in "fiu" or np.isnan(values).any()):
            raise ValueError(f"expected a number for each unit in {path}, found NaN or no numbers; {REMEDY}")
    main = properties["main_channel_id"].tolist() if is_computed else []
    channels = main if measurements is None else measurements.channel_ids.tolist()
    unknown = [channel for channel in main if channel not in channels]
    if unknown:
        raise ValueError(
            f"expected main channels among {channels[:8]} ({len(channels)} in all) in "
            f"{folder / 'properties' / 'main_channel_id.npy'}, found {unknown[:8]}; {REMEDY}"
        )


def _check_ends(spikes: np.ndarray, num_samples: list[int], num_segments: int, path: Path) -> None:
    """Refuse spikes after the end of their segment."""
    if not isinstance(num_samples, list) or [type(each) for each in num_samples] != [int] * num_segments:
        raise ValueError(
            f"expected the num_samples of {num_segments} segments in the provenance of the result with {path}, found "
            f"{num_samples!r}; {REMEDY}"
        )
    outside = spikes[spikes["sample_index"] >= np.asarray(num_samples)[spikes["segment_index"]]]
    if len(outside):
        segment = int(outside["segment_index"][0])
        raise ValueError(
            f"expected spikes within the recording in {path}, found {len(outside)} after its end, the first at sample "
            f"{outside['sample_index'][0]} of segment {segment} of {num_samples[segment]} samples; {REMEDY}"
        )


def read_measurements(path: Path, num_spikes: int, num_units: int) -> UnitMeasurements | None:
    """Measurements of the units; None for folders of earlier versions, and without units.

    Parameters
    ----------
    path : Path
    num_spikes, num_units : int

    Returns
    -------
    UnitMeasurements | None

    Raises
    ------
    ValueError
        A damaged file, or arrays that do not fit these spikes and units.
    """
    try:
        measured = UnitMeasurements.load(path)
    except DAMAGED_ARRAY as error:
        found = describe_damage(error)
        raise ValueError(f"expected the arrays of a result in {path}, found {found}; {REMEDY_MEASURED}") from error
    if measured is None:
        return None
    shapes = _measured_shapes(measured, num_spikes, num_units)
    numbers = {"template_channels": (-1, len(measured.channel_ids)), "drawn_spikes": (0, num_spikes)}
    wrong = []
    for name, shape in shapes.items():
        array = getattr(measured, name)
        if array.shape != shape or (name != "channel_groups" and array.dtype.kind not in "fiu"):
            wrong.append(f"{name} {array.shape} of {array.dtype} instead of {shape}")
    for name, (first, end) in numbers.items():
        array = getattr(measured, name)
        if array is not None and array.size and not first <= array.min() <= array.max() < end:
            wrong.append(f"{name} from {array.min()} to {array.max()} instead of {first} to {end - 1}")
    if not wrong and not np.isfinite(measured.amplitudes_uv).all():
        wrong.append("amplitudes_uv that are NaN or infinite")
    if wrong:
        units = f"{num_spikes} spikes and {num_units} units"
        raise ValueError(f"expected measurements of {units} in {path}, found {', '.join(wrong)}; {REMEDY_MEASURED}")
    return measured


def _measured_shapes(measured: UnitMeasurements, num_spikes: int, num_units: int) -> dict[str, tuple]:
    """Shapes of the arrays of measurements."""
    num_channels, near = len(measured.channel_ids), measured.templates_uv.shape[2:]
    templates = (num_units, *measured.templates_uv.shape[1:])
    shapes = {
        "channel_groups": (num_channels,),
        "channel_positions_um": (num_channels, 2),
        "templates_uv": templates,
        "template_channels": (num_units, *near),
        "amplitudes_uv": (num_spikes,),
        "positions_um": (num_spikes, 2),
        "motion_um": (num_spikes,),
    }
    if measured.drawn_spikes is not None:
        shapes |= {"template_quantiles_uv": (2, *templates), "contact_peaks_uv": (len(measured.drawn_spikes), *near)}
    return shapes


def read_artifacts(path: Path) -> np.ndarray:
    """Periods of artefacts; none for folders of earlier versions.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ndarray of ARTIFACT_DTYPE, (num_periods,)

    Raises
    ------
    ValueError
        A damaged file or another array.
    """
    if not path.is_file():
        return np.zeros(0, dtype=ARTIFACT_DTYPE)
    periods = _load(path)
    if periods.dtype != ARTIFACT_DTYPE:
        raise ValueError(f"expected {ARTIFACT_DTYPE.names} in {path}, found {periods.dtype}; copy the folder again")
    return periods


def _load_floats(path: Path, num_spikes: int, *, num_axes: int) -> np.ndarray:
    """Floats with one row for each spike."""
    array = _load(path)
    if array.dtype.kind != "f" or array.ndim != num_axes:
        raise ValueError(f"expected {num_axes}-D floats in {path}, found {array.dtype} {array.shape}; {REMEDY}")
    if len(array) != num_spikes:
        raise ValueError(f"expected one row a spike ({num_spikes}) in {path}, found {len(array)}; {REMEDY}")
    return array


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except DAMAGED_ARRAY as error:
        raise ValueError(f"expected an array in {path}, found {describe_damage(error)}; {REMEDY}") from error
