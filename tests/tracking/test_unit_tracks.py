"""Tracks on disk: tables, ids of units, damaged folders."""

import numpy as np
import pandas as pd
import pytest

import huidurep
from huidurep.tracking.unit_tracks import NEURON_COLUMNS, PAIR_COLUMNS, UnitTracks


def make_tracks(unit_ids, later=None):
    later = unit_ids[0] if later is None else later
    neurons = pd.DataFrame([(0, 0, unit_ids[0]), (1, 0, unit_ids[1]), (0, 1, later)], columns=NEURON_COLUMNS)
    pairs = pd.DataFrame([(0, unit_ids[0], 1, later, 0.875)], columns=PAIR_COLUMNS)
    waveforms = np.arange(3 * 4 * 90, dtype="float32").reshape(3, 4, 90)
    return UnitTracks(neurons, pairs, {"0": [0.0, 12.5]}, waveforms, {"model": {"0": "tetrode"}, "use_isi": False})


@pytest.mark.parametrize("unit_ids", [[3, 10], ["3", "a,b"]])
def test_saved_tracks_are_the_same(tmp_path, unit_ids):
    tracks = make_tracks(unit_ids)
    tracks.save(tmp_path / "tracks")
    loaded = huidurep.UnitTracks.load(tmp_path / "tracks")
    pd.testing.assert_frame_equal(loaded.neurons, tracks.neurons, check_dtype=False)
    pd.testing.assert_frame_equal(loaded.pairs, tracks.pairs, check_dtype=False)
    np.testing.assert_array_equal(loaded.waveforms_uv, tracks.waveforms_uv)
    assert (loaded.displacement_um, loaded.info) == (tracks.displacement_um, tracks.info)
    assert loaded.neuron_of_units(0, unit_ids[::-1]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="not tracked"):
        loaded.neuron_of_units(1, unit_ids)
    with pytest.raises(FileExistsError):
        tracks.save(tmp_path / "tracks")
    tracks.save(tmp_path / "tracks", overwrite=True)


def test_sessions_with_names_and_sessions_with_numbers_keep_them(tmp_path):
    loaded = UnitTracks.load(make_tracks(["01", "b"], 7).save(tmp_path / "tracks"))
    assert loaded.neurons["unit"].tolist() == ["01", "b", 7] and loaded.pairs["unit_2"].tolist() == [7]


def test_damaged_tracks_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="huidurep_tracks.json"):
        UnitTracks.load(tmp_path)
    folder = make_tracks([0, 1]).save(tmp_path / "tracks")
    np.save(folder / "waveforms.npy", np.zeros((2, 4, 90)))
    with pytest.raises(ValueError, match="3 units"):
        UnitTracks.load(folder)
    (folder / "pairs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="session_1"):
        UnitTracks.load(folder)
    (folder / "pairs.csv").unlink()
    with pytest.raises(ValueError, match="track again"):
        UnitTracks.load(folder)
    (folder / "huidurep_tracks.json").write_text('{"format": "huidurep-tracks", "format_version": 9}')
    with pytest.raises(ValueError, match="update huidurep"):
        UnitTracks.load(folder)


def test_page_shows_every_neuron(tmp_path):
    tracks = make_tracks(["3", "<b>"])
    page = tracks.write_report(tmp_path / "tracks.html").read_text(encoding="utf8")
    assert "session 0: +0 µm, +12 µm." in page
    assert page.count("<polyline") == 3 * 4 and "&lt;b&gt;" in page and "<b>" not in page
    assert 'id="neuron-0"' in page and "0.88 (0, 1)" in page
    assert "http://" not in page and "<script" not in page
    with pytest.raises(FileExistsError):
        tracks.write_report(tmp_path / "tracks.html")


def test_a_displacement_that_is_not_known_is_said_in_words(tmp_path):
    tracks = make_tracks([0, 1])
    tracks.displacement_um["0"] = [0.0, None]
    assert UnitTracks.load(tracks.save(tmp_path / "tracks")).displacement_um == {"0": [0.0, None]}
    assert "session 0: not measurable." in tracks.write_report(tmp_path / "tracks.html").read_text(encoding="utf8")


def test_page_names_rivals(tmp_path):
    tracks = make_tracks([0, 1])
    tracks.pairs.loc[1] = (0, 1, 1, 0, 0.25)
    page = tracks.write_report(tmp_path / "tracks.html").read_text(encoding="utf8")
    assert '<a href="#neuron-0">0</a> (0.25)' in page and '<a href="#neuron-1">1</a> (0.25)' in page
