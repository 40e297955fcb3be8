"""Training section of a model card, from pretraining.json and training.json beside the weights."""

import json
from pathlib import Path

from huidurep.training.pretrain import REMOVED_VIEWS
from huidurep.training.template_libraries import source_shares

PROBES_IN_WORDS = {
    "tetrode": "tetrodes",
    "linear": "single columns",
    "neuropixels-1.0": "Neuropixels 1.0",
    "neuropixels-2.0": "Neuropixels 2.0",
    "hd-mea": "dense arrays",
    "single-contact": "single contacts and stereotrodes",
    "staggered": "staggered shanks",
}
# Settings of the views that define the negatives
NEGATIVES_SETTINGS = ("num_recordings", "group_size", "negatives")
LOSSES_IN_WORDS = dict(
    prototype_loss="prototype loss", contrastive_loss="contrastive loss", reconstruction_loss="reconstruction loss"
)
FACTS_REMEDY = "train with this version, or call huidurep.training.provenance.write_training_facts(OUTPUT_DIR)"


def read_json(path, remedy):
    """A JSON file that must be there."""
    if not path.exists():
        raise ValueError(f"expected {path}, found none: {remedy}.")
    return json.loads(path.read_text(encoding="utf8"))


def read_settings(folder):
    """Training settings of a checkpoint, and of the embedded checkpoints its weights started from.

    Parameters
    ----------
    folder : Path
        The checkpoint; others stand beside it.

    Returns
    -------
    dict of str to dict
        Name -> settings, the checkpoint itself first.

    Raises
    ------
    ValueError
        If settings are missing, or a run did not start from an embedded checkpoint.
    """
    chain = {}
    while True:
        settings = read_json(folder / "pretraining.json", "copy it from the folder that `huidurep pretrain` wrote")
        chain[folder.name] = settings
        if settings.get("init_from") is None:
            return chain
        # `init_from` is a checkpoint, or `OUTPUT/pretraining` of another run, whose folder has that checkpoint's name
        place = Path(settings["init_from"])
        start = folder.parent / (place.parent.name if place.name == "pretraining" else place.name)
        if start.name in chain or not (start / "config.json").exists():
            raise ValueError(
                f"expected init_from of {folder.name} in a folder named like an embedded checkpoint, found "
                f"{settings['init_from']!r}: embed that run too, under the name of its folder."
            )
        folder = start


def training_fields(name, folder, shared):
    """Fields of the template that describe the training.

    Parameters
    ----------
    name : str
    folder : Path
        The checkpoint.
    shared : dict
        model_cards/shared.json.

    Returns
    -------
    dict of str to str or list of str
        ``card`` in training.json overrides the generated fields.

    Raises
    ------
    ValueError
        If a file is missing, or the licence does not fit the data.
    """
    facts = read_json(folder / "training.json", FACTS_REMEDY)
    chain, own = read_settings(folder), facts.get("card", {})
    made = dict(
        training_data=lambda: training_data(chain, shared["sources"]),
        training_data_license=lambda: training_data_license(chain, shared),
        command=lambda: f"huidurep pretrain --config huidurep/checkpoints/{name}/pretraining.json --output OUTPUT",
        training_notes=lambda: [
            *objective_notes(chain[name], shared),
            run_sentence(chain[name], facts),
            *start_notes(chain),
        ],
    )
    fields = {field: own[field] if field in own else make() for field, make in made.items()}
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    compute = f"{facts['machine']}; {facts['minutes']:g} minutes; {versions}"
    return fields | dict(commit=commit_text(facts["commit"]), seed=chain[name]["seed"], compute=compute)


def training_data(chain, sources):
    """Description of the training data of a run and of those it started from."""
    texts = []
    for name, settings in chain.items():
        templates = settings["templates"]
        if templates["reuse"] is not None:
            raise ValueError(
                f"expected libraries that the run of {name} made itself, found those of {templates['reuse']!r}: say in "
                "`card` of training.json, as training_data, what they hold."
            )
        banks = {kind: count for kind, count in templates["banks"].items() if count}
        counts = ", ".join(f"{count} for {PROBES_IN_WORDS.get(kind, kind)}" for kind, count in banks.items())
        text = f"{sum(banks.values())} template libraries of {templates['units_per_bank']} units ({counts}), each on"
        text += " contacts of its own; of each probe's libraries, in whole libraries, "
        units = [
            f"{100 * share:.0f} % {sources[source]['data']}"
            for source, share in source_shares(settings["templates"]).items()
        ]
        text += "; ".join(units) + f". {templates['num_views']} views of each unit: one at rest, the others displaced"
        text += f" (standard deviation {templates['drift_um']:g} um along the probe)."
        if settings["noise"]["covariances"] is not None:
            text += f" Noise: {sources['noise']['data']}."
        texts.append(text if not texts else f"Before that, as `{name}`, whose weights it started from: {brief(banks)}.")
    return " ".join(texts)


