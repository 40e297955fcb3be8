"""Write the tables of README.md and of pages in docs/ from results files.

    python benchmarks/tables.py [FILE ...] [--check] [--results benchmarks/results]

Fills each block between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->`; names are the keys of BLOCKS.
`--check` writes nothing and exits 1 if a block is out of date. Needs pandas and tabulate (extra `dev`).
"""

import argparse
import json
import re
import sys
from pathlib import Path

# appended: this file has the name of a package
sys.path.append(str(Path(__file__).resolve().parent))
from results_files import ROOT, read_results, weights_digest
from sorting_tables import (
    locust_block,
    redundancy_block,
    sorting_block,
    sorting_parts_block,
    stability_block,
    summary_block,
)
from speed_tables import speed_block
from table_text import (
    bold_best,
    details,
    frame_markdown,
    header_note,
    markdown,
    mean_of,
    mean_scores,
    rows_note,
    score_frame,
)
from tracking_scores import tracking_block

CHECKPOINTS = ROOT / "huidurep" / "checkpoints"
SIMULATED = ("cells", "package cells", "package spikeinterface")
PCA = ("pca12", "pca24")
REAL_MARGIN = 0.05  # target on real spikes: so much above PCA on average, and below it on no file


def grouped(rows):
    """Rows of an embedding results file by source and probe."""
    groups = {}
    for row in rows:
        groups.setdefault((row["source"], row["probe"]), []).append(row)
    return groups


def by_name(rows, *fields):
    """Groups of rows whose name joins the values of some fields."""
    groups = {}
    for row in rows:
        groups.setdefault(", ".join(row[field] for field in fields), []).append(row)
    return groups


def gap_targets(rows):
    """Fraction of the gap between PCA and 1 that is closed on each simulated source and probe; the target is half."""
    targets = []
    for (source, probe), group in grouped(rows).items():
        means = mean_scores(row["mean"] for row in group).to_dict()
        pca = max((means.pop(name) for name in PCA if name in means), default=None)
        if source not in SIMULATED or pca is None:
            continue
        target = pca + (1 - pca) / 2
        entry = dict(source=source, probe=probe, num_rows=len(group), pca=round(pca, 4), target=round(target, 4))
        entry["mean"] = {name: round(value, 4) for name, value in means.items()}
        entry["gap_closed"] = {name: round((value - pca) / (1 - pca), 4) for name, value in means.items()}
        entry["reached"] = {name: value >= target for name, value in means.items()}
        targets.append(entry)
    return targets


def real_margins(rows):
    """Score minus that of the better PCA column for each real source and column: mean, smallest, and its file."""
    margins = {}
    for row in rows:
        pca = max((row["mean"][name] for name in PCA if name in row["mean"]), default=None)
        if row["source"] in SIMULATED or pca is None:
            continue
        file = f"{row.get('probe', 'tetrode')}: {row['name']}"
        for name, value in row["mean"].items():
            if name not in PCA:
                margins.setdefault((row["source"], name), []).append((round(value - pca, 4), file))
    entries = []
    for (source, name), found in margins.items():
        (smallest, file), mean = min(found), sum(value for value, _ in found) / len(found)
        entry = dict(source=source, method=name, num_rows=len(found), mean=round(mean, 4), smallest=smallest, file=file)
        entries.append(entry | dict(reached=mean >= REAL_MARGIN and smallest >= 0))
    return entries


def target_cells(entry):
    """Target and fraction of the gap closed by the embedded checkpoint, as text; `entry` is None on real spikes."""
    if entry is None:
        return "", ""
    target = f"{entry['target']:.2f}"
    if "huidurep" not in entry["mean"]:
        return target, "-"
    result = "reached" if entry["reached"]["huidurep"] else "missed"
    return target, f"{100 * entry['gap_closed']['huidurep']:.0f}%, {result}"


