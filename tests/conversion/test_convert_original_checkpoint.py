"""The converter, on a small checkpoint in the authors' layout made here."""

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from huidurep import HuiduRep, HuiduRepForPreTraining

sys.path.insert(0, str(Path(__file__).parents[2] / "conversion"))
import convert_original_checkpoint as converter  # noqa: E402
from key_map import LAYER, UNUSED  # noqa: E402
from reference import reference_outputs  # noqa: E402

CHANNELS, HIDDEN, WIDE, EMBEDDING, PROJECTION, SIZE = 3, 16, 24, 8, 12, 5
DEPTHS = {
    "encoder_q.transformer": 2,
    "encoder_k.transformer": 2,
    "spike_decoder.decoder": 2,
    "feature_decoder.decoder": 1,
}


def sinusoidal_table(length, size):
    """Vaswani et al. 2017, element by element."""
    table = torch.zeros(1, length, size)
    for position in range(length):
        for index in range(0, size, 2):
            angle = position / 10000 ** (index / size)
            table[0, position, index], table[0, position, index + 1] = math.sin(angle), math.cos(angle)
    return table


def layer_shapes(prefix):
    layer = torch.nn.TransformerEncoderLayer(HIDDEN, 4, WIDE)
    return {f"{prefix}.{key}": tuple(value.shape) for key, value in layer.state_dict().items()}


def heads_shapes():
    shapes = {}
    for name, sizes in {
        "proj_q.projection": (EMBEDDING, PROJECTION, PROJECTION, SIZE),
        "proj_k.projection": (EMBEDDING, PROJECTION, PROJECTION, SIZE),
        "prediction.prediction": (SIZE, PROJECTION, SIZE),
    }.items():
        for index, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
            shapes |= {f"{name}.{3 * index}.weight": (b, a), f"{name}.{3 * index}.bias": (b,)}
            if index < len(sizes) - 2:
                norm = f"{name}.{3 * index + 1}"
                shapes |= {f"{norm}.{kind}": (b,) for kind in ("weight", "bias", "running_mean", "running_var")}
                shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


@pytest.fixture
def state():
    shapes = {
        "conv_embedding.block.0.weight": (HIDDEN, CHANNELS, 5),
        "conv_embedding.block.0.bias": (HIDDEN,),
        "conv_embedding.block.2.weight": (HIDDEN, HIDDEN, 3),
        "conv_embedding.block.2.bias": (HIDDEN,),
        "spike_decoder.proj.weight": (CHANNELS, HIDDEN),
        "spike_decoder.proj.bias": (CHANNELS,),
    }
    for branch in "qk":
        reduction = f"reduce_{branch}.projection.0"
        shapes |= {f"{reduction}.weight": (EMBEDDING, HIDDEN), f"{reduction}.bias": (EMBEDDING,)}
    for stack, depth in DEPTHS.items():
        for index in range(depth):
            shapes |= layer_shapes(f"{stack}.layers.{index}")
    shapes |= heads_shapes() | {key: (2, 2) for key in UNUSED}
    generator = torch.Generator().manual_seed(11)
    tensors = {key: 0.4 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    for key in tensors:
        if key.endswith("running_var"):
            tensors[key] = tensors[key].abs() + 0.5
        elif key.endswith("num_batches_tracked"):
            tensors[key] = torch.tensor(7)
    names = ("encoder_q", "encoder_k", "spike_decoder", "feature_decoder")
    return tensors | {f"{name}.positional_encoding.pe": sinusoidal_table(300, HIDDEN) for name in names}


@pytest.fixture
def converted(state, tmp_path):
    torch.save(state, tmp_path / "original.pt")
    converter.convert(tmp_path / "original.pt", tmp_path / "converted")
    return tmp_path / "converted"


def views(extra_channels=0):
    generator = torch.Generator().manual_seed(2)
    return torch.randn((3, 6, 121, CHANNELS + extra_channels), generator=generator)


def close(found, expected):
    return np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).max() < 1e-5


