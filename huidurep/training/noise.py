"""Noise of simulated recordings: segments (num_samples, num_channels) from which the noise of each spike is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..simulation.probes import contact_layout
from . import augmentations as aug

SEGMENT_SAMPLES = 16384


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Ranges (low, high) from which the noise of each recording is drawn uniformly.

    Parameters
    ----------
    corner_hz, exponent, floor : tuple of float
        Of the amplitude spectrum, see :func:`huidurep.training.augmentations.noise_color`.
    shared, length_um : tuple of float
        Of the correlation between channels, see :func:`huidurep.training.augmentations.spatial_mixing`.
    channel_spread : float
        Standard deviation of the noise levels of the channels, relative to their mean.
    channel_levels : tuple of float
        Smallest and largest noise level of a channel, relative to the mean.
    """

    corner_hz: tuple[float, float] = (300.0, 2800.0)
    exponent: tuple[float, float] = (0.5, 2.0)
    floor: tuple[float, float] = (0.0, 0.5)
    shared: tuple[float, float] = (0.1, 0.9)
    length_um: tuple[float, float] = (20.0, 120.0)
    channel_spread: float = 0.15
    channel_levels: tuple[float, float] = (0.6, 1.5)


class MeasuredNoise:
    """Spectrum and spatial correlation of noise that was measured in a recording.

    Parameters
    ----------
    folder : str or Path
        With ``spatial_cov.npy`` (num_channels, num_channels), of a Neuropixels 1.0 probe, and ``temporal_cov.npy``
        (num_samples, num_samples) at 30 kHz, as CEED (Vishnubhotla et al. 2023) publishes them: matrices by which white
        noise is multiplied.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        paths = [Path(folder) / name for name in ("spatial_cov.npy", "temporal_cov.npy")]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"expected measured noise in {path}, found none: correct `noise.covariances`.")
        spatial, temporal = (np.load(path, allow_pickle=False) for path in paths)
        self.kernel = torch.as_tensor(temporal[len(temporal) // 2], dtype=torch.float32)
        covariance = spatial @ spatial.T
        scale = np.sqrt(np.diag(covariance))
        correlation = covariance / scale[:, None] / scale[None]
        contacts = contact_layout("neuropixels-1.0", len(correlation))
        distance = np.linalg.norm(contacts[:, None] - contacts[None], axis=-1)
        bins_um = np.arange(0, 300, 10.0)
        near = [np.abs(distance - b) <= 5 for b in bins_um]
        self.bins_um = np.array([distance[rows].mean() for rows in near if rows.any()])
        self.by_distance = np.array([correlation[rows].mean() for rows in near if rows.any()])

    def spectrum(self, num_samples: int) -> Tensor:
        """Amplitude spectrum (num_samples // 2 + 1,) of the noise."""
        return torch.fft.rfft(self.kernel, n=num_samples).abs()

    def mixing(self, positions: Tensor) -> Tensor:
        """Factor (num_channels, num_channels) of the correlation of contacts at `positions` (num_channels, 2) in um."""
        distance = torch.cdist(positions, positions).numpy()
        correlation = np.interp(distance, self.bins_um, self.by_distance)
        values, vectors = np.linalg.eigh(correlation)
        # Interpolated correlations need not be positive definite: small eigenvalues are raised.
        return torch.as_tensor(vectors * np.sqrt(values.clip(1e-3)), dtype=torch.float32)


def draw_noise_segment(
    positions: Tensor,
    response: Callable[[int], Tensor],
    sampling_frequency: float,
    generator: torch.Generator,
    *,
    measured: MeasuredNoise | None = None,
    settings: NoiseSettings = NoiseSettings(),
) -> Tensor:
    """Draw a segment of neural noise, filtered as the recording is.

    Parameters
    ----------
    positions : torch.Tensor (num_channels, 2)
        um.
    response : callable
        Number of samples -> frequency response of the recording's filters on the rFFT grid.
    sampling_frequency : float
        Hz.
    generator : torch.Generator
    measured : MeasuredNoise, optional
        Replaces the spectrum and the correlation that are drawn otherwise.
    settings : NoiseSettings, optional

    Returns
    -------
    torch.Tensor (SEGMENT_SAMPLES, num_channels)
        Standard deviation 1 over all channels.
    """
    white = torch.randn(SEGMENT_SAMPLES, len(positions), generator=generator)
    draws = torch.rand(5, generator=generator).tolist()
    levels = 1 + settings.channel_spread * torch.randn(len(positions), generator=generator)
    if measured is None:
        names = ("corner_hz", "exponent", "floor", "shared", "length_um")
        ranges = [getattr(settings, name) for name in names]
        drawn = {n: low + (high - low) * draw for n, (low, high), draw in zip(names, ranges, draws, strict=True)}
        shared, length_um = drawn.pop("shared"), drawn.pop("length_um")
        color = aug.noise_color(SEGMENT_SAMPLES, sampling_frequency, **drawn)
        mixing = aug.spatial_mixing(positions, shared=shared, length_um=length_um)
    else:
        color, mixing = measured.spectrum(SEGMENT_SAMPLES), measured.mixing(positions)
    spectrum = color * response(SEGMENT_SAMPLES)
    segment = torch.fft.irfft(torch.fft.rfft(white, dim=0) * spectrum[:, None], n=SEGMENT_SAMPLES, dim=0)
    segment = segment @ (mixing * levels.clamp(*settings.channel_levels)[:, None]).T
    return segment / segment.std()


def cut_snippets(segment: Tensor, count: int, num_samples: int, generator: torch.Generator) -> Tensor:
    """Cut snippets of noise at random places of a segment.

    Parameters
    ----------
    segment : torch.Tensor (segment_samples, num_channels)
    count, num_samples : int
    generator : torch.Generator

    Returns
    -------
    torch.Tensor (count, num_samples, num_channels)
    """
    start = torch.randint(len(segment) - num_samples + 1, (count,), generator=generator)
    return segment[start[:, None] + torch.arange(num_samples)[None]]
