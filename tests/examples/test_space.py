"""What the demo of examples/space/ reads and refuses; the page itself: tests/examples/test_space_browser.py."""

import re
import sys
from pathlib import Path

import numpy as np
import probeinterface
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "space"
sys.path.insert(0, str(FOLDER))

import recordings  # noqa: E402
from recordings import Description, Limits, read_upload  # noqa: E402

SMALL = Limits(max_megabytes=1, max_channels=8, max_duration_s=2)


@pytest.fixture
def samples():
    return np.random.default_rng(0).normal(0, 20, (3000, 4)).astype("int16")


@pytest.fixture
def raw(samples, tmp_path):
    path = tmp_path / "rat.dat"
    samples.tofile(path)
    return path


def refuse(path, description, *words, limits=SMALL):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, words))):
        read_upload(path, description, limits)


def test_built_in_recordings_fit_the_limits():
    for settings in recordings.BUILT_IN.values():
        assert settings["duration_s"] <= Limits().max_duration_s
    name = next(iter(recordings.BUILT_IN))
    recording, truth = recordings.simulate(name)
    assert recordings.check_limits(recording, Limits()) is recording
    assert truth.get_num_units() == recordings.BUILT_IN[name]["num_units"]
    assert recordings.simulate(name)[0] is recording


def test_raw_samples_with_gain_and_tetrodes(raw, samples):
    description = Description(30000.0, 4, "int16", 0.5, recordings.TETRODES)
    recording = read_upload(raw, description, SMALL)
    np.testing.assert_array_equal(recording.get_traces(), samples)
    np.testing.assert_allclose(recording.get_traces(return_in_uV=True), samples * 0.5)
    assert recording.get_probegroup().get_contact_count() == 4


def test_an_array_with_a_column_and_no_gain(samples, tmp_path):
    np.save(tmp_path / "rat.npy", samples)
    description = Description(20000.0, probe=recordings.COLUMN, pitch_um=25.0)
    recording = read_upload(tmp_path / "rat.npy", description, SMALL)
    np.testing.assert_array_equal(recording.get_traces(), samples)
    assert recording.get_sampling_frequency() == 20000.0 and not recording.has_scaleable_traces()
    np.testing.assert_array_equal(np.diff(recording.get_channel_locations()[:, 1]), 25.0)


def test_the_places_of_a_probe_file(raw, tmp_path):
    probe = probeinterface.generate_linear_probe(4, ypitch=50)
    probe.set_device_channel_indices(np.arange(4))
    probeinterface.write_probeinterface(tmp_path / "probe.json", probe)
    description = Description(30000.0, 4, probe=recordings.PROBE_FILE, probe_file=tmp_path / "probe.json")
    locations = read_upload(raw, description, SMALL).get_channel_locations()
    np.testing.assert_array_equal(locations, probe.contact_positions)
    (tmp_path / "other.json").write_text("{}")
    for path, words in ((None, "Choose"), (tmp_path / "other.json", "write_probeinterface")):
        refuse(raw, Description(30000.0, 4, probe=recordings.PROBE_FILE, probe_file=path), words)
    refuse(raw, Description(30000.0, 2, probe=recordings.PROBE_FILE, probe_file=tmp_path / "probe.json"), "2 wired")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_megabytes=0.02), "up to 0.02 MB"),
        (Limits(max_channels=3), "4 channels; this demo takes up to 3"),
        (Limits(max_duration_s=0.05), "up to 0 s"),
    ],
)
def test_limits(raw, limits, words):
    refuse(raw, Description(30000.0, 4), words, limits=limits)


def test_a_compressed_file_may_not_hold_more_than_a_raw_one():
    recording, _ = recordings.simulate(next(iter(recordings.BUILT_IN)))
    with pytest.raises(ValueError, match="7 million.*1 million"):
        recordings.check_limits(recording, Limits(max_megabytes=2))


