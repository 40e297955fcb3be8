"""Compare similar units, and find pairs that may be one neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist
from spikeinterface.postprocessing.correlograms import compute_correlograms
from threadpoolctl import threadpool_limits

from ..clustering.separation import MergeSettings, merge_limit, merge_statistic, separation
from ..sorting.postprocessing import Measures
from ..sorting.spike_trains import SEGMENT_GAP_S, segment_starts

if TYPE_CHECKING:
    from ..result import SortingResult

MAX_CANDIDATES = 60  # pairs in the report's table
CORRELOGRAM_MS, CORRELOGRAM_BIN_MS = 50.0, 0.5  # whole window, bin


@dataclass(frozen=True)
class SimilarUnitsSettings:
    """Settings of `find_pairs`.

    Parameters
    ----------
    num_neighbours : int
        Number of nearest units, by the means of their embeddings, with which each unit is compared.
    radius_um : float
        Units whose main channels are further apart are not compared.
    num_spikes : int
        Maximum number of spikes of each unit, drawn at random.
    max_shift_ms : float
        Largest time shift between two templates of one neuron.
    min_similarity : float
        Units with more similar templates are compared, too; less similar ones are no candidates for merging.
    review_margin : float
        Pairs are candidates up to this much above the limit at which the sorting merges.
    num_bins : int
        Bins of the histograms on the linear discriminant.
    ridge : float
        Regularisation of the discriminant, in units of the mean variance: spikes are few.
    merge : MergeSettings
    """

    num_neighbours: int = 3
    radius_um: float = 100.0
    num_spikes: int = 300
    max_shift_ms: float = 0.3
    min_similarity: float = 0.8
    review_margin: float = 3.0
    num_bins: int = 32
    ridge: float = 0.1
    merge: MergeSettings = MergeSettings()


DEFAULT_SETTINGS = SimilarUnitsSettings()


@dataclass(frozen=True, eq=False)
class Pair:
    """Comparison of two units.

    Attributes
    ----------
    first, second : int
        Index of the units, the smaller one first.
    distance : float
        Between the means of their embeddings.
    separation : float
        Ashman's D of their embeddings; 0 where one Gaussian fits both.
    merge_statistic : float
        Separation plus refractory log-likelihood ratio, which decides on merging.
    similarity : float | None
        Cosine of their templates at the best shift; None without templates.
    projection : ndarray of int, (2, num_bins)
        Histograms of both on their linear discriminant.
    """

    first: int
    second: int
    distance: float
    separation: float
    merge_statistic: float
    similarity: float | None
    projection: np.ndarray

    @property
    def refractory_log_likelihood_ratio(self) -> float:
        """Log-likelihood ratio of two neurons against one, by their cross-correlogram."""
        return self.merge_statistic - self.separation

    def is_candidate(self, merge_bias: float, settings: SimilarUnitsSettings = DEFAULT_SETTINGS) -> bool:
        """Whether a person should decide if the two units are one neuron.

        Parameters
        ----------
        merge_bias : float
            Of the sorting.
        settings : SimilarUnitsSettings

        Returns
        -------
        bool
        """
        is_similar = self.similarity is None or self.similarity >= settings.min_similarity
        return is_similar and self.merge_statistic < merge_limit(merge_bias, settings.merge) + settings.review_margin


def find_pairs(
    result: SortingResult,
    measures: Measures | None,
    *,
    seed: int = 0,
    settings: SimilarUnitsSettings = DEFAULT_SETTINGS,
) -> list[Pair]:
    """Compare every unit with its nearest ones in the embedding, and with those of similar templates.

    Parameters
    ----------
    result : SortingResult
    measures : Measures | None
        Templates, by which similar units are found, and contact positions, by which distant units are left out.
    seed : int
        Seed of the draw of spikes.
    settings : SimilarUnitsSettings

    Returns
    -------
    list of Pair
        In order of their units.
    """
    vector = result.sorting.to_spike_vector()
    num_units = result.sorting.get_num_units()
    rng = np.random.default_rng(seed)
    by_unit = np.split(np.argsort(vector["unit_index"], kind="stable"), _ends(vector["unit_index"], num_units))
    rows_drawn = [np.sort(rng.permutation(rows)[: settings.num_spikes]) for rows in by_unit]
    drawn = [result.embeddings[rows].astype("float64") for rows in rows_drawn]
    times_s = _spike_times_s(vector, result.sorting.get_sampling_frequency())
    centres = np.stack([points.mean(axis=0) if len(points) else np.full(points.shape[1], np.inf) for points in drawn])
    is_near = _are_near(result.sorting.get_property("group"), measures, settings.radius_um)
    similarity = None
    if measures is not None:
        max_shift = int(settings.max_shift_ms * result.sorting.get_sampling_frequency() / 1000.0)
        similarity = _template_similarity(measures, is_near, max_shift)
    pairs = []
    # the matrices are small: more threads only wait for each other
    with threadpool_limits(limits=1):
        for first, second in sorted(_pairs_to_compare(centres, is_near, similarity, settings)):
            if min(len(drawn[first]), len(drawn[second])) < 2:
                continue
            apart = float(separation(drawn[first], drawn[second], seed=seed, settings=settings.merge))
            trains = (times_s[by_unit[unit]] for unit in (first, second))
            pairs.append(
                Pair(
                    first,
                    second,
                    distance=float(np.linalg.norm(centres[first] - centres[second])),
                    separation=apart,
                    merge_statistic=merge_statistic(apart, *trains, settings=settings.merge),
                    similarity=None if similarity is None else float(similarity[first, second]),
                    projection=_project(drawn[first], drawn[second], settings),
                )
            )
    return pairs


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


def _spike_times_s(vector: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """Seconds (num_spikes,) across segments, as long as their last spike says: only short lags are looked at."""
    last = np.zeros(vector["segment_index"].max(initial=0) + 1)
    np.maximum.at(last, vector["segment_index"], vector["sample_index"])
    starts_s = segment_starts(last / sampling_frequency, SEGMENT_GAP_S)
    return starts_s[vector["segment_index"]] + vector["sample_index"] / sampling_frequency


def _are_near(groups: np.ndarray, measures: Measures | None, radius_um: float) -> np.ndarray:
    """Whether two units (num_units, num_units) are in one group and, where contacts are known, near each other."""
    is_near = groups[:, None] == groups[None, :]
    if measures is not None:
        positions_um = measures.channel_positions_um[measures.template_channels[:, 0]]
        is_near &= cdist(positions_um, positions_um) <= radius_um
    np.fill_diagonal(is_near, False)
    return is_near


def _template_similarity(measures: Measures, is_near: np.ndarray, max_shift: int) -> np.ndarray:
    """Cosine (num_units, num_units) of the templates of near units at the best shift; 0 for others."""
    templates, channels = np.nan_to_num(measures.templates_uv), measures.template_channels
    norms = np.linalg.norm(templates, axis=(1, 2))
    similarity = np.zeros(is_near.shape)
    for first, second in zip(*np.nonzero(np.triu(is_near)), strict=True):
        own, other = np.nonzero((channels[first][:, None] == channels[second]) & (channels[first] >= 0)[:, None])
        early, late = templates[first][:, own], templates[second][:, other]
        products = [(early[lag:] * late[: len(late) - lag]).sum() for lag in range(max_shift + 1)]
        products += [(late[lag:] * early[: len(early) - lag]).sum() for lag in range(1, max_shift + 1)]
        # norms are those of whole templates: a channel that only one of them has makes them differ
        cosine = max(products) / max(norms[first] * norms[second], 1e-12)
        similarity[first, second] = similarity[second, first] = cosine
    return similarity


def _pairs_to_compare(
    centres: np.ndarray, is_near: np.ndarray, similarity: np.ndarray | None, settings: SimilarUnitsSettings
) -> set[tuple[int, int]]:
    distances = np.where(is_near, cdist(centres, centres), np.inf)
    pairs = set()
    for unit, row in enumerate(distances):
        order = np.argsort(row, kind="stable")[: settings.num_neighbours]
        nearest = [int(other) for other in order if np.isfinite(row[other])]
        pairs |= {(min(unit, other), max(unit, other)) for other in nearest}
    if similarity is not None:
        similar = np.argwhere(np.triu(is_near & (similarity >= settings.min_similarity)))
        pairs |= {(int(first), int(second)) for first, second in similar}
    return pairs


def _project(first: np.ndarray, second: np.ndarray, settings: SimilarUnitsSettings) -> np.ndarray:
    """Histograms (2, num_bins) of both on their linear discriminant, the first on the left."""
    points = np.concatenate([first, second])
    owners = np.repeat([0, 1], [len(first), len(second)])
    within = np.cov(np.concatenate([first - first.mean(axis=0), second - second.mean(axis=0)]), rowvar=False)
    within = np.atleast_2d(within)
    within = within + settings.ridge * np.trace(within) / points.shape[1] * np.eye(points.shape[1])
    values = points @ np.linalg.lstsq(within, second.mean(axis=0) - first.mean(axis=0))[0]
    edges = np.linspace(values.min(), values.max() + 1e-9, settings.num_bins + 1)
    return np.stack([np.histogram(values[owners == owner], edges)[0] for owner in (0, 1)])
