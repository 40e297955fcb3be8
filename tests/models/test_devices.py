"""Names of devices, and devices that are not there or compute something else."""

import numpy as np
import pytest
import torch

from huidurep import HuiduRep
from huidurep.models import devices
from huidurep.models.devices import find_device, place_model
from huidurep.models.fingerprint import fixed_embeddings


@pytest.fixture(scope="module")
def tetrode():
    return HuiduRep.from_pretrained("tetrode")


def has(monkeypatch, *, cuda=0, mps=False, is_forked=False):
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: cuda)
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: is_forked)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch):
    for machine, device in (
        (dict(cuda=1, mps=True), "cuda"),
        (dict(mps=True), "mps"),
        (dict(), "cpu"),
        (dict(cuda=1, is_forked=True), "cpu"),
    ):
        has(monkeypatch, **machine)
        assert find_device() == find_device("auto") == torch.device(device)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    has(monkeypatch, cuda=2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    for name in ("cuda:2", "mps", "meta"):
        with pytest.raises(ValueError, match=rf"found '{name}': name 'auto' or one of this machine's \(cuda, cpu\)"):
            find_device(name)
    for name in ("gpu", "", 1.5, None):
        with pytest.raises(ValueError, match="expected device"):
            find_device(name)


def test_a_model_that_is_there_is_not_copied(tetrode):
    assert place_model(tetrode, "cpu") is tetrode
    tetrode.train()
    try:
        placed = place_model(tetrode, "cpu")
        assert placed is not tetrode and not placed.training and tetrode.training
    finally:
        tetrode.eval()


def test_a_device_that_fails_is_named_or_avoided(tetrode, monkeypatch, caplog):
    has(monkeypatch, mps=True)  # this PyTorch was built without it
    assert place_model(tetrode, "auto") is tetrode
    assert "the CPU is used: mps" in caplog.text
    with pytest.raises(ValueError, match="expected 'mps' to compute"):
        place_model(tetrode, "mps")


def test_a_device_that_computes_something_else_is_named_or_avoided(tetrode, monkeypatch, caplog):
    has(monkeypatch, mps=True)
    monkeypatch.setattr(devices, "ready_for_inference", lambda model, device: (model, str(device)))
    right = fixed_embeddings(tetrode)
    for change, used in ((1e-3, "mps"), (0.1, "cpu")):
        changed = right + change * np.abs(right).max() * np.eye(*right.shape, dtype="float32")
        monkeypatch.setattr(
            devices, "fixed_embeddings", lambda model, c=changed: c if isinstance(model, tuple) else right
        )
        assert place_model(tetrode, "auto")[1] == used
    assert "differ by 10 %" in caplog.text
    with pytest.raises(ValueError, match="differ by 10 %"):
        place_model(tetrode, "mps")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tetrode", "base"])
def test_a_gpu_gives_the_embeddings_of_the_cpu(name):
    model = HuiduRep.from_pretrained(name)
    waveforms = np.random.default_rng(0).normal(0, 30, (3000, 90, 4)).astype("float32")
    placed = place_model(model, "cuda")
    assert placed.device.type == "cuda" and model.device.type == "cpu"
    expected, found = (each.embed(waveforms, peak_index=30) for each in (model, placed))
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.gpu
def test_a_full_gpu_gets_smaller_batches(caplog):
    placed = place_model(HuiduRep.from_pretrained("tetrode"), "cuda")
    waveforms = np.random.default_rng(0).normal(0, 30, (100_000, 90, 4)).astype("float32")
    used = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 500e6 / used[1]))
    try:
        with caplog.at_level("INFO", logger="huidurep"):
            found = placed.embed(waveforms, peak_index=30, batch_size=100_000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "the memory of the device is full" in caplog.text
    assert np.abs(found - placed.embed(waveforms, peak_index=30)).max() < 0.01 * np.abs(found).max()
