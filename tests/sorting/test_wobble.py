import numpy as np
import pytest
import spikeinterface.preprocessing as spre
from spikeinterface.core import ChannelSparsity, NumpyRecording, Templates
from spikeinterface.core.node_pipeline import run_node_pipeline
from spikeinterface.sortingcomponents.matching.wobble import WobbleMatch
from stand_in import waveform

from huidurep.sorting.wobble import BLOCK_UNITS, FoldedWobble, _convolve

NUM_CHANNELS, NUM_UNITS, RATE_HZ = 24, BLOCK_UNITS + 4, 30000.0


def overlapping_spikes():
    """Traces of units on neighbouring channels, their sparse templates after whitening, and the whitening matrix."""
    rng = np.random.default_rng(5)
    traces = rng.normal(0, 5, (60000, NUM_CHANNELS))
    traces[:, 1:] += 0.5 * traces[:, :-1]
    shapes = [waveform(width=width) for width in rng.uniform(2, 7, NUM_UNITS)]
    channels = np.arange(NUM_CHANNELS)
    centers, sizes_uv = rng.permutation(np.linspace(0, NUM_CHANNELS, NUM_UNITS)), rng.uniform(60, 300, NUM_UNITS)
    footprints = sizes_uv[:, None] * np.exp(-np.abs(channels - centers[:, None]) / 2)
    waveforms = np.stack([np.outer(each, row) for each, row in zip(shapes, footprints, strict=True)])
    for sample in rng.integers(400, 59000, 1500):  # several at every moment
        traces[sample : sample + waveforms.shape[1]] += rng.normal(1, 0.1) * waveforms[rng.integers(NUM_UNITS)]
    is_near = np.abs(channels - channels[:, None]) <= 2
    whitening = np.where(is_near, rng.normal(0, 0.03, is_near.shape), 0) + np.eye(NUM_CHANNELS) / 5
    whitened = waveforms @ whitening
    mask = np.ptp(whitened, axis=1) > 2
    recording = NumpyRecording([traces.astype("float32")], RATE_HZ)
    recording.set_dummy_probe_from_locations(np.stack([np.zeros(NUM_CHANNELS), 20.0 * channels], axis=1))
    dense = Templates(
        np.where(mask[:, None], whitened, 0).astype("float32"),
        RATE_HZ,
        nbefore=20,
        channel_ids=recording.channel_ids,
        unit_ids=np.arange(NUM_UNITS),
        probe=recording.get_probe(),
        is_in_uV=False,
    )
    return recording, dense.to_sparse(ChannelSparsity(mask, dense.unit_ids, recording.channel_ids)), whitening


def test_the_spikes_are_those_of_wobble_on_whitened_traces():
    recording, templates, whitening = overlapping_spikes()
    parameters = dict(threshold=60.0, approx_rank=3)
    whitened = spre.whiten(recording, dtype="float32", W=whitening)
    expected, found = (
        run_node_pipeline(node.recording, [node], dict(n_jobs=1, chunk_size=14000), squeeze_output=True)
        for node in (
            WobbleMatch(whitened, templates, parameters=parameters),
            FoldedWobble(recording, templates, whitening, parameters),
        )
    )
    assert len(found) > 1200 and len(np.unique(found["cluster_index"])) == NUM_UNITS
    order = [np.lexsort((each["cluster_index"], each["sample_index"])) for each in (expected, found)]
    for name in ("sample_index", "cluster_index", "segment_index"):
        assert expected[name][order[0]].tolist() == found[name][order[1]].tolist()
    traces = recording.get_traces()
    assert np.allclose(found["amplitude"], np.abs(traces[found["sample_index"]]).max(axis=1))


def test_silence_has_no_spikes():
    _, templates, whitening = overlapping_spikes()
    silent = NumpyRecording([np.zeros((9000, NUM_CHANNELS), dtype="float32")], RATE_HZ)
    node = FoldedWobble(silent, templates, whitening, {})
    assert len(run_node_pipeline(silent, [node], dict(n_jobs=1), squeeze_output=True)) == 0


@pytest.mark.parametrize("num_kernel_samples", [1, 90, 1500])
def test_convolution_with_windows_of_any_length(num_kernel_samples):
    rng = np.random.default_rng(1)
    traces, kernels = (rng.normal(size=(2, 3, size)).astype("float32") for size in (4000, num_kernel_samples))
    expected = [
        sum(np.convolve(*pair) for pair in zip(*both, strict=True)) for both in zip(traces, kernels, strict=True)
    ]
    assert np.allclose(_convolve(traces, kernels), expected, atol=1e-2)
