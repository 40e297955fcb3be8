"""Checks of OUTPUT before any work, and readers of recordings, probes, sortings, arrays and settings."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from .options import RecordingOptions
from .trusted import check_runs_no_code

SI_SUFFIXES = (".json", ".pkl", ".pickle", ".zarr")
TETRODE_DISTANCE_UM = 300.0  # beyond the reach of a spike: no spike is looked for on two tetrodes


def check_output(
    output: Path,
    *,
    overwrite: bool = False,
    input_path: Path | None = None,
    is_replaced: bool = True,
    mark: str = "huidurep.json",
) -> None:
    """Check that a command can write the folder OUTPUT.

    Parameters
    ----------
    output : Path
        Folder that the command writes later.
    overwrite : bool
        Accept an earlier result of this package.
    input_path : Path | None
        What the command reads.
    is_replaced : bool
        The command writes a new folder beside OUTPUT and renames it, rather than files into OUTPUT.
    mark : str
        Name of the file by which an earlier result is recognised.

    Raises
    ------
    FileExistsError
        OUTPUT is not empty, or a file.
    NotADirectoryError, PermissionError
        From `check_writable`.
    ValueError
        INPUT lies in OUTPUT.
    """
    from ..output_files import check_output_folder

    if input_path is not None and input_path.resolve().is_relative_to(output.resolve()):
        raise ValueError(f"expected OUTPUT apart from INPUT, found {input_path} inside {output}: name another OUTPUT.")
    check_output_folder(output, overwrite=overwrite, mark=mark)
    check_writable(output.absolute().parent if is_replaced and not os.path.ismount(output) else output)


def check_writable(folder: Path) -> None:
    """Check that a folder can be written or created, by writing a temporary folder.

    Parameters
    ----------
    folder : Path
        The nearest existing folder on its path is tested.

    Raises
    ------
    NotADirectoryError
        A file on its path.
    PermissionError
        The folder cannot be written.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"expected a folder at {nearest}, found a file: name another OUTPUT.")
    try:
        tempfile.TemporaryDirectory(dir=nearest).cleanup()
    except OSError as error:
        raise PermissionError(
            f"expected permission to write in {nearest}, found: {error.strerror}; name another OUTPUT."
        ) from error


def read_recording(path: Path, options: RecordingOptions):
    """Open INPUT as a SpikeInterface recording.

    Parameters
    ----------
    path : Path
        What spikeinterface.load reads, or a file of raw samples (time x channel).
    options : RecordingOptions
        Format of raw samples, gains and probe.

    Returns
    -------
    BaseRecording

    Raises
    ------
    FileNotFoundError
        No file or folder at `path`.
    ValueError
        Not a recording, or options that are missing or do not fit the file or the channels.
    """
    if not path.exists():
        raise FileNotFoundError(f"expected a recording at {path}, found nothing: correct the path.")
    raw: dict[str, Any] = {name: getattr(options, name) for name in ("sampling_frequency", "num_channels", "dtype")}
    missing = [f"--{name.replace('_', '-')}" for name, value in raw.items() if value is None]
    if len(missing) == len(raw):
        recording = _load_recording(path, options)
    elif missing:
        raise ValueError(f"expected all options of raw binary, found none of {', '.join(missing)}: add them.")
    else:
        recording = _read_raw(path, **raw, options=options)
    return recording if options.probe is None else attach_probe(recording, options.probe)


def _load_recording(path: Path, options: RecordingOptions):
    import spikeinterface

    from ..exporters.curated import describe_load_error

    if path.is_file() and path.suffix not in SI_SUFFIXES:
        raise ValueError(
            f"expected a folder or a {', '.join(SI_SUFFIXES)} that spikeinterface.load reads, found the file {path}: "
            "raw binary needs --sampling-frequency, --num-channels and --dtype."
        )
    if options.gain_to_uv is not None or options.offset_to_uv is not None:
        raise ValueError("expected --gain-to-uv and --offset-to-uv for raw binary only: INPUT has its own; omit them.")
    if not options.allow_pickle:
        check_runs_no_code(path, options.trust_package or ())
    try:
        loaded = spikeinterface.load(path, **(dict(base_folder=path.parent) if path.is_file() else {}))
    except Exception as error:  # spikeinterface raises many classes for other folders
        raise ValueError(
            f"expected what spikeinterface.load reads, found {describe_load_error(error)} at {path}: save the "
            "recording with recording.save(folder=...), or pass raw binary with its options."
        ) from error
    if not isinstance(loaded, spikeinterface.BaseRecording):
        raise ValueError(f"expected a recording in {path}, found {type(loaded).__name__}: pass the recording's folder.")
    return loaded


