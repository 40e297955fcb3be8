"""Evaluation of embeddings on held-out units, spikes and time, and the acceptance test of a fine-tuned encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..clustering.mixture import fit_mixture
from .settings import DEFAULT_SETTINGS, EmbeddingEvaluationSettings, FinetuningSettings
from .template_resampling import (
    RecordedViewMaker,
    RecordingWindow,
    UnitKey,
    make_recorded_libraries,
    measure_recipe,
)
from .unsupervised_evaluation import leading_components, score_embeddings

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig
    from ..models.modeling_huidurep import HuiduRep

EVALUATION = DEFAULT_SETTINGS.embedding_evaluation
DETAILS = ("draws", "sortings")  # the single values of which other figures are means
BETTER, SAME, WORSE = "better", "same", "worse"
# Label-free figures: +1 if larger is better, -1 if smaller is.
SIGNS = {"agreement_of_halves": 1, "agreement_under_noise": 1, "posterior_entropy": -1, "short_isi_fraction": -1}


@dataclass(frozen=True)
class HeldOutSpikes:
    """Real spikes detected in the held-out time, on the contacts of one snippet.

    Parameters
    ----------
    waveforms : ndarray (num_spikes, num_samples, num_channels) float32
        uV.
    noise : ndarray (num_spikes, num_samples, num_channels) float32
        Snippets of the noise between spikes of that time.
    times_s : ndarray (num_spikes,)
    peak_index : int
    sampling_frequency : float
        Hz.
    positions_um : ndarray (num_channels, 2)
    """

    waveforms: np.ndarray
    noise: np.ndarray
    times_s: np.ndarray
    peak_index: int
    sampling_frequency: float
    positions_um: np.ndarray


class EmbeddingEvaluation:
    """Evaluation of embeddings on the same held-out spikes for every encoder.

    Parameters
    ----------
    windows : list of RecordingWindow
    config : HuiduRepConfig
    trained, held_out : set of (int, object)
        Units, as of :func:`huidurep.finetuning.train.hold_out_units`.
    real_spikes : list of HeldOutSpikes
    seed : int
    settings : FinetuningSettings, optional

    Notes
    -----
    (a) Resampled spikes: eight draws of up to ten units of one window, with all held-out units and some of the trained
    ones, 100 spikes each with collisions and noise of the held-out time. Without held-out units only the spikes are
    new. Adjusted Rand index of a full-covariance mixture with the known number of units on 12 principal components.
    (b) Real spikes of the held-out time: the label-free figures of
    :func:`huidurep.finetuning.unsupervised_evaluation.score_embeddings`.
    """

    def __init__(
        self,
        windows: Sequence[RecordingWindow],
        config: HuiduRepConfig,
        trained: set[UnitKey],
        held_out: set[UnitKey],
        *,
        real_spikes: Sequence[HeldOutSpikes],
        seed: int,
        settings: FinetuningSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.real_spikes, self.seed, self.settings = real_spikes, seed, settings.embedding_evaluation
        self.draws = _draw(windows, config, trained, held_out, seed, settings)

    def score(self, model: HuiduRep) -> dict[str, Any]:
        """Evaluate an encoder.

        Parameters
        ----------
        model : HuiduRep

        Returns
        -------
        dict
            ``adjusted_rand_index`` (mean over the draws), ``draws`` (list of float) and the label-free figures.
        """
        draws = [rand_index(_embed(model, batch), labels, self.seed, self.settings) for batch, labels in self.draws]
        return {"adjusted_rand_index": float(np.mean(draws)), "draws": draws, **self._score_real(model)}

    def _score_real(self, model: HuiduRep) -> dict[str, float]:
        """Label-free figures; empty if there are too few spikes."""
        settings, parts = self.settings.unsupervised, []
        for number, spikes in enumerate(self.real_spikes):
            options = dict(
                sampling_frequency=spikes.sampling_frequency,
                peak_index=spikes.peak_index,
                peak_sign="neg",  # they were turned down when they were read
                channel_positions=spikes.positions_um,
            )
            embeddings = model.embed(spikes.waveforms, **options)
            noisy = model.embed(spikes.waveforms + settings.noise_gain * spikes.noise, **options)
            parts.append((embeddings, noisy, np.full(len(spikes.waveforms), number), spikes.times_s))
        if not parts:
            return {}
        embeddings, noisy, groups, times_s = (np.concatenate(each) for each in zip(*parts, strict=True))
        return score_embeddings(
            embeddings,
            noisy_embeddings=noisy,
            groups=groups,
            spike_times_s=times_s,
            seed=self.seed,
            settings=settings,
        )


def decide_outcome(
    before: dict[str, Any],
    after: dict[str, Any],
    settings: EmbeddingEvaluationSettings = EVALUATION,
    *,
    draws_overlap: bool = False,
) -> tuple[str, float, float]:
    """Decide whether the trained weights are better, the same or worse.

    The gain is the mean of two differences: that of the adjusted Rand index of the resampled spikes, and the mean of
    those of the label-free figures (with a negative sign for entropy and short intervals). A change is larger than
    twice the standard error of the Rand index's difference over the draws, and than 0.005. If resampled recordings were
    sorted, too, an accuracy that decreases by more than its standard error over the recordings, and by more than 0.01,
    makes the outcome "worse", whatever the gain.

    Parameters
    ----------
    before, after : dict
        As of :meth:`EmbeddingEvaluation.score`, with ``sortings`` (list of float) if there are any.
    settings : EmbeddingEvaluationSettings, optional
    draws_overlap : bool, default False
        The draws are halves of the same spikes: the standard deviation over them is the standard error.

    Returns
    -------
    outcome : {"better", "same", "worse"}
    gain, tolerance : float
    """
    gained, error = _mean_and_error(before["draws"], after["draws"])
    error *= len(before["draws"]) ** 0.5 if draws_overlap else 1
    gains = [gained]
    names = [name for name in SIGNS if name in before and name in after]
    label_free = [SIGNS[name] * (after[name] - before[name]) for name in names]
    if label_free:
        gains.append(float(np.mean(label_free)))
    gain, tolerance = float(np.mean(gains)), float(max(settings.min_gain, 2 * error / len(gains)))
    outcome = BETTER if gain > tolerance else WORSE if gain < -tolerance else SAME
    if before.get("sortings"):
        change, error = _mean_and_error(before["sortings"], after["sortings"])
        if change < -max(settings.max_accuracy_decrease, error):
            outcome = WORSE
    return outcome, gain, tolerance


def _mean_and_error(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Mean of the differences of pairs, and its standard error."""
    differences = np.subtract(after, before)
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return float(differences.mean()), float(error)


