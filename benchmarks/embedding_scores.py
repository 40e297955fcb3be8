"""Features of spikes for benchmarks/embedding.py, and the agreement of clusters of them with the units."""

import sys
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
COMPONENTS = {"pca12": 12, "pca24": 24}
CUT, CUT_COMPONENTS = "huidurep_pca12", 12


@lru_cache
def load_model(place, device=None):
    """Model by name or folder, cached."""
    sys.path.insert(0, str(ROOT))
    from huidurep import HuiduRep

    model = HuiduRep.from_pretrained(place).eval()
    return model if device is None else model.to(device)


def principal_components(features, count):
    """Scores (num_spikes, count) on the leading principal components, from the smaller of the two Gram matrices."""
    from scipy.linalg import eigh

    centred = np.asarray(features, float) - np.mean(features, axis=0)
    wide = centred.shape[1] > len(centred)
    gram = centred @ centred.T if wide else centred.T @ centred
    count = min(count, len(gram))
    values, vectors = eigh(gram, subset_by_index=(len(gram) - count, len(gram) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    return vectors * np.sqrt(np.maximum(values, 0)) if wide else centred @ vectors


def describe_spikes(spikes, models, columns, device=None):
    """Features (num_spikes, num_features) by column, without the oracle; `models` has checkpoints by column."""
    where = dict(peak_index=spikes.peak_index, sampling_frequency=spikes.sampling_frequency)
    where |= dict(channel_positions=spikes.positions_um, peak_sign=spikes.peak_sign)  # as a detector knows
    features = {}
    if set(columns) & set(COMPONENTS):
        flat = spikes.waveforms.reshape(len(spikes.waveforms), -1)
        leading = principal_components(flat, max(COMPONENTS.values()))
        features |= {name: leading[:, :count] for name, count in COMPONENTS.items()}
    for name, place in models.items():
        if name in columns or (name == "huidurep" and CUT in columns):
            features[name] = load_model(place, device).embed(spikes.waveforms, **where)
    if "huidurep" in features:
        features[CUT] = principal_components(features["huidurep"], CUT_COMPONENTS)
    return {name: features[name] for name in columns if name in features}


def rand_index(features, labels, *, seed):
    """Adjusted Rand index of a full-covariance mixture with the true number of units.

    All features are divided by the root of their mean variance, so that the regularisation is the same for all methods
    and the relative variances of features are kept.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_rand_score
    from sklearn.mixture import GaussianMixture

    centred = np.asarray(features, float) - np.mean(features, axis=0)
    scaled = centred / np.sqrt(centred.var(axis=0).mean())
    mixture = GaussianMixture(len(np.unique(labels)), n_init=3, reg_covar=1e-3, random_state=seed, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(adjusted_rand_score(labels, mixture.fit_predict(scaled)))


def automatic_rand_index(features, labels, *, seed):
    """Adjusted Rand index with the number of units estimated by `cluster_embeddings`, and that number.

    Spikes that are assigned to no unit are counted as one more cluster.
    """
    from sklearn.metrics import adjusted_rand_score

    from huidurep.clustering.mixture import cluster_embeddings

    found = cluster_embeddings(features, seed=seed)
    return float(adjusted_rand_score(labels, found.labels)), found.num_units


def score_draw(condition, draw, models, columns, *, seed, device=None, automatic_draws=None):
    """Scores `known` and `automatic` and number of units `found` of one draw by column; digest and counts of spikes."""
    from sklearn.metrics import adjusted_rand_score

    spikes = condition.make(draw)
    known, automatic, found = {}, {}, {}
    for name, features in describe_spikes(spikes, models, columns, device).items():
        known[name] = rand_index(features, spikes.labels, seed=seed + draw)
        if automatic_draws is None or draw < automatic_draws:
            automatic[name], found[name] = automatic_rand_index(features, spikes.labels, seed=seed + draw)
    if "oracle" in columns and spikes.oracle is not None:
        known["oracle"] = float(adjusted_rand_score(spikes.labels, spikes.oracle))
    counts = dict(num_units=len(np.unique(spikes.labels)), num_spikes=len(spikes.labels))
    # identifies the spikes of a draw, with few digits because another BLAS changes the later ones
    digest = f"{spikes.waveforms.std():.2f}"
    return dict(known=known, automatic=automatic, found=found, spikes=digest, **counts)


def score_condition(condition, models, columns, *, seed=0, num_jobs=1, device=None, automatic_draws=None):
    """Scores of all draws of a condition; `automatic` ones of the first `automatic_draws` (None: all)."""
    from joblib import Parallel, delayed

    options = dict(seed=seed, device=device, automatic_draws=automatic_draws)
    work = (delayed(score_draw)(condition, draw, models, columns, **options) for draw in range(condition.num_draws))
    return Parallel(n_jobs=num_jobs)(work)


def mean_and_error(scores):
    """`mean`, `standard_error` (None for a single draw) and `draws` by column, over the draws that have scores."""
    scores = [score for score in scores if score] or [{}]
    values = {name: [round(score[name], 4) for score in scores] for name in scores[0]}
    error = {name: None for name in values}
    if len(scores) > 1:
        error = {n: round(float(np.std(v, ddof=1) / len(v) ** 0.5), 4) for n, v in values.items()}
    return dict(mean={n: round(float(np.mean(v)), 4) for n, v in values.items()}, standard_error=error, draws=values)
