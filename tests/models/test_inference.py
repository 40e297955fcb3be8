"""Batches, and memory that is too small for them."""

import numpy as np
import pytest
import torch

from huidurep import HuiduRep
from huidurep.models.inference import in_batches


@pytest.fixture(scope="module")
def tetrode():
    return HuiduRep.from_pretrained("tetrode")


@pytest.fixture(scope="module")
def waveforms():
    return np.random.default_rng(0).normal(0, 30, (70, 90, 4)).astype("float32")


@pytest.mark.parametrize("method", ["embed", "denoise"])
def test_batches_shrink_until_they_fit(tetrode, waveforms, method, caplog):
    expected, sizes = getattr(tetrode, method)(waveforms, peak_index=30), []

    def refuse_large(module, args, kwargs):
        sizes.append(len(kwargs["waveforms"]))
        if sizes[-1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    hook = tetrode.register_forward_pre_hook(refuse_large, with_kwargs=True)
    try:
        with caplog.at_level("INFO", logger="huidurep"):
            found = getattr(tetrode, method)(waveforms, peak_index=30, batch_size=50)
    finally:
        hook.remove()
    assert sizes == [50, 25, 12, 12, 12, 12, 12, 10]  # no spike is computed twice
    assert "batches of 12 spikes" in caplog.text
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("message", ["MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory"])
def test_devices_without_an_error_class_of_their_own(message):
    done = []

    def compute(rows):
        if rows.stop - rows.start > 3:
            raise RuntimeError(message)
        done.extend(range(8)[rows])

    in_batches(compute, 8, 1024)
    assert done == list(range(8))


def test_what_no_smaller_batch_helps_is_raised():
    calls = []

    def compute(rows, error):
        calls.append(rows)
        raise error

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(lambda rows: compute(rows, torch.OutOfMemoryError("full")), 8, 4)
    assert [rows.stop for rows in calls] == [4, 2, 1]
    calls.clear()
    with pytest.raises(RuntimeError, match="shape"):
        in_batches(lambda rows: compute(rows, RuntimeError("a shape")), 8, 4)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("troughs", "peak_index", "is_warned"),
    [
        ([30] * 40, None, False),
        ([30] * 38 + [55, 60], None, True),
        ([30] * 38 + [55, 60], 30, False),
        (list(range(20, 60)), None, False),
        ([30] * 8 + [55, 60], None, False),
    ],
    ids=["aligned", "some-elsewhere", "given", "not-aligned", "few"],
)
def test_troughs_elsewhere_than_most_are_warned_of(tetrode, troughs, peak_index, is_warned, caplog):
    spikes = np.random.default_rng(0).normal(0, 3, (len(troughs), 90, 4)).astype("float32")
    for spike, trough in zip(spikes, troughs, strict=True):
        spike += -100 * np.exp(-(((np.arange(90) - trough) / 4) ** 2))[:, None]
    with caplog.at_level("WARNING", logger="huidurep"):
        tetrode.embed(spikes, peak_index=peak_index)
    assert ("peak_index=30" in caplog.text) == is_warned