def _draw(
    windows: Sequence[RecordingWindow],
    config: HuiduRepConfig,
    trained: set[UnitKey],
    held_out: set[UnitKey],
    seed: int,
    settings: FinetuningSettings,
) -> list[tuple[dict[str, Tensor], np.ndarray]]:
    """List of (inputs of the encoder, labels): each draw has spikes of some units of one window."""
    rng, evaluation, resampling = np.random.default_rng(seed), settings.embedding_evaluation, settings.resampling
    recipe = measure_recipe(windows, resampling, num_recordings=1, views_per_unit=evaluation.spikes_per_unit)
    draws, sizes = [], [len(window.unit_ids) for window in windows]
    several = [windows[index] for index in np.argsort(sizes)[::-1] if sizes[index] > 1]
    for number in range(evaluation.num_draws if several else 0):
        window = several[number % len(several)]
        units = {(window.recording, unit_id) for unit_id in window.unit_ids}
        chosen = sorted(units & held_out, key=repr)[: evaluation.units_per_draw]
        others = sorted(units & trained, key=repr)
        missing = evaluation.units_per_draw - len(chosen)
        chosen += [others[index] for index in rng.permutation(len(others))[:missing]]
        libraries = make_recorded_libraries([window], config, units=set(chosen), held_out=True, settings=resampling)
        generator = torch.Generator().manual_seed(1 + seed * evaluation.num_draws + number)
        batch = RecordedViewMaker(libraries, config, recipe).draw(len(chosen), generator)
        draws.append(_as_spikes(batch))
    return draws


def _as_spikes(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], np.ndarray]:
    """Inputs of an encoder and labels (num_spikes,), unit by unit, from a batch of views."""
    views = torch.cat([batch["view_1"][:, None], batch["view_2"][:, None], batch["further_views"]], 1)
    num_units, num_views = views.shape[:2]
    names = ("channel_mask", "sample_mask", "channel_positions")
    inputs = {name: batch[name].repeat_interleave(num_views, 0) for name in names if name in batch}
    return {"waveforms": views.flatten(0, 1), **inputs}, np.repeat(np.arange(num_units), num_views)


@torch.no_grad()
def _embed(model: HuiduRep, inputs: dict[str, Tensor]) -> np.ndarray:
    """Embeddings (num_spikes, embedding_size) of spikes that already meet the input contract."""
    rows = []
    for start in range(0, len(inputs["waveforms"]), 512):
        part = {name: value[start : start + 512].to(model.device) for name, value in inputs.items()}
        rows.append(model(**part).embeddings.float().cpu().numpy())
    return np.concatenate(rows)


def rand_index(embeddings: np.ndarray, labels: np.ndarray, seed: int, settings: EmbeddingEvaluationSettings) -> float:
    """Adjusted Rand index of a mixture with the known number of units; the best fit of several starts.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    labels : ndarray of int (num_spikes,)
        From 0 on.
    seed : int
    settings : EmbeddingEvaluationSettings

    Returns
    -------
    float
    """
    from sklearn.metrics import adjusted_rand_score

    num_units = int(labels.max()) + 1
    # a full covariance takes several spikes a dimension
    dimensions = min(settings.unsupervised.num_dimensions, max(2, len(labels) // (3 * num_units)))
    scores = leading_components(embeddings, dimensions, seed)
    fits = [fit_mixture(scores, num_units, "full", seed + start) for start in range(settings.num_starts)]
    best = max(fits, key=lambda fit: fit.lower_bound_)
    return float(adjusted_rand_score(labels, best.predict(scores)))