def automatic_table(results, groups):
    """Scores and number of units where the package estimates it; "" without such scores."""
    groups = {name: rows for name, rows in groups.items() if all(row["automatic"]["mean"] for row in rows)}
    if not groups:
        return ""
    methods = [name for name in results["methods"] if name != "oracle"]
    means = score_frame(groups, methods, lambda row: row["automatic"]["mean"])
    units = score_frame(groups, methods, lambda row: row["automatic"]["num_units"])
    table = means.apply(bold_best, axis=1) + units.map(" ({:.1f})".format).where(units.notna(), "")
    table.insert(0, "true units", [f"{mean_of(row['num_units'] for row in rows):.1f}" for rows in groups.values()])
    return frame_markdown(table, "number of units found: spikes (mean)", results["method_labels"])


def embedding_block(results):
    """Block of a file of embedding.py: adjusted Rand index by source and probe; each condition in the details."""
    methods, labels, groups = results["methods"], results["method_labels"], by_name(results["rows"], "source", "probe")
    targets = {f"{entry['source']}, {entry['probe']}": entry for entry in gap_targets(results["rows"])}
    summary = score_frame(groups, methods).apply(bold_best, axis=1)
    summary[["target", "gap closed by HuiduRep"]] = [target_cells(targets.get(name)) for name in groups]
    conditions = {f"{row['source']}, {row.get('probe', 'tetrode')}: {row['name']}": [row] for row in results["rows"]}
    every = score_frame(conditions, methods).apply(bold_best, axis=1)
    over = [
        (row["num_draws"], "draws") if row["num_draws"] > 1 else (row["num_units"], "units") for row in results["rows"]
    ]
    every.insert(0, "over", [f"{number} {what}" for number, what in over])
    note = rows_note(results)
    note += (
        " Adjusted Rand index, full-covariance Gaussian mixture, the same settings for every column. Target: half of"
    )
    note += " what the better PCA column leaves. The oracle knows every template and the noise, but of no collisions."
    found = automatic_table(results, groups)
    note += " In brackets: units found by `cluster_embeddings`, the same rule for every column." * bool(found)
    parts = [frame_markdown(summary, "spikes (mean)", labels), found, note]
    parts.append(details("Every condition and file, K known", frame_markdown(every, "spikes", labels)))
    return "\n\n".join(filter(None, parts))


def settings_text(difference):
    """Settings of a run that differ from those of the default run."""
    texts = [f"{name} {value[1]} (was {value[0]})" for name, value in difference.items()]
    return "; ".join(texts).replace("|", "/") or "-"


def ablation_block(results):
    """Block of a file of ablation.py: one line for each run, one column for each group of conditions."""
    rows = results["rows"]
    table = score_frame({row["label"]: [row] for row in rows}, results["conditions"]).apply(bold_best)
    seconds = [row.get("training_seconds") for row in rows]
    table["training minutes"] = [f"{each / 60:.0f}" if each else "-" for each in seconds]
    table["settings"] = [settings_text(row["settings_difference"]) for row in rows]
    note = f"Rows measured at commit {', '.join(sorted({row['commit'] for row in rows}))}, seed"
    note += f" {results['header']['seed']}. Adjusted Rand index, K known, mean over the conditions of each column;"
    return f"{frame_markdown(table, 'run')}\n\n{note} settings against those of `{results['default']}`."


def own_column(name):
    """Column of an embedding results file with the scores of a checkpoint."""
    return "base" if name == "base" else "huidurep"


def own_rows(rows, name, folder):
    """Rows of an embedding results file that were measured with the present weights of a checkpoint."""
    column, digest = own_column(name), weights_digest(folder)
    found = [row for row in rows if column in row["mean"] and name in ("base", row["probe"])]
    return [row for row in found if row["models"].get(column, {}).get("weights") == digest]


