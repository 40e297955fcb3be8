import functools
import logging

import numpy as np
import pytest
from probeinterface import Probe
from spikeinterface.core import get_noise_levels
from stand_in import RATE_HZ, TETRODE_UM, as_recording, planted

from huidurep.sorting.noise_levels import draw_chunks
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import PREPROCESSING, preprocess, split_groups, statistics_kwargs
from huidurep.sorting.run_log import RunLog

PARAMETERS = SortingParameters()
NOMINAL_NOISE_UV = PREPROCESSING.nominal_noise_uv


def prepare(recording, parameters=PARAMETERS):
    log = RunLog()
    (group,) = split_groups(recording, parameters, log)
    return preprocess(group, parameters, log), " | ".join(entry["message"] for entry in log.entries)


def noise(num_samples=60000, num_channels=4, sd=8.0, seed=0):
    return np.random.default_rng(seed).normal(0, sd, (num_samples, num_channels)).astype("float32")


@functools.cache
def whole():
    """(group, log) of ten seconds of noise."""
    return prepare(as_recording(noise(300000), positions_um=TETRODE_UM))


def test_gains_and_offset_are_applied():
    stored = np.round(noise() / 0.195 + 2056).astype("int16")
    recording = as_recording(stored, positions_um=TETRODE_UM)
    recording.set_channel_gains(0.195)
    group, _ = prepare(recording)
    traces = group.recording.get_traces()
    assert traces.dtype == np.float32
    assert abs(np.median(traces)) < 0.5
    assert np.abs(traces[:60]).max() < 60  # the offset does not ring at the edge
    assert group.noise_levels_uv == pytest.approx(8.0 * np.sqrt(5700 / 15000), rel=0.35)


def test_gains_without_offsets_are_applied():
    recording = as_recording(np.round(noise() / 0.195).astype("int16"), has_gains=False, positions_um=TETRODE_UM)
    recording.set_channel_gains(0.195)
    group, messages = prepare(recording)
    assert group.noise_levels_uv == pytest.approx(8.0 * np.sqrt(5700 / 15000), rel=0.35)
    assert "nominal" not in messages and "scaled" not in messages


def test_unsigned_samples():
    recording = as_recording(np.round(noise() + 30000).astype("uint16"), positions_um=TETRODE_UM)
    group, _ = prepare(recording)
    assert np.abs(group.recording.get_traces()).max() < 60


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_without_gains_the_noise_is_nominal_and_the_log_says_so(scale, caplog):
    recording = as_recording(noise() * scale, has_gains=False, positions_um=TETRODE_UM)
    with caplog.at_level(logging.WARNING):
        group, messages = prepare(recording)
    assert group.noise_levels_uv == pytest.approx(NOMINAL_NOISE_UV, rel=0.1)
    assert "no gains to uV" in messages
    assert "no gains to uV" in caplog.text


def test_gains_that_cannot_be_true_are_not_used():
    recording = as_recording(noise() * 1e-6, positions_um=TETRODE_UM)  # volts, with a gain of 1
    group, messages = prepare(recording)
    assert group.noise_levels_uv == pytest.approx(NOMINAL_NOISE_UV, rel=0.1)
    assert "plausible" in messages


@pytest.mark.parametrize(("sd", "is_warned"), [(1.0, True), (8.0, False), (200.0, True)])
def test_noise_that_no_amplifier_has_is_warned_of(sd, is_warned):
    group, messages = prepare(as_recording(noise(sd=sd), positions_um=TETRODE_UM))  # 1: z-scored or whitened
    assert group.noise_levels_uv == pytest.approx(sd * np.sqrt(5700 / 15000), rel=0.35)
    assert ("amplitudes are not in uV" in messages) == is_warned


