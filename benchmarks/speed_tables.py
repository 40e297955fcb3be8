"""Tables of speed.py for docs/benchmarks.md, and the picture of growth.

python benchmarks/speed_tables.py benchmarks/results/speed.json docs/images/growth.svg
"""

import argparse
import json
from pathlib import Path

import numpy as np
from table_text import markdown, rows_note

SORT_COLUMNS = {
    "accuracy": "accuracy",
    "false_positive_units": "false units",
    "seconds": "seconds",
    "peak_memory_mb": "memory (MiB)",
}
AXES = {"minutes": "minutes of a tetrode", "contacts": "contacts, one minute"}


def slope(rows, axis):
    """Slope of log seconds on the log of minutes or contacts; NaN with fewer than two rows."""
    chosen = [row for row in rows if row["axis"] == axis]
    if len(chosen) < 2:
        return float("nan")
    return float(np.polyfit(*(np.log([row[name] for row in chosen]) for name in (axis, "cpu_seconds")), 1)[0])


def sorts_table(rows):
    """Whole sortings, by contacts."""
    lines = []
    for contacts in sorted({row["contacts"] for row in rows}):
        these = [row for row in rows if row["contacts"] == contacts and "error" not in row]
        for row in these:
            lines.append([f"{contacts} contacts: {row['sorter']}", *(row.get(each, "-") for each in SORT_COLUMNS)])
    return markdown(["recording: sorter", *SORT_COLUMNS.values()], lines)


def stages_table(rows):
    """Share of the seconds of each stage of huidurep."""
    own = [row for row in rows if row.get("stages")]
    names = list(dict.fromkeys(name for row in own for name in row["stages"]))
    lines = [
        [
            f"{row['contacts']} contacts",
            *(f"{100 * row['stages'].get(n, 0) / sum(row['stages'].values()):.0f} %" for n in names),
        ]
        for row in sorted(own, key=lambda row: row["contacts"])
    ]
    return markdown(["share of the time", *names], lines)


def growth_table(rows):
    """CPU seconds and memory by duration and by contacts, with the slopes."""
    lines = [
        [
            f"{row['contacts']} contacts, {row['minutes']:g} min",
            row["spikes"],
            row["cpu_seconds"],
            row["peak_memory_mb"],
        ]
        for row in rows
    ]
    slopes = ", ".join(f"{slope(rows, axis):.2f} ({title})" for axis, title in AXES.items())
    table = markdown(["one process", "spikes", "CPU seconds", "memory (MiB)"], lines)
    return f"{table}\n\nSlope of log seconds: {slopes}."


def encoder_table(rows):
    """Spikes a second of each encoder."""
    lines = [
        [row["encoder"], row["spikes_a_second"], "-" if row["flop_share"] is None else f"{row['flop_share']:.2f}"]
        for row in rows
    ]
    return markdown(["encoder, one thread", "spikes a second", "share of a matrix product"], lines)


def tables(results):
    """Tables of the parts that were measured."""
    made = []
    if results.get("sorts"):
        made += [sorts_table(results["sorts"]), stages_table(results["sorts"])]
    if results.get("growth"):
        made.append(growth_table(results["growth"]))
    if results.get("encoder"):
        made.append(encoder_table(results["encoder"]))
    return "\n\n".join(made)


def speed_block(results):
    """Block of a file of speed.py."""
    rows = [row for part in ("sorts", "growth", "encoder") for row in results.get(part, [])]
    return f"{tables(results)}\n\n{rows_note(results | dict(rows=rows))}"


def draw_growth(rows, path):
    """Write the picture: a panel for each axis, seconds and memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for panel, (axis, title) in zip(panels, AXES.items(), strict=True):
        chosen = [row for row in rows if row["axis"] == axis]
        values = [row[axis] for row in chosen]
        panel.plot(values, [row["cpu_seconds"] for row in chosen], "o-", color="C0", label="CPU seconds")
        panel.plot(values, [row["peak_memory_mb"] for row in chosen], "s--", color="C1", label="memory, MiB")
        panel.set(xlabel=title, xscale="log", yscale="log", xticks=values, xticklabels=[f"{each:g}" for each in values])
        panel.set_title(f"slope of seconds {slope(rows, axis):.2f}", fontsize="medium")
        panel.minorticks_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    draw_growth(json.loads(arguments.results.read_text(encoding="utf8"))["growth"], arguments.picture)


if __name__ == "__main__":
    main()