def test_sizes_are_read_from_the_tensors(converted):
    config = HuiduRep.from_pretrained(converted).config
    assert (config.num_channels, config.hidden_size, config.intermediate_size) == (CHANNELS, HIDDEN, WIDE)
    assert (config.num_hidden_layers, config.decoder_num_hidden_layers) == (2, 2)
    assert config.feature_decoder_num_hidden_layers == 1
    assert (config.embedding_size, config.projection_hidden_size, config.projection_size) == (
        EMBEDDING,
        PROJECTION,
        SIZE,
    )
    assert (config.num_samples, config.peak_index, config.conv_kernel_sizes) == (121, 42, [5, 3])


@torch.no_grad()
def test_every_output_is_reproduced(state, converted):
    first, second, clean = views()
    encoder, model = (
        HuiduRep.from_pretrained(converted),
        HuiduRepForPreTraining.from_pretrained(converted / "pretraining"),
    )
    expected = reference_outputs(state, first.double(), second.double(), clean.double(), config=encoder.config)
    found = dict(model(first, second, clean))
    by_view = found.pop("view_embeddings")
    assert close(by_view[:, 0], expected["embeddings"]) and close(by_view[:, 1], encoder(second).embeddings)
    assert set(found) <= set(expected)
    for name, value in found.items():
        assert close(value, expected[name]), name
    plain = encoder(first, output_reconstruction=True)
    assert close(plain.embeddings, expected["embeddings"])
    assert close(plain.last_hidden_state, expected["last_hidden_state"])
    assert close(plain.reconstruction, expected["reconstruction"])
    research = encoder(first, output_denoised_tokens=True)
    assert close(research.denoised_tokens, expected["denoised_tokens"])
    assert close(research.embeddings, expected["embeddings_with_denoised_tokens"])


@torch.no_grad()
def test_embed_and_denoise_of_the_contract_itself(converted):
    encoder, wide = HuiduRep.from_pretrained(converted), views(extra_channels=10)[0]
    middle = wide[..., 5 : 5 + CHANNELS]
    output = encoder(middle, output_reconstruction=True)
    assert close(encoder.embed(middle.numpy(), peak_index=42), output.embeddings)
    assert close(encoder.embed(wide.numpy(), peak_index=42), output.embeddings)
    assert close(encoder(wide).embeddings, output.embeddings)
    assert close(encoder.denoise(middle.numpy(), peak_index=42), output.reconstruction)


def test_the_reference_is_pinned(state):
    """Both convolutions are followed by a ReLU; without the second one the published numbers are missed by 0.2."""
    from reference import convolve

    kernels = [state[f"conv_embedding.block.{index}.weight"].double().numpy() for index in (0, 2)]
    biases = [state[f"conv_embedding.block.{index}.bias"].double().numpy() for index in (0, 2)]
    hidden = views()[0, 0, :9].double().numpy()
    found = convolve({key: tensor.double() for key, tensor in state.items()}, torch.from_numpy(hidden)[None])[0]
    for kernel, bias in zip(kernels, biases, strict=True):
        reach = kernel.shape[2] // 2
        padded = np.pad(hidden, ((reach, reach), (0, 0)))
        windows = np.stack([padded[index : index + kernel.shape[2]] for index in range(9)])
        hidden = np.maximum(np.einsum("skc,ock->so", windows, kernel) + bias, 0)
    assert close(found, hidden)


def test_momentum_branch_holds_the_key_tensors(state, converted):
    own = HuiduRepForPreTraining.from_pretrained(converted / "pretraining").state_dict()
    assert torch.equal(own["momentum_encoder.layers.1.qkv.weight"],
                       state["encoder_k.transformer.layers.1.self_attn.in_proj_weight"])  # fmt: skip
    assert torch.equal(own["momentum_reduction.weight"], state["reduce_k.projection.0.weight"])
    assert torch.equal(own["momentum_projection.4.running_mean"], state["proj_k.projection.4.running_mean"])
    for name in ("huidurep.embeddings", "momentum_embeddings"):
        assert torch.equal(own[f"{name}.convolutions.1.weight"], state["conv_embedding.block.2.weight"])
        assert not own[f"{name}.missing_channel"].any()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}, "optimizer": {"lr": 1.0}},
    ],
)
def test_wrappers_and_prefixes(state, tmp_path, wrap):
    torch.save(wrap(state), tmp_path / "wrapped.pt")
    read = converter.read_state_dict(tmp_path / "wrapped.pt")
    assert set(read) == set(state) and all(torch.equal(read[key], state[key]) for key in state)