def brief(banks):
    """Template libraries of a run that another card describes."""
    return (
        f"{sum(banks.values())} libraries for "
        f"{', '.join(PROBES_IN_WORDS.get(kind, kind) for kind in banks)} (see its card)"
    )


def training_data_license(chain, shared):
    """Licences of every source of a run and of those it started from."""
    used = dict.fromkeys(source for settings in chain.values() for source in source_shares(settings["templates"]))
    if any(settings["noise"]["covariances"] is not None for settings in chain.values()):
        used["noise"] = None
    if "detailed" in used and shared["license"] == "apache-2.0":
        raise ValueError(
            "expected settings without detailed cells (`cells`: null) for weights under apache-2.0, found some: give "
            "model_cards the licence that those cells ask for, or train without them."
        )
    texts = [shared["sources"][source]["license"] for source in used]
    return " ".join([*texts, *([] if "detailed" in used else [shared["without_detailed"]])])


def objective_notes(settings, shared):
    """Notes on the losses of a run; stored settings without a prototype weight are of the contrastive loss of pairs."""
    model = settings.get("model", {})
    names = dict(prototype_notes=model.get("prototype_weight", 0), training_notes=model.get("contrastive_weight", 1))
    return [note for name, weight in names.items() if weight for note in shared[name]]


def run_sentence(settings, facts):
    """Steps, batch, learning rate and last losses of a run."""
    training = settings["training"]
    batch = training["per_device_train_batch_size"] * training.get("gradient_accumulation_steps", 1)
    views_per_unit = settings["views"].get("views_per_unit", 2)
    units = "pairs" if views_per_unit == 2 else f"units, {views_per_unit} spikes of each,"
    text = f"{training['max_steps']} steps of {batch} {units} a device, AdamW, learning rate"
    text += f" {training['learning_rate']:g} after {training['warmup_steps']} steps of warm-up, then"
    text += f" {training['lr_scheduler_type']}."
    views = ", ".join(f"`{name}` {settings['views'][name]}" for name in NEGATIVES_SETTINGS if name in settings["views"])
    text += f" Batches: {views}." if views else ""
    losses = [f"{words} {facts[name]:.3f}" for name, words in LOSSES_IN_WORDS.items() if name in facts]
    listed = " and ".join(part for part in (", ".join(losses[:-1]), losses[-1]) if part)
    text += f" {listed[0].upper()}{listed[1:]} over the last {facts['loss_steps']} steps. Every setting is in"
    return text + " `pretraining.json` beside the weights, the run's facts are in `training.json`."


def start_notes(chain):
    """Files that a repetition of the run needs and that are not published."""
    name, *starts = chain
    settings = chain[name]
    if starts and Path(settings["init_from"]).name == starts[0]:
        yield f"The run started from the weights of `{starts[0]}`, with new heads."
    elif starts:
        text = f"The run started from `{settings['init_from']}`: the folder that the run of `{starts[0]}` wrote, with"
        yield text + " momentum branch and heads, which are not embedded. Run that one first."
    files = [settings["templates"]["real"], settings["noise"]["covariances"]]
    files = " and ".join(f"`{file}`" for file in files if file is not None)
    if files:
        yield f"To run it again, put the real data (sources above) at {files}, or name other places: none are shipped."
    removed = [f"`{each}` {settings['views'][each]}" for each in REMOVED_VIEWS if settings["views"].get(each)]
    if removed:
        text = f"It will not give the same weights: {', '.join(removed)} have been removed from the training since,"
        yield text + " and are left out with a warning."


def commit_text(commit):
    """A commit in words, with a remark if files differed from it."""
    if commit is None:
        return "not recorded"
    return commit.replace("+changes", ", with changes in the working tree that were not committed")
