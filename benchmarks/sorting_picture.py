"""Draw the accuracy of each true unit against its SNR, one colour for each sorter.

    python benchmarks/sorting_picture.py [--results RESULTS.json] [--output PICTURE.png]

Dots are the units of all simulated recordings; lines are means of tenths of the units in order of SNR. Sorters that
were not run on all of these recordings are left out.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_files import ROOT, read_results
from sorting_tables import REAL, sorter_label

# Okabe and Ito's palette, distinguishable with colour blindness
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")


def units_by_sorter(rows):
    """Sorter -> SNR and accuracy (num_units, 2) of all true units, of sorters with every recording."""
    rows = [row for row in rows if not row["recording"].startswith(REAL) and "error" not in row]
    recordings = {row["recording"] for row in rows}
    found = {}
    for row in rows:
        found.setdefault(sorter_label(row), {})[row["recording"]] = [
            (unit["snr"], unit["accuracy"]) for unit in row["units"]
        ]
    return {
        name: np.array([unit for units in own.values() for unit in units])
        for name, own in found.items()
        if set(own) == recordings
    }


def draw(found, path):
    """Write the picture of the units of `units_by_sorter`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")
    means = {name: units[:, 1].mean() for name, units in found.items()}
    for name, colour in zip(sorted(means, key=means.get, reverse=True), COLOURS, strict=False):
        snr, accuracy = found[name].T
        axes.plot(snr, accuracy, ".", color=colour, markersize=3, alpha=0.25, markeredgewidth=0)
        tenths = np.array_split(np.argsort(snr), 10)
        centres = [(snr[rows].mean(), accuracy[rows].mean()) for rows in tenths]
        axes.plot(
            *np.transpose(centres), "o-", color=colour, markersize=4, label=f"{name} (mean of units {means[name]:.2f})"
        )
    axes.set(xscale="log", xlabel="SNR of the true unit", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.set_xticks([3, 5, 10, 20], ["3", "5", "10", "20"])
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/sorting.json")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/benchmark_sorting.png")
    arguments = parser.parse_args()
    draw(units_by_sorter(read_results(arguments.results)["rows"]), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
