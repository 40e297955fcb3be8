"""What all spikes of one simulated recording have in common: filters, rate, noise level, gain, contacts, window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..models.input_contract import nominal_positions
from . import augmentations as aug
from .dataset import TemplateLibrary

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig
    from .views import ViewRecipe


@dataclass(frozen=True)
class RecordingConditions:
    """Conditions under which one simulated recording is made.

    Parameters
    ----------
    response : callable
        Number of samples -> complex frequency response on the rFFT grid.
    noise_uv, noise_gain : float
        Standard deviation of noise that is drawn (uV); factor of noise that was recorded.
    gain : float
        Factor of all amplitudes.
    step_uv : float
        Step of the analogue-to-digital converter; 0 for none.
    rate_ratio : float
        Sampling rate of the contract against that of the recording, 1 or more: peaks are known to within one sample of
        the recording.
    channels : torch.Tensor (num_channels,) int64
        Channels of the template library; -1 where one is missing.
    channel_mask : torch.Tensor (num_channels,)
    sample_mask : torch.Tensor (num_samples,)
    positions : torch.Tensor (num_channels, 2)
        Contact positions that the model receives, um.
    """

    response: Callable[[int], Tensor]
    noise_uv: float
    noise_gain: float
    gain: float
    step_uv: float
    rate_ratio: float
    channels: Tensor
    channel_mask: Tensor
    sample_mask: Tensor
    positions: Tensor


def draw_conditions(
    library: TemplateLibrary, config: HuiduRepConfig, recipe: ViewRecipe, generator: torch.Generator
) -> RecordingConditions:
    """Draw the conditions of one recording.

    Parameters
    ----------
    library : TemplateLibrary
    config : HuiduRepConfig
    recipe : ViewRecipe
    generator : torch.Generator

    Returns
    -------
    RecordingConditions
    """
    chance = torch.rand(5, generator=generator).tolist()
    rate = library.sampling_frequency
    if chance[0] < recipe.low_rate_probability:
        rate = float(aug.log_uniform(recipe.lowest_rate_hz, rate, (1,), generator))
    is_missing = chance[1] < recipe.missing_probability
    channels, positions = _draw_channels(library, config, recipe, is_missing, generator)
    step_uv = 0.0
    if chance[2] < recipe.quantised_probability:
        step_uv = float(aug.log_uniform(*recipe.step_uv, (1,), generator))
    return RecordingConditions(
        response=_draw_response(library, recipe, rate, generator),
        noise_uv=float(aug.log_uniform(*recipe.noise_uv, (1,), generator)),
        noise_gain=float(aug.uniform(*recipe.noise_gain, (1,), generator)),
        gain=float(aug.log_uniform(*recipe.recording_gain, (1,), generator)),
        step_uv=step_uv,
        rate_ratio=library.sampling_frequency / rate,
        channels=channels,
        channel_mask=(channels >= 0).float(),
        sample_mask=_draw_window(config, recipe, chance[3] < recipe.truncation_probability, generator),
        positions=positions,
    )


def _draw_response(
    library: TemplateLibrary, recipe: ViewRecipe, rate: float, generator: torch.Generator
) -> Callable[[int], Tensor]:
    """Band-pass of an amplifier or of software, and the anti-aliasing filter of a lower sampling rate."""
    low_pass, high_pass = (float(aug.uniform(*r, (1,), generator)) for r in (recipe.low_pass_hz, recipe.high_pass_hz))
    order = int(torch.randint(recipe.filter_order[0], recipe.filter_order[1] + 1, (1,), generator=generator))
    causal = bool(torch.rand(1, generator=generator) < recipe.causal_probability)
    # Just below the Nyquist frequency of the recording
    low_pass, anti_aliasing_hz = min(low_pass, 0.42 * rate), 0.45 * rate

    def response(num_samples: int) -> Tensor:
        made = aug.filter_response(
            num_samples,
            library.sampling_frequency,
            high_pass_hz=high_pass,
            low_pass_hz=low_pass,
            order=order,
            causal=causal,
        )
        if rate < library.sampling_frequency:
            frequency = torch.linspace(0, library.sampling_frequency / 2, num_samples // 2 + 1)
            made = made / (1 + (frequency / anti_aliasing_hz) ** 16).sqrt()
        return made

    return response


def _draw_channels(
    library: TemplateLibrary, config: HuiduRepConfig, recipe: ViewRecipe, is_missing: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Contacts in their order, -1 where one is missing, and the positions that the model receives."""
    total, by_position = len(library.positions), config.channel_mixing == "position"
    if by_position or config.channel_order == "position":
        order = torch.randperm(total, generator=generator)  # the wiring is arbitrary
    else:
        order = torch.cdist(library.positions[:1], library.positions)[0].argsort()
    keep = total if by_position else min(total, config.num_channels)
    if is_missing and keep > 1:
        keep = int(torch.randint(max(1, keep // 2), keep, (1,), generator=generator))
    size = total if by_position else config.num_channels
    channels = torch.full((size,), -1)
    channels[:keep] = order[:keep]
    positions = library.positions[channels.clamp(min=0)]
    nominal = torch.tensor(nominal_positions(size))
    # Only of bundles of wires, such as tetrodes, are the positions unknown.
    if total <= 4 and torch.rand(1, generator=generator) < recipe.nominal_probability:
        positions = nominal
    return channels, positions


def _draw_window(config: HuiduRepConfig, recipe: ViewRecipe, is_truncated: bool, generator: torch.Generator) -> Tensor:
    """Mask (num_samples,) of the samples that a recording's snippets cover."""
    if not is_truncated:
        return torch.ones(config.num_samples)
    time_ms = (torch.arange(config.num_samples) - config.peak_index) / config.sampling_frequency * 1e3
    start = float(aug.uniform(*recipe.truncation_start_ms, (1,), generator))
    end = float(aug.uniform(*recipe.truncation_end_ms, (1,), generator))
    return ((time_ms >= start) & (time_ms <= end)).float()
