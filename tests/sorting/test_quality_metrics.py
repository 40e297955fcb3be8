import numpy as np
import pytest
from spikeinterface.core.base import minimum_spike_dtype
from stand_in import as_recording

from huidurep.sorting.quality_metrics import unit_confidence

RATE = 10000.0
SECOND = int(RATE)


def confidence_of(samples, posteriors, segments=None, units=None, num_samples=(100 * SECOND,)):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"] = samples
    vector["segment_index"] = 0 if segments is None else segments
    vector["unit_index"] = 0 if units is None else units
    recording = as_recording(*(np.zeros((count, 1), dtype="int8") for count in num_samples), rate_hz=RATE)
    return unit_confidence(recording, vector, np.asarray(posteriors, "float32"), vector["unit_index"].max() + 1)


def test_a_unit_that_keeps_its_refractory_period_and_stands_alone_is_good():
    samples = np.arange(1, 100) * SECOND
    found = confidence_of(samples, np.full(99, 0.95))
    assert found["refractory_violations"] == [0.0] and found["presence"] == [1.0] and found["quality"] == ["good"]
    assert found["isolation"] == pytest.approx([0.95])


def test_what_is_violated_or_doubtful_is_several_units():
    samples = np.sort(np.concatenate([np.arange(1, 100) * SECOND, np.arange(1, 4) * SECOND + 10]))
    assert confidence_of(samples, np.ones(102))["refractory_violations"] == pytest.approx([3 / 101])
    assert confidence_of(samples, np.ones(102))["quality"] == ["mua"]
    assert confidence_of(np.arange(1, 100) * SECOND, np.full(99, 0.89))["quality"] == ["mua"]


def test_presence_counts_stretches_over_all_segments():
    # ten stretches of 10 s: one in the first segment's first half, one in the second's last
    found = confidence_of([5, 49 * SECOND], [1, 1], segments=[0, 1], num_samples=(50 * SECOND, 50 * SECOND))
    assert found["presence"] == pytest.approx([0.2])
    # minutes where there are more than ten of them
    found = confidence_of([5], [1], num_samples=(1200 * SECOND,))
    assert found["presence"] == pytest.approx([1 / 20])


def test_intervals_are_those_of_one_unit_in_one_segment():
    found = confidence_of([10, 12, 14], [1, 1, 1], segments=[0, 0, 1], units=[0, 1, 0], num_samples=(SECOND, SECOND))
    assert found["refractory_violations"] == [0.0, 0.0]
