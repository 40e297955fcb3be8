import numpy as np
import pytest

from huidurep.simulation.cells import DURATION_MS, PEAK_MS, draw_cell, line_source_potential


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return [draw_cell(rng) for _ in range(8)]


def test_line_source_by_hand():
    # a line of 2 um from -1 to 1, seen from 1 um beside its middle: the integral of 1/r is 2 asinh(1)
    starts, ends = np.array([[0.0, 0, -1]]), np.array([[0.0, 0, 1]])
    found = line_source_potential(np.array([[1.0, 0, 0]]), starts, ends, np.array([0.1]), conductivity_s_per_m=0.5)
    assert found[0, 0] == pytest.approx(1e3 * 2 * np.arcsinh(1) / (4 * np.pi * 0.5 * 2))


def test_line_source_by_hand_on_its_axis_and_far_away():
    # the same line, seen from 3 um above its middle, along it: the integral of 1/r from 2 to 4 is ln 2
    starts, ends, diameters = np.array([[0.0, 0, -1]]), np.array([[0.0, 0, 1]]), np.array([0.1])
    on_axis = line_source_potential(np.array([[0.0, 0, 3]]), starts, ends, diameters)[0, 0]
    assert on_axis == pytest.approx(1e3 * np.log(2) / (4 * np.pi * 0.3 * 2))
    # from far away it is a point: 1 / (4 pi sigma r), from whatever side
    far = 500.0 * np.array([[1.0, 0, 0], [0, 0, 1], [0.6, 0, 0.8]])
    assert line_source_potential(far, starts, ends, diameters) == pytest.approx(1e3 / (4 * np.pi * 0.3 * 500), rel=1e-5)


def test_line_source_against_numerical_integration():
    rng = np.random.default_rng(1)
    starts, ends = rng.normal(0, 20, (5, 3)), rng.normal(0, 20, (5, 3))
    points = rng.normal(0, 60, (7, 3))
    share = (np.arange(20000) + 0.5) / 20000
    places = starts + share[:, None, None] * (ends - starts)
    distance = np.linalg.norm(points[:, None, None] - places, axis=-1)
    expected = 1e3 / (4 * np.pi * 0.3) * (1 / distance).mean(1)
    assert line_source_potential(points, starts, ends, np.full(5, 1.0)) == pytest.approx(expected, rel=1e-3)


def test_points_inside_a_segment_are_put_on_its_surface():
    starts, ends = np.array([[0.0, 0, -5]]), np.array([[0.0, 0, 5]])
    inside = np.array([[0.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]])
    found = line_source_potential(inside, starts, ends, np.array([10.0]))[:, 0]
    assert np.isfinite(found).all()
    assert found == pytest.approx(found[2])


def test_currents_sum_to_zero_at_every_moment(cells):
    for cell in cells:
        assert cell.currents.ndim == 3 and np.isfinite(cell.currents).all()
        assert abs(cell.currents.sum(1)).max() < 1e-4 * abs(cell.currents).max()


def test_soma_sinks_current_when_the_spike_rises(cells):
    peak = int(PEAK_MS * 30)
    for cell in cells:
        assert cell.currents.shape[2] == int(DURATION_MS * 30)
        trough = int(cell.currents[0, 0].argmin())
        assert abs(trough - peak) < 20
        assert cell.currents[0, 0, trough] < 0


def test_amplitude_falls_with_distance(cells):
    for cell in cells:
        points = np.array([30.0, 60.0, 120.0, 400.0])[:, None] * np.array([1.0, 0, 0])
        transfer = line_source_potential(points, cell.starts, cell.ends, cell.diameters)
        amplitude = np.ptp(transfer @ cell.currents[0], axis=1)
        assert (np.diff(amplitude) < 0).all()
        assert amplitude[3] < 0.1 * amplitude[0]


def test_later_spikes_are_other_spikes_of_the_same_cell():
    cell = draw_cell(np.random.default_rng(3), num_shapes=3)
    assert cell.currents.shape[0] == 3
    assert not np.array_equal(cell.currents[0], cell.currents[1])
    assert abs(cell.currents[1:]).max() < 1.05 * abs(cell.currents[0]).max()


def test_same_generator_state_same_cell():
    first, again, other = (draw_cell(np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in ("starts", "ends", "diameters", "currents"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.currents.shape != other.currents.shape or not np.array_equal(first.currents, other.currents)


def test_duration_does_not_depend_on_the_rate():
    slow, fast = (draw_cell(np.random.default_rng(2), sampling_frequency=rate) for rate in (15000.0, 30000.0))
    assert abs(fast.currents.shape[2] - 2 * slow.currents.shape[2]) <= 1
    assert np.array_equal(slow.starts, fast.starts)
