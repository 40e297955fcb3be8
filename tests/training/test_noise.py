"""Noise segments: measured noise is given back as it was measured, drawn noise has colour and correlation."""

import numpy as np
import pytest
import torch
from template_libraries import COLUMN_UM, TETRODE_UM

from huidurep.simulation.probes import contact_layout
from huidurep.training.noise import SEGMENT_SAMPLES, MeasuredNoise, cut_snippets, draw_noise_segment

LENGTH_UM = 60.0
KERNEL_SAMPLES = 3.0
RATE_HZ = 30000.0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(num_samples):
    return torch.ones(num_samples // 2 + 1)


def correlation_at(positions):
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    return np.exp(-distance / LENGTH_UM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Factors of a noise that falls off with distance and is smooth over three samples; channels differ in size."""
    folder = tmp_path_factory.mktemp("noise")
    size = np.random.default_rng(0).uniform(3, 9, 40)
    covariance = correlation_at(contact_layout("neuropixels-1.0", 40)) * size[:, None] * size[None]
    values, vectors = np.linalg.eigh(covariance)
    np.save(folder / "spatial_cov.npy", vectors * np.sqrt(values) @ vectors.T)
    lag = np.arange(61)[:, None] - np.arange(61)[None]
    np.save(folder / "temporal_cov.npy", np.exp(-0.5 * (lag / KERNEL_SAMPLES) ** 2))
    return folder


@pytest.fixture(scope="module")
def measured(folder):
    return MeasuredNoise(folder)


def test_correlation_by_distance_is_read(measured):
    assert measured.by_distance[0] == pytest.approx(1.0) and measured.bins_um[0] == 0
    assert (np.diff(measured.bins_um) > 0).all()
    assert measured.by_distance == pytest.approx(np.exp(-measured.bins_um / LENGTH_UM), abs=0.03)


def test_spectrum_is_that_of_the_kernel(measured):
    spectrum = measured.spectrum(4096)
    frequency = np.fft.rfftfreq(4096)
    expected = np.exp(-2 * (np.pi * KERNEL_SAMPLES * frequency) ** 2)
    assert spectrum.shape == (2049,)
    assert (spectrum / spectrum[0]).numpy() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["tetrode", "neuropixels-2.0"])
def test_measured_noise_is_drawn_as_it_was_measured(measured, kind):
    positions = contact_layout(kind, 4)
    segments = [
        draw_noise_segment(torch.tensor(positions).float(), flat, RATE_HZ, generator(seed), measured=measured)
        for seed in range(3)
    ]
    found = np.mean([np.corrcoef(segment.T) for segment in segments], axis=0)
    # the bins of distance are 10 um wide
    assert found == pytest.approx(correlation_at(positions), abs=0.08)
    power = np.mean([np.abs(np.fft.rfft(segment, axis=0)) ** 2 for segment in segments], axis=(0, 2))
    bands = power[: 64 * 128].reshape(128, 64).mean(1)
    middle = (np.arange(128) + 0.5) * 64 / SEGMENT_SAMPLES
    expected = np.exp(-4 * (np.pi * KERNEL_SAMPLES * middle) ** 2)
    share, expected = bands / bands.sum(), expected / expected.sum()
    assert share[:12] == pytest.approx(expected[:12], rel=0.25)
    assert share[40:].sum() < 1e-3


@pytest.mark.parametrize("missing", ["spatial_cov.npy", "temporal_cov.npy"])
def test_missing_file_raises(folder, tmp_path, missing):
    for path in folder.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=rf"{missing}.*noise\.covariances"):
        MeasuredNoise(tmp_path)


@pytest.mark.parametrize("use_measured", [False, True])
def test_segments_have_standard_deviation_one(measured, use_measured):
    options = dict(measured=measured) if use_measured else {}
    state = torch.get_rng_state()
    for seed in range(3):
        segment = draw_noise_segment(torch.tensor(COLUMN_UM).float(), flat, RATE_HZ, generator(seed), **options)
        assert segment.shape == (SEGMENT_SAMPLES, 8) and float(segment.std()) == pytest.approx(1.0, abs=1e-3)
        sizes = segment.std(0) / segment.std(0).mean()
        assert sizes.min() > 0.5 and sizes.max() < 1.7 and sizes.std() > 0.01  # no two wires are equally good
        again = draw_noise_segment(torch.tensor(COLUMN_UM).float(), flat, RATE_HZ, generator(seed), **options)
        assert torch.equal(segment, again)
    assert torch.equal(torch.get_rng_state(), state)


def test_drawn_noise_is_coloured_and_shared_by_neighbours():
    for seed in range(4):
        segment = draw_noise_segment(torch.tensor(COLUMN_UM).float(), flat, RATE_HZ, generator(seed))
        power = torch.fft.rfft(segment, dim=0).abs().square().mean(1)
        assert power[:500].mean() > 1.5 * power[-2000:].mean()
        correlation = np.corrcoef(segment.T)
        near, far = np.diag(correlation, 1).mean(), np.diag(correlation, 7).mean()
        assert near > 0.03 and near > far - 0.02


def test_noise_is_filtered_as_the_recording_is():
    def below_3_khz(num_samples):
        return (torch.linspace(0, RATE_HZ / 2, num_samples // 2 + 1) < 3000).float()

    segment = draw_noise_segment(torch.tensor(TETRODE_UM).float(), below_3_khz, RATE_HZ, generator())
    power = torch.fft.rfft(segment, dim=0).abs().square().mean(1)
    cut = int(3000 / (RATE_HZ / 2) * len(power))
    assert power[cut + 2 :].sum() < 1e-6 * power.sum() and float(segment.std()) == pytest.approx(1.0, abs=1e-3)


def test_snippets_are_cut_anywhere_in_the_segment():
    segment = torch.arange(40.0)[:, None] * torch.tensor([1.0, 100.0])
    snippets = cut_snippets(segment, 500, 10, generator())
    assert snippets.shape == (500, 10, 2)
    start = snippets[:, 0, 0]
    assert torch.equal(snippets[:, :, 0], start[:, None] + torch.arange(10))
    assert torch.equal(snippets[:, :, 1], 100 * snippets[:, :, 0])
    assert set(start.tolist()) == set(range(31))


def test_a_snippet_may_be_the_whole_segment():
    segment = torch.randn(12, 3, generator=generator())
    assert torch.equal(cut_snippets(segment, 2, 12, generator()), segment.repeat(2, 1, 1))
