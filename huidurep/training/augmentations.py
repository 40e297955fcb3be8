"""Distortions of spikes by recordings: filters, shifts, noise and collisions, as pure functions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def uniform(low: float, high: float, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform draws in [low, high).

    Parameters
    ----------
    low, high : float
    size : tuple of int
    generator : torch.Generator

    Returns
    -------
    torch.Tensor of shape `size`
    """
    return low + (high - low) * torch.rand(size, generator=generator)


def log_uniform(low: float, high: float, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draws between `low` and `high` whose logarithm is uniform.

    Parameters
    ----------
    low, high : float
        Both positive.
    size : tuple of int
    generator : torch.Generator

    Returns
    -------
    torch.Tensor of shape `size`
    """
    return uniform(math.log(low), math.log(high), size, generator).exp()


def filter_response(
    num_samples: int,
    sampling_frequency: float,
    *,
    high_pass_hz: float,
    low_pass_hz: float,
    order: int,
    causal: bool,
) -> Tensor:
    """Frequency response of a Butterworth band-pass on an rFFT grid.

    Parameters
    ----------
    num_samples : int
        Length of the signals.
    sampling_frequency, high_pass_hz, low_pass_hz : float
        Hz.
    order : int
        Order of the high-pass and of the low-pass filter.
    causal : bool
        Whether the filter runs once, forward (an amplifier), or forward and backward without a delay (software).

    Returns
    -------
    torch.Tensor (num_samples // 2 + 1,) complex64
    """
    # The Laplace variable at which the analogue prototypes are evaluated; 1e-9j avoids a division by 0 at 0 Hz.
    s = 1j * torch.linspace(0, sampling_frequency / 2, num_samples // 2 + 1)
    response = _butterworth(s / low_pass_hz, order) * _butterworth(high_pass_hz / (s + 1e-9j), order)
    return response if causal else response.abs().square().to(torch.complex64)


def _butterworth(s: Tensor, order: int) -> Tensor:
    """Response of the normalised low-pass prototype at complex frequency `s`."""
    response = torch.ones_like(s)
    for k in range(order):
        angle = math.pi * (2 * k + order + 1) / (2 * order)
        pole = complex(math.cos(angle), math.sin(angle))
        response = response / (s - pole)
    return response


def shift(spectra: Tensor, samples: Tensor) -> Tensor:
    """Delay signals by a fraction of a sample or more.

    Parameters
    ----------
    spectra : torch.Tensor (num_spikes, num_frequencies, num_channels) complex
        rFFT of signals.
    samples : torch.Tensor (num_spikes,)
        Delay of each signal in samples.

    Returns
    -------
    torch.Tensor like `spectra`
    """
    omega = torch.linspace(0, math.pi, spectra.shape[1])
    return spectra * torch.exp(-1j * omega[None, :, None] * samples[:, None, None])


def noise_color(
    num_samples: int, sampling_frequency: float, *, corner_hz: float, exponent: float, floor: float
) -> Tensor:
    """Amplitude spectrum of neural noise: flat up to `corner_hz`, then a power law, above a white floor.

    Parameters
    ----------
    num_samples : int
        Length of the signals.
    sampling_frequency, corner_hz : float
        Hz.
    exponent : float
        Exponent of the power law of the amplitude.
    floor : float
        Amplitude of the white part relative to that of the coloured part at 0 Hz.

    Returns
    -------
    torch.Tensor (num_samples // 2 + 1,)
    """
    frequency = torch.linspace(0, sampling_frequency / 2, num_samples // 2 + 1)
    return (1 + (frequency / corner_hz) ** 2) ** (-exponent / 2) + floor


def spatial_mixing(positions: Tensor, *, shared: float, length_um: float) -> Tensor:
    """Cholesky factor of the noise correlation ``shared * exp(-distance / length_um)`` plus independent noise.

    Parameters
    ----------
    positions : torch.Tensor (num_channels, 2)
        um.
    shared : float
        Share of the variance that is correlated between channels.
    length_um : float
        Distance at which the correlation has fallen to 1 / e.

    Returns
    -------
    torch.Tensor (num_channels, num_channels)
    """
    distance = torch.cdist(positions, positions)
    eye = torch.eye(len(positions))
    return torch.linalg.cholesky(shared * torch.exp(-distance / length_um) + (1 - shared + 1e-5) * eye)


def add_at_lags(waveforms: Tensor, others: Tensor, *, lag_range: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Add a second spike to each waveform at a random lag: collisions (CEED, Vishnubhotla et al. 2023).

    Parameters
    ----------
    waveforms, others : torch.Tensor (num_spikes, num_samples, num_channels)
    lag_range : tuple of int
        Smallest and largest absolute lag in samples; the sign is drawn.
    generator : torch.Generator

    Returns
    -------
    torch.Tensor like `waveforms`
    """
    num_spikes, num_samples, _ = waveforms.shape
    lag = torch.randint(lag_range[0], lag_range[1] + 1, (num_spikes,), generator=generator)
    lag = lag * (2 * torch.randint(0, 2, (num_spikes,), generator=generator) - 1)
    index = torch.arange(num_samples)[None] - lag[:, None]
    inside = (index >= 0) & (index < num_samples)
    moved = torch.gather(others, 1, index.clamp(0, num_samples - 1)[:, :, None].expand_as(others))
    return waveforms + moved * inside[:, :, None]


def crop_at_trough(waveforms: Tensor, *, around: int, reach: int, before: int, num_samples: int) -> Tensor:
    """Sample indices of windows that have the trough of each waveform at sample `before`.

    Parameters
    ----------
    waveforms : torch.Tensor (num_spikes, total, num_channels)
    around, reach : int
        The trough is searched from sample ``around - reach`` to ``around + reach``.
    before, num_samples : int
        Samples of the window before the trough, and in all.

    Returns
    -------
    torch.Tensor (num_spikes, num_samples) int64
        Indices for ``torch.gather`` along the samples.
    """
    near = waveforms[:, around - reach : around + reach + 1].amin(2)
    trough = around - reach + near.argmin(1)
    return trough[:, None] - before + torch.arange(num_samples)[None]
