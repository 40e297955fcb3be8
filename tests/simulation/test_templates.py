import numpy as np
import pytest

from huidurep.simulation.templates import draw_templates

TETRODE_UM = 12.5 * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])


def draw(seed=0, num_units=6, positions=TETRODE_UM, **options):
    return draw_templates(np.random.default_rng(seed), positions, num_units, **options)


@pytest.mark.parametrize("source", ["cells", "spikeinterface"])
def test_shapes_and_amplitudes(source):
    units = draw(source=source, amplitude_range_uv=(40.0, 300.0))
    assert units.waveforms.shape == (6, 4, 255, 4) and units.waveforms.dtype == np.float32
    assert np.isfinite(units.waveforms).all()
    assert units.sampling_frequency == 30000.0 and units.peak_index == 90
    rest = units.waveforms[:, 0]
    assert (rest.min(2).argmin(1) == units.peak_index).all()
    peak_uv = -rest.min((1, 2))
    assert ((peak_uv > 40) & (peak_uv < 300)).all()
    assert (rest.max((1, 2)) < peak_uv).all()
    assert abs(units.waveforms[:, :, [0, -1]]).max() == 0


@pytest.mark.parametrize("source", ["cells", "spikeinterface"])
def test_same_generator_state_same_templates(source):
    first, again, other = (draw(seed, 3, source=source).waveforms for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("source", ["cells", "spikeinterface"])
def test_given_displacements_move_the_same_spike(source):
    units = draw(source=source, displacements_um=[(0, 0, 0), (0, 0, 0), (300, 0, 0)])
    assert units.waveforms.shape[1] == 3
    assert np.array_equal(units.waveforms[:, 0], units.waveforms[:, 1])
    # 300 um further away
    assert (abs(units.waveforms[:, 2]).max((1, 2)) < 0.3 * abs(units.waveforms[:, 0]).max((1, 2))).all()


def test_given_displacements_are_along_the_probe():
    row = np.stack([np.zeros(9), 20.0 * np.arange(9)], 1)
    units = draw(positions=row, displacements_um=[(0, 0, 0), (0, 0, 20)])
    still, moved = units.waveforms[:, 0], units.waveforms[:, 1]
    # what a contact sees of a cell at rest, the next sees of it one spacing further; no contact is at the same shift
    assert moved[:, :, 1:] == pytest.approx(still[:, :, :-1], rel=1e-3, abs=1e-3)


def test_rate_is_kept():
    units = draw(num_units=2, sampling_frequency=20000.0)
    assert units.waveforms.shape[2] == 170 and units.peak_index == 60
    assert (units.waveforms[:, 0].min(2).argmin(1) == 60).all()


def test_unknown_source_and_impossible_range_raise():
    with pytest.raises(ValueError, match="source.*'neuron'"):
        draw(source="neuron")
    with pytest.raises(ValueError, match="found 0 in 5 tries.*amplitude_range_uv"):
        draw(num_units=1, amplitude_range_uv=(1e5, 2e5), max_tries_per_unit=5)
