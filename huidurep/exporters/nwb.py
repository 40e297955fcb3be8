"""An NWB file of the units, written by neuroconv: spikes, templates, properties, electrodes, embeddings, posteriors."""

from __future__ import annotations

import copy
import logging
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting

from ..output_files import check_output_file, new_file
from ..provenance import versions
from ..sorting.geometry import contact_positions_um, group_of_channels
from ..sorting.recorded_times import choose_times
from ..sorting.run_log import RunLog
from ..sorting.stored_arrays import check_parts, without_objects
from .analyzer import build_analyzer, check_exportable

if TYPE_CHECKING:
    from pynwb import NWBFile

    from ..result import SortingResult

logger = logging.getLogger(__name__)
EXTENSIONS = ("random_spikes", "templates")
DESCRIPTIONS = {
    "main_channel_id": "Channel on which the unit's mean waveform is largest.",
    "snr": "Peak of the mean waveform over the noise level (median absolute deviation / 0.6745) of its main channel.",
    "peak_uv": "Peak (trough for negative spikes) of the mean waveform on its main channel, in uV.",
    "peak_sign": "'neg' where the unit's spikes point down, 'pos' where they point up.",
    "num_spikes": "Number of spikes.",
    "short_isi_fraction": "Share of the unit's inter-spike intervals below 1.5 ms.",
    "isi_violations_ratio": "Contamination estimated from inter-spike intervals below 1.5 ms (Hill et al. 2011).",
    "mean_posterior": "Mean posterior probability of the unit's spikes.",
    "presence_ratio": "Share of minutes (of tenths of recordings below ten minutes) in which the unit fires.",
    "contamination": "Share of foreign spikes estimated from intervals below 2 ms (Llobet et al. 2022).",
    "contamination_p_value": "Probability of as many such intervals if 10 % of the spikes were foreign.",
    "amplitude_cutoff": "Estimated share of spikes missing at small amplitudes; NaN below 500 spikes.",
    "neighbour_share": "Largest share of its spikes' neighbours in the embedding that belong to one other unit.",
    "template_distance": "Smallest distance from the mean waveform of another unit, in noise levels; NaN for none.",
    "neuron": "Number of the neuron, the same in all sessions in which huidurep.track found it; -1: noise.",
    "quality": "'good' where the unit passes every test, otherwise 'mua' (multi-unit activity).",
    "quality_reason": "The tests that the unit failed; empty for good units.",
    "machine_quality": "'good' or 'mua' by the tests, whatever a curator said.",
    "is_curated": "Whether a curator gave the label.",
}
SECTIONS = ("NWBFile", "Subject", "Devices", "Ecephys")  # of neuroconv's metadata
YEAR_S = 365.0 * 86400
UNITS = "Units of HuiduRep"  # begins the description of the units table
POSITIONS = ("rel_x", "rel_y", "rel_z")
POSTERIOR = "Posterior probability of this unit for each of its spikes, given the embedding."
EMBEDDING = "Embedding of each spike by the HuiduRep encoder."
SPIKE_COLUMNS = ("spike_posteriors", "spike_embeddings")


def export_to_nwb(
    result: SortingResult,
    recording: BaseRecording,
    path: str | Path,
    *,
    session_start_time: datetime,
    metadata: dict | None = None,
    overwrite: bool = False,
    job_kwargs: dict | None = None,
) -> Path:
    """Write an NWB file (HDF5) with a units table and the electrodes of the recording, without traces.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording
        The raw recording that was sorted. Spike times are in its times, or those of the result where it has none.
    path : str or Path
        File to write, ending in .nwb.
    session_start_time : datetime
        Start of the recording with its time zone.
    metadata : dict, optional
        As neuroconv reads it: sections NWBFile, Subject, Devices, Ecephys.
    overwrite : bool
        Replace an earlier conversion; refused for other files, which may be the raw data.
    job_kwargs : dict, optional
        SpikeInterface's n_jobs, chunk_duration, progress_bar and so on.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileExistsError
        The file exists, or is no earlier conversion.
    ImportError
        neuroconv is not installed.
    TypeError, ValueError
        As `build_analyzer`; not a date with its time zone; segments whose times overlap; a path not ending in .nwb.
    """
    path = Path(path)
    _check_arguments(path, session_start_time, metadata)
    check_output_file(path, overwrite=overwrite)
    _check_is_conversion(path)
    check_exportable(result, recording)
    check_parts(result)
    _check_times(choose_times(result.sorting, recording))
    nwbfile = _make_nwbfile(result, recording, session_start_time, metadata, job_kwargs)
    with new_file(path, overwrite=overwrite) as partial:
        _import_neuroconv().tools.nwb_helpers.configure_and_write_nwbfile(nwbfile, partial, backend="hdf5")
    return path


