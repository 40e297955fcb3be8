"""`HuiduRep.adapt`: seconds of training on the spikes of one recording, without labels, and an acceptance test.

Two steps. The prototype loss of the pretraining trains the encoder to separate pseudo-units (see `pseudo_units`), with
other spikes of the recording added to some of the spikes. Then principal components of the recording are joined with
the encoder's representation (see `linear_adapter`); with few spikes this is the only step. Measured by
benchmarks/adaptation.py. Related: DeepCluster (Caron et al. 2018, arXiv 1807.05520), which clusters its own features.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..models.inference import as_array, embed_mapped, model_inputs
from ..models.input_contract import MappedWaveforms, map_waveforms, sign_of_each
from ..models.losses import prototype_loss
from .linear_adapter import fit_adapter
from .pseudo_units import find_pseudo_units
from .settings import DEFAULT_SETTINGS, AdaptationSettings
from .unsupervised_evaluation import Acceptance, compare_encoders

if TYPE_CHECKING:
    from ..models.modeling_huidurep import HuiduRep

logger = logging.getLogger(__name__)
NOT_TRAINED = ("decoder", "readout", "feature_decoder")  # the loss does not depend on them


@dataclass(frozen=True)
class Adaptation:
    """What `adapt` did, in ``model.adaptation``.

    Parameters
    ----------
    adopted : bool
        Whether the model has the adapted weights; otherwise it has the pretrained ones.
    reason : str
        One sentence, for a log.
    before, after : dict of str to float
        Figures of held-out spikes, with the pretrained and with the adapted weights (empty where nothing was adapted);
        see :func:`huidurep.adaptation.unsupervised_evaluation.score_embeddings`.
    num_spikes, num_pseudo_units : int
        Spikes and pseudo-units trained on.
    seconds : float
        Time of the whole adaptation, with the acceptance test.
    """

    adopted: bool
    reason: str
    before: dict[str, float]
    after: dict[str, float]
    num_spikes: int
    num_pseudo_units: int
    seconds: float


def adapt(  # noqa: PLR0913 - each describes the waveforms, or is an option
    model: HuiduRep,
    waveforms: ArrayLike,
    *,
    sampling_frequency: float = 30000.0,
    peak_index: int | None = None,
    peak_sign: ArrayLike | None = None,
    channel_positions: ArrayLike | None = None,
    spike_times: ArrayLike | None = None,
    seed: int = 0,
    settings: AdaptationSettings = DEFAULT_SETTINGS,
) -> HuiduRep:
    """Adapt a copy of an encoder to the spikes of one recording.

    Parameters
    ----------
    model : HuiduRep
        Is not changed.
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV, band-passed; of more than 4000, a random sample is used.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough, the same for all spikes; by default it is found in each spike.
    peak_sign : {"neg", "pos"} or array_like of them (num_spikes,), optional
    channel_positions : array_like (num_channels, 2) or (num_spikes, num_channels, 2), optional
        um. One set for each spike if they were cut around peak channels: only spikes of the same set are compared.
    spike_times : array_like (num_spikes,), optional
        Seconds. With them pseudo-units also use refractory periods, and short inter-spike intervals are reported.
    seed : int, default 0
        Same seed, same result.
    settings : AdaptationSettings, optional

    Returns
    -------
    HuiduRep
        With :class:`Adaptation` in ``adaptation``.

    Raises
    ------
    ValueError, TypeError
        If the waveforms cannot be mapped, spike times are not one finite number for each spike, or the model has been
        adapted to a recording before.
    """
    began = time.perf_counter()
    if model.config.adapter:
        found = "found one that was adapted to a recording: adapt the checkpoint it came from."
        raise ValueError(f"expected a model without an adapter, {found}")
    waveforms, positions, times = _check(waveforms, channel_positions, spike_times)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(waveforms))[: settings.max_spikes])
    signs = sign_of_each(peak_sign, len(waveforms))
    options = dict(sampling_frequency=sampling_frequency, peak_index=peak_index, peak_sign=_of_rows(signs, rows))
    mapped, groups = _map(model, waveforms[rows], _of_rows(positions, rows), options)
    chosen, result, num_spikes, num_units = _adapt(model, mapped, groups, _of_rows(times, rows), rng, seed, settings)
    counts: dict[str, Any] = dict(num_spikes=num_spikes, num_pseudo_units=num_units)
    adaptation = Adaptation(**vars(result), **counts, seconds=time.perf_counter() - began)
    chosen.adaptation = adaptation  # type: ignore[assignment]
    logger.info("adaptation: %s (%.1f s)", adaptation.reason, adaptation.seconds)
    return chosen


def _adapt(
    model: HuiduRep,
    mapped: MappedWaveforms,
    groups: np.ndarray,
    times_s: np.ndarray | None,
    rng: np.random.Generator,
    seed: int,
    settings: AdaptationSettings,
) -> tuple[HuiduRep, Acceptance, int, int]:
    """Copy of the model after the acceptance test, its result, and numbers of spikes and pseudo-units trained on."""
    before, total = copy.deepcopy(model).eval(), len(mapped.snippets)
    if total < settings.min_spikes:
        reason = f"{total} spikes are fewer than the {settings.min_spikes} that an adaptation needs"
        return before, Acceptance(False, reason, {}, {}), 0, 0
    trains = total >= settings.min_training_spikes
    # A random quarter is held out for the acceptance test; without training the test can use all spikes.
    held_out = rng.permutation(total) < (settings.held_out_share if trains else 1.0) * total
    used = ~held_out if trains else held_out
    used_spikes, labels = mapped[used], np.full(total, -1)
    used_times, held_out_times = (None if times_s is None else times_s[each] for each in (used, held_out))
    labels[used] = find_pseudo_units(
        embed_mapped(before, used_spikes),
        used_spikes.snippets,
        groups[used],
        seed=seed,
        spike_times_s=used_times,
        settings=settings,
    )
    num_units = int(labels.max()) + 1
    if num_units < 2:
        reason = "fewer than two pseudo-units were found: there is nothing to learn from"
        return before, Acceptance(False, reason, {}, {}), 0, num_units
    adapted = copy.deepcopy(before)
    if trains:
        train_on_pseudo_units(adapted, mapped, groups, labels, seed=seed, settings=settings)
    adapted = fit_adapter(adapted, used_spikes, groups[used], settings)
    residuals = _draw_residuals(rng, mapped, groups, labels, np.flatnonzero(held_out))
    result = compare_encoders(
        before,
        adapted,
        mapped[held_out],
        residuals,
        groups=groups[held_out],
        spike_times_s=held_out_times,
        seed=seed,
        settings=settings.evaluation,
    )
    num_trained_on = int((labels >= 0).sum()) if trains else 0
    return adapted if result.adopted else before, result, num_trained_on, num_units


def train_on_pseudo_units(
    model: HuiduRep,
    mapped: MappedWaveforms,
    groups: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    settings: AdaptationSettings = DEFAULT_SETTINGS,
) -> None:
    """Train an encoder to separate pseudo-units of the same group; its weights are changed.

    Parameters
    ----------
    model : HuiduRep
    mapped : MappedWaveforms
    groups, labels : ndarray of int (num_spikes,)
        Group of the spikes of the same channels; pseudo-unit of each spike, -1 for none.
    seed : int
    settings : AdaptationSettings, optional
    """
    rng, device, rate = np.random.default_rng(seed), model.device, model.config.sampling_frequency
    members = [np.flatnonzero(labels == unit) for unit in range(labels.max() + 1)]
    unit_groups = np.array([groups[rows[0]] for rows in members])
    templates = np.stack([mapped.snippets[rows].mean(0) for rows in members])
    trained = [p for name, p in model.named_parameters() if not name.startswith(NOT_TRAINED)]
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=0.0)
    # Dropout draws from the global generator of the device, whose state is restored.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        (torch.default_generator if device.type == "cpu" else torch).manual_seed(seed)
        model.train()
        for step in range(settings.num_steps):
            cosine = 0.5 * (1 + np.cos(np.pi * step / settings.num_steps))
            warmup = min(1.0, (step + 1) / settings.warmup_steps)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * cosine * warmup
            units = _draw_units(rng, unit_groups, settings.max_batch_units)
            views = max(settings.min_views, settings.batch_spikes // len(units))
            rows = [rng.choice(members[unit], views, replace=len(members[unit]) < views) for unit in units]
            batch = model_inputs(mapped, np.concatenate(rows), device, model.dtype)
            spike_groups = np.repeat(unit_groups[units], views)
            others = _draw_collisions(rng, spike_groups, templates, unit_groups, rate, settings)
            batch["waveforms"] += torch.from_numpy(others).to(device, model.dtype)
            embeddings = model(**batch, return_dict=True).embeddings.unflatten(0, (len(units), views))
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


def _draw_units(rng: np.random.Generator, unit_groups: np.ndarray, max_units: int) -> np.ndarray:
    """Pseudo-units of one batch: all of them, or those of some randomly chosen groups."""
    if len(unit_groups) <= max_units:
        return np.arange(len(unit_groups))
    chosen: list[int] = []
    for group in rng.permutation(np.unique(unit_groups)):
        units = np.flatnonzero(unit_groups == group)
        if chosen and len(chosen) + len(units) > max_units:
            break
        chosen.extend(units)
    return np.array(chosen)


def _draw_collisions(
    rng: np.random.Generator,
    spike_groups: np.ndarray,
    templates: np.ndarray,
    unit_groups: np.ndarray,
    sampling_frequency: float,
    settings: AdaptationSettings = DEFAULT_SETTINGS,
) -> np.ndarray:
    """Overlapping spikes to add (num_spikes, num_samples, num_channels): 0 for spikes without a collision."""
    num_samples = templates.shape[1]
    reach = int(settings.max_collision_lag_ms * 1e-3 * sampling_frequency)
    added = np.zeros((len(spike_groups), *templates.shape[1:]), np.float32)
    for spike in np.flatnonzero(rng.random(len(spike_groups)) < settings.collision_probability):
        other = templates[rng.choice(np.flatnonzero(unit_groups == spike_groups[spike]))]
        lag = int(rng.integers(-reach, reach + 1))
        into, out_of = max(0, lag), max(0, -lag)
        length = max(0, num_samples - abs(lag))
        added[spike, into : into + length] = other[out_of : out_of + length]
    return added


def _check(
    waveforms: ArrayLike, positions: ArrayLike | None, times: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Arrays with one row a spike; their values are checked by map_waveforms."""
    waveforms = np.atleast_1d(np.asarray(as_array(waveforms)))
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


