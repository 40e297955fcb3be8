"""Groups of spikes that are probably one unit's, found without labels: what `adapt` trains on."""

import numpy as np

from ..clustering.mixture import cluster_embeddings

NUM_COMPONENTS = 24
WEIGHT = 0.7  # of the waveforms' standard deviation, where that of the embeddings is 1
NUM_AXES = 12
SMALLEST_UNIT = 25
FEWEST_SPIKES = 10  # a pseudo-unit of fewer teaches its noise
SURE = 0.9


def find_pseudo_units(embeddings, snippets, groups, *, seed, spike_times_s=None):
    """Cluster the spikes of every group as a sorting does, by embeddings and waveforms together; keep the sure members.

    Waveforms are looked at too, for what the encoder does not see yet cannot be learnt from its own clusters. The
    number of units is found: an over-split mixture without a merge cuts the units that fire most, and what is trained
    on it goes on cutting them (benchmarks/results/adaptation.json has such recordings).

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    snippets : ndarray (num_spikes, num_samples, num_channels)
        As the encoder gets them.
    groups : ndarray of int (num_spikes,)
        Spikes that share their channels. Others are not compared with each other.
    seed : int
    spike_times_s : ndarray (num_spikes,), optional
        With them the clustering also looks at who fires right after whom, and follows tissue that moves.

    Returns
    -------
    ndarray of int64 (num_spikes,)
        Pseudo-unit of each spike, numbered over all groups; -1 for a spike of none (posterior of 0.9 or less, or fewer
        than 10 such spikes), and in a group where fewer than two are found.
    """
    labels, count = np.full(len(snippets), -1), 0
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2 * SMALLEST_UNIT:
            continue
        points = join(embeddings[rows], snippets[rows].reshape(len(rows), -1), seed)
        found = _cluster(points, None if spike_times_s is None else np.asarray(spike_times_s)[rows], seed)
        members = [rows[found == unit] for unit in np.unique(found[found >= 0])]
        members = [each for each in members if len(each) >= FEWEST_SPIKES]
        if len(members) < 2:
            continue  # nothing to tell apart
        for each in members:
            labels[each] = count
            count += 1
    return labels


def join(embeddings, waveforms, seed):
    """Embeddings and leading principal components of waveforms, side by side, at a fixed ratio of their variances.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    waveforms : ndarray (num_spikes, num_features)
    seed : int

    Returns
    -------
    ndarray (num_spikes, embedding_size + <= 24) float64
    """
    parts = [np.asarray(embeddings, float), leading_components(waveforms, NUM_COMPONENTS, seed)]
    scaled = [part / np.sqrt(max(part.var(0).sum(), 1e-30)) for part in parts]
    return np.hstack([scaled[0], WEIGHT * scaled[1]])


def leading_components(points, count, seed=0):
    """Scores on the leading principal components, of mean variance 1.

    Parameters
    ----------
    points : ndarray (num_points, num_features)
    count : int
        Fewer where there are fewer points or features.
    seed : int, default 0
        Of scikit-learn's randomised solver, which it takes for large matrices.

    Returns
    -------
    ndarray (num_points, <= count) float64
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    # Points that are all alike have no variance to take shares of.
    with threadpool_limits(limits=1), np.errstate(invalid="ignore"):
        scores = PCA(min(count, *points.shape), random_state=seed).fit_transform(np.asarray(points, float))
    return scores / np.sqrt(max(scores.var(0).mean(), 1e-30))


def _cluster(points, times_s, seed):
    """Unit of each spike by the rule of the sorting, -1 where the mixture is not sure of it."""
    options = dict(seed=seed, max_dimensions=NUM_AXES, min_unit_spikes=SMALLEST_UNIT)
    if times_s is not None:
        options["times_s"] = times_s
    found = cluster_embeddings(points, **options)
    return np.where(found.posteriors > SURE, found.labels, -1)
