"""HuiduRepTrainer: transformers' Trainer with a momentum branch, data made on the fly and a gradient cache."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..models.modeling_pretraining import LOSSES
from .dataset import BatchMaker, ViewDataset
from .gradient_cache import backward_in_chunks
from .processes import SharedLoader, num_processes, shared_losses

if TYPE_CHECKING:
    from ..models.modeling_pretraining import HuiduRepForPreTraining

logger = logging.getLogger(__name__)


class MomentumCallback(TrainerCallback):
    """Updates the momentum branch after every optimizer step."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Update the momentum branch of `model` if the contrastive loss uses it."""
        plain = getattr(model, "module", model)
        if plain.config.contrastive_weight > 0:
            plain.update_momentum()


class ResumeCallback(TrainerCallback):
    """Makes a resumed run do and log the same as an uninterrupted one."""

    def __init__(self) -> None:
        self.dataset: ViewDataset

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the first batch of the data: Trainer makes the dataset before it reads where an earlier run stopped."""
        self.dataset.first_batch = state.global_step * args.gradient_accumulation_steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log whenever a checkpoint is saved: the sums of the log are not stored in it."""
        state.epoch = state.global_step / state.max_steps  # Trainer counts from where this process began
        control.should_log = control.should_log or control.should_save


class WaitClock:
    """Share of the time that is spent waiting for data: since the last reading, and in all."""

    def __init__(self) -> None:
        self.began = self.read_at = time.perf_counter()
        self.waited = self.waited_before = 0.0

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.waited += time.perf_counter() - self._entered

    def read(self) -> float:
        """Share (0 to 1) of the time since the last reading."""
        now, waited = time.perf_counter(), self.waited
        share = (waited - self.waited_before) / max(now - self.read_at, 1e-9)
        self.read_at, self.waited_before = now, waited
        return share

    @property
    def total(self) -> float:
        """Share (0 to 1) of the time since the clock was made."""
        return self.waited / max(time.perf_counter() - self.began, 1e-9)


class HuiduRepTrainer(Trainer):
    """Trains :class:`huidurep.HuiduRepForPreTraining` on batches drawn by a ViewMaker.

    Runs wherever transformers' Trainer does: on a CPU, on one GPU, or on several under ``accelerate launch``, where
    the processes share every batch: losses and gradients are those of one process with the whole batch, but for the
    BatchNorm of the contrastive loss's heads and for dropout. A resumed run, also one on another number of processes,
    has the same losses as one that was not interrupted. ``data_wait_share`` in the log is the share of the time since
    the last entry that was spent waiting for data; more ``dataloader_num_workers`` reduce it.

    Parameters
    ----------
    model : HuiduRepForPreTraining
    args : transformers.TrainingArguments
        ``per_device_train_batch_size`` is the number of units in a batch, of several processes the share of each;
        ``max_steps`` must be given, because the data are endless.
    maker : ViewMaker
    cache_chunk_size : int, optional
        Maximum number of units in a forward pass, for batches that do not fit into memory; see
        :func:`huidurep.training.gradient_cache.backward_in_chunks`. By default the whole batch is one pass.
    **kwargs
        As in ``transformers.Trainer``.

    Raises
    ------
    ValueError
        If ``max_steps`` is not positive or `cache_chunk_size` is smaller than 2.
    """

    def __init__(
        self,
        model: HuiduRepForPreTraining,
        args: TrainingArguments,
        *,
        maker: BatchMaker,
        cache_chunk_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        if args.max_steps < 1:
            raise ValueError(f"expected max_steps >= 1, found {args.max_steps}: set it, because the data are endless.")
        if cache_chunk_size is not None and cache_chunk_size < 2:
            raise ValueError(f"expected a cache_chunk_size of at least 2 units, found {cache_chunk_size}: increase it.")
        args.remove_unused_columns = False
        # Batches are numbered: a resumed run starts at its number, instead of drawing and dropping the earlier batches.
        args.ignore_data_skip = True
        super().__init__(model, args, train_dataset=ViewDataset(maker, batch_size=1, seed=args.seed), **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch
        self.maker, self.cache_chunk_size = maker, cache_chunk_size
        self._resume = ResumeCallback()
        self.add_callback(self._resume)
        self.add_callback(MomentumCallback())
        self._parts: list[dict[str, Tensor]] = []
        self._clock = WaitClock()

    def get_train_dataloader(self) -> DataLoader:
        """Batches, from the one with which training begins; of several processes the rows of this one."""
        args = self.args
        self._resume.dataset = ViewDataset(
            self.maker,
            batch_size=args.train_batch_size * args.world_size,
            seed=args.seed,
            process=args.process_index,
            num_processes=args.world_size,
        )
        self._parts, self._clock = [], WaitClock()
        return SharedLoader(
            self._resume.dataset,
            batch_size=None,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
            # Otherwise the loader draws from the global generator, and dropout differs after a resumption.
            generator=torch.Generator().manual_seed(args.seed),
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch batches as Trainer does; this is the time spent waiting for data."""
        with self._clock:
            return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Run a step as Trainer does, or chunk by chunk with the gradient cache."""
        if self.cache_chunk_size is None:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        num_batches = self.current_gradient_accumulation_steps
        losses = backward_in_chunks(
            model,
            self._prepare_inputs(inputs),
            chunk_size=self.cache_chunk_size,
            backward=lambda loss: self.accelerator.backward(loss / num_batches),
            no_sync=functools.partial(self.accelerator.no_sync, model),
        )
        self._note(losses)
        return losses["loss"] / num_batches

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Loss of a batch; its parts are logged."""
        output = model(**inputs, return_dict=True)
        if num_processes() > 1:
            plain: Any = getattr(model, "module", model)
            output = shared_losses(plain.config, output, inputs, plain.huidurep)
        self._note(output)
        return (output["loss"], output) if return_outputs else output["loss"]

    def prediction_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch as Trainer does; one of a single unit, which has no other to differ from, does not count."""
        if len(inputs["view_1"]) == 1:
            return None, None, None
        return super().prediction_step(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log also the losses that have a weight and the time spent waiting for data, as means over all processes."""
        if "loss" in logs and self._parts:
            names = [name for name in LOSSES if name in self._parts[0]]
            means = [torch.stack([part[name] for part in self._parts]).mean().item() for name in names]
            values = self._mean([*means, self._clock.read()])
            logs = {**logs, **dict(zip((*names, "data_wait_share"), values, strict=True))}
            self._parts = []
        elif "train_runtime" in logs:
            (share,) = self._mean([self._clock.total])
            logs = {**logs, "data_wait_share": share}
            if self.is_world_process_zero():
                logger.info("training: %.0f s, %.1f %% of it waiting for data", logs["train_runtime"], 100 * share)
        super().log(logs, *args, **kwargs)

    def _note(self, losses: Any) -> None:
        """Keep the parts of the loss on the device: reading them would synchronise it."""
        self._parts.append({name: losses[name].detach().float().mean() for name in LOSSES if name in losses})

    def _mean(self, values: Sequence[float]) -> list[float]:
        """Mean of numbers over all processes, rounded."""
        reduced = self.accelerator.reduce(torch.tensor(values, device=self.args.device), reduction="mean")
        return [round(value, 4) for value in reduced.tolist()]
