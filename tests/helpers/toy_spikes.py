"""What tests of adapting share: spikes of planted units on a tetrode."""

import numpy as np
from template_libraries import PEAK, make_library


def draw_spikes(num_units, spikes_each, *, noise_uv=8.0, seed=0, scale_uv=200.0):
    """Waveforms (num_spikes, 90, 4) float32 uV, trough at 30, and the unit of each, in random order."""
    bank = make_library(num_units, seed=seed, scale_uv=scale_uv)
    rng = np.random.default_rng(seed + 1)
    labels = rng.permutation(np.repeat(np.arange(num_units), spikes_each))
    clean = np.asarray(bank.waveforms)[labels, 0, PEAK - 30 : PEAK + 60]
    gains = rng.lognormal(0, 0.05, (len(labels), 1, 1))
    return (gains * clean + rng.normal(0, noise_uv, clean.shape)).astype("f4"), labels
