"""The Markdown tables that are made from results files, and the targets they are held against.

    python benchmarks/tables.py [FILE ...] [--check] [--results benchmarks/results]

Writes the tables between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->` in every FILE (README.md when none is
named). `--check` writes nothing and exits 1 when a table is out of date. Needs numpy only.
"""

import argparse
import json
import re
import sys
from pathlib import Path

# appended, for its own name is that of a package
sys.path.append(str(Path(__file__).resolve().parent))
from results_files import ROOT, read_results, weights_digest
from sorting_tables import locust_block, sorting_block, sorting_parts_block
from table_text import bold_best, header_note, markdown, mean_of

CHECKPOINTS = ROOT / "huidurep" / "checkpoints"
SIMULATED = ("cells", "package cells", "package spikeinterface")
PCA = ("pca12", "pca24")
REAL_MARGIN = 0.05  # wanted above PCA on real spikes, on average; and not below it on any file


def grouped(rows):
    """Rows of an embedding results file by source and probe."""
    groups = {}
    for row in rows:
        groups.setdefault((row["source"], row["probe"]), []).append(row)
    return groups


def group_means(rows, methods):
    """Mean over rows by method, of those that every row has."""
    means = {name: mean_of(row["mean"].get(name) for row in rows) for name in methods}
    return {name: value for name, value in means.items() if value is not None}


def gap_targets(rows):
    """How much of what PCA leaves is closed, for every simulated source and probe: the target is half of it."""
    targets = []
    for (source, probe), group in grouped(rows).items():
        means = group_means(group, dict.fromkeys(name for row in group for name in row["mean"]))
        pca = max((means[name] for name in PCA if name in means), default=None)
        if source not in SIMULATED or pca is None:
            continue
        target = pca + (1 - pca) / 2
        own = {name: value for name, value in means.items() if name not in PCA}
        entry = dict(source=source, probe=probe, num_rows=len(group), pca=round(pca, 4), target=round(target, 4))
        entry["mean"] = {name: round(value, 4) for name, value in own.items()}
        entry["gap_closed"] = {name: round((value - pca) / (1 - pca), 4) for name, value in own.items()}
        entry["reached"] = {name: value >= target for name, value in own.items()}
        targets.append(entry)
    return targets


def real_margins(rows):
    """Column less the better PCA column of the same file, for every real source: mean, smallest, and on which file."""
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
        smallest, file = min(found)
        mean = sum(value for value, _ in found) / len(found)
        entry = dict(source=source, method=name, num_rows=len(found), mean=round(mean, 4), smallest=smallest, file=file)
        entries.append(entry | dict(reached=mean >= REAL_MARGIN and smallest >= 0))
    return entries


def target_text(entry):
    """Target, and whether the shipped checkpoint reaches it, as the last two cells of a line."""
    if entry is None or "huidurep" not in entry["mean"]:
        return [f"{entry['target']:.2f}" if entry else "", "-" if entry else ""]
    closed = f"{100 * entry['gap_closed']['huidurep']:.0f}%"
    return [f"{entry['target']:.2f}", f"{closed}, reached" if entry["reached"]["huidurep"] else f"{closed}, missed"]


def values_with_oracle(means, methods):
    """Numbers as text, the best in bold; the oracle is no competitor."""
    others = [name for name in methods if name != "oracle"]
    text = dict(zip(others, bold_best([means.get(name) for name in others]), strict=True))
    return [text.get(name) or bold_best([None, means.get(name)])[1].strip("*") for name in methods]


def summary_table(results, labels, methods):
    """One line a source and probe: means with K known, the target, and the share of the gap that is closed."""
    targets = {(entry["source"], entry["probe"]): entry for entry in gap_targets(results["rows"])}
    lines = []
    for (source, probe), group in grouped(results["rows"]).items():
        cells = values_with_oracle(group_means(group, methods), methods)
        lines.append([f"{source}, {probe}", *cells, *target_text(targets.get((source, probe)))])
    return markdown(["spikes (mean)", *labels, "target", "gap closed by HuiduRep"], lines)


def automatic_table(results, methods):
    """The same with the number of units found, and that number over the true one."""
    methods = [name for name in methods if name != "oracle"]
    lines = []
    for (source, probe), group in grouped(results["rows"]).items():
        if not all(row["automatic"]["mean"] for row in group):
            continue
        found = [row["automatic"] for row in group]
        cells = bold_best([mean_of(part["mean"].get(name) for part in found) for name in methods])
        true = mean_of(row["num_units"] for row in group)
        units = [mean_of(part["num_units"].get(name) for part in found) for name in methods]
        text = [f"{c} ({u:.1f})" if u is not None else c for c, u in zip(cells, units, strict=True)]
        lines.append([f"{source}, {probe}", f"{true:.1f}", *text])
    labels = [results["method_labels"][name] for name in methods]
    return markdown(["number of units found: spikes (mean)", "true units", *labels], lines) if lines else ""


