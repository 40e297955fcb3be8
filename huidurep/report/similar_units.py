"""Which units lie near each other, how well they are told apart, and which pairs may be one neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist
from spikeinterface.postprocessing.correlograms import compute_correlograms
from threadpoolctl import threadpool_limits

from ..clustering.refractory import evidence_of_two
from ..clustering.separation import SEPARATION, separation
from ..sorting.postprocessing import Measures

if TYPE_CHECKING:
    from ..result import SortingResult

NUM_NEIGHBOURS = 3
NEIGHBOUR_UM = 100.0  # units whose main contacts are further apart are told apart by place
NUM_SPIKES = 300  # of a unit, drawn
NUM_BINS = 32
RIDGE = 0.1  # of the mean variance: a few spikes do not say which axis is best
SHIFT_MS = 0.3  # between two views of one spike
LEAST_SIMILARITY = 0.8
# The sorting joins units below SEPARATION; up to twice as much, a person should have a look.
CANDIDATE_FACTOR = 2.0
MAX_CANDIDATES = 60
CORRELOGRAM_MS, CORRELOGRAM_BIN_MS = 50.0, 0.5  # whole window, bin


@dataclass(frozen=True, eq=False)
class Pair:
    """Two units held against each other.

    Attributes
    ----------
    first, second : int
        Index of the units, the smaller one first.
    distance : float
        Between the means of their embeddings.
    separation : float
        Ashman's D of their embeddings, as in the clustering; 0 where they are one cloud.
    evidence : float
        That they fire as two neurons do, nats.
    similarity : float | None
        Cosine of their templates at the best shift; None without templates.
    projection : ndarray of int, (2, NUM_BINS)
        Spikes of both along the axis that tells them apart best.
    """

    first: int
    second: int
    distance: float
    separation: float
    evidence: float
    similarity: float | None
    projection: np.ndarray

    def is_candidate(self, merge_bias: float) -> bool:
        """Whether a person should look if the two are one neuron.

        Parameters
        ----------
        merge_bias : float
            Of the sorting.

        Returns
        -------
        bool
        """
        is_like = self.similarity is None or self.similarity >= LEAST_SIMILARITY
        return is_like and self.separation + self.evidence < CANDIDATE_FACTOR * SEPARATION + merge_bias


def find_pairs(result: SortingResult, measures: Measures | None, *, seed: int = 0) -> list[Pair]:
    """Hold every unit against its nearest ones in the embedding, and against those with a like template.

    Parameters
    ----------
    result : SortingResult
    measures : Measures | None
        Templates, by which like units are found, and contacts: units further apart than 100 um are no pair.
    seed : int
        Of the spikes that are drawn, at most 300 a unit.

    Returns
    -------
    list of Pair
        In order of their units.
    """
    vector = result.sorting.to_spike_vector()
    num_units = result.sorting.get_num_units()
    rng = np.random.default_rng(seed)
    by_unit = np.split(np.argsort(vector["unit_index"], kind="stable"), _ends(vector["unit_index"], num_units))
    drawn = [result.embeddings[np.sort(rng.permutation(rows)[:NUM_SPIKES])].astype("float64") for rows in by_unit]
    times_s = _times_without_overlap(vector, result.sorting.get_sampling_frequency())
    centres = np.stack([points.mean(axis=0) if len(points) else np.full(points.shape[1], np.inf) for points in drawn])
    is_near = _are_near(result.sorting.get_property("group"), measures)
    similarity = None if measures is None else _template_similarity(measures, is_near, result)
    asked = sorted(_worth_asking(centres, is_near, similarity))
    # the matrices are small: more threads only wait for each other
    with threadpool_limits(limits=1):
        return [
            Pair(
                first,
                second,
                float(np.linalg.norm(centres[first] - centres[second])),
                float(separation(drawn[first], drawn[second], seed=seed)),
                evidence_of_two(times_s[by_unit[first]], times_s[by_unit[second]]),
                None if similarity is None else float(similarity[first, second]),
                _project(drawn[first], drawn[second]),
            )
            for first, second in asked
            if min(len(drawn[first]), len(drawn[second])) > 1
        ]


def cross_correlogram(sorting, first: int, second: int) -> np.ndarray:
    """Lags of the second unit's spikes from the first's.

    Parameters
    ----------
    sorting : BaseSorting
    first, second : int
        Index of the units.

    Returns
    -------
    ndarray of int, (num_bins,)
        Of 0.5 ms, from -25 to 25 ms.
    """
    both = sorting.select_units(sorting.unit_ids[[first, second]])
    counts, _ = compute_correlograms(both, window_ms=CORRELOGRAM_MS, bin_ms=CORRELOGRAM_BIN_MS)
    return counts[0, 1]


def _ends(unit_index: np.ndarray, num_units: int) -> np.ndarray:
    return np.cumsum(np.bincount(unit_index, minlength=num_units))[:-1]


def _times_without_overlap(vector: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """Seconds (num_spikes,), segments far enough apart to share no correlogram."""
    last = np.zeros(vector["segment_index"].max(initial=0) + 1)
    np.maximum.at(last, vector["segment_index"], vector["sample_index"])
    starts = np.concatenate([[0.0], np.cumsum(last / sampling_frequency + 1.0)[:-1]])
    return starts[vector["segment_index"]] + vector["sample_index"] / sampling_frequency


def _are_near(groups: np.ndarray, measures: Measures | None) -> np.ndarray:
    """Whether two units (num_units, num_units) are of one group and, where contacts are known, of one place."""
    is_near = groups[:, None] == groups[None, :]
    if measures is not None:
        places_um = measures.channel_positions_um[measures.template_channels[:, 0]]
        is_near &= cdist(places_um, places_um) <= NEIGHBOUR_UM
    np.fill_diagonal(is_near, False)
    return is_near


def _template_similarity(measures: Measures, is_near: np.ndarray, result: SortingResult) -> np.ndarray:
    """Cosine (num_units, num_units) of the templates of near units at the best shift; 0 for others."""
    templates, channels = np.nan_to_num(measures.templates_uv), measures.template_channels
    reach = int(SHIFT_MS * result.sorting.get_sampling_frequency() / 1000.0)
    norms = np.linalg.norm(templates, axis=(1, 2))
    similarity = np.zeros(is_near.shape)
    for first, second in zip(*np.nonzero(np.triu(is_near)), strict=True):
        own, other = np.nonzero((channels[first][:, None] == channels[second]) & (channels[first] >= 0)[:, None])
        early, late = templates[first][:, own], templates[second][:, other]
        products = [(early[lag:] * late[: len(late) - lag]).sum() for lag in range(reach + 1)]
        products += [(late[lag:] * early[: len(early) - lag]).sum() for lag in range(1, reach + 1)]
        # what only one of them shows is a difference: the norms are those of whole templates
        cosine = max(products) / max(norms[first] * norms[second], 1e-12)
        similarity[first, second] = similarity[second, first] = cosine
    return similarity


def _worth_asking(centres: np.ndarray, is_near: np.ndarray, similarity: np.ndarray | None) -> set[tuple[int, int]]:
    distances = np.where(is_near, cdist(centres, centres), np.inf)
    pairs = set()
    for unit, row in enumerate(distances):
        nearest = [other for other in np.argsort(row, kind="stable")[:NUM_NEIGHBOURS] if np.isfinite(row[other])]
        pairs |= {(min(unit, int(other)), max(unit, int(other))) for other in nearest}
    if similarity is not None:
        like = np.argwhere(np.triu(is_near & (similarity >= LEAST_SIMILARITY)))
        pairs |= {(int(first), int(second)) for first, second in like}
    return pairs


def _project(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Counts (2, NUM_BINS) of both along their linear discriminant, the first on the left."""
    points = np.concatenate([first, second])
    owners = np.repeat([0, 1], [len(first), len(second)])
    within = np.cov(np.concatenate([first - first.mean(axis=0), second - second.mean(axis=0)]), rowvar=False)
    within = np.atleast_2d(within) + RIDGE * np.trace(np.atleast_2d(within)) / points.shape[1] * np.eye(points.shape[1])
    values = points @ np.linalg.lstsq(within, second.mean(axis=0) - first.mean(axis=0))[0]
    edges = np.linspace(values.min(), values.max() + 1e-9, NUM_BINS + 1)
    return np.stack([np.histogram(values[owners == owner], edges)[0] for owner in (0, 1)])