@pytest.mark.parametrize(("offset", "gain", "is_coarse"), [(8e5, 1.0, False), (8e8, 1.0, True), (0.0, 40.0, True)])
def test_samples_stored_too_coarsely_are_warned_of(offset, gain, is_coarse):
    stored = np.round(noise() / gain) if gain > 1 else noise() + np.float32(offset)
    recording = as_recording(stored.astype("float32"), positions_um=TETRODE_UM)
    recording.set_channel_gains(gain)
    _, messages = prepare(recording)
    assert ("steps of" in messages) == is_coarse


def test_offsets_that_leave_nothing_of_the_samples_are_warned_of():
    recording = as_recording(np.round(noise()).astype("int64") + 2**40, positions_um=TETRODE_UM)
    assert "steps of inf times the noise" in prepare(recording)[1]


def test_flat_and_copied_channels_are_left_out():
    traces = noise()
    traces[:, 1] = 17.0
    traces[:, 3] = traces[:, 0]
    group, messages = prepare(as_recording(traces, positions_um=TETRODE_UM, channel_ids=["a", "b", "c", "d"]))
    assert list(group.recording.channel_ids) == ["a", "c"]
    assert "flat channels removed: b" in messages
    assert "channel d removed, a duplicate of a" in messages


def test_all_channels_flat_is_nothing_to_sort():
    group, messages = prepare(as_recording(np.full((60000, 4), 5.0, dtype="float32"), positions_um=TETRODE_UM))
    assert group is None
    assert "flat" in messages


def test_no_probe_small_is_a_tetrode_large_is_linear():
    group, messages = prepare(as_recording(noise(num_channels=4)))
    assert "tetrode" in messages
    assert np.ptp(group.recording.get_channel_locations(), axis=0) == pytest.approx(12.5)
    group, messages = prepare(as_recording(noise(num_channels=7)))
    assert "linear" in messages
    assert np.diff(group.recording.get_channel_locations()[:, 1]) == pytest.approx(20.0)


def test_users_recording_is_not_changed():
    recording = as_recording(noise())
    prepare(recording)
    assert not recording.has_probe()
    assert recording.get_property("group") is None


def three_d(positions_um):
    positions_um = np.asarray(positions_um, dtype=float)
    plane_axes = np.tile([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (len(positions_um), 1, 1))
    probe = Probe(ndim=3, si_units="um")
    probe.set_contacts(positions=positions_um, plane_axes=plane_axes, shapes="circle", shape_params={"radius": 5})
    probe.set_device_channel_indices(np.arange(len(positions_um)))
    recording = as_recording(noise(num_channels=len(positions_um)))
    recording.set_probe(probe)
    return recording


@pytest.mark.parametrize("flat_axis", [0, 1, 2])
def test_3d_probe_in_a_plane(flat_axis):
    positions_um = np.insert(TETRODE_UM, flat_axis, 7.0, axis=1)
    group, messages = prepare(three_d(positions_um))
    assert "in the plane" in messages
    assert group.recording.get_channel_locations() == pytest.approx(TETRODE_UM)


def test_3d_probe_in_space_is_refused():
    positions_um = [(0, 0, 0), (20, 0, 0), (0, 20, 0), (0, 0, 20)]
    with pytest.raises(ValueError, match="3-D probe.*planarize"):
        prepare(three_d(positions_um))


def test_groups_by_property_and_by_shank():
    recording = as_recording(noise(num_channels=8), positions_um=np.column_stack([np.zeros(8), 20 * np.arange(8)]))
    recording.set_property("group", np.array([1, 1, 5, 5, 1, 1, 5, 5]))
    groups = split_groups(recording, PARAMETERS, RunLog())
    assert [group.name for group in groups] == [1, 5]
    assert list(groups[1].recording.channel_ids) == [2, 3, 6, 7]

    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(positions=np.column_stack([np.repeat([0, 200], 4), np.tile(20 * np.arange(4), 2)]))
    probe.set_shank_ids(np.repeat(["0", "1"], 4))
    probe.set_device_channel_indices(np.arange(8))
    recording = as_recording(noise(num_channels=8))
    recording.set_probe(probe, group_mode="by_probe")
    assert [group.recording.get_num_channels() for group in split_groups(recording, PARAMETERS, RunLog())] == [4, 4]


def test_groups_may_share_their_places():
    recording = as_recording(noise(num_channels=8))
    recording.set_property("group", np.repeat(["left", "right"], 4))
    groups = split_groups(recording, PARAMETERS, RunLog())
    assert [group.name for group in groups] == ["left", "right"]
    for group in groups:
        assert preprocess(group, PARAMETERS, RunLog()).recording.get_num_channels() == 4


def test_a_channel_in_two_groups_is_sorted_once():
    traces = noise(num_channels=6)
    recording = as_recording(np.column_stack([traces, traces[:, 3:]]), channel_ids=list("abcdefghi"))
    recording.set_property("group", np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]))
    log = RunLog()
    groups = split_groups(recording, PARAMETERS, log)
    assert [group.recording.channel_ids.tolist() for group in groups] == [list("abcde"), ["f", "i"]]
    (message,) = (entry["message"] for entry in log.entries if "expected each channel in one group" in entry["message"])
    assert "of another group: g (group 1), h (group 1);" in message


