"""Label-free evaluation of embeddings: how well they cluster."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from ..clustering.mixture import fit_mixture
from .settings import UnsupervisedEvaluationSettings


def score_embeddings(
    embeddings: np.ndarray,
    *,
    noisy_embeddings: np.ndarray,
    groups: np.ndarray,
    spike_times_s: np.ndarray,
    seed: int,
    settings: UnsupervisedEvaluationSettings,
) -> dict[str, float]:
    """Label-free figures of how well embeddings cluster.

    Gaussian mixtures are fitted to the leading principal components, group by group. The figures are means over groups,
    weighted by their spikes, and over repeated fits.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    noisy_embeddings : ndarray, same shape
        Of the same spikes with noise added.
    groups : ndarray of int (num_spikes,)
        Spikes that can be compared with each other have the same number.
    spike_times_s : ndarray (num_spikes,)
    seed : int
    settings : UnsupervisedEvaluationSettings

    Returns
    -------
    dict of str to float
        ``agreement_of_halves``: adjusted Rand index of the components of all spikes under the mixtures of two halves.
        ``agreement_under_noise``: of their components without and with noise. ``posterior_entropy``: mean entropy of
        the posteriors of a spike (natural logarithm). ``short_isi_fraction``: share of the inter-spike intervals of a
        component that are below 1.5 ms. Empty if every group has fewer than 40 spikes.
    """
    figures, weights = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2 * settings.spikes_per_component:
            continue
        for repeat in range(settings.num_repeats):
            its = embeddings[rows], noisy_embeddings[rows], spike_times_s[rows]
            figures.append(_score_group(*its, seed + repeat, settings))
            weights.append(len(rows))
    if not figures:
        return {}
    return {name: float(np.average([each[name] for each in figures], weights=weights)) for name in figures[0]}


def leading_components(points: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Scores on the leading principal components, scaled to a mean variance of 1.

    Parameters
    ----------
    points : ndarray (num_points, num_features)
    count : int
        Maximum number of components; there are no more than points or features.
    seed : int, default 0
        For the randomised solver, which scikit-learn takes for large matrices.

    Returns
    -------
    ndarray (num_points, <= count) float64
        The same for any number of threads.
    """
    points = np.asarray(points, float)
    # The order of sums, and with it the last digits, depends on the number of threads. Points that are all alike have
    # no variance of which components could explain a share.
    with threadpool_limits(limits=1), np.errstate(invalid="ignore"):
        scores = PCA(min(count, *points.shape), random_state=seed).fit(points).transform(points)
    return scores / np.sqrt(max(scores.var(0).mean(), 1e-30))


def _score_group(
    embeddings: np.ndarray,
    noisy: np.ndarray,
    times_s: np.ndarray,
    seed: int,
    settings: UnsupervisedEvaluationSettings,
) -> dict[str, float]:
    """Figures of one group from one fit to each half."""
    from sklearn.metrics import adjusted_rand_score

    num_spikes = len(embeddings)
    scores = leading_components(np.concatenate([embeddings, noisy]), settings.num_dimensions, seed)
    clean = scores[:num_spikes]
    order = np.random.default_rng(seed).permutation(num_spikes)
    halves = order[: num_spikes // 2], order[num_spikes // 2 :]
    count = max(2, min(settings.max_components, num_spikes // (2 * settings.spikes_per_component)))
    mixtures = [fit_mixture(clean[half], count, "full", seed + number) for number, half in enumerate(halves)]
    posteriors = [mixture.predict_proba(clean) for mixture in mixtures]
    labels = [each.argmax(1) for each in posteriors]
    entropies = [-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean() for p in posteriors]
    under_noise = [mixture.predict(scores[num_spikes:]) for mixture in mixtures]
    agreements = [adjusted_rand_score(a, b) for a, b in zip(labels, under_noise, strict=True)]
    return dict(
        agreement_of_halves=adjusted_rand_score(*labels),
        posterior_entropy=np.mean(entropies),
        agreement_under_noise=np.mean(agreements),
        short_isi_fraction=np.mean([_short_isi_fraction(each, times_s, settings.short_isi_ms) for each in labels]),
    )


def _short_isi_fraction(labels: np.ndarray, times_s: np.ndarray, short_isi_ms: float) -> float:
    """Share of the inter-spike intervals of all components that are shorter than `short_isi_ms`."""
    intervals = np.concatenate([np.diff(np.sort(times_s[labels == label])) for label in np.unique(labels)])
    return (intervals < short_isi_ms * 1e-3).mean() if len(intervals) else 0.0
