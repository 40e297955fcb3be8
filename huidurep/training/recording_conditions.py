"""What all spikes of one imagined recording have in common: filters, rate, noise level, gain, contacts, window."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..models.input_contract import nominal_positions
from . import augmentations as aug

LOWEST_RATE_HZ = 10000.0


@dataclass(frozen=True)
class RecordingSetting:
    """One imagined recording.

    Parameters
    ----------
    response : callable
        Number of samples -> complex frequency response on the rFFT grid.
    noise_uv, noise_gain : float
        Standard deviation of drawn noise (uV); factor of noise that was recorded.
    gain : float
        Of all amplitudes.
    step_uv : float
        Of the converter; 0 for none.
    coarseness : float
        Sampling interval against that of the contract: peaks are only known to within it.
    channels : torch.Tensor (num_channels,) int64
        Of the bank; -1 where one is missing.
    channel_mask : torch.Tensor (num_channels,)
    sample_mask : torch.Tensor (num_samples,)
    positions : torch.Tensor (num_channels, 2)
        What the model is told of the contacts, um.
    """

    response: Callable
    noise_uv: float
    noise_gain: float
    gain: float
    step_uv: float
    coarseness: float
    channels: torch.Tensor
    channel_mask: torch.Tensor
    sample_mask: torch.Tensor
    positions: torch.Tensor


def draw_setting(bank, config, recipe, generator):
    """Draw an imagined recording.

    Parameters
    ----------
    bank : TemplateBank
    config : HuiduRepConfig
    recipe : ViewRecipe
    generator : torch.Generator

    Returns
    -------
    RecordingSetting
    """
    chance = torch.rand(5, generator=generator).tolist()
    rate = bank.sampling_frequency
    if chance[0] < recipe.low_rate_probability:
        rate = float(aug.log_uniform(LOWEST_RATE_HZ, rate, (1,), generator))
    channels, positions = _draw_channels(bank, config, recipe, chance[1] < recipe.missing_probability, generator)
    step_uv = 0.0
    if chance[2] < recipe.quantised_probability:
        step_uv = float(aug.log_uniform(*recipe.step_uv, (1,), generator))
    return RecordingSetting(
        response=_draw_response(bank, recipe, rate, generator),
        noise_uv=float(aug.log_uniform(*recipe.noise_uv, (1,), generator)),
        noise_gain=float(aug.uniform(0.7, 1.4, (1,), generator)),
        gain=float(aug.log_uniform(*recipe.recording_gain, (1,), generator)),
        step_uv=step_uv,
        coarseness=bank.sampling_frequency / rate,
        channels=channels,
        channel_mask=(channels >= 0).float(),
        sample_mask=_draw_window(config, recipe, chance[3] < recipe.truncation_probability, generator),
        positions=positions,
    )


def _draw_response(bank, recipe, rate, generator):
    """Band-pass of an amplifier or of software, and the loss of what a lower sampling rate cannot hold."""
    low_pass, high_pass = (float(aug.uniform(*r, (1,), generator)) for r in (recipe.low_pass_hz, recipe.high_pass_hz))
    order = int(torch.randint(1, 4, (1,), generator=generator))
    causal = bool(torch.rand(1, generator=generator) < recipe.causal_probability)
    options = dict(high_pass_hz=high_pass, low_pass_hz=min(low_pass, 0.42 * rate), order=order, causal=causal)

    def response(num_samples):
        made = aug.filter_response(num_samples, bank.sampling_frequency, **options)
        if rate < bank.sampling_frequency:
            frequency = torch.linspace(0, bank.sampling_frequency / 2, num_samples // 2 + 1)
            made = made / (1 + (frequency / (0.45 * rate)) ** 16).sqrt()
        return made

    return response


def _draw_channels(bank, config, recipe, missing, generator):
    """Which contacts in which order, -1 where one is missing, and the places the model is told."""
    total, by_position = len(bank.positions), config.channel_mixing == "position"
    if by_position or config.channel_order == "position":
        order = torch.randperm(total, generator=generator)  # the wiring is arbitrary
    else:
        order = torch.cdist(bank.positions[:1], bank.positions)[0].argsort()
    keep = total if by_position else min(total, config.num_channels)
    if missing and keep > 1:
        keep = int(torch.randint(max(1, keep // 2), keep, (1,), generator=generator))
    size = total if by_position else config.num_channels
    channels = torch.full((size,), -1)
    channels[:keep] = order[:keep]
    positions = bank.positions[channels.clamp(min=0)]
    nominal = torch.tensor(nominal_positions(size))
    if total <= 4 and torch.rand(1, generator=generator) < recipe.nominal_probability:
        positions = nominal  # nobody knows where a tetrode's wires stand
    return channels, positions


def _draw_window(config, recipe, truncated, generator):
    """Mask (num_samples,) of the samples that a recording's snippets cover."""
    if not truncated:
        return torch.ones(config.num_samples)
    time_ms = (torch.arange(config.num_samples) - config.peak_index) / config.sampling_frequency * 1e3
    start = float(aug.uniform(*recipe.truncation_start_ms, (1,), generator))
    end = float(aug.uniform(*recipe.truncation_end_ms, (1,), generator))
    return ((time_ms >= start) & (time_ms <= end)).float()
