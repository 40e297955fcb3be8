"""What the command line reads and writes: recordings, probes, arrays; and the check of OUTPUT."""

from __future__ import annotations

import tempfile
from pathlib import Path

SI_SUFFIXES = (".json", ".pkl", ".pickle", ".zarr")
TETRODE_SPACING_UM = 300.0  # far enough apart that no spike is looked for on two tetrodes


def check_output(output: Path, *, overwrite: bool = False, input_path: Path | None = None) -> None:
    """Refuse, before any work, an OUTPUT that holds something else or the INPUT.

    Parameters
    ----------
    output : Path
        Folder to write later.
    overwrite : bool
        Accept an earlier result of this package.
    input_path : Path | None
        What will be read.

    Raises
    ------
    FileExistsError
        OUTPUT is not empty, or a file.
    ValueError
        INPUT lies in OUTPUT.
    """
    from huidurep.output_files import check_output_folder

    if input_path is not None and input_path.resolve().is_relative_to(output.resolve()):
        raise ValueError(f"expected OUTPUT apart from INPUT, found {input_path} inside {output}: name another OUTPUT.")
    check_output_folder(output, overwrite=overwrite)


def check_writable(folder: Path) -> None:
    """Find out, before any work, whether a folder can be written or made: only writing tells.

    Parameters
    ----------
    folder : Path
        It, or else the nearest one above it that exists, is tried.

    Raises
    ------
    NotADirectoryError
        A file is in the way.
    PermissionError
        Nothing can be written there.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"expected a folder at {nearest}, found a file: name another OUTPUT.")
    try:
        tempfile.TemporaryDirectory(dir=nearest).cleanup()
    except OSError as error:
        raise PermissionError(
            f"expected to be allowed to write in {nearest}, found: {error.strerror}; name another OUTPUT."
        ) from error


def read_recording(
    path: Path, raw: dict, gain_to_uv: float | None, offset_to_uv: float | None, probe: str | None = None
):
    """Open INPUT as a SpikeInterface recording, with the probe that --probe names.

    Parameters
    ----------
    path : Path
        What spikeinterface.load reads, or raw samples (time x channel).
    raw : dict
        sampling_frequency (Hz), num_channels and dtype of raw samples; all None for anything else.
    gain_to_uv, offset_to_uv : float | None
        Of raw samples: uV = gain * sample + offset. None: the samples keep their scale.
    probe : str | None
        As `attach_probe` takes it. None: the recording's own, or none.

    Returns
    -------
    BaseRecording

    Raises
    ------
    FileNotFoundError
        Nothing at `path`.
    ValueError
        Not a recording, raw options that are missing or do not fit the file's size, or a probe that does not fit.
    """
    recording = _open_recording(path, raw, gain_to_uv, offset_to_uv)
    return recording if probe is None else attach_probe(recording, probe)


def _open_recording(path: Path, raw: dict, gain_to_uv: float | None, offset_to_uv: float | None):
    if not path.exists():
        raise FileNotFoundError(f"expected a recording at {path}, found nothing: correct the path.")
    if all(value is None for value in raw.values()):
        if path.is_file() and path.suffix not in SI_SUFFIXES:
            raise ValueError(
                f"expected a folder or a {', '.join(SI_SUFFIXES)} that spikeinterface.load reads, found the file "
                f"{path}: raw binary needs --sampling-frequency, --num-channels and --dtype."
            )
        if gain_to_uv is not None or offset_to_uv is not None:
            raise ValueError(
                "--gain-to-uv and --offset-to-uv are for raw binary, and INPUT brings its own: leave them out."
            )
        return _load_saved_recording(path)
    missing = [f"--{name.replace('_', '-')}" for name, value in raw.items() if value is None]
    if missing:
        raise ValueError(f"raw binary needs {', '.join(missing)} too: add what is missing.")
    if not path.is_file():
        raise ValueError(f"expected a file of raw samples, found the folder {path}: leave out the raw binary options.")
    return _read_raw(path, raw, gain_to_uv, offset_to_uv)


def _load_saved_recording(path: Path):
    import spikeinterface

    try:
        loaded = spikeinterface.load(path, **(dict(base_folder=path.parent) if path.is_file() else {}))
    except Exception as error:  # spikeinterface raises many classes for a folder that is something else
        raise ValueError(
            f"expected what spikeinterface.load reads, found {path} ({error}): save the recording with "
            "recording.save(folder=...), or pass raw binary with its options."
        ) from error
    if not isinstance(loaded, spikeinterface.BaseRecording):
        raise ValueError(f"expected a recording in {path}, found {type(loaded).__name__}: pass the recording's folder.")
    return loaded


def _read_raw(path: Path, raw: dict, gain_to_uv: float | None, offset_to_uv: float | None):
    import numpy as np
    import spikeinterface

    frequency, num_channels = raw["sampling_frequency"], raw["num_channels"]
    try:
        dtype = np.dtype(raw["dtype"])
    except TypeError as error:
        raise ValueError(f"expected a numpy type such as int16 or float32, found --dtype {raw['dtype']!r}.") from error
    if gain_to_uv is None and offset_to_uv is not None:
        raise ValueError("--offset-to-uv needs --gain-to-uv too: add it (1 where samples are uV).")
    frame, size = num_channels * dtype.itemsize, path.stat().st_size
    if size % frame:
        raise ValueError(
            f"expected a whole number of frames of {frame} bytes ({num_channels} channels of {dtype}), found {size} "
            f"bytes in {path}: check --num-channels and --dtype."
        )
    if size == 0:  # an empty file cannot be mapped into memory
        recording = spikeinterface.NumpyRecording([np.zeros((0, num_channels), dtype)], frequency)
    else:
        recording = spikeinterface.BinaryRecordingExtractor([path], frequency, dtype, num_channels=num_channels)
    if gain_to_uv is not None:
        recording.set_channel_gains(gain_to_uv)
        recording.set_channel_offsets(offset_to_uv or 0.0)
    return recording


def attach_probe(recording, probe: str):
    """Give the recording the probe of a probeinterface file, or tetrodes: each four channels in order.

    Parameters
    ----------
    recording : BaseRecording
    probe : str
        "tetrode" or the path of a probeinterface JSON file.

    Returns
    -------
    BaseRecording

    Raises
    ------
    ValueError
        Another name, a foreign file, or contacts that do not fit the channels.
    """
    import probeinterface

    num_channels = recording.get_num_channels()
    if probe == "tetrode":
        if num_channels % 4:
            raise ValueError(f"expected four channels a tetrode, found {num_channels}: describe the probe in a file.")
        group = probeinterface.ProbeGroup()
        for index in range(num_channels // 4):
            tetrode = probeinterface.generate_tetrode()
            tetrode.move([index * TETRODE_SPACING_UM, 0.0])
            tetrode.set_device_channel_indices([4 * index + offset for offset in range(4)])
            group.add_probe(tetrode)
    elif not Path(probe).is_file():
        raise ValueError(f"expected --probe tetrode or a probeinterface JSON file, found {probe!r}: correct it.")
    else:
        try:
            group = probeinterface.read_probeinterface(probe)
        except Exception as error:  # whatever the JSON reader or probeinterface meets in a foreign file
            raise ValueError(
                f"expected a probeinterface JSON file, found {probe} ({type(error).__name__}: {error}): write it with "
                "probeinterface.write_probeinterface."
            ) from error
    connected = sum(int((each.device_channel_indices >= 0).sum()) for each in group.probes if _is_wired(each))
    if connected != num_channels:
        raise ValueError(
            f"expected a probe with {num_channels} wired contacts, found {connected} in {probe}: set the contacts' "
            "device_channel_indices to the columns of the recording."
        )
    attached = recording.set_probegroup(group)
    return recording if attached is None else attached  # SpikeInterface before 0.105 returns a copy


def _is_wired(probe) -> bool:
    return probe.device_channel_indices is not None


def load_array(path: Path, name: str):
    """Read a .npy, or one array of a .npz.

    Parameters
    ----------
    path : Path
    name : str
        Name of the array in a .npz.

    Returns
    -------
    ndarray

    Raises
    ------
    FileNotFoundError
        Nothing at `path`.
    ValueError
        Not such a file, or no such array.
    """
    import numpy as np

    if not path.is_file():
        raise FileNotFoundError(f"expected a .npy or .npz file, found none at {path}: correct the path.")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"expected a .npy or .npz file, found {path} ({error}): write it with numpy.save.") from error
    if isinstance(loaded, np.ndarray):
        return loaded
    if name not in loaded:
        raise ValueError(f"expected an array {name!r} in {path}, found {', '.join(loaded) or 'none'}: rename it.")
    return loaded[name]
