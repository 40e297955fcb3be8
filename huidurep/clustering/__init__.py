"""Embeddings -> units: a Gaussian mixture that finds its own number of units."""

from .mixture import Clustering, cluster_embeddings, fit_mixture
from .unit_mixture import MixtureSettings

__all__ = ["Clustering", "MixtureSettings", "cluster_embeddings", "fit_mixture"]
