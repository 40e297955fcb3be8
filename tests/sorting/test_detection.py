import numpy as np
import pytest
import spikeinterface
from spikeinterface.sortingcomponents.peak_detection.matched_filtering import MatchedFilteringPeakDetector
from stand_in import RATE_HZ, TETRODE_UM, as_recording, planted, share_found, waveform

from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.matched_filter import MATCHED_FILTER, find_prototype
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups, statistics_kwargs
from huidurep.sorting.run_log import RunLog

FILTERED = dict(detection="matched_filtering")


def detect(recording, log=None, job_kwargs=None, **parameters):
    parameters = SortingParameters(**parameters)
    (group,) = split_groups(recording, parameters, RunLog())
    prepared = preprocess(group, parameters, RunLog())
    return detect_spikes(prepared, parameters, log or RunLog(), job_kwargs=job_kwargs)


def near_a_peak(samples, peaks, tolerance=2):
    """Channel of the peak at each sample, -1 where there is none."""
    nearest = np.array([np.abs(peaks["sample_index"] - sample).argmin() for sample in samples])
    is_found = np.abs(peaks["sample_index"][nearest] - samples) <= tolerance
    return np.where(is_found, peaks["channel_index"][nearest], -1)


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
        traces[sample - 10 : sample + 10] += 200 * waveform(num_samples=20, peak=10)[:, None]
    peaks = detect(as_recording(traces, positions_um=TETRODE_UM), detect_threshold=10.0)
    assert len(peaks) == 1
    assert abs(peaks["sample_index"][0] - 15000) < 5


@pytest.mark.parametrize(("sign", "found"), [("neg", 1), ("pos", 1), ("auto", 2)])
def test_sign(sign, found):
    traces = np.random.default_rng(0).normal(0, 5, (30000, 1)).astype("float32")
    bump = 300 * np.exp(-((np.arange(-15, 16) / 4.0) ** 2))[:, None].astype("float32")
    traces[9985:10016] -= bump
    traces[19985:20016] += bump
    recording = as_recording(traces, rate_hz=RATE_HZ)
    peaks = detect(recording, peak_sign=sign, detect_threshold=25.0, min_unit_spikes=1)
    assert len(peaks) == found


def test_silence_without_noise():
    traces = np.zeros((30000, 4), dtype="float32")
    traces[10000:10010] -= 100
    peaks = detect(
        as_recording(traces + np.random.default_rng(0).normal(0, 1e-9, traces.shape), positions_um=TETRODE_UM)
    )
    assert len(peaks) < 100


def test_peaks_below_the_unit_threshold_are_left_out_where_units_are_asked_for():
    traces, *_ = planted(duration_s=5.0)
    recording = as_recording(traces, positions_um=TETRODE_UM)
    counts = []
    for options in ({}, {"unit_threshold": 30.0}, {"unit_threshold": 30.0, "num_units": 2}):
        parameters = SortingParameters(detect_threshold=6.0, **options)
        (group,) = split_groups(recording, parameters, RunLog())
        counts.append(len(detect_spikes(preprocess(group, parameters, RunLog()), parameters, RunLog())))
    assert counts[0] == counts[1] > counts[2]


@pytest.mark.parametrize("sign", ["neg", "pos", "auto"])
def test_a_filter_finds_each_spike_at_its_trough(sign):
    traces, samples, labels = planted(duration_s=5.0, rate_hz=10.0)
    traces = -traces if sign == "pos" else traces
    recording = as_recording(traces, positions_um=TETRODE_UM)
    peaks = detect(recording, detect_threshold=6.0, peak_sign=sign, **FILTERED)
    channels = near_a_peak(samples, peaks)
    assert np.mean(channels >= 0) > 0.95
    assert np.mean(np.array([0, 2, 1])[labels[channels >= 0]] == channels[channels >= 0]) > 0.95
    assert np.diff(peaks["sample_index"]).min() > 0
    alone = samples[1:-1][(np.diff(samples)[1:] > 60) & (np.diff(samples)[:-1] > 60)]
    assert all(np.sum(np.abs(peaks["sample_index"] - sample) <= 20) <= 1 for sample in alone)


