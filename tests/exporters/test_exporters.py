"""A result as SortingAnalyzer and for phy; other recordings, several segments and results without units."""

import shutil

import numpy as np
import pytest
import spikeinterface
from stand_in import TETRODE_UM, PcaModel, as_recording, planted

from huidurep import SortingParameters, SortingResult, SpikeSortingPipeline
from huidurep.exporters.analyzer import EXTENSIONS, prepare_recording
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog

RATE_HZ = 29999.954  # as SpikeGLX measures it: no whole number
PARAMETERS = SortingParameters(detect_threshold=6.0)
QUICK = ("random_spikes", "templates")


def sort(recording, **parameters):
    return SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0, **parameters))(recording)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two tetrodes in one place, on disk; channel ch6 is dead."""
    first, *_ = planted(duration_s=8.0, seed=1)
    second, *_ = planted(duration_s=8.0, seed=2, footprints_uv=((20, 120, 0, 60),))
    traces = np.concatenate([first, second], axis=1)
    traces[:, 6] = 0.0
    made = as_recording(traces, rate_hz=RATE_HZ, channel_ids=[f"ch{index}" for index in range(8)])
    made.set_property("group", np.repeat(["left", "right"], 4))
    return made.save(folder=tmp_path_factory.mktemp("outputs") / "recording", progress_bar=False)


@pytest.fixture(scope="module")
def result(recording):
    return sort(recording)


@pytest.fixture(scope="module")
def analyzer_folder(result, recording, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyzer") / "written"
    result.to_analyzer(recording, folder)
    return folder


@pytest.fixture(scope="module")
def phy_folder(result, recording, tmp_path_factory):
    """Moved after it was written."""
    written = result.export_to_phy(recording, tmp_path_factory.mktemp("phy") / "written")
    return shutil.move(written, written.with_name("moved"))


def test_analyzer_has_the_units_their_properties_and_the_extensions(analyzer_folder, result):
    analyzer = spikeinterface.load(analyzer_folder)
    assert set(analyzer.get_saved_extension_names()) == set(EXTENSIONS)
    assert analyzer.has_recording() and analyzer.is_sparse()
    assert analyzer.sampling_frequency == RATE_HZ
    np.testing.assert_array_equal(analyzer.sorting.to_spike_vector(), result.sorting.to_spike_vector())
    for name in result.sorting.get_property_keys():
        np.testing.assert_array_equal(analyzer.sorting.get_property(name), result.sorting.get_property(name))
    # the templates are those the properties were measured on
    templates = analyzer.get_extension("templates").get_templates()
    depth = templates.min(axis=(1, 2))
    np.testing.assert_allclose(depth, result.sorting.get_property("peak_uv"), rtol=0.05)


def test_units_are_looked_at_on_their_own_group(analyzer_folder, result):
    analyzer = spikeinterface.load(analyzer_folder)
    assert "ch6" not in analyzer.channel_ids
    groups = analyzer.get_recording_property("group")
    for unit_id, channels in analyzer.sparsity.unit_id_to_channel_ids.items():
        (unit_index,) = result.sorting.ids_to_indices([unit_id])
        own = result.sorting.get_property("group")[unit_index]
        assert set(channels) == set(analyzer.channel_ids[groups == own])
    # tetrodes in one place are moved apart, or viewers would draw them over one another
    assert len(np.unique(analyzer.get_channel_locations(), axis=0)) == 7


def test_a_moved_analyzer_has_embeddings_and_posteriors(analyzer_folder, result, tmp_path):
    moved = shutil.copytree(analyzer_folder, tmp_path / "elsewhere")
    analyzer, beside = spikeinterface.load(moved), SortingResult.load(moved / "huidurep")
    np.testing.assert_array_equal(beside.sorting.to_spike_vector(), analyzer.sorting.to_spike_vector())
    np.testing.assert_array_equal(beside.embeddings, result.embeddings)
    np.testing.assert_array_equal(beside.posteriors, result.posteriors)
    assert analyzer.get_extension("quality_metrics").get_data().shape[0] == result.sorting.get_num_units()


def test_traces_are_those_that_were_sorted(recording):
    prepared, segment_indices = prepare_recording(recording, PARAMETERS)
    assert segment_indices.tolist() == [0]
    for group in split_groups(recording, PARAMETERS, RunLog()):
        sorted_traces = preprocess(group, PARAMETERS, RunLog()).recording
        same = prepared.get_traces(channel_ids=sorted_traces.channel_ids)
        np.testing.assert_allclose(same, sorted_traces.get_traces(), atol=1e-3)


def test_in_memory_with_extensions_of_ones_choice(result, recording):
    analyzer = result.to_analyzer(recording, extensions=QUICK)
    assert analyzer.format == "memory" and list(analyzer.extensions) == list(QUICK)


def test_nothing_is_written_over(analyzer_folder, result, recording, tmp_path):
    with pytest.raises(FileExistsError, match="or overwrite it"):
        result.to_analyzer(recording, analyzer_folder)
    (tmp_path / "mine.txt").write_text("do not lose me")
    for write in (result.to_analyzer, result.export_to_phy):
        with pytest.raises(FileExistsError, match="or remove it yourself"):
            write(recording, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    shutil.copytree(analyzer_folder, tmp_path / "old")
    again = result.to_analyzer(recording, tmp_path / "old", extensions=QUICK, overwrite=True)
    assert set(again.get_saved_extension_names()) == set(QUICK)


def test_a_failed_analyzer_leaves_no_folder(result, recording, tmp_path):
    with pytest.raises(ValueError, match="expected extensions among .*, found nothing_of_that_name"):
        result.to_analyzer(recording, tmp_path / "out", extensions=["nothing_of_that_name"])
    with pytest.raises(Exception, match="random_spikes"):  # SpikeInterface's own words, after the folder was made
        result.to_analyzer(recording, tmp_path / "out", extensions=["templates"])
    assert not (tmp_path / "out").exists()


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
    model = pytest.importorskip("phylib.io.model").load_model(phy_folder / "params.py")
    assert list(model.metadata["group"].values()) == result.sorting.get_property("quality").tolist()
    assert list(model.metadata["channel_group"].values()) == result.sorting.get_property("group").tolist()
    isolation = list(model.metadata["isolation"].values())
    np.testing.assert_allclose(isolation, result.sorting.get_property("isolation"), rtol=1e-6)
    np.testing.assert_array_equal(model.spike_attributes.posterior, result.posteriors)
    np.testing.assert_array_equal(np.load(phy_folder / "embeddings.npy"), result.embeddings)


def test_phy_features_are_the_embeddings_turned(phy_folder, result):
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


def test_segments(tmp_path):
    traces, *_ = planted(duration_s=8.0, seed=4)
    cut = 120000
    two = as_recording(traces[:cut], traces[:40], traces[cut:], positions_um=TETRODE_UM)
    found = sort(two, num_units=3)
    analyzer = found.to_analyzer(two, extensions=QUICK)
    # the segment without room for a spike is not looked at
    assert analyzer.get_num_segments() == 2
    spikes = analyzer.sorting.to_spike_vector()
    assert len(spikes) == len(found.embeddings) and set(spikes["segment_index"]) == {0, 1}
    with pytest.raises(ValueError, match="concatenate_recordings"):
        found.export_to_phy(two, tmp_path / "phy")
    assert not (tmp_path / "phy").exists()


def test_another_recording_is_refused(result, recording):
    renamed = recording.rename_channels([f"x{index}" for index in range(8)])
    shorter = recording.frame_slice(0, 3 * 30000)
    slower = as_recording(recording.get_traces(), rate_hz=30000.0, channel_ids=recording.channel_ids)
    doubled = spikeinterface.append_recordings([recording, recording])
    for other, said in (
        (renamed, "expected a recording with channels .* found others such as"),
        (shorter, "expected a recording of more than .* samples"),
        (slower, "sampling frequency in Hz 29999.954, found 30000.0"),
        (doubled, "segments 1, found 2"),
    ):
        with pytest.raises(ValueError, match=said):
            result.to_analyzer(other)
    with pytest.raises(TypeError, match="expected the SpikeInterface recording"):
        result.to_analyzer(recording.get_traces())


def test_no_units_is_said(tmp_path):
    silent = as_recording(np.zeros((30000, 4), "float32"), positions_um=TETRODE_UM)
    nothing = sort(silent)
    for write in (nothing.to_analyzer, nothing.export_to_phy):
        with pytest.raises(ValueError, match="expected a result with units, found none"):
            write(silent, tmp_path / "out")
    assert not (tmp_path / "out").exists()
