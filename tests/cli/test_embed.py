"""`huidurep embed`."""

import json

import numpy as np
import pytest
from command_line import assert_refused, run

import huidurep


@pytest.fixture
def waveforms(tmp_path):
    path = tmp_path / "waveforms.npy"
    np.save(path, np.random.default_rng(0).normal(0, 30, (6, 90, 4)).astype("float32"))
    return path


def test_embed_writes_one_row_a_waveform(tmp_path):
    waveforms = np.random.default_rng(0).normal(0, 30, (6, 90, 4)).astype("float32")
    np.savez(tmp_path / "in.npz", waveforms=waveforms)
    result = run("embed", tmp_path / "in.npz", tmp_path / "out.npy", "--peak-index", 30)
    assert result.exit_code == 0, result.output
    expected = huidurep.HuiduRep.from_pretrained("tetrode").embed(waveforms, peak_index=30)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert_refused(run("embed", tmp_path / "in.npz", tmp_path / "out.npy"), "out.npy")


def test_embed_refuses_foreign_files(tmp_path):
    assert_refused(run("embed", tmp_path / "none.npy", tmp_path / "out.npy"), "none.npy")
    (tmp_path / "text.npy").write_text("hello")
    np.savez(tmp_path / "pickled.npz", waveforms=np.array([{}], dtype=object))
    np.savez(tmp_path / "whole.npz", waveforms=np.zeros((3, 90, 4)))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    for name in ("text.npy", "pickled.npz", "torn.npz"):
        result = run("embed", tmp_path / name, tmp_path / "out.npy")
        assert_refused(result, name, "numpy.save")
        assert "pickle=" not in result.output
    np.savez(tmp_path / "in.npz", other=np.zeros(3))
    assert_refused(run("embed", tmp_path / "in.npz", tmp_path / "out.npy"), "waveforms", "other")
    assert_refused(run("embed", tmp_path / "in.npz", tmp_path / "out.txt"), ".npy")


def test_embed_as_json(waveforms, tmp_path):
    result = run("embed", waveforms, tmp_path / "out.npy", "--json")
    size = np.load(tmp_path / "out.npy").shape[1]
    wanted = {"output": str(tmp_path / "out.npy"), "num_spikes": 6, "embedding_size": size, "model": "tetrode"}
    assert json.loads(result.stdout) == wanted


def test_what_is_read_is_not_overwritten(waveforms, tmp_path):
    before = waveforms.read_bytes()
    (tmp_path / "link.npy").symlink_to(waveforms)
    for output in (waveforms, tmp_path / "link.npy"):
        assert_refused(run("embed", waveforms, output, "--overwrite"), "apart from what is read")
    assert waveforms.read_bytes() == before
