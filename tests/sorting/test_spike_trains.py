"""Times across segments, and duplicates: the smaller of two spikes that one neuron cannot have fired."""

import numpy as np
from spikeinterface.core import NumpyRecording
from spikeinterface.core.base import base_peak_dtype

from huidurep.sorting.spike_trains import (
    has_coincident,
    is_duplicate_spike,
    running_sample_index,
    segment_starts,
    spike_times_s,
)

RATE_HZ = 10000.0


def made(samples, sizes_uv, segments=None):
    traces = np.zeros((2, 1000, 2), dtype="float32")
    spikes = np.zeros(len(samples), dtype=base_peak_dtype)
    spikes["sample_index"] = samples
    spikes["segment_index"] = 0 if segments is None else segments
    for spike, size_uv in zip(spikes, sizes_uv, strict=True):
        traces[spike["segment_index"], spike["sample_index"], 1] = size_uv
    return NumpyRecording(list(traces), RATE_HZ), spikes


def test_the_smaller_of_two_is_a_duplicate():
    recording, spikes = made([100, 105, 300, 306], [-50, -90, -80, -60])
    assert is_duplicate_spike(spikes, np.zeros(4, dtype="int64"), recording).tolist() == [True, False, False, True]


def test_the_largest_of_a_run_is_kept():
    recording, spikes = made([100, 104, 108, 112, 116], [-30, -40, -90, -50, -20])
    # 116 follows 108 by more than 0.6 ms
    assert is_duplicate_spike(spikes, np.zeros(5, dtype="int64"), recording).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_bursts_other_units_and_other_segments_are_kept():
    recording, spikes = made([100, 107, 110, 500, 502], [-90, -60, -80, -70, -60], segments=[0, 0, 0, 0, 1])
    labels = np.array([0, 0, 1, 0, 0])
    assert not is_duplicate_spike(spikes, labels, recording).any()


def test_at_the_edges_of_a_recording():
    recording, spikes = made([0, 3, 997, 999], [-50, -90, -80, -60])
    assert is_duplicate_spike(spikes, np.zeros(4, dtype="int64"), recording).tolist() == [True, False, False, True]


def test_times_across_segments():
    recording, spikes = made([5, 10, 0], [1, 1, 1], segments=[0, 0, 1])  # segments of 1000 samples, 0.1 s
    assert running_sample_index(recording, spikes).tolist() == [5, 10, 1000]
    np.testing.assert_allclose(spike_times_s(spikes, recording), [0.0005, 0.001, 1.1])
    assert segment_starts([3, 4, 5], 2).tolist() == [0, 5, 11]


def test_has_coincident():
    samples, others = np.array([10, 20, 30]), np.array([7, 24])
    assert has_coincident(samples, others, 3).tolist() == [True, False, False]
    assert has_coincident(samples, others, 4).tolist() == [True, True, False]
