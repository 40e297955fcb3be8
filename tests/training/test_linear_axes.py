"""The first axes of an embedding: principal components of the waveform."""

import numpy as np
import torch
from template_libraries import SMALL

from huidurep import HuiduRep, HuiduRepForPreTraining
from huidurep.training.pretrain import pretrain

TETRODE_UM = [[0, 0], [20, 0], [0, 20], [20, 20]]
SETTINGS = {
    "seed": 5,
    "model": SMALL | dict(embedding_size=24, linear_size=16, num_channels=4),
    "templates": dict(banks={"tetrode": 1}, units_per_bank=16, num_views=2, spikeinterface_share=1.0),
    "views": dict(num_recordings=1),
    "training": dict(max_steps=2, per_device_train_batch_size=16, warmup_steps=1, disable_tqdm=True),
}


def test_linear_axes_keep_distances_and_are_ordered(tmp_path):
    folder = pretrain(SETTINGS, tmp_path / "out")
    model = HuiduRep.from_pretrained(folder)
    weights = model.linear_axes.projection.weight
    torch.testing.assert_close(weights @ weights.T, torch.eye(16), atol=1e-4, rtol=0)
    # spikes of two shapes and every amplitude, in which the distances of the waveforms must be found again
    time_ms = (np.arange(90) - 30) / 30
    shapes = np.stack([-np.exp(-((time_ms / width) ** 2)) for width in (0.15, 0.3)])
    waveforms = np.concatenate([size * shapes for size in (40, 80, 200)])[:, :, None] * np.array([1, 0.7, 0.5, 0.2])
    where = dict(peak_index=30, channel_positions=TETRODE_UM, peak_sign="neg")
    linear = model.embed(waveforms, **where)[:, :16]
    wanted = np.linalg.norm(waveforms[:, None] - waveforms[None], axis=(2, 3)) / model.config.linear_scale_uv
    found = np.linalg.norm(linear[:, None] - linear[None], axis=2)
    assert (found[wanted > 0] / wanted[wanted > 0]).min() > 0.6 and (found <= wanted + 1e-4).all()
    twice = model.embed(2 * waveforms, **where)[:, :16]
    np.testing.assert_allclose(twice, 2 * linear, rtol=1e-4, atol=1e-4)
    # training leaves them as they were fitted
    assert not torch.equal(model.reduction.weight, HuiduRep(model.config).reduction.weight)
    axes = HuiduRepForPreTraining.from_pretrained(folder / "pretraining").huidurep.linear_axes.projection
    torch.testing.assert_close(axes.weight, weights)
    assert not axes.weight.requires_grad