def _make_nwbfile(
    result: SortingResult,
    recording: BaseRecording,
    session_start_time: datetime,
    metadata: dict | None,
    job_kwargs: dict | None,
) -> NWBFile:
    """Session, electrodes and units in memory."""
    tools = _import_neuroconv().tools
    nwbfile = _make_session(tools, session_start_time, metadata)
    tools.spikeinterface.add_recording_metadata_to_nwbfile(
        _with_positions(recording), nwbfile=nwbfile, metadata=_describe_electrodes(metadata)
    )
    sorting = _with_columns(result.sorting)
    sorting.register_recording(choose_times(result.sorting, recording))
    tools.spikeinterface.add_sorting_to_nwbfile(
        sorting,
        nwbfile,
        property_descriptions=DESCRIPTIONS,
        skip_properties=_skipped_properties(sorting),
        units_description=_describe_units(result),
        waveform_data_dict=_templates(result, recording, job_kwargs),
        unit_electrode_indices=[list(range(recording.get_num_channels()))] * sorting.get_num_units(),
    )
    _add_electrode_groups(nwbfile, result, recording)
    _add_spike_columns(nwbfile.units, result)
    return nwbfile


def _make_session(tools: Any, session_start_time: datetime, metadata: dict | None) -> NWBFile:
    try:
        return tools.nwb_helpers.make_nwbfile_from_metadata(_describe_session(session_start_time, metadata))
    except Exception as error:
        if type(error).__name__ != "ValidationError":  # of jsonschema, which neuroconv brings
            raise
        where = ".".join(map(str, getattr(error, "absolute_path", ())))
        raise ValueError(
            f"expected metadata as NWB defines it, found in {where or 'metadata'}: {getattr(error, 'message', error)}; "
            "correct it"
        ) from error


def _skipped_properties(sorting: BaseSorting) -> list[str]:
    """Properties that are no column: groups and other units, which are said otherwise, and what nothing is known of."""
    values = {name: sorting.get_property(name) for name in sorting.get_property_keys()}
    unknown = [name for name, column in values.items() if column.dtype.kind == "f" and np.isnan(column).all()]
    # NWB's column electrode_group is added; the reason of a label names the overlapping unit
    return ["group", "overlapping_unit", *unknown]


