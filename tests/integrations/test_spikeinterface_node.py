"""EmbedWaveforms in SpikeInterface's run_node_pipeline."""

import pickle

import numpy as np
import pytest
from spikeinterface.core.node_pipeline import (
    ExtractDenseWaveforms,
    ExtractSparseWaveforms,
    PeakRetriever,
    base_peak_dtype,
    run_node_pipeline,
)
from stand_in import RATE_HZ, as_recording, planted

from huidurep import EmbedWaveforms, HuiduRep

POSITIONS_UM = np.column_stack([np.zeros(10), 25.0 * np.arange(10)])
WINDOW = {"ms_before": 1.0, "ms_after": 2.0}
CHUNKS = {"chunk_duration": "1s", "progress_bar": False}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """int16 steps of 0.195 uV, 10 channels, on disk."""
    footprints = np.zeros((2, 10))
    footprints[0, :3] = 150, 60, 20
    footprints[1, 5:9] = 60, 140, 60, 30
    traces, *_ = planted(footprints_uv=footprints, num_channels=10, duration_s=4.0)
    made = as_recording((traces / 0.195).round().astype("int16"), positions_um=POSITIONS_UM)
    made.set_channel_gains(0.195)
    return made.save(folder=tmp_path_factory.mktemp("node") / "recording", progress_bar=False)


@pytest.fixture(scope="module")
def peaks():
    footprints = np.zeros((2, 10))
    _, samples, labels = planted(footprints_uv=footprints, num_channels=10, duration_s=4.0)
    peaks = np.zeros(len(samples), dtype=base_peak_dtype)
    peaks["sample_index"], peaks["channel_index"] = samples, np.array([0, 6])[labels]
    return peaks


def sparse(recording, peaks, **options):
    source = PeakRetriever(recording, peaks)
    waveforms = ExtractSparseWaveforms(recording, parents=[source], radius_um=60.0, **WINDOW)
    return [source, waveforms, EmbedWaveforms(recording, parents=[source, waveforms], **options)]


def run(recording, nodes, **job_kwargs):
    return run_node_pipeline(recording, nodes, job_kwargs={**CHUNKS, **job_kwargs})


def by_hand(recording, peaks, model):
    """Embeddings of snippets on the channels within 60 um of each peak's channel."""
    traces = recording.get_traces(return_in_uV=True)
    rows = []
    for peak in peaks:
        near = np.abs(POSITIONS_UM[:, 1] - POSITIONS_UM[peak["channel_index"], 1]) <= 60.0
        snippet = traces[peak["sample_index"] - 30 : peak["sample_index"] + 60, near]
        options = dict(sampling_frequency=RATE_HZ, peak_index=30, channel_positions=POSITIONS_UM[near])
        rows.append(model.embed(snippet[None], **options)[0])
    return np.stack(rows)


def test_each_peak_is_embedded_on_its_own_channels_in_uv(recording, peaks):
    nodes = sparse(recording, peaks, model="linear")
    found = run(recording, nodes, n_jobs=1)
    assert found.dtype == nodes[-1].get_dtype() == np.float32
    np.testing.assert_allclose(found, by_hand(recording, peaks, HuiduRep.from_pretrained("linear")), atol=1e-4)


def test_gains_without_offsets_and_of_inverted_inputs(peaks):
    traces = np.random.default_rng(0).normal(0, 30, (1000, 4))
    cut, found = peaks[:2].copy(), []
    cut["sample_index"], cut["channel_index"], traces[(300, 600), (0, 2)] = (300, 600), (0, 2), -200.0
    for gain in (0.195, -0.195):
        recording = as_recording(
            (traces / gain).round().astype("int16"), has_gains=False, positions_um=POSITIONS_UM[:4]
        )
        recording.set_channel_gains(gain)
        cut["amplitude"] = -200.0 / gain
        found.append(run(recording, sparse(recording, cut, model="linear"), n_jobs=1))
    in_uv = as_recording((0.195 * (traces / 0.195).round()).astype("float32"), positions_um=POSITIONS_UM[:4])
    cut["amplitude"] = -200.0
    found.append(run(in_uv, sparse(in_uv, cut, model="linear"), n_jobs=1))
    np.testing.assert_allclose(found[0], found[2], atol=1e-3)
    np.testing.assert_allclose(found[1], found[2], atol=1e-3)


def test_auto_picks_by_the_contacts_and_names_travel_light(recording, peaks):
    node = sparse(recording, peaks)[-1]
    assert node.model == "linear"
    sent = pickle.dumps(node)
    assert len(sent) < 100_000  # no weights
    again = pickle.loads(sent)
    waveforms = np.ones((1, 90, 3), "float32")
    waveforms[:, 30] = -50.0
    one = peaks[peaks["channel_index"] == 0][:1]
    np.testing.assert_array_equal(again.compute(None, one, waveforms), node.compute(None, one, waveforms))


@pytest.mark.parametrize("workers", [{"mp_context": "fork"}, {"pool_engine": "thread"}], ids=["fork", "thread"])
def test_workers_find_the_same(recording, peaks, workers):
    nodes = sparse(recording, peaks, model="linear")
    np.testing.assert_allclose(run(recording, nodes, n_jobs=2, **workers), run(recording, nodes, n_jobs=1), atol=1e-4)


@pytest.mark.slow  # starts two processes that import torch
def test_spawned_workers_find_the_same(recording, peaks):
    nodes = sparse(recording, peaks, model=HuiduRep.from_pretrained("linear"))
    np.testing.assert_allclose(
        run(recording, nodes, n_jobs=2, mp_context="spawn"), run(recording, nodes, n_jobs=1), atol=1e-4
    )


def test_dense_waveforms_and_other_outputs(recording, peaks):
    model = HuiduRep.from_pretrained("tetrode")
    four = recording.select_channels(recording.channel_ids[:4])
    own = peaks[peaks["channel_index"] == 0]
    source = PeakRetriever(four, own)
    waveforms = ExtractDenseWaveforms(four, parents=[source], return_output=True, **WINDOW)
    node = EmbedWaveforms(four, parents=[source, waveforms], model=model, denoise=True)
    cut, embedded = run(four, [source, waveforms, node], n_jobs=1)
    options = dict(sampling_frequency=RATE_HZ, peak_index=30, channel_positions=POSITIONS_UM[:4], denoise=True)
    np.testing.assert_allclose(embedded, model.embed(0.195 * cut.astype("float32"), **options), atol=1e-4)


def test_wrong_parents_and_models(recording, peaks):
    source = PeakRetriever(recording, peaks)
    with pytest.raises(TypeError, match=r"parents=.*'PeakRetriever'"):
        EmbedWaveforms(recording, parents=[source])
    with pytest.raises(TypeError, match=r"model.*3\.5"):
        sparse(recording, peaks, model=3.5)
    with pytest.raises(OSError, match="octrode"):
        sparse(recording, peaks, model="octrode")
