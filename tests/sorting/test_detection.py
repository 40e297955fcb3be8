import numpy as np
import pytest
from stand_in import RATE_HZ, TETRODE_UM, as_recording, planted, share_found

from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog


def detect(recording, **parameters):
    parameters = SortingParameters(**parameters)
    (group,) = split_groups(recording, parameters, RunLog())
    return detect_spikes(preprocess(group, parameters, RunLog()), parameters, RunLog())


def test_planted_spikes_are_found_once_at_their_trough():
    traces, samples, labels = planted(duration_s=5.0, rate_hz=5.0)
    peaks = detect(as_recording(traces, positions_um=TETRODE_UM), detect_threshold=6.0)
    assert share_found(samples, peaks["sample_index"], tolerance=2) > 0.95
    assert len(peaks) <= 1.02 * len(samples)
    nearest = [np.abs(samples - sample).argmin() for sample in peaks["sample_index"]]
    # each on the channel where its unit is largest
    assert np.mean(np.array([0, 2, 1])[labels[nearest]] == peaks["channel_index"]) > 0.95


def test_a_wide_tetrode_is_one_place():
    traces, samples, _ = planted(duration_s=3.0, rate_hz=5.0, footprints_uv=((150, 149, 148, 147),))
    peaks = detect(as_recording(traces, positions_um=TETRODE_UM * 40), detect_threshold=8.0, radius_um=10.0)
    assert len(peaks) == len(samples)


def test_peaks_near_the_edges_are_dropped():
    traces = np.random.default_rng(0).normal(0, 5, (30000, 4)).astype("float32")
    for sample in (10, 15000, 29980):
        traces[sample - 3 : sample + 3] -= 200
    peaks = detect(as_recording(traces, positions_um=TETRODE_UM), detect_threshold=10.0)
    assert len(peaks) == 1
    assert abs(peaks["sample_index"][0] - 15000) < 5


@pytest.mark.parametrize(("sign", "found"), [("neg", 1), ("pos", 1), ("both", 2)])
def test_sign(sign, found):
    traces = np.random.default_rng(0).normal(0, 5, (30000, 1)).astype("float32")
    bump = 300 * np.exp(-((np.arange(-15, 16) / 4.0) ** 2))[:, None].astype("float32")
    traces[9985:10016] -= bump
    traces[19985:20016] += bump
    peaks = detect(as_recording(traces, rate_hz=RATE_HZ), peak_sign=sign, detect_threshold=25.0)
    assert len(peaks) == found


def test_silence_without_noise():
    traces = np.zeros((30000, 4), dtype="float32")
    traces[10000:10010] -= 100
    peaks = detect(
        as_recording(traces + np.random.default_rng(0).normal(0, 1e-9, traces.shape), positions_um=TETRODE_UM)
    )
    assert len(peaks) < 100


def test_peaks_below_the_unit_threshold_are_left_out_where_units_are_asked_for():
    traces, *_ = planted()
    recording = as_recording(traces, positions_um=TETRODE_UM)
    counts = []
    for options in ({}, {"unit_threshold": 30.0}, {"unit_threshold": 30.0, "num_units": 2}):
        parameters = SortingParameters(detect_threshold=6.0, **options)
        (group,) = split_groups(recording, parameters, RunLog())
        counts.append(len(detect_spikes(preprocess(group, parameters, RunLog()), parameters, RunLog())))
    assert counts[0] == counts[1] > counts[2]