def detail_rows(results, labels, methods):
    """One line a condition or file, K known."""
    lines = []
    for row in results["rows"]:
        count = f"{row['num_draws']} draws" if row["num_draws"] > 1 else f"{row['num_units']} units"
        name = f"{row['source']}, {row.get('probe', 'tetrode')}: {row['name']}"
        lines.append([name, count, *values_with_oracle(row["mean"], methods)])
    return markdown(["spikes", "over", *labels], lines)


def embedding_block(results):
    """Markdown of an embedding results file: adjusted Rand index, one line a probe; every condition folded away."""
    header, methods = results["header"], results["methods"]
    labels = [results["method_labels"][name] for name in methods]
    commits = sorted({row["commit"] for row in results["rows"]})
    note = header_note(header) + f" Rows measured at commit {', '.join(commits)}." * (commits != [header["commit"]])
    note += (
        " Adjusted Rand index, full-covariance Gaussian mixture, the same settings for every column. Target: half of"
    )
    note += " what the better PCA column leaves. The oracle knows every template and the noise, but of no collisions."
    found = automatic_table(results, methods)
    note += " In brackets: units found by `cluster_embeddings`, the same rule for every column." * bool(found)
    details = detail_rows(results, labels, methods)
    details = f'<details markdown="1"><summary>Every condition and file, K known</summary>\n\n{details}'
    parts = [summary_table(results, labels, methods), found, note, f"{details}\n\n</details>"]
    return "\n\n".join(part for part in parts if part)


def setting_text(difference):
    """Settings of a run that differ from the first one's, as text."""
    texts = [f"{name} {value[1]} (was {value[0]})" for name, value in difference.items()]
    return "; ".join(texts).replace("|", "/") or "-"


def ablation_block(results):
    """Markdown of an ablation results file: one line a run, one column a condition."""
    conditions, rows = results["conditions"], results["rows"]
    names = [row["label"] for row in rows]
    columns = [values_with_oracle({row["label"]: row["mean"].get(c) for row in rows}, names) for c in conditions]
    lines = []
    for i, row in enumerate(rows):
        minutes = f"{row['training_seconds'] / 60:.0f}" if row.get("training_seconds") else "-"
        lines.append(
            [row["label"], *(column[i] for column in columns), minutes, setting_text(row["settings_difference"])]
        )
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    note = (
        f"Rows measured at commit {commits}, seed {results['header']['seed']}. Adjusted Rand index, K known, mean over"
    )
    note += f" the conditions of each column; settings against those of `{results['default']}`."
    return f"{markdown(['run', *conditions, 'training minutes', 'settings'], lines)}\n\n{note}"


def own_column(name):
    """The column of an embedding results file that holds a checkpoint: the probe type's own one, or the base."""
    return "base" if name == "base" else "huidurep"


def own_rows(rows, name, folder):
    """Rows of an embedding results file that a checkpoint was measured on with the weights it has now."""
    column, digest = own_column(name), weights_digest(folder)
    found = [row for row in rows if column in row["mean"] and name in ("base", row["probe"])]
    return [row for row in found if row["models"].get(column, {}).get("weights") == digest]


def cells_cells(targets, column):
    """HuiduRep, PCA and target on the detailed cells, mean over probes; dashes where they were not measured."""
    found = [entry for entry in targets if entry["source"] == "cells"]
    if not found:
        return ["-"] * 3
    values = (
        [entry["mean"][column] for entry in found],
        *([entry[name] for entry in found] for name in ("pca", "target")),
    )
    return [f"{sum(each) / len(each):.2f}" for each in values]


def checkpoints_block(results, folder=CHECKPOINTS):
    """Markdown of the embedded checkpoints, in the order of the types of probe."""
    sys.path.append(str(ROOT))
    from huidurep.hub.probe_types import PROBE_TYPES

    lines = []
    order = list(PROBE_TYPES)
    folders = [path.parent for path in folder.glob("*/config.json")]
    for place in sorted(folders, key=lambda path: order.index(path.name) if path.name in order else len(order)):
        config = json.loads((place / "config.json").read_text(encoding="utf8"))
        rows = own_rows(results["rows"], place.name, place)
        size = f"{(place / 'model.safetensors').stat().st_size / 1e6:.2f}"
        link = f"[`{place.name}`](huidurep/checkpoints/{place.name}/README.md)"
        scores = cells_cells(gap_targets(rows), own_column(place.name))
        lines.append([link, PROBE_TYPES.get(place.name, "-"), config["num_channels"], size, *scores])
    head = ["checkpoint", "for", "channels", "MB", "HuiduRep", "PCA", "target"]
    note = "The last three: adjusted Rand index on spikes of the detailed cells on that probe, with the number of units"
    note += " known (`base`: mean over the types of probe), from [the benchmarks](docs/benchmarks.md). -: not measured"
    note += " with these weights."
    return f"{markdown(head, lines)}\n\n{note}"