def test_channels_of_a_group_are_in_the_order_of_their_places():
    positions = np.column_stack([np.tile([0.0, 30.0], 4), 20.0 * np.repeat(np.arange(4), 2)])
    traces = noise(num_channels=8)
    order = np.random.default_rng(0).permutation(8)
    recording = as_recording(traces[:, order], positions_um=positions[order])
    (group,) = split_groups(recording, PARAMETERS, RunLog())
    assert np.array_equal(group.recording.get_traces(), traces)
    assert np.array_equal(group.recording.get_channel_locations(), positions)


def test_bad_channels_and_short_segments_are_left_out():
    parameters = SortingParameters(bad_channel_ids=(2,))
    recording = as_recording(noise(), noise(50), noise(seed=1), positions_um=TETRODE_UM)
    (group,) = split_groups(recording, parameters, RunLog())
    assert group.segment_indices.tolist() == [0, 2]
    assert list(group.recording.channel_ids) == [0, 1, 3]
    assert group.recording.get_num_segments() == 2


def test_common_reference_from_32_channels_on():
    shared = noise(15000, num_channels=1, sd=30.0, seed=9)
    linear = np.column_stack([np.zeros(32), 20.0 * np.arange(32)])
    quiet, _ = prepare(as_recording(noise(15000, num_channels=32) + shared, positions_um=linear))
    loud, _ = prepare(
        as_recording(noise(15000, num_channels=32) + shared, positions_um=linear),
        SortingParameters(common_reference=False),
    )
    assert np.median(loud.noise_levels_uv) > 3 * np.median(quiet.noise_levels_uv)


def test_low_rate_lowers_the_upper_edge():
    traces, *_ = planted(duration_s=1.0)
    _, messages = prepare(as_recording(traces, rate_hz=RATE_HZ / 3, positions_um=TETRODE_UM))
    assert "300-4500 Hz" in messages


def blanked(traces, share, stretch=3000, value=0):
    """Traces of which the first part of every stretch is one value, as after the removal of stimulation artefacts."""
    traces = traces.copy()
    for start in range(0, len(traces), stretch):
        traces[start : start + int(share * stretch)] = value
    return traces


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_blanked_stretches_do_not_make_the_noise_smaller(share):
    group, messages = whole()
    levels_uv = group.noise_levels_uv
    assert "blanked" not in messages
    group, messages = prepare(as_recording(blanked(noise(300000), share), positions_um=TETRODE_UM))
    assert group.noise_levels_uv == pytest.approx(levels_uv, rel=0.05)
    assert "blanked" in messages
    # the nominal scale, too, is that of the noise
    group, _ = prepare(as_recording(blanked(noise(300000), share), has_gains=False, positions_um=TETRODE_UM))
    assert group.noise_levels_uv == pytest.approx(NOMINAL_NOISE_UV, rel=0.05)


