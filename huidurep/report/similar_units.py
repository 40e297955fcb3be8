"""Pairs of similar units: how well they are separated, and which pairs may be one over-split neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist
from spikeinterface.core import BaseSorting
from spikeinterface.postprocessing.correlograms import compute_correlograms
from threadpoolctl import threadpool_limits

from ..clustering.separation import merge_limit, merge_statistic, separation
from ..sorting.postprocessing import UnitMeasurements
from ..sorting.spike_trains import SEGMENT_GAP_S, segment_starts
from .settings import REPORT_SETTINGS, ReportSettings

if TYPE_CHECKING:
    from ..result import SortingResult

NUM_BINS = 32  # of a projection
CORRELOGRAM_MS, CORRELOGRAM_BIN_MS = 50.0, 0.5  # window for lags of both signs, bin


@dataclass(frozen=True, eq=False)
class Pair:
    """Comparison of two units.

    Attributes
    ----------
    first, second : int
        Index of the units, the smaller one first.
    distance : float
        Distance between the means of their embeddings.
    separation : float
        Ashman's D of their embeddings, as in the clustering; 0 where one Gaussian explains both units.
    merge_statistic : float
        Separation plus refractory log-likelihood ratio, by which the sorting decides on merging.
    similarity : float | None
        Cosine similarity of their templates at the best shift; None without templates.
    projection : ndarray of int, (2, NUM_BINS)
        Histograms of the spikes of both units along their linear discriminant.
    """

    first: int
    second: int
    distance: float
    separation: float
    merge_statistic: float
    similarity: float | None
    projection: np.ndarray

    @property
    def log_likelihood_ratio(self) -> float:
        """Refractory log-likelihood ratio of two neurons against one, from their spike times."""
        return self.merge_statistic - self.separation

    def is_candidate(self, merge_bias: float, *, settings: ReportSettings = REPORT_SETTINGS) -> bool:
        """Whether the user should check if the two units are one neuron.

        Parameters
        ----------
        merge_bias : float
            Parameter of the sorting.
        settings : ReportSettings

        Returns
        -------
        bool
        """
        is_similar = self.similarity is None or self.similarity >= settings.min_template_similarity
        limit = settings.candidate_factor * merge_limit() + merge_bias
        return is_similar and self.merge_statistic < limit


def find_pairs(
    result: SortingResult,
    measurements: UnitMeasurements | None,
    *,
    seed: int = 0,
    settings: ReportSettings = REPORT_SETTINGS,
) -> list[Pair]:
    """Compare every unit with its nearest units in the embedding, and with units that have a similar template.

    Parameters
    ----------
    result : SortingResult
    measurements : UnitMeasurements | None
        Templates and positions: units more than 100 um apart are not compared. None: all units of a group may be.
    seed : int
        Selects the spikes that are compared, at most 300 of each unit.
    settings : ReportSettings

    Returns
    -------
    list of Pair
        In order of their units.
    """
    vector = result.sorting.to_spike_vector()
    num_units = result.sorting.get_num_units()
    rng = np.random.default_rng(seed)
    by_unit = np.split(np.argsort(vector["unit_index"], kind="stable"), _ends(vector["unit_index"], num_units))
    drawn = [
        result.embeddings[np.sort(rng.permutation(rows)[: settings.max_spikes])].astype("float64") for rows in by_unit
    ]
    times_s = _spike_times_s(vector, result.sorting.get_sampling_frequency())
    centres = np.stack([points.mean(axis=0) if len(points) else np.full(points.shape[1], np.inf) for points in drawn])
    is_near = _are_near(result.sorting.get_property("group"), measurements, settings.neighbour_distance_um)
    similarity = None
    if measurements is not None:
        max_shift = int(settings.max_template_shift_ms * result.sorting.get_sampling_frequency() / 1000.0)
        similarity = _template_similarity(measurements, is_near, max_shift)
    compared = sorted(_similar_pairs(centres, is_near, similarity, settings))
    pairs = []
    # with small matrices, threads cost more time than they save
    with threadpool_limits(limits=1):
        for first, second in compared:
            if min(len(drawn[first]), len(drawn[second])) < 2:
                continue
            ashman_d = float(separation(drawn[first], drawn[second], seed=seed))
            pairs.append(
                Pair(
                    first,
                    second,
                    distance=float(np.linalg.norm(centres[first] - centres[second])),
                    separation=ashman_d,
                    merge_statistic=merge_statistic(ashman_d, times_s[by_unit[first]], times_s[by_unit[second]]),
                    similarity=None if similarity is None else float(similarity[first, second]),
                    projection=_project(drawn[first], drawn[second], settings.discriminant_ridge),
                )
            )
    return pairs


def cross_correlogram(sorting: BaseSorting, first: int, second: int) -> np.ndarray:
    """Compute the cross-correlogram of two units, with SpikeInterface.

    Parameters
    ----------
    sorting : BaseSorting
    first, second : int
        Index of the units.

    Returns
    -------
    ndarray of int, (num_bins,)
        Counts in bins of 0.5 ms for lags from -25 to 25 ms.
    """
    both = sorting.select_units(sorting.unit_ids[[first, second]])
    counts, _ = compute_correlograms(both, window_ms=CORRELOGRAM_MS, bin_ms=CORRELOGRAM_BIN_MS)
    return counts[0, 1]


def _ends(unit_index: np.ndarray, num_units: int) -> np.ndarray:
    return np.cumsum(np.bincount(unit_index, minlength=num_units))[:-1]


def _spike_times_s(vector: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """Spike times (num_spikes,) s across segments, which are taken to end at their last spike."""
    last = np.zeros(vector["segment_index"].max(initial=0) + 1)
    np.maximum.at(last, vector["segment_index"], vector["sample_index"])
    starts_s = segment_starts(last / sampling_frequency, SEGMENT_GAP_S)
    return starts_s[vector["segment_index"]] + vector["sample_index"] / sampling_frequency


def _are_near(groups: np.ndarray, measurements: UnitMeasurements | None, max_distance_um: float) -> np.ndarray:
    """Whether two units (num_units, num_units) are in one group and, with known positions, near each other."""
    is_near = groups[:, None] == groups[None, :]
    if measurements is not None:
        main_channels_um = measurements.channel_positions_um[measurements.template_channels[:, 0]]
        is_near &= cdist(main_channels_um, main_channels_um) <= max_distance_um
    np.fill_diagonal(is_near, False)
    return is_near


def _template_similarity(measurements: UnitMeasurements, is_near: np.ndarray, max_shift: int) -> np.ndarray:
    """Cosine similarity (num_units, num_units) of templates of near units at the best shift; 0 for other units."""
    templates, channels = np.nan_to_num(measurements.templates_uv), measurements.template_channels
    norms = np.linalg.norm(templates, axis=(1, 2))
    similarity = np.zeros(is_near.shape)
    for first, second in zip(*np.nonzero(np.triu(is_near)), strict=True):
        own, other = np.nonzero((channels[first][:, None] == channels[second]) & (channels[first] >= 0)[:, None])
        early, late = templates[first][:, own], templates[second][:, other]
        products = [(early[lag:] * late[: len(late) - lag]).sum() for lag in range(max_shift + 1)]
        products += [(late[lag:] * early[: len(early) - lag]).sum() for lag in range(1, max_shift + 1)]
        # the norms are those of whole templates, so that channels of only one unit lower the similarity
        cosine = max(products) / max(norms[first] * norms[second], 1e-12)
        similarity[first, second] = similarity[second, first] = cosine
    return similarity


def _similar_pairs(
    centres: np.ndarray, is_near: np.ndarray, similarity: np.ndarray | None, settings: ReportSettings
) -> set[tuple[int, int]]:
    """Pairs of near units that are nearest neighbours in the embedding or have similar templates."""
    distances = np.where(is_near, cdist(centres, centres), np.inf)
    pairs: set[tuple[int, int]] = set()
    for unit, row in enumerate(distances):
        nearest = [
            other for other in np.argsort(row, kind="stable")[: settings.num_neighbours] if np.isfinite(row[other])
        ]
        pairs |= {(min(unit, int(other)), max(unit, int(other))) for other in nearest}
    if similarity is not None:
        similar = np.argwhere(np.triu(is_near & (similarity >= settings.min_template_similarity)))
        pairs |= {(int(first), int(second)) for first, second in similar}
    return pairs


def _project(first: np.ndarray, second: np.ndarray, ridge: float) -> np.ndarray:
    """Histograms (2, NUM_BINS) of both units along their linear discriminant, the first unit on the left."""
    points = np.concatenate([first, second])
    owners = np.repeat([0, 1], [len(first), len(second)])
    within = np.cov(np.concatenate([first - first.mean(axis=0), second - second.mean(axis=0)]), rowvar=False)
    within = np.atleast_2d(within) + ridge * np.trace(np.atleast_2d(within)) / points.shape[1] * np.eye(points.shape[1])
    values = points @ np.linalg.lstsq(within, second.mean(axis=0) - first.mean(axis=0))[0]
    edges = np.linspace(values.min(), values.max() + 1e-9, NUM_BINS + 1)
    return np.stack([np.histogram(values[owners == owner], edges)[0] for owner in (0, 1)])
