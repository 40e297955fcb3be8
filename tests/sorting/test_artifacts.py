import functools

import numpy as np
import pytest
from stand_in import RATE_HZ, TETRODE_UM, as_recording, planted, waveform

from huidurep.sorting.artifacts import is_in_periods, make_periods, merge_periods
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog

PULSE = np.concatenate([np.full(15, -1.0), np.full(15, 1.0), 0.3 * np.exp(-np.arange(90) / 30)])
STARTS = np.arange(3000, 87000, 3000)


def prepare(recording, **parameters):
    parameters, log = SortingParameters(**parameters), RunLog()
    (group,) = split_groups(recording, parameters, log)
    return preprocess(group, parameters, log), " | ".join(entry["message"] for entry in log.entries)


@functools.cache
def planted_once():
    return planted(duration_s=3.0)[0]


def spikes():
    return planted_once().copy()


@functools.cache
def plain(num_channels=4):
    """(traces, noise levels) of the spikes alone."""
    group, _ = prepare(as_recording(spikes()[:, :num_channels], positions_um=TETRODE_UM[:num_channels]))
    return group.recording.get_traces().copy(), group.noise_levels_uv  # the recording owns the memory of its traces


def add(traces, shape, size_uv, footprint=(1.0, 0.95, 1.05, 0.9), starts=STARTS):
    added = traces.copy()
    for start in starts:
        added[start : start + len(shape)] += (size_uv * shape[:, None] * np.asarray(footprint)).astype("float32")
    return added


@pytest.mark.parametrize("size_uv", [1000.0, 3000.0, 10000.0])
def test_pulses_are_left_out_and_nothing_rings(size_uv):
    expected, noise_levels_uv = plain()
    group, messages = prepare(as_recording(add(spikes(), PULSE, size_uv), positions_um=TETRODE_UM))
    periods, traces = group.artifact_periods, group.recording.get_traces()
    assert len(periods) == len(STARTS)
    assert is_in_periods(0, STARTS + 20, periods).all()
    durations = periods["end_sample_index"] - periods["start_sample_index"]
    assert np.median(durations) < 0.006 * RATE_HZ
    assert group.recording.get_num_channels() == 4  # none is a copy of another
    assert group.noise_levels_uv == pytest.approx(noise_levels_uv, rel=0.03)
    outside = ~is_in_periods(0, np.arange(len(traces)), periods)
    # where a spike was cut by the edge of a period, more is left of it
    rest = np.abs(traces[outside] - expected[outside]) / noise_levels_uv
    assert np.quantile(rest, 0.999) < 3
    assert rest.max() < 15
    assert not traces[~outside].any()
    assert f"{len(STARTS)} artefacts or blanks" in messages


@pytest.mark.parametrize("num_channels", [1, 4])
@pytest.mark.parametrize("peak_uv", [900.0, 1000.0, 2000.0])
def test_large_spikes_are_no_artefacts(num_channels, peak_uv):
    shape, interval = waveform(width=4.0), np.random.default_rng(0).integers(300, 3000, 50)
    bursts = (np.cumsum(interval)[:, None] + np.array([0, 90, 190])).ravel()
    footprint = np.array([1.0, 0.9, 0.95, 0.85])[:num_channels]
    traces = add(spikes()[:, :num_channels], shape, peak_uv, footprint, bursts[bursts < 89000])
    group, _ = prepare(as_recording(traces, positions_um=TETRODE_UM[:num_channels]))
    assert len(group.artifact_periods) == 0
    assert -group.recording.get_traces().min() > 0.7 * peak_uv


SMOOTH = {
    "half a sine of 1 ms": -np.sin(np.pi * np.arange(30) / 30),
    "half a sine of 5 ms": -np.sin(np.pi * np.arange(150) / 150),
    "a bell of 3 ms": -0.5 * (1 - np.cos(2 * np.pi * np.arange(90) / 90)),
    "an exponential of 1 ms": -np.exp(-np.arange(90) / 15),
    "an exponential of 5 ms": np.exp(-np.arange(300) / 75),
}


