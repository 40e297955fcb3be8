import numpy as np
import pytest
from probeinterface import Probe, ProbeGroup, generate_linear_probe
from stand_in import TETRODE_UM, as_recording

from huidurep.models.input_contract import nominal_positions
from huidurep.sorting.geometry import contact_positions_um, group_of_channels
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import split_groups
from huidurep.sorting.run_log import RunLog

LINE_UM = np.column_stack([np.zeros(8), 20.0 * np.arange(8)])


def silent(num_channels=8):
    return as_recording(np.zeros((3000, num_channels), dtype="float32"))


def on_probe(positions, units="um", num_channels=8):
    probe = Probe(ndim=2, si_units=units)
    probe.set_contacts(positions)
    probe.set_device_channel_indices(np.arange(len(positions)))
    recording = silent(num_channels)
    recording.set_probe(probe)
    return recording


def split(recording, **parameters):
    log = RunLog()
    groups = split_groups(recording, SortingParameters(**parameters), log)
    return groups, [entry["message"] for entry in log.entries if entry.get("is_warning")]


@pytest.mark.parametrize(("units", "factor"), [("um", 1.0), ("mm", 1e-3), ("m", 1e-6)])
def test_positions_are_converted_by_their_unit(units, factor):
    recording = on_probe(LINE_UM * factor, units)
    np.testing.assert_allclose(contact_positions_um(recording), LINE_UM)
    ((group,), warnings) = split(recording)
    np.testing.assert_allclose(group.recording.get_channel_locations(), LINE_UM)
    assert group.is_placed and not warnings


def test_units_of_interleaved_probes():
    group = ProbeGroup()
    for number, (units, factor) in enumerate([("um", 1.0), ("mm", 1e-3)]):
        probe = Probe(ndim=2, si_units=units)
        probe.set_contacts((LINE_UM[:4] + [1000.0 * number, 0]) * factor)
        probe.set_device_channel_indices(number + 2 * np.arange(4))
        group.add_probe(probe)
    recording = silent()
    recording.set_probegroup(group)
    expected_um = np.repeat(LINE_UM[:4], 2, axis=0) + np.tile([[0.0, 0], [1000.0, 0]], (4, 1))
    np.testing.assert_allclose(contact_positions_um(recording), expected_um)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="si_units.*inch"):
        split(on_probe(LINE_UM, "inch"))


@pytest.mark.parametrize(("scale", "found"), [(1e-3, "0.02 um"), (1e3, "20 mm")])
def test_distances_that_cannot_be_are_refused(scale, found):
    with pytest.raises(ValueError, match=f"3 um to 5 mm.*{found}.*si_units"):
        split(on_probe(LINE_UM * scale))


def test_two_contacts_in_each_other_are_refused():
    positions_um = LINE_UM.copy()
    positions_um[4] = positions_um[3] + [0.0, 1.0]
    with pytest.raises(ValueError, match="1 um between channels 3 and 4"):
        split(on_probe(positions_um))


def test_what_is_strange_but_possible_is_sorted():
    far = np.concatenate([TETRODE_UM, TETRODE_UM + [3e4, 0.0]])  # two bundles 3 cm apart
    for recording in (on_probe(far), on_probe(np.concatenate([LINE_UM[:7], [[0.0, 9e4]]]))):
        groups, warnings = split(recording)
        assert [group.recording.get_num_channels() for group in groups] == [8] and not warnings
    recording = on_probe(far)
    recording.set_property("group", np.repeat([0, 1], 4))
    assert len(split(recording)[0]) == 2
    wires = on_probe(np.column_stack([1e4 * np.arange(8), np.zeros(8)]))
    wires.set_property("group", np.arange(8))
    assert len(split(wires)[0]) == 8
    stereotrodes, pairs = ProbeGroup(), silent()
    for number in range(4):  # the same places in every group
        probe = Probe(ndim=2)
        probe.set_contacts([[0.0, 0.0], [12.0, 0.0]])
        probe.set_device_channel_indices(2 * number + np.arange(2))
        stereotrodes.add_probe(probe)
    pairs.set_probegroup(stereotrodes, check_overlap=False)
    groups, warnings = split(pairs)
    assert len(groups) == 4 and all(group.is_placed for group in groups) and not warnings


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([0.0] * 4 + [np.nan] * 4), ["0", "no group"]),
        (np.array(["a"] * 4 + [None] * 4, dtype=object), ["a", "no group"]),
        (np.array(["a"] * 4 + [""] * 4), ["a", "no group"]),
        (np.array(["a"] * 4 + [" NaN"] * 4), ["a", "no group"]),
        (np.array([1] * 2 + ["b"] * 2 + [None, np.nan, "", None], dtype=object), ["1", "b", "no group"]),
        (np.array([1] * 4 + ["1a"] * 4, dtype=object), ["1", "1a"]),
        (np.array([2] * 4 + [7] * 4), [2, 7]),
        (np.array([np.nan] * 8), ["no group"]),
    ],
)
def test_no_channel_is_lost_by_its_group(labels, names):
    recording = silent()
    recording.set_property("group", labels)
    groups, warnings = split(recording)
    assert [group.name for group in groups] == names
    assert sum(group.recording.get_num_channels() for group in groups) == 8
    assert any("no group" in each for each in warnings) == ("no group" in names)


@pytest.mark.parametrize(("number", "text"), [(1, "1"), (1.0, "1"), (2.5, "2.5")])
def test_a_number_and_a_text_that_read_alike_are_not_one_group(number, text):
    recording = silent()
    recording.set_property("group", np.array([number] * 4 + [text] * 4, dtype=object))
    with pytest.raises(ValueError, match=f"number {text} and the text '{text}'"):
        split(recording)


def test_shanks_without_a_name_are_one_group():
    probe = generate_linear_probe(8)
    probe.set_shank_ids(np.array(["0"] * 4 + [""] * 4))
    probe.set_device_channel_indices(np.arange(8))
    recording = silent()
    recording.set_probe(probe, group_mode="by_probe")
    assert group_of_channels(recording, RunLog()).tolist() == ["0"] * 4 + ["no group"] * 4


def test_one_warning_for_all_assumed_positions():
    recording = silent(12)
    recording.set_property("group", np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]))
    groups, warnings = split(recording)
    assert len(warnings) == 1 and "3 groups (0, 1, 2)" in warnings[0]
    assert not any(group.is_placed for group in groups)
    wires = silent()
    wires.set_property("group", np.arange(8))
    assert split(wires)[1] == []


def test_a_group_without_positions_has_default_ones():
    positions_um = LINE_UM.copy()
    positions_um[:4, 0] = np.nan
    recording = on_probe(positions_um)
    recording.set_property("group", np.repeat([0, 1], 4))
    groups, warnings = split(recording)
    assert [group.is_placed for group in groups] == [False, True] and len(warnings) == 1


def test_there_is_one_default_tetrode():
    from huidurep.cli.inputs import attach_probe

    ((group,), _) = split(silent(4))
    np.testing.assert_array_equal(group.recording.get_channel_locations(), nominal_positions(4))
    np.testing.assert_array_equal(attach_probe(silent(4), "tetrode").get_channel_locations(), nominal_positions(4))
