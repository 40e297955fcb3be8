import math

import numpy as np
import pytest
import torch
from scipy.signal import butter, freqs

from huidurep.training import augmentations as aug


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_uniform_draws():
    draws = aug.uniform(2.0, 5.0, (4000,), generator())
    assert draws.min() >= 2 and draws.max() < 5
    assert draws.mean() == pytest.approx(3.5, abs=0.1)
    assert torch.equal(draws, aug.uniform(2.0, 5.0, (4000,), generator()))
    assert not torch.equal(draws, aug.uniform(2.0, 5.0, (4000,), generator(1)))


def test_log_uniform_draws():
    draws = aug.log_uniform(1.0, 100.0, (4000,), generator())
    assert draws.min() >= 1 and draws.max() <= 100
    assert draws.median() == pytest.approx(10.0, rel=0.15)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_causal_filter_is_a_butterworth_filter(order):
    found = aug.filter_response(256, 30000.0, high_pass_hz=300.0, low_pass_hz=6000.0, order=order, causal=True).numpy()
    frequency = np.linspace(0, 15000.0, 129)[1:]
    low, high = (
        freqs(*butter(order, 2 * np.pi * edge, kind, analog=True), worN=2 * np.pi * frequency)[1]
        for edge, kind in ((6000.0, "lowpass"), (300.0, "highpass"))
    )
    assert abs(found[1:] - low * high).max() < 1e-4
    assert abs(found[0]) < 1e-3


def test_filter_run_both_ways_has_no_delay():
    options = dict(high_pass_hz=300.0, low_pass_hz=6000.0, order=2)
    once = aug.filter_response(256, 30000.0, causal=True, **options)
    both = aug.filter_response(256, 30000.0, causal=False, **options)
    assert both.dtype == once.dtype == torch.complex64
    assert both.imag.abs().max() == 0
    assert both.real == pytest.approx(once.abs().square(), abs=1e-6)


def test_shift_by_whole_samples_rolls():
    time = torch.arange(64.0)
    waves = torch.exp(-(((time - 30) / 4) ** 2))[None, :, None].repeat(2, 1, 3)
    moved = torch.fft.irfft(aug.shift(torch.fft.rfft(waves, dim=1), torch.tensor([3.0, -2.0])), n=64, dim=1)
    assert torch.allclose(moved[0], waves[0].roll(3, 0), atol=1e-5)
    assert torch.allclose(moved[1], waves[1].roll(-2, 0), atol=1e-5)


def test_shift_by_half_a_sample():
    time = torch.arange(64.0)
    waves = torch.exp(-(((time - 30) / 4) ** 2))[None, :, None]
    moved = torch.fft.irfft(aug.shift(torch.fft.rfft(waves, dim=1), torch.tensor([0.5])), n=64, dim=1)
    assert torch.allclose(moved[0, :, 0], torch.exp(-(((time - 30.5) / 4) ** 2)), atol=1e-4)


def test_noise_color_at_known_frequencies():
    color = aug.noise_color(300, 30000.0, corner_hz=1000.0, exponent=1.5, floor=0.2)
    assert color.shape == (151,)
    assert float(color[0]) == pytest.approx(1.2)
    assert float(color[10]) == pytest.approx(2**-0.75 + 0.2)
    assert (color.diff() < 0).all() and float(color[-1]) > 0.2


def test_spatial_mixing_gives_the_correlation():
    positions = torch.tensor([[0.0, 0], [20, 0], [0, 60]])
    mixing = aug.spatial_mixing(positions, shared=0.6, length_um=40.0)
    found = mixing @ mixing.T
    assert found.diagonal() == pytest.approx(torch.ones(3), abs=1e-4)
    assert float(found[0, 1]) == pytest.approx(0.6 * math.exp(-0.5), abs=1e-5)
    assert float(found[0, 2]) == pytest.approx(0.6 * math.exp(-1.5), abs=1e-5)


def collide(lag_range, count=400):
    waveforms, others = torch.ones(count, 40, 2), torch.zeros(count, 40, 2)
    others[:, 20] = torch.tensor([10.0, 4.0])
    return waveforms, aug.add_at_lags(waveforms, others, lag_range=lag_range, generator=generator())


def test_other_spikes_are_added_at_lags_of_either_sign():
    waveforms, found = collide((3, 5))
    assert torch.equal(waveforms, torch.ones(400, 40, 2))  # the input is left as it was
    added = found - waveforms
    place = added[:, :, 0].argmax(1)
    assert set(place.tolist()) == {15, 16, 17, 23, 24, 25}
    assert 0.4 < float((place > 20).float().mean()) < 0.6
    assert torch.equal(added.sum(1), torch.tensor([10.0, 4.0]).expand(400, 2))


def test_at_lag_zero_spikes_are_added_where_they_are():
    waveforms, found = collide((0, 0), count=5)
    assert torch.equal((found - waveforms)[:, 20], torch.tensor([10.0, 4.0]).expand(5, 2))


def test_a_spike_moved_out_of_the_window_does_not_wrap():
    others = torch.zeros(50, 20, 1)
    others[:, 18] = 1.0
    found = aug.add_at_lags(torch.zeros(50, 20, 1), others, lag_range=(5, 5), generator=generator())
    inside = found.amax((1, 2)) > 0
    assert set(found[:, :, 0].argmax(1)[inside].tolist()) == {13} and 0 < inside.sum() < 50
    assert not found[~inside].any()


def test_crop_puts_the_trough_where_it_belongs():
    waveforms = torch.zeros(3, 50, 2)
    waveforms[0, 20, 1] = -5.0
    waveforms[1, 23, 0] = -5.0
    waveforms[2, 18, 0], waveforms[2, 35, 0] = -5.0, -50.0  # the deeper one is out of reach
    rows = aug.crop_at_trough(waveforms, around=20, reach=4, before=6, num_samples=15)
    assert rows.shape == (3, 15)
    assert rows[:, 6].tolist() == [20, 23, 18]
    assert (rows.diff(dim=1) == 1).all()
