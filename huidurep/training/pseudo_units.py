"""Groups of spikes that are probably one unit's, found without labels: what `adapt` trains on."""

import numpy as np

NUM_AXES = 12
MAX_PSEUDO_UNITS = 12
SPIKES_EACH = 25  # a recording of few spikes is split into fewer pseudo-units
FEWEST_SPIKES = 10  # a pseudo-unit of fewer teaches its noise
SURE = 0.9
REGULARISATION = 1e-3


def find_pseudo_units(snippets, groups, *, seed):
    """Over-split the spikes of every group by a Gaussian mixture on principal components; keep the sure members.

    Waveforms rather than embeddings are clustered: what the encoder does not see yet cannot be learnt from its own
    clusters. The components share one covariance, that of the noise, so that none spreads over several units.

    Parameters
    ----------
    snippets : ndarray (num_spikes, num_samples, num_channels)
        As the encoder gets them.
    groups : ndarray of int (num_spikes,)
        Spikes that share their channels. Others are not compared with each other.
    seed : int

    Returns
    -------
    ndarray of int64 (num_spikes,)
        Pseudo-unit of each spike, numbered over all groups; -1 for a spike of none (posterior of 0.9 or less, or fewer
        than 10 such spikes), and in a group where fewer than two are found.
    """
    labels, count = np.full(len(snippets), -1), 0
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        found = _over_split(snippets[rows].reshape(len(rows), -1), seed)
        members = [rows[found == component] for component in np.unique(found[found >= 0])]
        members = [each for each in members if len(each) >= FEWEST_SPIKES]
        if len(members) < 2:
            continue  # nothing to tell apart
        for each in members:
            labels[each] = count
            count += 1
    return labels


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


def fit_mixture(points, num_components, covariance_type, seed):
    """Gaussian mixture of scikit-learn, which need not converge.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    num_components : int
    covariance_type : str
        As scikit-learn names them.
    seed : int

    Returns
    -------
    sklearn.mixture.GaussianMixture
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(
        num_components, covariance_type=covariance_type, reg_covar=REGULARISATION, max_iter=100, random_state=seed
    )
    # The matrices are small: more threads only wait for each other.
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(points)


def _over_split(points, seed):
    """Component of each spike, -1 where no component is sure of it."""
    wanted = min(MAX_PSEUDO_UNITS, len(points) // SPIKES_EACH)
    if wanted < 2:
        return np.full(len(points), -1)
    scores = leading_components(points, NUM_AXES, seed)
    posteriors = fit_mixture(scores, wanted, "tied", seed).predict_proba(scores)
    return np.where(posteriors.max(1) > SURE, posteriors.argmax(1), -1)