def checkpoints_block(results, folder=CHECKPOINTS):
    """Block of the embedded checkpoints in the order of their probes, with scores on `cells` (mean over probes)."""
    from huidurep.hub.probe_types import PROBE_TYPES

    order, lines = [*PROBE_TYPES, "base"], []
    for name in sorted((path.parent.name for path in folder.glob("*/config.json")), key=order.index):
        place, column = folder / name, own_column(name)
        size = f"{(place / 'model.safetensors').stat().st_size / 1e6:.2f}"
        channels = json.loads((place / "config.json").read_text(encoding="utf8"))["num_channels"]
        targets = [each for each in gap_targets(own_rows(results["rows"], name, place)) if each["source"] == "cells"]
        scores = [mean_of(values) for values in zip(*((e["mean"][column], e["pca"]) for e in targets), strict=True)]
        cells = [f"{score:.2f}" for score in scores] or ["-"] * 2
        link = f"[`{name}`](huidurep/checkpoints/{name}/README.md)"
        lines.append([link, PROBE_TYPES.get(name, "-"), channels, size, *cells])
    head = ["checkpoint", "for", "channels", "MB", "HuiduRep", "PCA"]
    note = "The last two: adjusted Rand index on spikes of the detailed cells on that probe, with the number of units"
    note += " known (`base`: mean over the types of probe; PCA: the better of 12 and 24 components), from"
    note += " [the benchmarks](docs/benchmarks.md). -: not measured with these weights."
    return f"{markdown(head, lines)}\n\n{note}"


def finetuning_block(results):
    """Block of a file of finetuning.py: scores before, with the trained weights and with the delivered weights."""
    lines = []
    for row in results["rows"]:
        weights = [row[when] for when in ("before", "trained", "delivered")]
        cells = [" / ".join(f"{each[key]:.2f}" for each in weights) for key in ("rand_index", "accuracy")]
        name = f"{row['kind']} ({row['name']}), `{row['checkpoint']}`, {row['method']}"
        pca, seconds = f"{row['pca12']['rand_index']:.2f}", f"{row['finetune_seconds']:.0f}"
        lines.append([name, pca, *cells, row["outcome"], seconds])
    head = ["before / trained / delivered", "PCA", "adjusted Rand index", "accuracy", "outcome", "s"]
    return f"{markdown(head, lines)}\n\n{header_note(results['header'])}"


def reliability_block(results):
    """Block of a file of reliability.py: what was done, how often, how often it went wrong, and what went wrong."""
    lines = [[row["what"], row["cases"], len(row["bad"])] for row in results["rows"]]
    wrong = [f"- {failure}" for row in results["rows"] for failure in row["bad"]]
    return "\n\n".join([markdown(["what", "cases", "wrong"], lines), rows_note(results), *wrong])


BLOCKS = {  # name of the block: function of the results, name of the results file
    "summary": (summary_block, "sorting"),
    "checkpoints": (checkpoints_block, "embedding"),
    "sorting": (sorting_block, "sorting"),
    "sorting_far_drift": (sorting_block, "sorting_far_drift"),
    "sorting_few_contacts": (sorting_block, "sorting_few_contacts"),
    "sorting_parts": (sorting_parts_block, "sorting_parts"),
    "locust": (locust_block, "locust"),
    "embedding": (embedding_block, "embedding"),
    "ablation": (ablation_block, "ablation"),
    "finetuning": (finetuning_block, "finetuning"),
    "reliability": (reliability_block, "reliability"),
    "redundant_units": (redundancy_block, "redundant_units"),
    "speed": (speed_block, "speed"),
    "stability": (stability_block, "stability"),
    "tracking": (tracking_block, "tracking"),
    "tracking_sortings": (tracking_block, "tracking_sortings"),
}


PAGES = [ROOT / name for name in ("README.md", "docs/index.md", "docs/benchmarks.md", "docs/reliability.md")]


def fill(text, folder):
    """Text with its blocks filled from the results files in a folder; a block without a results file is kept."""

    def block(found):
        make, source = BLOCKS[found["name"]]
        results = read_results(folder / f"{source}.json")
        return f"{found['start']}{make(results)}\n{found['end']}" if results else found[0]

    pattern = r"(?P<start><!-- benchmark:(?P<name>\w+) -->\n).*?(?P<end><!-- /benchmark:(?P=name) -->)"
    return re.sub(pattern, block, text, flags=re.DOTALL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=PAGES)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a block is out of date")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    arguments = parser.parse_args()
    num_stale = 0
    for path in arguments.files:
        old = path.read_text(encoding="utf8")
        new = fill(old, arguments.results)
        num_stale += new != old
        if not arguments.check:
            path.write_text(new, encoding="utf8")
        print(f"{path}: {'up to date' if new == old else 'out of date' if arguments.check else 'written'}")
    return int(arguments.check and num_stale > 0)


if __name__ == "__main__":
    sys.exit(main())
