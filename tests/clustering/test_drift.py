"""Drift is found in embeddings and tracked by the mixture, and none is found in recordings without it."""

from dataclasses import replace

import numpy as np
import pytest
from stand_in import agreement

from huidurep.clustering import mixture
from huidurep.clustering.drift import DriftSettings, estimate_drift
from huidurep.clustering.drifting_mixture import fit_drifting_mixture, fit_line, fit_linear_mixture, one_hot
from huidurep.clustering.mixture import fit_mixture
from huidurep.clustering.unit_mixture import MixtureSettings

SETTINGS = DriftSettings()
FEW_STARTS = MixtureSettings(num_starts=3)  # the votes have tests of their own
NUM_UNITS, NUM_DIMENSIONS, DURATION_S = 5, 6, 200.0


def cluster_embeddings(embeddings, **options):
    return mixture.cluster_embeddings(embeddings, **dict(settings=FEW_STARTS) | options)


def drift_at(times_s):
    """Drift with a slow wave and two jumps."""
    return np.sin(2 * np.pi * times_s / 130.0) + 0.8 * (times_s > 70) - 1.2 * (times_s > 150)


def drifting_units(*, reach, in_line=False, num_spikes=3500, seed=0):
    """Points, times and units; every unit moves in a direction of its own, or into the place where the next one was."""
    rng = np.random.default_rng(seed)
    centres = 6.0 * np.eye(NUM_DIMENSIONS)[:NUM_UNITS]
    directions = rng.normal(size=(NUM_UNITS, NUM_DIMENSIONS))
    if in_line:
        centres = 6.0 * np.arange(NUM_UNITS)[:, None] * np.eye(NUM_DIMENSIONS)[0]
        directions = 0.1 * directions + np.eye(NUM_DIMENSIONS)[0]
    directions *= reach / np.linalg.norm(directions, axis=1, keepdims=True)
    # every unit keeps to a refractory period
    each = num_spikes // NUM_UNITS
    times_s = np.sort(rng.uniform(0, DURATION_S - 0.005 * each, (NUM_UNITS, each)), axis=1) + 0.005 * np.arange(each)
    truth = np.repeat(np.arange(NUM_UNITS), each)
    times_s, truth = (values.ravel()[np.argsort(times_s, axis=None)] for values in (times_s, truth))
    points = (
        centres[truth] + directions[truth] * drift_at(times_s)[:, None] + rng.normal(size=(len(truth), NUM_DIMENSIONS))
    )
    return points, times_s, truth


def estimate(points, times_s, labels, settings=SETTINGS):
    return estimate_drift(
        points, times_s, labels, lambda number: fit_mixture(points, number, "tied", 0).predict(points), settings
    )


def test_drift_is_found():
    points, times_s, truth = drifting_units(reach=3.0)
    found = estimate(points, times_s, truth)
    assert abs(np.corrcoef(found.design(times_s)[:, 1], drift_at(times_s))[0, 1]) > 0.98
    assert found.gain > 0.5
    assert found.design(times_s)[:, 1].std() == pytest.approx(1.0, abs=0.05)
    assert (found.design(times_s)[:, 0] == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_drift_without_movement(seed):
    points, times_s, truth = drifting_units(reach=0.0, seed=seed)
    assert estimate(points, times_s, truth) is None


def test_units_that_stop_firing_are_no_drift():
    points, times_s, truth = drifting_units(reach=0.0)
    is_kept = (truth != 0) | (times_s < 60)
    is_kept &= (truth != 1) | (times_s > 120)
    assert estimate(points[is_kept], times_s[is_kept], truth[is_kept]) is None


def test_drift_tracking_can_be_switched_off():
    points, times_s, truth = drifting_units(reach=3.0)
    settings = DriftSettings(enabled=False)
    assert estimate(points, times_s, truth) is not None
    assert estimate(points, times_s, truth, settings) is None
    assert cluster_embeddings(points, times_s=times_s, settings=replace(FEW_STARTS, drift=settings)).drift is None


@pytest.mark.parametrize("num_spikes, duration_s", [(0, 0), (1, 0), (100, DURATION_S), (3000, 5.0)])
def test_too_short_recordings(num_spikes, duration_s):
    times_s = np.linspace(0, duration_s, num_spikes)
    assert estimate(np.ones((num_spikes, 3)), times_s, np.zeros(num_spikes, int)) is None


@pytest.mark.parametrize("num_units, each", [(30, 100), (20, 40), (12, 60)])
def test_more_units_than_components_that_fire_at_different_times_are_no_drift(num_units, each):
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(num_units), each)
    begins = rng.uniform(0, 0.6 * DURATION_S, num_units)
    times_s = begins[truth] + rng.uniform(0, 0.4 * DURATION_S, len(truth))
    points = 6.0 * rng.normal(size=(num_units, NUM_DIMENSIONS))[truth] + rng.normal(size=(len(truth), NUM_DIMENSIONS))
    assert cluster_embeddings(points, times_s=times_s).drift is None


def test_units_that_fire_at_different_times_during_drift_are_not_merged():
    points, times_s, truth = drifting_units(reach=3.0)
    rng = np.random.default_rng(1)
    is_first = (truth == 0) & (times_s < 100)
    is_second = (truth == 0) & (times_s >= 100)
    points[is_second] += np.array([-8.0, 0, 0, 0, 0, 8.0])
    found = cluster_embeddings(points + 0.1 * rng.normal(size=points.shape), times_s=times_s)
    assert found.drift is not None
    first, second = (np.bincount(found.labels[rows] + 1).argmax() for rows in (is_first, is_second))
    assert first != second and min(first, second) > 0