def read_metadata(path: str | Path) -> dict:
    """Read metadata for `export_to_nwb`.

    Parameters
    ----------
    path : str or Path
        JSON or YAML file.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ImportError
        neuroconv is not installed.
    ValueError
        Not a JSON or YAML file with names and values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a JSON or YAML file of metadata, found none at {path}; correct the path")
    if path.suffix not in (".json", ".yml", ".yaml"):
        raise ValueError(f"expected a file ending in .json, .yml or .yaml, found {path.name!r}; rename it")
    neuroconv = _import_neuroconv()
    import yaml

    try:
        found = neuroconv.utils.load_dict_from_file(path)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"expected JSON or YAML in {path}, found {error}; correct the file") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"expected names and values in {path}, found {type(found).__name__}; write sections such as Subject"
        )
    return found


def _import_neuroconv() -> Any:
    """Import neuroconv with the modules that are used."""
    try:
        import neuroconv.tools.nwb_helpers
        import neuroconv.tools.spikeinterface
        import neuroconv.utils
    except ImportError as error:
        raise ImportError(
            f"expected neuroconv, which writes NWB, found none ({error}); pip install huidurep[nwb]"
        ) from error
    return neuroconv


def _check_arguments(path: Path, session_start_time: datetime, metadata: dict | None) -> None:
    """Check the arguments before any computation."""
    if path.suffix != ".nwb":
        raise ValueError(f"expected a file ending in .nwb, found {path.name!r}; rename it")
    if not isinstance(session_start_time, datetime):
        raise TypeError(
            f"expected session_start_time as a datetime, found {session_start_time!r}; give the start of the "
            'recording, as in datetime.fromisoformat("2026-03-31T14:00:00+02:00")'
        )
    if session_start_time.tzinfo is None:
        raise ValueError(
            f"expected session_start_time with its time zone, found {session_start_time.isoformat()!r}; add it, as in "
            'session_start_time.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))'
        )
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError(
            f"expected metadata as a dict such as {{'Subject': {{...}}}}, found {type(metadata).__name__}; change it"
        )
    for name in ("NWBFile", "Subject", "Ecephys"):
        if not isinstance((metadata or {}).get(name, {}), dict):
            raise TypeError(
                f"expected names and values in metadata[{name!r}], found {(metadata or {})[name]!r}; change it"
            )
    columns = (metadata or {}).get("Ecephys", {}).get("Electrodes", [])
    if not isinstance(columns, list) or not all(isinstance(each, dict) and "name" in each for each in columns):
        raise TypeError(
            "expected a list of columns with name and description in metadata['Ecephys']['Electrodes'], found "
            f"{columns!r}; change it"
        )
    unused = sorted(map(str, set(metadata or {}) - set(SECTIONS)))
    if unused:
        logger.warning("sections of the metadata that are not used: %s; used are %s", unused, list(SECTIONS))


def _check_is_conversion(path: Path) -> None:
    """Refuse to overwrite an NWB file of others: it may hold the raw data, and no copy of them need exist."""
    if not path.exists():
        return
    _import_neuroconv()
    import h5py  # comes with neuroconv

    try:
        with h5py.File(path, "r") as file:
            is_own = str(file["units"].attrs["description"]).startswith(UNITS) and not len(file["acquisition"])
    except (OSError, KeyError):
        is_own = False
    if not is_own:
        raise FileExistsError(
            f"expected an earlier conversion by this package, found another file at {path}, which may hold data of its "
            "own; choose another name, or remove it yourself"
        )


def _check_times(recording: BaseRecording) -> None:
    """Refuse segments whose times overlap, as NWB has one time axis for all, and times that count from another date."""
    if abs(recording.get_start_time(0)) > YEAR_S:
        raise ValueError(
            f"expected times in seconds from session_start_time, found that the recording starts at "
            f"{recording.get_start_time(0):.0f} s, as clocks of computers count; shift it with recording.shift_times, "
            "so that the session starts at 0"
        )
    end = -np.inf
    for segment_index in range(recording.get_num_segments()):
        if recording.get_num_samples(segment_index) == 0:  # has no end time
            continue
        start = recording.get_start_time(segment_index)
        if start < end:
            raise ValueError(
                f"expected segments one after the other, found that segment {segment_index} starts at {start:g} s, "
                f"before {end:g} s, the end of an earlier one; set its start with recording.shift_times(seconds, "
                f"segment_index={segment_index}), or sort spikeinterface.concatenate_recordings([recording])"
            )
        end = recording.get_end_time(segment_index)


def _describe_session(session_start_time: datetime, metadata: dict | None) -> dict:
    """Metadata for neuroconv with the required fields; the user's values take precedence."""
    described = copy.deepcopy(metadata or {})
    described["NWBFile"] = {
        "session_description": "Extracellular recording, spike sorted.",
        "identifier": str(uuid.uuid4()),
        **described.get("NWBFile", {}),
        "session_start_time": session_start_time,
    }
    return described


def _describe_electrodes(metadata: dict | None) -> dict:
    """Metadata for neuroconv with descriptions of contact positions; the user's values take precedence."""
    described = copy.deepcopy(metadata or {})
    ecephys = described.setdefault("Ecephys", {})
    given = ecephys.get("Electrodes", [])
    known = {column["name"] for column in given}
    missing = [name for name in POSITIONS if name not in known]
    columns = [
        {"name": name, "description": f"Position of the contact on the probe, {name[-1]} in um."} for name in missing
    ]
    ecephys["Electrodes"] = [*given, *columns]
    return described


def _describe_units(result: SortingResult) -> str:
    model = f"{result.model_name} {result.model_revision or ''}".strip()
    return f"{UNITS} {versions()['huidurep']} (arXiv 2507.17224), checkpoint {model}; times of troughs."


