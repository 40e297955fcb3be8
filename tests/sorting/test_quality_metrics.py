import numpy as np
import pytest
from spikeinterface.core import NumpySorting, create_sorting_analyzer
from spikeinterface.core.base import minimum_spike_dtype
from stand_in import as_recording

from huidurep.sorting.quality_metrics import QualitySettings, compute_quality_metrics

RATE = 10000.0
SECOND = int(RATE)
METRIC = {"quality_metrics": {"metric_names": ["isi_violation"]}}


def metrics_of(samples, posteriors, segments=None, units=None, num_samples=(100 * SECOND,), **options):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"] = samples
    vector["segment_index"] = 0 if segments is None else segments
    vector["unit_index"] = 0 if units is None else units
    recording = as_recording(*(np.zeros((count, 1), dtype="int8") for count in num_samples), rate_hz=RATE)
    num_units = vector["unit_index"].max() + 1
    found = compute_quality_metrics(recording, vector, np.asarray(posteriors, "float32"), num_units, **options)
    return found, vector, recording


def test_a_unit_without_short_intervals_and_with_high_posteriors_is_good():
    samples = np.arange(1, 100) * SECOND
    found, *_ = metrics_of(samples, np.full(99, 0.95))
    assert found["short_isi_fraction"] == [0.0] and found["isi_violations_ratio"] == [0.0]
    assert found["presence_ratio"] == [1.0] and found["quality"] == ["good"]
    assert found["mean_posterior"] == pytest.approx([0.95])


def test_short_intervals_or_low_posteriors_make_multi_unit_activity():
    samples = np.sort(np.concatenate([np.arange(1, 100) * SECOND, np.arange(1, 4) * SECOND + 10]))
    found, *_ = metrics_of(samples, np.ones(102))
    assert found["short_isi_fraction"] == pytest.approx([3 / 101]) and found["quality"] == ["mua"]
    # violations over their expected number at a constant rate, (3 / (2 n 1.5 ms)) / (n / 100 s)
    assert found["isi_violations_ratio"] == pytest.approx([3 * 100 / (2 * 102**2 * 0.0015)])
    assert metrics_of(np.arange(1, 100) * SECOND, np.full(99, 0.89))[0]["quality"] == ["mua"]
    lenient = QualitySettings(max_short_isi_fraction=0.03)
    assert metrics_of(samples, np.ones(102), settings=lenient)[0]["quality"] == ["good"]


def test_isi_violations_ratio_is_that_of_spikeinterface_over_all_segments():
    rng = np.random.default_rng(0)
    segments, units = np.repeat([0, 1], 600), rng.integers(0, 3, 1200)
    samples = np.concatenate([np.sort(rng.integers(0, 20 * SECOND, 600)) for _ in range(2)])
    found, vector, recording = metrics_of(samples, np.ones(1200), segments, units, (20 * SECOND, 30 * SECOND))
    recording.set_dummy_probe_from_locations(np.zeros((1, 2)))
    sorting = NumpySorting(vector, RATE, np.arange(3))
    analyzer = create_sorting_analyzer(sorting, recording, sparse=False)
    analyzer.compute(["random_spikes", "templates", "quality_metrics"], extension_params=METRIC)
    expected = analyzer.get_extension("quality_metrics").get_data()["isi_violations_ratio"]
    assert (np.array(expected) > 0).all()
    np.testing.assert_allclose(found["isi_violations_ratio"], expected, rtol=1e-6)


def test_presence_counts_bins_over_all_segments():
    # ten bins of 10 s: one in the first segment's first half, one in the second's last
    found, *_ = metrics_of([5, 49 * SECOND], [1, 1], segments=[0, 1], num_samples=(50 * SECOND, 50 * SECOND))
    assert found["presence_ratio"] == pytest.approx([0.2])
    # minutes where there are more than ten of them
    found, *_ = metrics_of([5], [1], num_samples=(1200 * SECOND,))
    assert found["presence_ratio"] == pytest.approx([1 / 20])


def test_intervals_are_those_of_one_unit_in_one_segment():
    found, *_ = metrics_of([10, 12, 14], [1, 1, 1], segments=[0, 0, 1], units=[0, 1, 0], num_samples=(SECOND, SECOND))
    assert found["short_isi_fraction"] == found["isi_violations_ratio"] == [0.0, 0.0]
