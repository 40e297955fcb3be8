import numpy as np

from huidurep.report.colors import PALETTE, assign_colors


def luminance(color):
    channels = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_near_units_have_different_colors():
    rng = np.random.default_rng(0)
    positions_um = np.column_stack([rng.uniform(0, 50, 300), rng.uniform(0, 3840, 300)])
    colors = assign_colors(positions_um, np.zeros(300))
    distances_um = np.linalg.norm(positions_um[:, None] - positions_um, axis=2)
    np.fill_diagonal(distances_um, np.inf)
    nearest = np.argsort(distances_um, axis=1)[:, :4]
    assert np.mean(colors[nearest] == colors[:, None]) < 0.01
    assert set(colors) == set(range(len(PALETTE)))


def test_a_small_group_repeats_no_color():
    colors = assign_colors(np.zeros((16, 2)), np.repeat(["left", "right"], 8))
    assert len(set(colors[:8])) == len(set(colors[8:])) == 8
    assert len(assign_colors(np.zeros((0, 2)), np.zeros(0))) == 0


def test_colors_are_seen_on_both_papers():
    for on_white, on_dark in PALETTE:
        assert contrast(on_white, "#ffffff") > 3 and contrast(on_dark, "#14181d") > 3
