import numpy as np
import pytest
from spikeinterface.core import NumpySorting, create_sorting_analyzer
from spikeinterface.core.base import minimum_spike_dtype
from stand_in import as_recording

from huidurep.sorting.quality_metrics import (
    QualitySettings,
    compute_amplitude_cutoffs,
    compute_quality_metrics,
    explain_unit,
    label_units,
)
from huidurep.sorting.spike_trains import DUPLICATE_MS

RATE = 10000.0
SECOND = int(RATE)
METRICS = {
    "metric_names": ["isi_violation", "rp_violation"],
    "metric_params": {"rp_violation": {"refractory_period_ms": 2.0, "censored_period_ms": DUPLICATE_MS}},
}


def metrics_of(samples, posteriors, segments=None, units=None, num_samples=(100 * SECOND,), **options):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"] = samples
    vector["segment_index"] = 0 if segments is None else segments
    vector["unit_index"] = 0 if units is None else units
    recording = as_recording(*(np.zeros((count, 1), dtype="int8") for count in num_samples), rate_hz=RATE)
    num_units = vector["unit_index"].max() + 1
    found = compute_quality_metrics(recording, vector, np.asarray(posteriors, "float32"), num_units, **options)
    return found, vector, recording


def test_metrics_of_a_unit_without_short_intervals():
    found, *_ = metrics_of(np.arange(1, 100) * SECOND, np.full(99, 0.95))
    assert found["short_isi_fraction"] == found["isi_violations_ratio"] == found["contamination"] == [0.0]
    assert found["presence_ratio"] == found["contamination_p_value"] == [1.0]
    assert found["mean_posterior"] == pytest.approx([0.95])


def test_short_intervals():
    samples = np.sort(np.concatenate([np.arange(1, 100) * SECOND, np.arange(1, 4) * SECOND + 10]))
    found, *_ = metrics_of(samples, np.ones(102))
    assert found["short_isi_fraction"] == pytest.approx([3 / 101])
    # violations over their expected number at a constant rate, (3 / (2 n 1.5 ms)) / (n / 100 s)
    assert found["isi_violations_ratio"] == pytest.approx([3 * 100 / (2 * 102**2 * 0.0015)])


def train(rate_hz, rng, duration_s=100):
    """Spikes with a refractory period of 3 ms."""
    intervals_s = 0.003 + rng.exponential(1 / rate_hz - 0.003, int(2 * rate_hz * duration_s))
    samples = np.cumsum(intervals_s * RATE).astype("int64")
    return samples[samples < duration_s * SECOND]


def test_contamination_is_the_share_of_foreign_spikes_and_is_tested_against_a_tenth():
    rng = np.random.default_rng(0)
    mixed = np.sort(np.concatenate([train(28, rng), train(12, rng)]))
    clean = train(40, rng)
    found = [metrics_of(samples, np.ones(len(samples)))[0] for samples in (mixed, clean)]
    assert found[0]["contamination"][0] == pytest.approx(0.3, abs=0.08) and found[1]["contamination"] == [0.0]
    assert found[0]["contamination_p_value"][0] < 0.001 and found[1]["contamination_p_value"] == [1.0]
    lenient = metrics_of(mixed, np.ones(len(mixed)), settings=QualitySettings(max_contamination=0.4))[0]
    assert lenient["contamination_p_value"][0] > 0.05
    # the first interval of 1 ms of a hundred spikes may be a chance
    few = metrics_of(np.append(np.arange(1, 300) * SECOND // 3, 100 * SECOND - 10), np.ones(300))[0]
    assert few["contamination_p_value"][0] > 0.05


def unit_with(**changed):
    usual = dict(snr=8.0, contamination=0.01, contamination_p_value=0.9, neighbour_share=0.01, template_distance=20.0)
    usual |= dict(overlapping_unit=12, amplitude_cutoff=np.nan, presence_ratio=1.0)
    return {name: [value] for name, value in (usual | changed).items()}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (dict(), ""),
        (dict(template_distance=np.nan, overlapping_unit=-1, presence_ratio=0.4), ""),
        (dict(snr=3.16), "SNR 3.2"),
        (dict(contamination=0.14, contamination_p_value=0.01), "refractory contamination 14%"),
        (dict(neighbour_share=0.2), "overlaps with unit 12"),
        (dict(template_distance=5.0), "overlaps with unit 12"),
        (dict(amplitude_cutoff=0.31), "31% of spikes below the detection threshold"),
        (dict(presence_ratio=0.1, snr=2.0), "SNR 2.0; present in 10% of the recording"),
    ],
)
def test_the_reason_says_which_test_failed(changed, reason):
    assert label_units(unit_with(**changed)) == (["mua" if reason else "good"], [reason])


