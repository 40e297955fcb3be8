"""The exported graph is the model: it embeds as torch does, says what it takes, and needs neither torch nor package."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from huidurep import HuiduRep, HuiduRepConfig, list_checkpoints
from huidurep.models.input_contract import map_waveforms

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "conversion"))
import export_onnx as exporter  # noqa: E402

logging.getLogger("torch.onnx").setLevel(logging.ERROR)
SMALL = dict(hidden_size=16, num_hidden_layers=1, intermediate_size=16, embedding_size=8)


@pytest.fixture(scope="module")
def tetrode(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tetrode.onnx"
    errors = exporter.export("tetrode", path)
    assert errors.keys() == {"embeddings", "reconstruction"} and max(errors.values()) < 1e-4
    return path


def test_linear_axes_are_part_of_the_graph(tmp_path):
    config = HuiduRepConfig(**SMALL, decoder_num_hidden_layers=1, linear_size=4, num_channels=3)
    errors = exporter.compare_outputs(*saved(HuiduRep(config).eval(), tmp_path / "linear.onnx"))
    assert max(errors.values()) < 1e-4


def saved(model, path):
    exporter.build(model).save(str(path))
    return model, path


@pytest.mark.parametrize("num_channels", [2, 4, 6])
def test_it_embeds_and_denoises_as_torch_does(tetrode, num_channels):
    model, rng = HuiduRep.from_pretrained("tetrode"), np.random.default_rng(num_channels)
    waveforms = rng.normal(0, 10, (9, 50, num_channels)).astype("float32")
    waveforms[np.arange(9), rng.integers(2, 40, 9), 0] = -200  # near the edges: samples are missing
    options = dict(sampling_frequency=24000.0, channel_positions=rng.uniform(0, 40, (num_channels, 2)))
    mapped = map_waveforms(waveforms, model.config, **options)
    assert not mapped.sample_mask.all()
    inputs = dict(
        waveforms=mapped.snippets,
        channel_mask=mapped.channel_mask,
        sample_mask=mapped.sample_mask,
        channel_positions=mapped.positions_um,
    )
    embeddings, reconstruction = onnxruntime.InferenceSession(tetrode).run(None, inputs)
    assert np.abs(embeddings - model.embed(waveforms, **options)).max() < 1e-4
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        expected = model(**tensors, output_reconstruction=True).reconstruction.numpy()
    assert np.abs(reconstruction - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_file_says_what_it_takes(tetrode):
    graph, config = onnx.load(tetrode), HuiduRepConfig.from_pretrained("tetrode")
    assert {each.domain: each.version for each in graph.opset_import}[""] == exporter.OPSET
    session = onnxruntime.InferenceSession(tetrode)
    shapes = {each.name: each.shape for each in session.get_inputs()}
    assert shapes == {
        "waveforms": ["num_spikes", 90, "num_channels"],
        "channel_mask": ["num_spikes", "num_channels"],
        "sample_mask": ["num_spikes", 90],
        "channel_positions": ["num_spikes", "num_channels", 2],
    }
    stored = json.loads(session.get_modelmeta().custom_metadata_map["huidurep"])
    assert stored["units"]["waveforms"] == "uV"
    for name in exporter.CONTRACT:
        assert stored[name] == getattr(config, name), name


def test_channels_told_apart_by_index(tmp_path):
    config = HuiduRepConfig.paper(**SMALL, decoder_num_hidden_layers=1, num_samples=60, peak_index=20)
    HuiduRep(config).save_pretrained(tmp_path / "model")
    assert max(exporter.export(tmp_path / "model", tmp_path / "new" / "model.onnx").values()) < 1e-4
    inputs = {each.name: each.shape for each in onnxruntime.InferenceSession(tmp_path / "new/model.onnx").get_inputs()}
    assert inputs["waveforms"] == ["num_spikes", 60, 11] and "channel_positions" not in inputs


def test_other_weights_are_found_and_nothing_is_saved(tetrode, tmp_path, monkeypatch):
    model = HuiduRep.from_pretrained("tetrode")
    with torch.no_grad():
        model.reduction.bias[0] += 0.01
    with pytest.raises(ValueError, match="embeddings"):
        exporter.compare_outputs(model, tetrode)
    # A graph that disagrees: the one of other weights.
    monkeypatch.setattr(exporter, "build", lambda _: onnx_program(tetrode))
    monkeypatch.setattr(exporter.huidurep.HuiduRep, "from_pretrained", lambda _: model)
    with pytest.raises(ValueError, match="embeddings"):
        exporter.export("tetrode", tmp_path / "wrong.onnx")
    assert list(tmp_path.iterdir()) == []


def onnx_program(path):
    class Program:
        def save(self, destination, external_data):
            assert not external_data
            Path(destination).write_bytes(Path(path).read_bytes())

    return Program()


def test_what_cannot_be_opened_is_one_sentence(tmp_path, capsys):
    assert exporter.main(["no-such-checkpoint", str(tmp_path / "x.onnx")]) == 2
    assert "no-such-checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        exporter.main([str(tmp_path)])


WITHOUT = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "huidurep", "transformers", "spikeinterface"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_example_needs_neither_torch_nor_huidurep(tetrode):
    command = [sys.executable, "-c", WITHOUT, str(ROOT / "examples" / "06_embed_with_onnx.py"), str(tetrode)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    share = float(finished.stdout.rsplit(":", 1)[1].strip().rstrip("%"))
    assert share > 95


@pytest.mark.slow
def test_every_embedded_checkpoint(tmp_path, capsys):
    assert exporter.main(["--all", str(tmp_path)]) == 0
    assert {path.stem for path in tmp_path.iterdir()} == set(list_checkpoints())
    assert capsys.readouterr().out.count("opset 18") == len(list_checkpoints())