@pytest.mark.parametrize(
    ("store", "is_clipped"),
    [
        (lambda traces: traces, False),
        (lambda traces: np.round(traces / 4).astype("int16"), False),
        (lambda traces: np.clip(traces, -100, 100), True),
        (lambda traces: np.clip(np.round(128 + traces), 0, 255).astype("uint8"), False),
        (lambda traces: np.clip(np.round(128 + 2 * traces), 0, 255).astype("uint8"), True),
    ],
)
def test_clipped_spikes_are_warned_of(store, is_clipped):
    traces, *_ = planted(footprints_uv=((120, 30, 20, 10), (20, 30, 115, 60)), duration_s=3.0)
    _, messages = prepare(as_recording(store(traces), positions_um=TETRODE_UM))
    assert ("channels clipped" in messages) == is_clipped
    assert not is_clipped or "value: 0, 2;" in messages


def test_a_channel_that_is_cut_off_for_a_while_is_named_and_keeps_its_noise():
    group, messages = whole()
    levels_uv = group.noise_levels_uv
    assert "without noise" not in messages
    traces = noise(300000)
    traces[60000:200000, 2] = 17.0
    group, messages = prepare(as_recording(traces, positions_um=TETRODE_UM, channel_ids=["a", "b", "c", "d"]))
    assert group.noise_levels_uv == pytest.approx(levels_uv, rel=0.1)
    assert "channels without noise for a part of the recording: c (" in messages


def test_blanked_stretches_are_not_the_offset():
    stored = blanked(np.round(noise(300000) + 2000).astype("int16"), 0.6, stretch=30000)
    group, _ = prepare(as_recording(stored, positions_um=TETRODE_UM))
    whole, _ = prepare(as_recording(np.round(noise(300000)).astype("int16"), positions_um=TETRODE_UM))
    # long before the end of a stretch that was not blanked, and before the filter meets the next edge
    traces = group.recording.get_traces(start_frame=24000, end_frame=27000)
    assert abs(traces.mean()) < 0.5
    assert group.noise_levels_uv == pytest.approx(whole.noise_levels_uv, rel=0.05)


def test_spikes_on_silence_are_no_noise():
    traces, samples, _ = planted(noise_uv=0.0)
    group, messages = prepare(as_recording(traces, positions_um=TETRODE_UM))
    assert "blanked" not in messages and "clipped" not in messages and (group.noise_levels_uv > 0).all()


def test_a_short_segment_tells_little_of_the_noise():
    quiet, loud = noise(300000, sd=8.0), noise(300, sd=40.0, seed=1)
    expected, _ = whole()
    for segments in ((quiet, loud), (loud, quiet), (quiet[:150000], loud, loud[:150], quiet[150000:])):
        group, _ = prepare(as_recording(*segments, positions_um=TETRODE_UM))
        assert group.noise_levels_uv == pytest.approx(expected.noise_levels_uv, rel=0.02)


def test_segments_are_looked_at_in_proportion():
    recording = as_recording(noise(900000), noise(300000), noise(400), positions_um=TETRODE_UM)
    chunks = np.array(draw_chunks(recording, 0))
    assert np.bincount(chunks[:, 0]).tolist() == [15, 5, 1]
    assert (np.diff(chunks[:, 1:], axis=1)[:, 0] == [15000] * 20 + [400]).all()
    assert (chunks[:, 1] >= 0).all() and (chunks[:, 2] <= np.array([900000, 300000, 400])[chunks[:, 0]]).all()
    assert len(np.unique(chunks[:15, 1])) == 15
    assert draw_chunks(recording, 0) == draw_chunks(recording, 0) != draw_chunks(recording, 1)


def test_noise_of_a_plain_recording_is_that_of_spikeinterface():
    group, _ = whole()
    options = statistics_kwargs(group.recording, PARAMETERS.seed)
    expected = get_noise_levels(group.recording, return_in_uV=False, random_slices_kwargs=options, force_recompute=True)
    assert group.noise_levels_uv == pytest.approx(expected, rel=1e-6)
