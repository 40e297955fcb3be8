"""Groups of units over sessions: one of each session at most, absent in some."""

import numpy as np

from huidurep.tracking.assignment import assign_neurons


def test_a_neuron_may_be_absent_in_a_session():
    probabilities = {
        (0, 1): np.array([[0.9, 0.0], [0.0, 0.1]]),
        (0, 2): np.array([[0.9], [0.0]]),
        (1, 2): np.array([[0.8], [0.0]]),
    }
    found = assign_neurons([2, 2, 1], probabilities)
    assert [each.tolist() for each in found] == [[0, 1], [0, 2], [0]]
    probabilities[0, 1][:], probabilities[1, 2][:] = 0.0, 0.0
    assert [each.tolist() for each in assign_neurons([2, 2, 1], probabilities)] == [[0, 1], [2, 3], [0]]


def test_two_units_of_a_session_never_join():
    # unit 0 of session 2 is alike to both, which are not alike to each other
    probabilities = {
        (0, 1): np.array([[0.0]]),
        (0, 2): np.array([[0.95]]),
        (1, 2): np.array([[0.9]]),
    }
    found = [each.tolist() for each in assign_neurons([1, 1, 1], probabilities)]
    assert found == [[0], [1], [0]]
    doubled = {(0, 1): np.array([[0.9], [0.8]])}
    assert [each.tolist() for each in assign_neurons([2, 1], doubled)] == [[0, 1], [0]]


def test_improbable_pairs_stay_apart():
    assert [each.tolist() for each in assign_neurons([1, 1], {(0, 1): np.array([[0.4]])})] == [[0], [1]]