def refuse(state, tmp_path, match):
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=match):
        converter.convert(tmp_path / "bad.pt", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt"]


def test_unused_tensors_may_be_absent_but_others_may_not(state, tmp_path):
    names = converter.target_names(depths := converter.count_layers(state))
    converter.check_keys({key: value for key, value in state.items() if key not in UNUSED}, names, depths)
    for key in (
        "encoder_q.transformer.layers.0.norm1.bias",
        "reduce_k.projection.0.weight",
        "prediction.prediction.3.bias",
    ):
        refuse({name: value for name, value in state.items() if name != key}, tmp_path, key.replace(".", r"\."))
    without_layer = {name: value for name, value in state.items() if ".decoder.layers." not in name}
    refuse(without_layer, tmp_path, r"missing .*spike_decoder\.decoder\.layers")


def test_unexpected_tensor_is_refused(state, tmp_path):
    refuse(state | {"encoder_q.extra.weight": torch.zeros(2)}, tmp_path, r"unexpected \(encoder_q\.extra\.weight\)")
    refuse(state | {"encoder_q.transformer.layers.0.norm3.bias": torch.zeros(2)}, tmp_path, "norm3")


def test_wrong_shapes_and_positions_are_refused(state, tmp_path):
    refuse(state | {"reduce_k.projection.0.weight": torch.zeros(3, HIDDEN)}, tmp_path, "reduction")
    table = state["encoder_k.positional_encoding.pe"].clone()
    table[0, 5, 3] += 0.01
    refuse(state | {"encoder_k.positional_encoding.pe": table}, tmp_path, "encoder_k.positional_encoding")


@pytest.mark.parametrize("swap", [("norm1.weight", "norm2.weight"), ("norm1.bias", "norm2.bias")])
def test_a_wrong_map_is_found_and_nothing_is_saved(state, tmp_path, monkeypatch, swap):
    first, second = swap
    for theirs, other in ((first, second), (second, first)):
        monkeypatch.setitem(converter.LAYER, theirs, {**LAYER}[other])
    monkeypatch.setitem(converter.LAYER, first, "feed_norm." + first.split(".")[1])
    monkeypatch.setitem(converter.LAYER, second, "attention_norm." + second.split(".")[1])
    refuse(state, tmp_path, "nothing was saved")


class _Code:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_pickle_is_refused(state, tmp_path, capsys):
    torch.save({"state_dict": state, "extra": _Code()}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="code"):
        converter.convert(tmp_path / "code.pt", tmp_path / "out")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Code()))
    with pytest.raises((ValueError, OSError), match="expected"):
        converter.convert(tmp_path / "plain.pt", tmp_path / "out")
    assert "this must not run" not in capsys.readouterr().out


def test_unreadable_files(state, tmp_path):
    with pytest.raises(OSError, match="found none"):
        converter.convert(tmp_path / "absent.pt", tmp_path / "out")
    torch.save(state, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    (tmp_path / "text.pt").write_text("hello")
    for name in ("cut.pt", "text.pt"):
        with pytest.raises(OSError, match="unreadable"):
            converter.convert(tmp_path / name, tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="expected a state dict"):
        converter.convert(tmp_path / "list.pt", tmp_path / "out")


def test_non_empty_output_is_refused_and_left_alone(state, tmp_path, capsys):
    torch.save(state, tmp_path / "original.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert converter.main([str(tmp_path / "original.pt"), str(tmp_path / "out")]) == 2
    assert str(tmp_path / "out") in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_command_line(state, tmp_path, capsys):
    torch.save(state, tmp_path / "original.pt")
    (tmp_path / "out").mkdir()
    assert converter.main([str(tmp_path / "original.pt"), str(tmp_path / "out"), "--num-attention-heads", "2"]) == 0
    assert "saved" in capsys.readouterr().out
    assert HuiduRep.from_pretrained(tmp_path / "out").config.num_attention_heads == 2
    assert "SHA-256" in (tmp_path / "out" / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original.pt", "out"]
