"""Checkpoints that are damaged, foreign or absent say so; nothing here touches the network."""

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from huidurep import HuiduRep, HuiduRepConfig, SpikeSortingPipeline, list_checkpoints
from huidurep.hub.resolve import resolve_checkpoint


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = HuiduRepConfig(hidden_size=16, num_hidden_layers=2, intermediate_size=16, embedding_size=8)
    HuiduRep(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.convolutions.1.weight",
        "encoder.layers.1.qkv.weight",
        "encoder.layers.0.feed_out.bias",
        "reduction.weight",
        "decoder.layers.0.output.weight",
        "decoder_projection.weight",
        "embeddings.mixer.weights.hidden.weight",
        "embeddings.mixer.weights.output.bias",
        "readout.weights.hidden.bias",
        "readout.weights.output.weight",
    ],
)
def test_one_changed_tensor_breaks_the_fingerprint(folder, name):
    # Random: a constant change along a row vanishes where a layer norm without mean comes before.
    generator = torch.Generator().manual_seed(3)

    def change(weights):
        return weights | {name: weights[name] + 0.05 * torch.randn(weights[name].shape, generator=generator)}

    change_weights(folder, change)
    with pytest.raises(ValueError, match=r"stored in .*fingerprint\.safetensors"):
        HuiduRep.from_pretrained(folder)


def test_changed_fingerprint(folder):
    (folder / "fingerprint.safetensors").write_bytes(b"damaged")
    with pytest.raises(OSError, match=r"fingerprint\.safetensors"):
        HuiduRep.from_pretrained(folder)


def test_absent_fingerprint_is_a_warning(folder, caplog):
    (folder / "fingerprint.safetensors").unlink()
    HuiduRep.from_pretrained(folder)
    assert "fingerprint.safetensors" in caplog.text


@pytest.mark.parametrize("keep", [0, 7, 200, -100])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(OSError, match=r"model\.safetensors"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(OSError, match=name.replace(".", r"\.")):
        HuiduRep.from_pretrained(folder)


def test_damaged_config(folder):
    (folder / "config.json").write_text('{"model_type": "huid')
    with pytest.raises(OSError, match="JSON in .*config.json"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("dtype", ["x", 1e30, "int64", "nn"])
def test_damaged_precision(folder, dtype):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"dtype": dtype}))
    with pytest.raises(ValueError, match=r"dtype in .*config\.json"):
        HuiduRep.from_pretrained(folder)


def test_foreign_checkpoint(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type 'bert'"):
        HuiduRep.from_pretrained(folder)


def test_weights_of_another_model(folder):
    change_weights(folder, lambda weights: {f"bert.{name}": tensor for name, tensor in weights.items()})
    with pytest.raises(ValueError, match="missing_keys.*unexpected_keys"):
        HuiduRep.from_pretrained(folder)


def test_missing_weight(folder):
    change_weights(folder, lambda weights: {k: v for k, v in weights.items() if k != "encoder.layers.1.output.weight"})
    with pytest.raises(ValueError, match=r"missing_keys: encoder\.layers\.1\.output\.weight"):
        HuiduRep.from_pretrained(folder)


def test_additional_weight(folder):
    change_weights(folder, lambda weights: weights | {"surplus": torch.zeros(3)})
    with pytest.raises(ValueError, match="unexpected_keys: surplus"):
        HuiduRep.from_pretrained(folder)


def test_weights_of_another_size(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"embedding_size": 9}))
    with pytest.raises(ValueError, match="config.json|mismatched_keys"):
        HuiduRep.from_pretrained(folder)


def test_unknown_setting_in_config(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_wings": 2}))
    with pytest.raises(TypeError, match="num_wings"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("name", ["no-such-checkpoint", "/no/such/folder", "./nothing", "a/b/c", Path("no/folder")])
def test_unknown_name(name):
    with pytest.raises(OSError, match="embedded checkpoints.*tetrode"):
        HuiduRep.from_pretrained(name)


@pytest.mark.parametrize("name", [5, None, b"tetrode", ["tetrode"]])
def test_what_is_no_name(name):
    for loader in (HuiduRep, SpikeSortingPipeline):
        with pytest.raises(TypeError, match="name or the folder of a checkpoint.*tetrode"):
            loader.from_pretrained(name)


def test_local_folder_and_embedded_names(folder):
    assert resolve_checkpoint(folder) == folder
    for name, path in list_checkpoints().items():
        assert resolve_checkpoint(name) == path and (path / "model.safetensors").exists()


def test_loading_info_and_dtype(folder):
    model, info = HuiduRep.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, HuiduRep) and not info["missing_keys"] and not model.training
    assert HuiduRep.from_pretrained(folder, dtype=torch.float64).dtype == torch.float64


def test_an_embedded_configuration_opens_by_name_and_a_local_folder_comes_first(folder, tmp_path, monkeypatch):
    name = "tetrode"
    by_name, of_model = HuiduRepConfig.from_pretrained(name), HuiduRep.from_pretrained(name).config
    assert by_name.to_diff_dict() == of_model.to_diff_dict()
    assert HuiduRepConfig.from_pretrained(folder).embedding_size == 8
    folder.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert HuiduRepConfig.from_pretrained(name).embedding_size == 8
