"""Fits the constants of `huidurep.track` to simulated pairs of sessions: `python benchmarks/tracking.py --fit`."""

import json
from itertools import combinations

import numpy as np
from results_files import write_results
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit
from spikeinterface.core import NumpySorting
from tracking_sessions import KINDS, RATE_HZ, SOURCES, make_sessions

from huidurep import HuiduRep
from huidurep.hub.select import resolve_auto
from huidurep.tracking.group_units import describe_units
from huidurep.tracking.matching import (
    estimate_displacement,
    is_bundle,
    log_odds,
    pair_features,
    pair_probabilities,
    share_odds,
)
from huidurep.tracking.pair_features import isi_features
from huidurep.tracking.sessions import isi_histograms
from huidurep.tracking.settings import Calibration, ShapeModel

NUM_AXES, RIDGE, PENALTY, SEED = 12, 0.02, 1e-3, 1001
GROUPS = {"bundle": ("tetrode",), "column": ("column",), "shank": ("staggered", "neuropixels")}  # as `probe_group`
FEATURES = {
    "bundle": ("embedding", "waveform", "amplitude", "shape"),  # places and shifts are not known there
    "column": ("embedding", "waveform", "amplitude", "shape", "place", "shifted"),
    "shank": ("embedding", "waveform", "amplitude", "shape", "place", "shifted"),
}


def describe(sessions, models={}):  # noqa: B006 - a cache
    """`GroupUnits` of each session, embedded by the checkpoint for its contacts."""
    name, _ = resolve_auto([sessions[0].positions_um])
    if name not in models:
        models[name] = HuiduRep.from_pretrained(name)
    options = dict(sampling_frequency=RATE_HZ, peak_index=sessions[0].peak_index)
    return [describe_units(each.templates_uv, each.positions_um, models[name], **options) for each in sessions]


def fit_shape(waveforms, neurons):
    """`ShapeModel` of waveforms (num_units, num_samples) whose neurons (num_units,) are known."""
    mean = waveforms.mean(axis=0)
    _, rows, counts = np.unique(neurons, return_inverse=True, return_counts=True)
    centres = np.zeros((len(counts), waveforms.shape[1]))
    np.add.at(centres, rows, waveforms)
    centres /= counts[:, None]
    again = counts[rows] > 1
    residuals = (waveforms - centres[rows])[again] / np.sqrt(1 - 1 / counts[rows][again])[:, None]
    within = residuals.T @ residuals / len(residuals)
    within += RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    variances, axes = eigh((waveforms - mean).T @ (waveforms - mean) / len(waveforms), within)
    kept = slice(-1, -1 - NUM_AXES, -1)
    return ShapeModel(mean, axes[:, kept], np.maximum(variances[kept] - 1.0, 1e-3))


def compare(described, calibration, *, is_estimated):
    """Features, which pairs may match, and which are one neuron, of any two sessions.

    `described` has (sessions, units) of each seed. The displacement is estimated or the true one.
    """
    for sessions, units in described:
        for first, second in combinations(range(len(sessions)), 2):
            displacement = sessions[second].shift_um - sessions[first].shift_um
            if is_bundle(units[first].positions_um):
                displacement = 0.0
            elif is_estimated:
                displacement = estimate_displacement(units[first], units[second], calibration)
            features, may_match = pair_features(units[first], units[second], displacement, calibration)
            yield features, may_match, sessions[first].neurons[:, None] == sessions[second].neurons[None]


def stack(compared, names):
    """Features (num_pairs, num_features), prior log-odds and labels of all pairs that may match."""
    columns, priors, labels = [], [], []
    for features, may_match, same in compared:
        columns.append(np.column_stack([features[name][may_match] for name in names]))
        priors.append(share_odds(same.sum(), same.shape) - features["competitors"][may_match])
        labels.append(same[may_match])
    return np.concatenate(columns), np.concatenate(priors), np.concatenate(labels)


def sharpen(weights, compared, shape, group):
    """Weights scaled and shifted so that the probabilities of `pair_probabilities` are right.

    The regression looks at each pair for itself, with the true share of common neurons, and is therefore less sure than
    the marginals of whole assignments, and surer than these with an estimated share.
    """
    calibration = Calibration(shape, {group: weights}, {})
    known = []
    for features, may_match, same in compared:
        odds = log_odds(features, may_match, calibration, group=group) + features["competitors"]
        known.append((odds, features["competitors"], same))

    def loss(scale_and_shift):
        scale, shift = scale_and_shift
        total = 0.0
        for odds, competitors, same in known:
            found = pair_probabilities(scale * odds + shift - competitors)
            found = np.clip(found, 1e-6, 1 - 1e-6)
            total -= np.log(np.where(same, found, 1 - found)).sum()
        return total

    scale, shift = minimize(loss, [1.0, 0.0], method="Nelder-Mead").x
    sharpened = {name: round(scale * weight, 4) for name, weight in weights.items()}
    return sharpened | {"intercept": round(sharpened["intercept"] + shift, 4)}


