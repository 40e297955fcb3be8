"""Recordings of the demo: made on the spot, or a visitor's own, checked against the limits before any work.

An upload is data and nothing else: nothing is unpickled, no other file is opened because a file says so.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import probeinterface
import spikeinterface

import huidurep

RAW_SUFFIXES = (".bin", ".dat", ".raw", ".i16")
SUFFIXES = (".nwb", ".npy", *RAW_SUFFIXES)
SAMPLE_TYPES = ("int16", "uint16", "int32", "float32")
TETRODES, COLUMN, PROBE_FILE, UNKNOWN = (
    "tetrodes, each four channels in order",
    "one column of contacts",
    "a probeinterface file (JSON)",
    "not known",
)
PROBES = (TETRODES, COLUMN, PROBE_FILE, UNKNOWN)
TETRODE_DISTANCE_UM = 300.0
BUILT_IN = {
    "a simulated tetrode: 60 s, 8 neurons": dict(probe="tetrode", num_units=8, duration_s=60.0, seed=4),
    "a simulated shank of 16 contacts: 30 s, 10 neurons": dict(
        probe="linear-16", num_units=10, duration_s=30.0, seed=4
    ),
}


@dataclass(frozen=True)
class Limits:
    """What two CPU cores can sort while somebody waits."""

    max_megabytes: float = 200.0
    max_channels: int = 64
    max_duration_s: float = 600.0
    max_sorting_s: float = 900.0

    @property
    def max_values(self) -> float:
        """Samples times channels of such a file of int16; a compressed file may hold more than its size tells."""
        return self.max_megabytes * 1e6 / 2


@dataclass(frozen=True)
class Description:
    """What a raw file does not say of itself."""

    sampling_frequency: float | None = None
    num_channels: int | None = None
    dtype: str = "int16"
    gain_to_uv: float | None = None
    probe: str = UNKNOWN
    pitch_um: float = 20.0
    probe_file: str | None = None


@lru_cache(maxsize=len(BUILT_IN))
def simulate(name):
    """(recording, true sorting), made once."""
    return huidurep.simulate_recording(**BUILT_IN[name])


def read_upload(path, description, limits):
    """A SpikeInterface recording; ValueError with a sentence for the visitor where it cannot be used."""
    if path is None:
        raise ValueError("Choose a file first, or one of the built-in recordings.")
    path = Path(path)
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.max_megabytes:
        raise ValueError(
            f"The file has {megabytes:.0f} MB; this demo takes up to {limits.max_megabytes:g} MB. Cut a piece out of "
            "the recording, or install huidurep: there is no limit on your own computer."
        )
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Expected a file that ends in {', '.join(SUFFIXES)}, found {path.suffix or 'no ending'}.")
    if path.suffix.lower() == ".nwb":
        return check_limits(_read_nwb(path), limits)
    if not description.sampling_frequency or not description.sampling_frequency > 0:
        raise ValueError("Fill in the sampling frequency: the file does not say it.")
    recording = _read_array(path, description) if path.suffix.lower() == ".npy" else _read_raw(path, description)
    if description.gain_to_uv:
        recording.set_channel_gains(description.gain_to_uv)
        recording.set_channel_offsets(0.0)
    return _attach_probe(check_limits(recording, limits), description)


def check_limits(recording, limits):
    """The recording; ValueError where it is longer or has more channels than the demo sorts."""
    num_channels, duration_s = recording.get_num_channels(), recording.get_total_duration()
    if num_channels > limits.max_channels:
        raise ValueError(f"The recording has {num_channels} channels; this demo takes up to {limits.max_channels}.")
    if duration_s > limits.max_duration_s:
        raise ValueError(
            f"The recording lasts {duration_s:.0f} s; this demo takes up to {limits.max_duration_s:.0f} s: cut a piece."
        )
    if recording.get_total_samples() * num_channels > limits.max_values:
        raise ValueError(
            f"The recording holds {recording.get_total_samples() * num_channels / 1e6:.0f} million values; this demo "
            f"takes up to {limits.max_values / 1e6:.0f} million: cut a piece."
        )
    return recording


def _read_raw(path, description):
    if not description.num_channels or description.dtype not in SAMPLE_TYPES:
        raise ValueError("Fill in the number of channels and the sample type: the file does not say them.")
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
        raise ValueError(f"The file is no array that numpy.save wrote ({error}).") from error
    if samples.ndim != 2 or samples.dtype.name not in (*SAMPLE_TYPES, "float64") or 0 in samples.shape:
        raise ValueError(
            f"Expected an array (time, channel) of {', '.join(SAMPLE_TYPES)}, found {samples.dtype} {samples.shape}."
        )
    if samples.shape[0] < samples.shape[1]:
        raise ValueError(f"Expected an array (time, channel), found {samples.shape}: is it turned round?")
    return spikeinterface.NumpyRecording([samples], float(description.sampling_frequency))


def _read_nwb(path):
    import h5py
    from spikeinterface.extractors import read_nwb_recording

    try:
        with h5py.File(path, "r") as file:
            _refuse_references(file)
        return read_nwb_recording(path)
    except _RefersToFilesError:
        raise ValueError("The file refers to other files: export it as one whole NWB file.") from None
    except Exception as error:  # h5py and the reader raise many classes for a file that is something else
        raise ValueError(f"The file could not be read as NWB with one electrical series ({error}).") from error


class _RefersToFilesError(Exception):
    pass


def _refuse_references(group):
    """HDF5 can take data from any file of the computer: through a link, an external or a virtual dataset."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _RefersToFilesError
        if isinstance(link, h5py.SoftLink):  # leads to what is looked at elsewhere
            continue
        value = group[name]
        if isinstance(value, h5py.Dataset) and (value.external or value.is_virtual):
            raise _RefersToFilesError
        if isinstance(value, h5py.Group):
            _refuse_references(value)


def _attach_probe(recording, description):
    num_channels = recording.get_num_channels()
    if description.probe == TETRODES:
        if num_channels % 4:
            raise ValueError(f"{num_channels} channels are no whole number of tetrodes: choose another probe.")
        probes = probeinterface.ProbeGroup()
        for index in range(num_channels // 4):
            tetrode = probeinterface.generate_tetrode()
            tetrode.move([index * TETRODE_DISTANCE_UM, 0.0])
            tetrode.set_device_channel_indices(np.arange(4 * index, 4 * index + 4))
            probes.add_probe(tetrode)
    elif description.probe == COLUMN:
        if not description.pitch_um or not description.pitch_um > 0:
            raise ValueError("Fill in the distance between neighbouring contacts.")
        column = probeinterface.generate_linear_probe(num_channels, ypitch=float(description.pitch_um))
        column.set_device_channel_indices(np.arange(num_channels))
        probes = probeinterface.ProbeGroup()
        probes.add_probe(column)
    elif description.probe == PROBE_FILE:
        probes = _read_probe(description.probe_file, num_channels)
    else:
        return recording
    return recording.set_probegroup(probes) or recording  # before SpikeInterface 0.105 it returned a copy


def _read_probe(path, num_channels):
    if path is None:
        raise ValueError("Choose the probe's file, or say that the places of the contacts are not known.")
    try:
        probes = probeinterface.read_probeinterface(path)
        wired = sum(int((each.device_channel_indices >= 0).sum()) for each in probes.probes)
    except Exception as error:  # whatever the JSON reader or probeinterface meets in a foreign file
        raise ValueError("The probe's file is none that probeinterface.write_probeinterface wrote.") from error
    if wired != num_channels:
        raise ValueError(f"The probe has {wired} wired contacts, the recording {num_channels} channels.")
    return probes
