"""Provenance: package versions, commit, machine, memory, and the identity of the recording that was sorted."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path(__file__).resolve().parent
PACKAGES = ("spikeinterface", "torch", "transformers", "numpy", "scipy", "scikit-learn")
HASHED_S = 2.0
NUM_HASHED_CHUNKS, HASHED_CHUNK_S = 200, 0.01  # spread over the recording
REMEDY = "give the recording that was sorted, opened in the same way"


def describe_run(recording: Any) -> dict:
    """Describe what is sorted, when, where and by which versions, as plain values for JSON.

    Parameters
    ----------
    recording : BaseRecording
        The raw recording; the first 2 s of its traces, and chunks of the rest, are read.

    Returns
    -------
    dict
        time (UTC, ISO 8601), platform, versions and commit of this package and others, recording (as
        `describe_recording` returns it).
    """
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "versions": versions(),
        "commit": current_commit(),
        "recording": describe_recording(recording),
    }


def describe_recording(recording: Any) -> dict:
    """Describe a recording so that another recording can be compared with it.

    Parameters
    ----------
    recording : BaseRecording

    Returns
    -------
    dict
        kind (name of the extractor's class), files (paths; empty for a recording in memory), num_channels,
        sampling_frequency (Hz), num_samples (one number a segment), duration_s (all segments), dtype, gains_to_uv (one
        number a channel; None without gains), and hashes of the samples as stored (not scaled to uV), time by channel:
        sha256 of the first 2 s of segment 0, sha256_chunks of 200 chunks of 10 ms from all segments.
    """
    sampling_frequency = float(recording.get_sampling_frequency())
    num_samples = [int(recording.get_num_samples(index)) for index in range(recording.get_num_segments())]
    return {
        "kind": type(recording).__name__,
        "files": list(dict.fromkeys(_source_paths(recording))),
        "num_channels": recording.get_num_channels(),
        "sampling_frequency": sampling_frequency,
        "num_samples": num_samples,
        "duration_s": sum(num_samples) / sampling_frequency,
        "dtype": str(recording.get_dtype()),
        "gains_to_uv": _gains_to_uv(recording),
        "sha256": _hash_first_samples(recording),
        "sha256_chunks": _hash_chunks(recording),
    }


def check_same_recording(result: Any, recording: Any) -> None:
    """Refuse a recording that is not the one that was sorted.

    Parameters
    ----------
    result : SortingResult
        The provenance of results of earlier versions has no hash, or nothing at all; what is missing is not compared.
    recording : BaseRecording

    Raises
    ------
    TypeError
        Not a recording.
    ValueError
        Segments, sampling frequency, channels, duration, gains or samples differ.
    """
    from spikeinterface import BaseRecording

    if not isinstance(recording, BaseRecording):
        raise TypeError(
            f"expected the SpikeInterface recording that was sorted, found {type(recording).__name__}; open it with "
            "spikeinterface.load or spikeinterface.extractors"
        )
    _check_shape(result.sorting, recording)
    # cheap comparisons first: the hash reads 2 s of traces
    known = result.provenance.get("recording", {})
    found = {
        "num_channels": recording.get_num_channels(),
        "num_samples": [int(recording.get_num_samples(index)) for index in range(recording.get_num_segments())],
    }
    for name, value in found.items():
        if known.get(name, value) != value:
            raise ValueError(f"expected a recording with {name} {known[name]}, found {value}; {REMEDY}")
    _check_gains(known, _gains_to_uv(recording))
    if "sha256" in known and known["sha256"] != _hash_first_samples(recording):
        raise ValueError(
            f"expected a recording ({known['kind']}, {known['dtype']}) whose first {HASHED_S:g} s have the SHA-256 "
            f"{known['sha256'][:12]}, found other samples in {type(recording).__name__} of {recording.get_dtype()}; "
            f"{REMEDY}"
        )
    if "sha256_chunks" in known and known["sha256_chunks"] != _hash_chunks(recording):
        raise ValueError(
            f"expected the recording ({known['kind']}) that was sorted, found one with the same first {HASHED_S:g} s "
            f"and other samples later; {REMEDY}"
        )


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that results depend on.

    Returns
    -------
    dict of str to str
    """
    from . import __version__  # of the code that runs, which need not be installed

    return {"python": platform.python_version(), "huidurep": __version__} | package_versions(PACKAGES)


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages.

    Parameters
    ----------
    names : iterable of str
        As pip knows them.

    Returns
    -------
    dict of str to str
        "not installed" for packages that are missing.
    """
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def current_commit(*more: str) -> str | None:
    """Commit of the clone that the package runs from.

    Parameters
    ----------
    *more : str
        Files of the clone beside the package that results depend on, as git's pathspecs, such as ":/benchmarks/*.py".

    Returns
    -------
    str or None
        The first 12 digits, with "+changes" where files of the package (embedded checkpoints excepted) or of `more`
        differ from the commit; None where the package does not belong to a clone.
    """

    def git(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(("git", "-C", str(PACKAGE), *words), capture_output=True, text=True)

    try:
        # an installed package may lie in the clone of another project
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
    except OSError:  # git is not installed
        return None
    commit = git("rev-parse", "--short=12", "HEAD").stdout.strip()
    changed = git("status", "--porcelain", "--", ".", ":!checkpoints", *more).stdout.strip()
    return commit + "+changes" * bool(changed)


def processor_name() -> str:
    """Model name of the processor.

    Returns
    -------
    str
    """
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def machine() -> str:
    """GPUs, or processor and number of threads, that torch computes on in this process.

    Returns
    -------
    str
    """
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    threads = torch.get_num_threads()
    return f"{processor_name()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)}"


def peak_memory_mb(*, workers: bool = False) -> float:
    """Peak resident memory of this process.

    Parameters
    ----------
    workers : bool
        Add the peak of the largest worker process that has ended.

    Returns
    -------
    float
        MiB; NaN on Windows, which does not report it.
    """
    try:
        import resource
    except ImportError:
        return float("nan")
    mib = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    status = Path("/proc/self/status")
    # Linux: ru_maxrss of a new process includes its parent's memory, VmHWM does not
    found = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    peak = int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak + workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / mib


def _check_shape(sorting: Any, recording: Any) -> None:
    """Compare what every sorting knows: segments, sampling frequency, main channels, time of the last spike."""
    shapes = {
        "num_segments": (sorting.get_num_segments(), recording.get_num_segments()),
        "sampling_frequency (Hz)": (sorting.get_sampling_frequency(), recording.get_sampling_frequency()),
    }
    for name, (expected, found) in shapes.items():
        if expected != found:
            raise ValueError(f"expected a recording with {name} {expected!r}, found {found!r}; {REMEDY}")
    main_channel_ids = sorting.get_property("main_channel_id")
    missing = set() if main_channel_ids is None else set(main_channel_ids.tolist())
    missing -= set(recording.channel_ids.tolist())
    if missing:
        found = recording.channel_ids.tolist()[:8]
        raise ValueError(f"expected a recording with channels {sorted(missing)}, found {found}; {REMEDY}")
    spikes = sorting.to_spike_vector()
    for index in range(sorting.get_num_segments()):
        samples = spikes["sample_index"][spikes["segment_index"] == index]
        num_samples = recording.get_num_samples(index)
        if samples.max(initial=-1) >= num_samples:
            raise ValueError(
                f"expected a recording of more than {samples.max()} samples in segment {index}, found {num_samples}; "
                f"{REMEDY}"
            )


def _gains_to_uv(recording: Any) -> list[float] | None:
    gains = recording.get_property("gain_to_uV")
    return None if gains is None else np.asarray(gains, dtype="float64").tolist()


def _check_gains(known: dict, found: list[float] | None) -> None:
    """Refuse a recording whose amplitudes would be others; `known` of an earlier version does not tell."""
    expected = known.get("gains_to_uv", found)
    if (expected is None) == (found is None) and np.allclose(expected or [], found or [], rtol=1e-6, equal_nan=True):
        return
    shown = [str(gains if gains is None else sorted(set(gains))[:4]) for gains in (expected, found)]
    if shown[0] == shown[1] and expected and found:  # as with the channels in another order
        other = int(np.flatnonzero(~np.isclose(expected, found, rtol=1e-6))[0])
        shown = [f"{gains[other]:g} of channel number {other}" for gains in (expected, found)]
    raise ValueError(
        f"expected a recording with the gains to uV {shown[0]}, found {shown[1]}; set those with which it was sorted "
        "with recording.set_channel_gains, or sort again"
    )


def _source_paths(recording: Any) -> Iterable[str]:
    """Paths of files and folders in the arguments of an extractor and of the extractors that it reads from."""
    # preprocessing steps have the recording that they read among their own arguments
    stack: list[tuple[str, Any]] = [("", recording)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, str | Path):
            if "path" in name:
                yield str(value)
        elif isinstance(value, dict):
            stack += value.items()
        elif isinstance(value, list | tuple):
            stack += [(name, each) for each in value]
        elif hasattr(value, "_kwargs"):  # an extractor; to_dict would convert its arrays in memory too
            stack += value._kwargs.items()


def _hash_first_samples(recording: Any) -> str:
    if not recording.get_num_segments():
        return hashlib.sha256().hexdigest()
    num_samples = min(int(HASHED_S * recording.get_sampling_frequency()), recording.get_num_samples(0))
    traces = recording.get_traces(segment_index=0, start_frame=0, end_frame=num_samples, return_in_uV=False)
    return hashlib.sha256(traces.tobytes()).hexdigest()


def _hash_chunks(recording: Any) -> str:
    """SHA-256 of chunks at equal distances in each segment, the first and the last of its samples among them."""
    digest, num_segments = hashlib.sha256(), recording.get_num_segments()
    for index in range(num_segments):
        num_samples = recording.get_num_samples(index)
        size = min(num_samples, int(HASHED_CHUNK_S * recording.get_sampling_frequency()))
        num_chunks = max(2, NUM_HASHED_CHUNKS // num_segments) if num_samples else 0
        for start in np.linspace(0, num_samples - size, num_chunks).astype(int).tolist():
            chunk = dict(segment_index=index, start_frame=start, end_frame=start + size)
            digest.update(recording.get_traces(**chunk, return_in_uV=False).tobytes())
    return digest.hexdigest()
