"""What happens to units once matching has given them spikes."""

import numpy as np
import pytest

from huidurep.clustering.mixture import cluster_embeddings
from huidurep.sorting.clustering import GroupUnits
from huidurep.sorting.curation import settle_units
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.run_log import RunLog


class Mixture:
    """The embedding of a spike is already the posterior of every component."""

    def __init__(self, num_units):
        self.num_units = num_units

    def unit_posteriors(self, embeddings, times_s):
        return np.column_stack([embeddings, 1 - embeddings.sum(1)]).astype("float32")

    def posterior_of(self, embeddings, labels, times_s):
        return self.unit_posteriors(embeddings, times_s)[np.arange(len(embeddings)), labels]


def units_of(mixture, *, members=None):
    members = [[unit] for unit in range(mixture.num_units)] if members is None else members
    components = [(mixture, np.array(each)) for each in members]
    none = np.zeros(0)
    return GroupUnits(none.astype("int64"), none.astype("float32"), np.zeros(len(members), dtype="int64"), components)


def settle(posteriors, labels, *, members=None, **parameters):
    posteriors, labels, log = np.array(posteriors), np.array(labels), RunLog()
    units = units_of(Mixture(posteriors.shape[1]), members=members)
    before, components = labels.copy(), list(units.components)
    settled = settle_units(units, posteriors, labels, np.arange(len(labels)), SortingParameters(**parameters), log)
    assert np.array_equal(labels, before) and units.components == components
    return settled, log


SURE = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.0, 0.0, 1.0]] * 4
LABELS = [0] * 4 + [1] * 4 + [2] * 4
# the spikes of unit 2 look like unit 0's
PIECE = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.7, 0.0, 0.3]] * 4
# the spikes of unit 2 look like nobody's
LEFTOVER = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.2, 0.2, 0.3]] * 4


def test_units_that_fit_stay():
    settled, log = settle(SURE, LABELS)
    assert settled.labels.tolist() == LABELS
    assert settled.posteriors == pytest.approx([0.9] * 8 + [1.0] * 4)
    assert not log.entries


def test_a_piece_joins_its_unit():
    settled, log = settle(PIECE, LABELS)
    assert settled.labels.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert settled.posteriors == pytest.approx([0.9] * 8 + [1.0] * 4)
    assert "1 units joined another, 0 went" in log.entries[-1]["message"]


def test_a_leftover_goes():
    settled, log = settle(LEFTOVER, LABELS)
    assert settled.labels.tolist() == [0] * 4 + [1] * 4 + [-1] * 4
    assert settled.posteriors == pytest.approx([0.9] * 8 + [0.0] * 4)
    assert "0 units joined another, 1 went" in log.entries[-1]["message"]


@pytest.mark.parametrize("posteriors", [PIECE, LEFTOVER])
def test_nothing_changes_where_a_number_of_units_was_asked_for(posteriors):
    settled, log = settle(posteriors, LABELS, num_units=3)
    assert settled.labels.tolist() == LABELS
    assert settled.posteriors == pytest.approx([0.9] * 8 + [0.3] * 4)
    assert not log.entries


def test_units_of_several_components_are_judged_by_their_sum():
    # unit 0 is components 1 and 2, unit 1 is component 0
    posteriors = [[0.1, 0.45, 0.45]] * 4 + [[0.8, 0.1, 0.1]] * 4
    settled, log = settle(posteriors, [0] * 4 + [1] * 4, members=[[1, 2], [0]])
    assert settled.labels.tolist() == [0] * 4 + [1] * 4
    assert settled.posteriors == pytest.approx([0.9] * 4 + [0.8] * 4)
    assert not log.entries


def test_several_mixtures_are_left_alone():
    first, second = Mixture(1), Mixture(1)
    units = GroupUnits(
        np.zeros(0, "int64"),
        np.zeros(0, "float32"),
        np.array([0, 1]),
        [(first, np.array([0])), (second, np.array([0]))],
    )
    settled = settle_units(
        units, np.full((4, 1), 0.2), np.array([0, 0, 1, 1]), np.arange(4), SortingParameters(), RunLog()
    )
    assert settled.labels.tolist() == [0, 0, 1, 1]
    assert settled.posteriors == pytest.approx([0.2] * 4)


def test_no_spikes():
    settled = settle_units(
        units_of(Mixture(2)), np.zeros((0, 2)), np.zeros(0, dtype="int64"), np.zeros(0), SortingParameters(), RunLog()
    )
    assert len(settled.labels) == len(settled.posteriors) == 0


def test_real_mixture_takes_back_a_cluster_that_matching_cut_in_two():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 200)
    embeddings = 20.0 * np.eye(4)[truth] + rng.normal(size=(600, 4))
    mixture = cluster_embeddings(embeddings)
    assert mixture.num_units == 3
    units = units_of(mixture)
    # matching gives unit 1 spikes of the cluster of unit 0 only
    is_seen = mixture.labels != 1
    embeddings, labels = embeddings[is_seen], mixture.labels[is_seen]
    matched = np.where((labels == 0) & (rng.random(len(labels)) < 0.4), 1, labels)
    settled = settle_units(units, embeddings, matched, np.arange(len(matched)), SortingParameters(), RunLog())
    assert np.array_equal(settled.labels, labels)
    assert np.median(settled.posteriors) > 0.99
