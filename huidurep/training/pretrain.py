"""`huidurep pretrain`: simulated units -> template banks -> a trained checkpoint folder, from one settings file."""

import json
import logging
from pathlib import Path

import numpy as np
import torch

logger = logging.getLogger(__name__)

DEFAULT_SETTINGS = {
    "seed": 0,
    "model": {},
    "templates": {
        "num_banks": 16,
        "units_per_bank": 400,
        "num_views": 4,
        "spikeinterface_share": 0.4,
        "drift_um": 8.0,
        "spacing_um": [10.0, 30.0],
    },
    "views": {},
    "training": {
        "max_steps": 3000,
        "per_device_train_batch_size": 512,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "warmup_steps": 100,
        "lr_scheduler_type": "cosine",
        "save_steps": 100,
        "logging_steps": 20,
        "max_grad_norm": 1.0,
    },
}


def pretrain(settings, output_dir):
    """Pretrain an encoder on simulated units, resuming where an earlier run with the same folder stopped.

    Parameters
    ----------
    settings : dict
        Sections as in ``DEFAULT_SETTINGS``, whose values hold where one is left out: ``model`` (HuiduRepConfig),
        ``templates``, ``views`` (ViewRecipe), ``training`` (transformers.TrainingArguments) and ``seed``.
    output_dir : str or Path
        Gets the encoder (config.json, model.safetensors, fingerprint), ``pretraining.json`` with the settings (another
        run can start from it) and ``run/`` with template banks, resumable checkpoints and the loss curve.

    Returns
    -------
    Path
        `output_dir`.

    Raises
    ------
    ValueError
        If a section or a setting is unknown, or the folder holds a run with other settings.
    """
    from transformers import TrainingArguments, set_seed
    from transformers.trainer_utils import get_last_checkpoint

    from ..configuration_huidurep import HuiduRepConfig
    from ..modeling_pretraining import HuiduRepForPreTraining
    from .trainer import HuiduRepTrainer
    from .views import ViewMaker, ViewRecipe

    settings, output_dir = _complete(settings), Path(output_dir)
    run = output_dir / "run"
    config, recipe = HuiduRepConfig(**settings["model"]), ViewRecipe(**settings["views"])
    fixed = dict(save_total_limit=2, report_to=[], use_cpu=not torch.cuda.is_available())
    arguments = TrainingArguments(output_dir=str(run), seed=settings["seed"], **fixed, **settings["training"])
    _claim(run, settings)
    maker = ViewMaker(_banks(run, settings), config, recipe)
    set_seed(settings["seed"])
    trainer = HuiduRepTrainer(HuiduRepForPreTraining(config), arguments, maker=maker)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run)))
    encoder = trainer.model.huidurep.eval()
    encoder.save_pretrained(output_dir)
    trainer.save_state()
    (output_dir / "pretraining.json").write_text(json.dumps(settings, indent=1) + "\n")
    return output_dir


def _complete(settings):
    """Defaults with the given settings over them; unknown sections and template settings raise."""
    unknown = sorted(set(settings) - set(DEFAULT_SETTINGS))
    unknown += sorted(set(settings.get("templates", {})) - set(DEFAULT_SETTINGS["templates"]))
    if unknown:
        raise ValueError(
            f"expected the sections {sorted(DEFAULT_SETTINGS)}, found {unknown}: correct the settings file."
        )
    complete = {}
    for name, default in DEFAULT_SETTINGS.items():
        complete[name] = (
            {**default, **settings.get(name, {})} if isinstance(default, dict) else settings.get(name, default)
        )
    return complete


def _claim(run, settings):
    """A run folder belongs to one set of settings: resuming with others would mix two runs."""
    stored = run / "settings.json"
    if stored.exists() and json.loads(stored.read_text()) != json.loads(json.dumps(settings)):
        raise ValueError(f"expected the settings stored in {stored}, found others: use another output folder.")
    run.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(settings, indent=1))


def _banks(run, settings):
    """Template banks, made once and kept in the run folder."""
    from ..simulation.templates import draw_templates
    from .dataset import TemplateBank, load_banks, save_banks

    path = run / "templates.npz"
    if path.exists():
        return load_banks(path)
    wanted, banks = settings["templates"], []
    rng = np.random.default_rng(settings["seed"])
    for number in range(wanted["num_banks"]):
        source = "spikeinterface" if number < wanted["spikeinterface_share"] * wanted["num_banks"] else "cells"
        positions = draw_tetrode(rng, wanted["spacing_um"])
        logger.info("template bank %d of %d: %s", number + 1, wanted["num_banks"], source)
        units = draw_templates(
            rng,
            positions,
            wanted["units_per_bank"],
            num_views=wanted["num_views"],
            drift_um=wanted["drift_um"],
            source=source,
        )
        banks.append(TemplateBank(units.waveforms, units.positions, units.peak_index, units.sampling_frequency))
    save_banks(banks, path)
    return load_banks(path)  # as a resumed run reads them: the file is rounded to 16 bits


def draw_tetrode(rng, spacing_um):
    """Draw the contacts of a tetrode: mostly a square turned by some angle, at times a row.

    Parameters
    ----------
    rng : numpy.random.Generator
    spacing_um : tuple of float
        Smallest and largest distance of neighbours.

    Returns
    -------
    ndarray (4, 2)
        um, each contact about 1 um off its place.
    """
    spacing = rng.uniform(*spacing_um)
    if rng.random() < 0.25:
        positions = spacing * np.array([(0, 0), (0, 1), (0, 2), (0, 3)], float)
    else:
        positions = spacing * np.array([(0, 0), (1, 0), (0, 1), (1, 1)], float)
        angle = rng.uniform(0, np.pi / 2)
        positions = positions @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return positions + rng.normal(size=positions.shape)
