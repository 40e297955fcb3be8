"""Detailed cells and their potentials at contacts."""

import logging

import numpy as np
import pytest

from huidurep.simulation.cell_library import CELLS_HZ, draw_time_warp, load_cells, resampling_operator, spike_potentials
from huidurep.simulation.cells import line_source_potential
from huidurep.simulation.templates import draw_templates

COLUMN_UM = np.stack([np.zeros(8), 20.0 * np.arange(8)], 1)
NUM_SEGMENTS, NUM_SAMPLES, TROUGH = 13, 224, 64


def cell_arrays(clamp_na=0.25):
    """A stick along +y (the pia) of 260 um: the soma at its foot sinks what the rest gives back."""
    ends_um = -10 + 20.0 * np.arange(NUM_SEGMENTS + 1)
    along = np.stack([0 * ends_um, ends_um, 0 * ends_um], 1)
    time_ms = (np.arange(NUM_SAMPLES) - TROUGH) / 32
    spike = -8 * np.exp(-((time_ms / 0.15) ** 2)) + 2 * np.exp(-(((time_ms - 0.8) / 0.5) ** 2))
    share = np.r_[1, -np.exp(-np.arange(1, NUM_SEGMENTS) / 3)]
    share[1:] /= -share[1:].sum()
    one = share[:, None] * spike
    one[0] += clamp_na  # the electrode that makes the cell fire
    return dict(
        seg=np.stack([along[:-1], along[1:]]).astype("f4"),
        diam=np.r_[15, np.full(NUM_SEGMENTS - 1, 2.0)].astype("f4"),
        imem=np.stack([one, 0.8 * (one - clamp_na * (np.arange(NUM_SEGMENTS) == 0)[:, None])]).astype("f4"),
        vmem=np.zeros((2, NUM_SAMPLES), "f4"),
        dt=1 / 32,
    )


@pytest.fixture
def folder(tmp_path):
    np.savez(tmp_path / "L5_TTPC1_cADpyr_1.npz", **cell_arrays())
    np.savez(tmp_path / "L5_NBC_bAC_1.npz", **cell_arrays())
    return tmp_path


def test_cells_are_upright_balanced_and_typed(folder):
    basket, pyramid = load_cells(folder)
    assert (basket.name, pyramid.name) == ("L5_NBC_bAC_1", "L5_TTPC1_cADpyr_1")
    assert (basket.is_upright, pyramid.is_upright) == (False, True)
    assert (basket.is_excitatory, pyramid.is_excitatory) == (False, True)
    assert pyramid.ends[-1] == pytest.approx([0, 0, 250])
    assert abs(pyramid.currents.sum(1)).max() < 1e-5
    assert pyramid.currents[0, 0].min() == pytest.approx(-8, rel=0.03)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda cell: cell.pop("imem"), "no imem"),
        (lambda cell: cell["imem"].__setitem__((0, 3, 5), np.nan), "finite"),
        (lambda cell: cell["diam"].__setitem__(2, 0), "above 0"),
        (lambda cell: cell["imem"].__imul__(np.r_[2, np.ones(NUM_SEGMENTS - 1)][:, None].astype("f4")), "sum to 0"),
        (lambda cell: cell.update(seg=cell["seg"][:, 1:]), "imem"),
        (lambda cell: cell.update(dt=0.1), "dt = 0.1"),
    ],
)
def test_broken_cells_are_left_out_and_named(folder, caplog, change, complaint):
    broken = cell_arrays()
    change(broken)
    np.savez(folder / "L5_MC_broken_1.npz", **broken)
    (folder / "L5_BP_torn_1.npz").write_bytes(b"PK no archive")
    with caplog.at_level(logging.ERROR):
        cells = load_cells(folder)
    assert len(cells) == 2
    assert "L5_BP_torn_1.npz" in caplog.text and "L5_MC_broken_1.npz" in caplog.text and complaint in caplog.text


def test_no_cell_at_all_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="huidurep simulate cells"):
        load_cells(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="all 1 broken"):
        load_cells(tmp_path)


def test_potentials_are_those_of_the_line_source(folder):
    cell = load_cells(folder)[1]
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points, places = rng.normal(0, 60, (5, 4, 3)), rng.normal(0, 30, (3, 3))
    spikes = np.array([0, 1, 0])
    found = spike_potentials(cell, rotation, places, spikes, points)
    for view, place, spike in zip(found, places, spikes, strict=True):
        at = (points - place).reshape(-1, 3)
        turned = cell.starts @ rotation.T, cell.ends @ rotation.T
        transfer = line_source_potential(at, *turned, cell.diameters).reshape(5, 4, -1).mean(1)
        expected = transfer @ cell.currents[spike]
        assert view == pytest.approx(expected, abs=1e-3 * abs(expected).max())


