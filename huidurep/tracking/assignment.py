"""Which units of any number of sessions are one neuron."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from .settings import TRACKING_SETTINGS, TrackingSettings


def assign_neurons(
    num_units: list[int],
    probabilities: dict[tuple[int, int], np.ndarray],
    *,
    settings: TrackingSettings = TRACKING_SETTINGS,
) -> list[np.ndarray]:
    """Number the neurons of all sessions, at most one unit of each session for a neuron.

    Units are assigned one to one between any two sessions. Then the assigned pairs join groups of units, the most
    probable pair first: two groups are joined if no session is in both, and if their units are alike on average. A
    neuron may therefore be absent in some sessions.

    Parameters
    ----------
    num_units : list of int
        Of each session.
    probabilities : dict of (int, int) to ndarray (num_first, num_second)
        For each two sessions, the earlier one first.
    settings : TrackingSettings

    Returns
    -------
    list of ndarray of int (num_units,)
        Neuron of each unit, counted in the order of sessions and units.
    """
    starts = np.concatenate([[0], np.cumsum(num_units)]).astype(int)
    session = np.repeat(np.arange(len(num_units)), num_units)
    total = int(starts[-1])
    odds = np.full((total, total), -np.inf)
    pairs = []
    for first, second in combinations(range(len(num_units)), 2):
        matrix = probabilities[first, second]
        clipped = np.clip(matrix, 1e-6, 1 - 1e-6)
        own, other = slice(*starts[first : first + 2]), slice(*starts[second : second + 2])
        odds[own, other] = np.log(clipped / (1 - clipped))
        odds[other, own] = odds[own, other].T
        for row, column in zip(*linear_sum_assignment(-matrix), strict=True):
            if matrix[row, column] >= settings.min_probability:
                pairs.append((-matrix[row, column], starts[first] + row, starts[second] + column))
    group = np.arange(total)
    for _, one, other in sorted(pairs):
        members, joined = (np.flatnonzero(group == group[each]) for each in (one, other))
        if group[one] == group[other] or set(session[members]) & set(session[joined]):
            continue
        if odds[np.ix_(members, joined)].mean() >= 0 or min(len(members), len(joined)) == 0:
            group[joined] = group[one]
    _, firsts, numbers = np.unique(group, return_index=True, return_inverse=True)
    renumbered = np.argsort(np.argsort(firsts))[numbers]
    return [renumbered[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]
