import numpy as np
from spikeinterface.core import NumpyRecording

from huidurep.sorting.scaling import complete_gains, scale_traces


def test_traces_are_scaled_in_single_precision():
    traces = np.random.default_rng(0).integers(-3000, 3000, (2000, 3)).astype("int16")
    recording = NumpyRecording([traces, traces[:500]], 30000.0)
    gains, offsets = np.array([0.195, 2.0, -0.5]), np.array([1e4, -3.25, 0.0])
    scaled = scale_traces(recording, gains, offsets)
    for segment, part in enumerate((traces, traces[:500])):
        found = scaled.get_traces(segment_index=segment)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, part * gains + offsets, rtol=1e-6, atol=1e-3)
    # double precision takes three times as long
    assert all(each.gain.dtype == each.offset.dtype == "float32" for each in scaled.segments)
    np.testing.assert_allclose(scale_traces(recording, 0.1).get_traces(segment_index=0), traces * 0.1, rtol=1e-6)


def test_gains_need_no_offsets():
    recording = NumpyRecording([np.ones((100, 2), "int16")], 30000.0)
    assert complete_gains(recording) is recording
    recording.set_channel_gains([0.195, 2.0])
    completed = complete_gains(recording)
    np.testing.assert_allclose(completed.get_traces(return_in_uV=True)[0], [0.195, 2.0])
    assert complete_gains(completed) is completed
    assert not recording.has_scaleable_traces()
