"""A result as a folder for phy, read by phylib."""

import shutil

import numpy as np
import pytest
from tetrodes import PARAMETERS, RATE_HZ, sort

from huidurep import SortingResult
from huidurep.exporters.analyzer import prepare_recording
from huidurep.exporters.phy import _write_text_columns


@pytest.fixture(scope="module")
def phy_folder(result, recording, tmp_path_factory):
    """Moved after it was written."""
    written = result.export_to_phy(recording, tmp_path_factory.mktemp("phy") / "written")
    return shutil.move(written, written.with_name("moved"))


def test_phylib_opens_the_folder_wherever_it_is(phy_folder, result, recording):
    model = pytest.importorskip("phylib.io.model").load_model(phy_folder / "params.py")
    assert model.sample_rate == RATE_HZ
    spikes = result.sorting.to_spike_vector()
    np.testing.assert_array_equal(model.spike_samples, spikes["sample_index"])
    np.testing.assert_array_equal(model.spike_clusters, spikes["unit_index"])
    prepared, _ = prepare_recording(recording, PARAMETERS)
    np.testing.assert_array_equal(model.traces[:1000], prepared.get_traces(end_frame=1000))
    assert model.channel_shanks.tolist() == [0, 0, 0, 0, 1, 1, 1]
    main = [prepared.channel_ids[model.get_template(unit).channel_ids[0]] for unit in range(model.n_templates)]
    assert main == result.sorting.get_property("main_channel_id").tolist()


def test_phy_has_flags_properties_and_posteriors(phy_folder, result):
    pandas = pytest.importorskip("pandas")
    model = pytest.importorskip("phylib.io.model").load_model(phy_folder / "params.py")
    assert list(model.metadata["group"].values()) == result.sorting.get_property("quality").tolist()
    reasons = pandas.read_csv(phy_folder / "cluster_quality_reason.tsv", sep="\t", keep_default_na=False)
    assert reasons["quality_reason"].tolist() == result.sorting.get_property("quality_reason").tolist()
    assert list(model.metadata["channel_group"].values()) == result.sorting.get_property("group").tolist()
    for name in ("mean_posterior", "isi_violations_ratio"):
        written = list(model.metadata[name].values())
        np.testing.assert_allclose(written, result.sorting.get_property(name), rtol=1e-6)
    np.testing.assert_array_equal(model.spike_attributes.posterior, result.posteriors)
    np.testing.assert_array_equal(np.load(phy_folder / "embeddings.npy"), result.embeddings)


def test_phy_features_are_the_rotated_embeddings(phy_folder, result):
    model = pytest.importorskip("phylib.io.model").load_model(phy_folder / "params.py")
    groups = result.sorting.get_property("group")[result.sorting.to_spike_vector()["unit_index"]]
    # three channels hold every number once, for that many are left of the group with the dead one
    for group, channels in (("left", [0, 1, 2]), ("left", [1, 2, 3]), ("right", [4, 5, 6])):
        own = np.flatnonzero(groups == group)
        features = model.get_features(own, np.array(channels))
        assert features.shape == (len(own), 3, 2)
        flat = features.reshape(len(own), -1)
        # no distance between spikes has changed
        expected = np.linalg.norm(result.embeddings[own] - result.embeddings[own[0]], axis=1)
        np.testing.assert_allclose(np.linalg.norm(flat - flat[0], axis=1), expected, rtol=1e-3, atol=1e-3)
    # over all spikes, the numbers stand in order of how much they vary: 1st and 4th, 2nd and 5th, 3rd and 6th
    variances = np.load(phy_folder / "pc_features.npy")[:, :, :3].var(axis=0)
    assert (np.diff(variances.ravel()) <= 0).all()


def test_phylib_opens_one_unit_without_its_recording(recording, tmp_path):
    load_model = pytest.importorskip("phylib.io.model").load_model
    left = recording.select_channels(["ch0", "ch1", "ch2", "ch3"])
    single = sort(left, num_units=1)
    folder = single.export_to_phy(left, tmp_path / "phy", copy_recording=False)
    assert not (folder / "recording.dat").exists()
    model = load_model(folder / "params.py")
    assert model.n_spikes == len(single.posteriors) and set(model.spike_clusters) == {0}
    assert len(model.get_template(0).channel_ids) == 4


def test_neurons_of_several_sessions_are_a_column(result, recording, track_one_session, tmp_path):
    tracked = SortingResult.load(result.save(tmp_path / "result"))
    neurons = track_one_session(tracked)
    tracked.sorting.set_property("place_um", np.zeros((len(neurons), 3)))  # of three numbers: no column
    folder = tracked.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    lines = (folder / "cluster_neuron.tsv").read_text().split("\n")
    assert lines == ["cluster_id\tneuron", *(f"{unit}\t{neuron}" for unit, neuron in enumerate(neurons)), ""]


def test_names_with_tabs_and_line_breaks_are_one_line_a_unit(result, recording, tmp_path):
    shown = SortingResult.load(result.save(tmp_path / "result"))
    sorting = shown.sorting
    sorting.set_property("main_channel_id", np.array([f"a\tb\n\r{unit}" for unit in sorting.unit_ids]))
    (tmp_path / "cluster_main_channel_id.tsv").write_text("old")
    _write_text_columns(tmp_path, sorting)
    lines = (tmp_path / "cluster_main_channel_id.tsv").read_text().splitlines()
    assert lines == ["cluster_id\tmain_channel_id", *[f"{unit}\ta b {unit}" for unit in range(len(lines) - 1)]]
    assert len(lines) == sorting.get_num_units() + 1


def test_spike_times_are_those_of_the_recording(result, recording, tmp_path):
    moved = recording.select_channels(recording.channel_ids)
    moved.shift_times(50.0)
    timed = SortingResult.load(result.save(tmp_path / "result"))
    timed.sorting.register_recording(moved)
    timed.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    samples = result.sorting.to_spike_vector()["sample_index"]
    np.testing.assert_allclose(np.load(tmp_path / "phy" / "spike_time_s.npy"), 50.0 + samples / RATE_HZ)
