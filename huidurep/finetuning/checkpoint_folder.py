"""The folder that fine-tuning writes: weights, sorting parameters, facts and model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.modeling_huidurep import HuiduRep

FACTS_FILE = "finetuning.json"
SORTING_FILE = "sorting_parameters.json"
UNKNOWN_LICENCE = "other"
LABELLED = "labelled"  # how the units of spikes are described that were given with labels
# Words of the card, for recordings and for spikes
HOW = ("recordings of one probe by template resampling", "spikes with labels")
USE = (
    "sorting = huidurep.sort(recording, model=FOLDER)",
    "embeddings = huidurep.HuiduRep.from_pretrained(FOLDER).embed(waveforms)",
)


def source_of(model_name: str, model: HuiduRep) -> dict[str, Any]:
    """Describe the checkpoint that is fine-tuned.

    Parameters
    ----------
    model_name : str
    model : HuiduRep

    Returns
    -------
    dict
        ``name``, ``license`` ("other" if there is no model card), ``base_model`` for the card (an embedded name or Hub
        repository, or None) and ``sorting_parameters`` (those beside the weights).
    """
    from ..hub.embedded import list_checkpoints
    from ..hub.json_files import read_json_object

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
        sorting_parameters=read_json_object(beside, "correct or remove this file") if beside.is_file() else {},
    )


def write_checkpoint(folder: Path, model: HuiduRep, facts: dict[str, Any], source: dict[str, Any]) -> None:
    """Write all files of a checkpoint.

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


def make_card(facts: dict[str, Any], source: dict[str, Any]) -> str:
    """Make the model card.

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


def _paragraphs(facts: dict[str, Any], source: dict[str, Any]) -> list[str]:
    """The text of the card."""
    from .embedding_evaluation import DETAILS

    settings = facts["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    from_spikes = facts["recordings"][0]["units"] == LABELLED
    names = [name for name in facts["before"] if name not in DETAILS]
    figures = [
        [name.replace("_", " "), *(f"{facts[when][name]:.3f}" for when in ("before", "after"))] for name in names
    ]
    return [
        f"# HuiduRep, fine-tuned from {source['name']}\n",
        f"A spike encoder fine-tuned on {HOW[from_spikes]}. {_outcome(facts, source)}\n",
        f"```python\nimport huidurep\n\n{USE[from_spikes]}  # this folder\n```\n",
        "## Trained on\n",
        *_trained_on(facts["recordings"]),
        f"\n{settings['steps']} steps, seed {settings['seed']}; {settings['simulated_share']:.0%} of the training "
        "examples are simulated on the same contacts, so that the encoder does not forget what it was pretrained on.\n",
        f"Commit {facts['commit'] or 'unknown'}; {versions}.\n",
        f"Licence of the weights: {source['license']}, that of `{source['name']}`. The recordings are not included.\n",
        "## Measured on held-out spikes and time\n",
        *_table(["figure", "before", "after"], figures),
        f"\nGain {facts['gain']:+.3f}, tolerance {facts['tolerance']:.3f}; see "
        f"`huidurep.finetuning.embedding_evaluation`. {_held_out(facts)} were held out.\n",
        "## Limitations\n",
        "For recordings like these: same probe, same amplifier. Units that were sorted wrongly were learned wrongly.",
    ]


def _trained_on(recordings: list[dict[str, Any]]) -> list[str]:
    """Table of the recordings or spikes that were trained on."""
    heads = dict(
        seconds="seconds",
        num_channels="channels",
        sampling_frequency="Hz",
        units="units were",
        num_units="units used",
        num_spikes="spikes",
    )
    columns = [name for name in heads if name in recordings[0]]
    return _table([heads[name] for name in columns], [[each[name] for name in columns] for each in recordings])


def _held_out(facts: dict[str, Any]) -> str:
    """What was not trained on, in words."""
    (first, *_), settings = facts["recordings"], facts["settings"]
    if first["units"] == LABELLED:
        return f"{first['num_held_out_spikes']} spikes of the same units"
    num_units = settings["held_out_units"] + settings["trained_units"]
    return f"{settings['held_out_units']} of {num_units} units and the last quarter of each recording"


def _outcome(facts: dict[str, Any], source: dict[str, Any]) -> str:
    """Outcome of the acceptance test in words."""
    if facts["outcome"] == "better":
        return f"On held-out spikes it is better than `{source['name']}`."
    found = "no better than" if facts["outcome"] == "same" else "worse than"
    return f"On held-out spikes the new weights are {found} `{source['name']}`: these are its weights, unchanged."


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [[f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]