def test_a_unit_is_explained_in_words():
    sorting = NumpySorting.from_unit_dict([{"a": np.array([5]), "b": np.array([7])}], RATE)
    properties = {name: values * 2 for name, values in unit_with(snr=3.0, neighbour_share=0.3).items()}
    properties["snr"], properties["neighbour_share"] = [3.0, 9.0], [0.3, 0.0]
    properties["quality"], properties["quality_reason"] = label_units(properties)
    for name in (*properties,):
        sorting.set_property(name, np.array(properties[name]))
    bad, good = (explain_unit(sorting, unit).splitlines() for unit in ("a", "b"))
    assert bad[0].startswith("Unit a (") and "is mua: SNR 3.0; overlaps with unit" in bad[0]
    outcomes = [line.split()[0] for line in bad[1:]]
    assert outcomes == ["failed", "passed", "failed", *outcomes[3:]] and "failed" not in outcomes[3:]
    assert "SNR 3.0; 4.5 or more" in bad[1] and "30% of the nearest spikes" in bad[3]
    assert "is good: it passes" in good[0] and not any("failed" in line for line in good)
    sorting.set_property("amplitude_cutoff", np.full(2, np.nan))
    assert any("not tested" in line and "500 spikes" in line for line in explain_unit(sorting, "b").splitlines())
    sorting.delete_property("presence_ratio")  # as in results of early versions
    assert "recording" not in explain_unit(sorting, "b")
    with pytest.raises(ValueError, match=r"\['a', 'b'\], found 0"):
        explain_unit(sorting, 0)


def test_thresholds_are_settings():
    assert label_units(unit_with(), settings=QualitySettings(min_snr=9.0))[0] == ["mua"]


def test_amplitude_cutoff_is_spikeinterfaces_and_of_sizes():
    amplitudes_uv = np.random.default_rng(0).normal(-60, 10, 4000)
    amplitudes_uv = amplitudes_uv[amplitudes_uv < -60]  # the smaller half is missing
    whole, few = compute_amplitude_cutoffs(amplitudes_uv, np.repeat([0, 1], [len(amplitudes_uv) - 50, 50]), 2)
    assert whole > 0.4 and np.isnan(few)


def test_violations_are_those_of_spikeinterface_over_all_segments():
    rng = np.random.default_rng(0)
    segments, units = np.repeat([0, 1], 600), rng.integers(0, 3, 1200)
    samples = np.concatenate([np.sort(rng.integers(0, 20 * SECOND, 600)) for _ in range(2)])
    found, vector, recording = metrics_of(samples, np.ones(1200), segments, units, (20 * SECOND, 30 * SECOND))
    recording.set_dummy_probe_from_locations(np.zeros((1, 2)))
    sorting = NumpySorting(vector, RATE, np.arange(3))
    analyzer = create_sorting_analyzer(sorting, recording, sparse=False)
    analyzer.compute(["random_spikes", "templates", "quality_metrics"], extension_params={"quality_metrics": METRICS})
    expected = analyzer.get_extension("quality_metrics").get_data()
    for name, theirs in (("isi_violations_ratio", "isi_violations_ratio"), ("contamination", "rp_contamination")):
        assert (np.array(expected[theirs]) > 0).all()
        np.testing.assert_allclose(found[name], expected[theirs].astype(float), rtol=1e-6)


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
