"""HuiduRepTrainer: transformers' Trainer with a momentum branch and data made on the fly."""

import logging

from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from .dataset import PairDataset

logger = logging.getLogger(__name__)


class MomentumCallback(TrainerCallback):
    """Moves the momentum branch after every optimizer step."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Update the momentum branch of `model`."""
        getattr(model, "module", model).update_momentum()


class ResumeCallback(TrainerCallback):
    """Tells the data from which batch to go on: Trainer asks for them before it reads where an earlier run stopped."""

    def __init__(self):
        self.dataset = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Set the first batch of the training data."""
        self.dataset.first_batch = state.global_step * args.gradient_accumulation_steps


class HuiduRepTrainer(Trainer):
    """Trains :class:`huidurep.HuiduRepForPreTraining` on batches drawn by a ViewMaker.

    Parameters
    ----------
    model : HuiduRepForPreTraining
    args : transformers.TrainingArguments
        ``per_device_train_batch_size`` is the number of pairs in a batch; ``max_steps`` must be given, for the data
        never end.
    maker : ViewMaker
    **kwargs
        As in ``transformers.Trainer``.

    Raises
    ------
    ValueError
        If ``max_steps`` is not positive.
    """

    def __init__(self, model, args, *, maker, **kwargs):
        if args.max_steps < 1:
            raise ValueError(
                f"expected max_steps >= 1, found {args.max_steps}: say when to stop, for the data never end."
            )
        args.remove_unused_columns = False
        # Batches are numbered: a resumed run starts at its number instead of drawing and dropping what came before.
        args.ignore_data_skip = True
        super().__init__(model, args, train_dataset=PairDataset(maker, batch_size=1, seed=args.seed), **kwargs)
        self.maker = maker
        self._resume = ResumeCallback()
        self.add_callback(self._resume)
        self.add_callback(MomentumCallback())
        self._parts = {}

    def get_train_dataloader(self):
        """Batches, from the one at which training stands when it begins; every process draws its own."""
        rank, world = self.args.process_index, self.args.world_size
        self._resume.dataset = PairDataset(
            self.maker, batch_size=self.args.per_device_train_batch_size, seed=self.args.seed * world + rank
        )
        return DataLoader(self._resume.dataset, batch_size=None, num_workers=self.args.dataloader_num_workers)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        """Loss of a batch; its two parts go to the log."""
        output = model(**inputs)
        for name in ("contrastive_loss", "reconstruction_loss"):
            self._parts[name] = self._parts.get(name, []) + [float(output[name].detach())]
        return (output.loss, output) if return_outputs else output.loss

    def log(self, logs, *args, **kwargs):
        """Add the mean of both losses since the last log."""
        if "loss" in logs:
            logs = {**logs, **{name: round(sum(v) / len(v), 4) for name, v in self._parts.items() if v}}
            self._parts = {}
        super().log(logs, *args, **kwargs)