def _read_raw(path: Path, sampling_frequency: float, num_channels: int, dtype: str, options: RecordingOptions):
    import numpy as np
    import spikeinterface

    if not path.is_file():
        raise ValueError(f"expected a file of raw samples, found the folder {path}: omit the options of raw binary.")
    try:
        sample_type = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"expected a numpy type such as int16 or float32, found --dtype {dtype!r}.") from error
    if options.gain_to_uv is None and options.offset_to_uv is not None:
        raise ValueError("expected --gain-to-uv with --offset-to-uv, found none: add it (1 where samples are uV).")
    frame_bytes, file_bytes = num_channels * sample_type.itemsize, path.stat().st_size
    if file_bytes % frame_bytes:
        raise ValueError(
            f"expected a whole number of frames of {frame_bytes} bytes ({num_channels} channels of {sample_type}), "
            f"found {file_bytes} bytes in {path}: check --num-channels and --dtype."
        )
    if file_bytes == 0:  # an empty file cannot be memory-mapped
        empty = np.zeros((0, num_channels), sample_type)
        recording = spikeinterface.NumpyRecording([empty], sampling_frequency)
    else:
        recording = spikeinterface.BinaryRecordingExtractor(
            [path], sampling_frequency, sample_type, num_channels=num_channels
        )
    if options.gain_to_uv is not None:
        recording.set_channel_gains(options.gain_to_uv)
        recording.set_channel_offsets(options.offset_to_uv or 0.0)
    return recording


def attach_probe(recording, probe: str):
    """Attach tetrodes or the probe of a file to a recording.

    Parameters
    ----------
    recording : BaseRecording
    probe : str
        "tetrode": every four channels, in order, are a tetrode. Otherwise the path of a probeinterface JSON file.

    Returns
    -------
    BaseRecording
        The same recording; with SpikeInterface before 0.105 a copy.

    Raises
    ------
    ValueError
        A number of channels that is not a multiple of 4, a missing or foreign file, or a probe whose number of wired
        contacts is not the number of channels.
    """
    group = _tetrodes(recording.get_num_channels()) if probe == "tetrode" else _read_probe(probe)
    wired = [each.device_channel_indices for each in group.probes if each.device_channel_indices is not None]
    num_wired = sum(int((indices >= 0).sum()) for indices in wired)
    if num_wired != recording.get_num_channels():
        raise ValueError(
            f"expected a probe with {recording.get_num_channels()} wired contacts, found {num_wired} in {probe}: set "
            "the contacts' device_channel_indices to the columns of the recording."
        )
    attached = recording.set_probegroup(group)
    return recording if attached is None else attached