def test_a_filter_tells_heights_in_its_own_noise_levels():
    traces, *_ = planted(duration_s=5.0, rate_hz=10.0)
    parameters = SortingParameters(detect_threshold=6.0, peak_sign="neg", **FILTERED)
    (group,) = split_groups(as_recording(traces, positions_um=TETRODE_UM), parameters, RunLog())
    group = preprocess(group, parameters, RunLog())
    peaks = detect_spikes(group, parameters, RunLog())
    heights = -peaks["amplitude"] / group.noise_levels_uv[peaks["channel_index"]]
    assert 6.0 <= heights.min() < 7.0  # small ones are just above what was asked for
    filtered = group.recording.get_traces()
    troughs, before, after = (filtered[peaks["sample_index"] + step, peaks["channel_index"]] for step in (0, -1, 1))
    assert np.all((troughs < before) & (troughs <= after))
    # the largest that the detector itself makes of the traces there
    peaks_of_traces = detect(as_recording(traces, positions_um=TETRODE_UM), detect_threshold=6.0)
    detector = MatchedFilteringPeakDetector(
        group.recording,
        prototype=find_prototype(group, peaks_of_traces, parameters),
        ms_before=MATCHED_FILTER.ms_before,
        detect_threshold=6.0,
        random_chunk_kwargs=statistics_kwargs(group.recording, parameters.seed),
    )
    response = detector.get_convolved_traces(filtered) * 6.0 / detector.abs_thresholds.reshape(-1, 1)
    window = np.arange(-5, 6) - detector.nbefore
    expected = response.max(axis=0)[peaks["sample_index"][:, None] + window].max(axis=1)
    assert heights == pytest.approx(expected, rel=1e-3)


def test_a_filter_finds_small_spikes_that_a_threshold_misses():
    traces, samples, labels = planted(
        duration_s=10.0, rate_hz=20.0, footprints_uv=((150, 60, 50, 40), (24, 24, 24, 24)), seed=2
    )
    recording = as_recording(traces, positions_um=TETRODE_UM)
    small = samples[labels == 1]
    shares, counts = [], []
    for options in ({}, FILTERED):
        peaks = detect(recording, detect_threshold=5.0, **options)
        shares.append(np.mean(near_a_peak(small, peaks, tolerance=5) >= 0))
        counts.append(len(peaks))
    assert shares[1] > shares[0] + 0.1
    assert counts[1] < 1.1 * len(samples)


def test_a_filter_needs_large_spikes_and_says_so():
    traces, samples, _ = planted(duration_s=3.0, rate_hz=3.0)
    recording, log = as_recording(traces, positions_um=TETRODE_UM), RunLog()
    peaks = detect(recording, log, detect_threshold=6.0, **FILTERED)
    assert (peaks == detect(recording, detect_threshold=6.0)).all() and len(peaks)
    assert any("fewer than 50 peaks above 6" in entry["message"] for entry in log.entries)


def test_a_filter_on_segments_and_in_workers():
    traces, samples, _ = planted(duration_s=5.0, rate_hz=10.0)
    recording = as_recording(traces, positions_um=TETRODE_UM)
    halves = [recording.frame_slice(0, 75000), recording.frame_slice(75000, recording.get_num_samples())]
    parted = spikeinterface.append_recordings(halves)
    options = dict(detect_threshold=6.0, **FILTERED)
    peaks = detect(parted, **options)
    assert set(peaks["segment_index"]) == {0, 1}
    assert (np.diff(peaks["sample_index"] + peaks["segment_index"] * 10**6) >= 0).all()
    found = peaks["sample_index"] + 75000 * peaks["segment_index"]
    assert share_found(samples, found, tolerance=2) > 0.95
    workers = {"n_jobs": 2, "progress_bar": False, "chunk_duration": "1s"}
    assert (detect(parted, job_kwargs=workers, **options) == peaks).all()


@pytest.mark.parametrize("positions_um", [None, np.zeros((1, 2))])
def test_a_filter_without_contacts_spread_in_space(positions_um):
    traces, samples, _ = planted(duration_s=8.0, rate_hz=10.0, footprints_uv=((150, 149, 148, 147),))
    if positions_um is not None:
        traces = traces[:, :1]
    peaks = detect(as_recording(traces, positions_um=positions_um), detect_threshold=6.0, **FILTERED)
    assert share_found(samples, peaks["sample_index"], tolerance=2) > 0.95
    assert np.diff(peaks["sample_index"]).min() > 0  # all channels are one place
