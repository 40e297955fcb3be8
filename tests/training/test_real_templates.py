"""Real units moved to other windows of contacts; a small file of made-up units stands for the published one."""

import json

import numpy as np
import pytest

from huidurep.simulation.probes import contact_layout
from huidurep.training.real_templates import (
    HELD_OUT_SESSIONS,
    NUM_SAMPLES,
    PEAK_INDEX,
    _kriging,
    _warp,
    draw_real_units,
    read_real_units,
)

CONTACTS = contact_layout("neuropixels-1.0", 24) + (0, 1000)
TIME_MS = (np.arange(100) - 32) / 30.0
SESSIONS = ("first", "second", HELD_OUT_SESSIONS[0], "second")


def shape(width_ms):
    return -np.exp(-((TIME_MS / width_ms) ** 2)) + 0.25 * np.exp(-(((TIME_MS - 0.6) / 0.4) ** 2))


def footprint(positions, place):
    return 90 * np.exp(-0.5 * ((positions - place) ** 2).sum(1) / 50**2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "units.npz"
    arrays, entries = {}, []
    for number, session in enumerate(SESSIONS):
        waveform = footprint(CONTACTS, CONTACTS[8 + number])[:, None] * shape(0.12 + 0.03 * number)[None]
        arrays[f"waveform_uv_{number}"] = waveform.astype(np.float32)
        arrays[f"position_um_{number}"] = CONTACTS.astype(np.float32)
        arrays[f"time_ms_{number}"] = TIME_MS + 0.3  # the file's clock need not start at the trough
        entries.append({"unit": number, "session": session})
    np.savez(path, **arrays)
    path.with_suffix(".json").write_text(json.dumps(entries))
    return path


def test_held_out_sessions_are_not_read(path):
    assert len(read_real_units(path)) == 3
    assert len(read_real_units(path, exclude_sessions=())) == 4
    only = read_real_units(path, exclude_sessions=("second", HELD_OUT_SESSIONS[0]))
    assert len(only) == 1
    waveform, positions, time_ms = only[0]
    assert waveform.shape == (100, 24) and positions.shape == (24, 2) and time_ms.shape == (100,)
    assert time_ms[waveform.min(1).argmin()] == 0
    assert waveform == pytest.approx(shape(0.12)[:, None] * footprint(CONTACTS, CONTACTS[8])[None], abs=1e-4)


def test_held_out_sessions_are_whole_and_named_once():
    assert len(set(HELD_OUT_SESSIONS)) == len(HELD_OUT_SESSIONS) == 10


def test_missing_file_raises(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="units.json.*`real`"):
        read_real_units(tmp_path / "units.npz")
    (tmp_path / "units.npz").write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"no .*units\.json"):
        read_real_units(tmp_path / "units.npz")


@pytest.mark.parametrize("kind", ["tetrode", "linear", "hd-mea"])
def test_drawn_units(path, kind):
    positions = contact_layout(kind, 4 if kind == "tetrode" else 8)
    units = read_real_units(path)
    found = draw_real_units(np.random.default_rng(0), units, positions, 30, num_views=3)
    assert found.shape == (30, 3, NUM_SAMPLES, len(positions)) and found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found[:, 0].min(2).argmin(1) == PEAK_INDEX).all() and PEAK_INDEX == 90
    amplitude = -found[:, 0].min((1, 2))
    assert amplitude.min() >= 24.9 and amplitude.max() <= 400.1 and np.ptp(np.log(amplitude)) > 1
    # the ends fade out, and no unit is drawn twice
    assert np.abs(found[:, :, [0, -1]]).max() < 0.02 * np.abs(found).max()
    assert len(np.unique(found[:, 0, PEAK_INDEX], axis=0)) == 30
    again = draw_real_units(np.random.default_rng(0), units, positions, 30, num_views=3)
    assert np.array_equal(found, again)


def test_views_are_the_unit_displaced(path):
    units, positions = read_real_units(path), contact_layout("linear", 8)
    found = draw_real_units(np.random.default_rng(1), units, positions, 20, num_views=4, drift_um=8.0)
    still = draw_real_units(np.random.default_rng(1), units, positions, 20, num_views=4, drift_um=0.0)
    resting, moved, near = found[:, :1], found[:, 1:], still[:, 1:]
    size = np.abs(resting).max((2, 3))
    assert np.array_equal(resting, still[:, :1])
    change = np.abs(moved - resting).max((2, 3)) / size
    assert 0.03 < np.median(change) < 0.5
    assert np.median(np.abs(near - resting).max((2, 3)) / size) < np.median(change)


def test_kriging_gives_the_known_potentials_back():
    contacts = CONTACTS - CONTACTS[11]
    potentials = footprint(contacts, np.array([5.0, 8.0]))
    at_contacts = _kriging(contacts, contacts) @ potentials
    assert at_contacts == pytest.approx(potentials, abs=0.02 * potentials.max())
    between = contacts[6:16] + (8.0, 10.0)
    assert _kriging(contacts, between) @ potentials == pytest.approx(
        footprint(between, np.array([5.0, 8.0])), abs=0.05 * potentials.max()
    )
    # far from all contacts nothing is known, and nothing is made up
    assert np.abs(_kriging(contacts, np.array([[0.0, 2000.0]])) @ potentials).max() < 1e-6


def test_time_is_stretched_around_the_trough():
    operator = _warp(TIME_MS, 1.0)
    assert operator.shape == (NUM_SAMPLES, 100)
    wave = shape(0.15)
    inside = slice(PEAK_INDEX - 32 + 6, PEAK_INDEX + 68 - 6)
    assert (operator @ wave)[inside] == pytest.approx(wave[6:-6], abs=1e-6)
    assert not (operator @ wave)[: PEAK_INDEX - 32].any() and not (operator @ wave)[PEAK_INDEX + 68 :].any()
    wide = _warp(TIME_MS, 1.2) @ wave
    at = (np.arange(NUM_SAMPLES) - PEAK_INDEX) / 30.0 / 1.2
    rows = np.abs(at) < 0.6
    assert wide[rows] == pytest.approx(np.interp(at[rows], TIME_MS, wave), abs=1e-6)
    assert wide.argmin() == PEAK_INDEX
