"""Posteriors of spikes whose units are given, as after a person has curated them."""

from __future__ import annotations

import numpy as np

from .separation import principal_axes
from .unit_mixture import DEFAULT_SETTINGS, MixtureSettings, UnitMixture, fit_units


def posteriors_of_given_units(
    embeddings: np.ndarray,
    components: np.ndarray,
    units: np.ndarray,
    *,
    max_dimensions: int = 20,
    settings: MixtureSettings = DEFAULT_SETTINGS,
) -> np.ndarray:
    """Posterior of each spike's unit in a mixture that is estimated from the units themselves.

    As the mixture of `cluster_embeddings`: a unit is a mixture of its components (Baudry et al. 2010,
    doi:10.1198/jcgs.2010.08111), each a Gaussian with the mean and shrunk covariance of its spikes, beside one broad
    background component. Drift is not removed.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
        On the same channels.
    components : ndarray (num_spikes,) int
        Component of each spike; all spikes of a component have one unit.
    units : ndarray (num_spikes,) int
    max_dimensions : int
        Maximum number of principal components of the embeddings.
    settings : MixtureSettings

    Returns
    -------
    ndarray (num_spikes,) float32
    """
    mean, axes = principal_axes(embeddings, max_dimensions)
    points = (embeddings.astype("float64") - mean) @ axes
    labels = np.unique(units, return_inverse=True)[1]
    fitted = fit_units(points, np.ones((len(points), 1)), components, labels, True, settings)
    return UnitMixture(mean=mean, axes=axes, **fitted).posterior_of(embeddings, labels)