def _tetrodes(num_channels: int):
    import probeinterface

    from ..models.input_contract import nominal_positions

    if num_channels % 4:
        raise ValueError(f"expected a multiple of 4 channels for tetrodes, found {num_channels}: use a probe file.")
    group = probeinterface.ProbeGroup()
    for first in range(0, num_channels, 4):
        tetrode = probeinterface.Probe(ndim=2, si_units="um")
        tetrode.set_contacts(nominal_positions(4), shapes="circle", shape_params={"radius": 6})
        tetrode.move([first // 4 * TETRODE_DISTANCE_UM, 0.0])
        tetrode.set_device_channel_indices(range(first, first + 4))
        group.add_probe(tetrode)
    return group


def _read_probe(path: str):
    import probeinterface

    if not Path(path).is_file():
        raise ValueError(f"expected 'tetrode' or a probeinterface JSON file as probe, found {path!r}: correct it.")
    try:
        return probeinterface.read_probeinterface(path)
    except Exception as error:  # the JSON reader and probeinterface raise many classes for other files
        raise ValueError(
            f"expected a probeinterface JSON file, found {path} ({type(error).__name__}: {error}): write it with "
            "probeinterface.write_probeinterface."
        ) from error


def load_sorting(path: Path):
    """Load a sorting that SpikeInterface saved.

    Parameters
    ----------
    path : Path
        What spikeinterface.load reads.

    Returns
    -------
    BaseSorting

    Raises
    ------
    FileNotFoundError
        No file or folder at `path`.
    ValueError
        Not a sorting.
    """
    import spikeinterface

    from ..exporters.curated import describe_load_error

    if not path.exists():
        raise FileNotFoundError(f"expected a sorting at {path}, found nothing: correct the path.")
    check_runs_no_code(path)
    try:
        loaded = spikeinterface.load(path)
    except Exception as error:  # spikeinterface raises many classes for other folders
        raise ValueError(
            f"expected what spikeinterface.load reads, found {describe_load_error(error)} at {path}: save it there."
        ) from error
    if not isinstance(loaded, spikeinterface.BaseSorting):
        raise ValueError(f"expected a sorting in {path}, found {type(loaded).__name__}: pass the sorting's folder.")
    return loaded


def load_result(path: Path, *, curated: Path | None = None, recording=None):
    """Load OUTPUT of huidurep sort, and what a curator made of it.

    Parameters
    ----------
    path : Path
    curated : Path | None
        A phy folder, a JSON file of SpikeInterface's curation, an analyzer or a sorting. None: the result as it is.
    recording : BaseRecording | None
        The recording that was sorted.

    Returns
    -------
    SortingResult

    Raises
    ------
    FileNotFoundError
        No result, or nothing at `curated`.
    ValueError
        Damaged files, or a sorting that does not belong to the result.
    """
    from huidurep import SortingResult

    from ..sorting.phy_folder import is_phy_folder

    result = SortingResult.load(path)
    if curated is None:
        return result
    if curated.exists() and not is_phy_folder(curated) and curated.suffix != ".json":
        return result.with_sorting(_load_units(curated), recording)
    return result.with_sorting(curated, recording)


def _load_units(path: Path):
    """A sorting, or the units of an analyzer with the lengths of its segments; its extensions may be pickles."""
    from ..hub.json_files import read_json_object
    from ..sorting.recorded_times import RecordedTimes

    if not (path / "sorting").is_dir():
        return load_sorting(path)
    sorting, attributes = load_sorting(path / "sorting"), path / "recording_info" / "recording_attributes.json"
    if attributes.is_file():
        num_samples = read_json_object(attributes, "save the analyzer again").get("num_samples", [])
        if len(num_samples) != sorting.get_num_segments():
            raise ValueError(
                f"expected num_samples of {sorting.get_num_segments()} segments in {attributes}, found {num_samples}: "
                "save the analyzer again."
            )
        starts_s, knots = [0.0] * len(num_samples), [((), ())] * len(num_samples)
        sorting.register_recording(RecordedTimes(sorting.get_sampling_frequency(), num_samples, starts_s, knots))
    return sorting


def load_array(path: Path, name: str):
    """Load a .npy file, or one array of a .npz file.

    Parameters
    ----------
    path : Path
    name : str
        Name of the array in a .npz file.

    Returns
    -------
    ndarray

    Raises
    ------
    FileNotFoundError
        No file at `path`.
    ValueError
        Another kind of file, or a .npz file without that array.
    """
    import numpy as np

    from ..sorting.recorded_times import DAMAGED_ARRAY, describe_damage

    if not path.is_file():
        raise FileNotFoundError(f"expected a .npy or .npz file, found none at {path}: correct the path.")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        if name in loaded:
            return loaded[name]
    except DAMAGED_ARRAY as error:
        raise ValueError(
            f"expected a .npy or .npz file of numbers, found {describe_damage(error)} in {path}: write it again with "
            "numpy.save."
        ) from error
    raise ValueError(f"expected an array {name!r} in {path}, found {', '.join(loaded) or 'none'}: rename it.")


def load_settings(path: Path) -> dict:
    """Load settings from a JSON or YAML file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        No file at `path`.
    ValueError
        Neither JSON nor YAML, or not names and values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a JSON or YAML file, found none at {path}: correct the path.")
    import yaml

    text = path.read_text(encoding="utf8")
    try:
        try:
            settings = json.loads(text)  # json first: PyYAML reads 1e-05 as text
        except ValueError:
            settings = yaml.load(text, _yaml_loader())
    except yaml.YAMLError as error:
        raise ValueError(f"expected JSON or YAML in {path}, found {error}: correct the file.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"expected names and values in {path}, found {type(settings).__name__}: write one per line.")
    return settings


def _yaml_loader():
    """PyYAML's safe loader that also reads numbers such as 1e-3, which YAML 1.1 reads as text."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader
