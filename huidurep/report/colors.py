"""Colours of units, which are not repeated among units near each other on the probe."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

# on white and on the dark page; the first three are those of Okabe & Ito 2008, "Color universal design", the others
# were chosen to have a contrast of about 3 or more with the paper
PALETTE = (
    ("#0072b2", "#56a9e8"),  # blue
    ("#d55e00", "#ff8a4c"),  # vermilion
    ("#009e73", "#2cc79b"),  # green
    ("#cc4c95", "#f08cc4"),  # magenta
    ("#b07d00", "#f0c04a"),  # ochre
    ("#7b4bc4", "#b79bf5"),  # violet
    ("#3a9bd2", "#9adcf7"),  # sky blue
    ("#7a4a1e", "#c99b6b"),  # brown
    ("#5e8c1a", "#a9d14f"),  # olive
    ("#8c1c3a", "#e8647e"),  # wine
    ("#66707c", "#b4bdc8"),  # grey
    ("#0b7d84", "#5fd3dc"),  # teal
)
COLORS = tuple(on_white for on_white, _ in PALETTE)


def assign_colors(positions_um: np.ndarray, groups: np.ndarray, num_colors: int = len(PALETTE)) -> np.ndarray:
    """Choose a colour for each unit, so that units of one colour are far apart.

    Greedy colouring from the top of the probe: each unit gets the colour whose nearest unit is farthest, which on a
    group with fewer units than colours is one of its own.

    Parameters
    ----------
    positions_um : ndarray of float, (num_units, 2)
        Places of the units.
    groups : ndarray, (num_units,)
        Units of different groups are far apart wherever their contacts are.
    num_colors : int

    Returns
    -------
    ndarray of int, (num_units,)
        Index of the colour.
    """
    num_units = len(positions_um)
    colors = np.full(num_units, -1)
    places = np.unique(groups, return_inverse=True)[1]
    distances_um = cdist(positions_um, positions_um) + 1e9 * (places[:, None] != places)
    for unit in np.lexsort((positions_um[:, 0], -positions_um[:, 1], places)):
        nearest_um = np.full(num_colors, np.inf)
        is_done = colors >= 0
        np.minimum.at(nearest_um, colors[is_done], distances_um[unit, is_done])
        colors[unit] = nearest_um.argmax()
    return colors
