"""`HuiduRep.adapt`: seconds of training on the spikes of a recording, without labels; a guard refuses what is worse.

Two steps. Spikes of one pseudo-unit (see `pseudo_units`) are told from those of the others by the prototype loss of the
pretraining, with other spikes of the recording added to some of them. Then the recording's own principal components are
joined with what the encoder sees (see `adapter`); with few spikes this is all. What it gives is in the README,
"Adapting to a recording". Related: DeepCluster (Caron et al. 2018, arXiv 1807.05520), which clusters its own features.
"""

import copy
import logging
import time
from dataclasses import dataclass

import numpy as np
import torch

from ..models.inference import embed_mapped, model_inputs
from ..models.input_contract import MappedWaveforms, map_waveforms
from ..models.losses import prototype_loss
from .linear_adapter import fit_adapter
from .pseudo_units import find_pseudo_units
from .unsupervised_evaluation import Verdict, judge

logger = logging.getLogger(__name__)
FEWEST_SPIKES = 100
FEWEST_TO_TRAIN = 300  # with fewer, pseudo-units are too small to learn from: the adapter alone is fitted
MAX_SPIKES = 4000  # drawn at random from more
HELD_OUT_SHARE = 0.25
NUM_STEPS = 60
WARMUP_STEPS = 5
BATCH_SPIKES = 192
MAX_UNITS = 24  # pseudo-units of a batch
FEWEST_VIEWS = 4
LEARNING_RATE = 3e-4
COLLISION_PROBABILITY = 0.2
COLLISION_LAG_MS = 1.5
LEFT_ALONE = ("decoder", "readout", "feature_decoder")  # no loss here reaches them


@dataclass(frozen=True)
class Adaptation:
    """What `adapt` did, in ``model.adaptation``.

    Parameters
    ----------
    adopted : bool
        Whether the model has the adapted weights; the pretrained ones else.
    reason : str
        One sentence, for a log.
    before, after : dict of str to float
        The guard's figures on spikes held out, with the pretrained and with the adapted weights (empty where it did not
        come to that); see :func:`huidurep.adaptation.unsupervised_evaluation.score_embeddings`.
    num_spikes, num_pseudo_units : int
        Spikes and pseudo-units trained on.
    seconds : float
        Time that it took, the guard's included.
    """

    adopted: bool
    reason: str
    before: dict
    after: dict
    num_spikes: int
    num_pseudo_units: int
    seconds: float


def adapt(
    model,
    waveforms,
    *,
    sampling_frequency=30000.0,
    peak_index=None,
    channel_positions=None,
    spike_times=None,
    seed=0,
):
    """Adapt a copy of an encoder to the spikes of one recording.

    Parameters
    ----------
    model : HuiduRep
        Stays as it is.
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV, band-passed; at most 4000 of them, drawn at random, are used.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough, the same for all spikes; by default each spike's own.
    channel_positions : array_like (num_channels, 2) or (num_spikes, num_channels, 2), optional
        um. One set for each spike where snippets are cut around the peak channels of a larger probe: spikes are then
        compared with those of the same channels only.
    spike_times : array_like (num_spikes,), optional
        Seconds. With them the guard also looks at refractory violations.
    seed : int, default 0
        Same seed, same result.

    Returns
    -------
    HuiduRep
        With :class:`Adaptation` in ``adaptation``.

    Raises
    ------
    ValueError, TypeError
        If the waveforms cannot be mapped, spike times are not one finite number for each spike, or the model is adapted
        to a recording already.
    """
    began = time.perf_counter()
    if model.config.adapter:
        raise ValueError(
            "expected a model that is adapted to no recording, found one that is: adapt the checkpoint it came from."
        )
    waveforms, positions, times = _check(waveforms, channel_positions, spike_times)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(waveforms))[:MAX_SPIKES])
    options = dict(sampling_frequency=sampling_frequency, peak_index=peak_index)
    mapped, groups = _map(model, waveforms[rows], None if positions is None else positions[rows], options)
    times = None if times is None else times[rows]
    chosen, verdict, num_trained_on, num_units = _adapt(model, mapped, groups, times, rng, seed)
    facts = dict(num_spikes=num_trained_on, num_pseudo_units=num_units, seconds=time.perf_counter() - began)
    chosen.adaptation = Adaptation(**vars(verdict), **facts)
    logger.info("adaptation: %s (%.1f s)", verdict.reason, chosen.adaptation.seconds)
    return chosen


