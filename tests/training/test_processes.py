"""Two processes (gloo) compute the losses and gradients of one with the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from template_libraries import SMALL, make_library
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from huidurep import HuiduRepConfig, HuiduRepForPreTraining
from huidurep.training.dataset import ViewDataset
from huidurep.training.trainer import HuiduRepTrainer
from huidurep.training.views import ViewMaker, ViewRecipe

NUM_STEPS, BATCH_SIZE = 4, 8
# No heads: the BatchNorm in them sees the rows of one process.
CASES = {
    "prototypes": dict(objective={}, recipe=dict(num_recordings=2)),
    "batch": dict(objective={}, recipe=dict(num_recordings=1, negatives="batch"), dataloader_num_workers=1),
    "contrast": dict(
        objective=dict(contrastive_weight=0.5, projection_hidden_size=0),
        recipe=dict(num_recordings=4, negatives="batch"),
        gradient_accumulation_steps=2,
    ),
    "cache": dict(objective={}, recipe=dict(num_recordings=2), cache_chunk_size=2),
}


class Gradients(TrainerCallback):
    """Keeps the gradients of every step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        plain = getattr(model, "module", model)
        named = {name: each.grad for name, each in plain.named_parameters() if each.grad is not None}
        self.steps.append({name: gradient.clone() for name, gradient in named.items() if gradient.any()})


def train(case, folder, *, num_processes, resume_from=None):
    """Losses of the log, the gradients of each step, and the weights at the end."""
    case = {"cache_chunk_size": None, **CASES[case]}
    objective, recipe, cache = case.pop("objective"), case.pop("recipe"), case.pop("cache_chunk_size")
    torch.manual_seed(0)
    config = HuiduRepConfig(**{**SMALL, **objective}, hidden_dropout_prob=0.0)
    maker = ViewMaker([make_library(), make_library(seed=1)], config, ViewRecipe(**recipe))
    arguments = TrainingArguments(
        **dict(output_dir=str(folder), use_cpu=True, report_to="none", disable_tqdm=True, seed=3, **case),
        **dict(max_steps=NUM_STEPS, logging_steps=1, save_steps=2, learning_rate=1e-3, max_grad_norm=0.0),
        per_device_train_batch_size=BATCH_SIZE // num_processes,
    )
    gradients = Gradients()
    model = HuiduRepForPreTraining(config)
    trainer = HuiduRepTrainer(model, arguments, maker=maker, cache_chunk_size=cache, callbacks=[gradients])
    trainer.remove_callback(PrinterCallback)
    assert arguments.world_size == num_processes
    trainer.train(resume_from_checkpoint=resume_from)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [{name: entry[name] for name in entry if name.endswith("loss")} for entry in logged]
    return dict(losses=losses, gradients=gradients.steps, weights=model.state_dict())


def main(folder):
    """What each of the two processes does."""
    alone, together = folder / "alone", folder / "together"
    found = {case: train(case, together / case, num_processes=2) for case in CASES}
    found["resumed"] = train(
        "prototypes", together / "resumed", num_processes=2, resume_from=str(alone / "prototypes" / "checkpoint-2")
    )
    if int(os.environ["RANK"]) == 0:
        torch.save(found, folder / "found.pt")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(what one process found, what two found, folder of the runs)."""
    pytest.importorskip("accelerate")
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    folder = tmp_path_factory.mktemp("processes")
    alone = {case: train(case, folder / "alone" / case, num_processes=1) for case in CASES}
    paths = [Path(__file__).parents[2], Path(__file__).parents[1] / "helpers"]
    # What torchrun and `accelerate launch` set. The latter starts several processes without GPUs only by MPI.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE="2")
    place |= dict(PYTHONPATH=os.pathsep.join(map(str, paths)), ACCELERATE_USE_CPU="true")
    command, environment = [sys.executable, __file__, folder], {**os.environ, **place}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr[-6000:]
    return alone, torch.load(folder / "found.pt"), folder


def assert_same(found, expected, first_step=0):
    for one, other in zip(found["losses"], expected["losses"], strict=True):  # a checkpoint has those before it
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one == pytest.approx(other, abs=2e-4)  # the log rounds its parts to four digits
    for one, other in zip(found["gradients"], expected["gradients"][first_step:], strict=True):
        assert one.keys() == other.keys() and "huidurep.reduction.weight" in one
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_one_process(both, case):
    alone, together, _ = both
    assert_same(together[case], alone[case])


def test_a_run_of_one_process_continues_with_two(both):
    alone, together, _ = both
    assert_same(together["resumed"], alone["prototypes"], first_step=2)


def test_a_run_of_two_processes_continues_with_one(both, tmp_path):
    alone, _, folder = both
    start = folder / "together" / "prototypes" / "checkpoint-2"
    assert len(list(start.glob("rng_state_*.pth"))) == 2
    assert json.loads((start / "trainer_state.json").read_text())["global_step"] == 2
    resumed = train("prototypes", tmp_path, num_processes=1, resume_from=str(start))
    assert_same(resumed, alone["prototypes"], first_step=2)


def test_processes_draw_different_batches():
    class Maker:
        def draw(self, num_units, generator):
            return generator.initial_seed()

    def drawn(**options):
        batches = iter(ViewDataset(Maker(), batch_size=2, seed=3, **options))
        return [next(batches) for _ in range(4)]

    whole = drawn()
    pairs = zip(drawn(process=0, num_processes=2), drawn(process=1, num_processes=2), strict=True)
    assert [each for pair in pairs for each in pair][:4] == whole and len(set(whole)) == 4


if __name__ == "__main__":
    other = os.fork()  # after what both import
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if other else "1"
    main(Path(sys.argv[1]))
    if other:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
