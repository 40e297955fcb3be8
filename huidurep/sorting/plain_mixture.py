"""The clustering of the paper, for comparison: a Gaussian mixture of a given number of units, and nothing else."""

from __future__ import annotations

import numpy as np
from sklearn.mixture import GaussianMixture

from ..clustering import Clustering

NUM_STARTS = 10  # one k-means start alone often puts two components into one cluster


def cluster_plainly(embeddings: np.ndarray, *, num_units: int, max_fit_spikes: int, seed: int) -> Clustering:
    """Fit scikit-learn's Gaussian mixture, one component with a full covariance a unit, the best of ten k-means starts.

    Parameters
    ----------
    embeddings : ndarray, (num_spikes, embedding_size)
        At least `num_units` rows.
    num_units : int
        Components.
    max_fit_spikes : int
        At most so many spikes, drawn at random, fit the mixture; the rest is assigned.
    seed : int
        Of the draw and of the starts.

    Returns
    -------
    Clustering
        A component may win no spike: its unit has none.
    """
    embeddings = np.asarray(embeddings, dtype="float64")
    rows = np.arange(len(embeddings))
    if len(rows) > max(max_fit_spikes, num_units):
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[: max(max_fit_spikes, num_units)])
    mixture = GaussianMixture(num_units, covariance_type="full", n_init=NUM_STARTS, random_state=seed)
    mixture.fit(embeddings[rows] if len(rows) > 1 else embeddings[rows].repeat(2, axis=0))  # scikit-learn asks for two
    size = embeddings.shape[1]
    posteriors = mixture.predict_proba(embeddings)
    return Clustering(
        labels=posteriors.argmax(axis=1),
        posteriors=posteriors.max(axis=1).astype("float32"),
        num_units=num_units,
        mean=np.zeros(size),
        axes=np.eye(size),
        weights=mixture.weights_,
        tracks=mixture.means_[:, None],
        factors=np.linalg.cholesky(mixture.covariances_),
        component_units=np.arange(num_units),
    )
