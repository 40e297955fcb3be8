"""An NWB file of the units, by neuroconv: spike times, templates, properties, electrodes, embeddings, posteriors."""

from __future__ import annotations

import copy
import uuid
from datetime import datetime
from pathlib import Path

import numpy as np

from .analyzer import build_analyzer, check_new, check_pair

EXTENSIONS = ("random_spikes", "templates")
DESCRIPTIONS = {
    "main_channel_id": "Channel on which the unit's mean waveform is largest.",
    "snr": "Trough of the mean waveform over the noise level (median absolute deviation / 0.6745) of its channel.",
    "peak_uv": "Trough of the mean waveform on its main channel, in uV.",
    "num_spikes": "Number of spikes.",
    "refractory_violations": "Share of the unit's intervals between spikes that are shorter than 1.5 ms.",
    "isolation": "Mean posterior probability of the unit's spikes.",
    "presence": "Share of stretches of a minute (or of tenths of a shorter recording) in which the unit fires.",
    "quality": "'good' where isolation is at least 0.9 and refractory violations are at most 0.01, otherwise 'mua'.",
}
PLACES = ("rel_x", "rel_y", "rel_z")
POSTERIOR = "Probability that each spike is of this unit, given its embedding."
EMBEDDING = "Embedding of each spike by the HuiduRep encoder."


def export_to_nwb(
    result, recording, path, *, session_start_time: datetime, metadata: dict | None = None, overwrite: bool = False
) -> Path:
    """Write an NWB file (HDF5) with a units table and the electrodes of the recording; no traces.

    Parameters
    ----------
    result : SortingResult
    recording : BaseRecording
        The raw recording that was sorted. Where it knows its times, spike times are in them.
    path : str or Path
        File to write, ending in .nwb.
    session_start_time : datetime
        When the recording began, with its time zone.
    metadata : dict, optional
        As neuroconv takes it: sections NWBFile, Subject, Devices, Ecephys.
    overwrite : bool
        Replace a file there.

    Returns
    -------
    Path

    Raises
    ------
    FileExistsError
        Something is there already.
    ImportError
        neuroconv is not installed.
    TypeError, ValueError
        As `build_analyzer`; not a date with its time zone; segments whose times overlap; a path not ending in .nwb.
    """
    path = Path(path)
    _check_request(path, session_start_time, metadata)
    check_new(path, overwrite=overwrite)
    check_pair(result, recording)
    _check_times(recording)
    tools = _import_neuroconv().tools
    nwbfile = tools.nwb_helpers.make_nwbfile_from_metadata(_describe_session(result, session_start_time, metadata))
    tools.spikeinterface.add_recording_metadata_to_nwbfile(
        _with_places(recording), nwbfile=nwbfile, metadata=_describe_electrodes(metadata)
    )
    sorting = result.sorting.select_units(result.sorting.unit_ids)  # a view: the result's own stays as it is
    sorting.register_recording(recording)
    tools.spikeinterface.add_sorting_to_nwbfile(
        sorting,
        nwbfile,
        property_descriptions=DESCRIPTIONS,
        skip_properties=["group"],  # units name their electrode group below, as NWB has it
        units_description=_describe_units(result),
        waveform_data_dict=_templates(result, recording),
        unit_electrode_indices=[list(range(recording.get_num_channels()))] * sorting.get_num_units(),
    )
    _add_electrode_groups(nwbfile, result, recording)
    _add_spike_columns(nwbfile.units, result)
    _write(nwbfile, path, tools.nwb_helpers)
    return path


def read_metadata(path) -> dict:
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
        Nothing at `path`.
    ImportError
        neuroconv is not installed.
    ValueError
        Not such a file.
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


def _import_neuroconv():
    """neuroconv, with the modules that are used."""
    try:
        import neuroconv.tools.nwb_helpers
        import neuroconv.tools.spikeinterface
        import neuroconv.utils
    except ImportError as error:
        raise ImportError(
            f"expected neuroconv, which writes NWB, found none ({error}); pip install huidurep[nwb]"
        ) from error
    return neuroconv


