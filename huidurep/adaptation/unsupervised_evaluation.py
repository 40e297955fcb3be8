"""Label-free evaluation of embeddings on held-out spikes, and the acceptance test of an adapted encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..clustering.mixture import fit_mixture
from ..models.inference import embed_mapped
from .principal_components import leading_components
from .settings import DEFAULT_EVALUATION, EvaluationSettings

if TYPE_CHECKING:
    from ..models.input_contract import MappedWaveforms
    from ..models.modeling_huidurep import HuiduRep


@dataclass(frozen=True)
class Acceptance:
    """Result of the acceptance test.

    Parameters
    ----------
    adopted : bool
        Whether the change is accepted.
    reason : str
        One sentence.
    before, after : dict of str to float
        As :func:`score_embeddings` returns them.
    """

    adopted: bool
    reason: str
    before: dict
    after: dict


def score_embeddings(
    embeddings: np.ndarray,
    *,
    noisy_embeddings: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    spike_times_s: np.ndarray | None = None,
    seed: int = 0,
    settings: EvaluationSettings = DEFAULT_EVALUATION,
) -> dict[str, float]:
    """Label-free figures of how well embeddings cluster.

    Gaussian mixtures are fitted to the leading principal components, group by group. The figures are means over groups,
    weighted by their spikes, and over repeated fits.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    noisy_embeddings : ndarray, same shape, optional
        Of the same spikes with noise added.
    groups : ndarray of int (num_spikes,), optional
        Spikes that can be compared with each other have the same number; by default all.
    spike_times_s : ndarray (num_spikes,), optional
    seed : int, default 0
    settings : EvaluationSettings, optional

    Returns
    -------
    dict of str to float
        ``agreement_of_halves``: adjusted Rand index of the components of all spikes under the mixtures of two halves.
        ``agreement_under_noise``: of their components without and with noise, where there are noisy embeddings.
        ``posterior_entropy``: mean entropy of the posteriors of a spike (natural logarithm). ``short_isi_fraction``:
        share of the inter-spike intervals of a component that are below 1.5 ms, where there are times. Empty if every
        group has fewer than 40 spikes.
    """
    groups = np.zeros(len(embeddings), int) if groups is None else np.asarray(groups)
    figures, weights = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2 * settings.spikes_per_component:
            continue
        for repeat in range(settings.num_repeats):
            noisy = None if noisy_embeddings is None else noisy_embeddings[rows]
            times_s = None if spike_times_s is None else np.asarray(spike_times_s)[rows]
            figures.append(_score_group(embeddings[rows], noisy, times_s, seed + repeat, settings))
            weights.append(len(rows))
    if not figures:
        return {}
    return {name: float(np.average([each[name] for each in figures], weights=weights)) for name in figures[0]}


def compare_encoders(
    before: HuiduRep,
    after: HuiduRep,
    mapped: MappedWaveforms,
    residuals: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    spike_times_s: np.ndarray | None = None,
    seed: int = 0,
    settings: EvaluationSettings = DEFAULT_EVALUATION,
) -> Acceptance:
    """Compare two encoders on spikes that neither was trained on.

    Parameters
    ----------
    before, after : HuiduRep
        In evaluation mode.
    mapped : MappedWaveforms
        The spikes.
    residuals : ndarray (num_spikes, num_samples, num_channels)
        Noise of the same recording that is added to the spikes.
    groups, spike_times_s, seed, settings
        As in :func:`score_embeddings`.

    Returns
    -------
    Acceptance
    """
    noisy = replace(mapped, snippets=mapped.snippets + settings.noise_gain * residuals)
    first, second = (
        score_embeddings(
            embed_mapped(model, mapped),
            noisy_embeddings=embed_mapped(model, noisy),
            groups=groups,
            spike_times_s=spike_times_s,
            seed=seed,
            settings=settings,
        )
        for model in (before, after)
    )
    return decide_acceptance(first, second, settings)


def decide_acceptance(
    before: dict[str, float], after: dict[str, float], settings: EvaluationSettings = DEFAULT_EVALUATION
) -> Acceptance:
    """Accept a change of the encoder unless it made the figures of :func:`score_embeddings` worse.

    A change is rejected if spikes keep their component less often under noise of the recording's own (adjusted Rand
    index lower by more than 0.02), or if the mixtures of two halves agree less (lower by more than 0.1, because this
    figure varies more). Training on random groups is rejected nearly always. Neither figure predicts how much a good
    change improves (benchmarks/results/adaptation.json). Entropy and short intervals are reported only: few and wrong
    clusters can have little of both.

    Parameters
    ----------
    before, after : dict of str to float
    settings : EvaluationSettings, optional

    Returns
    -------
    Acceptance
    """
    if not before or not after:
        return Acceptance(
            False, "too few held-out spikes for the acceptance test: pretrained weights kept", before, after
        )
    limits = dict(agreement_under_noise=settings.max_noise_decrease, agreement_of_halves=settings.max_halves_decrease)
    figures = ", ".join(f"{name.replace('_', ' ')} {before[name]:.2f} -> {after[name]:.2f}" for name in limits)
    adopted = all(after[name] >= before[name] - limit for name, limit in limits.items())
    outcome = "adapted weights taken" if adopted else "pretrained weights kept, because the adapted ones are worse"
    return Acceptance(adopted, f"{outcome}: {figures}", before, after)


def _score_group(
    embeddings: np.ndarray,
    noisy: np.ndarray | None,
    times_s: np.ndarray | None,
    seed: int,
    settings: EvaluationSettings,
) -> dict[str, float]:
    """Figures of one group from one fit to each half."""
    from sklearn.metrics import adjusted_rand_score

    num_spikes = len(embeddings)
    both = embeddings if noisy is None else np.concatenate([embeddings, noisy])
    scores = leading_components(both, settings.num_dimensions, seed)
    clean = scores[:num_spikes]
    order = np.random.default_rng(seed).permutation(num_spikes)
    halves = order[: num_spikes // 2], order[num_spikes // 2 :]
    count = max(2, min(settings.max_components, num_spikes // (2 * settings.spikes_per_component)))
    mixtures = [fit_mixture(clean[half], count, "full", seed + number) for number, half in enumerate(halves)]
    posteriors = [mixture.predict_proba(clean) for mixture in mixtures]
    labels = [each.argmax(1) for each in posteriors]
    entropies = [-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean() for p in posteriors]
    figures = dict(agreement_of_halves=adjusted_rand_score(*labels), posterior_entropy=np.mean(entropies))
    if noisy is not None:
        under_noise = [mixture.predict(scores[num_spikes:]) for mixture in mixtures]
        agreements = [adjusted_rand_score(a, b) for a, b in zip(labels, under_noise, strict=True)]
        figures["agreement_under_noise"] = np.mean(agreements)
    if times_s is not None:
        fractions = [_short_isi_fraction(each, times_s, settings.short_isi_ms) for each in labels]
        figures["short_isi_fraction"] = np.mean(fractions)
    return figures


def _short_isi_fraction(labels: np.ndarray, times_s: np.ndarray, short_isi_ms: float) -> float:
    """Share of the inter-spike intervals of all components that are shorter than `short_isi_ms`."""
    intervals = np.concatenate([np.diff(np.sort(times_s[labels == label])) for label in np.unique(labels)])
    return (intervals < short_isi_ms * 1e-3).mean() if len(intervals) else 0.0
