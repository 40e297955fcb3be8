"""Settings of the tracking, and the constants that were fitted to simulated pairs of sessions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..hub.json_files import read_json_object

CALIBRATION_FILE = Path(__file__).parent / "calibration.json"


@dataclass(frozen=True)
class TrackingSettings:
    """How units of two sessions are compared.

    Attributes
    ----------
    max_rate_difference : float
        Largest share by which the sampling frequencies of two sessions may differ: clocks are calibrated anew, and
        Neuropixels recordings of 30000 and of 30000.4 Hz are of one probe.
    min_standard_errors : float
        Half of the units of a phy folder must have a mean waveform larger than this, in standard errors of means at
        random times; otherwise the recording is of another day.
    embedded_uv : float
        Peak-to-peak amplitude to which templates are scaled before they are embedded, so that amplitudes that change
        from day to day do not move the embedding.
    usual_distance, usual_linear_distance : float
        Of the embeddings of two neurons, by checkpoints without and with linear axes (`linear_size`).
    usual_pairs : float
        Pairs of units as many as which these count beside the distances of the sessions' own units.
    centre_radius_um : float
        Contacts around the main channel that the centre of mass takes into account.
    max_lag_ms : float
        Largest shift in time between two waveforms that are compared.
    shifted_radius_um : float
        Contacts around the main channel on which shifted templates are compared.
    interpolation_um : float
        Width of the kernel (kriging of SpikeInterface) that shifts a template along the probe.
    min_covered : float
        Smallest sum of the weights of a contact onto which a template was shifted; below, nothing is known there.
    max_displacement_um : float
        Largest displacement between two sessions that is looked for.
    vote_um : float
        Width of the Gaussian that each pair of units adds to the vote on the displacement.
    max_distance_um : float
        Units that lie farther apart after the displacement are not the same neuron.
    competition_um : float
        Units within this distance compete for being the same neuron.
    bundle_um : float
        Contacts that span less than this (tetrodes) do not tell places along the probe: no displacement is estimated.
    column_um : float
        Contacts that span less than this across the probe are one column.
    share_units : float
        Units, half of which have a partner, that count beside those of the sessions when the share of neurons that are
        in both is estimated.
    min_probability : float
        Two units below this probability are not joined.
    """

    max_rate_difference: float = 0.001
    min_standard_errors: float = 6.0
    embedded_uv: float = 150.0
    usual_distance: float = 1.75
    usual_linear_distance: float = 16.0
    usual_pairs: float = 10.0
    centre_radius_um: float = 75.0
    max_lag_ms: float = 0.2
    shifted_radius_um: float = 60.0
    interpolation_um: float = 20.0
    min_covered: float = 0.3
    max_displacement_um: float = 100.0
    vote_um: float = 10.0
    max_distance_um: float = 100.0
    competition_um: float = 60.0
    bundle_um: float = 61.0
    column_um: float = 10.0
    share_units: float = 4.0
    min_probability: float = 0.5


TRACKING_SETTINGS = TrackingSettings()


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Two-covariance model of the waveforms on main channels (probabilistic linear discriminant analysis).

    Ioffe, Probabilistic linear discriminant analysis, ECCV 2006. Along each axis, waveforms of one neuron in different
    sessions vary by 1, and the means of neurons by `variances`.

    Attributes
    ----------
    mean : ndarray (num_samples,)
    axes : ndarray (num_samples, num_axes)
    variances : ndarray (num_axes,)
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray

    def log_likelihood_ratio(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Log-likelihood ratio of one neuron against two.

        Parameters
        ----------
        first, second : ndarray (num_first, num_samples) and (num_second, num_samples)
            Waveforms of norm 1.

        Returns
        -------
        ndarray (num_first, num_second)
        """
        between, within = self.variances, 1.0
        left, right = ((each - self.mean) @ self.axes for each in (first, second))
        total, difference = left[:, None] + right[None], left[:, None] - right[None]
        same = total**2 / (2 * (2 * between + within)) + difference**2 / (2 * within)
        same += np.log(2 * between + within) + np.log(within)
        apart = (left**2)[:, None] / (between + within) + (right**2)[None] / (between + within)
        apart += 2 * np.log(between + within)
        return 0.5 * (apart - same).sum(axis=2)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Constants fitted to simulated pairs of sessions by ``benchmarks/tracking.py --fit``.

    Attributes
    ----------
    shape : ShapeModel
    weights : dict of str to dict of str to float
        For "bundle", "column" and "shank": log-odds for each feature, and the "intercept", if half of the neurons are
        in both sessions.
    isi : dict of str to float
        "intercept" and "distance": log-likelihood ratio by the distance of two ISI histograms, used only if asked for.
    """

    shape: ShapeModel
    weights: dict[str, dict[str, float]]
    isi: dict[str, float]


@cache
def load_calibration(path: Path = CALIBRATION_FILE) -> Calibration:
    """Read the fitted constants.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Calibration
    """
    stored = read_json_object(path, "install huidurep again")
    shape = ShapeModel(**{name: np.array(values) for name, values in stored["shape"].items()})
    return Calibration(shape, stored["weights"], stored["isi"])
