"""The Markdown tables of sortings: each sorter on each kind of recording, and what each part of HuiduRep gives."""

import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
from table_text import bold_best, header_note, markdown, mean_of

CLEAN = 0.01  # of the intervals of a unit, those shorter than its refractory period
REAL = "opto"  # kinds whose units are real; the others are simulated
COUNTS = ("units_found", "units_true", "well_detected", "false_positive_units", "redundant_units", "overmerged_units")


def sorter_label(row):
    return f"HuiduRep ({row['model']})" if row["sorter"] == "huidurep" else row["sorter"]


def kind_of(recording):
    """The kind of a recording: its name without the seed."""
    return re.sub(r"_s\d+$", "", recording)


def version_text(rows):
    """Versions, with the options of second attempts where the first one failed."""
    texts = []
    for row in rows:
        options = ", ".join(f"{name}={value}" for name, value in row.get("retried_with", {}).items())
        texts.append(f"{row['version']} ({options})" if options else row["version"])
    return "; ".join(f"{text}: {texts.count(text)}" if len(set(texts)) > 1 else text for text in dict.fromkeys(texts))


def kind_means(rows, sorter, kinds):
    """Mean accuracy of a sorter on each kind, None where a recording of it has no row."""
    names = {kind: {row["recording"] for row in rows if kind_of(row["recording"]) == kind} for kind in kinds}
    found = {row["recording"]: row.get("accuracy") for row in rows if sorter_label(row) == sorter}
    return [mean_of(found.get(name) for name in sorted(names[kind])) for kind in kinds]


def accuracy_table(rows):
    """Mean accuracy: one line a sorter, one column a kind of recording, the mean last (only over a complete line)."""
    sorters = list(dict.fromkeys(sorter_label(row) for row in rows))
    kinds = sorted({kind_of(row["recording"]) for row in rows})
    lines = [kind_means(rows, sorter, kinds) for sorter in sorters]
    lines = [[*line, mean_of(line)] for line in lines]
    columns = [bold_best(column) for column in zip(*lines, strict=True)]
    head = ["mean accuracy", *kinds, "mean"]
    return markdown(head, [[name, *(column[i] for column in columns)] for i, name in enumerate(sorters)])


def single_runs_table(rows):
    """Runs of a sorter that has only some recordings of a kind, beside HuiduRep on the same; "" where none has."""
    accuracy = {(row["recording"], sorter_label(row)): row.get("accuracy") for row in rows}
    ours = next((sorter for _, sorter in accuracy if sorter.startswith("HuiduRep")), None)
    lines = []
    for row in rows:
        name, sorter = row["recording"], sorter_label(row)
        of_kind = {each["recording"] for each in rows if kind_of(each["recording"]) == kind_of(name)}
        is_some = any(accuracy.get((each, sorter)) is None for each in of_kind)
        if is_some and "error" not in row and accuracy.get((name, ours)) is not None:
            values = bold_best([row["accuracy"], accuracy[name, ours]])
            lines.append([f"{sorter} on {name}", *values, f"{row['seconds']:.0f}", row["version"]])
    head = ["run of part of a kind", "mean accuracy", ours, "seconds", "version"]
    return markdown(head, sorted(lines)) if lines else ""


def counts_table(rows):
    """Means over recordings of everything else, one line a sorter."""
    lines = []
    num_recordings = len({row["recording"] for row in rows})
    for sorter in dict.fromkeys(sorter_label(row) for row in rows):
        own = [row for row in rows if sorter_label(row) == sorter and "error" not in row]
        if not own:
            continue
        line = [sorter, f"{len(own)} of {num_recordings}"]
        line += [f"{mean_of(row[name] for row in own):.2f}" for name in ("precision", "recall")]
        line += [f"{mean_of(row[name] for row in own):.1f}" for name in COUNTS]
        line += [f"{mean_of(row[name] for row in own):.0f}" for name in ("seconds", "peak_memory_mb")]
        lines.append([*line, version_text(own)])
    head = ["mean of a recording", "recordings", "precision", "recall", "units found", "true", "well detected"]
    return markdown([*head, "false positive", "redundant", "over-merged", "seconds", "memory (MB)", "version"], lines)


def rows_note(results):
    """Where, when and with what the rows were measured."""
    header, commits = results["header"], sorted({row["commit"] for row in results["rows"]})
    note = header_note(header) + f" Rows measured at commit {', '.join(commits)}." * (commits != [header["commit"]])
    note += f" {header['settings']['threads']} threads a run. Accuracy TP / (TP + FP + FN) of each true unit, matched"
    return note + " within 0.4 ms, mean over all true units. Memory: the child process and its largest worker."


def parts_of(rows):
    """Rows of simulated and of real units, those that there are."""
    parts = [[row for row in rows if row["recording"].startswith(REAL) == is_real] for is_real in (False, True)]
    return [part for part in parts if part]


def sorting_block(results):
    """Markdown of a sorting results file: accuracy by kind, then means of counts."""
    order = {name: i for i, name in enumerate(results["header"]["settings"]["sorters"])}
    rows = sorted(results["rows"], key=lambda row: order.get(row["sorter"], 99))
    makers = (accuracy_table, single_runs_table, counts_table)
    tables = [table for part in parts_of(rows) for make in makers if (table := make(part))]
    return "\n\n".join([*tables, rows_note(results)])


def sorting_parts_block(results):
    """Markdown of the results of sorting_variants.py: accuracy by kind."""
    return "\n\n".join([*(accuracy_table(part) for part in parts_of(results["rows"])), rows_note(results)])


def locust_block(results):
    """Markdown of benchmarks/locust.py: what each sorter claims of a recording without a truth."""
    lines = []
    for row in results["rows"]:
        name = f"{'HuiduRep' if row['sorter'] == 'huidurep' else row['sorter']} {row['version']}"
        units = row.get("units", [])
        clean = [unit for unit in units if unit["violations"] < CLEAN]
        cells = [len(units), len(clean), sum(unit["num_spikes"] for unit in clean)] if "error" not in row else ["-"] * 3
        worst = f"{100 * max(unit['violations'] for unit in units):.1f}" if units else "-"
        lowest = f"{min(unit['snr'] for unit in units):.1f}" if units else "-"
        lines.append([row["recording"], name, *cells, worst, lowest])
    head = [
        "recording",
        "sorter",
        "units",
        f"units below {100 * CLEAN:g} %",
        "their spikes",
        "worst unit, %",
        "lowest SNR",
    ]
    return f"{markdown(head, lines)}\n\n{header_note(results['header'])} %: intervals below 1.5 ms."
