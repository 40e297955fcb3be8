"""`huidurep pretrain`: simulated units -> template libraries -> a trained checkpoint folder, from one settings file."""

from __future__ import annotations

import inspect
import json
import logging
import math
import shutil
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from ..output_files import new_file
from .noise import NoiseSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from ..models.configuration_huidurep import HuiduRepConfig
    from ..models.modeling_pretraining import HuiduRepForPreTraining
    from .dataset import BatchMaker

logger = logging.getLogger(__name__)

# Settings that were stored before the prototype loss lack these: the loss was the contrastive one of pairs.
BEFORE_PROTOTYPES: dict[str, dict[str, Any]] = {
    "model": {"prototype_weight": 0.0, "contrastive_weight": 1.0},
    "views": {"views_per_unit": 2},
}

# Of the settings beside embedded checkpoints, what changed nothing that was measured, and was removed.
REMOVED_VIEWS = (
    "flipped_probability",
    "flipped_ratio",
    "background_probability",
    "background_rate_hz",
    "background_units",
    "background_size",
)

WHOLE_TRAINING = ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps")

DEFAULT_SETTINGS: dict[str, Any] = {
    "seed": 0,
    "model": {},
    "init_from": None,
    "cache_chunk_size": None,
    # "bank": a template library. The names are those of the settings files beside published checkpoints.
    "templates": {
        "banks": {
            "tetrode": 20,
            "linear": 12,
            "neuropixels-1.0": 12,
            "neuropixels-2.0": 12,
            "hd-mea": 12,
            "single-contact": 12,
            "staggered": 12,
        },
        "units_per_bank": 500,
        "fewer_contacts": {"single-contact": 0.5},
        "num_views": 6,
        "drift_um": 8.0,
        "spikeinterface_share": 0.35,
        "real": None,
        "real_share": 0.2,
        "cells": None,
        "cells_share": 0.4,
        "reuse": None,
    },
    "noise": {"covariances": None, **asdict(NoiseSettings())},
    "views": {},
    "training": {
        "max_steps": 4000,
        "per_device_train_batch_size": 128,
        "learning_rate": 3e-3,
        "weight_decay": 1e-4,
        "warmup_steps": 150,
        "lr_scheduler_type": "cosine",
        "save_steps": 250,
        "logging_steps": 20,
        "max_grad_norm": 1.0,
        "save_total_limit": 2,
        "report_to": [],
    },
}


def pretrain(settings: dict[str, Any], output_dir: str | Path) -> Path:
    """Pretrain an encoder on simulated units, resuming where an earlier run with the same folder stopped.

    Parameters
    ----------
    settings : dict
        Sections as in ``DEFAULT_SETTINGS``, which has the default of each setting: ``model`` (HuiduRepConfig),
        ``init_from`` (folder of a HuiduRepForPreTraining to start from, as ``OUTPUT/pretraining`` of another run),
        ``cache_chunk_size`` (see :class:`huidurep.training.trainer.HuiduRepTrainer`),
        ``templates`` (see :func:`huidurep.training.template_libraries.make_libraries`), ``noise`` (``covariances``:
        folder for MeasuredNoise; NoiseSettings), ``views`` (ViewRecipe), ``training`` (transformers.TrainingArguments;
        ``per_device_train_batch_size`` is the number of units in a batch, which the processes of ``accelerate launch``
        share) and ``seed``.
    output_dir : str or Path
        Folder for the encoder (config.json, model.safetensors, fingerprint), ``pretraining.json`` with all settings,
        ``training.json`` (see :func:`huidurep.training.provenance.write_training_facts`), ``pretraining/`` with the
        momentum branch and the heads, from which another run can start, and ``run/`` with template libraries,
        resumable checkpoints and the loss curve.

    Returns
    -------
    Path
        `output_dir`.

    Raises
    ------
    ValueError
        A section or a setting is unknown, or the folder holds a run with other settings or one of an older version, or
        the processes cannot share a batch.
    """
    from transformers import set_seed

    from ..models.configuration_huidurep import HuiduRepConfig
    from .noise import MeasuredNoise
    from .provenance import SessionClock, write_training_facts
    from .template_libraries import make_libraries
    from .trainer import HuiduRepTrainer
    from .views import ViewMaker, ViewRecipe

    settings, output_dir = complete_settings(settings), Path(output_dir)
    run, noise = output_dir / "run", dict(settings["noise"])
    config, recipe = HuiduRepConfig(**settings["model"]), ViewRecipe(**settings["views"])
    covariances = noise.pop("covariances")
    arguments = _training_arguments(settings, run)
    with arguments.main_process_first(local=False):
        _claim(run, settings)
        last = last_whole_checkpoint(run)
        libraries = make_libraries(run / "templates.npz", settings["templates"], settings["seed"])
    measured = None if covariances is None else MeasuredNoise(covariances)
    maker = ViewMaker(libraries, config, recipe, measured, noise_settings=NoiseSettings(**noise))
    set_seed(settings["seed"])
    options: dict[str, Any] = dict(cache_chunk_size=settings["cache_chunk_size"], callbacks=[SessionClock()])
    model = _initial_model(config, settings["init_from"], maker, settings["training"]["per_device_train_batch_size"])
    trainer = HuiduRepTrainer(model, arguments, maker=maker, **options)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    trainer.save_state()
    if trainer.is_world_process_zero():
        _save(trainer.model, settings, output_dir)
        write_training_facts(output_dir)
    return output_dir


