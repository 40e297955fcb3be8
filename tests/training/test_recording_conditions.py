"""What the spikes of one imagined recording share."""

import numpy as np
import pytest
import torch
from banks import COLUMN_UM, make_bank

from huidurep import HuiduRepConfig
from huidurep.models.input_contract import nominal_positions
from huidurep.training.recording_conditions import LOWEST_RATE_HZ, draw_setting
from huidurep.training.views import ViewRecipe

TETRODE, COLUMN = make_bank(), make_bank(positions=COLUMN_UM, kind="linear")
PLAIN = dict(
    low_rate_probability=0.0,
    quantised_probability=0.0,
    truncation_probability=0.0,
    missing_probability=0.0,
    nominal_probability=0.0,
)


def draw(count=20, bank=TETRODE, config=None, **recipe):
    recipe = ViewRecipe(**(PLAIN | recipe))
    config = config or HuiduRepConfig()
    return [draw_setting(bank, config, recipe, torch.Generator().manual_seed(seed)) for seed in range(count)]


def test_a_plain_recording():
    for setting in draw():
        assert setting.step_uv == 0 and setting.coarseness == 1
        assert setting.channel_mask.tolist() == [1] * 4 and setting.sample_mask.tolist() == [1] * 90
        assert 3 <= setting.noise_uv <= 30 and 0.7 <= setting.noise_gain <= 1.4 and 0.6 <= setting.gain <= 1.6
        assert sorted(setting.channels.tolist()) == [0, 1, 2, 3]
        assert torch.equal(setting.positions, TETRODE.positions[setting.channels])
    assert len({tuple(setting.channels.tolist()) for setting in draw()}) > 5


def test_the_same_generator_draws_the_same():
    first, again = draw(5, low_rate_probability=0.5), draw(5, low_rate_probability=0.5)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.response(256), other.response(256)) and one.gain == other.gain
        assert torch.equal(one.positions, other.positions)


def test_filters_pass_the_band_and_nothing_else():
    frequency = torch.linspace(0, 15000.0, 3001)
    for setting in draw():
        response = setting.response(6000).abs()
        assert response.shape == (3001,) and response.max() <= 1.001
        assert response[(frequency > 1000) & (frequency < 2500)].min() > 0.4
        assert response[frequency < 10].max() < 0.1 and response[-1] < 0.65


def test_zero_phase_or_causal():
    assert all(setting.response(256).imag.abs().max() == 0 for setting in draw(causal_probability=0.0))
    assert all(setting.response(256).imag.abs().max() > 0.1 for setting in draw(causal_probability=1.0))


def test_low_rates_lose_what_they_cannot_hold():
    frequency, settings = torch.linspace(0, 15000.0, 3001), draw(low_rate_probability=1.0)
    rates = [30000.0 / setting.coarseness for setting in settings]
    assert min(rates) >= LOWEST_RATE_HZ - 1e-3 and max(rates) <= 30000 and len(set(rates)) == 20
    for setting, rate in zip(settings, rates, strict=True):
        response = setting.response(6000).abs()
        for share, most in ((0.5, 0.4), (0.6, 0.1), (0.75, 0.02)):
            above = response[frequency >= share * rate]
            assert not len(above) or above.max() < most
        assert response[(frequency > 1000) & (frequency < 2500)].min() > 0.3


def test_coarse_converters():
    steps = [setting.step_uv for setting in draw(quantised_probability=1.0, step_uv=(0.5, 2.0))]
    assert min(steps) >= 0.5 and max(steps) <= 2 and len(set(steps)) == 20


def test_windows_begin_and_end_in_the_ranges():
    options = dict(truncation_start_ms=(-0.8, -0.2), truncation_end_ms=(0.6, 1.5))
    lengths = set()
    for setting in draw(truncation_probability=1.0, **options):
        exists = np.flatnonzero(setting.sample_mask)
        assert (np.diff(exists) == 1).all()
        assert 30 - 24 <= exists[0] <= 30 - 6 and 30 + 17 <= exists[-1] <= 30 + 45
        lengths.add(len(exists))
    assert len(lengths) > 5


def test_nominal_places_are_told_of_tetrodes_only():
    nominal = torch.tensor(nominal_positions(4))
    settings = draw(40, nominal_probability=1.0)
    assert all(torch.equal(setting.positions, nominal) for setting in settings)
    assert len({tuple(setting.channels.tolist()) for setting in settings}) > 10  # wired in any order
    for setting in draw(bank=COLUMN, nominal_probability=1.0):
        assert torch.equal(setting.positions, COLUMN.positions[setting.channels])
    moved = make_bank(positions=make_bank().positions.numpy() * 2)
    told = [torch.equal(s.positions, nominal) for s in draw(60, bank=moved, nominal_probability=0.5)]
    assert 0.3 < np.mean(told) < 0.7


@pytest.mark.parametrize("bank", [TETRODE, COLUMN], ids=["tetrode", "column"])
def test_missing_channels(bank):
    total, counts = len(bank.positions), set()
    for setting in draw(60, bank=bank, missing_probability=1.0):
        keep = int(setting.channel_mask.sum())
        counts.add(keep)
        assert setting.channel_mask.tolist() == [1] * keep + [0] * (total - keep)
        assert (setting.channels[:keep] >= 0).all() and (setting.channels[keep:] == -1).all()
        assert len(setting.channels[:keep].unique()) == keep and setting.positions.shape == (total, 2)
        assert torch.equal(setting.positions[:keep], bank.positions[setting.channels[:keep]])
    assert counts == set(range(total // 2, total))


@pytest.mark.parametrize(("num_channels", "bank"), [(4, COLUMN), (6, TETRODE), (8, COLUMN)])
def test_channels_told_apart_by_index_are_as_many_as_the_contract_says(num_channels, bank):
    config = HuiduRepConfig(channel_mixing="index", num_channels=num_channels, channel_order="nearest_first")
    keep = min(num_channels, len(bank.positions))
    for setting in draw(5, bank=bank, config=config):
        assert setting.channels.tolist()[keep:] == [-1] * (num_channels - keep)
        places = bank.positions[setting.channels[:keep]]
        assert (torch.cdist(bank.positions[:1], places)[0].diff() >= 0).all()
        assert setting.channel_mask.tolist() == [1] * keep + [0] * (num_channels - keep)
