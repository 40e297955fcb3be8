"""Templates of known units -> batches of positive pairs, as recordings would show them."""

from dataclasses import dataclass, fields

import torch

from . import augmentations as aug


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """How spikes are made from templates. Ranges are (low, high); each imagined recording of a batch draws its own.

    Parameters
    ----------
    num_recordings : int
        Imagined recordings in a batch: one probe, filter, noise, window and channel order each.
    group_size : int
        Units that are neighbours in template space, and so each other's hard negatives.
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
    misalignment_probability : float
        Share of spikes cut one sample early or late.
    same_spike : bool
        Two distortions of one spike (the paper's pairs) instead of two spikes of one unit.
    """

    num_recordings: int = 4
    group_size: int = 16
    noise_uv: tuple = (2.0, 20.0)
    high_pass_hz: tuple = (150.0, 500.0)
    low_pass_hz: tuple = (5000.0, 9000.0)
    causal_probability: float = 0.3
    collision_probability: float = 0.2
    collision_lag_ms: tuple = (0.15, 2.0)
    gain_jitter: float = 0.05
    bursting_probability: float = 0.3
    bursting_gain: tuple = (0.5, 1.0)
    recording_gain: tuple = (0.6, 1.6)
    truncation_probability: float = 0.5
    truncation_start_ms: tuple = (-1.0, -0.2)
    truncation_end_ms: tuple = (0.6, 2.0)
    missing_probability: float = 0.1
    misalignment_probability: float = 0.2
    same_spike: bool = False

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            if field.name.endswith("probability") and not 0 <= value <= 1:
                raise ValueError(f"expected {field.name} between 0 and 1, found {value}: give a probability.")