def adapted_spikes_table(groups, methods, labels):
    """One line a group of rows: means with K known, draws whose adapted weights were taken, seconds."""
    lines = []
    for name, rows in groups.items():
        adopted = [each for row in rows for each in row["adopted_draws"]]
        means = group_means(rows, methods)
        cells = bold_best([means.get(method) for method in methods])
        seconds = f"{mean_of(row['adapt_seconds'] for row in rows):.0f}"
        lines.append([name, *cells, f"{sum(adopted)} of {len(adopted)}", seconds])
    return markdown(["spikes (mean)", *labels, "adopted", "s"], lines)


def adapted_recordings_table(groups):
    """One line a group of recordings: accuracy, units, false positives and seconds, without and with adapting."""
    forms = dict(accuracy=".2f", num_units=".1f", false_positives=".1f", seconds=".0f")
    lines = []
    for name, rows in groups.items():
        pairs = [[mean_of(row[when][key] for row in rows) for when in ("before", "adapted")] for key in forms]
        cells = [" / ".join(format(v, form) for v in pair) for pair, form in zip(pairs, forms.values(), strict=True)]
        true = f"{mean_of(row['num_units_true'] for row in rows):.1f}"
        lines.append([name, *cells[:2], true, *cells[2:], f"{sum(row['adopted'] for row in rows)} of {len(rows)}"])
    head = ["recordings: without / with `adapt`", "accuracy", "units found", "true", "false positive", "s", "adopted"]
    return markdown(head, lines)


def adaptation_block(results):
    """Markdown of an adaptation results file: spikes with K known, then whole sortings; every row folded away."""
    header, spikes, methods = results["header"], results["spikes"], list(results["method_labels"])
    labels, kinds = list(results["method_labels"].values()), {}
    for row in results["recordings"]:
        kinds.setdefault(row["kind"], []).append(row)
    tables = [adapted_spikes_table({", ".join(key): rows for key, rows in grouped(spikes).items()}, methods, labels)]
    tables += [adapted_recordings_table(kinds)] if kinds else []
    every = {f"{row['source']}, {row['probe']}: {row['name']}": [row] for row in spikes}
    details = adapted_spikes_table(every, methods, labels)
    every = {f"{row['kind']}: {row['name']}": [row] for row in results["recordings"]}
    details += "\n\n" + adapted_recordings_table(every) if every else ""
    note = header_note(header) + " Adjusted Rand index of the same mixture as above; accuracy as above. Adopted: draws"
    note += " or recordings of which the guard took the adapted weights. Seconds: of adapting, then of a whole sorting."
    return "\n\n".join(
        [*tables, note, f'<details markdown="1"><summary>Every row</summary>\n\n{details}\n\n</details>']
    )


def finetuning_block(results):
    """Markdown of a fine-tuning results file: before / with the trained weights / as delivered, one line a row."""
    lines = []
    for row in results["rows"]:
        whens = [row[when] for when in ("before", "trained", "delivered")]
        cells = [" / ".join(f"{each[key]:.2f}" for each in whens) for key in ("rand_index", "accuracy")]
        name = f"{row['kind']} ({row['name']}), `{row['checkpoint']}`, {row['method']}"
        lines.append(
            [name, f"{row['pca12']['rand_index']:.2f}", *cells, row["verdict"], f"{row['finetune_seconds']:.0f}"]
        )
    head = ["before / trained / delivered", "PCA", "adjusted Rand index", "accuracy", "verdict", "s"]
    return f"{markdown(head, lines)}\n\n{header_note(results['header'])}"


BLOCKS = dict(sorting=sorting_block, embedding=embedding_block, checkpoints=checkpoints_block, ablation=ablation_block)
BLOCKS |= dict(adaptation=adaptation_block, finetuning=finetuning_block, sorting_parts=sorting_parts_block)
BLOCKS |= dict(locust=locust_block, sorting_far_drift=sorting_block)
SOURCES = dict(checkpoints="embedding")  # results of another name than the block's


def fill(text, name, block):
    """Text with the block between its markers; unchanged when the markers are absent."""
    pattern = rf"(<!-- benchmark:{name} -->\n).*?(<!-- /benchmark:{name} -->)"
    return re.sub(pattern, lambda found: f"{found.group(1)}{block}\n{found.group(2)}", text, flags=re.DOTALL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / "README.md", ROOT / "docs/benchmarks.md"])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a table is out of date")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    arguments = parser.parse_args()
    stale = []
    for path in arguments.files:
        old = new = path.read_text()
        for name, make in BLOCKS.items():
            source = arguments.results / f"{SOURCES.get(name, name)}.json"
            if source.exists():
                new = fill(new, name, make(read_results(source)))
            if f"<!-- benchmark:{name} -->" not in old:
                print(f"{path}: no <!-- benchmark:{name} --> marker")
            elif not source.exists():
                print(f"{path}: {source} does not exist, run benchmarks/{source.stem}.py")
        if new != old:
            stale.append(path)
            if not arguments.check:
                path.write_text(new)
        state = "up to date" if new == old else "out of date" if arguments.check else "written"
        print(f"{path}: {state}")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
