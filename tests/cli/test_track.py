"""`huidurep track`."""

import json

import numpy as np
import pytest
from command_line import assert_refused, run
from tracked_sessions import draw_neurons, make_result

import huidurep


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("sessions")
    for number, templates in enumerate(draw_neurons(4, (0.0, 25.0), seed=5)):
        make_result(templates, name=f"session {number}").save(place / str(number))
    return [place / "0", place / "1"]


def test_results_are_tracked(folders, tmp_path):
    result = run("track", *folders, "--output", tmp_path / "tracks", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["num_sessions"], printed["num_units"]) == (2, 8)
    assert printed["num_in_all"] == printed["num_in_several"] >= 3
    assert printed["displacement_um"]["0"][1] == pytest.approx(25, abs=8)
    tracks = huidurep.UnitTracks.load(tmp_path / "tracks")
    assert tracks.neurons["neuron"].nunique() == printed["num_neurons"]
    assert (tmp_path / "tracks" / "tracks.html").stat().st_size > 1000
    assert_refused(run("track", *folders, "--output", tmp_path / "tracks"), "--overwrite")
    again = run("track", *folders, "--output", tmp_path / "tracks", "--overwrite", "--use-isi")
    assert again.exit_code == 0 and "8 units of 2 sessions" in again.stdout, again.output
    # results are not changed
    assert "neuron" not in huidurep.SortingResult.load(folders[0]).sorting.get_property_keys()


def test_curated_results_are_tracked(tetrode_recording, tmp_path):
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained("tetrode")
    folders, middle = [tmp_path / "0", tmp_path / "1"], tetrode_recording[0].get_num_samples() // 2
    for folder, (first, end) in zip(folders, ((0, middle), (middle, 2 * middle)), strict=True):
        pipeline(tetrode_recording[0].frame_slice(first, end)).save(folder)
    units = huidurep.SortingResult.load(folders[0]).sorting.unit_ids.tolist()
    curation = dict(format_version="1", unit_ids=units, label_definitions={}, manual_labels=[], merge_unit_groups=[])
    (tmp_path / "curation.json").write_text(json.dumps(curation | dict(removed_units=units[:1])))
    curated = ("--curated", tmp_path / "curation.json", "--curated", folders[1])
    result = run("track", *folders, *curated, "--output", tmp_path / "tracks", "--json")
    assert result.exit_code == 0, result.output
    neurons = huidurep.UnitTracks.load(tmp_path / "tracks").neurons
    assert neurons[neurons["session"] == 0]["unit"].tolist() == units[1:]
    assert_refused(run("track", *folders, *curated[:2], "--output", tmp_path / "others"), "--curated once for each")


def test_wrong_input_is_one_sentence(folders, tmp_path):
    output = tmp_path / "tracks"
    assert_refused(run("track", folders[0], "--output", output), "at least two sessions")
    assert_refused(run("track", folders[0], folders[0], "--output", output), "again as session 1")
    assert_refused(run("track", folders[0], tmp_path / "none", "--output", output), "huidurep.json")
    np.save(tmp_path / "raw.npy", np.zeros(3))
    assert_refused(run("track", *folders, "--output", output, "--recording", tmp_path / "raw.npy"), "found 1")
    assert_refused(run("track", *folders, "--output", output, "--probe", "tetrode"), "--recording")
    assert not output.exists()
