"""Embeddings -> units: a Gaussian mixture that finds its own number of units."""

from .mixture import Clustering, cluster_embeddings, fit_mixture

__all__ = ["Clustering", "cluster_embeddings", "fit_mixture"]
