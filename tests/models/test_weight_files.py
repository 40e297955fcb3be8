"""Files of others: nothing large is built, nothing outside of the folder is read, and the sentence names the file."""

import json
import shutil
import tracemalloc

import pytest
import torch

from huidurep import HuiduRep, HuiduRepConfig, SpikeSortingPipeline
from huidurep.models.configuration_huidurep import MAX_WEIGHTS

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 950200\n"


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = HuiduRepConfig(hidden_size=64, num_hidden_layers=4, intermediate_size=64, embedding_size=8)
    HuiduRep(config).save_pretrained(tmp_path / "model", max_shard_size="100KB")
    return tmp_path / "model"


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 10**5),
        ("num_samples", 10**7),
        ("hidden_size", 10**6),
        ("num_channels", 10**9),
        ("embedding_size", "48"),
        ("intermediate_size", 0),
        ("intermediate_size", 1.5),
        ("num_attention_heads", True),
        ("decoder_num_hidden_layers", -1),
        ("peak_index", "30"),
        ("sampling_frequency", "fast"),
        ("sampling_frequency", float("nan")),
        ("sampling_frequency", float("inf")),
        ("scale_uv", None),
        ("hidden_dropout_prob", 2.0),
        ("norm_first", "yes"),
        ("layer_norm_eps", -1.0),
        ("conv_strides", "33"),
        ("conv_strides", [3, 10**6]),
        ("conv_strides", [300, 3]),
        ("conv_kernel_sizes", [[7], 5]),
        ("scaling", ["log"]),
        ("attn_implementation", "somebody/kernel"),
    ],
)
def test_values_out_of_bounds_are_refused_by_name(folder, name, value):
    change(folder / "config.json", **{name: value})
    with pytest.raises(ValueError, match=name):
        HuiduRep.from_pretrained(folder)


def test_the_adapter_of_earlier_versions_is_refused_and_its_absence_is_not(folder):
    change(folder / "config.json", adapter=False)
    model = HuiduRep.from_pretrained(folder)
    assert not hasattr(model.config, "adapter") and "adapter" not in model.config.to_dict()
    change(folder / "config.json", adapter=True)
    with pytest.raises(ValueError, match="adapted to one recording: use the checkpoint that it was adapted from"):
        HuiduRep.from_pretrained(folder)


def test_sizes_that_are_large_only_together_are_refused():
    with pytest.raises(ValueError, match="hidden_size"):
        HuiduRepConfig(hidden_size=4096, num_hidden_layers=128)


@pytest.mark.parametrize("config", [HuiduRepConfig(), HuiduRepConfig.paper(), HuiduRepConfig(linear_size=32)])
def test_the_estimate_of_the_number_of_weights(config):
    with torch.device("meta"):
        built = HuiduRep(config)
    found = sum(parameter.numel() for parameter in built.parameters() if parameter.ndim > 1)
    assert found <= 1.05 * config.num_weights < MAX_WEIGHTS


def test_large_sizes_are_compared_with_the_file_before_a_layer_is_built(folder):
    change(folder / "config.json", hidden_size=2048, intermediate_size=2048)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"config\.json.*shape"):
        HuiduRep.from_pretrained(folder)
    assert tracemalloc.get_traced_memory()[1] < 2e8
    tracemalloc.stop()


def test_more_layers_than_the_file_has(folder):
    change(folder / "config.json", num_hidden_layers=128, intermediate_size=64, hidden_size=64)
    with pytest.raises(ValueError, match="missing_keys"):
        HuiduRep.from_pretrained(folder)


def test_shards_load_and_those_elsewhere_do_not(folder, tmp_path):
    HuiduRep.from_pretrained(folder)
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    shard = next(iter(names.values()))
    shutil.copy(folder / shard, tmp_path / shard)
    for target in (f"../{shard}", str(tmp_path / shard), f"..\\{shard}"):
        change(index, weight_map={name: target if each == shard else each for name, each in names.items()})
        with pytest.raises(OSError, match=r"shards beside .*index\.json"):
            HuiduRep.from_pretrained(folder)
    change(index, weight_map=names | {"more": "model-00099-of-00099.safetensors"})
    with pytest.raises(OSError, match="model-00099"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 100_000])
def test_damaged_index(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(OSError, match=r"index\.json"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("name", ["model-00001", "config.json"])
def test_pointers_of_git_lfs(folder, name):
    next(path for path in folder.iterdir() if path.name.startswith(name)).write_text(POINTER)
    with pytest.raises(OSError, match="git lfs pull"):
        HuiduRep.from_pretrained(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"no_such_field": 1}', '{"seed": "x"}', "[" * 100_000, POINTER])
def test_damaged_sorting_parameters(folder, content):
    (folder / "sorting_parameters.json").write_text(content)
    with pytest.raises(ValueError, match=r"sorting_parameters\.json.*(remove|git lfs pull)"):
        SpikeSortingPipeline.from_pretrained(folder)
