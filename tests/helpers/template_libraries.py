"""What tests of training share: a small model, and template libraries of made-up units with random footprints."""

import numpy as np

from huidurep.training.dataset import TemplateLibrary

PEAK = 90
TETRODE_UM = 12.5 * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
COLUMN_UM = np.stack([np.zeros(8), 20.0 * np.arange(8)], 1)
# Architecture of a model that trains in no time.
SMALL = dict(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    embedding_size=8,
    projection_hidden_size=16,
    projection_size=8,
)


def make_library(num_units=12, num_views=2, scale_uv=200.0, seed=0, positions=TETRODE_UM, kind="tetrode"):
    rng = np.random.default_rng(seed)
    time = np.arange(256) - PEAK
    footprints = rng.dirichlet(np.full(len(positions), 0.5), num_units) * scale_uv
    widths = rng.uniform(4, 9, num_units)
    shapes = -np.exp(-((time / widths[:, None]) ** 2)) + 0.3 * np.exp(-(((time - 25) / 15) ** 2))
    views = rng.uniform(0.9, 1.1, (num_units, num_views))
    views[:, 0] = 1
    waveforms = views[:, :, None, None] * shapes[:, None, :, None] * footprints[:, None, None, :]
    return TemplateLibrary(waveforms, positions, PEAK, 30000.0, kind=kind)