def test_slow_drift_of_a_long_recording_is_found():
    # 4 spikes a second: bins are many, but neighbours tell of each other
    points, times_s, truth = drifting_units(reach=0.0, num_spikes=8000)
    direction = np.random.default_rng(2).normal(size=(NUM_UNITS, NUM_DIMENSIONS))
    ramp = np.sqrt(3) * (2 * times_s / DURATION_S - 1)
    points += (direction / np.linalg.norm(direction, axis=1, keepdims=True))[truth] * ramp[:, None]
    found = estimate(points, 10 * times_s, truth)
    assert abs(np.corrcoef(found.design(10 * times_s)[:, 1], ramp)[0, 1]) > 0.95


def test_drifting_units_are_found():
    points, times_s, truth = drifting_units(reach=5.0, in_line=True, num_spikes=4000)
    tracked, still = cluster_embeddings(points, times_s=times_s), cluster_embeddings(points)
    assert tracked.drift is not None and still.drift is None
    assert tracked.num_units == NUM_UNITS and agreement(truth, tracked.labels) > 0.97
    assert still.num_units < NUM_UNITS  # where one was, the next one comes


def test_posteriors_need_the_times():
    points, times_s, truth = drifting_units(reach=5.0)
    found = cluster_embeddings(points, times_s=times_s, max_fit_spikes=4000)
    labels, posteriors = found.predict(points, times_s)
    assert np.array_equal(labels, found.labels) and np.array_equal(posteriors, found.posteriors)
    assert agreement(truth, labels) > 0.96  # also those that did not fit the mixture
    assert np.mean(found.predict(points)[0] == labels) < 0.95
    rows = slice(100, 200)
    assert found.posterior_of(points[rows], labels[rows], times_s[rows]) == pytest.approx(posteriors[rows], abs=1e-6)


def test_spikes_far_from_every_unit_have_no_unit():
    points, times_s, truth = drifting_units(reach=0.0)
    found = cluster_embeddings(points, times_s=times_s)
    assert found.num_units == NUM_UNITS
    labels, posteriors = found.predict(np.full((1, NUM_DIMENSIONS), -9.0))
    assert labels.tolist() == [-1] and posteriors.tolist() == [0.0]
    given = cluster_embeddings(points, num_units=NUM_UNITS)  # who gives their number wants every spike in a unit
    assert (given.labels >= 0).all()


@pytest.mark.parametrize("times_s", [np.zeros(3), np.full(100, np.nan), np.zeros((100, 1))])
def test_times_of_other_spikes_raise(times_s):
    with pytest.raises(ValueError, match="times_s.*100"):
        cluster_embeddings(np.random.default_rng(0).normal(size=(100, 3)), times_s=times_s)


def test_given_number_of_drifting_units():
    points, times_s, truth = drifting_units(reach=5.0)
    found = cluster_embeddings(points, times_s=times_s, num_units=NUM_UNITS)
    assert found.num_units == len(np.unique(found.labels)) == NUM_UNITS
    assert agreement(truth, found.labels) > 0.97


def test_means_are_linear_in_drift():
    rng = np.random.default_rng(0)
    design = np.stack([np.ones(500), rng.normal(size=500)], axis=1)
    line = np.array([[1.0, -2.0], [0.5, 3.0]])
    weights = np.where(np.arange(500) < 300, 1.0, 0.0)
    points = design @ line
    points[300:] = 100.0
    assert fit_line(points, design, weights) == pytest.approx(line, rel=0.05)  # ridge regression
    assert fit_line(points, design[:, :1], weights)[0] == pytest.approx(points[:300].mean(0))


def test_likelihood_is_that_of_scikit_learn():
    from sklearn.mixture import GaussianMixture

    points, _, truth = drifting_units(reach=0.0)
    ours = fit_linear_mixture(points, one_hot(truth), np.ones((len(points), 1)), tolerance=1e-7)
    theirs = GaussianMixture(NUM_UNITS, covariance_type="tied", reg_covar=1e-3, random_state=0, tol=1e-7, max_iter=500)
    theirs.means_init = np.stack([points[truth == unit].mean(0) for unit in range(NUM_UNITS)])
    assert ours.log_likelihood == pytest.approx(theirs.fit(points).score(points), abs=1e-3)
    whitened = ours.whiten(points - points[truth == 0].mean(0))[truth == 0]
    assert np.cov(whitened.T) == pytest.approx(np.eye(NUM_DIMENSIONS), abs=0.15)


@pytest.mark.parametrize("num_terms", [1, 2])
def test_matrix_products_give_what_single_components_give(num_terms):
    points, times_s, truth = drifting_units(reach=1.0)
    design = np.stack([np.ones(len(points)), np.sin(times_s / 20)], axis=1)[:, :num_terms]

    def fit_mean(weights):
        line = fit_line(points, design, weights)
        return lambda: design @ line

    slow = fit_drifting_mixture(points, one_hot(truth), fit_mean, max_iterations=5)
    fast = fit_linear_mixture(points, one_hot(truth), design, max_iterations=5)
    assert fast.log_likelihood == pytest.approx(slow.log_likelihood, abs=1e-9)
    assert fast.responsibilities == pytest.approx(slow.responsibilities, abs=1e-6)
    assert fast.cholesky_factor == pytest.approx(slow.cholesky_factor, abs=1e-9)
