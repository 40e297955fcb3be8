"""Simulated motion is estimated and corrected; traces without motion are not changed."""

import re
from dataclasses import replace

import numpy as np
import pytest
from spikeinterface.core import NumpyRecording
from spikeinterface.core.motion import Motion

from huidurep.sorting.motion import MotionSettings, correct_motion, load_motion
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.peak_signs import PeakSignSettings, find_signs
from huidurep.sorting.preprocessing import PreparedGroup
from huidurep.sorting.run_log import RunLog

RATE_HZ, DURATION_S, NOISE_UV, SPACING_UM = 10000.0, 40.0, 5.0, 20.0
COMPUTE_MOTION = "spikeinterface.preprocessing.compute_motion"
DEPTHS_UM = SPACING_UM * np.arange(32)


def moved_by(time_s):
    return 15.0 * np.sin(2 * np.pi * time_s / DURATION_S)


def prepared(*, moves, num_segments=1, width_um=0.0, is_placed=True):
    """A shank of 32 channels with spikes of 24 neurons that move along it, or do not; one group."""
    rng = np.random.default_rng(0)
    traces = rng.normal(0, NOISE_UV, (int(RATE_HZ * DURATION_S), 32)).astype("float32")
    shape = -np.exp(-0.5 * ((np.arange(30) - 10) / 2.0) ** 2)
    for home_um in rng.uniform(60, 560, 24):
        size_uv = rng.uniform(60, 200)
        for sample in rng.choice(len(traces) - 100, int(8 * DURATION_S), replace=False) + 20:
            here_um = home_um + (moved_by(sample / RATE_HZ) if moves else 0.0)
            footprint = size_uv * np.exp(-0.5 * ((DEPTHS_UM - here_um) / 25.0) ** 2)
            traces[sample - 10 : sample + 20] += shape[:, None] * footprint.astype("float32")
    recording = NumpyRecording(np.array_split(traces, num_segments), RATE_HZ)
    x_um = np.where(np.arange(32) % 2, width_um, 0.0)
    recording.set_dummy_probe_from_locations(np.column_stack([x_um, DEPTHS_UM]))
    return PreparedGroup(0, recording, np.arange(num_segments), np.full(32, NOISE_UV), is_placed=is_placed)


@pytest.fixture(scope="module")
def moving():
    return prepared(moves=True)


@pytest.fixture(scope="module")
def still():
    return prepared(moves=False)


@pytest.fixture(scope="module")
def corrected_and_log(moving):
    """With the parameters by default."""
    log = RunLog()
    return correct_motion(moving, SortingParameters(), log), log


def centre_um(group, start_s, end_s):
    """Mean depth of the spikes of an interval, by the traces that are far above the noise."""
    traces = group.recording.get_traces(0, int(start_s * RATE_HZ), int(end_s * RATE_HZ))
    weights = np.where(traces < -40.0, -traces, 0.0).sum(0)
    return float(weights @ DEPTHS_UM / weights.sum())


def test_motion_is_found_and_undone(moving, corrected_and_log):
    corrected, log = corrected_and_log
    assert corrected.recording.channel_ids.tolist() == moving.recording.channel_ids.tolist()
    assert "dredge_fast" in log.entries[-1]["message"]
    # the motion has its two extremes after a quarter and three quarters of the time
    before, after = (abs(centre_um(group, 8, 12) - centre_um(group, 28, 32)) for group in (moving, corrected))
    assert before > 20.0
    assert after < 0.35 * before
    assert corrected.noise_levels_uv.shape == (32,)
    assert 0.3 * NOISE_UV < np.median(corrected.noise_levels_uv) < 1.2 * NOISE_UV
    again = correct_motion(moving, SortingParameters(), RunLog())
    assert np.array_equal(again.recording.get_traces(0), corrected.recording.get_traces(0))


def test_traces_without_motion_are_not_changed(still):
    group, log = still, RunLog()
    settings = PeakSignSettings(noise_levels=7.0)
    handed_on = correct_motion(group, SortingParameters(), log, peak_sign_settings=settings)
    assert handed_on.recording is group.recording and handed_on.motion is None
    assert find_signs(handed_on, SortingParameters(), log) is handed_on  # they are not looked for again
    assert sum("peaks above 7 noise levels)" in entry["message"] for entry in log.entries) == 1
    assert re.search(r"[01]\.\d um", log.entries[-1]["message"])


def test_settings_say_what_auto_corrects(moving):
    log = RunLog()
    for settings in (
        MotionSettings(auto_min_channels=33),
        MotionSettings(auto_min_duration_s=41.0),
        MotionSettings(auto_max_width_um=-1.0),
    ):
        assert correct_motion(moving, SortingParameters(), log, settings=settings) is moving
    assert not log.entries