def _training_arguments(settings: dict[str, Any], run: Path) -> TrainingArguments:
    """Settings of transformers' Trainer, of several processes with the share of each in a batch."""
    from transformers import TrainingArguments

    fixed = dict(output_dir=str(run), seed=settings["seed"], use_cpu=not torch.cuda.is_available())
    unknown = sorted(settings["training"].keys() - {each.name for each in fields(TrainingArguments)})
    if unknown:
        raise TypeError(
            f"expected settings of transformers.TrainingArguments in training, found {unknown}: correct their names."
        )
    arguments = TrainingArguments(**{**settings["training"], **fixed})
    arguments.per_device_train_batch_size = _share_of_batch(arguments.per_device_train_batch_size, arguments.world_size)
    return arguments


def _share_of_batch(batch_size: int, num_processes: int) -> int:
    """Units of a batch that each of the processes computes."""
    share, rest = divmod(batch_size, num_processes)
    if rest:
        raise ValueError(
            f"expected a per_device_train_batch_size that {num_processes} processes can share, found {batch_size}: "
            "start another number of processes."
        )
    return share


def _save(trained: Any, settings: dict[str, Any], output_dir: Path) -> None:
    """Write the encoder, the whole model for further training, and all settings."""
    trained.eval()
    if not trained.config.contrastive_weight:
        # The momentum branch was not updated: a later run with the contrastive loss starts from a copy of the encoder.
        trained.update_momentum(0.0)
    trained.huidurep.save_pretrained(output_dir)
    trained.save_pretrained(output_dir / "pretraining")
    (output_dir / "pretraining.json").write_text(json.dumps(settings, indent=1) + "\n")


def _initial_model(
    config: HuiduRepConfig, init_from: str | None, maker: BatchMaker, num_units: int
) -> HuiduRepForPreTraining:
    """A new model, with the weights of another run of the same architecture if `init_from` names one.

    A new one's linear axes are fitted to batches of `num_units` units.
    """
    from ..models.modeling_pretraining import HuiduRepForPreTraining
    from .linear_axes import fit_linear_axes

    model = HuiduRepForPreTraining(config)
    if init_from is None:
        if config.linear_size:
            fit_linear_axes(model.huidurep, maker, num_units=num_units)
        return model
    # Loaded with the configuration that it was saved with: the fingerprint is valid for that one only.
    weights = HuiduRepForPreTraining.from_pretrained(init_from).state_dict()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"expected weights in init_from={init_from} of the architecture that `model` describes, found others "
            f"({error}): give `model` the settings of that run's config.json."
        ) from error
    return model


