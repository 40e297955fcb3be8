"""The fingerprint is that of the written weights, whatever the precision, and sees every part of the contract."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import huidurep
from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining
from huidurep.models.fingerprint import FIRST_TENSORS, fingerprint

SMALL = dict(hidden_size=16, num_hidden_layers=1, intermediate_size=16, embedding_size=8)


def small(cls=HuiduRep, **fields):
    torch.manual_seed(0)
    return cls(HuiduRepConfig(**{**SMALL, **fields})).eval()


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder, change, name="reduction.weight"):
    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def is_refused(folder, **options):
    with pytest.raises(ValueError, match=r"stored in .*fingerprint.*\.safetensors"):
        HuiduRep.from_pretrained(folder, **options)


@pytest.mark.parametrize(
    "fields",
    [
        dict(sampling_frequency=30300.0),
        dict(peak_index=31),
        dict(num_channels=5),
        dict(scale_uv=4.01),
        dict(spike_polarity="any"),
        dict(scaling="log"),
        dict(num_samples=91),
    ],
)
def test_each_part_of_the_contract_is_seen(folder, fields):
    HuiduRep.from_pretrained(folder)
    change_config(folder, **fields)
    is_refused(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_precision_in_the_configuration_does_not_switch_the_check_off(folder, dtype):
    change_config(folder, dtype=dtype)
    assert HuiduRep.from_pretrained(folder).dtype == getattr(torch, dtype)
    change_weights(folder, lambda weight: 1.1 * weight)
    is_refused(folder)
    is_refused(folder, dtype=torch.float64)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_also_without_a_fingerprint(folder, value):
    (folder / "fingerprint.safetensors").unlink()
    change_weights(folder, lambda weight: weight.fill_(value))
    with pytest.raises(ValueError, match=r"reduction\.weight"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("cls", [HuiduRep, HuiduRepForPreTraining])
def test_saved_in_one_precision_and_loaded_in_another(tmp_path, dtype, cls):
    small(cls).to(dtype).save_pretrained(tmp_path)
    for wanted in (None, torch.float32, torch.bfloat16):
        options = {} if wanted is None else {"dtype": wanted}
        assert cls.from_pretrained(tmp_path, **options).dtype == (wanted or dtype)


def test_autocast_and_rounded_products_make_no_difference(folder):
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            HuiduRep.from_pretrained(folder).save_pretrained(folder / "again")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    stored = [load_file(each / "fingerprint.safetensors") for each in (folder, folder / "again")]
    assert all(torch.allclose(stored[0][name], stored[1][name], atol=1e-5) for name in stored[0])


def test_a_forward_that_accelerate_has_replaced_is_not_used(tmp_path):
    model = small()
    original = model.forward
    model.forward = lambda *inputs, **options: torch.autocast("cpu", torch.bfloat16)(original)(*inputs, **options)
    model.save_pretrained(tmp_path)
    HuiduRep.from_pretrained(tmp_path)


@pytest.mark.parametrize("cls", [HuiduRep, HuiduRepForPreTraining])
def test_averaged_weights_have_their_own_fingerprint(tmp_path, cls):
    model = small(cls)
    averaged = {name: tensor + 0.1 * (tensor.dtype == torch.float32) for name, tensor in model.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=averaged)
    loaded = cls.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in averaged.items())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_subfolder(folder, tmp_path):
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "inner")
    HuiduRep.from_pretrained(tmp_path / "outer", subfolder="inner")
    change_weights(tmp_path / "outer" / "inner", lambda weight: 1.1 * weight)
    is_refused(tmp_path / "outer", subfolder="inner")


def test_variants_have_a_fingerprint_each(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    half = small().half()
    nn.init.normal_(half.reduction.weight)
    half.save_pretrained(tmp_path, variant="fp16")
    single = HuiduRep.from_pretrained(tmp_path, dtype=torch.float32)  # config.json is of the last one
    assert torch.equal(single.reduction.weight, model.reduction.weight)
    loaded = HuiduRep.from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    assert torch.equal(loaded.reduction.weight, half.reduction.weight)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "model.fp16.safetensors")
    is_refused(tmp_path, variant="fp16")


def test_fingerprints_of_earlier_versions_are_still_compared(folder):
    path = folder / "fingerprint.safetensors"
    save_file({name: each for name, each in load_file(path).items() if name in FIRST_TENSORS}, path)
    HuiduRep.from_pretrained(folder)
    change_weights(folder, lambda weight: 1.1 * weight)
    is_refused(folder)


@pytest.mark.parametrize("channel_mixing", ["index", "position"])
@pytest.mark.parametrize("num_channels", [1, 2, 11])
def test_every_number_of_channels_has_a_fingerprint(channel_mixing, num_channels):
    found = fingerprint(small(channel_mixing=channel_mixing, num_channels=num_channels))
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_files_are_as_readable_as_the_umask_allows(tmp_path):
    old = os.umask(0o027)
    try:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "private.safetensors").touch(mode=0o600)
        huidurep.HuiduRep.from_pretrained("tetrode").save_pretrained(tmp_path / "there", max_shard_size="300KB")
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "there").iterdir()}
    assert modes.pop("private.safetensors") == 0o600
    assert set(modes.values()) == {0o640} and len([name for name in modes if name.startswith("model-")]) > 1


def test_embedded_checkpoints_have_a_whole_fingerprint():
    for folder in huidurep.list_checkpoints().values():
        assert load_file(folder / "fingerprint.safetensors").keys() == fingerprint(small()).keys()