def test_where_auto_does_not_look(moving):
    log = RunLog()
    unplaced = replace(moving, is_placed=False)
    few = replace(moving, recording=moving.recording.select_channels(moving.recording.channel_ids[:31]))
    short = replace(moving, recording=moving.recording.frame_slice(0, int(20 * RATE_HZ)))
    wide = moving.recording.select_channels(moving.recording.channel_ids)
    wide.set_dummy_probe_from_locations(np.column_stack([np.where(np.arange(32) % 2, 61.0, 0.0), DEPTHS_UM]))
    for group in (unplaced, few, short, replace(moving, recording=wide)):
        assert correct_motion(group, SortingParameters(), log) is group
    assert correct_motion(moving, SortingParameters(motion=None), log) is moving
    assert not log.entries


def test_a_preset_by_name(moving):
    log = RunLog()
    corrected = correct_motion(replace(moving, is_placed=False), SortingParameters(motion="rigid_fast"), log)
    assert corrected is not moving and "rigid_fast" in log.entries[-1]["message"]
    assert corrected.recording.get_num_channels() == 32


def test_peaks_that_point_up(moving, corrected_and_log):
    upside_down = moving.recording.get_traces(0) * -1.0
    recording = NumpyRecording([upside_down], RATE_HZ)
    recording.set_dummy_probe_from_locations(moving.recording.get_channel_locations())
    group = replace(moving, recording=recording)
    expected = corrected_and_log[0].recording
    corrected = correct_motion(group, SortingParameters(peak_sign="pos"), RunLog()).recording
    assert np.allclose(corrected.get_traces(0), -expected.get_traces(0), atol=2.0)


@pytest.mark.parametrize(
    ("motion", "place"), [("auto", "huidurep.sorting.motion.estimate_motion"), ("dredge_fast", COMPUTE_MOTION)]
)
def test_an_estimate_that_fails_costs_no_sorting(moving, monkeypatch, motion, place):
    def fails(*_, **__):
        if place == COMPUTE_MOTION:
            return None
        raise ValueError("too few peaks")

    monkeypatch.setattr(place, fails)
    log = RunLog()
    assert correct_motion(moving, SortingParameters(motion=motion), log).recording is moving.recording
    assert log.entries[-1]["is_warning"]


def test_only_enough_spikes_show_that_nothing_moves(still):
    group = still
    assert correct_motion(group, SortingParameters(), RunLog()).is_still
    demanding = MotionSettings(still_peaks_hz=2 * MotionSettings().auto_peaks_hz)
    assert not correct_motion(group, SortingParameters(), RunLog(), settings=demanding).is_still
    assert not correct_motion(group, SortingParameters(motion="dredge_fast"), RunLog()).is_still


@pytest.mark.parametrize(
    "moved_um",
    [lambda time_s: np.where(time_s > 15, 81.0, 0.0), lambda time_s: -moved_by(time_s)],
    ids=["jump", "sign"],
)
def test_a_wrong_estimate_is_not_believed(moving, monkeypatch, moved_um):
    times_s = np.arange(DURATION_S) + 0.5
    wrong = Motion([moved_um(times_s)[:, None]], [times_s], np.array([310.0]))
    monkeypatch.setattr("huidurep.sorting.motion.estimate_motion", lambda *_, **__: wrong)
    log = RunLog()
    assert correct_motion(moving, SortingParameters(), log).recording is moving.recording
    assert log.entries[-1]["is_warning"] and "not believed" in log.entries[-1]["message"]


def in_two_segments(group, times_s=(0.0, 0.0)):
    traces = group.recording.get_traces(0)
    recording = NumpyRecording([traces[:200000], traces[200000:]], RATE_HZ, t_starts=list(times_s))
    recording.set_dummy_probe_from_locations(group.recording.get_channel_locations())
    return replace(group, recording=recording, segment_indices=np.arange(2))


def assert_moved(group, times_s):
    """The motion of each segment at recorded times is what was put in, and the traces have these times."""
    expected_um = moved_by(np.concatenate([np.arange(2, 18), 20 + np.arange(2, 18)]).astype(float))
    found_um, samples = [], []
    for index, own_s in enumerate(times_s):
        depths_um = np.full(len(own_s), 310.0)
        found_um.append(group.motion.get_displacement_at_time_and_depth(own_s, depths_um, segment_index=index))
        samples.append(group.recording.time_to_sample_index(own_s, segment_index=index))
    found_um, samples = np.concatenate(found_um), np.concatenate(samples)
    assert np.abs((found_um - found_um.mean()) - (expected_um - expected_um.mean())).max() < 6.0
    before = 0 if len(times_s) == 1 else np.repeat([0, 200000], 16)
    np.testing.assert_allclose(before + samples, RATE_HZ * np.concatenate([np.arange(2, 18), 20 + np.arange(2, 18)]))


def test_motion_of_a_recording_with_a_gap_is_that_without(moving):
    recording = moving.recording.select_channels(moving.recording.channel_ids)
    times_s = 100.0 + np.arange(recording.get_num_samples()) / RATE_HZ
    times_s[200000:] += 3600.0
    recording.set_times(times_s)
    corrected = correct_motion(replace(moving, recording=recording), SortingParameters(), RunLog())
    assert_moved(corrected, [np.concatenate([100.0 + np.arange(2, 18), 3720.0 + np.arange(2, 18)])])


