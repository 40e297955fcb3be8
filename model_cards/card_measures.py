"""Measurements of a model card: tables, metadata and sentences from benchmarks/results."""

import importlib.util
import logging
import math
import sys
from pathlib import Path

from huggingface_hub import EvalResult

ROOT = Path(__file__).resolve().parents[1]

SNR_EDGES = (0.0, 4.0, 6.0, math.inf)
WELL_DETECTED = 0.8
OPTO_PROBES = ("staggered", "neuropixels-1.0")
NO_COMPETITORS = ("oracle",)
KNOWN, FOUND = "number of units known", "number of units found"

logger = logging.getLogger("make_cards")


def load_tables():
    """Import benchmarks/tables.py under a name that no other package has."""
    sys.path.append(str(ROOT / "benchmarks"))  # for what it imports
    spec = importlib.util.spec_from_file_location("benchmark_tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


class Measured:
    """Results of benchmarks/embedding.py that concern one checkpoint.

    Parameters
    ----------
    results : dict
        The whole file.
    name : str
        Of the checkpoint: a type of probe, or base.
    folder : Path
        The checkpoint; others stand beside it.

    Attributes
    ----------
    column : str
        Column of this checkpoint.
    rows, missing : list of dict
        Rows of its type of probe (of all for base) with that column, and without it.
    methods : list of str
        Columns of the rows, this checkpoint first.
    labels : dict of str to str

    Raises
    ------
    ValueError
        If there is no row, or the weights have changed since.
    """

    def __init__(self, results, name, folder):
        self.name, self.column, self.runs = name, tables.own_column(name), results["runs"]
        mine = [row for row in results["rows"] if name in ("base", row["probe"])]
        self.rows = [row for row in mine if self.column in row["mean"]]
        self.missing = [row for row in mine if self.column not in row["mean"]]
        self.skipped = {key: why for key, why in results["skipped"].items() if concerns(key, name)}
        probes = "" if name == "base" else f" --probes {name}"
        remedy = f"run `python benchmarks/embedding.py{probes}`"
        if not self.rows:
            raise ValueError(f"expected measured rows of {name!r}, found none: {remedy}.")
        for row in self.rows:
            check_weights(row, folder.parent, remedy)
        # In the card of the base, `huidurep` is another checkpoint on every probe; its reduced column is left out.
        wanted = [m for m in results["methods"] if not (name == "base" and m == "huidurep_pca12")]
        present = [method for method in wanted if any(method in row["mean"] for row in self.rows)]
        self.methods = [self.column, *(method for method in present if method != self.column)]
        self.labels = results["method_labels"] | {self.column: f"`{name}`"}
        self.labels |= dict(huidurep="the probe's own checkpoint") if name == "base" else {}

    def title(self, row):
        """Name of a row: its source, for base its probe, and its condition."""
        return f"{row['source']}{', ' + row['probe'] if self.name == 'base' else ''}: {row['name']}"

    def commit(self, row):
        """Commit at which this checkpoint was measured on a row."""
        return self.runs[row["runs"][self.column]]["commit"]


def concerns(key, name):
    """Whether a skipped measurement, by its key in the results, belongs to the card of a checkpoint."""
    if key.startswith("checkpoint "):
        return False
    if name == "base" or key.endswith(f", {name}"):
        return True
    if key.startswith("opto"):
        probes = ("neuropixels-1.0",) if "384 contacts" in key else ("staggered",) if "contacts" in key else OPTO_PROBES
        return name in probes
    # The remaining keys are files of hand-sorted tetrodes.
    return name == "tetrode" and not key.startswith(tables.SIMULATED)


def check_weights(row, checkpoints, remedy):
    """Refuse a row that was measured with other weights than those of the embedded checkpoints."""
    for column, used in row["models"].items():
        if column not in ("huidurep", "base"):
            continue
        digest = tables.weights_digest(checkpoints / Path(used["checkpoint"]).name)
        if used["weights"] != digest:
            raise ValueError(
                f"expected {row['source']}, {row['probe']}: {row['name']} measured with the weights {digest} of "
                f"{Path(used['checkpoint']).name}, found {used['weights']}: {remedy}."
            )


def read_embedding(path, name, folder):
    """Results of benchmarks/embedding.py for this checkpoint."""
    if not path.exists():
        raise ValueError(f"expected the results {path}, found none: run `python benchmarks/embedding.py`.")
    return Measured(tables.read_results(path), name, folder)


def eval_results(measured):
    """Results of the front matter: mean over the rows of each source and probe, number of units known and found."""
    for (source, probe), rows in tables.grouped(measured.rows).items():
        simulated = source in tables.SIMULATED
        means = {KNOWN: tables.mean_of(row["mean"][measured.column] for row in rows)}
        means[FOUND] = tables.mean_of(row["automatic"]["mean"].get(measured.column) for row in rows)
        commits = dict.fromkeys(measured.commit(row) for row in rows)
        for what, value in means.items():
            if value is None:
                continue
            yield EvalResult(
                task_type="feature-extraction",
                task_name="Clustering of spikes",
                dataset_type=("simulated-" if simulated else "") + source.replace(" ", "-"),
                dataset_name=source,
                # results of one dataset and one configuration become one entry
                dataset_config=f"{probe}, mean over {len(rows)} {'conditions' if source != 'axona' else 'files'}",
                dataset_args=dict(num_draws=rows[0]["num_draws"]),
                metric_type="adjusted_rand_index",
                metric_name=f"Adjusted Rand index, {what}",
                metric_value=round(value, 4),
                metric_args=dict(seed=rows[0]["seed"], commit=", ".join(commits)),
            )


def embedding_tables(measured):
    """Adjusted Rand index of every column on every row, with the number of units known and found."""
    head = "Adjusted Rand index of a Gaussian mixture with the number of units known (`benchmarks/embedding.py`), mean"
    head += " and standard error over the draws"
    head += (
        "; the oracle knows every template and the noise, but of no collisions:"
        if "oracle" in measured.methods
        else ":"
    )
    lines = []
    for row in measured.rows:
        over = f"{row['num_units']} units" + f", {row['num_draws']} draws" * (row["num_draws"] > 1)
        cells = [value_text(row["mean"].get(name), row["standard_error"].get(name)) for name in measured.methods]
        lines.append([measured.title(row), over, *cells, row["seed"], measured.commit(row)])
    labels = [measured.labels[name] for name in measured.methods]
    yield f"{head}\n\n{tables.markdown(['spikes', 'over', *labels, 'seed', 'commit'], lines)}"
    rows = [row for row in measured.rows if measured.column in row["automatic"]["mean"]]
    if not rows:
        return
    methods = [name for name in measured.methods if name not in NO_COMPETITORS]
    lines = []
    for row in rows:
        found = row["automatic"]
        cells = [value_text(found["mean"].get(name), found["standard_error"].get(name)) for name in methods]
        units = [found["num_units"].get(name) for name in methods]
        text = [f"{cell} ({unit:.1f})" if unit is not None else cell for cell, unit in zip(cells, units, strict=True)]
        draws = len(found["draws"][measured.column])
        lines.append([measured.title(row), f"{row['num_units']} units" + f", {draws} draws" * (draws > 1), *text])
    head = "The same where `cluster_embeddings` finds the number of units (in brackets: mean number found):"
    yield f"{head}\n\n{tables.markdown(['spikes', 'over', *(measured.labels[name] for name in methods)], lines)}"


def value_text(mean, error):
    """Mean with its standard error where there is one."""
    if mean is None:
        return "-"
    return f"{mean:.2f}" + (f" ± {error:.2f}" if error is not None else "")


def target_sentences(measured):
    """Results of this checkpoint and their targets, one sentence for each source and probe."""
    for entry in tables.gap_targets(measured.rows):
        text = (
            f"{entry['source']}, {entry['probe']}: {entry['mean'][measured.column]:.2f}, wanted {entry['target']:.2f}"
        )
        text += f" (half of what the better PCA column, {entry['pca']:.2f}, leaves):"
        result = "reached" if entry["reached"][measured.column] else "missed"
        yield f"{text} {100 * entry['gap_closed'][measured.column]:.0f} % of the gap closed, {result}."
    for entry in tables.real_margins(measured.rows):
        if entry["method"] != measured.column:
            continue
        text = (
            f"{entry['source']}: {entry['mean']:+.2f} against the better PCA column on average over {entry['num_rows']}"
        )
        text += f" rows, {entry['smallest']:+.2f} at worst ({entry['file']}); wanted"
        result = "reached" if entry["reached"] else "missed"
        yield f"{text} {tables.REAL_MARGIN:+.2f} and nowhere below 0: {result}."


def missing_sentences(measured):
    """A sentence on missing measurements, if there are any."""
    parts = [measured.title(row) for row in measured.missing]
    parts += [f"{key} ({reason})" for key, reason in measured.skipped.items()]
    if parts:
        yield f"Not measured: {'; '.join(parts)}."


def source_notes(measured, notes):
    """Notes on the sources in the card."""
    sources = dict.fromkeys(row["source"].split()[0] for row in measured.rows)
    return [notes[source] for source in sources if source in notes]


def below_pca(measured):
    """Sentences on the rows on which principal components are better, if there are any."""
    parts = {KNOWN: [row["mean"] for row in measured.rows]}
    parts[FOUND] = [row["automatic"]["mean"] for row in measured.rows]
    for what, means in parts.items():
        lines, count = [], 0
        for row, mean in zip(measured.rows, means, strict=True):
            others = [round(mean[name], 2) for name in tables.PCA if name in mean]
            if not others or measured.column not in mean:
                continue
            count += 1
            own = round(mean[measured.column], 2)
            if own < max(others):
                lines.append(f"{measured.title(row)} ({own:.2f} against {max(others):.2f})")
        if lines:
            share = f"{len(lines)} of {count} rows"
            yield f"Below the better of the PCA columns above, {what}, on {share}: {'; '.join(lines)}."


def read_sorting(path, name, folder):
    """Pairs of (row of these weights, best row of other sorters or None), and the recordings; empty without a file."""
    if not path.exists():
        logger.info("%s does not exist: the card of %s has no sorting results", path, name)
        return [], {}
    results = tables.read_results(path)
    recordings, pairs, digest = results["recordings"], [], tables.weights_digest(folder)
    for row in sorted(results["rows"], key=lambda row: row["recording"]):
        if row["sorter"] != "huidurep" or "error" in row or row["checkpoint"] != name:
            continue
        if row["weights"] != digest:
            logger.warning(
                "%s on %s was sorted with other weights: run benchmarks/sorting.py again", name, row["recording"]
            )
            continue
        same = [other for other in results["rows"] if other["recording"] == row["recording"]]
        peers = [other for other in same if other["sorter"] != "huidurep" and "accuracy" in other]
        row = dict(row, seed=results["header"]["seed"])
        pairs.append((row, max(peers, key=lambda other: other["accuracy"], default=None)))
    return pairs, recordings


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
    return f"{text}\n\n{tables.markdown(head, lines)}"


def snr_sentence(pairs):
    """Number of well-detected units by signal-to-noise ratio."""
    units = [unit for row, _ in pairs for unit in row["units"]]
    parts = []
    for low, high in zip(SNR_EDGES[:-1], SNR_EDGES[1:], strict=True):
        band = [unit["accuracy"] >= WELL_DETECTED for unit in units if low <= unit["snr"] < high]
        name = f"below {high:g}" if low == 0 else f"from {low:g}" + f" to {high:g}" * math.isfinite(high)
        parts.append(f"{name}: {sum(band)} of {len(band)}")
    shares = "; ".join(parts)
    return f"True units sorted with an accuracy of {WELL_DETECTED} or more, by signal-to-noise ratio: {shares}."
