"""What the pictures of results have in common: panels over logarithmic values, one legend, the command line."""

import argparse
from pathlib import Path

import matplotlib
from results_files import read_results

matplotlib.use("Agg")


def label_values(panel, title, values, labels):
    """Give a panel a logarithmic axis with one tick for each value."""
    panel.set(xlabel=title, xscale="log", xticks=values, xticklabels=labels)
    panel.minorticks_off()


def save_picture(figure, panels, path):
    """Write a figure with the legend of its first panel below all of them."""
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path)


def draw_from_command_line(description, draw):
    """Call `draw(results, path)` with the results file and the picture that the command names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    draw(read_results(arguments.results), arguments.picture)
