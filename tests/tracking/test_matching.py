"""Probabilities of pairs, and the displacement between two sessions."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from huidurep.tracking.group_units import GroupUnits
from huidurep.tracking.matching import (
    is_bundle,
    log_odds,
    match_probabilities,
    pair_probabilities,
    probe_group,
    share_odds,
)
from huidurep.tracking.pair_features import embedding_distances, isi_features
from huidurep.tracking.settings import Calibration, ShapeModel
from huidurep.tracking.track import estimate_displacements


def enumerate_assignments(odds):
    """Probabilities of pairs from all assignments, each weighted by the odds of its pairs."""
    num_rows, num_columns = odds.shape
    total, sums = 0.0, np.zeros(odds.shape)
    seen = set()
    for order in permutations([*range(num_columns), *[-1] * num_rows], num_rows):
        if order in seen:
            continue
        seen.add(order)
        pairs = [(row, column) for row, column in enumerate(order) if column >= 0]
        weight = np.exp(sum(odds[pair] for pair in pairs))
        total += weight
        for pair in pairs:
            sums[pair] += weight
    return sums / total


def test_a_single_unit_shares_its_odds():
    odds = np.log([[2.0, 1.0, 3.0]])
    np.testing.assert_allclose(match_probabilities(odds), [[2 / 7, 1 / 7, 3 / 7]], rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_are_near_those_of_all_assignments(seed):
    odds = np.random.default_rng(seed).normal(0, 2, (3, 4))
    found = match_probabilities(odds)
    np.testing.assert_allclose(found, enumerate_assignments(odds), atol=0.06)
    assert found.sum(axis=0).max() <= 1.001 and found.sum(axis=1).max() <= 1.001


def test_impossible_pairs_and_extreme_odds():
    found = match_probabilities(np.array([[-np.inf, 80.0], [80.0, -np.inf]]))
    np.testing.assert_allclose(found, [[0, 1], [1, 0]], atol=1e-6)
    assert match_probabilities(np.zeros((0, 3))).shape == (0, 3)


def test_a_similar_unit_means_less_where_few_neurons_are_common():
    """The same even odds of one pair, among pairs that are surely one neuron and among pairs that surely are not."""
    common, other = (np.where(np.eye(20, dtype=bool), value, -20.0) for value in (20.0, -20.0))
    common[0, 0] = other[0, 0] = 0.0
    few, many = pair_probabilities(other)[0, 0], pair_probabilities(common)[0, 0]
    assert few < 0.2 and many > 0.8
    # 19 of 20 units, and 2 of the 4 that count beside them, have a partner
    assert share_odds(19, (20, 20)) == pytest.approx(np.log(21 / 3))
    assert pair_probabilities(np.zeros((1, 1)))[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("scale", [0.5, 40.0])
def test_distances_of_embeddings_do_not_depend_on_the_scale_of_the_checkpoint(scale):
    drawn = np.random.default_rng(0).normal(size=(2, 12, 8))
    first, second = (_embedded(each, usual_distance=1.0) for each in drawn)
    expected = embedding_distances(first, second)
    found = embedding_distances(*(_embedded(scale * each, usual_distance=scale) for each in drawn))
    np.testing.assert_allclose(found, expected)
    assert 0.8 < np.median(expected) < 1.2
    # with one unit each, the usual distance is all that is known
    single = [_embedded(each[:1], usual_distance=2.0) for each in drawn]
    assert embedding_distances(*single)[0, 0] == pytest.approx(np.linalg.norm(drawn[0, 0] - drawn[1, 0]) / 2)


def _embedded(embeddings, usual_distance):
    """Units of which nothing is known but their embeddings."""
    return GroupUnits(embeddings, *[None] * 6, embeddings, usual_distance)


def test_shape_model_is_the_ratio_of_two_gaussians():
    model = ShapeModel(np.array([0.1, 0.2]), np.eye(2), np.array([4.0, 0.5]))
    first, second = np.array([[1.0, 0.3]]), np.array([[0.7, -0.4]])
    expected = 0.0
    for axis, variance in enumerate(model.variances):
        pair = np.array([first[0, axis], second[0, axis]]) - model.mean[axis]
        same = multivariate_normal([0, 0], [[variance + 1, variance], [variance, variance + 1]])
        expected += same.logpdf(pair) - multivariate_normal([0, 0], (variance + 1) * np.eye(2)).logpdf(pair)
    assert model.log_likelihood_ratio(first, second)[0, 0] == pytest.approx(expected)


def test_displacements_over_other_sessions(monkeypatch):
    """Sessions 0 and 2 have no units in common, and session 3 has none at all."""
    direct = {(0, 1): 10.0, (1, 2): 5.0}
    estimate = lambda first, second, *_, **__: direct.get((first, second), np.nan)  # noqa: E731
    monkeypatch.setattr("huidurep.tracking.track.estimate_displacement", estimate)
    found = estimate_displacements(range(4), None)
    assert found[0, :3].tolist() == [0.0, 10.0, 15.0] and np.isnan(found[:3, 3]).all()


def test_bundles():
    assert is_bundle(np.array([(0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5)]))
    assert not is_bundle(np.array([(0.0, 40.0 * row) for row in range(4)]))
    assert not is_bundle(np.array([(0.0, 10.0 * row) for row in range(6)]))


def test_groups_of_contacts():
    assert probe_group(np.array([(0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5)])) == "bundle"
    assert probe_group(np.array([(0.0, 20.0 * row) for row in range(8)])) == "column"
    assert probe_group(np.array([(16.0 * (row % 2), 20.0 * row) for row in range(8)])) == "shank"


def test_few_intervals_say_less():
    rng, shares = np.random.default_rng(0), np.geomspace(1, 0.01, 20)
    own, other = ([rng.multinomial(n, each / each.sum()) for n in (0, 60, 6000)] for each in (shares, shares[::-1]))
    calibration = Calibration(None, {"bundle": {"intercept": 0.0}}, {"intercept": 3.0, "distance": -8.0})

    def evidence(first, second):
        features = {"competitors": np.zeros((3, 3))} | isi_features(np.array(first), np.array(second))
        return log_odds(features, np.ones((3, 3), dtype=bool), calibration, group="bundle")

    same, apart = (evidence(own, each) for each in ([*own[:2], rng.multinomial(6000, shares / shares.sum())], other))
    np.testing.assert_allclose([same[0], same[:, 0], apart[0], apart[:, 0]], 0.0, atol=1e-4)
    # of one distribution there is no distance but that of counting
    assert isi_features(np.array(own), np.array(own))["isi"][1, 2] < 0.2  # 0.32 with it
    assert 2.5 < same[2, 2] <= 3.0 and 0.5 < same[1, 2] < same[2, 2] and apart[2, 2] < apart[1, 2] < apart[1, 1] < 0