def _write(nwbfile, path: Path, nwb_helpers) -> None:
    """Write under another name first: an interrupted export leaves no half file, and an earlier one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial.nwb")
    try:
        nwb_helpers.configure_and_write_nwbfile(nwbfile, partial, backend="hdf5")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_request(path: Path, session_start_time, metadata) -> None:
    """Refuse, before any work, what no NWB file can be written for."""
    if path.suffix != ".nwb":
        raise ValueError(f"expected a file ending in .nwb, found {path.name!r}; rename it")
    if not isinstance(session_start_time, datetime):
        raise TypeError(
            f"expected session_start_time as a datetime, found {session_start_time!r}; when the recording began, as in "
            'datetime.fromisoformat("2026-03-31T14:00:00+02:00")'
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


def _check_times(recording) -> None:
    """Refuse segments that would lie over one another in the file's one clock."""
    end = -np.inf
    for segment_index in range(recording.get_num_segments()):
        if recording.get_num_samples(segment_index) == 0:
            continue
        start = recording.get_start_time(segment_index)
        if start < end:
            raise ValueError(
                f"expected segments one after the other, found that segment {segment_index} starts at {start:g} s, "
                f"before {end:g} s where an earlier one ends; say when it began with recording.shift_times(seconds, "
                f"segment_index={segment_index}), or sort spikeinterface.concatenate_recordings([recording])"
            )
        end = recording.get_end_time(segment_index)


def _describe_session(result, session_start_time: datetime, metadata: dict | None) -> dict:
    """Metadata for neuroconv with what it has to have; what was given goes first."""
    described = copy.deepcopy(metadata or {})
    described["NWBFile"] = {
        "session_description": "Extracellular recording, spike sorted.",
        "identifier": str(uuid.uuid4()),
        **described.get("NWBFile", {}),
        "session_start_time": session_start_time,
    }
    return described


def _describe_electrodes(metadata: dict | None) -> dict:
    """Metadata for neuroconv with descriptions of the columns of `_with_places`; what was given goes first."""
    described = copy.deepcopy(metadata or {})
    ecephys = described.setdefault("Ecephys", {})
    given = ecephys.get("Electrodes", [])
    known = {column["name"] for column in given}
    missing = [name for name in PLACES if name not in known]
    columns = [
        {"name": name, "description": f"Place of the contact on the probe, {name[-1]} in um."} for name in missing
    ]
    ecephys["Electrodes"] = [*given, *columns]
    return described


def _describe_units(result) -> str:
    from ..provenance import versions

    model = f"{result.model_name} {result.model_revision or ''}".strip()
    return f"Units of HuiduRep {versions()['huidurep']} (arXiv 2507.17224), checkpoint {model}; times of their troughs."


def _templates(result, recording) -> dict:
    """Mean and deviation (num_units, num_samples, num_channels) in volts; NaN on channels that were left out."""
    analyzer = build_analyzer(result, recording, extensions=EXTENSIONS)
    templates = analyzer.get_extension("templates")
    columns = recording.ids_to_indices(analyzer.channel_ids)
    filled = {}
    for name, operator in (("means", "average"), ("sds", "std")):
        measured_uv = templates.get_templates(operator=operator)
        filled[name] = np.full((*measured_uv.shape[:2], recording.get_num_channels()), np.nan, dtype="float32")
        filled[name][:, :, columns] = 1e-6 * measured_uv
    return {**filled, "sampling_rate": recording.get_sampling_frequency(), "unit": "volts"}


def _with_places(recording):
    """The recording with its contacts as the properties that NWB has for them: neuroconv 0.10 looks for "location"."""
    if not recording.has_probe() or "location" in recording.get_property_keys():  # SpikeInterface before 0.105
        return recording
    view = recording.select_channels(recording.channel_ids)
    places_um = recording.get_channel_locations(axes="xyz" if recording.has_3d_probe() else "xy")
    for name, values in zip(PLACES, places_um.T, strict=False):
        view.set_property(name, values)
    return view


def _add_electrode_groups(nwbfile, result, recording) -> None:
    """Electrode group of each unit's main channel."""
    rows = recording.ids_to_indices(result.sorting.get_property("main_channel_id"))
    groups = [nwbfile.electrodes["group"][int(row)] for row in rows]
    nwbfile.units.add_column("electrode_group", "Electrode group of the unit's main channel.", data=groups)


def _add_spike_columns(units, result) -> None:
    """Posterior and embedding of each spike, in the order of the unit's spike times."""
    labels = result.sorting.to_spike_vector()["unit_index"]
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=result.sorting.get_num_units()))
    units.add_column("spike_posteriors", POSTERIOR, data=result.posteriors[order], index=ends.tolist())
    units.add_column("spike_embeddings", EMBEDDING, data=result.embeddings[order], index=ends.tolist())
