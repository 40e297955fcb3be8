"""Stored settings hold every default, so that they mean the same when defaults have changed."""

import json
from dataclasses import asdict

import pytest

from huidurep import HuiduRepConfig
from huidurep.cli import _load_settings
from huidurep.training import pretrain as pretrain_module
from huidurep.training import views
from huidurep.training.pretrain import complete_settings
from huidurep.training.views import ViewRecipe

GIVEN = {
    "seed": 3,
    "model": {"embedding_size": 8, "use_cache": False},
    "templates": {"banks": {"tetrode": 1}},
    "views": {"noise_uv": [1.0, 5.0], "negatives": "batch"},
    "training": {"max_steps": 7, "adam_beta2": 0.98},
}


def test_every_setting_has_its_value():
    whole = complete_settings(GIVEN)
    recipe, config = ViewRecipe(**GIVEN["views"]), HuiduRepConfig(**GIVEN["model"])
    assert ViewRecipe(**whole["views"]) == recipe and whole["views"].keys() == asdict(recipe).keys()
    ours = {name for name in vars(HuiduRepConfig(embedding_size=8)) if name in HuiduRepConfig.__init__.__kwdefaults__}
    assert whole["model"].keys() == ours | {"use_cache"} and "momentum" in ours and len(ours) > 25
    assert HuiduRepConfig(**whole["model"]).to_dict() == config.to_dict()
    assert whole["model"]["embedding_size"] == 8 and whole["model"]["conv_strides"] == [3, 3]
    assert whole["templates"]["banks"] == {"tetrode": 1} and whole["templates"]["units_per_bank"] == 400
    assert whole["training"]["adam_beta2"] == 0.98 and whole["training"]["weight_decay"] == 1e-4
    assert whole["noise"] == {"covariances": None} and whole["init_from"] is None


def test_whole_settings_are_taken_back_from_their_file(tmp_path):
    whole = complete_settings(GIVEN)
    assert complete_settings(whole) == whole
    path = tmp_path / "pretraining.json"
    path.write_text(json.dumps(whole, indent=1))
    assert complete_settings(_load_settings(path)) == whole


def test_a_later_default_does_not_change_what_was_stored(monkeypatch):
    whole = complete_settings(GIVEN)

    def other_recipe(**given):
        return ViewRecipe(**({"gain_jitter": 0.5} | given))

    monkeypatch.setattr(views, "ViewRecipe", other_recipe)
    monkeypatch.setitem(HuiduRepConfig.__init__.__kwdefaults__, "momentum", 0.5)
    monkeypatch.setitem(pretrain_module.DEFAULT_SETTINGS["templates"], "drift_um", 99.0)
    changed = complete_settings(GIVEN)
    assert changed["views"]["gain_jitter"] == changed["model"]["momentum"] == 0.5
    assert complete_settings(whole) == whole


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """Its settings.json holds only what was given: what is left out stands for the defaults."""
    (tmp_path / "settings.json").write_text(json.dumps(GIVEN))
    pretrain_module._claim(tmp_path, complete_settings(GIVEN))
    assert json.loads((tmp_path / "settings.json").read_text()) == complete_settings(GIVEN)
    with pytest.raises(ValueError, match="found others: use another output folder"):
        pretrain_module._claim(tmp_path, complete_settings(GIVEN | {"views": {}}))