def _of_rows(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _map(
    model: HuiduRep, waveforms: np.ndarray, positions: np.ndarray | None, options: dict[str, Any]
) -> tuple[MappedWaveforms, np.ndarray]:
    """Spikes as the encoder receives them, and the group of each: one for every set of contacts and channels."""
    if positions is None or not len(positions):
        mapped, sets = map_waveforms(waveforms, model.config, **options), np.zeros(len(waveforms), int)
    else:
        mapped, sets = _map_sets(model, waveforms, positions, options)
    # If there are more channels than the encoder has, each spike is mapped to those around its peak channel.
    shared = np.column_stack([sets, mapped.channels])
    return mapped, np.unique(shared, axis=0, return_inverse=True)[1].reshape(-1)


def _map_sets(
    model: HuiduRep, waveforms: np.ndarray, positions: np.ndarray, options: dict[str, Any]
) -> tuple[MappedWaveforms, np.ndarray]:
    """Map spikes that have contacts of their own; also returns the number of the set of contacts of each spike."""
    contacts, sets = np.unique(positions, axis=0, return_inverse=True)
    sets = sets.reshape(-1)
    signs = options.get("peak_sign")
    parts = []
    for number, each in enumerate(contacts):
        own = sets == number
        its = options | dict(channel_positions=each, peak_sign=_of_rows(signs, own))
        parts.append(map_waveforms(waveforms[own], model.config, **its))
    back = np.argsort(np.argsort(sets, kind="stable"))
    arrays: dict[str, Any] = {}
    for name in vars(parts[0]):
        values = [getattr(part, name) for part in parts]
        arrays[name] = None if values[0] is None else np.concatenate(values)[back]
    return MappedWaveforms(**arrays), sets


def _draw_residuals(
    rng: np.random.Generator, mapped: MappedWaveforms, groups: np.ndarray, labels: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Noise (num_wanted, num_samples, num_channels): residuals of other spikes of the same group from their mean."""
    templates = np.stack([mapped.snippets[labels == unit].mean(0) for unit in range(labels.max() + 1)])
    residuals = np.zeros((len(wanted), *mapped.snippets.shape[1:]), np.float32)
    for group in np.unique(groups[wanted]):
        into = np.flatnonzero(groups[wanted] == group)
        donors = np.flatnonzero((groups == group) & (labels >= 0))
        if len(donors):
            chosen = rng.choice(donors, len(into))
            residuals[into] = mapped.snippets[chosen] - templates[labels[chosen]]
    return residuals
