"""Groups of components compared from sums over their points."""

import numpy as np
import pytest

from huidurep.clustering.drifting_mixture import fit_line
from huidurep.clustering.merging import Merging
from huidurep.clustering.separation import covariance_of, distance_along, linear_discriminant
from huidurep.clustering.unit_mixture import MixtureSettings

SETTINGS = MixtureSettings()


def make_merging(points, design, components, limit=3.0):
    return Merging(points, design, components, None, np.random.default_rng(0), limit, SETTINGS)


def distance_of(first, second):
    axis = linear_discriminant(first.mean(0), second.mean(0), covariance_of(first), covariance_of(second))
    return distance_along(first @ axis, second @ axis, np.random.default_rng(0))


@pytest.mark.parametrize("sizes", [(60, 50, 70), (60, 50, 8)])  # eight points have no covariance but its diagonal
def test_sums_give_what_the_points_give(sizes):
    rng = np.random.default_rng(1)
    components = np.repeat([0, 1, 2], sizes)
    points = rng.normal(size=(len(components), 4)) + 3.5 * np.eye(4)[components]
    found = make_merging(points, np.ones((len(points), 1)), components)._statistic([0, 1], [2])
    assert found == pytest.approx(distance_of(points[components < 2], points[components == 2]), rel=1e-6)
    assert found > 0


def test_drift_of_both_groups_is_removed():
    rng = np.random.default_rng(2)
    components, drift = rng.integers(0, 2, 400), rng.normal(size=400)
    design = np.stack([np.ones(400), drift], axis=1)
    points = rng.normal(size=(400, 3)) + 4.0 * np.eye(3)[components] + drift[:, None] * [0.0, 0.0, 6.0]
    found = make_merging(points, design, components)._statistic([0], [1])
    # drift has nothing to do with the unit, so the common slope leaves the distance of the units
    centred = points - np.stack([points[components == each].mean(0) for each in (0, 1)])[components]
    slope = fit_line(centred, design)[1]
    still = points - np.outer(drift, slope)
    assert found == pytest.approx(distance_of(still[components == 0], still[components == 1]), rel=0.02)
    assert found > 4 * make_merging(points, design[:, :1], components)._statistic([0], [1]) / 5


def test_components_within_the_limit_become_one_group():
    rng = np.random.default_rng(3)
    components = np.repeat([0, 1, 2, -1], [150, 150, 200, 20])
    centres = np.array([[0.0, 0.0], [0.3, 0.0], [9.0, 0.0], [0.0, 0.0]])
    points = centres[components] + rng.normal(size=(520, 2))
    groups = make_merging(points, np.ones((520, 1)), components).run(None)
    assert np.array_equal(groups, np.where(components == 1, 0, components))
    assert len(np.unique(make_merging(points, np.ones((520, 1)), components).run(1)[:500])) == 1
