import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from template_libraries import SMALL

from huidurep import HuiduRep
from huidurep.provenance import current_commit
from huidurep.training.pretrain import _share_of_batch, is_interrupted, last_whole_checkpoint, pretrain
from huidurep.training.provenance import write_training_facts

SETTINGS = {
    "seed": 5,
    "model": SMALL,
    "templates": dict(banks={"tetrode": 1, "linear": 1}, units_per_bank=8, num_views=2, spikeinterface_share=1.0),
    "views": dict(num_recordings=2, group_size=4),
    "training": dict(
        max_steps=4, per_device_train_batch_size=8, save_steps=2, logging_steps=1, warmup_steps=1, disable_tqdm=True
    ),
}


CONTRAST = {"model": SMALL | dict(prototype_weight=0.0, contrastive_weight=1.0), "views": {"views_per_unit": 2}}
BRANCHES = ("embeddings", "encoder", "reduction")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain") / "out"
    assert pretrain(SETTINGS, folder) == folder
    return folder


@pytest.fixture(scope="module")
def contrasted(finished, tmp_path_factory):
    """A run of the paper's objective that starts where another one stopped."""
    folder = tmp_path_factory.mktemp("contrast") / "out"
    templates = SETTINGS["templates"] | {"reuse": str(finished / "run/templates.npz")}
    starts = dict(templates=templates, init_from=str(finished / "pretraining"))
    return pretrain(SETTINGS | CONTRAST | starts | {"views": SETTINGS["views"] | CONTRAST["views"]}, folder)


def test_result_opens_as_an_encoder(finished):
    model = HuiduRep.from_pretrained(finished)
    assert model.config.embedding_size == 8 and model.config.channel_mixing == "position"
    for num_channels in (4, 12):
        waveforms = np.random.default_rng(0).normal(0, 50, (3, 90, num_channels)).astype("float32")
        assert model.embed(waveforms, peak_index=30).shape == (3, 8)
    assert (finished / "fingerprint.safetensors").is_file()


def test_settings_are_kept_whole_and_can_be_used_again(finished, tmp_path):
    stored = json.loads((finished / "pretraining.json").read_text())
    assert stored["templates"]["banks"] == {"tetrode": 1, "linear": 1} and stored["training"]["weight_decay"] == 1e-4
    # the same weights from the stored settings, in a fresh folder
    again = pretrain(stored, tmp_path / "again")
    assert_same_weights(finished, again)


