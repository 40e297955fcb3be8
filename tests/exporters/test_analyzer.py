"""A result as SortingAnalyzer: traces, other recordings, several segments, results without units."""

import shutil

import numpy as np
import pytest
import spikeinterface
from stand_in import TETRODE_UM, as_recording, planted
from tetrodes import PARAMETERS, QUICK, RATE_HZ, sort

from huidurep import SortingResult
from huidurep.exporters.analyzer import EXTENSIONS, prepare_recording
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog


@pytest.fixture(scope="module")
def analyzer_folder(result, recording, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyzer") / "written"
    result.to_analyzer(recording, folder)
    return folder


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


def test_units_have_the_channels_of_their_group(analyzer_folder, result):
    analyzer = spikeinterface.load(analyzer_folder)
    assert "ch6" not in analyzer.channel_ids
    groups = analyzer.get_recording_property("group")
    for unit_id, channels in analyzer.sparsity.unit_id_to_channel_ids.items():
        (unit_index,) = result.sorting.ids_to_indices([unit_id])
        own = result.sorting.get_property("group")[unit_index]
        assert set(channels) == set(analyzer.channel_ids[groups == own])
    # tetrodes with the same positions are moved, since viewers would draw them on top of each other
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


def test_in_memory_with_given_extensions(result, recording):
    analyzer = result.to_analyzer(recording, extensions=QUICK)
    assert analyzer.format == "memory" and list(analyzer.extensions) == list(QUICK)


def test_other_folders_are_not_replaced(analyzer_folder, result, recording, tmp_path):
    with pytest.raises(FileExistsError, match="overwrite"):
        result.to_analyzer(recording, analyzer_folder)
    (tmp_path / "mine.txt").write_text("do not lose me")
    for write in (result.to_analyzer, result.export_to_phy):
        with pytest.raises(FileExistsError, match="remove"):
            write(recording, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    shutil.copytree(analyzer_folder, tmp_path / "old")
    again = result.to_analyzer(recording, tmp_path / "old", extensions=QUICK, overwrite=True)
    assert set(again.get_saved_extension_names()) == set(QUICK)
    with pytest.raises(Exception, match="random_spikes"):
        result.to_analyzer(recording, tmp_path / "old", extensions=["templates"], overwrite=True)
    kept = spikeinterface.load(tmp_path / "old")  # a failed export leaves the earlier one unchanged
    assert set(kept.get_saved_extension_names()) == set(QUICK) and kept.has_recording()


def test_a_failed_analyzer_leaves_no_folder(result, recording, tmp_path):
    with pytest.raises(ValueError, match="nothing_of_that_name"):
        result.to_analyzer(recording, tmp_path / "out", extensions=["nothing_of_that_name"])
    with pytest.raises(Exception, match="random_spikes"):  # SpikeInterface's own words, after the folder was made
        result.to_analyzer(recording, tmp_path / "out", extensions=["templates"])
    assert not (tmp_path / "out").exists()


def test_an_analyzer_on_disk_keeps_a_recording_in_memory(tmp_path):
    traces, *_ = planted(duration_s=4.0, seed=5)
    recording = as_recording(traces, positions_um=TETRODE_UM)
    analyzer = sort(recording, num_units=3).to_analyzer(recording, tmp_path / "out", extensions=QUICK)
    assert analyzer.folder == tmp_path / "out" and analyzer.has_temporary_recording()
    analyzer.compute("noise_levels")
    assert "noise_levels" in spikeinterface.load(tmp_path / "out").get_saved_extension_names()


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
    changed = as_recording(-recording.get_traces(), rate_hz=RATE_HZ, channel_ids=recording.channel_ids)
    doubled = spikeinterface.append_recordings([recording, recording])
    for other, said in (
        (renamed, "channels .* found .*'x0'"),
        (shorter, "found 90000"),
        (slower, "29999.954, found 30000.0"),
        (doubled, "num_segments 1, found 2"),
        (changed, "SHA-256"),
    ):
        with pytest.raises(ValueError, match=said):
            result.to_analyzer(other)
    with pytest.raises(TypeError, match="ndarray"):
        result.to_analyzer(recording.get_traces())


def test_a_result_without_units_is_refused(tmp_path):
    silent = as_recording(np.zeros((30000, 4), "float32"), positions_um=TETRODE_UM)
    nothing = sort(silent)
    for write in (nothing.to_analyzer, nothing.export_to_phy):
        with pytest.raises(ValueError, match="units, found none"):
            write(silent, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("last", [60000, 435, 30, 0])  # silent, 15 ms, shorter than a snippet, empty
def test_recordings_that_end_in_silence(last, tmp_path):
    traces, *_ = planted(duration_s=2.0)
    noise = np.random.default_rng(0).normal(0, 8, (30000, 4)).astype("float32")
    middle, end = noise[:15000], np.concatenate([noise, noise])[:last]
    recording = as_recording(traces, middle, traces, end, positions_um=TETRODE_UM)
    recording.shift_times(1000.5)
    result = sort(recording, matching=None, seed=1)
    assert result.sorting.get_num_segments() == 4 and result.sorting.get_num_units() > 0
    analyzer = result.to_analyzer(recording, extensions=QUICK)
    assert analyzer.get_num_segments() == analyzer.sorting.get_num_segments() == 3
    np.testing.assert_array_equal(analyzer.sorting.to_spike_vector(), result.sorting.to_spike_vector())
    unit = result.sorting.unit_ids[0]
    np.testing.assert_array_equal(
        analyzer.sorting.get_unit_spike_train(unit, 2, return_times=True),
        result.sorting.get_unit_spike_train(unit, 2, return_times=True),
    )


def test_spikeinterface_says_that_a_folder_has_no_times(recording, result, tmp_path):
    moved = recording.select_channels(recording.channel_ids)
    moved.shift_times(50.0)
    with pytest.warns(UserWarning, match="The recording registered"):
        analyzer = result.to_analyzer(moved, tmp_path / "out", extensions=QUICK)
    assert analyzer.sorting.get_start_time() == 50.0
