"""Tables of whole sortings: sorters by kind of recording, variants of HuiduRep, recordings without ground truth."""

import sys
from pathlib import Path

import pandas as pd

sys.path.append(str(Path(__file__).resolve().parent))
from table_text import bold_best, frame_markdown, header_note, markdown, mean_of, rows_note

FEW_VIOLATIONS = 0.01  # largest fraction of inter-spike intervals below 1.5 ms in a unit that counts as clean
REAL = "opto"  # recordings of units of real recordings; the others are simulated
OURS = "HuiduRep"
SUMMARY = {
    "tetrodes": ("tet_drift", "tet_lowsnr", "tet_static"),
    "one column of 32 contacts": ("column_drift",),
    "Neuropixels 1.0, 64 contacts": ("patch_drift", "patch_static"),
    "dense grid, 64 contacts": ("array_static",),
}
COUNTS = {  # column of the results: title of the table, format of the mean
    "precision": ("precision", ".2f"),
    "recall": ("recall", ".2f"),
    "units_found": ("units found", ".1f"),
    "units_true": ("true", ".1f"),
    "well_detected": ("well detected", ".1f"),
    "false_positive_units": ("false positive", ".1f"),
    "redundant_units": ("redundant", ".1f"),
    "overmerged_units": ("over-merged", ".1f"),
    "seconds": ("seconds", ".0f"),
    "peak_memory_mb": ("memory (MB)", ".0f"),
}
COLUMNS = ["recording", "version", "commit", "accuracy", "error", "retried_with", *COUNTS]


def sorter_label(row):
    """Name of a sorter in tables and pictures."""
    return f"{OURS} ({row['model']})" if row["sorter"] == "huidurep" else row["sorter"]


def sorting_frame(rows):
    """Rows of a results file as a DataFrame, with their sorter's label and the kind of recording."""
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["label"] = [sorter_label(row) for row in rows]
    frame["kind"] = frame["recording"].str.replace(r"_s\d+$", "", regex=True)
    return frame


def recording_parts(rows):
    """DataFrames of the simulated recordings and of those of real units, without empty ones."""
    is_real = sorting_frame(rows)["recording"].str.startswith(REAL)
    return [part for part in (sorting_frame(rows)[is_real == real] for real in (False, True)) if len(part)]


def kind_means(frame):
    """Mean accuracy (sorters, kinds); NaN where a sorter has not all recordings of a kind."""
    by_recording = frame.pivot(index="label", columns="recording", values="accuracy")
    kinds = frame.drop_duplicates("recording").set_index("recording")["kind"]
    means = by_recording.T.groupby(kinds).agg(lambda values: values.mean(skipna=False)).T
    return means.loc[frame["label"].unique()]


def accuracy_table(frame):
    """Mean accuracy of each sorter on each kind of recording, and the mean over kinds."""
    means = kind_means(frame)
    means["mean"] = means.mean(axis=1, skipna=False)
    return frame_markdown(means.apply(bold_best), "mean accuracy")


def single_runs_table(frame):
    """Runs of sorters that have not all recordings of a kind, beside HuiduRep; "" if there are none."""
    means, lines = kind_means(frame), []
    ours = frame[frame["label"].str.startswith(OURS)].set_index("recording")["accuracy"]
    for row in frame.dropna(subset="accuracy").itertuples():
        if pd.isna(means.loc[row.label, row.kind]) and row.recording in ours:
            accuracies = bold_best(pd.Series([row.accuracy, ours[row.recording]]))
            lines.append([f"{row.label} on {row.recording}", *accuracies, f"{row.seconds:.0f}", row.version])
    head = ["run of part of a kind", "mean accuracy", means.index[0], "seconds", "version"]
    return markdown(head, sorted(lines)) if lines else ""


def version_text(rows):
    """Versions of a sorter and the options of runs that failed without them, with the number of runs of each."""
    options = rows["retried_with"].map(lambda each: f" ({', '.join(f'{k}={v}' for k, v in each.items())})", "ignore")
    counts = (rows["version"] + options.fillna("")).value_counts(sort=False)
    return "; ".join(f"{text}: {count}" if len(counts) > 1 else text for text, count in counts.items())


def counts_table(frame):
    """Means over recordings of all other measures."""
    sorters = frame[frame["error"].isna()].groupby("label", sort=False)
    means = sorters[list(COUNTS)].mean()
    table = sorters.size().map(f"{{}} of {frame['recording'].nunique()}".format).to_frame("recordings")
    for name, (title, form) in COUNTS.items():
        table[title] = means[name].map(f"{{:{form}}}".format)
    table["version"] = pd.Series({label: version_text(rows) for label, rows in sorters})
    return frame_markdown(table, "mean of a recording")


def sorting_note(results):
    """Conditions of the measurements, and definitions."""
    note = f"{rows_note(results)} {results['header']['settings']['threads']} threads a run."
    note += " Accuracy TP / (TP + FP + FN) of each true unit, matched within 0.4 ms, mean over all true units."
    return f"{note} Memory: the child process and its largest worker."


