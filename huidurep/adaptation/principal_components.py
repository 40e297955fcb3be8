"""Principal components of embeddings and waveforms, by scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits


def fit_pca(points: np.ndarray, count: int, seed: int = 0) -> PCA:
    """Fit a PCA with the same result for any number of threads.

    Parameters
    ----------
    points : ndarray (num_points, num_features)
    count : int
        Maximum number of components; there are no more than points or features.
    seed : int, default 0
        For the randomised solver, which scikit-learn takes for large matrices.

    Returns
    -------
    sklearn.decomposition.PCA
    """
    # The order of sums, and with it the last digits, depends on the number of threads. Points that are all alike have
    # no variance of which components could explain a share.
    with threadpool_limits(limits=1), np.errstate(invalid="ignore"):
        return PCA(min(count, *points.shape), random_state=seed).fit(np.asarray(points, float))


def leading_components(points: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Scores on the leading principal components, scaled to a mean variance of 1.

    Parameters
    ----------
    points, count, seed
        As in :func:`fit_pca`.

    Returns
    -------
    ndarray (num_points, <= count) float64
    """
    with threadpool_limits(limits=1):
        scores = fit_pca(points, count, seed).transform(np.asarray(points, float))
    return scores / np.sqrt(max(scores.var(0).mean(), 1e-30))


def join_features(
    embeddings: np.ndarray, waveforms: np.ndarray, *, num_components: int, waveform_weight: float, seed: int
) -> np.ndarray:
    """Embeddings and leading principal components of waveforms, at a fixed ratio of their variances.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    waveforms : ndarray (num_spikes, num_features)
    num_components : int
        Maximum number of components of the waveforms.
    waveform_weight : float
        Standard deviation of these components, relative to that of the embeddings.
    seed : int

    Returns
    -------
    ndarray (num_spikes, embedding_size + <= num_components) float64
    """
    parts = [np.asarray(embeddings, float), leading_components(waveforms, num_components, seed)]
    scaled = [part / np.sqrt(max(part.var(0).sum(), 1e-30)) for part in parts]
    return np.hstack([scaled[0], waveform_weight * scaled[1]])
