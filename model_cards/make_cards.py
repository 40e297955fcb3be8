"""Write the card of every embedded checkpoint from the template, hand-written facts and measured results.

    python model_cards/make_cards.py [--check] [--results benchmarks/results] [--checkpoints huidurep/checkpoints]

Texts that all cards share are in model_cards/shared.json, those of one checkpoint in model_cards/NAME.json; the input
contract and sizes come from the checkpoint, the training from its pretraining.json and training.json, the figures from
RESULTS/embedding.json and, if it exists, RESULTS/sorting.json. The card is written to README.md of the checkpoint and
model_cards/NAME.md (with other --checkpoints only to the first). `--check` writes nothing and exits 1 if a card is
out of date. Needs the packages of the extra `train`.
"""

import argparse
import json
import logging
import math
import sys
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

import huidurep

sys.path.append(str(Path(__file__).resolve().parent))
import card_measures as measures
from card_training import training_fields

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "model_cards"
CHECKPOINTS = ROOT / "huidurep" / "checkpoints"
CHANNEL_ORDERS = {
    "position": "ordered by place on the probe (by index where no places are known)",
    "nearest_first": "ordered by distance from the spike's peak channel",
    "center": "in the given order around the middle one",
}
POLARITIES = {"negative": "pointing down (spikes that point up are turned over)", "any": "of either sign"}

logger = logging.getLogger("make_cards")


def make_card(name, facts, folder, results):
    """Make the card of one checkpoint.

    Parameters
    ----------
    name : str
    facts : dict
        Written by hand: the content of model_cards/NAME.json, and ``shared`` (model_cards/shared.json).
    folder : Path
        The checkpoint.
    results : Path
        Folder of embedding.json and sorting.json.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If embeddings were not measured, or with other weights, or facts of the training are missing.
    """
    shared = facts["shared"]
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    measured = measures.read_embedding(results / "embedding.json", name, folder)
    pairs, recordings = measures.read_sorting(results / "sorting.json", name, folder)
    data = ModelCardData(
        license=shared["license"],
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=shared["tags"] + facts["tags"],
        model_name=name,
        eval_results=list(measures.eval_results(measured)),
    )
    found = [*measures.embedding_tables(measured), bullets(measures.target_sentences(measured))]
    found += [measures.sorting_table(pairs, recordings)] if pairs else []
    notes = [bullets(measures.source_notes(measured, shared["metrics_notes"])), shared["development_note"]]
    notes += [*measures.missing_sentences(measured), *([measures.snr_sentence(pairs)] if pairs else [])]
    training = training_fields(name, folder, shared)
    training["training_notes"] = paragraphs(training["training_notes"])
    limitations = [*facts["limitations"], *shared["limitations"], *measures.below_pca(measured)]
    fields = dict(name=name, purpose=facts["purpose"], license=shared["license"], limitations=bullets(limitations))
    fields |= dict(architecture=architecture(config), input_contract=input_contract(config))
    fields |= dict(embedding_size=config["embedding_size"], **sizes(folder / "model.safetensors"))
    fields |= dict(huidurep_version=huidurep.__version__)
    fields |= dict(sorting_defaults=sorting_defaults(folder), metrics_table=paragraphs(found))
    fields |= dict(metrics_notes=paragraphs(note for note in notes if note))
    card = ModelCard.from_template(data, template_path=str(CARDS / "TEMPLATE.md"), **fields, **training)
    return card.content.rstrip() + "\n"


def read_facts(name):
    """Hand-written facts of one checkpoint, with those that all share."""
    path = CARDS / f"{name}.json"
    if not path.exists():
        raise ValueError(f"expected facts of the checkpoint in {path}, found none: write them as for the others.")
    shared = json.loads((CARDS / "shared.json").read_text(encoding="utf8"))
    return dict(json.loads(path.read_text(encoding="utf8")), shared=shared)


def sorting_defaults(folder):
    """The parameters of sorting beside the weights, in words."""
    path = folder / "sorting_parameters.json"
    beside = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    if not beside:
        return "Its sorting parameters are the defaults of `huidurep.SortingParameters`."
    values = ", ".join(f"`{name}={value!r}`" for name, value in beside.items())
    return f"Its sorting parameters other than the defaults of `huidurep.SortingParameters`: {values}."


def paragraphs(texts):
    """Texts separated by empty lines."""
    return "\n\n".join(texts)


def bullets(texts):
    """A Markdown list."""
    return "\n".join(f"- {text}" for text in texts)


def sizes(weights):
    """Number of parameters and size of a safetensors file, as text; read from its header."""
    with open(weights, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    count = sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
    return dict(num_parameters=f"{count:,}", file_size=f"{weights.stat().st_size / 1e6:.2f} MB")


def architecture(config):
    """The encoder in one sentence."""
    patch = math.prod(config["conv_strides"])
    norm = "pre-norm" if config["norm_first"] else "post-norm"
    mixing = ", channel weights made from their positions" if config["channel_mixing"] == "position" else ""
    fixed = config.get("linear_size", 0)
    linear = f" (the first {fixed} axes are fixed principal components of the waveform)" if fixed else ""
    return (
        f"convolutions of {' and '.join(map(str, config['conv_kernel_sizes']))} samples to one token every {patch} "
        f"samples{mixing}, {config['num_hidden_layers']} {norm} transformer layers of width {config['hidden_size']} "
        f"with {config['num_attention_heads']} heads, embeddings of {config['embedding_size']}{linear}; denoising "
        f"decoder of depth {config['decoder_num_hidden_layers']}"
    )


def channel_text(config):
    """Number and order of the channels of a snippet."""
    if config["channel_mixing"] == "position":
        text = f"{config['num_channels']} channels (those nearest the spike's peak channel where there are more; fewer"
        return text + " are served too) with their positions in um; nominal ones are taken where none are known"
    return f"{config['num_channels']} channels, {CHANNEL_ORDERS[config['channel_order']]}; missing ones are masked"


def input_contract(config):
    """Input contract of a snippet, as a list."""
    rate, total, peak = config["sampling_frequency"], config["num_samples"], config["peak_index"]
    before, after = 1e3 * peak / rate, 1e3 * (total - peak) / rate
    return bullets(
        [
            f"float tensor (num_spikes, {total}, {config['num_channels']}) in uV, band-passed, at {rate:g} Hz",
            f"trough at sample {peak}: {before:.1f} ms before it, {after:.1f} ms after it, "
            + POLARITIES[config["spike_polarity"]],
            channel_text(config),
            f"scaling inside the model: {config['scaling']}, unit {config['scale_uv']:g} uV",
        ]
    )


def main():
    """Write or check every card; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a card is out of date")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of folders")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    stale = 0
    for folder in sorted(path.parent for path in arguments.checkpoints.glob("*/config.json")):
        name = folder.name
        try:
            card = make_card(name, read_facts(name), folder, arguments.results)
        except ValueError as error:
            parser.exit(1, f"{name}: {error}\n")
        copies = [CARDS / f"{name}.md"] if arguments.checkpoints.resolve() == CHECKPOINTS else []
        for target in [folder / "README.md", *copies]:
            is_same = target.exists() and target.read_text(encoding="utf8") == card
            stale += not is_same
            if not is_same and not arguments.check:
                target.write_text(card, encoding="utf8", newline="\n")
            state = "up to date" if is_same else "out of date" if arguments.check else "written"
            logger.info("%s: %s", target.relative_to(ROOT) if target.is_relative_to(ROOT) else target, state)
    return int(arguments.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