def _templates(result: SortingResult, recording: BaseRecording, job_kwargs: dict | None) -> dict:
    """Mean and standard deviation (num_units, num_samples, num_channels) in volts; NaN on bad channels."""
    analyzer = build_analyzer(result, recording, extensions=EXTENSIONS, job_kwargs=job_kwargs)
    templates = analyzer.get_extension("templates")
    columns = recording.ids_to_indices(analyzer.channel_ids)
    # neuroconv expects all channels of the recording, the analyzer has only good ones
    filled: dict[str, np.ndarray] = {}
    for name, operator in (("means", "average"), ("sds", "std")):
        measured_uv = templates.get_templates(operator=operator)
        filled[name] = np.full((*measured_uv.shape[:2], recording.get_num_channels()), np.nan, dtype="float32")
        filled[name][:, :, columns] = 1e-6 * measured_uv
    return {**filled, "sampling_rate": recording.get_sampling_frequency(), "unit": "volts"}


def _with_positions(recording: BaseRecording) -> BaseRecording:
    """The recording with positions in um as NWB's channel properties, and with the groups that were sorted."""
    view = recording.select_channels(recording.channel_ids)
    if recording.get_property("group") is not None:  # NaN and None are no names of electrode groups
        view.set_property("group", group_of_channels(recording, RunLog()))
    for name in ("group", "group_name"):  # neuroconv takes the second one where there are both
        groups = view.get_property(name)
        if groups is not None and groups.dtype.kind in "OSU":
            view.set_property(name, _nwb_names(groups.astype(str)))
    if recording.has_probe():
        positions_um = contact_positions_um(recording, axes="xyz" if recording.has_3d_probe() else "xy")
        for name, values in zip(POSITIONS, positions_um.T, strict=False):
            view.set_property(name, values)
    return view


def _with_columns(sorting: BaseSorting) -> BaseSorting:
    """The units with properties that can be columns: allowed names, numbers and text."""
    from pynwb.misc import Units

    # of the table itself, of its columns that NWB defines, and of columns that are added
    taken = {*dir(Units), *(each["name"] for each in Units.__columns__), "unit_name", *SPIKE_COLUMNS, ""}
    view = sorting.select_units(sorting.unit_ids)  # the result is not changed
    names = view.get_property_keys()
    free = [f"{name} (property)" if name in taken else name for name in names]
    for name, allowed in zip(names, _nwb_names(np.array(free)).tolist(), strict=True):
        values = without_objects(view.get_property(name))
        if values.dtype.kind in "mMcV":  # HDF5 has neither dates nor durations, NWB neither complex numbers nor records
            # what is missing is not equal to itself
            words = ["" if each.dtype.kind != "V" and each != each else str(each) for each in values.ravel()]
            values = np.array(words, dtype=str).reshape(values.shape)
        view.delete_property(name)
        view.set_property(allowed, values)
    return view


def _nwb_names(names: np.ndarray) -> np.ndarray:
    """Names of objects and columns, which in NWB have neither "/" nor ":"; different ones stay different."""
    allowed: dict[str, str] = {}
    for name in np.unique(names).tolist():
        new = name.replace("/", "-").replace(":", "-")
        allowed[name] = new if new not in allowed.values() else f"{new} ({len(allowed)})"
    return np.array([allowed[name] for name in names.tolist()])


def _add_electrode_groups(nwbfile: Any, result: SortingResult, recording: BaseRecording) -> None:
    """Add the electrode group of each unit's main channel."""
    rows = recording.ids_to_indices(result.sorting.get_property("main_channel_id"))
    groups = [nwbfile.electrodes["group"][int(row)] for row in rows]
    nwbfile.units.add_column("electrode_group", "Electrode group of the unit's main channel.", data=groups)


def _add_spike_columns(units: Any, result: SortingResult) -> None:
    """Add posterior and embedding of each spike, in the order of the unit's spike times."""
    labels = result.sorting.to_spike_vector()["unit_index"]
    order = np.argsort(labels, kind="stable")  # a stable sort keeps the order of time within units
    ends = np.cumsum(np.bincount(labels, minlength=result.sorting.get_num_units()))
    units.add_column(SPIKE_COLUMNS[0], POSTERIOR, data=result.posteriors[order], index=ends.tolist())
    units.add_column(SPIKE_COLUMNS[1], EMBEDDING, data=result.embeddings[order], index=ends.tolist())
