"""Pseudo-units: clusters of spikes that are probably of one unit, found without labels, on which `adapt` trains."""

from __future__ import annotations

import numpy as np

from ..clustering.mixture import cluster_embeddings
from .principal_components import join_features
from .settings import DEFAULT_SETTINGS, AdaptationSettings


def find_pseudo_units(
    embeddings: np.ndarray,
    snippets: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    spike_times_s: np.ndarray | None = None,
    settings: AdaptationSettings = DEFAULT_SETTINGS,
) -> np.ndarray:
    """Cluster the spikes of every group by embeddings and waveforms together; keep the confident members.

    Waveforms are used because the encoder cannot learn from its own clusters what it does not represent yet. The number
    of units is found, as in a sorting: without merging, an over-split mixture divides the units that fire most, and an
    encoder that is trained on it divides them further (benchmarks/results/adaptation.json has such recordings).

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    snippets : ndarray (num_spikes, num_samples, num_channels)
        As the encoder receives them.
    groups : ndarray of int (num_spikes,)
        Spikes of the same channels have the same number; only these are compared with each other.
    seed : int
    spike_times_s : ndarray (num_spikes,), optional
        With them the clustering also uses refractory periods and tracks drift.
    settings : AdaptationSettings, optional

    Returns
    -------
    ndarray of int64 (num_spikes,)
        Pseudo-unit of each spike, numbered over all groups; -1 for a spike of a low posterior or of a small cluster,
        and for all spikes of a group with fewer than two pseudo-units.
    """
    labels, count = np.full(len(snippets), -1), 0
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2 * settings.min_unit_spikes:
            continue
        points = join_features(
            embeddings[rows],
            snippets[rows].reshape(len(rows), -1),
            num_components=settings.num_components,
            waveform_weight=settings.waveform_weight,
            seed=seed,
        )
        times_s = None if spike_times_s is None else np.asarray(spike_times_s)[rows]
        found = _cluster(points, times_s, seed, settings)
        members = [rows[found == unit] for unit in np.unique(found[found >= 0])]
        members = [each for each in members if len(each) >= settings.min_confident_spikes]
        if len(members) < 2:
            continue  # a single pseudo-unit has no negatives
        for each in members:
            labels[each] = count
            count += 1
    return labels


def _cluster(points: np.ndarray, times_s: np.ndarray | None, seed: int, settings: AdaptationSettings) -> np.ndarray:
    """Unit of each spike by the clustering of the sorting, -1 where the posterior is low."""
    found = cluster_embeddings(
        points,
        seed=seed,
        max_dimensions=settings.num_dimensions,
        min_unit_spikes=settings.min_unit_spikes,
        times_s=times_s,
    )
    return np.where(found.posteriors > settings.min_posterior, found.labels, -1)
