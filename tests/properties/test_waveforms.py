"""Whatever waveforms are embedded: one finite row a spike that depends on nothing else, or one sentence."""

import numpy as np
import pytest
from fuzz_cases import assert_documented, cases, mostly
from hypothesis import given
from hypothesis import strategies as st

import huidurep

CHECKPOINTS = tuple(huidurep.list_checkpoints())


@pytest.fixture(scope="module")
def models():
    return {name: huidurep.HuiduRep.from_pretrained(name) for name in CHECKPOINTS}


@st.composite
def waveforms(draw):
    """Snippets of any window and number of channels with spikes of both signs, and what describes them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    num_spikes, num_channels = draw(mostly(7, (0, 1, 40))), draw(mostly(4, (1, 2, 11, 24)))
    num_samples = draw(mostly(90, (1, 2, 12, 60, 121, 400)))
    array = rng.normal(0, draw(mostly(8.0, (0.0, 1e-12, 1e9))), (num_spikes, num_samples, num_channels))
    wave = np.exp(-0.5 * ((np.arange(num_samples) - num_samples / 3) / 4) ** 2)
    array += rng.uniform(-300, 300, (num_spikes, 1, num_channels)) * wave[:, None]
    if num_spikes and draw(mostly(False, (True,))):
        array[0, 0, 0] = draw(st.sampled_from((np.nan, np.inf, 1e30)))
    dtype = draw(mostly("float32", ("float64", "float16", "int16", "complex64", "bool", "object", "U8")))
    with np.errstate(all="ignore"):
        array = array.real.astype(dtype)
    options = {
        "sampling_frequency": draw(mostly(30000.0, (10000.0, 48000, 24414.0625, 0, -1.0, np.nan, np.inf, 1e12, "30"))),
        "peak_index": draw(mostly(None, (0, 1, num_samples - 1, num_samples, -1, 3.5, "10"))),
        "batch_size": draw(mostly(1024, (1, 3, 0, -1, np.int64(2), 2.5))),
    }
    if draw(mostly(False, (True,))):
        shape = draw(mostly((num_channels, 2), ((num_channels, 3), (num_channels + 1, 2), (num_channels,))))
        options["channel_positions"] = rng.uniform(0, 100, shape) * draw(mostly(1.0, (0.0, 1e6, np.nan)))
    return Snippets(array), options


class Snippets:
    """An array that hypothesis describes in one line."""

    def __init__(self, array):
        self.array = array

    def __repr__(self):
        return f"snippets {self.array.shape} {self.array.dtype}"


@cases(70)
@given(name=st.sampled_from(CHECKPOINTS), given_waveforms=waveforms())
def test_any_waveforms(name, given_waveforms, models):
    array, options = given_waveforms[0].array, given_waveforms[1]
    try:
        embeddings = models[name].embed(array, **options)
    except Exception as error:
        assert_documented(error)
        return
    assert embeddings.shape == (len(array), models[name].config.embedding_size)
    assert embeddings.dtype == np.float32 and np.isfinite(embeddings).all()
    options["batch_size"] = 2
    backwards = models[name].embed(array[::-2], **options)
    # axes that are linear grow with the waveforms, the others hardly
    scale = max(1.0, np.abs(embeddings).max(initial=0))
    np.testing.assert_allclose(backwards / scale, embeddings[::-2] / scale, rtol=0, atol=2e-3)