def fit_weights(names, features, priors, labels, *, with_embedding=True):
    """Weights of a logistic regression with fixed terms: the share of common neurons, -log(number of competitors)."""
    features = features * [with_embedding or name != "embedding" for name in names]
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    standard = np.column_stack([np.ones(len(features)), (features - mean) / scale])

    def loss(weights):
        odds = standard @ weights + priors
        value = np.mean(np.logaddexp(0, odds) - labels * odds) + PENALTY * (weights[1:] ** 2).sum() / 2
        gradient = standard.T @ (expit(odds) - labels) / len(odds)
        gradient[1:] += PENALTY * weights[1:]
        return value, gradient

    found = minimize(loss, np.zeros(standard.shape[1]), jac=True).x
    weights = found[1:] / scale
    named = {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}
    return {"intercept": round(float(found[0] - weights @ mean), 4)} | named


def fit_isi(seed, *, num_neurons=300, duration_s=600.0):
    """Log-likelihood ratio of one neuron against two, by the distance of two ISI histograms: intercept and slope.

    Intervals are gamma-distributed above a refractory period, with a rate that changes by 30 % between sessions.
    """
    rng = np.random.default_rng(seed)
    histograms = [[], []]
    for _ in range(num_neurons):
        rate, shape, refractory_s = rng.lognormal(np.log(6), 0.8), rng.uniform(0.5, 3.0), rng.uniform(0.002, 0.006)
        for session in histograms:
            mean_s = max(1 / (rate * rng.lognormal(0, 0.3)) - refractory_s, 0.002)
            train_s = np.cumsum(refractory_s + rng.gamma(shape, mean_s / shape, int(2 * duration_s / mean_s)))
            sorting = NumpySorting.from_unit_dict({0: (train_s[train_s < duration_s] * RATE_HZ).astype(int)}, RATE_HZ)
            session.append(isi_histograms(sorting)[0])
    distances = isi_features(*(np.array(each) for each in histograms))["isi"]
    same = np.eye(num_neurons, dtype=bool)
    values, balance = np.append(distances[same], distances[~same]), np.log((~same).sum() / same.sum())
    labels = np.append(np.ones(num_neurons), np.zeros((~same).sum()))

    def loss(weights):
        odds = weights[0] + weights[1] * values - balance
        return np.mean(np.logaddexp(0, odds) - labels * odds)

    intercept, slope = minimize(loss, [0.0, 0.0]).x
    return {"intercept": round(float(intercept), 4), "distance": round(float(slope), 4)}


def fit(seeds, path, path_without, commit):
    """Fit all constants to sessions of some seeds and write them, and the weights without the embedding elsewhere."""
    described = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for seed in seeds:
            sessions = make_sessions(kind, 3, seed, source=SOURCES[seed % 2])
            described[kind][seed] = (sessions, describe(sessions))
        print(kind, "described", flush=True)
    waveforms, neurons = [], []
    for number, found in enumerate(described.values()):
        for seed, (sessions, units) in found.items():
            if seed // 2 % 2 == 0:  # half of the sessions for the waveforms, a quarter each for weights and sharpening
                waveforms += [each.waveforms for each in units]
                neurons += [each.neurons + 1000 * seed + 10**8 * number for each in sessions]
    shape = fit_shape(np.concatenate(waveforms), np.concatenate(neurons))
    weights, without = {}, {}
    for group, kinds in GROUPS.items():
        pairs = [(seed // 2 % 4, each) for kind in kinds for seed, each in described[kind].items()]
        others, unseen = ([each for part, each in pairs if part == wanted] for wanted in (1, 3))
        names = FEATURES[group]
        start = Calibration(shape, {}, {})
        weights[group] = fit_weights(names, *stack(compare(others, start, is_estimated=False), names))
        # once more, with displacements as they are estimated
        estimated = Calibration(shape, {**weights}, {})
        stacked = stack(compare(others, estimated, is_estimated=True), names)
        # weights are too sure of what they were fitted to
        compared = list(compare(unseen, estimated, is_estimated=True))
        for target, with_embedding in ((weights, True), (without, False)):
            single = fit_weights(names, *stacked, with_embedding=with_embedding)
            target[group] = sharpen(single, compared, shape, group)
        print(group, weights[group], flush=True)
    origin = f"benchmarks/tracking.py --fit, seeds {seeds[0]} to {seeds[-1]} of each kind, commit {commit}"
    rounded = {name: np.round(getattr(shape, name), 5).tolist() for name in ("mean", "axes", "variances")}
    path.write_text(
        json.dumps({"origin": origin, "shape": rounded, "weights": weights, "isi": fit_isi(SEED)}) + "\n",
        encoding="utf8",
    )
    write_results(path_without, without)
