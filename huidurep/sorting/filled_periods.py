"""Periods of artefacts, filled so that no filter rings from them."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from spikeinterface.preprocessing.basepreprocessor import BasePreprocessor, BasePreprocessorSegment


def fill_periods(traces: np.ndarray, periods: np.ndarray, num_level: int, decay: float) -> np.ndarray:
    """Replace periods by the level before them, and let what follows begin at this level.

    A difference in level decays so slowly that no band-pass filter for spikes sees it; no filter rings.

    Parameters
    ----------
    traces : ndarray, (num_samples, num_channels)
    periods : ndarray of int, (num_periods, 2)
        First sample, and first sample after the period.
    num_level : int
        Samples beside a period whose median is its level.
    decay : float
        Time constant of the decay, samples.

    Returns
    -------
    ndarray of float32, (num_samples, num_channels)
    """
    levels = []
    for start, end in periods:
        before, after = traces[max(0, start - num_level) : start], traces[end : end + num_level]
        levels.append([np.median(each, axis=0) if len(each) else None for each in (before, after)])
    return _fill(traces, periods, levels, decay)


def _fill(traces: np.ndarray, periods: np.ndarray, levels: list, decay: float) -> np.ndarray:
    """`fill_periods` with given levels (num_channels,) before and after each period; None at the end of a segment."""
    filled = traces.astype("float32")
    steps = np.zeros(filled.shape)
    for (start, end), (before, after) in zip(periods, levels, strict=True):
        nearest = next((level for level in (before, after) if level is not None), 0.0)
        filled[max(0, start) : max(0, end)] = nearest
        if before is not None and after is not None and 0 <= end < len(steps):
            steps[end] = after - before
    if not steps.any():
        return filled
    # (1 + t / decay) exp(-t / decay): flat at its start, for the filter would answer a kink too
    pole = np.exp(-1.0 / decay)
    decayed = lfilter([1.0, pole * (1.0 / decay - 1.0)], [1.0, -2.0 * pole, pole**2], steps, axis=0)
    return filled - decayed.astype("float32")


class FilledPeriodsRecording(BasePreprocessor):
    """A recording with filled periods, so that no filter rings from them; lazy.

    Parameters
    ----------
    recording : BaseRecording
        Scaled, float.
    periods : list of (int, int, int)
        Segment, first sample, and first sample after the period; in order of time, at least `num_level` apart.
    num_level : int
        As `fill_periods`.
    decay : float
        As `fill_periods`.
    """

    def __init__(self, recording, periods, num_level, decay):
        super().__init__(recording, dtype="float32")
        rows = np.asarray(periods, dtype="int64").reshape(-1, 3)
        for index, parent in enumerate(recording.segments):
            own = rows[rows[:, 0] == index][:, 1:]
            self.add_recording_segment(_FilledPeriodsSegment(parent, own, num_level, decay))
        self._kwargs = dict(recording=recording, periods=rows.tolist(), num_level=num_level, decay=decay)


class _FilledPeriodsSegment(BasePreprocessorSegment):
    def __init__(self, parent, periods, num_level, decay):
        super().__init__(parent)
        self._periods, self._num_level, self._decay = periods, num_level, decay
        self._reach = int(15 * decay)  # a difference in level is gone after it

    def get_traces(self, start_frame, end_frame, channel_indices):
        parent = self.parent_recording_segment
        is_near = (self._periods[:, 1] > start_frame - self._reach) & (self._periods[:, 0] < end_frame)
        if not is_near.any():
            return parent.get_traces(start_frame, end_frame, channel_indices).astype("float32", copy=False)
        near, num_samples = self._periods[is_near], self.get_num_samples()
        # from the first level on, except where a long blank lies before the chunk
        first = max(0, start_frame - self._reach - self._num_level)
        last = min(num_samples, end_frame + self._num_level)
        traces = parent.get_traces(first, last, channel_indices)

        def level(start, end):
            start, end = max(0, start), min(num_samples, end)
            if start >= end:
                return None
            if start >= first and end <= last:
                return np.median(traces[start - first : end - first], axis=0)
            return np.median(parent.get_traces(start, end, channel_indices), axis=0)

        levels = [(level(start - self._num_level, start), level(end, end + self._num_level)) for start, end in near]
        filled = _fill(traces, near - first, levels, self._decay)
        return filled[start_frame - first : end_frame - first]
