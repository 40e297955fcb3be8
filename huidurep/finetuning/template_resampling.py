"""Template resampling: spikes cut from a lab's recording -> banks of its units and noise -> batches of new spikes."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch

from ..models.input_contract import resampling_matrix
from ..training.dataset import TemplateBank
from ..training.noise import REEL_SAMPLES
from ..training.views import REACH, ViewMaker, ViewRecipe, join_recordings

# Beside what a view may need of a template: the tails of collisions, and room in which it fades.
EARLIER_MS, LATER_MS = 1.3, 2.0
FADE_MS = 1.0
NUM_STRETCHES, SPIKES_A_VIEW = 3, 25
NUM_VIEWS = 2 * NUM_STRETCHES + 1
MAX_SNIPPETS = 512  # of the plain self-supervision, whose "units" are single spikes
GAIN_JITTER = (0.02, 0.2)
COLLISIONS = (0.1, 0.5)


@dataclass(frozen=True)
class LabWindow:
    """Spikes of known unit and the noise between them, on contacts that the encoder sees together.

    Parameters
    ----------
    unit_ids : list
        Of the recording: the same unit may be in several windows.
    waveforms : list of ndarray (num_spikes, num_samples, num_channels) float32
        Of each unit, uV, filtered as for sorting.
    times_s : list of ndarray (num_spikes,)
    peak_index : int
    sampling_frequency : float
        Hz.
    positions_um : ndarray (num_channels, 2)
    noise, held_out_noise : ndarray (num_samples, num_channels) float32
        Between spikes of the time that may be trained on, and of the time held out. uV.
    collision_probability : float
        Share of spikes with another one near enough to be in their snippet.
    recording : int, default 0
        Number of the recording.
    rates_hz : list of float, optional
        Firing rate of each unit, for of frequent ones not all spikes are here.
    """

    unit_ids: list
    waveforms: list
    times_s: list
    peak_index: int
    sampling_frequency: float
    positions_um: np.ndarray
    noise: np.ndarray
    held_out_noise: np.ndarray
    collision_probability: float
    recording: int = 0
    rates_hz: list | None = None


class LabBank(TemplateBank):
    """Units and noise of a lab's own recording, filtered and sampled as it is.

    Parameters
    ----------
    waveforms, positions, peak_index, sampling_frequency
        As in TemplateBank.
    reels : list of ndarray (num_samples, num_channels)
        Noise, uV.
    coarseness : float
        Sampling interval of the recording against that of the bank.
    """

    def __init__(self, waveforms, positions, peak_index, sampling_frequency, *, reels, coarseness):
        super().__init__(waveforms, positions, peak_index, sampling_frequency, kind="lab")
        self.reels = [torch.as_tensor(reel, dtype=torch.float32) for reel in reels]
        self.coarseness = max(1.0, coarseness)

    def draw_neighbours(self, count, group_size, generator):
        """As TemplateBank's; where there are fewer units, some come several times (their labels are then the same).

        Parameters
        ----------
        count, group_size : int
        generator : torch.Generator

        Returns
        -------
        torch.Tensor (count,) int64
        """
        rounds, left = [], count
        while left:
            rounds.append(super().draw_neighbours(min(left, len(self.waveforms)), group_size, generator))
            left -= len(rounds[-1])
        return torch.cat(rounds)


class LabViewMaker(ViewMaker):
    """Draws spikes of LabBanks, which are filtered already, in the noise of their own recording."""

    def _setting(self, bank, generator):
        setting = super()._setting(bank, generator)
        return replace(setting, response=_unfiltered, coarseness=bank.coarseness)

    def _reel(self, bank, setting, generator):
        if not bank.reels:  # spikes so dense that there is nothing between them
            return super()._reel(bank, setting, generator)
        return bank.reels[int(torch.randint(len(bank.reels), (1,), generator=generator))] * setting.noise_gain


class MixedViewMaker:
    """Draws batches of which some recordings are the lab's and the others simulated.

    Parameters
    ----------
    lab, simulated : ViewMaker
        With as many views a unit. `simulated` None: the lab's alone.
    simulated_share : float
        Of the imagined recordings.
    """

    def __init__(self, lab, simulated, simulated_share):
        self.lab, self.simulated = lab, simulated
        self.simulated_share = 0.0 if simulated is None else simulated_share

    def draw(self, num_units, generator):
        """Draw a batch, as :meth:`huidurep.training.views.ViewMaker.draw`.

        Parameters
        ----------
        num_units : int
            A multiple of the recipe's num_recordings.
        generator : torch.Generator

        Returns
        -------
        dict of torch.Tensor
        """
        recipe = self.lab.recipe
        chances = torch.rand(recipe.num_recordings, generator=generator).tolist()
        makers = [self.simulated if chance < self.simulated_share else self.lab for chance in chances]
        count = num_units // recipe.num_recordings
        return join_recordings([maker.draw_recording(count, generator) for maker in makers], recipe.negatives)


def bank_window(config):
    """How much of each spike a lab's bank holds.

    Parameters
    ----------
    config : HuiduRepConfig

    Returns
    -------
    num_before, num_samples : int
        Before the trough and in all, at the contract's rate.
    """
    earlier, later = (round(ms * 1e-3 * config.sampling_frequency) for ms in (EARLIER_MS, LATER_MS))
    num_before = config.peak_index + REACH + earlier
    num_samples = num_before + config.num_samples - config.peak_index + REACH + later
    return num_before, num_samples + num_samples % 2


def make_lab_banks(windows, config, *, units=None, held_out=False, single_spikes=False, seed=0):
    """Make one bank of all windows of a recording that have the same contacts.

    Parameters
    ----------
    windows : list of LabWindow
    config : HuiduRepConfig
    units : set of (int, object), optional
        (recording, unit id) of those to take; all by default.
    held_out : bool, default False
        With the noise of the time held out.
    single_spikes : bool, default False
        Every spike is a unit: plain self-supervision, which knows of no units.
    seed : int, default 0
        Which spikes those are.

    Returns
    -------
    list of LabBank
        Without those that have no unit.
    """
    banks, alike = [], {}
    for window in windows:
        places = window.positions_um - window.positions_um[:1]
        alike.setdefault((window.recording, np.round(places, 1).tobytes()), []).append(window)
    for group in alike.values():
        waveforms = [views for window in group for views in _units_of(window, config, units, single_spikes)]
        if not waveforms:
            continue
        if single_spikes and len(waveforms) > MAX_SNIPPETS:
            chosen = np.random.default_rng(seed).choice(len(waveforms), MAX_SNIPPETS, replace=False)
            waveforms = [waveforms[index] for index in np.sort(chosen)]
        rate, ratio = config.sampling_frequency, config.sampling_frequency / group[0].sampling_frequency
        noises = [window.held_out_noise if held_out else window.noise for window in group]
        reels = [reel for noise in noises for reel in _reels(noise, ratio)]
        bank = (waveforms, group[0].positions_um - group[0].positions_um[:1], bank_window(config)[0], rate)
        banks.append(LabBank(*bank, reels=reels, coarseness=ratio))
    return banks


def lab_recipe(windows, **changes):
    """The recipe of spikes as these recordings have them: their collisions and amplitudes, nothing imagined.

    Parameters
    ----------
    windows : list of LabWindow
    **changes
        Fields of ViewRecipe.

    Returns
    -------
    ViewRecipe
    """
    jitters = [gain_jitter(window, spikes) for window in windows for spikes in window.waveforms]
    measured = dict(
        gain_jitter=float(np.clip(np.median(jitters), *GAIN_JITTER)),
        collision_probability=float(np.clip(np.mean([each.collision_probability for each in windows]), *COLLISIONS)),
        noise_uv=(max(1e-3, float(np.median([each.noise.std() if len(each.noise) else 10.0 for each in windows]))),)
        * 2,
    )
    names = "bursting truncation missing nominal low_rate quantised"
    nothing = {f"{name}_probability": 0.0 for name in names.split()}
    return ViewRecipe(**{**measured, **nothing, "recording_gain": (0.9, 1.1), **changes})


def _unfiltered(num_samples):
    return torch.ones(num_samples // 2 + 1)


def _units_of(window, config, units, single_spikes):
    """Views (num_views, num_samples, num_channels) of each unit, at the contract's rate and faded at their ends."""
    for unit_id, spikes, times_s in zip(window.unit_ids, window.waveforms, window.times_s, strict=True):
        if units is not None and (window.recording, unit_id) not in units:
            continue
        num_before, num_samples = bank_window(config)
        wanted = SimpleNamespace(
            num_samples=num_samples, peak_index=num_before, sampling_frequency=config.sampling_frequency
        )
        matrix, _ = resampling_matrix(spikes.shape[1], window.peak_index, window.sampling_frequency, wanted)
        weights = fade(num_samples, config.sampling_frequency)[:, None]
        if single_spikes:
            yield from (np.matmul(matrix, spikes) * weights)[:, None]
        else:
            yield np.matmul(matrix, unit_views(spikes, times_s)) * weights


