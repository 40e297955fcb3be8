"""The trainer: resumption, waiting for data, half precision, gradient cache."""

import json
import logging
import time

import pytest
import torch
from template_libraries import SMALL, make_library
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from huidurep import HuiduRepConfig, HuiduRepForPreTraining
from huidurep.training.trainer import HuiduRepTrainer
from huidurep.training.views import ViewMaker, ViewRecipe

DROPOUT = 0.1  # with it the global generator must go on where it stopped
# Clocks differ from run to run.
CLOCKS = ("data_wait_share", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class SlowMaker:
    """Views that take their time."""

    def __init__(self, maker, seconds):
        self.maker, self.seconds = maker, seconds

    def draw(self, num_units, generator):
        time.sleep(self.seconds)
        return self.maker.draw(num_units, generator)


PROTOTYPES, BOTH = dict(), dict(contrastive_weight=0.5)


def make_trainer(folder, *, seconds=0.0, cache_chunk_size=None, dropout=DROPOUT, objective=BOTH, **settings):
    torch.manual_seed(0)
    config = HuiduRepConfig(**SMALL, hidden_dropout_prob=dropout, **objective)
    maker = ViewMaker([make_library(), make_library(seed=1)], config, ViewRecipe(num_recordings=2, group_size=4))
    defaults = dict(max_steps=6, per_device_train_batch_size=8, logging_steps=4, save_steps=2, learning_rate=1e-2)
    fixed = dict(output_dir=str(folder), use_cpu=True, report_to="none", disable_tqdm=True, seed=3)
    arguments = TrainingArguments(**fixed, **{**defaults, **settings})
    model = HuiduRepForPreTraining(config)
    maker = SlowMaker(maker, seconds) if seconds else maker
    trainer = HuiduRepTrainer(model, arguments, maker=maker, cache_chunk_size=cache_chunk_size)
    trainer.remove_callback(PrinterCallback)
    return trainer


def test_a_last_evaluation_batch_of_one_unit_does_not_count(tmp_path):
    views = 30 * torch.randn(9, 2, 90, 4, generator=torch.Generator().manual_seed(0))
    units = [dict(view_1=view_1, view_2=view_2) for view_1, view_2 in views]
    trainer = make_trainer(tmp_path, per_device_eval_batch_size=8)
    whole, with_one_more = (trainer.evaluate(units[:count])["eval_loss"] for count in (8, 9))
    assert with_one_more == whole > 0


def curve(trainer):
    """Every entry of the log without the clocks; the closing one is about the process, not the curve."""
    kept = [{name: value for name, value in entry.items() if name not in CLOCKS} for entry in trainer.state.log_history]
    return [entry for entry in kept if "loss" in entry]


def assert_same_state(first, second):
    first, second = first.model.state_dict(), second.model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    trainer = make_trainer(tmp_path_factory.mktemp("whole"))
    trainer.train()
    return trainer


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_run_has_the_same_curve_to_the_last_bit(whole, tmp_path, step, num_workers):
    # The first run had no workers: batches are numbered, whoever draws them.
    resumed = make_trainer(tmp_path, dataloader_num_workers=num_workers)
    torch.rand(7)  # nothing may hang on the generator of the process
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-{step}")
    assert [entry["step"] for entry in curve(whole)] == [2, 4, 6]
    assert curve(resumed) == curve(whole)
    assert_same_state(resumed, whole)


def test_resumption_with_gradient_accumulation_and_cache(tmp_path):
    settings = dict(gradient_accumulation_steps=2, cache_chunk_size=4, max_steps=4)
    first = make_trainer(tmp_path / "first", **settings)
    first.train()
    second = make_trainer(tmp_path / "second", **settings)
    second.train(resume_from_checkpoint=f"{first.args.output_dir}/checkpoint-2")
    assert curve(second) == curve(first)
    assert_same_state(second, first)


@pytest.mark.parametrize("cache_chunk_size", [None, 4])
def test_losses_without_weight_are_not_logged_and_the_momentum_branch_rests(tmp_path, cache_chunk_size):
    settings = dict(max_steps=2, logging_steps=1, save_strategy="no", cache_chunk_size=cache_chunk_size)
    trainer = make_trainer(tmp_path, objective=PROTOTYPES, **settings)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    weight = trainer.model.config.reconstruction_weight
    for entry in curve(trainer):
        assert "contrastive_loss" not in entry
        total = entry["prototype_loss"] + weight * entry["reconstruction_loss"]
        assert entry["loss"] == pytest.approx(total, abs=1e-3)
    for name, tensor in trainer.model.state_dict().items():
        rests = name.startswith(("momentum_", "projection", "predictor"))
        assert not rests or torch.equal(tensor, before[name]), name
    assert not torch.equal(trainer.model.huidurep.reduction.weight, before["huidurep.reduction.weight"])


def test_every_loss_with_weight_is_logged(whole):
    for entry in curve(whole):
        compared = entry["prototype_loss"] + 0.5 * entry["contrastive_loss"]
        total = compared + whole.model.config.reconstruction_weight * entry["reconstruction_loss"]
        assert entry["loss"] == pytest.approx(total, abs=1e-3)


def test_momentum_branch_and_running_statistics_come_back(whole, tmp_path):
    resumed = make_trainer(tmp_path, max_steps=6)
    fresh = {name: tensor.clone() for name, tensor in resumed.model.state_dict().items()}
    resumed._load_from_checkpoint(f"{whole.args.output_dir}/checkpoint-6")
    loaded, trained = resumed.model.state_dict(), whole.model.state_dict()
    for name in ("momentum_reduction.weight", "projection.1.running_var", "momentum_projection.1.running_mean"):
        assert torch.equal(loaded[name], trained[name]) and not torch.equal(loaded[name], fresh[name])


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_share_of_waiting_is_logged(tmp_path, caplog, seconds):
    trainer = make_trainer(tmp_path, seconds=seconds, max_steps=4, logging_steps=2, save_strategy="no")
    with caplog.at_level(logging.INFO, logger="huidurep"):
        trainer.train()
    first, second, closing = (entry["data_wait_share"] for entry in trainer.state.log_history)
    assert all(0 < share < 1 for share in (first, second, closing))
    assert second > 0.5 if seconds else second < 0.9
    assert closing == pytest.approx((first + second) / 2, abs=0.3)
    assert "waiting for data" in caplog.text
    json.dumps(trainer.state.log_history)


def test_workers_take_the_waiting_away(tmp_path):
    settings = dict(seconds=0.05, max_steps=8, logging_steps=4, save_strategy="no", dataloader_num_workers=2)
    trainer = make_trainer(tmp_path, **settings)
    compute = trainer.compute_loss
    trainer.compute_loss = lambda *args, **kwargs: (time.sleep(0.1), compute(*args, **kwargs))[1]
    trainer.train()
    assert trainer.state.log_history[1]["data_wait_share"] < 0.3


@pytest.mark.parametrize("cache_chunk_size", [None, 8])
def test_bf16_runs_on_a_cpu(tmp_path, cache_chunk_size):
    settings = dict(max_steps=2, logging_steps=1, save_strategy="no", cache_chunk_size=cache_chunk_size)
    settings |= dict(dropout=0.0, per_device_train_batch_size=16)  # dropout drops others in half precision
    trainers = [make_trainer(tmp_path / str(bf16), bf16=bf16, **settings) for bf16 in (True, False)]
    seen = set()
    reduction = trainers[0].model.huidurep.reduction
    reduction.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    for trainer in trainers:
        trainer.train()
    assert seen == {torch.bfloat16}
    half, full = (curve(trainer)[0] for trainer in trainers)
    assert half["loss"] == pytest.approx(full["loss"], rel=0.1)  # first step: the same weights and batch
    state = trainers[0].model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}


def test_cache_needs_two_units(tmp_path):
    with pytest.raises(ValueError, match="cache_chunk_size.*2"):
        make_trainer(tmp_path, cache_chunk_size=1)


def test_the_end_must_be_known(tmp_path):
    with pytest.raises(ValueError, match="max_steps"):
        make_trainer(tmp_path, max_steps=-1)