def test_segments_are_corrected_as_one_recording(moving, corrected_and_log):
    in_two = correct_motion(in_two_segments(moving, (100.0, 9000.0)), SortingParameters(), RunLog())
    corrected = in_two.recording
    assert_moved(in_two, [100.0 + np.arange(2, 18), 9000.0 + np.arange(2, 18)])
    assert [corrected.get_num_samples(index) for index in range(2)] == [200000, 200000]
    whole = corrected_and_log[0].recording
    assert np.allclose(corrected.get_traces(0), whole.get_traces(0)[:200000], atol=1e-3)
    assert np.allclose(corrected.get_traces(1), whole.get_traces(0)[200000:], atol=1e-3)


def known_motion(folder, spans_s):
    """What `prepared` has put in, as SpikeInterface saves it: one segment for each (start, end)."""
    bins_s = [np.arange(start, end) + 0.5 for start, end in spans_s]
    displacement = [moved_by(times_s)[:, None] for times_s in bins_s]
    Motion(displacement, bins_s, np.array([310.0])).save(folder)
    return str(folder)


def test_a_motion_of_the_users_own_is_taken(moving, tmp_path):
    still, log = replace(moving, is_placed=False), RunLog()
    parameters = SortingParameters(motion=known_motion(tmp_path / "one", [(0, 40)]))
    corrected = correct_motion(still, parameters, log)
    before, after = (abs(centre_um(group, 8, 12) - centre_um(group, 28, 32)) for group in (moving, corrected))
    assert after < 0.35 * before
    assert "29.9 um: corrected" in log.entries[-1]["message"]
    # segments with times of their own; the second one alone where the first was too short to sort
    parameters = SortingParameters(motion=known_motion(tmp_path / "two", [(0, 20), (20, 40)]))
    in_two = correct_motion(in_two_segments(moving, (0.0, 20.0)), parameters, RunLog()).recording
    later = slice(10000, None)  # within the first bin of a segment there is no motion before it to go by
    assert np.allclose(in_two.get_traces(1)[later], corrected.recording.get_traces(0)[200000:][later], atol=1e-3)
    second = in_two_segments(moving, (0.0, 20.0))
    second = replace(second, recording=second.recording.select_segments([1]), segment_indices=np.array([1]))
    alone = correct_motion(second, parameters, RunLog()).recording
    assert np.allclose(alone.get_traces(0), in_two.get_traces(1), atol=1e-3)


def test_motion_between_segments_is_corrected(moving, tmp_path):
    bins_s = [np.arange(20) + 0.5] * 2  # still in both, 20 um apart
    Motion([np.zeros((20, 1)), np.full((20, 1), 20.0)], bins_s, np.array([310.0])).save(tmp_path / "apart")
    group, log = in_two_segments(moving), RunLog()
    corrected = correct_motion(group, SortingParameters(motion=str(tmp_path / "apart")), log)
    assert "20.0 um: corrected" in log.entries[-1]["message"]
    assert np.allclose(corrected.recording.get_traces(0), group.recording.get_traces(0), atol=1e-2)
    # by one contact, so the second segment's traces stand one channel lower
    inner = corrected.recording.get_traces(1)[:, 4:28]
    assert np.abs(inner - group.recording.get_traces(1)[:, 5:29]).mean() < 0.5 * np.abs(inner).mean()


def test_a_motion_of_other_segments_is_refused(moving, tmp_path):
    parameters = SortingParameters(motion=known_motion(tmp_path / "one", [(0, 40)]))
    parameters.check_recording(moving.recording)
    with pytest.raises(ValueError, match="motion of 2 segments, found 1"):
        parameters.check_recording(in_two_segments(moving).recording)
    with pytest.raises(ValueError, match="Motion.save"):
        SortingParameters(motion=str(tmp_path))


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the bomb went off')",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("displacement_seg0.npy", np.array([[Bomb()]], dtype=object)),
        ("temporal_bins_s_seg0.npy", np.zeros(7)),
        ("spatial_bins_um.npy", np.array([np.nan])),
        ("spikeinterface_info.json", "{"),
        ("spikeinterface_info.json", "[" * 100_000),
        ("spikeinterface_info.json", "[]"),
        ("spikeinterface_info.json", '{"direction": "os.system", "interpolation_method": "linear"}'),
    ],
)
def test_a_damaged_motion_is_refused_and_runs_nothing(tmp_path, name, content):
    folder = tmp_path / "motion"
    known_motion(folder, [(0, 40)])
    assert load_motion(folder) == Motion.load(folder)
    if isinstance(content, str):
        (folder / name).write_text(content)
    else:
        np.save(folder / name, content, allow_pickle=True)
    with pytest.raises(ValueError, match=r"motion.*Motion\.save"):
        load_motion(folder)