class ViewMaker:
    """Draws batches for :class:`huidurep.HuiduRepForPreTraining`.

    Parameters
    ----------
    banks : list of TemplateBank
        Units seen by one probe each.
    config : HuiduRepConfig
    recipe : ViewRecipe
    """

    def __init__(self, banks, config, recipe):
        self.banks, self.config, self.recipe = banks, config, recipe

    def draw(self, num_pairs, generator):
        """Draw a batch.

        Parameters
        ----------
        num_pairs : int
        generator : torch.Generator

        Returns
        -------
        dict of torch.Tensor
            ``view_1``, ``view_2``, ``clean`` (num_pairs, num_samples, num_channels) in uV, ``channel_mask``,
            ``sample_mask``, ``labels`` (num_pairs,).

        Raises
        ------
        ValueError
            If the pairs cannot be shared out evenly among the imagined recordings.
        """
        count, rest = divmod(num_pairs, self.recipe.num_recordings)
        if rest or not count:
            raise ValueError(
                f"expected num_pairs to be a multiple of num_recordings={self.recipe.num_recordings}, found "
                f"{num_pairs}: change one of them."
            )
        parts = [self._recording(count, generator) for _ in range(self.recipe.num_recordings)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _recording(self, count, generator):
        number = int(torch.randint(len(self.banks), (1,), generator=generator))
        bank = self.banks[number]
        units = bank.draw_neighbours(count, self.recipe.group_size, generator)
        setting = self._setting(bank, generator)
        first, second = self._choose_views(bank, units, generator)
        bursting = torch.rand(count, generator=generator) < self.recipe.bursting_probability
        gain = self._gains(bursting, setting, generator)
        view_1, clean = self._spikes(bank, units, first, gain, setting, generator)
        if not self.recipe.same_spike:
            gain = self._gains(bursting, setting, generator)
        view_2, _ = self._spikes(bank, units, second, gain, setting, generator)
        batch = {"view_1": view_1, "view_2": view_2, "clean": clean}
        batch = {name: self._mask(value, setting) for name, value in batch.items()}
        batch["channel_mask"] = setting["channel_mask"].expand(count, -1).clone()
        batch["sample_mask"] = setting["sample_mask"].expand(count, -1).clone()
        batch["labels"] = units + 1_000_000 * number
        return batch

    def _choose_views(self, bank, units, generator):
        num_views = bank.waveforms.shape[1]
        first = torch.randint(num_views, (len(units),), generator=generator)
        if self.recipe.same_spike:
            return first, first
        return first, torch.randint(num_views, (len(units),), generator=generator)

    def _setting(self, bank, generator):
        """What is common to all spikes of one imagined recording."""
        recipe = self.recipe
        one = {
            name: float(aug.uniform(*getattr(recipe, name), (1,), generator))
            for name in ("high_pass_hz", "low_pass_hz")
        }
        chance = torch.rand(3, generator=generator)
        response = aug.filter_response(
            bank.waveforms.shape[2],
            bank.sampling_frequency,
            **one,
            order=int(torch.randint(1, 4, (1,), generator=generator)),
            causal=bool(chance[0] < recipe.causal_probability),
        )
        draws = torch.rand(5, generator=generator)
        color = aug.noise_color(
            bank.waveforms.shape[2],
            bank.sampling_frequency,
            corner_hz=300 + 2500 * float(draws[0]),
            exponent=0.5 + 1.5 * float(draws[1]),
            floor=0.5 * float(draws[2]),
        )
        mixing = aug.spatial_mixing(
            bank.positions, shared=0.1 + 0.8 * float(draws[3]), length_um=20 + 100 * float(draws[4])
        )
        spread = 1 + 0.15 * torch.randn(len(bank.positions), generator=generator)
        noise_uv = float(aug.log_uniform(*recipe.noise_uv, (1,), generator))
        channels, channel_mask = self._channels(bank, bool(chance[1] < recipe.missing_probability), generator)
        sample_mask = self._window(bool(chance[2] < recipe.truncation_probability), generator)
        return dict(
            response=response,
            noise_spectrum=response * color,
            mixing=mixing * spread.clamp(0.6, 1.5)[:, None],
            noise_uv=noise_uv,
            gain=float(aug.log_uniform(*recipe.recording_gain, (1,), generator)),
            channels=channels,
            channel_mask=channel_mask,
            sample_mask=sample_mask,
        )

    def _channels(self, bank, missing, generator):
        """Which contacts, in any order (the wiring of a tetrode is arbitrary); -1 where one is missing."""
        config = self.config
        if config.channel_order == "position":
            order = torch.randperm(len(bank.positions), generator=generator)
        else:
            order = torch.cdist(bank.positions[:1], bank.positions)[0].argsort()
        keep = min(len(order), config.num_channels)
        if missing and keep > 1:
            keep = int(torch.randint(max(1, keep // 2), keep, (1,), generator=generator))
        channels = torch.full((config.num_channels,), -1)
        channels[:keep] = order[:keep]
        return channels, (channels >= 0).float()

    def _window(self, truncated, generator):
        config, recipe = self.config, self.recipe
        time_ms = (torch.arange(config.num_samples) - config.peak_index) / config.sampling_frequency * 1e3
        if not truncated:
            return torch.ones(config.num_samples)
        start = float(aug.uniform(*recipe.truncation_start_ms, (1,), generator))
        end = float(aug.uniform(*recipe.truncation_end_ms, (1,), generator))
        return ((time_ms >= start) & (time_ms <= end)).float()

    def _gains(self, bursting, setting, generator):
        """Amplitude of each spike against its template (count,)."""
        recipe, count = self.recipe, len(bursting)
        jitter = 1 + recipe.gain_jitter * torch.randn(count, generator=generator)
        shrink = aug.uniform(*recipe.bursting_gain, (count,), generator)
        return setting["gain"] * torch.where(bursting, jitter * shrink, jitter)

    def _spikes(self, bank, units, views, gain, setting, generator):
        """Noisy spikes and their clean versions (count, num_samples, bank channels), in uV."""
        recipe, config, count = self.recipe, self.config, len(units)
        total = bank.waveforms.shape[2]
        clean = bank.waveforms[units, views] * gain[:, None, None]
        others = bank.waveforms[torch.randint(len(bank.waveforms), (count,), generator=generator), 0] * setting["gain"]
        lags = tuple(int(ms * 1e-3 * bank.sampling_frequency) for ms in recipe.collision_lag_ms)
        dirty = aug.add_collisions(
            clean,
            others,
            probability=recipe.collision_probability,
            lag_range=lags,
            gain_range=(0.3, 1.0),
            generator=generator,
        )
        delay = aug.uniform(-0.5, 0.5, (count,), generator)
        spectra = aug.shift(torch.fft.rfft(torch.cat([clean, dirty]), dim=1), delay.repeat(2))
        clean, dirty = torch.fft.irfft(spectra * setting["response"][None, :, None], n=total, dim=1).chunk(2)
        dirty = dirty + self._noise(count, total, setting, generator)
        rows = aug.crop_at_trough(
            dirty, around=bank.peak_index, reach=8, before=config.peak_index, num_samples=config.num_samples
        )
        off = torch.rand(count, generator=generator) < recipe.misalignment_probability
        rows = rows + (off * (2 * torch.randint(0, 2, (count,), generator=generator) - 1))[:, None]
        rows = rows[:, :, None].expand(-1, -1, clean.shape[2])
        return torch.gather(dirty, 1, rows), torch.gather(clean, 1, rows)

    def _noise(self, count, total, setting, generator):
        white = torch.randn(count, total, len(setting["mixing"]), generator=generator)
        spectrum = setting["noise_spectrum"][None, :, None]
        noise = torch.fft.irfft(torch.fft.rfft(white, dim=1) * spectrum, n=total, dim=1)
        return (noise / noise.std() * setting["noise_uv"]) @ setting["mixing"].T

    def _mask(self, waveforms, setting):
        picked = waveforms[:, :, setting["channels"].clamp(min=0)]
        return picked * setting["channel_mask"][None, None, :] * setting["sample_mask"][None, :, None]
