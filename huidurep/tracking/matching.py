"""Displacement between two sessions, and the probability that two units are one neuron."""

from __future__ import annotations

import numpy as np

from .group_units import GroupUnits
from .pair_features import isi_features, place_distances, shape_features, shifted_residuals
from .settings import TRACKING_SETTINGS, Calibration, TrackingSettings

GRID_UM = 2.0  # of the vote on the displacement
REFINED_UM = np.arange(-12.0, 12.1, 3.0)  # around its maximum
MAX_ITERATIONS, TOLERANCE = 500, 1e-6  # of belief propagation
MAX_STEPS, SHARE_TOLERANCE = 30, 1e-3  # of the share of common neurons


def is_bundle(positions_um: np.ndarray, settings: TrackingSettings = TRACKING_SETTINGS) -> bool:
    """Whether the contacts are a tetrode or another bundle, on which places along the probe are not known.

    Parameters
    ----------
    positions_um : ndarray (num_channels, 2)
    settings : TrackingSettings

    Returns
    -------
    bool
    """
    spans = np.linalg.norm(positions_um[:, None] - positions_um[None], axis=2)
    return len(positions_um) <= 4 and spans.max() < settings.bundle_um


def probe_group(positions_um: np.ndarray, settings: TrackingSettings = TRACKING_SETTINGS) -> str:
    """Whether the contacts are a bundle, one column, or an area, on which the same differences mean more or less.

    Contacts in one line do not tell on which side a neuron lies: other neurons look alike there more often.

    Parameters
    ----------
    positions_um : ndarray (num_channels, 2)
    settings : TrackingSettings

    Returns
    -------
    {"bundle", "column", "shank"}
        Key of `Calibration.weights`.
    """
    if is_bundle(positions_um, settings):
        return "bundle"
    return "column" if np.ptp(positions_um[:, 0]) <= settings.column_um else "shank"


def estimate_displacement(
    first: GroupUnits,
    second: GroupUnits,
    calibration: Calibration,
    *,
    settings: TrackingSettings = TRACKING_SETTINGS,
) -> float:
    """Displacement of the neurons along the probe from one session to another.

    Each pair of units votes for the difference of its places, weighted by how alike the units are; the shifted
    templates of the pairs that agree with the maximum then refine it.

    Parameters
    ----------
    first, second : GroupUnits
    calibration : Calibration
    settings : TrackingSettings

    Returns
    -------
    float
        um; NaN where it is not known: on bundles of contacts, and without units that may be the same.
    """
    if is_bundle(first.positions_um, settings) or not len(first) or not len(second):
        return float("nan")
    weights = calibration.weights[probe_group(first.positions_um, settings)]
    alike = sum(weights[name] * values for name, values in shape_features(first, second, calibration.shape).items())
    alike = np.where(first.points_up[:, None] == second.points_up[None], alike, -np.inf)
    votes = _softmax(alike, 0) * _softmax(alike, 1)
    moves = second.places_um[None, :, 1] - first.places_um[:, None, 1]
    across = second.places_um[None, :, 0] - first.places_um[:, None, 0]
    votes = votes * np.exp(-0.5 * (across / settings.vote_um) ** 2) * np.isfinite(alike)
    if not votes.any():
        return float("nan")
    grid = np.arange(-settings.max_displacement_um, settings.max_displacement_um + GRID_UM, GRID_UM)
    kernels = np.exp(-0.5 * ((moves[:, :, None] - grid) / settings.vote_um) ** 2)
    best = float(grid[(votes[:, :, None] * kernels).sum(axis=(0, 1)).argmax()])
    agreeing = votes * np.exp(-0.5 * ((moves - best) / settings.vote_um) ** 2)
    chosen = agreeing > 0.1 * agreeing.max()
    found = [shifted_residuals(first, second, best + step, chosen, settings=settings) for step in REFINED_UM]
    means = [np.nansum(agreeing[chosen] * each[chosen]) / agreeing[chosen].sum() for each in found]
    return best + float(REFINED_UM[int(np.argmin(means))])


