"""Times of the samples of a recording, kept with its units: start times, and time vectors with their gaps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
from spikeinterface.core import BaseRecording, BaseRecordingSegment, BaseSorting
from spikeinterface.core.sortingfolder import NumpyFolderSorting

# What numpy raises for damaged .npy files, whose header it reads as Python text, and .npz files.
DAMAGED_ARRAY = (OSError, ValueError, EOFError, SyntaxError, TokenError, BadZipFile, zlib.error)

CHUNK_SAMPLES = 2**22  # of a time vector that are read at a time
MAX_RATE_ERROR = 0.1  # of the usual step of a time vector: clocks differ by less than a thousandth, units by 1000
GAP_SAMPLES = 0.5  # a step of a time vector that differs from one sample by more is a gap


def describe_damage(error: Exception) -> str:
    """What numpy found in a file instead of an array, without its advice to unpickle the file.

    Parameters
    ----------
    error : Exception
        One of DAMAGED_ARRAY.

    Returns
    -------
    str
    """
    return "no array of numbers or text" if "pickle" in str(error) else f"{type(error).__name__} ({error})"


class RecordedTimes(BaseRecording):
    """The times of a recording without its traces, to be registered to a sorting.

    Samples with spikes, and those on both sides of a gap, have their exact times; between them, times are interpolated.

    Parameters
    ----------
    sampling_frequency : float
        Hz.
    num_samples : sequence of int, (num_segments,)
    starts_s : sequence of float, (num_segments,)
        Time of the first sample of each segment.
    knots : sequence of (ndarray of int64 (num_knots,), ndarray of float64 (num_knots,))
        Samples and their times of each segment; empty where time runs with the sampling frequency.
    channel_ids : sequence
        Channels of the recording, where they matter.
    """

    def __init__(self, sampling_frequency: float, num_samples, starts_s, knots, channel_ids=()) -> None:
        super().__init__(sampling_frequency, channel_ids=channel_ids, dtype="float32")
        for count, start_s, (samples, times_s) in zip(num_samples, starts_s, knots, strict=True):
            self.add_recording_segment(_TimesSegment(sampling_frequency, int(count), float(start_s), samples, times_s))
        self._serializability = dict.fromkeys(self._serializability, False)

    @classmethod
    def of(cls, sorting: BaseSorting) -> RecordedTimes:
        """The times of the recording that is registered to a sorting.

        Parameters
        ----------
        sorting : BaseSorting

        Returns
        -------
        RecordedTimes
            About as many numbers as the sorting has spikes.
        """
        num_samples, starts_s, knots = [], [], []
        spikes = sorting.to_spike_vector()
        for index in range(sorting.get_num_segments()):
            own = spikes["sample_index"][spikes["segment_index"] == index]
            num_samples.append(sorting.get_num_samples(index) if sorting.has_recording() else own.max(initial=-1) + 1)
            starts_s.append(sorting.get_start_time(index))
            samples = np.zeros(0, dtype="int64")
            if sorting.has_time_vector(index) and num_samples[-1]:
                ends = np.array([0, num_samples[-1] - 1])
                samples = np.unique(np.concatenate([ends, own, _gap_edges(sorting, index, num_samples[-1])]))
            knots.append((samples, np.asarray(sorting.sample_index_to_time(samples, index), dtype="float64")))
        return cls(sorting.get_sampling_frequency(), num_samples, starts_s, knots)

    def save(self, path: str | Path | BinaryIO) -> None:
        """Write a compressed .npz file.

        Parameters
        ----------
        path : str, Path or file object
            Receives num_samples and starts_s (num_segments,), and for each segment of number n samples_n and times_s_n
            (num_knots,).
        """
        arrays = {f"samples_{index}": segment.samples for index, segment in enumerate(self.segments)}
        arrays |= {f"times_s_{index}": segment.times_s for index, segment in enumerate(self.segments)}
        segments = range(self.get_num_segments())
        arrays["num_samples"] = np.array([self.get_num_samples(index) for index in segments], dtype="int64")
        arrays["starts_s"] = np.array([self.get_start_time(index) for index in segments], dtype="float64")
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: str | Path | BinaryIO, sampling_frequency: float) -> RecordedTimes:
        """Read a file that `save` wrote.

        Parameters
        ----------
        path : str, Path or file object
        sampling_frequency : float
            Hz.

        Returns
        -------
        RecordedTimes

        Raises
        ------
        ValueError
            Arrays are missing or do not fit together.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                num_samples, starts_s = stored["num_samples"], stored["starts_s"]
                knots = [(stored[f"samples_{index}"], stored[f"times_s_{index}"]) for index in range(len(num_samples))]
            if len(starts_s) != len(num_samples) or any(len(samples) != len(times) for samples, times in knots):
                raise ValueError("arrays of different lengths")
            return cls(sampling_frequency, num_samples, starts_s, knots)
        except (*DAMAGED_ARRAY, KeyError, TypeError) as error:
            raise ValueError(
                f"expected the times of a recording in {path}, found {describe_damage(error)}; copy the folder "
                "again, or remove this file to count times from the start of the recording"
            ) from error


