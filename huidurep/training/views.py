"""Templates of known units -> batches of their spikes, several of each unit, as recordings would show them."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from . import augmentations as aug
from .noise import cut_pieces, draw_reel
from .recording_conditions import draw_setting

# Samples beside the window in which a trough may stand, and how far beside it a spike may be cut.
REACH, MISALIGNED = 8, 2
NEGATIVES = ("recording", "batch")


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """How spikes are made from templates. Ranges are (low, high); each imagined recording of a batch draws its own.

    Parameters
    ----------
    views_per_unit : int
        Spikes of each unit in a batch. Contrast takes two of them, the prototype loss all.
    num_recordings : int
        Imagined recordings in a batch: one probe, filter, noise, window and channel order each.
    group_size : int
        Units that are neighbours in template space, and so hard negatives of each other: 1 for none, which is better
        under the prototype loss (README, ablation).
    noise_uv : tuple of float
        Standard deviation after filtering, uV.
    high_pass_hz, low_pass_hz : tuple of float
        Filters.
    causal_probability : float
        Share of recordings filtered causally.
    collision_probability : float
        Share of spikes with another unit's spike in their window.
    collision_lag_ms : tuple of float
    gain_jitter : float
        Standard deviation of a spike's amplitude.
    bursting_probability, bursting_gain : float, tuple of float
        Share of units whose spikes shrink in bursts, and how far.
    recording_gain : tuple of float
        Amplitude of a whole recording.
    truncation_probability, truncation_start_ms, truncation_end_ms : float, tuple of float, tuple of float
        Share of recordings with a short window, and where it starts and ends from the trough.
    missing_probability : float
        Share of recordings without some of the channels.
    nominal_probability : float
        Share of tetrodes whose wires stand elsewhere than the model is told.
    low_rate_probability : float
        Share of recordings sampled at 10 kHz or more, but below the contract's rate.
    quantised_probability, step_uv : float, tuple of float
        Share of recordings with a coarse converter, and its step in uV.
    measured_noise_probability : float
        Share of recordings with measured noise, where there is any.
    misalignment_probability : float
        Share of spikes cut one sample early or late.
    negatives : {"recording", "batch"}
        Whether a unit is told from the others of its recording only, or of the whole batch.
    same_spike : bool
        Distortions of one spike (the paper's pairs) instead of different spikes of one unit.

    Raises
    ------
    ValueError
        If a value is impossible; the message says what was expected.
    """

    views_per_unit: int = 4
    num_recordings: int = 4
    group_size: int = 1
    noise_uv: tuple = (3.0, 30.0)
    high_pass_hz: tuple = (150.0, 500.0)
    low_pass_hz: tuple = (5000.0, 9000.0)
    causal_probability: float = 0.3
    collision_probability: float = 0.2
    collision_lag_ms: tuple = (0.15, 2.0)
    gain_jitter: float = 0.05
    bursting_probability: float = 0.15
    bursting_gain: tuple = (0.6, 1.0)
    recording_gain: tuple = (0.6, 1.6)
    truncation_probability: float = 0.5
    truncation_start_ms: tuple = (-1.0, -0.2)
    truncation_end_ms: tuple = (0.6, 2.0)
    missing_probability: float = 0.1
    nominal_probability: float = 0.5
    low_rate_probability: float = 0.25
    quantised_probability: float = 0.3
    step_uv: tuple = (0.1, 3.0)
    measured_noise_probability: float = 0.4
    misalignment_probability: float = 0.2
    negatives: str = "recording"
    same_spike: bool = False

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            if field.name.endswith("probability") and not 0 <= value <= 1:
                raise ValueError(f"expected {field.name} between 0 and 1, found {value}: give a probability.")
        if not isinstance(self.views_per_unit, int) or self.views_per_unit < 2:
            raise ValueError(
                f"expected views_per_unit to be a whole number of at least 2, found {self.views_per_unit!r}: a spike "
                "alone says nothing of what it shares with others of its unit."
            )
        if self.negatives not in NEGATIVES:
            raise ValueError(f"expected negatives among {NEGATIVES}, found {self.negatives!r}: choose one of them.")


class ViewMaker:
    """Draws batches for :class:`huidurep.HuiduRepForPreTraining`.

    Parameters
    ----------
    banks : list of TemplateBank
        Units seen by one probe each.
    config : HuiduRepConfig
    recipe : ViewRecipe
    measured_noise : MeasuredNoise, optional
        Noise of some of the recordings.
    noise_reels : list of torch.Tensor (num_samples, num_channels), optional
        Noise cut from recordings between spikes (uV, filtered), for banks of as many channels.
    """

    def __init__(self, banks, config, recipe, measured_noise=None, noise_reels=()):
        self.banks, self.config, self.recipe = banks, config, recipe
        self.measured_noise, self.noise_reels = measured_noise, tuple(noise_reels)

    def draw(self, num_units, generator):
        """Draw a batch.

        Parameters
        ----------
        num_units : int
            Different units, unless two of the recordings happen to be of one bank.
        generator : torch.Generator

        Returns
        -------
        dict of torch.Tensor
            ``view_1``, ``view_2``, ``clean`` (of the first view; num_units, num_samples, num_channels) in uV,
            ``channel_mask``, ``sample_mask``, ``labels`` (num_units,), where negatives are of the recording
            ``recordings`` (num_units,), where the model asks for them ``channel_positions`` (num_units, num_channels,
            2) in um and, where there are more than two views, ``further_views`` (num_units, views_per_unit - 2,
            num_samples, num_channels) in uV.

        Raises
        ------
        ValueError
            If the units cannot be shared out evenly among the imagined recordings.
        """
        count, rest = divmod(num_units, self.recipe.num_recordings)
        if rest or not count:
            raise ValueError(
                f"expected num_units to be a multiple of num_recordings={self.recipe.num_recordings}, found "
                f"{num_units}: change one of them."
            )
        parts = [self.draw_recording(count, generator) for _ in range(self.recipe.num_recordings)]
        return join_recordings(parts, self.recipe.negatives)

    def draw_recording(self, count, generator):
        """Draw one imagined recording: a part of a batch.

        Parameters
        ----------
        count : int
            Units.
        generator : torch.Generator

        Returns
        -------
        dict of torch.Tensor
            As :meth:`draw`, without ``recordings``.
        """
        recipe = self.recipe
        number = int(torch.randint(len(self.banks), (1,), generator=generator))
        bank = self.banks[number]
        units = bank.draw_neighbours(count, recipe.group_size, generator)
        setting = self._setting(bank, generator)
        reel = self._reel(bank, setting, generator)
        # view by view, all units in each: one spike's distortions share what is drawn of it
        spikes = 1 if recipe.same_spike else recipe.views_per_unit
        displaced = torch.randint(bank.waveforms.shape[1], (spikes * count,), generator=generator)
        bursting = torch.rand(count, generator=generator) < recipe.bursting_probability
        gain = self._gains(bursting.repeat(spikes), setting, generator)
        drawn = [each.repeat(recipe.views_per_unit // (len(each) // count)) for each in (units, displaced, gain)]
        dirty, clean = self._spikes(bank, *drawn, setting, reel, generator)
        exists = setting.channel_mask[None, None] * setting.sample_mask[None, :, None]
        dirty, clean = (value[:, :, setting.channels.clamp(min=0)] * exists for value in (dirty, clean[:count]))
        first, second, *further = dirty.split(count)
        batch = dict(view_1=first, view_2=second, clean=clean)
        if further:
            batch["further_views"] = torch.stack(further, 1)
        batch["channel_mask"] = setting.channel_mask.expand(count, -1).clone()
        batch["sample_mask"] = setting.sample_mask.expand(count, -1).clone()
        batch["labels"] = units + 1_000_000 * number
        if self.config.channel_mixing == "position":
            batch["channel_positions"] = setting.positions.expand(count, -1, -1).clone()
        return batch

    def _setting(self, bank, generator):
        """What the spikes of one imagined recording have in common."""
        return draw_setting(bank, self.config, self.recipe, generator)

    def _reel(self, bank, setting, generator):
        """Noise of one imagined recording, in uV."""
        chance, choice = torch.rand(2, generator=generator).tolist()
        if chance < self.recipe.measured_noise_probability:
            fitting = [reel for reel in self.noise_reels if reel.shape[1] == len(bank.positions)]
            if fitting and choice < 0.5:
                return fitting[int(2 * choice * len(fitting))] * setting.noise_gain
        measured = self.measured_noise if chance < self.recipe.measured_noise_probability else None
        reel = draw_reel(bank.positions, setting.response, bank.sampling_frequency, generator, measured=measured)
        return reel * setting.noise_uv

    def _gains(self, bursting, setting, generator):
        """Amplitude of each spike against its template (count,)."""
        recipe, count = self.recipe, len(bursting)
        jitter = 1 + recipe.gain_jitter * torch.randn(count, generator=generator)
        shrink = aug.uniform(*recipe.bursting_gain, (count,), generator)
        return setting.gain * torch.where(bursting, jitter * shrink, jitter)

    def _spikes(self, bank, units, views, gain, setting, reel, generator):
        """Noisy spikes and their clean versions (count, num_samples, bank channels), in uV."""
        recipe, config, count = self.recipe, self.config, len(units)
        clean = self._filtered(bank, units, views, gain, setting, generator)
        dirty = clean.clone()
        hit = (torch.rand(count, generator=generator) < recipe.collision_probability).nonzero()[:, 0]
        if len(hit):
            others = torch.randint(len(bank.waveforms), (len(hit),), generator=generator)
            sizes = setting.gain * aug.uniform(0.3, 1.0, (len(hit),), generator)
            colliding = self._filtered(bank, others, 0 * others, sizes, setting, generator)
            lags = tuple(int(ms * 1e-3 * bank.sampling_frequency) for ms in recipe.collision_lag_ms)
            dirty[hit] = aug.add_at_lags(dirty[hit], colliding, lag_range=lags, generator=generator)
        start = bank.peak_index - config.peak_index - REACH
        length = config.num_samples + 2 * REACH
        dirty, clean = dirty[:, start : start + length], clean[:, start : start + length]
        dirty = dirty + cut_pieces(reel, count, length, generator)
        if setting.step_uv > 0:
            dirty = torch.round(dirty / setting.step_uv) * setting.step_uv
        around = config.peak_index + REACH
        rows = aug.crop_at_trough(
            dirty, around=around, reach=REACH - MISALIGNED, before=config.peak_index, num_samples=config.num_samples
        )
        rows = (rows + self._misalignment(count, setting, generator)[:, None]).clamp(0, length - 1)
        rows = rows[:, :, None].expand(-1, -1, clean.shape[2])
        return torch.gather(dirty, 1, rows), torch.gather(clean, 1, rows)

    def _filtered(self, bank, units, views, gain, setting, generator):
        """Templates (count, bank samples, channels) as the recording's filters and sampling show them."""
        waves = bank.waveforms[units, views].float() * gain[:, None, None]
        delay = aug.uniform(-0.5, 0.5, (len(units),), generator)
        spectra = torch.fft.rfft(waves, dim=1) * setting.response(waves.shape[1])[None, :, None]
        return torch.fft.irfft(aug.shift(spectra, delay), n=waves.shape[1], dim=1)

    def _misalignment(self, count, setting, generator):
        """Samples by which each spike is cut early or late: one at times, more where the recording's rate is low."""
        off = torch.rand(count, generator=generator) < self.recipe.misalignment_probability
        one = off * (2 * torch.randint(0, 2, (count,), generator=generator) - 1)
        coarse = aug.uniform(-0.5, 0.5, (count,), generator) * (setting.coarseness - 1)
        return (one + coarse.round().long()).clamp(-MISALIGNED, MISALIGNED)


def join_recordings(parts, negatives):
    """Make one batch of several imagined recordings.

    Parameters
    ----------
    parts : list of dict of torch.Tensor
        Of :meth:`ViewMaker.draw_recording`, of as many views each; the numbers of channels may differ.
    negatives : {"recording", "batch"}
        As in :class:`ViewRecipe`. The parts get numbers of their own where it is "recording".

    Returns
    -------
    dict of torch.Tensor
        As :meth:`ViewMaker.draw`.
    """
    widest = max(part["channel_mask"].shape[1] for part in parts)
    for number, part in enumerate(parts):
        if negatives == "recording":
            part["recordings"] = torch.full((len(part["view_1"]),), number)
        missing = widest - part["channel_mask"].shape[1]
        for name in part.keys() & {"view_1", "view_2", "further_views", "clean", "channel_mask"}:
            part[name] = F.pad(part[name], (0, missing))
        if "channel_positions" in part:
            part["channel_positions"] = F.pad(part["channel_positions"], (0, 0, 0, missing))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