def pair_features(
    first: GroupUnits,
    second: GroupUnits,
    displacement_um: float,
    calibration: Calibration,
    *,
    settings: TrackingSettings = TRACKING_SETTINGS,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features of all pairs, and which of them may be one neuron.

    Parameters
    ----------
    first, second : GroupUnits
    displacement_um : float
        Of the neurons of `second` along the probe.
    calibration : Calibration
    settings : TrackingSettings

    Returns
    -------
    features : dict of str to ndarray (num_first, num_second)
        Those of `shape_features`; place (distance / 10 um), shifted (see `shifted_residuals`; 0 as for unlike
        templates where it is not known), competitors (logarithm of the number of units that compete), and those of
        `isi_features` where both have histograms.
    may_match : ndarray of bool (num_first, num_second)
        Spikes of the same sign, places within reach.
    """
    features = shape_features(first, second, calibration.shape, settings=settings)
    distances = place_distances(first, second, displacement_um)
    may_match = (distances <= settings.max_distance_um) & (first.points_up[:, None] == second.points_up[None])
    shifted = shifted_residuals(first, second, displacement_um, may_match, settings=settings)
    near = distances <= settings.competition_um
    competitors = (near.sum(axis=1)[:, None] + near.sum(axis=0)[None]) / 2
    features |= {
        "place": np.minimum(distances, settings.max_distance_um) / 10.0,
        "shifted": np.nan_to_num(shifted),
        "competitors": np.log(np.maximum(competitors, 1.0)),
    }
    if first.isi_histograms is not None and second.isi_histograms is not None:
        features |= isi_features(first.isi_histograms, second.isi_histograms)
    return features, may_match


def log_odds(
    features: dict[str, np.ndarray], may_match: np.ndarray, calibration: Calibration, *, group: str
) -> np.ndarray:
    """Log-odds that two units are one neuron, for themselves, if half of the neurons are in both sessions.

    Parameters
    ----------
    features, may_match
        From `pair_features`.
    calibration : Calibration
    group : str
        From `probe_group`.

    Returns
    -------
    ndarray (num_first, num_second)
        -inf where two units cannot be one neuron.
    """
    weights = calibration.weights[group]
    # with twice as many units in reach, a pair is half as likely to be the right one
    odds = weights["intercept"] - features["competitors"]
    odds = odds + sum(weights[name] * values for name, values in features.items() if name in weights)
    if "isi" in features:
        intercept, slope = calibration.isi["intercept"], calibration.isi["distance"]
        # few intervals say less: half of it, where their noise is as large as a distance that says nothing
        known = 1.0 / (1.0 + features["isi_noise"] * (slope / intercept) ** 2)
        odds = odds + known * (intercept + slope * features["isi"])
    return np.where(may_match, odds, -np.inf)


def share_odds(num_common: float, shape: tuple[int, ...], *, settings: TrackingSettings = TRACKING_SETTINGS) -> float:
    """Log-odds that a neuron of one session is in the other one too.

    Parameters
    ----------
    num_common : float
        Number of neurons in both.
    shape : (int, int)
        Numbers of units.
    settings : TrackingSettings

    Returns
    -------
    float
    """
    # with few units, a share of one half is the best guess
    common = num_common + settings.share_units / 2
    return float(np.log(common) - np.log(max(np.mean(shape) + settings.share_units - common, 1e-3)))


def pair_probabilities(odds: np.ndarray, *, settings: TrackingSettings = TRACKING_SETTINGS) -> np.ndarray:
    """Probability of each pair, with the share of common neurons as the pairs themselves tell it.

    The longer sessions are apart, the fewer neurons they share, and the less a similar unit means. Expectation
    maximisation as Saerens et al., Neural Computation 2002, adjust a classifier to new prior probabilities.

    Parameters
    ----------
    odds : ndarray (num_first, num_second)
        From `log_odds`.
    settings : TrackingSettings

    Returns
    -------
    ndarray (num_first, num_second)
    """
    prior, found = 0.0, match_probabilities(odds)
    for _ in range(MAX_STEPS):
        new = share_odds(found.sum(), odds.shape, settings=settings)
        if abs(new - prior) < SHARE_TOLERANCE:
            break
        prior, found = new, match_probabilities(odds + new)
    return found


def match_probabilities(odds: np.ndarray) -> np.ndarray:
    """Probability of each pair when a unit has at most one partner.

    Marginals of the assignments by belief propagation (Williams & Lau, IEEE Trans. Aerosp. Electron. Syst. 2014).

    Parameters
    ----------
    odds : ndarray (num_first, num_second)
        Log-odds of each pair for itself.

    Returns
    -------
    ndarray (num_first, num_second)
    """
    # beyond that, sums of all but one would be lost in rounding
    ratios = np.exp(np.clip(odds, -25.0, 25.0)) * np.isfinite(odds)
    free = np.ones(odds.shape)  # how far a unit of `second` is free for one of `first`
    for _ in range(MAX_ITERATIONS):
        wanted = ratios * free
        message = ratios / (1.0 + (wanted.sum(axis=1, keepdims=True) - wanted))
        new = 1.0 / (1.0 + (message.sum(axis=0, keepdims=True) - message))
        if np.abs(new - free).max(initial=0.0) < TOLERANCE:
            break
        free = new
    wanted = ratios * free
    return wanted / (1.0 + wanted.sum(axis=1, keepdims=True))


def _softmax(values: np.ndarray, axis: int) -> np.ndarray:
    largest = np.max(values, axis=axis, keepdims=True, initial=-1e9)
    powers = np.exp(values - largest)
    return powers / np.maximum(powers.sum(axis=axis, keepdims=True), 1e-300)
