"""A published folder holds the encoder's code: it opens with trust_remote_code=True where huidurep is not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import huidurep
from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining
from huidurep.models.publishing import add_code

MAX_LINES = 2100
AUTO_MAP = {"AutoConfig": "configuration_huidurep.HuiduRepConfig", "AutoModel": "modeling_huidurep.HuiduRep"}
REMOTE = """
import json, sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("huidurep", "spikeinterface", "typer"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel

folder, again, waveforms = sys.argv[1:]
waveforms = np.load(waveforms)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert type(config).__name__ == "HuiduRepConfig" and type(model).__module__.startswith("transformers_modules.")
column_um = [[0.0, 20.0 * index] for index in range(5)]
np.save(folder + "/found.npy", model.embed(waveforms, sampling_frequency=24000.0, channel_positions=column_um))
model.save_pretrained(again)
other = AutoModel.from_pretrained(again, trust_remote_code=True)
assert all((weights == other.state_dict()[name]).all() for name, weights in model.state_dict().items())

try:
    model.denoise(waveforms)
except ImportError as error:
    assert "install huidurep" in str(error)
else:
    raise AssertionError("denoise needs the package")

def is_refused():
    try:
        AutoModel.from_pretrained(again, trust_remote_code=True)
    except ValueError as error:
        return str(error)

path = Path(again) / "model.safetensors"
weights = load_file(path)
save_file(weights | {"reduction.weight": 1.1 * weights["reduction.weight"]}, path, {"format": "pt"})
assert "fingerprint.safetensors" in is_refused()
save_file({name: each for name, each in weights.items() if name != "reduction.bias"}, path, {"format": "pt"})
assert "reduction.bias" in is_refused()
save_file(weights, path, {"format": "pt"})
settings = json.loads((Path(again) / "config.json").read_text())
(Path(again) / "config.json").write_text(json.dumps(settings | {"scale_uv": 5.0}))
assert "fingerprint.safetensors" in is_refused()
"""


def small(cls):
    return cls(HuiduRepConfig(hidden_size=16, num_hidden_layers=1))


def code_in(folder):
    return {path.name: path.read_text() for path in Path(folder).glob("*.py")}


def auto_map_of(folder):
    return json.loads((Path(folder) / "config.json").read_text()).get("auto_map")


def test_a_published_folder_opens_without_the_package(tmp_path):
    folder, model = tmp_path / "published-1.0", HuiduRep.from_pretrained("tetrode")
    model.save_pretrained(folder)
    add_code(model, folder)
    waveforms = np.random.default_rng(0).normal(0, 30, (6, 70, 5)).astype("float32")
    np.save(tmp_path / "waveforms.npy", waveforms)
    command = [sys.executable, "-c", REMOTE, folder, tmp_path / "again", tmp_path / "waveforms.npy"]
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    column_um = [[0.0, 20.0 * index] for index in range(5)]
    expected = model.embed(waveforms, sampling_frequency=24000.0, channel_positions=column_um)
    assert np.abs(np.load(folder / "found.npy") - expected).max() < 1e-6
    # With the package it opens like any other folder, and is saved like one: without code.
    ours = HuiduRep.from_pretrained(folder)
    assert type(ours) is HuiduRep
    ours.save_pretrained(tmp_path / "saved")
    assert not code_in(tmp_path / "saved") and auto_map_of(tmp_path / "saved") is None


@pytest.mark.parametrize("cls", [HuiduRep, HuiduRepForPreTraining])
def test_published_code_is_the_encoder_and_what_it_needs(cls, tmp_path):
    from transformers.dynamic_module_utils import get_imports, get_relative_imports

    model = small(cls)
    model.save_pretrained(tmp_path)
    add_code(model, tmp_path)
    assert auto_map_of(tmp_path) == AUTO_MAP
    code = code_in(tmp_path)
    assert not {"modeling_pretraining.py", "losses.py", "loading.py", "publishing.py"} & code.keys()
    assert sum(len(text.splitlines()) for text in code.values()) < MAX_LINES
    # transformers 5.0 copies only the modules that the entry itself imports
    entry = {f"{name}.py" for name in get_relative_imports(tmp_path / "modeling_huidurep.py")}
    assert entry | {"modeling_huidurep.py"} == code.keys()
    needed = {name for path in tmp_path.glob("*.py") for name in get_imports(path)}
    installed = {"numpy", "torch", "transformers", "safetensors"}
    assert needed - set(sys.stdlib_module_names) <= installed
    model.save_pretrained(tmp_path / "later")
    assert not code_in(tmp_path / "later")


def test_a_class_of_the_users_own_is_published_without_code(tmp_path):
    """Its code is not ours, and ours would open as another model."""

    class Own(HuiduRep):
        pass

    model = small(Own)
    model.config.auto_map = {"AutoModel": "own.Own"}
    model.save_pretrained(tmp_path)
    add_code(model, tmp_path)
    assert not code_in(tmp_path) and auto_map_of(tmp_path) == {"AutoModel": "own.Own"}


def test_embedded_checkpoints_hold_no_code():
    for folder in huidurep.list_checkpoints().values():
        assert not code_in(folder) and auto_map_of(folder) is None