@pytest.mark.parametrize("num_channels", [1, 4])
@pytest.mark.parametrize(("shape", "size_uv"), [(each, size) for each in SMOOTH for size in (500.0, 5000.0)])
def test_smooth_pulses(shape, size_uv, num_channels):
    footprint = np.array([1.0, 0.95, 1.05, 0.9])[:num_channels]
    traces = add(spikes()[:, :num_channels], SMOOTH[shape], size_uv, footprint)
    expected, noise_levels_uv = plain(num_channels)
    group, _ = prepare(as_recording(traces, positions_um=TETRODE_UM[:num_channels]))
    periods = group.artifact_periods
    assert len(periods) == len(STARTS)
    assert is_in_periods(0, STARTS + np.abs(SMOOTH[shape]).argmax() + 1, periods).all()
    rest = np.abs(group.recording.get_traces()) - np.abs(expected).max()
    assert rest.max() < 3 * noise_levels_uv.max()  # nothing larger than the spikes
    assert (periods["end_sample_index"] - periods["start_sample_index"]).max() < 0.02 * RATE_HZ


def test_smooth_pulses_on_a_third_of_a_large_probe():
    """Chunks are searched on every third of 96 channels at first."""
    noise = np.random.default_rng(2).normal(0, 8.0, (20000, 96)).astype("float32")
    footprint, starts = np.zeros(96), STARTS[STARTS < 19000]
    footprint[50:82] = 1.0
    positions_um = np.column_stack([np.zeros(96), 20.0 * np.arange(96)])
    pulse = SMOOTH["half a sine of 1 ms"]
    group, _ = prepare(as_recording(add(noise, pulse, 2000.0, footprint, starts), positions_um=positions_um))
    assert len(group.artifact_periods) == len(starts)
    assert is_in_periods(0, starts + np.abs(pulse).argmax() + 1, group.artifact_periods).all()


def test_waves_of_the_local_field_and_overlapping_spikes_are_no_artefacts():
    """Spikes of 900 uV one on another, and in bursts, on waves of 8 and 40 Hz and ripples of 180 Hz."""
    rng, traces, seconds = np.random.default_rng(1), spikes(), np.arange(90000) / RATE_HZ
    first = np.cumsum(rng.integers(600, 3000, 45))
    for lags in (np.zeros(45, dtype=int), rng.integers(3, 25, 45), rng.integers(90, 180, 45)):
        starts = first + lags
        traces = add(traces, waveform(width=5.0), 900.0, (1.0, 0.9, 0.95, 0.85), starts[starts < 89000])
    ripples = 60.0 * np.sin(2 * np.pi * 180 * seconds) * (np.sin(2 * np.pi * 2 * seconds) > 0.9)
    waves = 300.0 * np.sin(2 * np.pi * 8 * seconds) + 60.0 * np.sin(2 * np.pi * 40 * seconds) + ripples
    group, _ = prepare(as_recording(traces + waves[:, None].astype("float32"), positions_um=TETRODE_UM))
    assert len(group.artifact_periods) == 0


def test_without_artefacts_the_traces_are_those_of_spikeinterface():
    import spikeinterface.preprocessing as spre

    traces = spikes() + np.float32(300.0)
    group, _ = prepare(as_recording(traces, positions_um=TETRODE_UM))
    raw = as_recording(traces - np.median(traces, axis=0), positions_um=TETRODE_UM)
    filtered = spre.bandpass_filter(raw, 300.0, 6000.0, ftype="bessel", filter_order=2, dtype="float32")
    assert np.allclose(group.recording.get_traces(), filtered.get_traces(), atol=0.05)


def test_offset_jump_and_one_transient():
    expected, _ = plain()
    jump, transient = spikes(), spikes()
    jump[45000:] += 20000.0
    transient[45000:45015] -= 20000.0
    for traces in (jump, transient):
        group, _ = prepare(as_recording(traces, positions_um=TETRODE_UM))
        (period,) = group.artifact_periods
        assert period["start_sample_index"] <= 45000 < period["end_sample_index"]
        assert period["end_sample_index"] - period["start_sample_index"] < 0.02 * RATE_HZ
        outside = ~is_in_periods(0, np.arange(len(traces)), group.artifact_periods)
        assert np.abs(group.recording.get_traces()[outside] - expected[outside]).max() < 25  # 5 noise levels


