"""`finetune`, the part without recordings: banks of a lab's own spikes -> an encoder trained on them, and its proof."""

import copy
import logging
import random
from contextlib import contextmanager

import numpy as np
import torch

from ..simulation.templates import draw_templates
from ..training.dataset import TemplateBank
from ..training.views import ViewMaker, ViewRecipe
from .template_resampling import LabViewMaker, MixedViewMaker, lab_recipe, make_lab_banks

logger = logging.getLogger(__name__)
METHODS = ("resampling", "self-supervised")
SIMULATED_WINDOWS, SIMULATED_UNITS = 3, 64
MIN_UNITS_TO_HOLD_OUT, HELD_OUT_SHARE = 8, 0.2
DEFAULT_TRAINING = {
    "per_device_train_batch_size": 64,
    "learning_rate": 5e-4,
    "weight_decay": 1e-4,
    "lr_scheduler_type": "cosine",
    "max_grad_norm": 1.0,
    "logging_steps": 20,
}


def hold_out_units(windows, seed):
    """Choose the units that are not trained on.

    Parameters
    ----------
    windows : list of LabWindow
    seed : int

    Returns
    -------
    trained, held_out : set of (int, object)
        (recording, unit id). A fifth of the units, at least two, is held out where there are 8 or more; else none.
    """
    units = sorted({(window.recording, unit_id) for window in windows for unit_id in window.unit_ids}, key=repr)
    count = max(2, round(HELD_OUT_SHARE * len(units))) if len(units) >= MIN_UNITS_TO_HOLD_OUT else 0
    chosen = np.random.default_rng(seed).permutation(len(units))[:count]
    held_out = {units[index] for index in chosen}
    return set(units) - held_out, held_out


def make_maker(windows, config, *, units, method, simulated_share, seed):
    """Make what draws the batches of a fine-tuning.

    Parameters
    ----------
    windows : list of LabWindow
    config : HuiduRepConfig
    units : set of (int, object)
        (recording, unit id) of those that may be trained on.
    method : {"resampling", "self-supervised"}
        New spikes of known units, or two distortions of each of the recording's spikes.
    simulated_share : float
        Share of imagined recordings whose units are simulated on the same contacts.
    seed : int

    Returns
    -------
    MixedViewMaker
    """
    plain = method == "self-supervised"
    banks = make_lab_banks(windows, config, units=units, single_spikes=plain, seed=seed)
    changes = dict(same_spike=True, gain_jitter=0.0) if plain else {}
    lab = LabViewMaker(banks, config, lab_recipe(windows, **changes))
    simulated = None
    if simulated_share > 0:
        reels = [reel for bank in banks for reel in bank.reels]
        made = simulate_banks([each.positions_um for each in windows], config, seed, num_units=SIMULATED_UNITS)
        recipe = ViewRecipe(same_spike=plain, missing_probability=0.0)
        simulated = ViewMaker(made, config, recipe, noise_reels=reels) if made else None
    return MixedViewMaker(lab, simulated, simulated_share)


def simulate_banks(layouts, config, seed, *, num_units):
    """Simulate units around contacts, so that what the encoder knows of others is not forgotten.

    Parameters
    ----------
    layouts : list of ndarray (num_channels, 2)
        Contacts of each window, um; of those that are alike one is taken, of the others some.
    config : HuiduRepConfig
    seed : int
    num_units : int
        In each bank.

    Returns
    -------
    list of TemplateBank
        Without contacts around which no unit was found.
    """
    rng, banks = np.random.default_rng(seed), []
    different = {np.round(places - places[:1], 1).tobytes(): places - places[:1] for places in layouts}
    for places in list(different.values())[:SIMULATED_WINDOWS]:
        try:
            units = draw_templates(
                rng, places, num_units, num_views=4, sampling_frequency=float(config.sampling_frequency)
            )
        except ValueError as error:
            logger.warning("no simulated units on %d contacts: %s", len(places), error)
            continue
        odd = units.waveforms.shape[2] % 2  # the grid of frequencies of filters is the transform's for an even number
        waveforms = np.pad(units.waveforms, ((0, 0), (0, 0), (0, odd), (0, 0)))
        banks.append(TemplateBank(waveforms, places, units.peak_index, units.sampling_frequency))
    return banks


def train(model, maker, work_folder, *, steps, seed, **training):
    """Train a copy of an encoder as in the pretraining: prototypes and denoising.

    Parameters
    ----------
    model : HuiduRep
        Stays as it is.
    maker : MixedViewMaker
    work_folder : str or Path
        Of the Trainer, which writes nothing of use there.
    steps, seed : int
    **training
        Settings of transformers.TrainingArguments other than ``DEFAULT_TRAINING``.

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
    if not config.prototype_weight:  # a checkpoint of the contrast of pairs has no heads to go on with
        config.prototype_weight, config.contrastive_weight = 1.0, 0.0
    config.contrastive_weight = 0.0
    with _own_random_numbers(seed):
        arguments = TrainingArguments(
            output_dir=str(work_folder),
            max_steps=steps,
            warmup_steps=steps // 10,
            seed=seed,
            save_strategy="no",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            **{"disable_tqdm": True, **DEFAULT_TRAINING, **training},
        )
        whole = HuiduRepForPreTraining(config)
        whole.huidurep.load_state_dict(model.state_dict())
        trainer = HuiduRepTrainer(whole, arguments, maker=maker)
        trainer.remove_callback(PrinterCallback)  # it prints every line of the log
        trainer.train()
    trained = copy.deepcopy(model)
    trained.load_state_dict(trainer.model.huidurep.state_dict())
    return trained.eval(), trainer.state.log_history


@contextmanager
def _own_random_numbers(seed):
    """Transformers' Trainer seeds the global generators: those of the user go on as if nothing had been."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - kept, not drawn from
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
