"""What is compared of the units of one session and channel group: template, place, waveform and embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..models.input_contract import resampling_matrix
from .settings import TRACKING_SETTINGS, TrackingSettings

if TYPE_CHECKING:
    from ..models.modeling_huidurep import HuiduRep

TROUGH_MS = 0.5  # of a template's peak from the spike time, as in the sorting


@dataclass(frozen=True, eq=False)
class GroupUnits:
    """Units of one session and channel group.

    Attributes
    ----------
    templates_uv : ndarray (num_units, num_samples, num_channels)
        At the rate and window of the encoder, trough down and at its peak index.
    positions_um : ndarray (num_channels, 2)
    main_channels : ndarray of int (num_units,)
    amplitudes_uv : ndarray (num_units,)
        Peak to peak, on the main channel.
    waveforms : ndarray (num_units, num_samples)
        On the main channel, of norm 1.
    places_um : ndarray (num_units, 2)
        Centre of mass.
    points_up : ndarray of bool (num_units,)
        Whether the spikes point up; `templates_uv` are then turned over.
    embeddings : ndarray (num_units, embedding_size)
    usual_distance : float
        Of the embeddings of two neurons by this checkpoint.
    isi_histograms : ndarray (num_units, num_bins) | None
        Numbers of inter-spike intervals.
    """

    templates_uv: np.ndarray
    positions_um: np.ndarray
    main_channels: np.ndarray
    amplitudes_uv: np.ndarray
    waveforms: np.ndarray
    places_um: np.ndarray
    points_up: np.ndarray
    embeddings: np.ndarray
    usual_distance: float
    isi_histograms: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.templates_uv)


def describe_units(
    templates_uv: np.ndarray,
    positions_um: np.ndarray,
    model: HuiduRep,
    *,
    sampling_frequency: float,
    peak_index: int,
    isi_histograms: np.ndarray | None = None,
    settings: TrackingSettings = TRACKING_SETTINGS,
) -> GroupUnits:
    """Describe units by their templates.

    Parameters
    ----------
    templates_uv : ndarray (num_units, num_samples, num_channels)
        Band-passed; 0 on channels where a template is not known.
    positions_um : ndarray (num_channels, 2)
    model : HuiduRep
    sampling_frequency : float
        Hz.
    peak_index : int
        Sample of the spike time.
    isi_histograms : ndarray (num_units, num_bins), optional
    settings : TrackingSettings

    Returns
    -------
    GroupUnits
    """
    templates, points_up = _aligned(templates_uv, model, sampling_frequency, peak_index)
    peak = model.config.peak_index
    sizes = np.ptp(templates, axis=1)
    main = (-templates[:, peak]).argmax(axis=1)
    amplitudes = sizes.max(axis=1)
    distances = np.linalg.norm(positions_um[main][:, None] - positions_um[None], axis=2)
    weights = sizes**2 * (distances <= settings.centre_radius_um)
    waveforms = np.take_along_axis(templates, main[:, None, None], axis=2)[:, :, 0]
    scaled = templates * (settings.embedded_uv / np.maximum(amplitudes, 1e-6))[:, None, None]
    embeddings = model.embed(
        scaled.astype("float32"),
        sampling_frequency=model.config.sampling_frequency,
        peak_index=peak,
        peak_sign="neg",
        channel_positions=positions_um,
    )
    return GroupUnits(
        templates_uv=templates,
        positions_um=positions_um,
        main_channels=main,
        amplitudes_uv=amplitudes,
        waveforms=waveforms / np.maximum(np.linalg.norm(waveforms, axis=1, keepdims=True), 1e-9),
        places_um=(weights[:, :, None] * positions_um).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)[:, None],
        points_up=points_up,
        embeddings=embeddings,
        usual_distance=settings.usual_linear_distance if model.config.linear_size else settings.usual_distance,
        isi_histograms=isi_histograms,
    )


def near_waveforms(units: GroupUnits, num_contacts: int = 4) -> np.ndarray:
    """Templates on the main channel and on those nearest to it, as they were recorded.

    Parameters
    ----------
    units : GroupUnits
    num_contacts : int

    Returns
    -------
    ndarray of float32 (num_units, num_contacts, num_samples)
        uV; NaN where there are fewer contacts.
    """
    distances = np.linalg.norm(units.positions_um[:, None] - units.positions_um[None], axis=2)
    nearest = np.argsort(distances, axis=1, kind="stable")[units.main_channels, :num_contacts]
    kept = np.take_along_axis(units.templates_uv, nearest[:, None, :], axis=2).swapaxes(1, 2)
    kept = np.where(units.points_up, -1.0, 1.0)[:, None, None] * kept
    padding = ((0, 0), (0, num_contacts - kept.shape[1]), (0, 0))
    return np.pad(kept, padding, constant_values=np.nan).astype("float32")


def _aligned(
    templates_uv: np.ndarray, model: HuiduRep, sampling_frequency: float, peak_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Templates in the encoder's window and rate, trough down and at its peak index; whether they pointed up."""
    reach = int(TROUGH_MS * sampling_frequency / 1000.0)
    first = max(0, peak_index - reach)
    near = templates_uv[:, first : peak_index + reach + 1]
    points_up = near.max(axis=(1, 2)) > -near.min(axis=(1, 2))
    turned = np.where(points_up, -1.0, 1.0)[:, None, None] * templates_uv
    troughs = first + turned[:, first : peak_index + reach + 1].min(axis=2).argmin(axis=1)
    aligned = np.zeros((len(turned), model.config.num_samples, templates_uv.shape[2]))
    for trough in np.unique(troughs).tolist():
        matrix, _ = resampling_matrix(templates_uv.shape[1], trough, sampling_frequency, model.config)
        aligned[troughs == trough] = matrix @ turned[troughs == trough]
    return aligned, points_up
