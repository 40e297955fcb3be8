"""Write the card of every embedded checkpoint from the template, facts written by hand and measured results.

    python model_cards/make_cards.py [--check] [--results benchmarks/results]

Each model_cards/NAME.json goes with huidurep/checkpoints/NAME: the sentences come from the first, the input contract
and sizes from the checkpoint, the figures from RESULTS/embedding.json and, where it exists, RESULTS/sorting.json. The
card becomes README.md of the checkpoint and model_cards/NAME.md. `--check` writes nothing and exits 1 when a card is
out of date. Needs the packages of the extra `train`.
"""

import argparse
import importlib.util
import json
import logging
import math
import sys
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "model_cards"
CHECKPOINTS = ROOT / "huidurep" / "checkpoints"
TETRODE_CHANNELS = 4
SNR_EDGES = (0.0, 4.0, 6.0, math.inf)
WELL_DETECTED = 0.8
CHANNEL_ORDERS = {
    "position": "ordered by place on the probe (by index where no places are known)",
    "nearest_first": "ordered by distance from the spike's peak channel",
    "center": "in the given order around the middle one",
}
POLARITIES = {"negative": "pointing down (arrays whose spikes point up are turned over)", "any": "of either sign"}

logger = logging.getLogger("make_cards")


def load_tables():
    """The module benchmarks/tables.py, under a name that hides no other package."""
    spec = importlib.util.spec_from_file_location("benchmark_tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


markdown = load_tables().markdown


def make_card(name, facts, folder, results):
    """Make the card of one checkpoint.

    Parameters
    ----------
    name : str
    facts : dict
        What is written by hand: model_cards/NAME.json.
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
        If the embeddings were not measured, or with another model.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    measured = read_embedding(results / "embedding.json", name)
    sorted_rows, recordings = read_sorting(results / "sorting.json", name)
    data = ModelCardData(
        license=facts["license"],
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=facts["tags"],
        model_name=name,
        eval_results=list(eval_results(measured)),
    )
    tables, notes = [embedding_table(measured)], list(facts["metrics_notes"])
    if sorted_rows:
        tables.append(sorting_table(sorted_rows, recordings))
        notes.append(snr_sentence(sorted_rows))
    written = dict(facts, training_notes=paragraphs(facts["training_notes"]))
    written["limitations"] = bullets(facts["limitations"] + list(below_pca(measured)))
    fields = dict(name=name, architecture=architecture(config), input_contract=input_contract(config))
    fields |= dict(embedding_size=config["embedding_size"], **sizes(folder / "model.safetensors"))
    fields |= dict(metrics_table=paragraphs(tables), metrics_notes=paragraphs(notes))
    card = ModelCard.from_template(data, template_path=str(CARDS / "TEMPLATE.md"), **{**written, **fields})
    return card.content.rstrip() + "\n"


def paragraphs(texts):
    """Texts apart by an empty line."""
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
    return (
        f"convolutions of {' and '.join(map(str, config['conv_kernel_sizes']))} samples to one token every {patch} "
        f"samples, {config['num_hidden_layers']} {norm} transformer layers of width {config['hidden_size']} with "
        f"{config['num_attention_heads']} heads, embeddings of {config['embedding_size']}; denoising decoder of depth "
        f"{config['decoder_num_hidden_layers']}"
    )


def input_contract(config):
    """What one snippet must look like, as a list."""
    rate, total, peak = config["sampling_frequency"], config["num_samples"], config["peak_index"]
    before, after = 1e3 * peak / rate, 1e3 * (total - peak) / rate
    return bullets(
        [
            f"float tensor (num_spikes, {total}, {config['num_channels']}) in uV, band-passed, at {rate:g} Hz",
            f"trough at sample {peak}: {before:.1f} ms before it, {after:.1f} ms after it, "
            + POLARITIES[config["spike_polarity"]],
            f"{config['num_channels']} channels, {CHANNEL_ORDERS[config['channel_order']]}; missing ones are masked",
            f"scaling inside the model: {config['scaling']}, unit {config['scale_uv']:g} uV",
        ]
    )


def read_embedding(path, name):
    """Results of benchmarks/embedding.py for this model."""
    remedy = f"run `python benchmarks/embedding.py --model {name}`"
    if not path.exists():
        raise ValueError(f"expected the results {path}, found none: {remedy}.")
    measured = json.loads(path.read_text(encoding="utf8"))
    model = measured["header"]["settings"]["model"]
    if Path(model).name != name or "huidurep" not in measured["methods"]:
        raise ValueError(f"expected results of the model {name!r} in {path}, found those of {model!r}: {remedy}.")
    return measured


def read_sorting(path, name):
    """Pairs of (row of this model, best row of the peers or None), and the recordings; empty where there is no file."""
    if not path.exists():
        logger.info("%s does not exist: the card of %s will say nothing about sorting", path, name)
        return [], {}
    results = json.loads(path.read_text(encoding="utf8"))
    recordings, pairs = results["recordings"], []
    for row in sorted(results["rows"], key=lambda row: row["recording"]):
        num_channels = recordings[row["recording"]]["num_channels"]
        if row["sorter"] != "huidurep" or "error" in row or not is_model(row["model"], name, num_channels):
            continue
        same = [other for other in results["rows"] if other["recording"] == row["recording"]]
        peers = [other for other in same if other["sorter"] != "huidurep" and "accuracy" in other]
        row = dict(row, seed=results["header"]["seed"])
        pairs.append((row, max(peers, key=lambda other: other["accuracy"], default=None)))
    return pairs, recordings


def is_model(model, name, num_channels):
    """Whether a run with this `--model` used this checkpoint: "auto" takes the tetrode's for up to four channels."""
    if model == "auto":
        return name == "tetrode" and num_channels <= TETRODE_CHANNELS
    return Path(model).name == name


def eval_results(measured):
    """One result of the front matter for each row measured."""
    header = measured["header"]
    for row in measured["rows"]:
        simulated = row["source"] != "axona"
        yield EvalResult(
            task_type="feature-extraction",
            task_name="Clustering of spikes, number of units known",
            dataset_type=("simulated-" if simulated else "") + row["source"].replace(" ", "-"),
            dataset_name=row["source"],
            # results of one dataset and one configuration become one entry, under the first one's name
            dataset_config=row["name"],
            dataset_args=dict(num_units=row["num_units"], num_spikes=row["num_spikes"], num_draws=row["num_draws"]),
            metric_type="adjusted_rand_index",
            metric_name="Adjusted Rand index",
            metric_value=row["mean"]["huidurep"],
            metric_args=dict(seed=header["seed"], commit=header["commit"]),
        )


def embedding_table(measured):
    """Adjusted Rand index of every method on every row, with seed and commit."""
    header, methods = measured["header"], measured["methods"]
    labels = [measured["method_labels"][method] for method in methods]
    lines = []
    for row in measured["rows"]:
        over = f"{row['num_units']} units" + f", {row['num_draws']} draws" * (row["num_draws"] > 1)
        cells = [value_text(row["mean"].get(method), row["standard_error"].get(method)) for method in methods]
        lines.append([f"{row['source']}: {row['name']}", over, *cells, header["seed"], header["commit"]])
    head = "Adjusted Rand index of a Gaussian mixture with the number of units known (`benchmarks/embedding.py`), mean"
    head += " and standard error over the draws:"
    return f"{head}\n\n{markdown(['spikes', 'over', *labels, 'seed', 'commit'], lines)}"


def value_text(mean, error):
    """Mean with its standard error where there is one."""
    if mean is None:
        return "-"
    return f"{mean:.2f}" + (f" ± {error:.2f}" if error is not None else "")


def sorting_table(pairs, recordings):
    """Whole sortings with this model, beside the best of the peers."""
    head = ["recording", "channels", "accuracy", "precision", "recall", "units found / true", "well detected"]
    head += ["best peer", "seed", "commit"]
    lines = []
    for row, peer in pairs:
        counts = [f"{row['units_found']} / {row['units_true']}", row["well_detected"]]
        best = f"{peer['accuracy']:.2f} ({peer['sorter']})" if peer else "-"
        values = [f"{row[key]:.2f}" for key in ("accuracy", "precision", "recall")]
        channels = recordings[row["recording"]]["num_channels"]
        lines.append([row["recording"], channels, *values, *counts, best, row["seed"], row["commit"]])
    text = (
        "Whole sortings with this model (`benchmarks/sorting.py`), means over all true units; well detected: accuracy"
    )
    text += f" of {WELL_DETECTED} or more; best peer: the highest accuracy among the other sorters:"
    return f"{text}\n\n{markdown(head, lines)}"


def snr_sentence(pairs):
    """How many true units were sorted well, by their signal-to-noise ratio."""
    units = [unit for row, _ in pairs for unit in row["units"]]
    parts = []
    for low, high in zip(SNR_EDGES[:-1], SNR_EDGES[1:], strict=True):
        band = [unit["accuracy"] >= WELL_DETECTED for unit in units if low <= unit["snr"] < high]
        name = f"below {high:g}" if low == 0 else f"from {low:g}" + f" to {high:g}" * math.isfinite(high)
        parts.append(f"{name}: {sum(band)} of {len(band)}")
    shares = "; ".join(parts)
    return f"True units sorted with an accuracy of {WELL_DETECTED} or more, by signal-to-noise ratio: {shares}."


def below_pca(measured):
    """A sentence naming the rows on which principal components did better, if any."""
    lines = []
    for row in measured["rows"]:
        best = max(round(value, 2) for method, value in row["mean"].items() if method.startswith("pca"))
        own = round(row["mean"]["huidurep"], 2)
        if own < best:
            lines.append(f"{row['source']}: {row['name']} ({own:.2f} against {best:.2f})")
    if lines:
        share = f"{len(lines)} of {len(measured['rows'])} rows"
        yield f"Below the better of the PCA columns above on {share}: {'; '.join(lines)}."


def main():
    """Write or check every card; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a card is out of date")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    stale = 0
    for path in sorted(CARDS.glob("*.json")):
        name = path.stem
        facts = json.loads(path.read_text(encoding="utf8"))
        try:
            card = make_card(name, facts, CHECKPOINTS / name, arguments.results)
        except ValueError as error:
            parser.exit(1, f"{name}: {error}\n")
        for target in (CHECKPOINTS / name / "README.md", CARDS / f"{name}.md"):
            is_same = target.exists() and target.read_text(encoding="utf8") == card
            stale += not is_same
            if not is_same and not arguments.check:
                target.write_text(card, encoding="utf8", newline="\n")
            state = "up to date" if is_same else "out of date" if arguments.check else "written"
            logger.info("%s: %s", target.relative_to(ROOT), state)
    return int(arguments.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