def _adapt(model, mapped, groups, times, rng, seed):
    """Copy of the model as the guard chooses it, its verdict, and how many spikes and pseudo-units were trained on."""
    before, total = copy.deepcopy(model).eval(), len(mapped.snippets)
    if total < FEWEST_SPIKES:
        reason = f"{total} spikes are fewer than the {FEWEST_SPIKES} that adapting takes"
        return before, Verdict(False, reason, {}, {}), 0, 0
    trains = total >= FEWEST_TO_TRAIN
    # Every fourth spike, drawn at random, is kept for the guard; where nothing is trained, it may look at all.
    kept = rng.permutation(total) < (HELD_OUT_SHARE if trains else 1.0) * total
    used = ~kept if trains else kept
    seen, labels = mapped[used], np.full(total, -1)
    used_times, kept_times = (None if times is None else times[each] for each in (used, kept))
    embeddings = embed_mapped(before, seen)
    options = dict(seed=seed, spike_times_s=used_times)
    labels[used] = find_pseudo_units(embeddings, seen.snippets, groups[used], **options)
    num_units = int(labels.max()) + 1
    if num_units < 2:
        reason = "the spikes fall into fewer than two clear groups: nothing to learn from"
        return before, Verdict(False, reason, {}, {}), 0, num_units
    adapted = copy.deepcopy(before)
    if trains:
        train_on_pseudo_units(adapted, mapped, groups, labels, seed=seed)
    adapted = fit_adapter(adapted, seen, groups[used])
    residuals = _draw_residuals(rng, mapped, groups, labels, np.flatnonzero(kept))
    options = dict(groups=groups[kept], spike_times_s=kept_times, seed=seed)
    verdict = judge(before, adapted, mapped[kept], residuals, **options)
    num_trained_on = int((labels >= 0).sum()) if trains else 0
    return adapted if verdict.adopted else before, verdict, num_trained_on, num_units


