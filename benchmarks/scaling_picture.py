"""Picture of how the adjusted Rand index depends on steps, width and template libraries of the training.

    python benchmarks/embedding.py --probes single-contact --sources "package cells" "one contact" --draws 3 \\
        --columns pca12 steps_150 ... --extra steps_150=FOLDER steps_600=FOLDER ... \\
        --output benchmarks/results/scaling.json
    python benchmarks/scaling_picture.py benchmarks/results/scaling.json docs/images/scaling.svg

Every `--extra` is a checkpoint of `huidurep pretrain`, named by a setting and its value. Its settings are those of
huidurep/checkpoints/single-contact/pretraining.json (2,500 steps, width 64, 30 libraries) but for that one and, where
width or libraries differ, 600 steps.
"""

import numpy as np
from pictures import draw_from_command_line, label_values, save_picture

import matplotlib.pyplot as plt  # isort: skip - after `pictures`, which chooses where it draws

TITLES = {"steps": "steps", "width": "width (600 steps)", "libraries": "template libraries (600 steps)"}
SAME = {"width_64": "steps_600", "libraries_30": "steps_600"}  # one checkpoint under the names of two settings
GROUPS = {"one contact": "published sets of one contact", "package cells": "simulated, unseen units"}


def points(rows, setting):
    """Values of a setting, and the mean over the rows of each source at each of them."""
    columns = {name: name for name in rows[0]["mean"]} | SAME
    names = [name for name in columns if name.startswith(f"{setting}_")]
    values = sorted((int(name.rpartition("_")[2]), columns[name]) for name in names)
    means = {
        source: [np.mean([row["mean"][name] for row in rows if row["source"] == source]) for _, name in values]
        for source in GROUPS
    }
    return [value for value, _ in values], means


def draw(results, path):
    """Write the picture: a panel for each setting, a line for each source, and principal components as dotted lines."""
    rows = results["rows"]
    figure, panels = plt.subplots(1, len(TITLES), figsize=(10, 3.6), sharey=True, layout="constrained")
    for panel, (setting, title) in zip(panels, TITLES.items(), strict=True):
        values, means = points(rows, setting)
        for color, (source, label) in zip(("C0", "C1"), GROUPS.items(), strict=True):
            panel.plot(values, means[source], "o-", color=color, label=label)
            pca = np.mean([row["mean"]["pca12"] for row in rows if row["source"] == source])
            panel.axhline(pca, color=color, linestyle=":", label=f"{label}: 12 principal components")
        label_values(panel, title, values, values)
    panels[0].set_ylabel("adjusted Rand index")
    save_picture(figure, panels, path)


if __name__ == "__main__":
    draw_from_command_line(__doc__, draw)
