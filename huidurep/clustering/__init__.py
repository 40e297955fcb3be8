"""Embeddings -> units: a Gaussian mixture that finds its own number of units."""

from .mixture import Clustering, MixtureSettings, cluster_embeddings, fit_mixture

__all__ = ["Clustering", "MixtureSettings", "cluster_embeddings", "fit_mixture"]
