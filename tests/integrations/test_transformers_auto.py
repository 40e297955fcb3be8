"""transformers' Auto classes know the models: after `import huidurep`, or by the code in a published folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import huidurep
from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining
from huidurep.models.remote_code import AUTO_MAPS, add_code

TETRODE = huidurep.list_checkpoints()["tetrode"]
HUIDUREP, AUTO = "import huidurep", "from transformers import AutoConfig, AutoModel, AutoModelForPreTraining"
# What is imported before, in this order. Each makes other modules half imported while the Auto classes appear.
ORDERS = {
    "huidurep first": (HUIDUREP, AUTO),
    "transformers first": (AUTO, HUIDUREP),
    "another model in between": (HUIDUREP, "from transformers import BertModel", AUTO),
    "our model first": ("from huidurep.models.modeling_pretraining import HuiduRepForPreTraining", AUTO),
}
USE = """
import sys
config = AutoConfig.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1])
trained = AutoModelForPreTraining.from_config(config)
kinds = [f"{type(each).__module__}.{type(each).__name__}" for each in (config, model, trained)]
assert kinds == [
    "huidurep.models.configuration_huidurep.HuiduRepConfig",
    "huidurep.models.modeling_huidurep.HuiduRep",
    "huidurep.models.modeling_pretraining.HuiduRepForPreTraining",
], kinds
from transformers.pipelines import PIPELINE_REGISTRY
assert "spike-sorting" in PIPELINE_REGISTRY.get_supported_tasks()
assert not [finder for finder in sys.meta_path if type(finder).__module__ == "huidurep.integrations.transformers_auto"]
"""


def run(code, *words, **environment):
    command = [sys.executable, "-c", code, *map(str, words)]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_auto_classes_know_the_models_after_the_import(order):
    finished = run("\n".join(order) + USE, TETRODE)
    assert "not know" not in finished.stderr


def test_pipeline_sorts_as_the_package_does(tetrode_recording):
    from transformers import pipeline

    recording, _ = tetrode_recording
    sorter = pipeline("spike-sorting", model=str(TETRODE), min_unit_spikes=20)
    result = sorter(recording)
    expected = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", min_unit_spikes=20)(recording)
    assert result.parameters == expected.parameters and result.parameters.max_dimensions == 12  # beside the weights
    assert np.array_equal(result.sorting.to_spike_vector(), expected.sorting.to_spike_vector())
    assert sorter(recording, num_units=2).parameters.num_units == 2
    with pytest.raises(TypeError, match="num_wings"):
        sorter(recording, num_wings=2)


REMOTE = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("huidurep", "spikeinterface", "typer"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from transformers import AutoConfig, AutoModel

folder, again, waveforms = sys.argv[1:]
waveforms = np.load(waveforms)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert type(config).__name__ == "HuiduRepConfig" and type(model).__module__.startswith("transformers_modules.")
np.save(folder + "/found.npy", model.embed(waveforms, sampling_frequency=24000.0))
model.save_pretrained(again)
other = AutoModel.from_pretrained(again, trust_remote_code=True)
assert all((weights == other.state_dict()[name]).all() for name, weights in model.state_dict().items())
try:
    model.adapt(waveforms)
except ImportError as error:
    assert "install huidurep" in str(error)
else:
    raise AssertionError("adapt needs the package")
"""


def test_a_published_folder_opens_without_the_package(tmp_path):
    folder, model = tmp_path / "published-1.0", HuiduRep.from_pretrained("tetrode")
    model.save_pretrained(folder)
    before = {path.name for path in folder.iterdir()}
    add_code(folder)
    code = {path.name for path in folder.iterdir()} - before
    assert code >= {"configuration_huidurep.py", "modeling_huidurep.py", "inference.py", "hub.py"}
    assert "modeling_pretraining.py" not in code
    waveforms = np.random.default_rng(0).normal(0, 30, (6, 70, 5)).astype("float32")
    np.save(tmp_path / "waveforms.npy", waveforms)
    words = folder, tmp_path / "again", tmp_path / "waveforms.npy"
    run(REMOTE, *words, HF_MODULES_CACHE=str(tmp_path / "modules"))
    expected = model.embed(waveforms, sampling_frequency=24000.0)
    assert np.abs(np.load(folder / "found.npy") - expected).max() < 1e-6
    # Whoever has the package opens it as any other, and passes the code on with the rest.
    ours = HuiduRep.from_pretrained(folder)
    assert type(ours) is HuiduRep
    ours.save_pretrained(tmp_path / "passed on")
    assert code <= {path.name for path in (tmp_path / "passed on").iterdir()}


def test_a_tampered_published_folder_is_refused_without_the_package(tmp_path, monkeypatch):
    """The code in the folder checks the weights as the package does."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    HuiduRep(HuiduRepConfig(hidden_size=16, num_hidden_layers=1)).save_pretrained(tmp_path / "small")
    add_code(tmp_path / "small")
    settings = json.loads((tmp_path / "small" / "config.json").read_text())
    (tmp_path / "small" / "config.json").write_text(json.dumps(settings | {"scale_uv": 5.0}))
    reference = AUTO_MAPS["HuiduRep"]["AutoModel"]
    cls = dynamic_module_utils.get_class_from_dynamic_module(reference, str(tmp_path / "small"))
    assert cls is not HuiduRep
    with pytest.raises(ValueError, match="not loaded as they were saved"):
        cls.from_pretrained(tmp_path / "small")


@pytest.mark.parametrize("cls", [HuiduRep, HuiduRepForPreTraining])
def test_code_names_all_it_needs_once(cls, tmp_path):
    """transformers 5.0 copies only the files that the entry itself names; what is named must be there."""
    from transformers.dynamic_module_utils import get_relative_imports

    cls(HuiduRepConfig(hidden_size=16, num_hidden_layers=1)).save_pretrained(tmp_path)
    add_code(tmp_path)
    first = {path.name: path.read_text() for path in tmp_path.glob("*.py")}
    add_code(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.py")} == first
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert auto_map == AUTO_MAPS[cls.__name__]
    needed = {f"{name}.py" for path in tmp_path.glob("*.py") for name in get_relative_imports(path)}
    assert needed <= first.keys()
    entry = auto_map.get("AutoModelForPreTraining", auto_map["AutoModel"]).split(".")[0]
    named = {f"{name}.py" for name in get_relative_imports(tmp_path / f"{entry}.py")}
    assert named | {f"{entry}.py"} == first.keys()


def test_a_class_of_the_users_own_is_published_without_code(tmp_path):
    """Its code is not ours, and ours would open as another model."""

    class Own(HuiduRep):
        pass

    model = Own(HuiduRepConfig(hidden_size=16, num_hidden_layers=1))
    model.config.auto_map = {"AutoModel": "own.Own"}
    model.save_pretrained(tmp_path)
    add_code(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {"AutoModel": "own.Own"}


def test_embedded_checkpoints_hold_no_code():
    for folder in huidurep.list_checkpoints().values():
        assert not list(Path(folder).glob("*.py"))
        assert "auto_map" not in json.loads((folder / "config.json").read_text())
