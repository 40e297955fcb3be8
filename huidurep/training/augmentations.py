"""What recordings do to a spike: one pure function a distortion, randomness passed in."""

import math

import torch


def uniform(low, high, size, generator):
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


def log_uniform(low, high, size, generator):
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


def filter_response(num_samples, sampling_frequency, *, high_pass_hz, low_pass_hz, order, causal):
    """Frequency response of a Butterworth band-pass on an rFFT grid.

    Parameters
    ----------
    num_samples : int
        Length of the signals.
    sampling_frequency, high_pass_hz, low_pass_hz : float
        Hz.
    order : int
        Of each side.
    causal : bool
        Run once forward (an amplifier) or forward and backward with no delay (software).

    Returns
    -------
    torch.Tensor (num_samples // 2 + 1,) complex64
    """
    s = 1j * torch.linspace(0, sampling_frequency / 2, num_samples // 2 + 1)
    response = _butterworth(s / low_pass_hz, order) * _butterworth(high_pass_hz / (s + 1e-9j), order)
    return response if causal else response.abs().square().to(torch.complex64)


def _butterworth(s, order):
    """Response of the normalised low-pass prototype at complex frequency `s`."""
    response = torch.ones_like(s)
    for k in range(order):
        angle = math.pi * (2 * k + order + 1) / (2 * order)
        pole = complex(math.cos(angle), math.sin(angle))
        response = response / (s - pole)
    return response


def shift(spectra, samples):
    """Delay signals by a fraction of a sample or more.

    Parameters
    ----------
    spectra : torch.Tensor (num_spikes, num_frequencies, num_channels) complex
        rFFT of signals.
    samples : torch.Tensor (num_spikes,)
        Delay of each in samples.

    Returns
    -------
    torch.Tensor like `spectra`
    """
    omega = torch.linspace(0, math.pi, spectra.shape[1])
    return spectra * torch.exp(-1j * omega[None, :, None] * samples[:, None, None])


def noise_color(num_samples, sampling_frequency, *, corner_hz, exponent, floor):
    """Amplitude spectrum of brain-like noise: flat to `corner_hz`, falling with `exponent`, with a white floor.

    Parameters
    ----------
    num_samples : int
        Length of the signals.
    sampling_frequency, corner_hz : float
        Hz.
    exponent : float
        Of the fall of the amplitude.
    floor : float
        Amplitude of the white part; that of the other is 1 at 0 Hz.

    Returns
    -------
    torch.Tensor (num_samples // 2 + 1,)
    """
    frequency = torch.linspace(0, sampling_frequency / 2, num_samples // 2 + 1)
    return (1 + (frequency / corner_hz) ** 2) ** (-exponent / 2) + floor


def spatial_mixing(positions, *, shared, length_um):
    """Cholesky factor of the noise correlation ``shared * exp(-distance / length_um)`` plus independent noise.

    Parameters
    ----------
    positions : torch.Tensor (num_channels, 2)
        um.
    shared : float
        Share of the variance that neighbours have in common.
    length_um : float

    Returns
    -------
    torch.Tensor (num_channels, num_channels)
    """
    distance = torch.cdist(positions, positions)
    eye = torch.eye(len(positions))
    return torch.linalg.cholesky(shared * torch.exp(-distance / length_um) + (1 - shared + 1e-5) * eye)


def add_at_lags(waveforms, others, *, lag_range, generator):
    """Add other spikes to waveforms, each at a lag of its own: collisions (CEED, Vishnubhotla et al. 2023).

    Parameters
    ----------
    waveforms, others : torch.Tensor (num_spikes, num_samples, num_channels)
    lag_range : tuple of int
        Smallest and largest lag in samples, either sign.
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


def crop_at_trough(waveforms, *, around, reach, before, num_samples):
    """First sample of a window that puts each waveform's trough, searched near `around`, `before` samples in.

    Parameters
    ----------
    waveforms : torch.Tensor (num_spikes, total, num_channels)
    around, reach : int
        The trough is searched in ``around - reach .. around + reach``.
    before, num_samples : int
        Window.

    Returns
    -------
    torch.Tensor (num_spikes, num_samples) int64
        Indices to gather.
    """
    near = waveforms[:, around - reach : around + reach + 1].amin(2)
    trough = around - reach + near.argmin(1)
    return trough[:, None] - before + torch.arange(num_samples)[None]
