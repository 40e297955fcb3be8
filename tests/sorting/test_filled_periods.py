import numpy as np
import pytest
from spikeinterface.core import NumpyRecording
from spikeinterface.core import load as load_recording

from huidurep.sorting.filled_periods import FilledPeriodsRecording, fill_periods


def test_fill_periods_keeps_the_level():
    traces = np.concatenate([np.zeros(1000), np.full(50, 9e3), np.full(4000, 500.0)])[:, None].astype("float32")
    filled = fill_periods(traces, np.array([[1000, 1050]]), 30, 600.0)[:, 0]
    assert np.abs(np.diff(filled)).max() < 1.0  # no step is left
    assert filled[1060] == pytest.approx(0.0, abs=1)
    assert filled[-1] == pytest.approx(500.0, abs=6)


def test_a_filled_recording_is_the_same_in_any_chunks_and_after_a_round_trip():
    rng = np.random.default_rng(0)
    traces = rng.standard_normal((9000, 2)).astype("float32")
    traces[3000:] += 700.0
    recording = FilledPeriodsRecording(NumpyRecording([traces], 30000.0), [(0, 2990, 3010), (0, 5000, 5040)], 30, 60.0)
    whole = recording.get_traces()
    parts = [recording.get_traces(start_frame=start, end_frame=start + 750) for start in range(0, 9000, 750)]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-3)
    again = load_recording(recording.to_dict())  # as it reaches other processes
    assert np.array_equal(again.get_traces(), whole)
    assert np.abs(np.diff(whole, axis=0)).max() < 10  # no step is left