def unit_views(spikes, times_s):
    """Means of a unit's spikes: of all, then of stretches of time (drift), each in halves by amplitude.

    Amplitudes are those of the whole waveform against the unit's mean, which noise moves less than a peak.

    Parameters
    ----------
    spikes : ndarray (num_spikes, num_samples, num_channels)
    times_s : ndarray (num_spikes,)

    Returns
    -------
    ndarray (NUM_VIEWS, num_samples, num_channels) float32
        With few spikes there are fewer means, and they come several times.
    """
    gains = _gains(spikes)
    num_stretches = int(np.clip(len(spikes) // (2 * SPIKES_A_VIEW), 1, NUM_STRETCHES))
    views = [spikes.mean(0)]
    for stretch in np.array_split(np.argsort(times_s, kind="stable"), num_stretches):
        by_gain = stretch[np.argsort(gains[stretch], kind="stable")]
        halves = np.array_split(by_gain, 2) if len(stretch) >= 2 * SPIKES_A_VIEW else [stretch]
        views += [spikes[half].mean(0) for half in halves]
    further = [views[1 + index % (len(views) - 1)] for index in range(NUM_VIEWS - 1)]
    return np.array(views[:1] + further, np.float32)


def _gains(spikes):
    """Amplitude of each spike against the unit's mean (num_spikes,)."""
    template = spikes.mean(0)
    return np.tensordot(spikes, template, 2) / max(float((template**2).sum()), 1e-12)


def gain_jitter(window, spikes):
    """Standard deviation of a unit's amplitude, without what noise adds to it.

    Parameters
    ----------
    window : LabWindow
        Its noise is looked at.
    spikes : ndarray (num_spikes, num_samples, num_channels)

    Returns
    -------
    float
        Relative to the unit's mean.
    """
    template, num_samples = spikes.mean(0), spikes.shape[1]
    pieces = len(window.noise) // num_samples
    noise = window.noise[: pieces * num_samples].reshape(pieces, num_samples, window.noise.shape[1])
    of_noise = np.tensordot(noise, template, 2) / max(float((template**2).sum()), 1e-12)
    gains = _gains(spikes)
    robust = (1.4826 * np.median(np.abs(gains - np.median(gains)))) ** 2  # collisions are no amplitudes
    return np.sqrt(max(robust - (of_noise.var() if pieces > 1 else 0.0), 0.0))


def fade(num_samples, rate):
    """Weights that rise from 0 over 1 ms and fall to it again, so that a template added to traces adds no step.

    Parameters
    ----------
    num_samples : int
    rate : float
        Hz.

    Returns
    -------
    ndarray (num_samples,) float32
    """
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, max(2, int(FADE_MS * 1e-3 * rate))))
    weights = np.ones(num_samples, np.float32)
    weights[: len(ramp)] = ramp
    weights[-len(ramp) :] = ramp[::-1]
    return weights


def _reels(noise, ratio):
    """Reels of about REEL_SAMPLES of noise (num_samples, num_channels), at a rate `ratio` times as high."""
    from scipy.signal import resample

    if len(noise) * ratio < REEL_SAMPLES / 8:
        return []
    noise = noise if ratio == 1 else resample(noise, int(len(noise) * ratio), axis=0)
    return np.array_split(noise.astype(np.float32), max(1, len(noise) // REEL_SAMPLES))
