"""Units on which several starts agree."""

import numpy as np

from huidurep.clustering.consensus import agreed_units
from huidurep.clustering.mixture import cluster_embeddings


def one_hot(labels, size):
    return np.eye(size)[labels]


def test_what_most_starts_find_is_kept():
    truth = np.repeat([0, 1], 60)
    cut = np.where(np.arange(120) < 30, 2, truth)  # one start cuts the first unit in two
    responsibilities = [one_hot(truth, 2), one_hot(truth, 2), one_hot(cut, 3)]
    units, owners = agreed_units(responsibilities, [np.arange(2), np.arange(2), np.arange(3)])
    assert len(np.unique(units)) == 2 and (np.diff(units[truth == 0]) == 0).all()
    assert owners[2][0] == owners[2][2] == owners[0][0] != owners[0][1]


def test_components_merged_by_one_start_are_given_back():
    truth = np.repeat([0, 1], 60)
    responsibilities = [one_hot(truth, 2)] * 3
    units, owners = agreed_units(responsibilities, [np.arange(2), np.arange(2), np.zeros(2, int)])
    assert len(np.unique(units)) == 2
    assert np.array_equal(owners[2], owners[0])


def test_points_of_no_unit():
    background = np.repeat([0, 1], 60)
    owners = [np.array([0, -1])] * 2
    units, found = agreed_units([one_hot(background, 2)] * 2, owners)
    assert np.array_equal(units, np.where(background == 1, -1, 0))
    assert all(np.array_equal(each, [0, -1]) for each in found)
    units, _ = agreed_units([np.ones((5, 1))], [np.array([-1])])
    assert (units == -1).all()


def test_starts_in_which_a_point_has_no_unit_do_not_separate_it():
    truth = np.repeat([0, 1], 60)
    cut = np.where(np.arange(120) < 30, 2, truth)
    responsibilities = [one_hot(truth, 2)] * 2 + [one_hot(cut, 3)] * 3
    # one of three starts that cut the first unit in two finds a unit in both parts
    owners = [np.arange(2)] * 2 + [np.arange(3), np.array([0, 1, -1]), np.array([0, 1, -1])]
    units, _ = agreed_units(responsibilities, owners)
    assert len(np.unique(units)) == 2 and (np.diff(units[truth == 0]) == 0).all()


def test_units_hardly_depend_on_the_seed():
    rng = np.random.default_rng(0)
    centres = 4.5 * np.eye(6)[rng.integers(0, 6, 1200)]
    points = centres + rng.normal(size=(1200, 6))
    labels = [cluster_embeddings(points, seed=seed) for seed in range(2)]
    assert labels[0].num_units == labels[1].num_units == 6
    pairs = np.unique(np.stack([each.labels for each in labels]), axis=1, return_counts=True)[1]
    assert np.sort(pairs)[-6:].sum() > 0.98 * len(points)