def complete_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in the default of every setting, so that stored settings keep their meaning when defaults change.

    Complete settings that were stored before the prototype loss existed, as beside embedded checkpoints, keep the
    contrastive loss of pairs alone. Ingredients that were removed since are left out, with a warning.

    Parameters
    ----------
    settings : dict
        As for :func:`pretrain`, which also accepts the settings that are returned here.

    Returns
    -------
    dict
        JSON types only: all sections of ``DEFAULT_SETTINGS``, ``model`` and ``views`` with every setting of
        HuiduRepConfig and ViewRecipe. ``training`` has those of ``DEFAULT_SETTINGS`` and those given.

    Raises
    ------
    ValueError, TypeError
        If a section or a setting is unknown or impossible.
    """
    from ..models.configuration_huidurep import HuiduRepConfig
    from .views import ViewRecipe

    _check_sections(settings)
    unknown = sorted(set(settings) - set(DEFAULT_SETTINGS))
    for section in ("templates", "noise"):
        unknown += sorted(set(settings.get(section, {})) - set(DEFAULT_SETTINGS[section]))
    if unknown:
        raise ValueError(
            f"expected the sections {sorted(DEFAULT_SETTINGS)}, found {unknown}: correct the settings file."
        )
    complete: dict[str, Any] = {}
    settings = _with_older_objective(settings)
    for name, default in DEFAULT_SETTINGS.items():
        complete[name] = (
            {**default, **settings.get(name, {})} if isinstance(default, dict) else settings.get(name, default)
        )
    config, names = HuiduRepConfig(**complete["model"]), inspect.signature(HuiduRepConfig.__init__).parameters.values()
    own = {each.name: getattr(config, each.name) for each in names if each.kind is inspect.Parameter.KEYWORD_ONLY}
    complete["model"] = {**own, **complete["model"]}
    complete["model"].pop("adapter", None)  # of earlier versions
    complete["views"] = asdict(ViewRecipe(**_without_removed(complete["views"])))
    _check_values(complete)
    return json.loads(json.dumps(complete))


def _check_sections(settings: Any) -> None:
    """Refuse settings and sections without names, and numbers that are none."""
    if not isinstance(settings, dict):
        raise TypeError(f"expected settings as names and values, found {type(settings).__name__}: give a dict.")
    for name, default in DEFAULT_SETTINGS.items():
        found = settings.get(name, default)
        if isinstance(default, dict) and not isinstance(found, dict):
            raise TypeError(f"expected names and values in the section {name}, found {found!r}: correct it.")
    pending = [("settings", settings)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict | list | tuple):
            each_named = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [(f"{name}.{key}", each) for key, each in each_named]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"expected finite numbers, found {value} in {name}: correct it.")


def _check_values(complete: dict[str, Any]) -> None:
    """Refuse now what would end a run after its templates are simulated, or teach it nothing."""
    training, templates = complete["training"], complete["templates"]
    banks = templates["banks"]
    if not isinstance(banks, dict):
        raise TypeError(
            f"expected the number of libraries for each type of probe in banks, found {banks!r}: correct it."
        )
    whole = {f"training.{name}": (training.get(name, 1), 1) for name in WHOLE_TRAINING}
    whole |= {f"templates.{name}": (templates[name], 1) for name in ("units_per_bank", "num_views")}
    whole |= {f"templates.banks.{name}": (number, 0) for name, number in banks.items()} | {
        "seed": (complete["seed"], 0)
    }
    for name, (value, lowest) in whole.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise ValueError(f"expected {name} to be a whole number from {lowest} on, found {value!r}: correct it.")
    if not sum(banks.values()):
        raise ValueError(f"expected at least one template library in templates.banks, found {banks}: add one.")
    shares = {name: value for name, value in templates.items() if name.endswith("_share")}
    ranges = {f"templates.{name}": (value, 1.0) for name, value in shares.items()}
    ranges |= {"templates.drift_um": (templates["drift_um"], math.inf)}
    ranges |= {"training.learning_rate": (training["learning_rate"], math.inf)}
    for name, (value, highest) in ranges.items():
        if not isinstance(value, int | float) or not 0 <= value <= highest:
            raise ValueError(f"expected {name} to be a number from 0 to {highest:g}, found {value!r}: correct it.")
    num_units, num_recordings = training["per_device_train_batch_size"], complete["views"]["num_recordings"]
    if num_units % num_recordings:
        raise ValueError(
            f"expected training.per_device_train_batch_size to be a multiple of views.num_recordings={num_recordings}, "
            f"found {num_units}: change one of them."
        )


def _with_older_objective(settings: dict[str, Any]) -> dict[str, Any]:
    """Complete settings from before the prototype loss, with the values that its absence stands for."""
    sections = {name: settings.get(name, {}) for name in BEFORE_PROTOTYPES}
    if any(new.keys() & sections[name].keys() for name, new in BEFORE_PROTOTYPES.items()):
        return settings
    if not {"conv_final_activation", "initializer_range", "layer_norm_eps"} <= sections["model"].keys():
        return settings  # written by hand: complete_settings would have named them all
    return {**settings, **{name: {**sections[name], **new} for name, new in BEFORE_PROTOTYPES.items()}}


def _without_removed(views: dict[str, Any]) -> dict[str, Any]:
    """Settings of views without ingredients of earlier versions, of which the log tells where they were used."""
    used = [name for name in REMOVED_VIEWS if name.endswith("probability") and views.get(name)]
    if used:
        logger.warning("left out %s: earlier versions had these distortions, which changed nothing", ", ".join(used))
    return {name: value for name, value in views.items() if name not in REMOVED_VIEWS}


def _claim(run: Path, settings: dict[str, Any]) -> None:
    """Refuse a run folder that was made with other settings: resuming would mix two runs."""
    stored = run / "settings.json"
    if stored.exists():
        kept = json.loads(stored.read_text())
        if "prototype_weight" not in kept.get("model", {}):
            raise ValueError(
                f"expected settings with model.prototype_weight in {stored}, found those of an older version, whose "
                "objective and batches were others: use another output folder, or finish the run with that version."
            )
        # Settings of an older version lack those that were added later.
        if complete_settings(kept) != settings:
            raise ValueError(f"expected the settings stored in {stored}, found others: use another output folder.")
    run.mkdir(parents=True, exist_ok=True)
    with new_file(stored, overwrite=True) as partial:
        partial.write_text(json.dumps(settings, indent=1))


def is_interrupted(output_dir: Path) -> bool:
    """Whether a folder holds an interrupted run, perhaps one that ended before its settings were written.

    Parameters
    ----------
    output_dir : Path

    Returns
    -------
    bool
    """
    run = output_dir / "run"
    if (run / "settings.json").is_file():
        return True
    only_run = run.is_dir() and [each.name for each in output_dir.iterdir()] == ["run"]
    return only_run and all(each.name.startswith(".settings.json.") for each in run.iterdir())


def last_whole_checkpoint(run: Path) -> Path | None:
    """Newest resumable checkpoint of a run; incomplete ones, of a run that was killed while it wrote, are removed.

    Parameters
    ----------
    run : Path
        Output folder of the Trainer.

    Returns
    -------
    Path or None
    """
    numbers = {path: path.name.removeprefix("checkpoint-") for path in run.glob("checkpoint-*") if path.is_dir()}
    checkpoints = sorted((path for path in numbers if numbers[path].isdigit()), key=lambda path: int(numbers[path]))
    while checkpoints:
        last = checkpoints.pop()
        if _is_whole(last):
            return last
        logger.warning("%s is incomplete: it is removed, and the run continues from the checkpoint before it", last)
        shutil.rmtree(last, ignore_errors=True)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Whether all files of a checkpoint can be read; Trainer writes trainer_state.json last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf8"))
        with safe_open(checkpoint / "model.safetensors", "pt") as weights:  # compares its size with the header
            names = list(weights.keys())
        pickled = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]
        return bool(names) and len(pickled) > 2 and all(zipfile.is_zipfile(path) for path in pickled)
    except Exception:  # missing or truncated; safetensors has an error class of its own
        return False
