"""Recordings of the demo: simulated or uploaded, checked against the limits before they are sorted.

Uploads are not trusted: nothing is unpickled, and links from an upload to other files are refused.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import probeinterface
import spikeinterface

import huidurep
from huidurep.cli.inputs import attach_probe

RAW_SUFFIXES = (".bin", ".dat", ".raw", ".i16")
SUFFIXES = (".nwb", ".npy", *RAW_SUFFIXES)
SAMPLE_TYPES = ("int16", "uint16", "int32", "float32")
TETRODES, COLUMN, PROBE_FILE, UNKNOWN = (
    "tetrodes (every four channels in order)",
    "one column of contacts",
    "probeinterface file (JSON)",
    "unknown",
)
PROBES = (TETRODES, COLUMN, PROBE_FILE, UNKNOWN)
BUILT_IN = {
    "a simulated tetrode: 60 s, 8 neurons": dict(probe="tetrode", num_units=8, duration_s=60.0, seed=4),
    "a simulated shank of 16 contacts: 30 s, 10 neurons": dict(
        probe="linear-16", num_units=10, duration_s=30.0, seed=4
    ),
}


@dataclass(frozen=True)
class Limits:
    """Largest recording that the demo sorts on two CPU cores, and the longest time that it may take."""

    max_megabytes: float = 200.0
    max_channels: int = 64
    max_duration_s: float = 600.0
    max_sorting_s: float = 900.0

    @property
    def max_values(self) -> float:
        """Maximum number of samples times channels: int16 values in a file of that size, also for compressed files."""
        return self.max_megabytes * 1e6 / 2


@dataclass(frozen=True)
class Description:
    """Properties of a recording that a raw file does not contain."""

    sampling_frequency: float | None = None
    num_channels: int | None = None
    dtype: str = "int16"
    gain_to_uv: float | None = None
    probe: str = UNKNOWN
    pitch_um: float = 20.0
    probe_file: str | None = None


@lru_cache(maxsize=len(BUILT_IN))
def simulate(name):
    """(recording, true sorting), simulated once."""
    return huidurep.simulate_recording(**BUILT_IN[name])


def read_upload(path, description, limits):
    """Open an upload as a SpikeInterface recording; raise ValueError with a message for the visitor."""
    if path is None:
        raise ValueError("Choose a file first, or one of the built-in recordings.")
    path = Path(path)
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.max_megabytes:
        raise ValueError(
            f"The file has {megabytes:.0f} MB; this demo takes up to {limits.max_megabytes:g} MB. Upload a shorter "
            "part, or install huidurep: there is no limit on your own computer."
        )
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Expected a file that ends in {', '.join(SUFFIXES)}, found {path.suffix or 'no ending'}.")
    if path.suffix.lower() == ".nwb":
        return check_limits(_read_nwb(path), limits)
    if not description.sampling_frequency or not description.sampling_frequency > 0:
        raise ValueError("Enter the sampling frequency: the file does not contain it.")
    recording = _read_array(path, description) if path.suffix.lower() == ".npy" else _read_raw(path, description)
    if description.gain_to_uv:
        recording.set_channel_gains(description.gain_to_uv)
        recording.set_channel_offsets(0.0)
    return _attach_probe(check_limits(recording, limits), description)


def check_limits(recording, limits):
    """Return the recording; raise ValueError where it is longer or has more channels than the limits."""
    num_channels, duration_s = recording.get_num_channels(), recording.get_total_duration()
    if num_channels > limits.max_channels:
        raise ValueError(f"The recording has {num_channels} channels; this demo takes up to {limits.max_channels}.")
    if duration_s > limits.max_duration_s:
        raise ValueError(
            f"The recording lasts {duration_s:.0f} s; this demo takes up to {limits.max_duration_s:.0f} s. Upload a "
            "shorter part."
        )
    if recording.get_total_samples() * num_channels > limits.max_values:
        raise ValueError(
            f"The recording holds {recording.get_total_samples() * num_channels / 1e6:.0f} million values; this demo "
            f"takes up to {limits.max_values / 1e6:.0f} million. Upload a shorter part."
        )
    return recording


def _read_raw(path, description):
    if not description.num_channels or description.dtype not in SAMPLE_TYPES:
        raise ValueError("Enter the number of channels and the sample type: the file does not contain them.")
    num_channels = int(description.num_channels)
    frame = num_channels * np.dtype(description.dtype).itemsize
    size = path.stat().st_size
    if size == 0 or size % frame:
        raise ValueError(
            f"{num_channels} channels of {description.dtype} make frames of {frame} bytes, which do not fill the "
            f"file's {size} bytes: check the number of channels and the sample type."
        )
    samples = np.memmap(path, dtype=description.dtype, mode="r").reshape(-1, num_channels)
    return spikeinterface.NumpyRecording([samples], float(description.sampling_frequency))


def _read_array(path, description):
    try:
        samples = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"Expected a file written by numpy.save ({error}).") from error
    if samples.ndim != 2 or samples.dtype.name not in (*SAMPLE_TYPES, "float64") or 0 in samples.shape:
        raise ValueError(
            f"Expected an array (time, channel) of {', '.join(SAMPLE_TYPES)}, found {samples.dtype} {samples.shape}."
        )
    if samples.shape[0] < samples.shape[1]:
        raise ValueError(f"Expected an array (time, channel), found {samples.shape}: is it transposed?")
    return spikeinterface.NumpyRecording([samples], float(description.sampling_frequency))


def _read_nwb(path):
    import h5py
    from spikeinterface.extractors import read_nwb_recording

    try:
        with h5py.File(path, "r") as file:
            _refuse_references(file)
        return read_nwb_recording(path)
    except _RefersToFilesError:
        raise ValueError("The file refers to other files: export it as one self-contained NWB file.") from None
    except Exception as error:  # h5py and the reader raise many classes for other files
        raise ValueError(f"The file could not be read as NWB with one electrical series ({error}).") from error


class _RefersToFilesError(Exception):
    pass


def _refuse_references(group):
    """Raise where data come from another file: by an external link, an external dataset or a virtual dataset."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _RefersToFilesError
        if isinstance(link, h5py.SoftLink):  # its target is checked where it is stored
            continue
        value = group[name]
        if isinstance(value, h5py.Dataset) and (value.external or value.is_virtual):
            raise _RefersToFilesError
        if isinstance(value, h5py.Group):
            _refuse_references(value)


def _attach_probe(recording, description):
    if description.probe == TETRODES:
        return attach_probe(recording, "tetrode")
    if description.probe == PROBE_FILE:
        if description.probe_file is None:
            raise ValueError("Choose the probe file, or set the positions of the contacts to unknown.")
        return attach_probe(recording, str(description.probe_file))
    if description.probe == COLUMN:
        if not description.pitch_um or not description.pitch_um > 0:
            raise ValueError("Enter the distance between neighbouring contacts.")
        num_channels = recording.get_num_channels()
        column = probeinterface.generate_linear_probe(num_channels, ypitch=float(description.pitch_um))
        column.set_device_channel_indices(np.arange(num_channels))
        attached = recording.set_probe(column)
        return recording if attached is None else attached  # SpikeInterface before 0.105 returns a copy
    return recording
