"""Whether a change of the encoder helped, judged without labels on spikes that it was not trained on."""

from dataclasses import dataclass, replace

import numpy as np

from ..clustering.mixture import fit_mixture
from ..models.inference import embed_mapped
from .pseudo_units import leading_components

NUM_AXES = 12
MOST_COMPONENTS, SPIKES_EACH = 12, 20
NUM_REPEATS = 5  # fits of each mixture: one fit alone tells more of its start than of the embeddings
REFRACTORY_MS = 1.5
# What chance alone takes off either figure: more is a loss.
ALLOWED_FALL = {"agreement_under_noise": 0.02, "agreement_of_halves": 0.1}
NOISE_GAIN = 0.5  # of the recording's own residuals, added to spikes


@dataclass(frozen=True)
class Verdict:
    """What the guard found.

    Parameters
    ----------
    adopted : bool
        Whether the change is kept.
    reason : str
        One sentence.
    before, after : dict of str to float
        As :func:`score_embeddings` returns them.
    """

    adopted: bool
    reason: str
    before: dict
    after: dict


def score_embeddings(embeddings, *, noisy_embeddings=None, groups=None, spike_times_s=None, seed=0):
    """Label-free figures of how well embeddings cluster.

    Mixtures of up to 12 Gaussians are fitted to the leading 12 principal components, group by group, and figures are
    means over groups, weighted by their spikes, and over five fits.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size)
    noisy_embeddings : ndarray, same shape, optional
        Of the same spikes with noise added.
    groups : ndarray of int (num_spikes,), optional
        Spikes that can be compared with each other; by default all.
    spike_times_s : ndarray (num_spikes,), optional
    seed : int, default 0

    Returns
    -------
    dict of str to float
        ``agreement_of_halves``: adjusted Rand index of all spikes' components under the mixtures of two halves.
        ``agreement_under_noise``: of their components without and with noise, where there are noisy embeddings.
        ``posterior_entropy``: nats a spike. ``refractory_violations``: share of the intervals between successive spikes
        of a component that are below 1.5 ms, where there are times. Empty if no group has 40 spikes.
    """
    groups = np.zeros(len(embeddings), int) if groups is None else np.asarray(groups)
    figures, weights = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2 * SPIKES_EACH:
            continue
        for repeat in range(NUM_REPEATS):
            noisy = None if noisy_embeddings is None else noisy_embeddings[rows]
            times = None if spike_times_s is None else np.asarray(spike_times_s)[rows]
            figures.append(_score_group(embeddings[rows], noisy, times, seed + repeat))
            weights.append(len(rows))
    if not figures:
        return {}
    return {name: float(np.average([each[name] for each in figures], weights=weights)) for name in figures[0]}


def judge(before, after, mapped, residuals, *, groups=None, spike_times_s=None, seed=0):
    """Compare two encoders on spikes that neither was trained on.

    Parameters
    ----------
    before, after : HuiduRep
        In evaluation mode.
    mapped : MappedWaveforms
        The spikes.
    residuals : ndarray (num_spikes, num_samples, num_channels)
        Noise to add to them, of the same recording.
    groups, spike_times_s, seed
        As in :func:`score_embeddings`.

    Returns
    -------
    Verdict
    """
    noisy = replace(mapped, snippets=mapped.snippets + NOISE_GAIN * residuals)
    options = dict(groups=groups, spike_times_s=spike_times_s, seed=seed)
    figures = []
    for model in (before, after):
        noisy_embeddings = embed_mapped(model, noisy)
        figures.append(score_embeddings(embed_mapped(model, mapped), noisy_embeddings=noisy_embeddings, **options))
    return compare(*figures)


def compare(before, after):
    """Say whether the figures of :func:`score_embeddings` speak against a change.

    The rule: a change is refused where it made the embeddings worse, that is, where spikes keep their component less
    often under noise of the recording's own (adjusted Rand index down by more than 0.02), or where the mixtures of two
    halves agree less (down by more than 0.1, for that figure varies more). Training on random groups is refused nearly
    always. How much a good change gives, neither figure foretells (benchmarks/results/adaptation.json). Entropy and
    refractory violations are figures to read: clusters that are few and wrong can have little of both.

    Parameters
    ----------
    before, after : dict of str to float

    Returns
    -------
    Verdict
    """
    if not before or not after:
        return Verdict(False, "too few spikes were held out to judge: the pretrained weights are kept", before, after)
    figures = ", ".join(f"{name.replace('_', ' ')} {before[name]:.2f} -> {after[name]:.2f}" for name in ALLOWED_FALL)
    adopted = all(after[name] >= before[name] - fall for name, fall in ALLOWED_FALL.items())
    outcome = "adapted weights taken" if adopted else "pretrained weights kept, for the adapted ones are worse"
    return Verdict(adopted, f"{outcome}: {figures}", before, after)


def _score_group(embeddings, noisy, times, seed):
    """Figures of one group from one fit to each half."""
    from sklearn.metrics import adjusted_rand_score

    num_spikes = len(embeddings)
    both = embeddings if noisy is None else np.concatenate([embeddings, noisy])
    scores = leading_components(both, NUM_AXES, seed)
    clean = scores[:num_spikes]
    order = np.random.default_rng(seed).permutation(num_spikes)
    halves = order[: num_spikes // 2], order[num_spikes // 2 :]
    count = max(2, min(MOST_COMPONENTS, num_spikes // (2 * SPIKES_EACH)))
    mixtures = [fit_mixture(clean[half], count, "full", seed + number) for number, half in enumerate(halves)]
    posteriors = [mixture.predict_proba(clean) for mixture in mixtures]
    labels = [each.argmax(1) for each in posteriors]
    entropies = [-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean() for p in posteriors]
    figures = dict(agreement_of_halves=adjusted_rand_score(*labels), posterior_entropy=np.mean(entropies))
    if noisy is not None:
        under_noise = [mixture.predict(scores[num_spikes:]) for mixture in mixtures]
        agreements = [adjusted_rand_score(a, b) for a, b in zip(labels, under_noise, strict=True)]
        figures["agreement_under_noise"] = np.mean(agreements)
    if times is not None:
        figures["refractory_violations"] = np.mean([_violations(each, times) for each in labels])
    return figures


def _violations(labels, times):
    """Share of intervals between successive spikes of one component that are shorter than the refractory period."""
    intervals = np.concatenate([np.diff(np.sort(times[labels == label])) for label in np.unique(labels)])
    return (intervals < REFRACTORY_MS * 1e-3).mean() if len(intervals) else 0.0