def sorting_block(results):
    """Block of a file of sorting.py: accuracy by kind of recording, then means of the other measures."""
    order = {name: rank for rank, name in enumerate(results["header"]["settings"]["sorters"])}
    parts = recording_parts(sorted(results["rows"], key=lambda row: order.get(row["sorter"], len(order))))
    tables = [make(part) for part in parts for make in (accuracy_table, single_runs_table, counts_table)]
    return "\n\n".join([*filter(None, tables), sorting_note(results)])


def sorting_parts_block(results):
    """Block of a file of variants of HuiduRep (sorting_variants.py): accuracy by kind of recording."""
    return "\n\n".join([*map(accuracy_table, recording_parts(results["rows"])), sorting_note(results)])


def summary_block(results):
    """Block of some probes: HuiduRep and the best of the sorters that were run on all recordings of the probe."""
    frame = recording_parts(results["rows"])[0]
    means, lines = kind_means(frame), []
    is_ours = means.index.str.startswith(OURS)
    for probe, kinds in SUMMARY.items():
        probe_means = means[list(kinds)].mean(axis=1, skipna=False)
        best = probe_means[~is_ours].idxmax()
        own, other = bold_best(pd.Series([probe_means[is_ours].iloc[0], probe_means[best]]))
        lines.append([probe, own, f"{other} ({best})", frame.query("kind in @kinds")["recording"].nunique()])
    commits = frame[frame["label"].str.startswith(OURS)]["commit"].unique()
    head = ["probe (simulated recordings)", OURS, "best other sorter", "recordings"]
    return f"{markdown(head, lines)}\n\nMean accuracy over all true units, commit {', '.join(commits)}."


def locust_block(results):
    """Block of a file of locust.py: units of each sorter on recordings without ground truth."""
    lines = []
    for row in results["rows"]:
        name = OURS if row["sorter"] == "huidurep" else row["sorter"]
        units = pd.DataFrame(row.get("units", []), columns=["num_spikes", "violations", "snr"])
        clean = units[units["violations"] < FEW_VIOLATIONS]
        cells = ["-"] * 3 if "error" in row else [len(units), len(clean), clean["num_spikes"].sum()]
        worst, lowest = f"{100 * units['violations'].max():.1f}", f"{units['snr'].min():.1f}"
        lines.append([row["recording"], f"{name} {row['version']}", *cells, *([worst, lowest] if len(units) else "--")])
    few = f"units below {100 * FEW_VIOLATIONS:g} %"
    head = ["recording", "sorter", "units", few, "their spikes", "worst unit, %", "lowest SNR"]
    return f"{markdown(head, lines)}\n\n{header_note(results['header'])} %: inter-spike intervals below 1.5 ms."


def stability_block(results):
    """Block of a file of stability.py: accuracy (mean over the sortings), numbers of units, agreement by change."""
    changes, lines = results["header"]["settings"]["changes"], []
    for commit in dict.fromkeys(row["commit"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["commit"] == commit]
        found = [[mean_of(row["accuracy"]), *(row["agreement"][name] for name in changes)] for row in rows]
        units = [f"{min(row['num_units'])} to {max(row['num_units'])} ({row['num_units_true']})" for row in rows]
        names = [f"{row['recording']}, {commit}" for row in rows]
        for name, text, values in zip(
            [*names, f"**mean**, {commit}"],
            [*units, "-"],
            [*found, map(mean_of, zip(*found, strict=True))],
            strict=True,
        ):
            lines.append([name, text, *(f"{value:.3f}" for value in values)])
    head = ["recording, commit", "units (true)", "accuracy", *(name.replace("_", " ") for name in changes)]
    return f"{markdown(head, lines)}\n\n{header_note(results['header'])}"


def redundancy_block(results):
    """Block of a file of redundant_units.py: units found of each kind of recording, by sorter, summed over seeds."""
    lines = []
    cases = dict.fromkeys((row["kind"], row["probe"], row["sorter"]) for row in results["rows"])
    for case in sorted(cases):
        rows = [row for row in results["rows"] if (row["kind"], row["probe"], row["sorter"]) == case]
        kind, probe, sorter = case
        counts = [sum(row[name] for row in rows) for name in ("true", "found", "extra")]
        good = "-" if rows[0]["good_extra"] is None else sum(row["good_extra"] for row in rows)
        name = OURS if sorter == "huidurep" else sorter
        accuracy = f"{mean_of([row['accuracy'] for row in rows]):.3f}"
        lines.append([f"{kind.replace('_', ' ')}, {probe}", name, len(rows), *counts, good, accuracy])
    head = ["neurons", "sorter", "recordings", "true units", "found", "extra", "extra, good", "accuracy"]
    return f"{markdown(head, lines)}\n\n{rows_note(results)} Extra: units that are the best match of no neuron."