def assert_same_weights(first, second):
    first, second = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("run", "compared"), [("finished", "prototype_loss"), ("contrasted", "contrastive_loss")], ids=str
)
def test_loss_curve_is_kept(run, compared, request):
    folder = request.getfixturevalue(run)
    history = json.loads((folder / "run" / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    weight = json.loads((folder / "config.json").read_text())["reconstruction_weight"]
    for entry in steps:
        assert {name for name in entry if name.endswith("_loss")} == {compared, "reconstruction_loss"}
        assert entry["loss"] == pytest.approx(entry[compared] + weight * entry["reconstruction_loss"], abs=1e-3)


def test_an_interrupted_run_ends_with_the_same_weights(finished, tmp_path, caplog):
    resumed = tmp_path / "resumed"
    shutil.copytree(finished, resumed)
    shutil.rmtree(resumed / "run" / "checkpoint-4")
    for name in ("model.safetensors", "config.json", "fingerprint.safetensors", "pretraining.json", "training.json"):
        (resumed / name).unlink()
    first_session = resumed / "run" / "checkpoint-2" / "trainer_state.json"
    state = json.loads(first_session.read_text())
    state["log_history"][-1] |= dict(training_seconds=3600.0, commit="earlier")
    first_session.write_text(json.dumps(state))
    with caplog.at_level(logging.INFO, logger="huidurep"):
        pretrain(SETTINGS, resumed)
    assert "template library" not in caplog.text  # those of the first run are used
    assert_same_weights(finished, resumed)
    # both sessions count
    facts = json.loads((resumed / "training.json").read_text())
    assert 60 <= facts["minutes"] < 65 and "earlier" in facts["commit"].split(", ")


@pytest.mark.parametrize("run", ["finished", "contrasted"])
def test_facts_hold_the_losses_that_there_were(run, request):
    folder = request.getfixturevalue(run)
    facts = json.loads((folder / "training.json").read_text())
    last = [e for e in json.loads((folder / "run/trainer_state.json").read_text())["log_history"] if "loss" in e][-1]
    for name in ("prototype_loss", "contrastive_loss", "reconstruction_loss"):
        assert facts.get(name) == last.get(name)


def test_facts_of_a_run_that_noted_less(tmp_path):
    """Such as those of older versions; what it did not note can be given."""
    with pytest.raises(FileNotFoundError, match="trainer_state.json"):
        write_training_facts(tmp_path)
    (tmp_path / "run").mkdir()
    entries = [dict(step=step, loss=1.0, contrastive_loss=0.9, reconstruction_loss=0.02) for step in (20, 50)]
    state = dict(log_history=[*entries, dict(step=50, train_runtime=251.0)])
    (tmp_path / "run" / "trainer_state.json").write_text(json.dumps(state))
    facts = write_training_facts(tmp_path, commit="abc", command="huidurep pretrain")
    assert (facts["minutes"], facts["loss_steps"], facts["commit"]) == (4.2, 30, "abc")
    assert json.loads((tmp_path / "training.json").read_text()) == facts
    assert write_training_facts(tmp_path)["commit"] is None
    (tmp_path / "run" / "trainer_state.json").write_text('{"log_history": []}')
    with pytest.raises(ValueError, match="losses"):
        write_training_facts(tmp_path)


def test_facts_of_the_run_stand_beside_the_weights(finished):
    facts = json.loads((finished / "training.json").read_text())
    history = json.loads((finished / "run" / "trainer_state.json").read_text())["log_history"]
    last = [entry for entry in history if "loss" in entry][-1]
    assert facts["prototype_loss"] == last["prototype_loss"] and facts["loss_steps"] == 1
    assert facts["minutes"] == round(history[-1]["training_seconds"] / 60, 1)
    assert facts["commit"] == current_commit() and facts["versions"]["torch"] == torch.__version__
    assert facts["machine"] and facts["command"]


def test_without_contrast_the_momentum_branch_is_saved_as_a_copy(finished):
    """So that contrast can start from it."""
    saved = load_file(finished / "pretraining" / "model.safetensors")
    for name in BRANCHES:
        copies = [key for key in saved if key.startswith(f"momentum_{name}.")]
        assert copies
        for key in copies:
            assert torch.equal(saved[key], saved[key.replace("momentum_", "huidurep.")]), key
    during = load_file(finished / "run" / "checkpoint-4" / "model.safetensors")
    assert not torch.equal(during["momentum_reduction.weight"], saved["momentum_reduction.weight"])


def test_training_changes_the_weights_and_the_momentum_branch_follows(contrasted):
    before, after = (load_file(contrasted / "run" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4))
    for name in ("huidurep.reduction.weight", "momentum_reduction.weight"):
        assert not torch.equal(before[name], after[name])
    moved = [(after[name] - before[name]).norm() for name in ("huidurep.reduction.weight", "momentum_reduction.weight")]
    assert moved[1] < 0.2 * moved[0]


def test_processes_share_a_batch():
    assert _share_of_batch(128, 2) == 64
    with pytest.raises(ValueError, match="3 processes.*128"):
        _share_of_batch(128, 3)


def test_other_settings_need_another_folder(finished):
    with pytest.raises(ValueError, match="settings.json"):
        pretrain({**SETTINGS, "seed": 6}, finished)


@pytest.mark.parametrize(
    "settings",
    [{"modle": {}}, {"templates": {"num_banks": 3}}, {"noise": {"covariance": "folder"}}, {"init": "folder"}],
)
def test_unknown_settings_raise(settings, tmp_path):
    name = [*settings.values()][0] if isinstance([*settings.values()][0], dict) else {}
    wrong = next(iter(name), next(iter(settings)))
    with pytest.raises(ValueError, match=wrong):
        pretrain(settings, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": {"hiden_size": 16}}, "hiden_size"),
        ({"views": {"noise_level": 3}}, "noise_level"),
        ({"training": {"max_step": 3}}, "max_step"),
    ],
)
def test_unknown_settings_of_a_section_raise_before_anything_is_written(settings, match, tmp_path):
    with pytest.raises(TypeError, match=match):
        pretrain(settings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_type_of_probe_raises(tmp_path):
    with pytest.raises(ValueError, match="octrode"):
        pretrain(SETTINGS | {"templates": {"banks": {"octrode": 1}}}, tmp_path)


def test_a_run_may_start_from_another_one(finished, tmp_path):
    """As the checkpoint of one type of probe does from the base, with as many channels as such a probe has."""
    settings = SETTINGS | {
        "model": SETTINGS["model"] | {"num_channels": 8, "contrastive_temperature": 0.2},
        "init_from": str(finished / "pretraining"),
        "templates": SETTINGS["templates"] | {"banks": {"linear": 1}, "reuse": str(finished / "run/templates.npz")},
        "training": SETTINGS["training"] | {"max_steps": 2, "learning_rate": 1e-6, "save_steps": 2},
    }
    settings["model"]["momentum"] = 0.5
    started = pretrain(settings, tmp_path / "started")
    first, second = (load_file(folder / "pretraining" / "model.safetensors") for folder in (finished, started))
    assert first.keys() == second.keys()
    trained = [name for name in first if name.startswith("huidurep.")]
    assert max((first[name] - second[name]).abs().max() for name in trained) < 1e-4
    assert not torch.equal(first["huidurep.reduction.weight"], second["huidurep.reduction.weight"])
    config = HuiduRep.from_pretrained(started).config
    assert config.num_channels == 8 and config.contrastive_temperature == 0.2 and config.momentum == 0.5


def test_weights_of_another_architecture_are_no_start(finished, tmp_path):
    model = SETTINGS["model"] | {"embedding_size": 6}
    settings = SETTINGS | {"model": model, "init_from": str(finished / "pretraining")}
    settings["templates"] = SETTINGS["templates"] | {"reuse": str(finished / "run/templates.npz")}
    with pytest.raises(ValueError, match="init_from"):
        pretrain(settings, tmp_path / "other")


def test_noise_that_was_measured_can_be_used(finished, tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    np.save(folder / "spatial_cov.npy", np.eye(24) + 0.2)
    np.save(folder / "temporal_cov.npy", np.eye(21))
    settings = SETTINGS | {
        "templates": SETTINGS["templates"] | {"reuse": str(finished / "run/templates.npz")},
        "noise": {"covariances": str(folder)},
        "views": SETTINGS["views"] | {"measured_noise_probability": 1.0},
        "training": SETTINGS["training"] | {"max_steps": 2, "save_steps": 2},
    }
    with_noise = pretrain(settings, tmp_path / "with")
    without = pretrain(settings | {"noise": {}}, tmp_path / "without")
    weights = [load_file(each / "model.safetensors")["reduction.weight"] for each in (with_noise, without)]
    assert not torch.equal(*weights)
    with pytest.raises(FileNotFoundError, match="noise.covariances"):
        pretrain(settings | {"noise": {"covariances": str(tmp_path)}}, tmp_path / "none")


@pytest.mark.parametrize(
    "damage",
    [
        lambda last: [path.unlink() for path in last.iterdir()],
        lambda last: (last / "trainer_state.json").unlink(),
        lambda last: (last / "trainer_state.json").write_text('{"epoch"'),
        lambda last: (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:-9]),
        lambda last: (last / "optimizer.pt").write_bytes((last / "optimizer.pt").read_bytes()[:-99]),
    ],
    ids=["empty", "no state", "half a state", "truncated weights", "truncated optimizer"],
)
def test_incomplete_checkpoint_is_passed_over(finished, tmp_path, caplog, damage):
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    damage(run / "checkpoint-4")
    (run / "checkpoint-best").mkdir()
    with caplog.at_level(logging.WARNING, logger="huidurep"):
        assert last_whole_checkpoint(run) == run / "checkpoint-2"
    assert "checkpoint-4 is incomplete" in caplog.text
    assert not (run / "checkpoint-4").exists() and (run / "checkpoint-best").is_dir()


def test_killed_run_gives_the_same_weights(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    for path in (tmp_path / "run/checkpoint-4").glob("*.pt"):
        path.unlink()
    pretrain(SETTINGS, tmp_path)
    found, expected = load_file(tmp_path / "model.safetensors"), load_file(finished / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_run_that_ended_before_its_settings_is_interrupted(tmp_path):
    assert not is_interrupted(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.settings.json.0123.partial.json").touch()
    assert is_interrupted(tmp_path)
    (tmp_path / "thesis.tex").touch()
    assert not is_interrupted(tmp_path)
    (tmp_path / "run/settings.json").touch()
    assert is_interrupted(tmp_path)
