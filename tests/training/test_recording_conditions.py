"""What the spikes of one simulated recording share."""

import numpy as np
import pytest
import torch
from template_libraries import COLUMN_UM, make_library

from huidurep import HuiduRepConfig
from huidurep.models.input_contract import nominal_positions
from huidurep.training.recording_conditions import draw_conditions
from huidurep.training.views import ViewRecipe

TETRODE, COLUMN = make_library(), make_library(positions=COLUMN_UM, kind="linear")
PLAIN = dict(
    low_rate_probability=0.0,
    quantised_probability=0.0,
    truncation_probability=0.0,
    missing_probability=0.0,
    nominal_probability=0.0,
)


def draw(count=20, library=TETRODE, config=None, **recipe):
    recipe = ViewRecipe(**(PLAIN | recipe))
    config = config or HuiduRepConfig()
    return [draw_conditions(library, config, recipe, torch.Generator().manual_seed(seed)) for seed in range(count)]


def test_a_plain_recording():
    for conditions in draw():
        assert conditions.step_uv == 0 and conditions.rate_ratio == 1
        assert conditions.channel_mask.tolist() == [1] * 4 and conditions.sample_mask.tolist() == [1] * 90
        assert 3 <= conditions.noise_uv <= 30 and 0.7 <= conditions.noise_gain <= 1.4 and 0.6 <= conditions.gain <= 1.6
        assert sorted(conditions.channels.tolist()) == [0, 1, 2, 3]
        assert torch.equal(conditions.positions, TETRODE.positions[conditions.channels])
    assert len({tuple(conditions.channels.tolist()) for conditions in draw()}) > 5


def test_the_same_generator_draws_the_same():
    first, again = draw(5, low_rate_probability=0.5), draw(5, low_rate_probability=0.5)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.response(256), other.response(256)) and one.gain == other.gain
        assert torch.equal(one.positions, other.positions)


def test_filters_pass_the_band_and_nothing_else():
    frequency = torch.linspace(0, 15000.0, 3001)
    for conditions in draw():
        response = conditions.response(6000).abs()
        assert response.shape == (3001,) and response.max() <= 1.001
        assert response[(frequency > 1000) & (frequency < 2500)].min() > 0.4
        assert response[frequency < 10].max() < 0.1 and response[-1] < 0.65


def test_zero_phase_or_causal():
    assert all(conditions.response(256).imag.abs().max() == 0 for conditions in draw(causal_probability=0.0))
    assert all(conditions.response(256).imag.abs().max() > 0.1 for conditions in draw(causal_probability=1.0))


def test_low_rates_lose_what_they_cannot_hold():
    frequency, drawn = torch.linspace(0, 15000.0, 3001), draw(low_rate_probability=1.0)
    rates = [30000.0 / conditions.rate_ratio for conditions in drawn]
    assert min(rates) >= ViewRecipe().lowest_rate_hz - 1e-3 and max(rates) <= 30000 and len(set(rates)) == 20
    for conditions, rate in zip(drawn, rates, strict=True):
        response = conditions.response(6000).abs()
        for share, most in ((0.5, 0.4), (0.6, 0.1), (0.75, 0.02)):
            above = response[frequency >= share * rate]
            assert not len(above) or above.max() < most
        assert response[(frequency > 1000) & (frequency < 2500)].min() > 0.3


def test_coarse_converters():
    steps = [conditions.step_uv for conditions in draw(quantised_probability=1.0, step_uv=(0.5, 2.0))]
    assert min(steps) >= 0.5 and max(steps) <= 2 and len(set(steps)) == 20


def test_windows_begin_and_end_in_the_ranges():
    options = dict(truncation_start_ms=(-0.8, -0.2), truncation_end_ms=(0.6, 1.5))
    lengths = set()
    for conditions in draw(truncation_probability=1.0, **options):
        exists = np.flatnonzero(conditions.sample_mask)
        assert (np.diff(exists) == 1).all()
        assert 30 - 24 <= exists[0] <= 30 - 6 and 30 + 17 <= exists[-1] <= 30 + 45
        lengths.add(len(exists))
    assert len(lengths) > 5


def test_nominal_positions_are_received_for_tetrodes_only():
    nominal = torch.tensor(nominal_positions(4))
    drawn = draw(40, nominal_probability=1.0)
    assert all(torch.equal(conditions.positions, nominal) for conditions in drawn)
    assert len({tuple(conditions.channels.tolist()) for conditions in drawn}) > 10  # wired in any order
    for conditions in draw(library=COLUMN, nominal_probability=1.0):
        assert torch.equal(conditions.positions, COLUMN.positions[conditions.channels])
    moved = make_library(positions=make_library().positions.numpy() * 2)
    told = [torch.equal(s.positions, nominal) for s in draw(60, library=moved, nominal_probability=0.5)]
    assert 0.3 < np.mean(told) < 0.7


@pytest.mark.parametrize("library", [TETRODE, COLUMN], ids=["tetrode", "column"])
def test_missing_channels(library):
    total, counts = len(library.positions), set()
    for conditions in draw(60, library=library, missing_probability=1.0):
        keep = int(conditions.channel_mask.sum())
        counts.add(keep)
        assert conditions.channel_mask.tolist() == [1] * keep + [0] * (total - keep)
        assert (conditions.channels[:keep] >= 0).all() and (conditions.channels[keep:] == -1).all()
        assert len(conditions.channels[:keep].unique()) == keep and conditions.positions.shape == (total, 2)
        assert torch.equal(conditions.positions[:keep], library.positions[conditions.channels[:keep]])
    assert counts == set(range(total // 2, total))


@pytest.mark.parametrize(("num_channels", "library"), [(4, COLUMN), (6, TETRODE), (8, COLUMN)])
def test_channels_told_apart_by_index_are_as_many_as_the_contract_says(num_channels, library):
    config = HuiduRepConfig(channel_mixing="index", num_channels=num_channels, channel_order="nearest_first")
    keep = min(num_channels, len(library.positions))
    for conditions in draw(5, library=library, config=config):
        assert conditions.channels.tolist()[keep:] == [-1] * (num_channels - keep)
        places = library.positions[conditions.channels[:keep]]
        assert (torch.cdist(library.positions[:1], places)[0].diff() >= 0).all()
        assert conditions.channel_mask.tolist() == [1] * keep + [0] * (num_channels - keep)