@pytest.mark.parametrize(("offset", "blank"), [(2000, 0), (0, 0), (300, 32767), (300, -32768)])
def test_blanks_at_any_value(offset, blank):
    stored = np.round(spikes() / 0.195 + offset).astype("int16")
    for start in STARTS:
        stored[start : start + 90] = blank
    recording = as_recording(stored, positions_um=TETRODE_UM)
    recording.set_channel_gains(0.195)
    group, _ = prepare(recording)
    assert len(group.artifact_periods) == len(STARTS)
    assert is_in_periods(0, np.concatenate([STARTS, STARTS + 89]), group.artifact_periods).all()
    assert np.abs(group.recording.get_traces()).max() < 250


def test_the_silence_of_a_simulation_without_noise_is_no_blank():
    traces = np.zeros((60000, 4), dtype="float32")
    traces = add(traces, waveform(), 200.0, (1.0, 0.5, 0.3, 0.2), np.arange(1000, 59000, 900))
    group, _ = prepare(as_recording(traces, positions_um=TETRODE_UM))
    assert len(group.artifact_periods) == 0


def test_a_channel_that_fails_does_not_silence_the_others():
    traces = spikes()
    traces[40000:, 2] = 12.0
    group, _ = prepare(as_recording(traces, positions_um=TETRODE_UM))
    durations = group.artifact_periods["end_sample_index"] - group.artifact_periods["start_sample_index"]
    assert durations.sum() < 0.01 * RATE_HZ


def test_given_times():
    traces, smooth = spikes(), -np.exp(-(((np.arange(60) - 30) / 6.0) ** 2))
    recording = as_recording(add(traces, smooth, 400.0), positions_um=TETRODE_UM)
    recording.set_times(10.0 + np.arange(len(traces)) / RATE_HZ)
    assert len(prepare(recording)[0].artifact_periods) == 0
    times_s = 10.0 + STARTS / RATE_HZ
    group, _ = prepare(recording, artifact_times_s=times_s)
    assert len(group.artifact_periods) == len(STARTS)
    assert is_in_periods(0, STARTS + 30, group.artifact_periods).all()


def test_given_times_of_segments():
    traces = spikes()
    recording = as_recording(traces[:40000], traces[40000:], positions_um=TETRODE_UM)
    group, _ = prepare(recording, artifact_times_s=[[], [0.5, 1.0]])
    assert group.artifact_periods["segment_index"].tolist() == [1, 1]
    for wrong in ([0.5], [[0.5], [4.0]], [[0.5], [0.1], []]):
        with pytest.raises(ValueError, match="artifact_times_s"):
            SortingParameters(artifact_times_s=wrong).check_recording(recording)
    for wrong in ("triggers", [np.nan], 3.0, ["a"]):
        with pytest.raises(ValueError, match="artifact_times_s"):
            SortingParameters(artifact_times_s=wrong)


def test_chunks_do_not_matter():
    recording = as_recording(add(spikes(), PULSE, 3000.0), positions_um=TETRODE_UM)
    parameters, found = SortingParameters(), []
    for chunk_duration in ("0.37s", "1s"):
        (group,) = split_groups(recording, parameters, RunLog())
        job_kwargs = {"n_jobs": 1, "progress_bar": False, "chunk_duration": chunk_duration}
        found.append(preprocess(group, parameters, RunLog(), job_kwargs=job_kwargs))
    assert np.array_equal(found[0].artifact_periods, found[1].artifact_periods)
    assert np.abs(found[0].recording.get_traces() - found[1].recording.get_traces()).max() < 1.0


def test_periods_that_overlap_or_are_close_are_one():
    periods = make_periods([(1, 5, 9), (0, 10, 20), (0, 15, 30), (0, 40, 50), (0, 34, 36)])
    assert merge_periods(periods, gap=5).tolist() == make_periods([(0, 10, 50), (1, 5, 9)]).tolist()
    assert is_in_periods(0, np.array([9, 10, 49, 50]), merge_periods(periods, 5)).tolist() == [False, True, True, False]
