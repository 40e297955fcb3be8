"""What tests of the sorting road use instead of a trained model and of real data: fast, known, without torch."""

from types import SimpleNamespace

import numpy as np
from spikeinterface.core import NumpyRecording

RATE_HZ = 30000.0


class PcaModel:
    """Embeds as a HuiduRep does, by a fixed projection of the snippet; rows never depend on other rows."""

    def __init__(self, num_channels=4, embedding_size=6):
        self.config = SimpleNamespace(
            num_channels=num_channels, embedding_size=embedding_size, sampling_frequency=RATE_HZ, _name_or_path="pca"
        )
        self.calls = []

    def embed(self, waveforms, *, sampling_frequency, peak_index, channel_positions, denoise, peak_sign="neg"):
        num_spikes, num_samples, num_channels = waveforms.shape
        assert waveforms.dtype == np.float32
        waveforms = np.where(np.broadcast_to(peak_sign, num_spikes) == "pos", -1, 1)[:, None, None] * waveforms
        assert channel_positions.shape == (num_channels, 2)
        self.calls.append(SimpleNamespace(shape=waveforms.shape, positions=channel_positions, denoise=denoise))
        # the trough and what follows it, on every channel: enough to tell the units of these tests apart
        after = min(peak_index + int(0.0004 * sampling_frequency), num_samples - 1)
        features = np.concatenate([waveforms[:, peak_index], waveforms[:, after]], axis=1)
        padded = np.zeros((num_spikes, max(self.config.embedding_size, 2 * num_channels)), dtype="float32")
        padded[:, : 2 * num_channels] = features
        return padded[:, : self.config.embedding_size]


def waveform(width=5.0, num_samples=60, peak=20):
    """A trough of depth 1 and the slow hump after it, (num_samples,)."""
    time = np.arange(num_samples) - peak
    return -np.exp(-((time / width) ** 2)) + 0.35 * np.exp(-(((time - 4 * width) / (3 * width)) ** 2))


def planted(  # noqa: PLR0913
    *,
    footprints_uv=((120, 30, 20, 10), (20, 30, 130, 60), (60, 140, 20, 100)),
    duration_s=10.0,
    rate_hz=12.0,
    noise_uv=10.0,
    num_channels=4,
    seed=0,
):
    """Noise with spikes of known units: traces (num_samples, num_channels) uV, samples and units of the spikes."""
    rng = np.random.default_rng(seed)
    num_samples = int(duration_s * RATE_HZ)
    traces = rng.normal(0, noise_uv, (num_samples, num_channels)).astype("float32")
    samples, labels = [], []
    for unit, footprint in enumerate(footprints_uv):
        intervals = 90 + rng.exponential(RATE_HZ / rate_hz, int(duration_s * rate_hz * 2) + 10)
        train = np.cumsum(intervals).astype("int64") + 100
        train = train[train < num_samples - 200]
        shape = waveform(width=4.0 + 1.5 * unit)[:, None] * np.asarray(footprint, dtype="float32")
        for sample in train:
            traces[sample - 20 : sample + 40] += shape
        samples.append(train)
        labels.append(np.full(len(train), unit))
    samples, labels = np.concatenate(samples), np.concatenate(labels)
    order = np.argsort(samples, kind="stable")
    return traces, samples[order], labels[order]


def as_recording(*segments, rate_hz=RATE_HZ, has_gains=True, positions_um=None, channel_ids=None):
    """A SpikeInterface recording of traces in uV."""
    recording = NumpyRecording([np.asarray(traces) for traces in segments], rate_hz, channel_ids=channel_ids)
    if has_gains:
        recording.set_channel_gains(1.0)
        recording.set_channel_offsets(0.0)
    if positions_um is not None:
        recording.set_dummy_probe_from_locations(np.asarray(positions_um, dtype=float))
    return recording


TETRODE_UM = 12.5 * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])


def share_found(true_samples, found_samples, tolerance=12):
    """Share of the true spikes with a found one within a tolerance (samples)."""
    if len(found_samples) == 0:
        return 0.0
    found = np.sort(found_samples)
    right = np.searchsorted(found, true_samples).clip(0, len(found) - 1)
    left = (right - 1).clip(0)
    distance = np.minimum(abs(found[right] - true_samples), abs(found[left] - true_samples))
    return float(np.mean(distance <= tolerance))


def agreement(truth, found):
    """Share of spikes in the units that hold most of their true cluster."""
    return sum(np.bincount(found[truth == k] + 1)[1:].max() for k in np.unique(truth)) / len(truth)
