"""The training of `finetune`: libraries of resampled and simulated templates -> an encoder trained on their spikes."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..simulation.templates import draw_templates
from ..training.dataset import BatchMaker, TemplateLibrary
from ..training.views import ViewMaker, ViewRecipe
from .settings import DEFAULT_SETTINGS, FinetuningSettings, TrainingSettings
from .template_resampling import (
    MixedViewMaker,
    RecordedViewMaker,
    RecordingWindow,
    UnitKey,
    make_recorded_libraries,
    measure_recipe,
)

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig
    from ..models.modeling_huidurep import HuiduRep
    from .labelled_spikes import LabelledSpikeMaker

logger = logging.getLogger(__name__)
TRAINING = DEFAULT_SETTINGS.training
# Settings that transformers.TrainingArguments has under the same name
TRAINER_FIELDS = ("learning_rate", "weight_decay", "max_grad_norm", "lr_scheduler_type", "logging_steps")


def hold_out_units(
    windows: Sequence[RecordingWindow], seed: int, settings: TrainingSettings = TRAINING
) -> tuple[set[UnitKey], set[UnitKey]]:
    """Choose the units that are not trained on.

    Parameters
    ----------
    windows : list of RecordingWindow
    seed : int
    settings : TrainingSettings, optional

    Returns
    -------
    trained, held_out : set of (int, object)
        (recording, unit id). A fifth of the units, at least two, is held out if there are 8 or more; otherwise none.
    """
    units = sorted({(window.recording, unit_id) for window in windows for unit_id in window.unit_ids}, key=repr)
    can_hold_out = len(units) >= settings.min_units_to_hold_out
    count = max(2, round(settings.held_out_share * len(units))) if can_hold_out else 0
    chosen = np.random.default_rng(seed).permutation(len(units))[:count]
    held_out = {units[index] for index in chosen}
    return set(units) - held_out, held_out


def make_maker(
    windows: Sequence[RecordingWindow],
    config: HuiduRepConfig,
    *,
    units: set[UnitKey],
    seed: int,
    settings: FinetuningSettings = DEFAULT_SETTINGS,
) -> MixedViewMaker:
    """Make the object that draws the batches of a fine-tuning.

    Parameters
    ----------
    windows : list of RecordingWindow
    config : HuiduRepConfig
    units : set of (int, object)
        (recording, unit id) of the units that are trained on.
    seed : int
    settings : FinetuningSettings, optional

    Returns
    -------
    MixedViewMaker
    """
    libraries = make_recorded_libraries(windows, config, units=units, settings=settings.resampling)
    recorded = RecordedViewMaker(libraries, config, measure_recipe(windows, settings.resampling))
    segments = [segment for library in libraries for segment in library.noise_segments]
    layouts = [each.positions_um for each in windows]
    return add_simulated(recorded, layouts, config, seed=seed, settings=settings.training, noise_segments=segments)


def add_simulated(
    recorded: ViewMaker | LabelledSpikeMaker,
    layouts: Sequence[np.ndarray],
    config: HuiduRepConfig,
    *,
    seed: int,
    settings: TrainingSettings = TRAINING,
    noise_segments: Sequence[Tensor] = (),
) -> MixedViewMaker:
    """Mix spikes of the user's recordings with those of units that are simulated on the same contacts.

    Parameters
    ----------
    recorded : ViewMaker or LabelledSpikeMaker
        Draws the user's spikes.
    layouts : list of ndarray (num_channels, 2)
        Contacts, um.
    config : HuiduRepConfig
    seed : int
    settings : TrainingSettings, optional
    noise_segments : list of torch.Tensor (num_samples, num_channels), optional
        Noise of the recordings, uV.

    Returns
    -------
    MixedViewMaker
    """
    simulated = None
    if settings.simulated_share > 0:
        made = simulate_libraries(layouts, config, seed, settings)
        recipe = ViewRecipe(missing_probability=0.0)
        simulated = ViewMaker(made, config, recipe, noise_segments=noise_segments) if made else None
    return MixedViewMaker(recorded, simulated, settings.simulated_share)


def simulate_libraries(
    layouts: Sequence[np.ndarray], config: HuiduRepConfig, seed: int, settings: TrainingSettings = TRAINING
) -> list[TemplateLibrary]:
    """Simulate units around the contacts of the recordings.

    Parameters
    ----------
    layouts : list of ndarray (num_channels, 2)
        Contacts of each window, um. Equal layouts are used once.
    config : HuiduRepConfig
    seed : int
    settings : TrainingSettings, optional

    Returns
    -------
    list of TemplateLibrary
        Without contacts around which no unit was found.
    """
    rng, libraries = np.random.default_rng(seed), []
    different = {np.round(places - places[:1], 1).tobytes(): places - places[:1] for places in layouts}
    for places in list(different.values())[: settings.num_simulated_windows]:
        rate = float(config.sampling_frequency)
        try:
            units = draw_templates(rng, places, settings.num_simulated_units, num_views=4, sampling_frequency=rate)
        except ValueError as error:
            logger.warning("no simulated units on %d contacts: %s", len(places), error)
            continue
        # An even number of samples: the frequency grid of the filters is then that of the transform.
        odd = units.waveforms.shape[2] % 2
        waveforms = np.pad(units.waveforms, ((0, 0), (0, 0), (0, odd), (0, 0)))
        libraries.append(TemplateLibrary(waveforms, places, units.peak_index, units.sampling_frequency))
    return libraries


def train(
    model: HuiduRep,
    maker: BatchMaker,
    work_folder: str | Path,
    *,
    steps: int,
    seed: int,
    progress: bool = False,
    settings: TrainingSettings = TRAINING,
) -> tuple[HuiduRep, list[dict[str, Any]]]:
    """Train a copy of an encoder as in the pretraining, with the prototype and the reconstruction loss.

    Parameters
    ----------
    model : HuiduRep
        Is not changed.
    maker : MixedViewMaker
    work_folder : str or Path
        Working folder of the Trainer.
    steps, seed : int
    progress : bool, default False
        Show a progress bar.
    settings : TrainingSettings, optional

    Returns
    -------
    trained : HuiduRep
        In evaluation mode.
    losses : list of dict
        The trainer's log.
    """
    from transformers import PrinterCallback, TrainingArguments

    from ..models.modeling_pretraining import HuiduRepForPreTraining
    from ..training.trainer import HuiduRepTrainer

    config = copy.deepcopy(model.config)
    # A checkpoint is an encoder without the heads that the contrastive loss needs.
    config.prototype_weight, config.contrastive_weight = config.prototype_weight or 1.0, 0.0
    with _own_random_numbers(seed):
        arguments = TrainingArguments(
            output_dir=str(work_folder),
            max_steps=steps,
            warmup_steps=steps // 10,
            per_device_train_batch_size=settings.batch_size,
            seed=seed,
            save_strategy="no",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=not progress,
            **{name: getattr(settings, name) for name in TRAINER_FIELDS},
        )
        whole = HuiduRepForPreTraining(config)
        whole.huidurep.load_state_dict(model.state_dict())
        trainer = HuiduRepTrainer(whole, arguments, maker=maker)
        trainer.remove_callback(PrinterCallback)  # it prints every entry of the log
        trainer.train()
    trained = copy.deepcopy(model)
    trained.load_state_dict(whole.huidurep.state_dict())
    return trained.eval(), trainer.state.log_history


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Restore the global random generators afterwards: transformers' Trainer seeds them."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - kept, not drawn from
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
