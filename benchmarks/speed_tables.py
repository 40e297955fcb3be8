"""Tables of speed.py for docs/benchmarks.md; growth_picture.py draws the growth."""

import numpy as np
from table_text import markdown, rows_note

SORT_COLUMNS = {
    "accuracy": "accuracy",
    "false_positive_units": "false units",
    "seconds": "seconds",
    "peak_memory_together_mb": "memory (MiB)",  # of all processes, shared pages once
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
    ordered = sorted((row for row in rows if "error" not in row), key=lambda row: row["contacts"])
    lines = [
        [f"{row['contacts']} contacts: {row['sorter']}", *(row.get(each, "-") for each in SORT_COLUMNS)]
        for row in ordered
    ]
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