def train_on_pseudo_units(model, mapped, groups, labels, *, seed, num_steps=NUM_STEPS):
    """Train an encoder to tell pseudo-units of the same group from each other; its weights are changed.

    Parameters
    ----------
    model : HuiduRep
    mapped : MappedWaveforms
    groups, labels : ndarray of int (num_spikes,)
        Spikes that share their channels; pseudo-unit of each spike, -1 for none.
    seed : int
    num_steps : int, default 60
    """
    rng, device = np.random.default_rng(seed), model.device
    members = [np.flatnonzero(labels == unit) for unit in range(labels.max() + 1)]
    unit_groups = np.array([groups[rows[0]] for rows in members])
    templates = np.stack([mapped.snippets[rows].mean(0) for rows in members])
    trained = [p for name, p in model.named_parameters() if not name.startswith(LEFT_ALONE)]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, weight_decay=0.0)
    # Dropout, where a model has any, draws from the device's global generator: it is given back as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        (torch.default_generator if device.type == "cpu" else torch).manual_seed(seed)
        model.train()
        for step in range(num_steps):
            cosine = 0.5 * (1 + np.cos(np.pi * step / num_steps))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * cosine * min(1.0, (step + 1) / WARMUP_STEPS)
            units = _draw_units(rng, unit_groups)
            views = max(FEWEST_VIEWS, BATCH_SPIKES // len(units))
            rows = [rng.choice(members[unit], views, replace=len(members[unit]) < views) for unit in units]
            batch = model_inputs(mapped, np.concatenate(rows), device, model.dtype)
            others = _draw_collisions(rng, np.repeat(unit_groups[units], views), templates, unit_groups, model.config)
            batch["waveforms"] += torch.from_numpy(others).to(device, model.dtype)
            embeddings = model(**batch).embeddings.unflatten(0, (len(units), views))
            loss = prototype_loss(
                embeddings,
                temperature=model.config.prototype_temperature,
                recordings=torch.from_numpy(unit_groups[units]).to(device),
            )
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        model.zero_grad(set_to_none=True)
    model.eval()


def _draw_units(rng, unit_groups):
    """Pseudo-units of one batch: all of them, or those of some groups, drawn group by group."""
    if len(unit_groups) <= MAX_UNITS:
        return np.arange(len(unit_groups))
    chosen = []
    for group in rng.permutation(np.unique(unit_groups)):
        units = np.flatnonzero(unit_groups == group)
        if chosen and len(chosen) + len(units) > MAX_UNITS:
            break
        chosen.extend(units)
    return np.array(chosen)


def _draw_collisions(rng, spike_groups, templates, unit_groups, config):
    """What others add to spikes (num_spikes, num_samples, num_channels): mostly nothing."""
    num_samples = templates.shape[1]
    reach = int(COLLISION_LAG_MS * 1e-3 * config.sampling_frequency)
    added = np.zeros((len(spike_groups), *templates.shape[1:]), np.float32)
    for spike in np.flatnonzero(rng.random(len(spike_groups)) < COLLISION_PROBABILITY):
        other = templates[rng.choice(np.flatnonzero(unit_groups == spike_groups[spike]))]
        lag = int(rng.integers(-reach, reach + 1))
        into, out_of = max(0, lag), max(0, -lag)
        length = max(0, num_samples - abs(lag))
        added[spike, into : into + length] = other[out_of : out_of + length]
    return added


def _check(waveforms, positions, times):
    """Arrays with one row a spike; what is in them is checked where they are mapped."""
    waveforms = np.atleast_1d(np.asarray(waveforms))
    num_spikes = len(waveforms)
    if positions is not None:
        positions = np.asarray(positions, dtype=float)
        if positions.ndim == 3 and len(positions) != num_spikes:
            raise ValueError(
                f"expected channel_positions of {num_spikes} spikes, found those of {len(positions)}: pass one set for "
                "each spike, or one for all."
            )
        if positions.ndim != 3:
            positions = np.broadcast_to(positions, (num_spikes, *positions.shape))
    if times is not None:
        times = np.asarray(times, dtype=float)
        if times.shape != (num_spikes,) or not np.isfinite(times).all():
            raise ValueError(
                f"expected spike_times as {num_spikes} finite numbers in s, found shape {times.shape}: pass one time "
                "for each waveform."
            )
    return waveforms, positions, times


def _map(model, waveforms, positions, options):
    """Spikes as the encoder gets them, and the group of each: one for every set of contacts and channels taken."""
    if positions is None or not len(positions):
        mapped, sets = map_waveforms(waveforms, model.config, **options), np.zeros(len(waveforms), int)
    else:
        mapped, sets = _map_sets(model, waveforms, positions, options)
    # Of an array with more channels than the encoder takes, each spike has those around its own peak.
    shared = np.column_stack([sets, mapped.channels])
    return mapped, np.unique(shared, axis=0, return_inverse=True)[1].reshape(-1)


def _map_sets(model, waveforms, positions, options):
    """The same where each spike has contacts of its own: all spikes, and the number of the set of each."""
    contacts, sets = np.unique(positions, axis=0, return_inverse=True)
    sets = sets.reshape(-1)
    parts = [
        map_waveforms(waveforms[sets == number], model.config, channel_positions=each, **options)
        for number, each in enumerate(contacts)
    ]
    back, arrays = np.argsort(np.argsort(sets, kind="stable")), {}
    for name in vars(parts[0]):
        values = [getattr(part, name) for part in parts]
        arrays[name] = None if values[0] is None else np.concatenate(values)[back]
    return MappedWaveforms(**arrays), sets


def _draw_residuals(rng, mapped, groups, labels, wanted):
    """Noise (num_wanted, num_samples, num_channels) for spikes: what others of their group leave of their mean."""
    templates = np.stack([mapped.snippets[labels == unit].mean(0) for unit in range(labels.max() + 1)])
    residuals = np.zeros((len(wanted), *mapped.snippets.shape[1:]), np.float32)
    for group in np.unique(groups[wanted]):
        into = np.flatnonzero(groups[wanted] == group)
        donors = np.flatnonzero((groups == group) & (labels >= 0))
        if len(donors):
            chosen = rng.choice(donors, len(into))
            residuals[into] = mapped.snippets[chosen] - templates[labels[chosen]]
    return residuals
