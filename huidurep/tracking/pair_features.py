"""How alike two units of different sessions are: one number for each feature and pair."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from spikeinterface.preprocessing.preprocessing_tools import get_spatial_interpolation_kernel

from .group_units import GroupUnits
from .settings import TRACKING_SETTINGS, ShapeModel, TrackingSettings

LARGEST_RATIO = 30.0  # of the likelihoods of two shapes, as a logarithm: the tails of the model are not known
SAMPLES_PER_MS = 30.0  # of the encoders' window


def shape_features(
    first: GroupUnits, second: GroupUnits, shape: ShapeModel, *, settings: TrackingSettings = TRACKING_SETTINGS
) -> dict[str, np.ndarray]:
    """Features that need no displacement.

    Parameters
    ----------
    first, second : GroupUnits
    shape : ShapeModel
    settings : TrackingSettings

    Returns
    -------
    dict of str to ndarray (num_first, num_second)
        embedding (see `embedding_distances`), waveform (logarithm of 1 minus the cosine of the waveforms on the main
        channels, at their best lag), amplitude (logarithm of the ratio) and shape (log-likelihood ratio / 5).
    """
    max_lag = int(settings.max_lag_ms * SAMPLES_PER_MS)
    cosine = np.full((len(first), len(second)), -1.0)
    for early, late in _lagged(first.waveforms, second.waveforms, max_lag):
        cosine = np.maximum(cosine, early @ late.T)
    ratio = shape.log_likelihood_ratio(first.waveforms, second.waveforms)
    return {
        "embedding": embedding_distances(first, second, settings=settings),
        "waveform": np.log(1.002 - cosine),
        "amplitude": np.abs(np.log(first.amplitudes_uv)[:, None] - np.log(second.amplitudes_uv)[None]),
        "shape": np.clip(ratio, -LARGEST_RATIO, LARGEST_RATIO) / 5.0,
    }


def embedding_distances(
    first: GroupUnits, second: GroupUnits, *, settings: TrackingSettings = TRACKING_SETTINGS
) -> np.ndarray:
    """Distances of the embeddings in units of that of two neurons, which depends on the checkpoint.

    Units of one session are different neurons: the unit is the median of their distances. The usual distance of the
    checkpoint counts beside them like `settings.usual_pairs` pairs, so that there is a unit for single neurons too.

    Parameters
    ----------
    first, second : GroupUnits
    settings : TrackingSettings

    Returns
    -------
    ndarray (num_first, num_second)
    """
    within = np.concatenate([_distances(each, each)[np.triu_indices(len(each), 1)] for each in (first, second)])
    known = len(within) / (len(within) + settings.usual_pairs)
    median = np.median(within) if len(within) else 1.0
    unit = max(median, 1e-6) ** known * first.usual_distance ** (1 - known)
    return _distances(first, second) / unit


def place_distances(first: GroupUnits, second: GroupUnits, displacement_um: float) -> np.ndarray:
    """Distances (num_first, num_second) um of the units' places when the displacement is taken back.

    Parameters
    ----------
    first, second : GroupUnits
    displacement_um : float
        Of the neurons of `second` along the probe.

    Returns
    -------
    ndarray (num_first, num_second)
    """
    moved = second.places_um - [0.0, displacement_um]
    return np.linalg.norm(first.places_um[:, None] - moved[None], axis=2)


def isi_features(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Distances of histograms of inter-spike intervals, without what counting few intervals adds to them.

    Parameters
    ----------
    first, second : ndarray (num_first, num_bins) and (num_second, num_bins)
        Numbers of intervals.

    Returns
    -------
    dict of str to ndarray (num_first, num_second)
        isi (Hellinger distance, less the next in squares) and isi_noise (the square that is expected of two samples of
        one distribution: the square root of a share of n intervals has the variance 1 / 4n).
    """
    counts = [each.sum(axis=1) for each in (first, second)]
    roots = [np.sqrt(each / np.maximum(n, 1)[:, None]) for each, n in zip((first, second), counts, strict=True)]
    squares = ((roots[0][:, None] - roots[1][None]) ** 2).sum(axis=2)
    num_bins = np.maximum(((first[:, None] + second[None]) > 0).sum(axis=2), 2)
    # less than one interval: nothing is known
    inverse = [np.divide(1.0, n, out=np.full(len(n), 1e9), where=n > 0) for n in counts]
    noise = (num_bins - 1) / 4 * (inverse[0][:, None] + inverse[1][None])
    return {"isi": np.sqrt(np.maximum(squares - noise, 0.0)), "isi_noise": noise}


def shifted_residuals(
    first: GroupUnits,
    second: GroupUnits,
    displacement_um: float,
    pairs: np.ndarray,
    *,
    settings: TrackingSettings = TRACKING_SETTINGS,
) -> np.ndarray:
    """Difference of templates, each compared around its main channel with the other one shifted there.

    Parameters
    ----------
    first, second : GroupUnits
    displacement_um : float
        Of the neurons of `second` along the probe.
    pairs : ndarray of bool (num_first, num_second)
        Pairs that are compared.
    settings : TrackingSettings

    Returns
    -------
    ndarray (num_first, num_second)
        Logarithm of 1 minus the cosine, mean of both ways; NaN for other pairs, and where less than two contacts are
        covered by both.
    """
    forth = _residuals_around(first, second, -displacement_um, pairs, settings)
    back = _residuals_around(second, first, displacement_um, pairs.T, settings).T
    return np.where(np.isnan(forth), back, np.where(np.isnan(back), forth, (forth + back) / 2))


def _distances(first: GroupUnits, second: GroupUnits) -> np.ndarray:
    return np.linalg.norm(first.embeddings[:, None] - second.embeddings[None], axis=2)


def _residuals_around(
    units: GroupUnits, others: GroupUnits, move_um: float, pairs: np.ndarray, settings: TrackingSettings
) -> np.ndarray:
    """Residuals (num_units, num_others) around the main channels of `units`, of `others` moved along the probe."""
    kernel = get_spatial_interpolation_kernel(
        others.positions_um + [0.0, move_um],
        units.positions_um,
        method="kriging",
        sigma_um=settings.interpolation_um,
        force_extrapolate=False,
    )
    is_covered = np.abs(kernel).sum(axis=0) > settings.min_covered
    max_lag = int(settings.max_lag_ms * SAMPLES_PER_MS)
    residuals = np.full(pairs.shape, np.nan)
    for unit, main in enumerate(units.main_channels):
        distances = np.linalg.norm(units.positions_um - units.positions_um[main], axis=1)
        channels = np.flatnonzero((distances <= settings.shifted_radius_um) & is_covered)
        compared = np.flatnonzero(pairs[unit])
        if len(channels) < 2 or not len(compared):
            continue
        own = units.templates_uv[unit][None, :, channels]
        moved = others.templates_uv[compared] @ kernel[:, channels]
        norms = np.linalg.norm(own) * np.linalg.norm(moved, axis=(1, 2)) + 1e-9
        products = [np.einsum("mtc,ntc->n", early, late) for early, late in _lagged(own, moved, max_lag)]
        residuals[unit, compared] = np.log(1.01 - np.max(products, axis=0) / norms)
    return residuals


def _lagged(first: np.ndarray, second: np.ndarray, max_lag: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both arrays (num, num_samples, ...) at each lag up to `max_lag`, without the samples of only one."""
    num_samples = first.shape[1]
    for lag in range(-max_lag, max_lag + 1):
        yield first[:, max(0, lag) : num_samples + min(0, lag)], second[:, max(0, -lag) : num_samples - max(0, lag)]
