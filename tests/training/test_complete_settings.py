"""Stored settings hold every default, so that they mean the same when defaults have changed."""

import json
from dataclasses import asdict

import pytest

import huidurep
from huidurep import HuiduRepConfig
from huidurep.cli.inputs import load_settings
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
    assert whole["templates"]["banks"] == {"tetrode": 1} and whole["templates"]["units_per_bank"] == 500
    assert whole["training"]["adam_beta2"] == 0.98 and whole["training"]["weight_decay"] == 1e-4
    assert (
        whole["noise"]["covariances"] is None
        and whole["noise"]["exponent"] == [0.5, 2.0]
        and whole["init_from"] is None
    )


def test_whole_settings_are_taken_back_from_their_file(tmp_path):
    whole = complete_settings(GIVEN)
    assert complete_settings(whole) == whole
    path = tmp_path / "pretraining.json"
    path.write_text(json.dumps(whole, indent=1))
    assert complete_settings(load_settings(path)) == whole


def test_settings_with_the_adapter_of_earlier_versions():
    whole = complete_settings(GIVEN)
    assert complete_settings({**whole, "model": {**whole["model"], "adapter": False}}) == whole
    with pytest.raises(ValueError, match="adapter=false"):
        complete_settings({**whole, "model": {**whole["model"], "adapter": True}})


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


def test_a_run_whose_stored_settings_lack_a_later_one_goes_on(tmp_path):
    """What is left out stands for the default."""
    stored = complete_settings(GIVEN)
    del stored["views"]["gain_jitter"], stored["model"]["spatial_size"], stored["cache_chunk_size"]
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    pretrain_module._claim(tmp_path, complete_settings(GIVEN))
    assert json.loads((tmp_path / "settings.json").read_text()) == complete_settings(GIVEN)
    with pytest.raises(ValueError, match="settings.json"):
        pretrain_module._claim(tmp_path, complete_settings(GIVEN | {"views": {}}))


def as_before_prototypes(settings):
    """Whole settings as they were stored then."""
    old = json.loads(json.dumps(settings))
    for name in ("prototype_weight", "contrastive_weight", "prototype_temperature"):
        del old["model"][name]
    del old["views"]["views_per_unit"]
    return old


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_run_from_before_the_prototype_loss_cannot_go_on(tmp_path, is_whole):
    """It would become a run of another objective on other batches, half way."""
    stored = as_before_prototypes(complete_settings(GIVEN)) if is_whole else GIVEN
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    for settings in (GIVEN, stored):
        with pytest.raises(ValueError, match="model.prototype_weight"):
            pretrain_module._claim(tmp_path, complete_settings(settings))
    assert json.loads((tmp_path / "settings.json").read_text()) == stored


def test_whole_settings_from_before_the_prototype_loss_keep_their_objective():
    old = as_before_prototypes(complete_settings(GIVEN))
    again = complete_settings(old)
    assert (again["model"]["prototype_weight"], again["model"]["contrastive_weight"]) == (0.0, 1.0)
    assert again["views"]["views_per_unit"] == 2 and as_before_prototypes(again) == old
    assert complete_settings(again) == again
    # settings of hand take the defaults, and what is said stands
    assert complete_settings(GIVEN)["model"]["prototype_weight"] == 1.0
    old["model"]["prototype_weight"] = 2.0
    assert complete_settings(old)["model"]["contrastive_weight"] == 0.0


@pytest.mark.parametrize("name", ["base", "linear", "neuropixels-1.0", "neuropixels-2.0", "hd-mea", "single-contact"])
def test_the_command_on_the_card_repeats_the_objective(name):
    path = huidurep.list_checkpoints()[name] / "pretraining.json"
    stored, whole = json.loads(path.read_text()), complete_settings(load_settings(path))
    trained = HuiduRepConfig.from_pretrained(path.parent)
    if "prototype_weight" not in stored["model"]:
        assert whole["model"]["contrastive_weight"] == 1.0 and whole["views"]["views_per_unit"] == 2
        assert trained.contrastive_temperature == whole["model"]["contrastive_temperature"]


def test_removed_ingredients_are_left_out(caplog):
    plain = complete_settings({})
    assert complete_settings({"views": {"flipped_ratio": 0.35, "background_probability": 0.0}}) == plain
    assert not caplog.records
    assert complete_settings({"views": {"flipped_probability": 0.25, "background_size": [1, 4]}}) == plain
    assert "flipped_probability" in caplog.text and "background" not in caplog.text


@pytest.mark.parametrize(
    ("section", "given", "words"),
    [
        ("training", {"max_steps": -1}, "training.max_steps"),
        ("training", {"max_steps": 2.5}, "training.max_steps"),
        ("training", {"per_device_train_batch_size": 7}, "multiple of views.num_recordings=4"),
        ("training", {"gradient_accumulation_steps": 0}, "training.gradient_accumulation_steps"),
        ("training", {"learning_rate": "1e-3"}, "training.learning_rate"),
        ("training", {"max_grad_norm": float("nan")}, "finite numbers, found nan in settings.training.max_grad_norm"),
        ("training", None, "section training"),
        ("templates", {"units_per_bank": 0}, "templates.units_per_bank"),
        ("templates", {"banks": {}}, "at least one template library"),
        ("templates", {"banks": {"tetrode": -1}}, "templates.banks.tetrode"),
        ("templates", {"banks": 3}, "libraries for each type of probe"),
        ("templates", {"drift_um": -1.0}, "templates.drift_um"),
        ("templates", {"cells_share": 2.0}, "templates.cells_share"),
        ("views", {"group_size": 0}, "group_size to be a whole number of at least 1"),
        ("views", {"num_recordings": 0}, "num_recordings to be a whole number"),
        ("views", {"noise_uv": [30.0, 3.0]}, "noise_uv as two numbers above 0, the lower one first"),
        ("views", {"noise_uv": [0.0, 3.0]}, "above 0"),
        ("views", {"low_pass_hz": 5000.0}, "low_pass_hz as two numbers, the lower"),
        ("seed", 1.5, "seed to be a whole number"),
    ],
)
def test_what_would_end_a_run_later_is_refused_at_once(section, given, words):
    with pytest.raises((TypeError, ValueError), match=words):
        complete_settings({section: given})


def test_unknown_settings_of_the_trainer_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"TrainingArguments in training, found \['max_step'\]"):
        pretrain_module.pretrain({"training": {"max_step": 3}}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
