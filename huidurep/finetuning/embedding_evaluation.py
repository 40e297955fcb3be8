"""Whether fine-tuning helped: spikes and time that were held out, scored with the weights before and after."""

from dataclasses import dataclass

import numpy as np
import torch

from ..adaptation.pseudo_units import leading_components
from ..adaptation.unsupervised_evaluation import NOISE_GAIN, score_embeddings
from ..clustering.mixture import fit_mixture
from .template_resampling import LabViewMaker, lab_recipe, make_lab_banks

NUM_DRAWS, UNITS_A_DRAW, SPIKES_A_UNIT = 8, 10, 100
NUM_AXES = 12
TOLERANCE = 0.005  # smaller changes are called the same, whatever their spread
SORTING_TOLERANCE = 0.01  # a fall of the sorting's accuracy that counts, whatever its spread
DETAILS = ("draws", "sortings")  # of the figures: what means are of
BETTER, SAME, WORSE = "better", "same", "worse"
# Figures of the guard, and whether more of them is better.
SIGNS = {"agreement_of_halves": 1, "agreement_under_noise": 1, "posterior_entropy": -1, "refractory_violations": -1}


@dataclass(frozen=True)
class HeldOutSpikes:
    """Real spikes detected in the time held out, on contacts that the encoder sees together.

    Parameters
    ----------
    waveforms : ndarray (num_spikes, num_samples, num_channels) float32
        uV.
    noise : ndarray (num_spikes, num_samples, num_channels) float32
        Pieces of the noise between spikes of that time.
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


class Proof:
    """The examination: the same spikes for every encoder.

    Parameters
    ----------
    windows : list of LabWindow
    config : HuiduRepConfig
    trained, held_out : set of (int, object)
        Units, as of :func:`huidurep.finetuning.train.hold_out_units`.
    real_spikes : list of HeldOutSpikes
    seed : int

    Notes
    -----
    (a) Resampled spikes: eight draws of up to ten units of one window, all those held out among them and trained ones
    beside them, 100 spikes each with noise of the time held out and with collisions; without units held out the spikes
    alone are new. Adjusted Rand index of a full-covariance mixture with the known number of units on 12 principal
    components. (b) Real spikes of the time held out, judged without labels by the guard.
    """

    def __init__(self, windows, config, trained, held_out, *, real_spikes, seed):
        self.real_spikes, self.seed = real_spikes, seed
        self.draws = _draw(windows, config, trained, held_out, seed)

    def score(self, model):
        """Score an encoder.

        Parameters
        ----------
        model : HuiduRep

        Returns
        -------
        dict
            ``adjusted_rand_index`` of the draws (their mean), ``draws`` (list of float) and the guard's figures.
        """
        draws = [_rand_index(_embed(model, batch), labels, self.seed) for batch, labels in self.draws]
        return {"adjusted_rand_index": float(np.mean(draws)), "draws": draws, **self._score_real(model)}

    def _score_real(self, model):
        """Figures without labels; none where there are too few spikes."""
        embeddings, noisy, groups, times = [], [], [], []
        for number, spikes in enumerate(self.real_spikes):
            options = dict(
                sampling_frequency=spikes.sampling_frequency,
                peak_index=spikes.peak_index,
                channel_positions=spikes.positions_um,
            )
            embeddings.append(model.embed(spikes.waveforms, **options))
            noisy.append(model.embed(spikes.waveforms + NOISE_GAIN * spikes.noise, **options))
            groups.append(np.full(len(spikes.waveforms), number))
            times.append(spikes.times_s)
        if not embeddings:
            return {}
        embeddings, noisy, groups, times = (np.concatenate(each) for each in (embeddings, noisy, groups, times))
        return score_embeddings(embeddings, noisy_embeddings=noisy, groups=groups, spike_times_s=times, seed=self.seed)


def judge(before, after):
    """Better, same or worse.

    The gain is the mean of two: that of the adjusted Rand index of the resampled spikes, and the mean of those of the
    label-free figures (entropy and refractory violations count negative). It must be larger than twice the standard
    error of the Rand index's gain over the draws, and than 0.005, to be called a change. Where resampled recordings
    were sorted, too, an accuracy that falls by more than its standard error over the recordings, and than 0.01, makes
    the change one for the worse, whatever the gain.

    Parameters
    ----------
    before, after : dict
        As of :meth:`Proof.score`, with ``sortings`` (list of float) where there are any.

    Returns
    -------
    verdict : {"better", "same", "worse"}
    gain, tolerance : float
    """
    gained, error = _mean_and_error(before["draws"], after["draws"])
    gains = [gained]
    free = [sign * (after[name] - before[name]) for name, sign in SIGNS.items() if name in before and name in after]
    if free:
        gains.append(np.mean(free))
    gain, tolerance = float(np.mean(gains)), float(max(TOLERANCE, 2 * error / len(gains)))
    verdict = BETTER if gain > tolerance else WORSE if gain < -tolerance else SAME
    if before.get("sortings"):
        change, error = _mean_and_error(before["sortings"], after["sortings"])
        if change < -max(SORTING_TOLERANCE, error):
            verdict = WORSE
    return verdict, gain, tolerance


def _mean_and_error(before, after):
    """Mean of the differences of pairs, and its standard error."""
    differences = np.subtract(after, before)
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return differences.mean(), error


def _draw(windows, config, trained, held_out, seed):
    """List of (batch, labels): spikes of some units in one imagined recording each."""
    rng = np.random.default_rng(seed)
    recipe = lab_recipe(windows, num_recordings=1, views_per_unit=SPIKES_A_UNIT)
    draws, sizes = [], [len(window.unit_ids) for window in windows]
    several = [windows[index] for index in np.argsort(sizes)[::-1] if sizes[index] > 1]
    for number in range(NUM_DRAWS if several else 0):
        window = several[number % len(several)]
        units = {(window.recording, unit_id) for unit_id in window.unit_ids}
        chosen = sorted(units & held_out, key=repr)[:UNITS_A_DRAW]
        others = sorted(units & trained, key=repr)
        chosen += [others[index] for index in rng.permutation(len(others))[: UNITS_A_DRAW - len(chosen)]]
        banks = make_lab_banks([window], config, units=set(chosen), held_out=True)
        generator = torch.Generator().manual_seed(1 + seed * NUM_DRAWS + number)
        batch = LabViewMaker(banks, config, recipe).draw(len(chosen), generator)
        draws.append(_as_spikes(batch))
    return draws


def _as_spikes(batch):
    """Inputs of an encoder and labels (num_spikes,), unit by unit, from a batch of views."""
    views = torch.cat([batch["view_1"][:, None], batch["view_2"][:, None], batch["further_views"]], 1)
    num_units, num_views = views.shape[:2]
    names = ("channel_mask", "sample_mask", "channel_positions")
    inputs = {name: batch[name].repeat_interleave(num_views, 0) for name in names if name in batch}
    return {"waveforms": views.flatten(0, 1), **inputs}, np.repeat(np.arange(num_units), num_views)


@torch.no_grad()
def _embed(model, inputs):
    """Embeddings (num_spikes, embedding_size) of spikes that meet the contract."""
    device, total = model.device, len(inputs["waveforms"])
    rows = []
    for start in range(0, total, 512):
        part = {name: value[start : start + 512].to(device) for name, value in inputs.items()}
        rows.append(model(**part).embeddings.float().cpu().numpy())
    return np.concatenate(rows)


def _rand_index(embeddings, labels, seed):
    """Adjusted Rand index of a mixture that is told how many units there are; the best fit of three starts."""
    from sklearn.metrics import adjusted_rand_score

    scores = leading_components(embeddings, NUM_AXES, seed)
    fits = [fit_mixture(scores, labels.max() + 1, "full", seed + start) for start in range(3)]
    best = max(fits, key=lambda fit: fit.lower_bound_)
    return float(adjusted_rand_score(labels, best.predict(scores)))