def test_potential_of_a_balanced_cell_falls_faster_than_that_of_a_charge(folder):
    cell = load_cells(folder)[1]
    points = np.array([20.0, 40, 80, 160, 1000, 2000])[:, None, None] * np.array([1.0, 0, 0])
    wave = spike_potentials(cell, np.eye(3), np.zeros((1, 3)), np.array([0]), points)[0]
    peak = abs(wave).max(1)
    assert (np.diff(peak) < 0).all()
    assert peak[5] < 0.3 * peak[4]  # a dipole's square, not a charge's half


def test_operator_resamples_and_warps_around_the_trough():
    time_ms = (np.arange(NUM_SAMPLES) - TROUGH) * 1e3 / CELLS_HZ
    wave = np.exp(-((time_ms / 0.3) ** 2))
    out_ms = np.arange(170) / 20 - 3
    plain = wave @ resampling_operator(NUM_SAMPLES, TROUGH, 20000.0)
    assert plain == pytest.approx(np.exp(-((out_ms / 0.3) ** 2)), abs=1e-4)
    warped = wave @ resampling_operator(NUM_SAMPLES, TROUGH, 20000.0, (0.5, 1.0, 0.1))
    assert warped[:61] == pytest.approx(plain[:61])
    assert 0 < warped[70] < plain[70]
    # what has not come back to 0 when the simulated spike ends fades, without a step
    tail = np.ones(NUM_SAMPLES) @ resampling_operator(NUM_SAMPLES, TROUGH, 20000.0, (0.5, 1.0, 0.1))
    assert tail[60] == pytest.approx(1) and tail[-1] < 0.3 and abs(np.diff(tail)).max() < 0.05


def test_warps_only_shorten():
    warps = np.array([draw_time_warp(np.random.default_rng(seed), bool(seed % 2)) for seed in range(50)])
    assert (warps[:, :2] >= 0.3).all() and (warps[:, :2] <= 1).all()


def test_templates_of_detailed_cells(folder):
    cells = load_cells(folder)
    options = dict(source=cells, amplitude_range_uv=(10.0, 2000.0))
    units = draw_templates(np.random.default_rng(0), COLUMN_UM, 8, **options)
    assert units.waveforms.shape == (8, 4, 255, 8) and units.waveforms.dtype == np.float32
    assert (units.waveforms[:, 0].min(2).argmin(1) == units.peak_index).all()
    again = draw_templates(np.random.default_rng(0), COLUMN_UM, 8, **options | dict(source=folder))
    assert np.array_equal(units.waveforms, again.waveforms)
    slow = draw_templates(np.random.default_rng(0), COLUMN_UM, 2, sampling_frequency=20000.0, **options)
    assert slow.waveforms.shape[2] == 170 and slow.peak_index == 60


def test_a_unit_that_moves_away_grows_smaller(folder):
    moves = [(0, 0, 0), (0, 0, 0), (60, 0, 0), (200, 0, 0)]
    units = draw_templates(
        np.random.default_rng(1),
        COLUMN_UM,
        5,
        source=folder,
        displacements_um=moves,
        amplitude_range_uv=(10.0, 2000.0),
    )
    assert units.waveforms[:, 0] == pytest.approx(units.waveforms[:, 1], rel=1e-4, abs=1e-3)
    peak_uv = -units.waveforms.min((2, 3))
    assert (peak_uv[:, 2] < peak_uv[:, 0]).all() and (peak_uv[:, 3] < 0.3 * peak_uv[:, 0]).all()


def test_one_view_of_detailed_cells(folder):
    options = dict(num_views=1, displacements_um=np.zeros((1, 3)), amplitude_range_uv=(10.0, 2000.0), source=folder)
    units = draw_templates(np.random.default_rng(0), COLUMN_UM, 2, **options)
    assert units.waveforms.shape[:2] == (2, 1) and (units.waveforms.min((1, 2, 3)) < -10).all()


def test_a_source_that_is_no_folder_of_cells_raises(tmp_path):
    for source in ([], tmp_path / "none"):
        with pytest.raises(ValueError, match="expected source to be one of .* a folder of cells"):
            draw_templates(np.random.default_rng(0), COLUMN_UM, 1, source=source)
