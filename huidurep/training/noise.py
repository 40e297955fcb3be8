"""Noise of imagined recordings, as reels (num_samples, num_channels) from which every spike takes its own piece."""

from pathlib import Path

import numpy as np
import torch

from ..simulation.probes import contact_layout
from . import augmentations as aug

REEL_SAMPLES = 16384


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

    def __init__(self, folder):
        paths = [Path(folder) / name for name in ("spatial_cov.npy", "temporal_cov.npy")]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"expected measured noise in {path}, found none: correct `noise.covariances`.")
        spatial, temporal = (np.load(path, allow_pickle=False) for path in paths)
        self.kernel = torch.as_tensor(temporal[len(temporal) // 2], dtype=torch.float32)
        covariance = spatial @ spatial.T
        scale = np.sqrt(np.diag(covariance))
        correlation = covariance / scale[:, None] / scale[None]
        places = contact_layout("neuropixels-1.0", len(correlation))
        distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
        bins_um = np.arange(0, 300, 10.0)
        near = [np.abs(distance - b) <= 5 for b in bins_um]
        self.bins_um = np.array([distance[rows].mean() for rows in near if rows.any()])
        self.by_distance = np.array([correlation[rows].mean() for rows in near if rows.any()])

    def spectrum(self, num_samples):
        """Amplitude spectrum (num_samples // 2 + 1,) of the colour."""
        return torch.fft.rfft(self.kernel, n=num_samples).abs()

    def mixing(self, positions):
        """Factor (num_channels, num_channels) of the correlation of contacts at `positions` (num_channels, 2) in um."""
        distance = torch.cdist(positions, positions).numpy()
        correlation = np.interp(distance, self.bins_um, self.by_distance)
        values, vectors = np.linalg.eigh(correlation)
        return torch.as_tensor(vectors * np.sqrt(values.clip(1e-3)), dtype=torch.float32)


def draw_reel(positions, response, sampling_frequency, generator, *, measured=None):
    """Draw a reel of brain-like noise, filtered as the recording is.

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
        Instead of a drawn colour and a drawn correlation.

    Returns
    -------
    torch.Tensor (REEL_SAMPLES, num_channels)
        Standard deviation 1 over all channels.
    """
    white = torch.randn(REEL_SAMPLES, len(positions), generator=generator)
    draws = torch.rand(5, generator=generator).tolist()
    spread = 1 + 0.15 * torch.randn(len(positions), generator=generator)
    if measured is None:
        color = aug.noise_color(
            REEL_SAMPLES,
            sampling_frequency,
            corner_hz=300 + 2500 * draws[0],
            exponent=0.5 + 1.5 * draws[1],
            floor=0.5 * draws[2],
        )
        mixing = aug.spatial_mixing(positions, shared=0.1 + 0.8 * draws[3], length_um=20 + 100 * draws[4])
    else:
        color, mixing = measured.spectrum(REEL_SAMPLES), measured.mixing(positions)
    shape = color * response(REEL_SAMPLES)
    reel = torch.fft.irfft(torch.fft.rfft(white, dim=0) * shape[:, None], n=REEL_SAMPLES, dim=0)
    reel = reel @ (mixing * spread.clamp(0.6, 1.5)[:, None]).T
    return reel / reel.std()


def cut_pieces(reel, count, num_samples, generator):
    """Cut pieces of noise anywhere in a reel.

    Parameters
    ----------
    reel : torch.Tensor (reel_samples, num_channels)
    count, num_samples : int
    generator : torch.Generator

    Returns
    -------
    torch.Tensor (count, num_samples, num_channels)
    """
    start = torch.randint(len(reel) - num_samples + 1, (count,), generator=generator)
    return reel[start[:, None] + torch.arange(num_samples)[None]]
