"""Picture of how the time and the memory of a sorting grow with the recording.

python benchmarks/growth_picture.py benchmarks/results/speed.json docs/images/growth.svg
"""

from pictures import draw_from_command_line, label_values, save_picture
from speed_tables import AXES, slope

import matplotlib.pyplot as plt  # isort: skip - after `pictures`, which chooses where it draws


def draw(results, path):
    """Write the picture: a panel for each axis, seconds and memory."""
    rows = results["growth"]
    figure, panels = plt.subplots(1, len(AXES), figsize=(8, 3.4), layout="constrained")
    for panel, (axis, title) in zip(panels, AXES.items(), strict=True):
        chosen = [row for row in rows if row["axis"] == axis]
        values = [row[axis] for row in chosen]
        panel.plot(values, [row["cpu_seconds"] for row in chosen], "o-", color="C0", label="CPU seconds")
        panel.plot(values, [row["peak_memory_mb"] for row in chosen], "s--", color="C1", label="memory, MiB")
        panel.set(yscale="log")
        panel.set_title(f"slope of seconds {slope(rows, axis):.2f}", fontsize="medium")
        label_values(panel, title, values, [f"{each:g}" for each in values])
    save_picture(figure, panels, path)


if __name__ == "__main__":
    draw_from_command_line(__doc__, draw)
