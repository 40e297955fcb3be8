"""benchmarks/made_recordings.py makes what the results files name; cell_recordings.py simulates detailed cells."""

import sys
from pathlib import Path

import numpy as np
import pytest

from huidurep.simulation.cell_library import CELLS_HZ, DetailedCell
from huidurep.simulation.cells import draw_cell

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    sys.path.append(str(BENCHMARKS))
    try:
        import cell_recordings
        import made_recordings
        import results_files

        yield made_recordings, cell_recordings, results_files
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def cells():
    """Procedural neurons in place of those of `huidurep simulate cells`."""
    rng, made = np.random.default_rng(0), []
    for name in ("L5_TTPC1_a_1", "L5_NBC_b_1", "L5_MC_c_1"):
        cell = draw_cell(rng, sampling_frequency=CELLS_HZ)
        parts = (cell.starts, cell.ends, cell.diameters, cell.currents)
        made.append(DetailedCell(name, *(np.asarray(part, "f4") for part in parts)))
    return made


def simulate(modules, cells, *, seed=3, **settings):
    made_recordings, cell_recordings, _ = modules
    defaults = dict(num_units=3, duration_s=6.0, num_far=5, amplitude_range_uv=(80.0, 350.0))
    settings = cell_recordings.CellRecordingSettings(**(defaults | settings))
    probe = made_recordings.make_probe("tetrode")
    return cell_recordings.simulate_cell_recording(cells, probe, settings, seed=seed)


@pytest.mark.parametrize("name", ["sorting", "sorting_far_drift", "sorting_few_contacts"])
def test_every_recording_of_the_results_can_be_made(modules, name):
    seeds = modules[0].SEEDS
    made = {f"{each}_s{seed}" for names in seeds.values() for each, group in names.items() for seed in group}
    measured = modules[2].read_results(BENCHMARKS / "results" / f"{name}.json")["recordings"]
    assert measured and set(measured) <= made


def test_every_kind_of_recording_of_cells_has_settings(modules):
    made_recordings, cell_recordings, _ = modules
    assert set(made_recordings.CELLS) == set(made_recordings.SEEDS["cells"])
    for name, fields in made_recordings.CELLS.items():
        settings = cell_recordings.CellRecordingSettings(**{k: v for k, v in fields.items() if k != "probe"})
        assert bool(settings.drift_um) == name.endswith(("drift", "far"))
        assert settings.is_rigid or not name.startswith("tet_drift")


def test_cells_are_as_large_as_the_truth_says(modules, cells):
    recording, sorting = simulate(modules, cells)
    traces, peak_uv = recording.get_traces(), sorting.get_property("peak_uv")
    assert recording.get_num_channels() == 4 and recording.get_total_duration() == 6.0
    assert ((peak_uv > 80) & (peak_uv < 350)).all()
    spikes = sorting.to_spike_vector()
    for unit, peak in enumerate(peak_uv):
        samples = spikes["sample_index"][spikes["unit_index"] == unit]
        mean = np.mean([traces[sample - 30 : sample + 30] for sample in samples if 30 < sample < len(traces) - 30], 0)
        assert -mean.min() == pytest.approx(peak, rel=0.2)
        assert abs(mean.min(1).argmin() - 30) <= 1
        assert np.diff(samples).min() > 60  # 2 ms


def test_the_same_seed_gives_the_same_recording(modules, cells):
    first, again = (simulate(modules, cells, duration_s=1.0, drift_um=10.0) for _ in range(2))
    other = simulate(modules, cells, duration_s=1.0, drift_um=10.0, seed=4)
    assert (first[0].get_traces() == again[0].get_traces()).all()
    assert (first[1].to_spike_vector() == again[1].to_spike_vector()).all()
    assert first[1].get_property("peak_uv").tolist() != other[1].get_property("peak_uv").tolist()


@pytest.mark.parametrize("num_far", [0, 20])
def test_noise_has_the_standard_deviation_asked_for(modules, cells, num_far):
    cell_recordings = modules[1]
    settings = dict(num_units=1, num_far=num_far, noise_uv=10.0, amplitude_range_uv=(20.0, 60.0))
    recording, sorting = simulate(modules, cells, **settings)
    filtered = cell_recordings.sosfilt(cell_recordings.noise_band(), recording.get_traces(), axis=0)
    quiet = np.ones(len(filtered), bool)
    for sample in sorting.to_spike_vector()["sample_index"]:
        quiet[sample - 60 : sample + 120] = False
    assert filtered[quiet].std() == pytest.approx(10.0, rel=0.15)


def test_drift_stays_in_its_span_and_depends_on_depth_unless_rigid(modules):
    _, cell_recordings, _ = modules
    positions = modules[0].make_probe("linear-16").contact_positions
    rng, times_s = np.random.default_rng(0), np.arange(0, 60, 0.1)
    for is_rigid in (True, False):
        settings = cell_recordings.CellRecordingSettings(1, 60.0, drift_um=20.0, is_rigid=is_rigid)
        drift = cell_recordings.draw_drift(rng, positions, settings)
        assert 17 < np.ptp(drift.drift_um) <= 20 and np.abs(drift.drift_um).max() <= 10
        low, high = (drift.moves_um[drift.move_indices(times_s, along)] for along in (0.0, 300.0))
        assert np.ptp(high) > 16
        assert np.ptp(low) == pytest.approx((1.0 if is_rigid else 0.4) * np.ptp(high), abs=1.5)


def test_a_later_phase_is_a_later_spike(modules, cells):
    made_recordings, cell_recordings, _ = modules
    placed = cell_recordings.PlacedCell(cells[1], np.eye(3), np.array([20.0, 0.0, 0.0]), 0)
    points = cell_recordings.contact_points(made_recordings.make_probe("tetrode").contact_positions, 1)
    (phases,) = cell_recordings.make_templates(np.random.default_rng(0), placed, points, np.zeros(1), 4)
    channel = phases[0].min(0).argmin()
    at = [np.argmin(phase[:, channel]) for phase in phases]
    assert at[0] == cell_recordings.PEAK_INDEX and sorted(at) == at and at[-1] <= at[0] + 1
    centre = [
        (np.arange(len(phase)) * phase[:, channel] ** 2).sum() / (phase[:, channel] ** 2).sum() for phase in phases
    ]
    assert np.diff(centre) == pytest.approx(0.25, abs=0.02)
