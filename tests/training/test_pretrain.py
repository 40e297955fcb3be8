import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from huidurep import HuiduRep
from huidurep.training.pretrain import draw_tetrode, pretrain

SETTINGS = {
    "seed": 5,
    "model": dict(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        embedding_size=8,
        projection_hidden_size=16,
        projection_size=8,
    ),
    "templates": dict(num_banks=2, units_per_bank=10, num_views=2, spikeinterface_share=0.5),
    "views": dict(num_recordings=2, group_size=4),
    "training": dict(
        max_steps=4, per_device_train_batch_size=8, save_steps=2, logging_steps=1, warmup_steps=1, disable_tqdm=True
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain") / "out"
    assert pretrain(SETTINGS, folder) == folder
    return folder


def test_result_opens_as_an_encoder(finished):
    model = HuiduRep.from_pretrained(finished)
    assert model.config.embedding_size == 8
    waveforms = np.random.default_rng(0).normal(0, 50, (3, 90, 4)).astype("float32")
    assert model.embed(waveforms, peak_index=30).shape == (3, 8)
    assert (finished / "fingerprint.safetensors").is_file()


def test_settings_are_kept_whole_and_can_be_used_again(finished, tmp_path):
    stored = json.loads((finished / "pretraining.json").read_text())
    assert stored["templates"]["num_banks"] == 2 and stored["training"]["weight_decay"] == 1e-4
    # the same weights from the stored settings, in a fresh folder
    again = pretrain(stored, tmp_path / "again")
    assert_same_weights(finished, again)


def assert_same_weights(first, second):
    first, second = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_loss_curve_is_kept(finished):
    history = json.loads((finished / "run" / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    for entry in steps:
        assert entry["loss"] == pytest.approx(entry["contrastive_loss"] + 0.15 * entry["reconstruction_loss"], abs=1e-3)


def test_an_interrupted_run_ends_with_the_same_weights(finished, tmp_path, caplog):
    resumed = tmp_path / "resumed"
    shutil.copytree(finished, resumed)
    shutil.rmtree(resumed / "run" / "checkpoint-4")
    for name in ("model.safetensors", "config.json", "fingerprint.safetensors", "pretraining.json"):
        (resumed / name).unlink()
    with caplog.at_level(logging.INFO, logger="huidurep"):
        pretrain(SETTINGS, resumed)
    assert "template bank" not in caplog.text  # those of the first run are used
    assert_same_weights(finished, resumed)


def test_training_changes_the_weights_and_the_momentum_branch_follows(finished):
    before, after = (load_file(finished / "run" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4))
    for name in ("huidurep.reduction.weight", "momentum_reduction.weight"):
        assert not torch.equal(before[name], after[name])
    moved = [(after[name] - before[name]).norm() for name in ("huidurep.reduction.weight", "momentum_reduction.weight")]
    assert moved[1] < 0.2 * moved[0]


def test_other_settings_need_another_folder(finished):
    with pytest.raises(ValueError, match="found others: use another output folder"):
        pretrain({**SETTINGS, "seed": 6}, finished)


@pytest.mark.parametrize("settings", [{"modle": {}}, {"templates": {"num_bank": 3}}])
def test_unknown_settings_raise(settings, tmp_path):
    with pytest.raises(ValueError, match="expected the sections .*found"):
        pretrain(settings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_model_setting_raises_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="unknown settings"):
        pretrain({"model": {"hiden_size": 16}}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_tetrodes_are_drawn_in_the_range_asked():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positions = draw_tetrode(rng, (10.0, 30.0))
        distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
        assert positions.shape == (4, 2)
        assert 4 < distance[distance > 0].min() < 36
