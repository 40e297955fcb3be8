"""Thresholds of the report: which units and pairs it marks, and how many spikes it compares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportSettings:
    """Thresholds of the report; quality labels are those of the sorting (`QualitySettings`).

    Attributes
    ----------
    low_snr : float
        Units below this are marked: detection misses part of their spikes.
    min_presence_ratio : float
        Units below this are marked.
    few_spikes : int
        Units with fewer spikes are marked: their metrics are uncertain.
    num_neighbours : int
        Nearest units in the embedding that each unit is compared with.
    neighbour_distance_um : float
        Units whose main channels are farther apart are not compared.
    max_spikes : int
        Spikes of a unit, drawn at random, that are compared with those of another.
    discriminant_ridge : float
        Added to the covariance of the linear discriminant, in units of the mean variance: few spikes do not determine
        the best axis.
    max_template_shift_ms : float
        Largest shift between two templates when their similarity is computed.
    min_template_similarity : float
        Pairs with less similar templates are no merge candidates.
    candidate_factor : float
        A pair is a merge candidate up to this multiple of the limit below which the sorting merges units.
    max_candidates : int
        Number of merge candidates that the report lists.
    max_shared_units, max_shared_contacts : int
        Groups up to this size are drawn as a whole in the figures of clusters.
    num_view_units, num_view_contacts : int
        On larger groups, a unit is drawn with its nearest ones, on so many contacts.
    max_cluster_spikes, max_page_spikes : int
        Largest number of spikes that the figures of clusters show, of a unit and of all units.
    plane_shrinkage : float
        Shrinkage of the covariance within units for the embedding map.
    """

    low_snr: float = 5.0
    min_presence_ratio: float = 0.9
    few_spikes: int = 100
    num_neighbours: int = 3
    neighbour_distance_um: float = 100.0
    max_spikes: int = 300
    discriminant_ridge: float = 0.1
    max_template_shift_ms: float = 0.3
    min_template_similarity: float = 0.8
    candidate_factor: float = 2.0
    max_candidates: int = 60
    max_shared_units: int = 24
    max_shared_contacts: int = 16
    num_view_units: int = 7
    num_view_contacts: int = 4
    max_cluster_spikes: int = 200
    max_page_spikes: int = 20000
    plane_shrinkage: float = 0.1


REPORT_SETTINGS = ReportSettings()
