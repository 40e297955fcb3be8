"""The folder that fine-tuning writes: weights, sorting parameters, facts and card; whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

FACTS_FILE = "finetuning.json"
SORTING_FILE = "sorting_parameters.json"
UNKNOWN_LICENCE = "other"


def source_of(model_name, model):
    """What is known of the checkpoint that fine-tuning began with.

    Parameters
    ----------
    model_name : str
    model : HuiduRep

    Returns
    -------
    dict
        ``name``, ``license`` ("other" where no card says it), ``base_model`` for the card (an embedded name or Hub
        repository, or None) and ``sorting_parameters`` (those beside it).
    """
    from ..hub.embedded import list_checkpoints

    place = str(getattr(model.config, "_name_or_path", "") or model_name)
    folder = list_checkpoints().get(model_name, Path(place))
    beside, card = folder / SORTING_FILE, folder / "README.md"
    licence = UNKNOWN_LICENCE
    if card.is_file():
        from huggingface_hub import ModelCard

        licence = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict().get("license") or licence
    is_on_hub = model_name.count("/") == 1 and not Path(model_name).exists()
    return dict(
        name=model_name if folder.is_dir() or is_on_hub else "a model that was given",
        license=licence,
        base_model=model_name if is_on_hub or model_name in list_checkpoints() else None,
        sorting_parameters=json.loads(beside.read_text(encoding="utf8")) if beside.is_file() else {},
    )


def write_checkpoint(folder, model, facts, source):
    """Write everything that a checkpoint has.

    Parameters
    ----------
    folder : Path
    model : HuiduRep
    facts : dict
        For ``finetuning.json``.
    source : dict
        As of :func:`source_of`.
    """
    model.save_pretrained(folder)
    (folder / SORTING_FILE).write_text(json.dumps(source["sorting_parameters"], indent=1) + "\n", encoding="utf8")
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf8")
    (folder / "README.md").write_text(make_card(facts, source), encoding="utf8")


def make_card(facts, source):
    """The model card.

    Parameters
    ----------
    facts, source : dict
        As for :func:`write_checkpoint`.

    Returns
    -------
    str
        Markdown with metadata that huggingface_hub reads.
    """
    from huggingface_hub import ModelCardData

    tags = ["spike-sorting", "neuroscience", "electrophysiology", "extracellular", "fine-tuned"]
    options = dict(base_model=source["base_model"]) if source["base_model"] else {}
    data = ModelCardData(
        license=source["license"],
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=tags,
        **options,
    )
    return "\n".join([f"---\n{data.to_yaml()}\n---\n", *_paragraphs(facts, source)]) + "\n"


def _paragraphs(facts, source):
    """The text of the card."""
    from .embedding_evaluation import DETAILS

    settings, versions_ = facts["settings"], facts["versions"]
    figures = [name for name in facts["before"] if name not in DETAILS]
    return [
        f"# HuiduRep, fine-tuned from {source['name']}\n",
        f"A spike encoder fine-tuned on a lab's own recordings ({settings['method']}). {_outcome(facts, source)}\n",
        "```python\nimport huidurep\n\nsorting = huidurep.sort(recording, model=FOLDER)  # this folder\n```\n",
        "## Trained on\n",
        "| seconds | channels | Hz | units were | units used | spikes |\n|---:|---:|---:|---|---:|---:|",
        *[f"| {_recording_row(each)} |" for each in facts["recordings"]],
        f"\n{settings['steps']} steps, seed {settings['seed']}; {settings['simulated_share']:.0%} of what was drawn is "
        "simulated on the same contacts, so that nothing is forgotten.\n",
        f"Commit {facts['commit'] or 'unknown'}; "
        + ", ".join(f"{each} {versions_[each]}" for each in versions_)
        + ".\n",
        f"Licence of the weights: {source['license']}, that of `{source['name']}`. The recordings are not in here; "
        "their licence is their makers'.\n",
        "## Measured on held-out spikes and time\n",
        "| figure | before | after |\n|---|---:|---:|",
        *[
            f"| {each.replace('_', ' ')} | {facts['before'][each]:.3f} | {facts['after'][each]:.3f} |"
            for each in figures
        ],
        f"\nGain {facts['gain']:+.3f}, tolerance {facts['tolerance']:.3f}; `huidurep.finetuning.embedding_evaluation` "
        f"says how they are made. {settings['held_out_units']} of "
        f"{settings['held_out_units'] + settings['trained_units']} units and the "
        "last quarter of each recording were held out.\n",
        "## Limitations\n",
        "For recordings like these: same probe, same amplifier. Units that were sorted wrongly were learned wrongly.",
    ]


def _outcome(facts, source):
    """What the verdict means, in words."""
    if facts["verdict"] == "better":
        return f"On what was held out it does better than `{source['name']}`."
    found = "no better than" if facts["verdict"] == "same" else "worse than"
    return f"On what was held out the new weights did {found} `{source['name']}`: these are its weights, unchanged."


def _recording_row(each):
    names = ("seconds", "num_channels", "sampling_frequency", "units", "num_units", "num_spikes")
    return " | ".join(f"{each[name]:g}" if isinstance(each[name], float) else str(each[name]) for name in names)
