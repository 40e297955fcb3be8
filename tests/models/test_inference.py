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


@pytest.mark.parametrize("method", ["embed", "denoise"])
def test_tensors_are_taken_for_arrays(tetrode, waveforms, method):
    at = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]], requires_grad=True)
    call = getattr(tetrode, method)
    expected = call(waveforms[:5], peak_index=30, channel_positions=at.detach().numpy())
    given = torch.tensor(waveforms[:5], requires_grad=True)
    for positions in (at, at.bfloat16()):
        np.testing.assert_array_equal(call(given, peak_index=30, channel_positions=positions), expected)


@pytest.mark.parametrize("method", ["embed", "denoise"])
@pytest.mark.parametrize(
    ("waveforms", "options", "error"),
    [
        ([np.zeros((90, 4)), np.zeros((80, 4))], {}, ValueError),
        ("snippets.npy", {}, TypeError),
        (None, {}, TypeError),
        (np.zeros((2, 90, 4), complex), {}, TypeError),
        (np.zeros((2, 90, 4)), {"device": "gpu"}, ValueError),
        (np.zeros((2, 90, 4)), {"device": "meta"}, ValueError),
        (np.zeros((2, 90, 4)), {"batch_size": 0}, ValueError),
    ],
)
def test_what_cannot_be_computed_is_one_sentence(tetrode, method, waveforms, options, error):
    with pytest.raises(error, match="^expected .*found.*: "):
        getattr(tetrode, method)(waveforms, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_named(tetrode, waveforms):
    with pytest.raises(ValueError, match="on this machine, found 'cuda:1'"):
        tetrode.embed(waveforms, device="cuda:1")
