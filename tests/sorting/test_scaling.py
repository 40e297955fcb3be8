import numpy as np
import pytest
from spikeinterface.core import NumpyRecording, aggregate_channels, append_recordings, concatenate_recordings
from spikeinterface.preprocessing import scale_to_uV

from huidurep.sorting.scaling import check_joined_gains, complete_gains, scale_traces


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


def test_joined_recordings_have_the_same_gains():
    parts = []
    for gain in (0.2, 0.2, 0.5, None):
        part = NumpyRecording([np.ones((100, 2), "int16")], 30000.0)
        if gain is not None:
            part.set_channel_gains(gain)
            part.set_channel_offsets(0.0)
        parts.append(part)
    same, first, second, without = parts
    for join in (append_recordings, concatenate_recordings):
        check_joined_gains(join([same, first]))
        check_joined_gains(join([scale_to_uV(first), scale_to_uV(second)]))
        check_joined_gains(join([without, without]))
        with pytest.raises(ValueError, match=r"same gains to uV, found \[0.2\] and \[0.5\]; join"):
            check_joined_gains(join([first, second]).select_channels([0]))
        with pytest.raises(ValueError, match="found .*none"):
            check_joined_gains(join([first, without]))
    check_joined_gains(aggregate_channels([first, second]))
