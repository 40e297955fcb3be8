"""A result as NWB file, and the command that converts."""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import spikeinterface
from stand_in import TETRODE_UM, PcaModel, as_recording, planted
from typer.testing import CliRunner

from huidurep import SortingParameters, SortingResult, SpikeSortingPipeline
from huidurep.cli.main import app
from huidurep.exporters.nwb import _check_arguments

RATE_HZ = 29999.954
START = datetime(2026, 3, 31, 14, tzinfo=timezone.utc)
METADATA = {
    "NWBFile": {
        "experimenter": ["Bruijns, Huidu"],
        "institution": "University of Somewhere",
        "experiment_description": "Spontaneous activity in the dark.",
        "keywords": ["tetrode"],
    },
    "Subject": {
        "subject_id": "m1",
        "species": "Mus musculus",
        "sex": "F",
        "age": "P90D",
        "description": "Wild type, awake, head fixed.",
    },
    "Ecephys": {
        "ElectrodeGroup": [
            {"name": name, "description": "A tetrode.", "location": "CA1", "device": "Tetrodes"}
            for name in ("left", "right")
        ],
        "Device": [{"name": "Tetrodes", "description": "Two tetrodes in one drive."}],
    },
}


def sort(recording):
    return SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0))(recording)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two tetrodes, channel ch6 dead, begun 100 s after the session."""
    first, *_ = planted(duration_s=5.0, seed=1)
    second, *_ = planted(duration_s=5.0, seed=2, footprints_uv=((20, 120, 0, 60),))
    traces = np.concatenate([first, second], axis=1)
    traces[:, 6] = 0.0
    positions_um = np.concatenate([TETRODE_UM, TETRODE_UM + [300.0, 0.0]])
    made = as_recording(traces, rate_hz=RATE_HZ, channel_ids=[f"ch{i}" for i in range(8)], positions_um=positions_um)
    made.set_property("group", np.repeat([0, 1], 4))
    made.set_property("group_name", np.repeat(["left", "right"], 4))
    made.set_property("brain_area", np.repeat(["CA1", "CA3"], 4))
    made.shift_times(100.0)
    return made.save(folder=tmp_path_factory.mktemp("nwb") / "recording", progress_bar=False)


@pytest.fixture(scope="module")
def result(recording, track_one_session):
    found = sort(recording)
    track_one_session(found)
    return found


@pytest.fixture(scope="module")
def nwb_path(result, recording, tmp_path_factory):
    pytest.importorskip("neuroconv")
    path = tmp_path_factory.mktemp("nwb") / "units.nwb"
    return result.export_to_nwb(recording, path, session_start_time=START, metadata=METADATA)


@pytest.fixture(scope="module")
def nwb(nwb_path):
    import pynwb

    with pynwb.NWBHDF5IO(nwb_path, "r") as io:
        yield io.read()


def test_spikes_their_posteriors_and_embeddings(nwb, result):
    spikes = result.sorting.to_spike_vector()
    assert nwb.session_start_time == START and nwb.subject.subject_id == "m1"
    for unit in range(result.sorting.get_num_units()):
        own = spikes["unit_index"] == unit
        expected = 100.0 + spikes["sample_index"][own] / RATE_HZ
        np.testing.assert_allclose(nwb.units["spike_times"][unit], expected, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(nwb.units["spike_posteriors"][unit], result.posteriors[own])
        np.testing.assert_array_equal(nwb.units["spike_embeddings"][unit], result.embeddings[own])
    assert nwb.units.resolution == 1 / RATE_HZ


def test_properties_are_there_and_described(nwb, result):
    # the few spikes of these units tell nothing of their amplitude cutoff
    for name in set(result.sorting.get_property_keys()) - {"group", "overlapping_unit", "amplitude_cutoff"}:
        np.testing.assert_array_equal(nwb.units[name][:], result.sorting.get_property(name))
        assert nwb.units[name].description not in ("", "No description.", "no description")
    assert nwb.units["neuron"][:].tolist() == list(range(9 + len(nwb.units), 9, -1))  # as `track_one_session` gave them
    names = np.array(["left", "right"])[result.sorting.get_property("group")]
    assert [group.name for group in nwb.units["electrode_group"][:]] == names.tolist()


def test_electrodes_are_the_recordings_channels(nwb, recording):
    electrodes = nwb.electrodes
    assert electrodes["channel_name"][:].tolist() == recording.channel_ids.tolist()
    assert electrodes["location"][:].tolist() == ["CA1"] * 4 + ["CA3"] * 4
    positions_um = np.column_stack([electrodes["rel_x"][:], electrodes["rel_y"][:]])
    np.testing.assert_array_equal(positions_um, recording.get_channel_locations())
    assert [group.name for group in electrodes["group"][:]] == ["left"] * 4 + ["right"] * 4


def test_templates_are_in_volts_on_the_electrodes(nwb, result, recording):
    templates = nwb.units["waveform_mean"][:]
    assert nwb.units.waveform_unit == "volts" and nwb.units.waveform_rate == RATE_HZ
    assert templates.shape == (result.sorting.get_num_units(), 90, 8)
    assert [len(nwb.units["electrodes"][unit]) for unit in range(len(templates))] == [8] * len(templates)
    assert np.isnan(templates[:, :, 6]).all() and np.isfinite(np.delete(templates, 6, axis=2)).all()
    deepest = np.nanmin(templates, axis=(1, 2))
    np.testing.assert_allclose(1e6 * deepest, result.sorting.get_property("peak_uv"), rtol=0.05)
    main = recording.channel_ids[np.nan_to_num(templates).min(axis=1).argmin(axis=1)]
    assert main.tolist() == result.sorting.get_property("main_channel_id").tolist()


def test_nwbinspector_finds_no_problem(nwb_path):
    inspect = pytest.importorskip("nwbinspector").inspect_nwbfile
    found = [f"{message.check_function_name}: {message.message}" for message in inspect(nwbfile_path=str(nwb_path))]
    assert not found


def test_without_metadata_only_what_the_user_knows_is_missing(result, recording, tmp_path):
    inspector = pytest.importorskip("nwbinspector")
    path = result.export_to_nwb(recording, tmp_path / "bare.nwb", session_start_time=START)
    found = list(inspector.inspect_nwbfile(nwbfile_path=str(path)))
    severe = [each.check_function_name for each in found if each.importance.value > 0]
    assert severe == ["check_subject_exists"]
    assert "check_experimenter_exists" in [each.check_function_name for each in found]


@pytest.mark.parametrize(
    ("start", "path", "metadata", "error", "said"),
    [
        (None, "a.nwb", None, TypeError, "expected session_start_time as a datetime, found None"),
        ("2026-03-31", "a.nwb", None, TypeError, "found '2026-03-31'"),
        (datetime(2026, 3, 31), "a.nwb", None, ValueError, "with its time zone"),  # noqa: DTZ001
        (START, "a.h5", None, ValueError, "ending in .nwb"),
        (START, "a.nwb", "Subject", TypeError, "expected metadata as a dict"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(result, recording, tmp_path, start, path, metadata, error, said):
    with pytest.raises(error, match=said):
        result.export_to_nwb(recording, tmp_path / path, session_start_time=start, metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_with_overwrite(nwb_path, result, recording):
    before = nwb_path.stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="overwrite"):
        result.export_to_nwb(recording, nwb_path, session_start_time=START)
    assert nwb_path.stat().st_mtime_ns == before
    result.export_to_nwb(recording, nwb_path, session_start_time=START, metadata=METADATA, overwrite=True)
    assert nwb_path.stat().st_mtime_ns > before


def test_a_result_without_units_is_refused(tmp_path):
    silent = as_recording(np.zeros((30000, 4), "float32"), positions_um=TETRODE_UM)
    with pytest.raises(ValueError, match="units, found none"):
        sort(silent).export_to_nwb(silent, tmp_path / "none.nwb", session_start_time=START)


def test_segments_need_start_times(tmp_path):
    pytest.importorskip("neuroconv")
    traces, *_ = planted(duration_s=8.0, seed=4)
    two = as_recording(traces[:120000], traces[120000:], positions_um=TETRODE_UM)
    found = sort(two)
    with pytest.raises(ValueError, match="segment 1 starts at 0 s, before 3.99997 s"):
        found.export_to_nwb(two, tmp_path / "two.nwb", session_start_time=START)
    two.shift_times(10.0, segment_index=1)
    path = found.export_to_nwb(two, tmp_path / "two.nwb", session_start_time=START)
    import pynwb

    with pynwb.NWBHDF5IO(path, "r") as io:
        times = io.read().units["spike_times"][0]
    spikes = found.sorting.to_spike_vector()
    spikes = spikes[spikes["unit_index"] == 0]
    np.testing.assert_allclose(times, 10.0 * spikes["segment_index"] + spikes["sample_index"] / 30000.0, atol=1e-9)
    assert (np.diff(times) > 0).all()


def test_command(result, recording, nwb_path, tmp_path):
    import yaml

    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(METADATA))
    result.save(tmp_path / "result")
    command = ["convert", tmp_path / "result", tmp_path / "x.nwb", "--to", "nwb", "--no-progress"]
    command += ["--recording", recording._kwargs["folder_path"]]
    run = lambda *more: CliRunner().invoke(app, [str(word) for word in (*command, *more)])  # noqa: E731
    start = ("--session-start-time", START.isoformat())
    assert "add --session-start-time" in run().stderr
    assert "found 'today'" in run("--session-start-time", "today").stderr
    assert "found none at nowhere.yaml" in run(*start, "--metadata", "nowhere.yaml").stderr
    done = run(*start, "--metadata", tmp_path / "metadata.yaml")
    assert done.exit_code == 0, done.stderr
    assert f"{result.sorting.get_num_units()} units -> {tmp_path / 'x.nwb'}" in done.stdout
    import pynwb

    with pynwb.NWBHDF5IO(tmp_path / "x.nwb", "r") as io:
        assert io.read().subject.age == "P90D"
    command[2:5] = [tmp_path / "phy", "--to", "phy"]
    assert "are for --to nwb, found --to phy" in run(*start).stderr
    assert not (tmp_path / "phy").exists()


def test_command_writes_an_analyzer_of_a_raw_recording(tmp_path):
    traces, *_ = planted(duration_s=6.0, seed=3)
    (tmp_path / "raw.bin").write_bytes((traces / 0.195).round().astype("int16").tobytes())
    raw = ["--sampling-frequency", "30000", "--num-channels", "4", "--dtype", "int16", "--gain-to-uv", "0.195"]
    raw += ["--probe", "tetrode", "--no-progress"]
    run = lambda *words: CliRunner().invoke(app, [*map(str, words), *raw])  # noqa: E731
    sorted_ = run("sort", tmp_path / "raw.bin", tmp_path / "out", "--matching", "none", "--model", "tetrode")
    assert sorted_.exit_code == 0, sorted_.stderr
    done = run("convert", tmp_path / "out", tmp_path / "an", "--to", "analyzer", "--recording", tmp_path / "raw.bin")
    assert done.exit_code == 0, done.stderr
    analyzer = spikeinterface.load(tmp_path / "an")
    assert (
        analyzer.has_recording() and analyzer.get_num_units() == spikeinterface.load(tmp_path / "out").get_num_units()
    )


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        ({"NWBFile": "text"}, TypeError, "metadata\\['NWBFile'\\]"),
        ({"NWBFile": {"experimenter": "Me"}}, ValueError, "NWBFile.experimenter: 'Me' is not of type 'array'; correct"),
        ({"Subject": {"age": 90}}, ValueError, "Subject.age: 90"),
        ({"Ecephys": {"Electrodes": ["location"]}}, TypeError, "list of columns with name"),
    ],
)
def test_metadata_that_nwb_does_not_know_is_refused(metadata, error, words, result, recording, tmp_path):
    with pytest.raises(error, match=words):
        result.export_to_nwb(recording, tmp_path / "units.nwb", session_start_time=START, metadata=metadata)
    assert not any(tmp_path.iterdir())


def test_sections_of_metadata_that_are_not_used_are_named(caplog):
    _check_arguments(Path("units.nwb"), START, {"subject": {"age": "P90D"}})
    assert "not used: ['subject']" in caplog.text


def test_raw_data_are_never_overwritten(result, recording, tmp_path):
    h5py = pytest.importorskip("h5py")
    raw = tmp_path / "raw.nwb"
    with h5py.File(raw, "w") as file:
        file["acquisition/ElectricalSeries/data"] = np.arange(3)
        file.create_group("units").attrs["description"] = "Units of HuiduRep 0.1.0"
    (tmp_path / "text.nwb").write_text("x")
    for path in (raw, tmp_path / "text.nwb"):
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match="remove it yourself"):
            result.export_to_nwb(recording, path, session_start_time=START, overwrite=True)
        assert path.read_bytes() == before


def test_groups_whose_names_nwb_does_not_allow(result, recording, tmp_path):
    import pynwb

    named = recording.clone()
    named.set_property("group_name", np.repeat(["TT/1", "TT:1"], 4))
    path = result.export_to_nwb(named, tmp_path / "units.nwb", session_start_time=START)
    with pynwb.NWBHDF5IO(path, "r") as io:
        read = io.read()
        assert set(read.electrode_groups) == {"TT-1", "TT-1 (1)"}
        names = [group.name for group in read.units["electrode_group"][:]]
    expected = {0: "TT-1", 1: "TT-1 (1)"}
    assert names == [expected[int(group)] for group in result.sorting.get_property("group")]


def test_times_of_a_computer_clock_are_refused(recording, tmp_path):
    later = recording.clone()
    later.shift_times(1.7e9)
    with pytest.raises(ValueError, match="1700000100 s.*shift_times"):
        sort(later).export_to_nwb(later, tmp_path / "units.nwb", session_start_time=START)


def test_properties_are_columns_of_numbers_or_text(result, recording, tmp_path):
    import pynwb

    given = SortingResult.load(result.save(tmp_path / "out"))
    num_units = given.sorting.get_num_units()
    given.sorting.set_property("area", np.array(["CA1", *[None] * (num_units - 1)], dtype=object))
    given.sorting.set_property("layer", np.array([4, *[None] * (num_units - 1)], dtype=object))
    given.sorting.set_property("CA1/CA3", np.arange(num_units))
    given.sorting.set_property("CA1-CA3", np.arange(num_units)[::-1])
    dates = np.array(["2026-03-31T14:00:00", *["NaT"] * (num_units - 1)], dtype="datetime64[s]")
    given.sorting.set_property("judged", dates)
    given.sorting.set_property("delay", dates - dates[0])
    given.sorting.set_property("days", np.stack([dates, dates], axis=1))
    given.sorting.set_property("spectrum", np.array([1 + 2j, *[np.nan] * (num_units - 1)]))
    given.sorting.set_property("fit", np.array([(0.5, 3)] * num_units, dtype=[("slope", "f8"), ("order", "i4")]))
    given.sorting.set_property("place_um", np.ones((num_units, 3)))
    for name in ("id", "description", "colnames", "unit_name", "spike_embeddings"):  # are taken
        given.sorting.set_property(name, np.full(num_units, 7))
    path = given.export_to_nwb(recording, tmp_path / "units.nwb", session_start_time=START)
    with pynwb.NWBHDF5IO(path, "r") as io:
        units = io.read().units
        assert units["CA1-CA3"][0] == num_units - 1 and units["CA1-CA3 (1)"][0] == 0  # "/" is not allowed
        assert list(units["judged"][:2]) == ["2026-03-31T14:00:00", ""]
        assert list(units["delay"][:2]) == ["0 seconds", ""]
        assert [list(each) for each in units["days"][:2]] == [["2026-03-31T14:00:00"] * 2, ["", ""]]
        assert list(units["spectrum"][:2]) == ["(1+2j)", ""] and units["fit"][0] == "(0.5, 3)"
        assert [list(each) for each in units["place_um"][:]] == [[1.0] * 3] * num_units
        assert units["id (property)"][0] == units["unit_name (property)"][0] == units["colnames (property)"][0] == 7
        assert units["description (property)"][0] == units["spike_embeddings (property)"][0] == 7
        assert list(units["area"][:2]) == ["CA1", ""] and units["layer"][0] == 4 and np.isnan(units["layer"][1])
    assert given.sorting.get_property("area").dtype.kind == "O"  # the result is not changed
