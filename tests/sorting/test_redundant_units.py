"""Which units are a second view of another one, and which are neurons that often fire together."""

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype
from stand_in import TETRODE_UM, as_recording, waveform

from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.redundant_units import (
    RedundancySettings,
    most_frequent_lag,
    remove_overlap_units,
    remove_redundant_units,
)
from huidurep.sorting.run_log import RunLog

NUM_SAMPLES = 600000
LARGE_UV, SMALL_UV = np.array([300.0, 200, 120, 150]), np.array([40.0, 110, 50, 90])
AFTER_WAVE, LAG = 0.35, 40  # of the large unit; 1.3 ms


def train(seed, num_spikes=400):
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(np.arange(100, NUM_SAMPLES - 200, 90), num_spikes, replace=False))


def kept_by(remove, planted, units, **options):
    """Units that are kept, of (samples, amplitudes), in traces with planted (samples, amplitudes, waveform)."""
    traces = np.random.default_rng(0).normal(0, 6.0, (NUM_SAMPLES, 4)).astype("float32")
    for samples, sizes_uv, form in planted:
        for sample in samples:
            traces[sample - 20 : sample + 100] += form[:, None] * sizes_uv
    peaks = np.zeros(sum(len(samples) for samples, _ in units), dtype=base_peak_dtype)
    labels = np.repeat(np.arange(len(units)), [len(samples) for samples, _ in units])
    peaks["sample_index"] = np.concatenate([samples for samples, _ in units])
    peaks["amplitude"] = np.array([-sizes_uv.max() for _, sizes_uv in units])[labels]
    order = np.argsort(peaks["sample_index"], kind="stable")
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), SortingParameters(), RunLog())
    group = preprocess(group, SortingParameters(), RunLog())
    kept = remove(group, peaks[order], labels[order], SortingParameters(), **options)
    assert ((kept == labels[order]) | (kept == -1)).all()
    return set(kept[kept >= 0].tolist())


def kept_units(large, *others_uv, after_wave=0.0, by_channel=False, settings=None):
    """Units that are kept, of a large one and of others (train, amplitudes, whether the traces have its spikes)."""
    shape = waveform(num_samples=120)
    shape[LAG:] += after_wave * shape[:-LAG]
    planted = [(large, LARGE_UV, shape)]
    planted += [(samples, uv, waveform(num_samples=120)) for samples, uv, is_planted in others_uv if is_planted]
    units = [(large, LARGE_UV), *((samples, sizes_uv) for samples, sizes_uv, _ in others_uv)]
    options = dict(by_channel=by_channel, settings=settings or RedundancySettings())
    return kept_by(remove_redundant_units, planted, units, **options)


@pytest.mark.parametrize(
    "num_overlaps, second_uv, kept",
    [(70, SMALL_UV, {0, 1}), (170, SMALL_UV, {0, 1, 2}), (70, SMALL_UV[::-1], {0, 1, 2})],
    ids=["by-chance", "more-than-by-chance", "another-neuron"],
)
@pytest.mark.parametrize("spread", [1, 8], ids=["one-lag", "lags"])
def test_overlapping_spikes_are_no_unit(num_overlaps, second_uv, kept, spread):
    # 1200 spikes of each in 20 s: 72 overlap by chance at lags of one millisecond
    rng = np.random.default_rng(3)
    large, small, both = (train(seed, n) + rng.integers(0, 80, n) for seed, n in enumerate([1200, 1200, num_overlaps]))
    second = both + 12 + rng.integers(0, spread, num_overlaps)
    units = [(large, LARGE_UV), (small, SMALL_UV), (both, LARGE_UV)]
    planted = [(samples, sizes_uv, waveform(num_samples=120)) for samples, sizes_uv in [*units, (second, second_uv)]]
    assert kept_by(remove_overlap_units, planted, units) == kept


@pytest.mark.parametrize("share", [0.5, 1.0], ids=["half-detected", "all-detected"])
def test_after_waves_are_removed(share):
    rng = np.random.default_rng(1)
    seen = train(0)[rng.random(400) < share]
    late = np.sort(np.concatenate([seen + LAG + rng.integers(-3, 4, len(seen)), train(5, 20)]))
    others = (late, AFTER_WAVE * LARGE_UV, False), (train(1), SMALL_UV, True)
    assert kept_units(train(0), *others, after_wave=AFTER_WAVE) == {0, 2}


def test_coupled_neuron_is_kept():
    rng = np.random.default_rng(2)
    driven = train(0)[rng.random(400) < 0.6]
    lags = (30 * (2.0 + 0.3 * rng.standard_normal(len(driven)))).astype(int)
    follower = np.sort(np.concatenate([driven + lags, train(6, 100)]))
    assert kept_units(train(0), (follower, SMALL_UV, True)) == {0, 1}


def test_neuron_that_always_follows_at_one_lag_is_kept_by_its_own_spikes():
    # nine of ten of its spikes are where an after-wave would be, but the other neuron's waveform is flat there
    follower = np.sort(np.concatenate([train(0)[::2] + LAG, train(6, 20)]))
    assert kept_units(train(0), (follower, SMALL_UV, True)) == {0, 1}
    settings = RedundancySettings(min_alone_share=0.9)
    assert kept_units(train(0), (follower, SMALL_UV, True), settings=settings) == {0}


def test_two_neurons_of_similar_waveforms_are_kept():
    assert kept_units(train(0), (train(1), 0.6 * LARGE_UV, True), after_wave=AFTER_WAVE) == {0, 1}


def test_spikes_detected_on_a_second_channel_are_removed_at_any_lag():
    rng = np.random.default_rng(3)
    spread = np.sort(train(0) + rng.integers(-22, 23, 400))
    assert kept_units(train(0), (spread, SMALL_UV, False), by_channel=True) == {0}


def test_unit_is_not_removed_for_a_few_larger_spikes_that_are_among_its_own():
    """A neuron of 150 uV had been lost: a small cluster of larger amplitude had most of its spikes at the neuron's."""
    few = np.sort(np.concatenate([train(0)[:40], train(7, 20)]))
    assert kept_units(few, (train(0), SMALL_UV, True), by_channel=True) == {0, 1}


def test_most_frequent_lag():
    others = np.arange(1000, 100000, 1000)
    samples = others[::2] + 37
    assert most_frequent_lag(samples, others, 60, 5) == 37
    assert most_frequent_lag(others - 12, others, 60, 5) == -12
    assert most_frequent_lag(samples, others, 20, 5) is None
    assert most_frequent_lag(samples, others[:0], 60, 5) is None