class _TimesSegment(BaseRecordingSegment):
    """Times of one segment, as `RecordedTimes` describes them."""

    def __init__(
        self, sampling_frequency: float, num_samples: int, start_s: float, samples: np.ndarray, times_s: np.ndarray
    ) -> None:
        super().__init__(sampling_frequency=sampling_frequency, t_start=start_s)
        self.num_samples, self.samples, self.times_s = num_samples, samples, times_s

    def get_num_samples(self) -> int:
        return self.num_samples

    def get_traces(self, start_frame=None, end_frame=None, channel_indices=None) -> np.ndarray:
        raise ValueError("expected a recording with traces, found only the times of one; open the recording itself")

    def has_time_vector(self) -> bool:
        return len(self.samples) > 0

    def get_times(self, start_frame=None, end_frame=None) -> np.ndarray:
        samples = np.arange(start_frame or 0, self.num_samples if end_frame is None else end_frame)
        return self.sample_index_to_time(samples)

    def get_end_time(self) -> float:
        return float(self.sample_index_to_time(self.num_samples - 1))

    def sample_index_to_time(self, sample_ind):
        if not self.has_time_vector():
            return super().sample_index_to_time(sample_ind)
        return np.interp(sample_ind, self.samples, self.times_s)

    def time_to_sample_index(self, time_s):
        if not self.has_time_vector():
            return super().time_to_sample_index(time_s)
        found = np.interp(time_s, self.times_s, self.samples)
        return np.floor(found + 1e-6).astype("int64")  # the last sample at or before a time, as of a time vector


class TimedSorting(NumpyFolderSorting):
    """Units in the folder of a result with the times of their recording; `spikeinterface.load` makes it.

    Parameters
    ----------
    folder_path : str or Path
        Folder of a sorting that SpikeInterface saved.
    times_path : str or Path
        File that `RecordedTimes.save` wrote.
    """

    def __init__(self, folder_path: str | Path, times_path: str | Path) -> None:
        super().__init__(folder_path)
        self.register_recording(RecordedTimes.load(times_path, self.get_sampling_frequency()))
        self._kwargs = dict(folder_path=str(Path(folder_path).absolute()), times_path=str(Path(times_path).absolute()))


def has_times(timed: BaseSorting | BaseRecording) -> bool:
    """Whether a sorting or recording knows more of time than its samples say: a start other than 0, or a time vector.

    Parameters
    ----------
    timed : BaseSorting or BaseRecording

    Returns
    -------
    bool
    """
    segments = range(timed.get_num_segments())
    return any(timed.has_time_vector(index) or timed.get_start_time(index) != 0 for index in segments)


def doubtful_times(recording: BaseRecording) -> list[str]:
    """What is wrong with the time vectors of a recording, whose samples are sorted all the same.

    Parameters
    ----------
    recording : BaseRecording

    Returns
    -------
    list of str
        A sentence for each segment with steps back, missing times, or times in another unit than seconds.
    """
    doubts = []
    for index in range(recording.get_num_segments()):
        num_samples = recording.get_num_samples(index)
        if not recording.has_time_vector(index) or num_samples < 2:
            continue
        steps, wrong, first = [], 0, -1
        for start, own in _iterate_steps(recording, index, num_samples):
            rows = np.flatnonzero(~(own > 0))
            first = start + int(rows[0]) + 1 if len(rows) and first < 0 else first
            wrong += len(rows)
            steps.append(float(np.median(own)))
        found = f"{wrong} times that are not after the one before, the first at sample {first}" if wrong else ""
        if not found and abs(np.median(steps) - 1) > MAX_RATE_ERROR:
            found = f"times in steps of {np.median(steps):.3g} samples"
        if found:
            doubts.append(
                f"segment {index}: its time vector has {found}; spike times in seconds are wrong: correct it with "
                "recording.set_times, in seconds, or count from the sampling frequency with recording.reset_times"
            )
    return doubts


def choose_times(sorting: BaseSorting, recording: BaseRecording) -> BaseRecording:
    """Whose times an export has: those of the recording, or of the sorting where the recording says nothing of time.

    Parameters
    ----------
    sorting : BaseSorting
    recording : BaseRecording
        The recording that was sorted, perhaps opened again.

    Returns
    -------
    BaseRecording
        The recording itself, or `RecordedTimes`.
    """
    return RecordedTimes.of(sorting) if has_times(sorting) and not has_times(recording) else recording


def _gap_edges(sorting: BaseSorting, segment_index: int, num_samples: int) -> np.ndarray:
    """Last sample before and first sample after each gap of a time vector."""
    before = [np.zeros(0, dtype="int64")]
    for start, steps in _iterate_steps(sorting, segment_index, num_samples):
        before.append(start + np.flatnonzero(np.abs(steps - 1) > GAP_SAMPLES))
    gaps = np.concatenate(before)
    return np.concatenate([gaps, gaps + 1])


def _iterate_steps(
    timed: BaseSorting | BaseRecording, segment_index: int, num_samples: int
) -> Iterator[tuple[int, np.ndarray]]:
    """First sample of each chunk, and the steps of its time vector as multiples of one sample."""
    for start in range(0, num_samples - 1, CHUNK_SAMPLES):
        times_s = timed.get_times(segment_index, start, min(start + CHUNK_SAMPLES + 1, num_samples))
        yield start, np.diff(times_s) * timed.get_sampling_frequency()
