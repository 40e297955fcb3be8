"""How far units overlap: for each unit the other one with which its spikes are most easily confused.

Only units that are near each other are compared. Two measures see different faults:

1. Neighbours in the embedding: which share of the nearest spikes of a unit's spikes belongs to the other unit, as the
   nearest-neighbour hit rate of SpikeInterface (Chung et al. 2017, doi:10.1016/j.neuron.2017.08.030). It is computed on
   pairs of units, so that units elsewhere on the probe never count, and only where both were embedded on the same
   channels: embeddings around other channels cannot be compared.
2. Distance of the templates, in noise levels: it compares units of any two channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from spikeinterface.core import get_channel_distances
from spikeinterface.metrics.quality.pca_metrics import nearest_neighbors_metrics

from ..clustering.disk_arrays import take
from .preprocessing import PreparedGroup


@dataclass(frozen=True)
class OverlapSettings:
    """How overlap is measured.

    Attributes
    ----------
    radius_um : float
        Units whose main channels are further apart do not overlap.
    max_lag_ms : float
        Largest shift between two templates: a unit may be aligned to a second trough.
    min_rival_share : float
        A template counts for a unit only if its unit has at least this share of the unit's spikes: a smaller one, such
        as a fragment of the same neuron, cannot lower its accuracy below 0.9.
    num_neighbours : int
        Nearest spikes; SpikeInterface's default.
    max_spikes : int
        Largest number of spikes of a pair of units, drawn at random from both in proportion.
    """

    radius_um: float = 100.0
    max_lag_ms: float = 1.0
    min_rival_share: float = 0.1
    num_neighbours: int = 5
    max_spikes: int = 1000


OVERLAP_SETTINGS = OverlapSettings()


@dataclass(frozen=True)
class UnitOverlap:
    """The overlap of each unit with the others of its group.

    Attributes
    ----------
    neighbour_shares : ndarray of float64, (num_units,)
        Largest share of embedding neighbours that belong to one other unit; 0 where none can be compared.
    template_distances : ndarray of float64, (num_units,)
        Smallest distance of its template from another one, in noise levels; NaN where none is near.
    neighbours, similar_units : ndarray of int64, (num_units,)
        These other units; -1 for none.
    """

    neighbour_shares: np.ndarray
    template_distances: np.ndarray
    neighbours: np.ndarray
    similar_units: np.ndarray

    def to_properties(self, max_neighbour_share: float) -> dict[str, list]:
        """Unit properties.

        Parameters
        ----------
        max_neighbour_share : float
            Above it, the overlapping unit is that of the embedding, otherwise that of the templates.

        Returns
        -------
        dict of list
            neighbour_share, template_distance and overlapping_unit.
        """
        is_shared = self.neighbour_shares > max_neighbour_share
        return {
            "neighbour_share": self.neighbour_shares.tolist(),
            "template_distance": self.template_distances.tolist(),
            "overlapping_unit": np.where(is_shared, self.neighbours, self.similar_units).tolist(),
        }


def measure_overlap(
    group: PreparedGroup,
    templates_uv: np.ndarray,
    embeddings: np.ndarray,
    unit_index: np.ndarray,
    centres: np.ndarray,
    *,
    seed: int = 0,
    settings: OverlapSettings = OVERLAP_SETTINGS,
) -> UnitOverlap:
    """Measure how far the units of a group overlap.

    Parameters
    ----------
    group : PreparedGroup
        Contacts, sampling frequency and noise levels.
    templates_uv : ndarray, (num_units, num_samples, num_channels)
    embeddings : ndarray of float32, (num_spikes, embedding_size)
    unit_index : ndarray of int, (num_spikes,)
        Every unit has at least one spike.
    centres : ndarray of int, (num_spikes,)
        Channel around which each spike was embedded.
    seed : int
        Of the drawn spikes.
    settings : OverlapSettings

    Returns
    -------
    UnitOverlap
    """
    scaled = templates_uv / np.maximum(group.noise_levels_uv, 1e-9)
    num_units = len(scaled)
    shares, neighbours = np.zeros(num_units), np.full(num_units, -1)
    distances, similar = np.full(num_units, np.nan), np.full(num_units, -1)
    rows = [np.flatnonzero(unit_index == unit) for unit in range(num_units)]
    rng = np.random.default_rng(seed)
    for first, second, around in _near_pairs(group, scaled, settings.radius_um):
        max_lag = int(settings.max_lag_ms * group.recording.get_sampling_frequency() / 1000.0)
        distance = _template_distance(scaled[first][:, around], scaled[second][:, around], max_lag)
        shared = (0.0, 0.0)
        if centres[rows[first][0]] == centres[rows[second][0]]:
            shared = _neighbour_shares(embeddings, rows[first], rows[second], rng, settings)
        for unit, other, share in ((first, second, shared[0]), (second, first, shared[1])):
            is_rival = len(rows[other]) >= settings.min_rival_share * len(rows[unit])
            if is_rival and not distance >= distances[unit]:
                distances[unit], similar[unit] = distance, other
            if share > shares[unit]:
                shares[unit], neighbours[unit] = share, other
    return UnitOverlap(shares, distances, neighbours, similar)


def _near_pairs(group: PreparedGroup, scaled: np.ndarray, radius_um: float) -> Iterator[tuple[int, int, np.ndarray]]:
    """Pairs of units whose main channels are near each other, and the channels around both."""
    between_um = get_channel_distances(group.recording)
    main = np.abs(scaled).max(axis=1).argmax(axis=1)
    for first, second in np.argwhere(np.triu(between_um[main][:, main] <= radius_um, k=1)):
        yield int(first), int(second), np.flatnonzero((between_um[main[[first, second]]] <= radius_um).any(axis=0))


def _template_distance(first: np.ndarray, second: np.ndarray, max_lag: int) -> float:
    """Euclidean distance of two templates (num_samples, num_channels) at their best lag."""
    num_samples = len(first)
    spectra = [np.fft.rfft(each, 2 * num_samples, axis=0) for each in (first, second)]
    products = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=1))
    lags = np.arange(-min(max_lag, num_samples - 1), min(max_lag, num_samples - 1) + 1)
    squared = (first**2).sum() + (second**2).sum() - 2 * products[lags].max()
    return float(np.sqrt(max(squared, 0.0)))


def _neighbour_shares(
    embeddings: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    rng: np.random.Generator,
    settings: OverlapSettings,
) -> tuple[float, float]:
    """Share of the neighbours of the first rows that are second rows, and the reverse."""
    fraction = min(1.0, settings.max_spikes / (len(first) + len(second)))
    # a small unit beside a large one keeps enough spikes to be judged
    floor = settings.num_neighbours * 4
    drawn = [rng.permutation(each)[: max(floor, int(fraction * len(each)))] for each in (first, second)]
    if min(len(each) for each in drawn) <= settings.num_neighbours:
        return 0.0, 0.0
    owners = np.repeat([0, 1], [len(each) for each in drawn])
    points = take(embeddings, np.concatenate(drawn)).astype("float64")
    hit, miss = nearest_neighbors_metrics(points, owners, 0, len(points), settings.num_neighbours)
    return 1.0 - float(hit), float(miss)
