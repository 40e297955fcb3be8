import numpy as np
import pytest
from synthetic_result import synthetic

from huidurep.report.similar_units import Pair, find_pairs


def test_pairs_in_one_cluster_have_no_separation():
    result = synthetic(4, 400)
    pairs = {(pair.first, pair.second): pair for pair in find_pairs(result, result.measurements)}
    assert pairs[0, 1].separation < 1 and pairs[0, 2].separation > 6
    assert pairs[0, 1].similarity == pytest.approx(1.0, abs=1e-6)
    assert pairs[0, 1].projection.sum(axis=1).tolist() == [300, 300]
    # independent spike trains: two neurons
    assert pairs[0, 1].log_likelihood_ratio > 0


@pytest.mark.parametrize(
    ("separation", "log_likelihood_ratio", "similarity", "merge_bias", "expected"),
    [
        (3.5, 2.0, 0.9, 0.0, True),
        (3.5, 3.0, 0.9, 0.0, False),  # different spike times
        (7.0, 0.0, 0.9, 0.0, False),  # different embeddings
        (7.0, 0.0, 0.9, 2.0, True),
        (3.5, 2.0, 0.7, 0.0, False),  # different templates
        (3.5, 2.0, None, 0.0, True),  # without templates
    ],
)
def test_candidates_are_similar_and_weakly_separated(
    separation, log_likelihood_ratio, similarity, merge_bias, expected
):
    statistic = separation + log_likelihood_ratio
    pair = Pair(0, 1, 1.0, separation, statistic, similarity, np.zeros((2, 32), dtype=int))
    assert pair.log_likelihood_ratio == log_likelihood_ratio
    assert pair.is_candidate(merge_bias) is expected