def test_errors_name_what_is_wrong(raw, samples, tmp_path):
    refuse(None, Description(), "Choose a file")
    refuse(raw, Description(0, 4), "sampling frequency")
    refuse(raw, Description(30000.0, None), "number of channels")
    refuse(raw, Description(30000.0, 7), "7 channels of int16", "24000 bytes")
    refuse(raw, Description(30000.0, 3, probe=recordings.TETRODES), "multiple of 4", "3")
    refuse(raw, Description(30000.0, 4, "object"), "sample type")
    refuse(raw.rename(tmp_path / "rat.pkl"), Description(), "found .pkl")
    np.save(tmp_path / "turned.npy", samples.T)
    refuse(tmp_path / "turned.npy", Description(30000.0), "transposed")


def test_no_pickle_is_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    refuse(tmp_path / "trap.npy", Description(30000.0), "numpy.save")
    assert not (tmp_path / "sprung").exists()


def write_nwb(path, samples):
    """The least that SpikeInterface reads as NWB."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["neurodata_type"] = "NWBFile"
        electrodes = file.create_group("general/extracellular_ephys/electrodes")
        electrodes.attrs["colnames"] = ["rel_x", "rel_y", "group_name"]
        electrodes["id"] = np.arange(samples.shape[1])
        electrodes["rel_x"], electrodes["rel_y"] = np.zeros(samples.shape[1]), 30.0 * np.arange(samples.shape[1])
        electrodes["group_name"] = ["shank"] * samples.shape[1]
        series = file.create_group("acquisition/ElectricalSeries")
        series.attrs["neurodata_type"] = "ElectricalSeries"
        series["data"] = samples
        series["data"].attrs["conversion"] = 1e-6
        series["electrodes"] = np.arange(samples.shape[1])
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 30000.0
    return h5py


def test_nwb(samples, tmp_path):
    write_nwb(tmp_path / "rat.nwb", samples)
    recording = read_upload(tmp_path / "rat.nwb", Description(), SMALL)
    np.testing.assert_array_equal(recording.get_traces(), samples)
    np.testing.assert_allclose(recording.get_traces(return_in_uV=True), samples, rtol=1e-6)
    np.testing.assert_array_equal(recording.get_channel_locations()[:, 1], [0, 30, 60, 90])
    refuse(tmp_path / "rat.nwb", Description(), "4 channels", limits=Limits(max_channels=3))
    (tmp_path / "text.nwb").write_text("hello")
    refuse(tmp_path / "text.nwb", Description(), "could not be read as NWB")


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_nwb_may_not_take_data_from_other_files(kind, samples, tmp_path):
    h5py = write_nwb(tmp_path / "secret.nwb", samples)
    write_nwb(tmp_path / "rat.nwb", samples)
    with h5py.File(tmp_path / "rat.nwb", "a") as file:
        group = file["acquisition/ElectricalSeries"]
        del group["data"]
        secret, inside = tmp_path / "secret.nwb", "/acquisition/ElectricalSeries/data"
        if kind == "link":
            group["data"] = h5py.ExternalLink(str(secret), inside)
        elif kind == "external":
            group.create_dataset("data", samples.shape, "i2", external=[(str(secret), 0, samples.nbytes)])
        else:
            layout = h5py.VirtualLayout(samples.shape, "i2")
            layout[:] = h5py.VirtualSource(str(secret), inside, samples.shape)
            group.create_virtual_dataset("data", layout)
    refuse(tmp_path / "rat.nwb", Description(), "refers to other files")


def test_the_space_says_what_it_runs_with():
    head = re.match(r"---\n(.*?)\n---\n", (FOLDER / "README.md").read_text(encoding="utf8"), re.DOTALL)[1]
    facts = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    assert facts["sdk"] == "gradio" and (FOLDER / facts["app_file"]).is_file()
    gradio = pytest.importorskip("gradio")
    assert facts["sdk_version"] == gradio.__version__
