"""Templates of known units -> batches of their spikes, several of each unit, as recordings would show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import augmentations as aug
from .dataset import TemplateLibrary
from .noise import MeasuredNoise, NoiseSettings, cut_snippets, draw_noise_segment
from .recording_conditions import RecordingConditions, draw_conditions

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig

# Samples beside the window in which a trough may lie, and the largest misalignment of a snippet in samples.
REACH, MAX_MISALIGNMENT = 8, 2
NEGATIVES = ("recording", "batch")
# Labels of units of different template libraries lie this far apart.
LABEL_STRIDE = 1_000_000
DEFAULT_NOISE = NoiseSettings()


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """How spikes are made from templates. Ranges are (low, high); each recording of a batch has its own draw.

    Parameters
    ----------
    views_per_unit : int
        Spikes of each unit in a batch. The contrastive loss takes two of them, the prototype loss all.
    num_recordings : int
        Recordings in a batch; the spikes of each share probe, filter, noise, window and channel order.
    group_size : int
        Units of a group of nearest neighbours in template space (hard negatives); 1 for none, which is better under the
        prototype loss (benchmarks/results/ablation.json).
    noise_uv : tuple of float
        Standard deviation after filtering, uV.
    noise_gain : tuple of float
        Factor of noise that was recorded.
    high_pass_hz, low_pass_hz : tuple of float
        Corner frequencies of the filters.
    filter_order : tuple of int
        Smallest and largest order.
    causal_probability : float
        Share of recordings that are filtered causally.
    collision_probability : float
        Share of spikes with another unit's spike in their window.
    collision_lag_ms, collision_gain : tuple of float
        Absolute lag of the other spike, and factor of its amplitude.
    gain_jitter : float
        Standard deviation of a spike's amplitude relative to its template.
    bursting_probability, bursting_gain : float, tuple of float
        Share of units whose spikes are smaller in bursts, and the factor.
    recording_gain : tuple of float
        Factor of all amplitudes of a recording.
    truncation_probability, truncation_start_ms, truncation_end_ms : float, tuple of float, tuple of float
        Share of recordings with a short window, and where it starts and ends, from the trough.
    missing_probability : float
        Share of recordings without some of the channels.
    nominal_probability : float
        Share of tetrodes for which the model receives nominal positions instead of the true ones.
    low_rate_probability, lowest_rate_hz : float
        Share of recordings that are sampled below the contract's rate, and the lowest rate.
    quantised_probability, step_uv : float, tuple of float
        Share of recordings with a coarse analogue-to-digital converter, and its step in uV.
    measured_noise_probability : float
        Share of recordings with measured noise, where there is any.
    noise_segment_share : float
        Share of these whose noise is a recorded segment, where there is one; the others have the measured covariance.
    misalignment_probability : float
        Share of snippets that are cut one sample early or late.
    negatives : {"recording", "batch"}
        Whether the negatives of a unit are the units of its recording or those of the whole batch.
    same_spike : bool
        Whether the views are distortions of one spike (the pairs of Cao et al. 2025) instead of different spikes of one
        unit.

    Raises
    ------
    ValueError
        If a value is impossible; the message says what was expected.
    """

    views_per_unit: int = 4
    num_recordings: int = 4
    group_size: int = 1
    noise_uv: tuple[float, float] = (3.0, 30.0)
    noise_gain: tuple[float, float] = (0.7, 1.4)
    high_pass_hz: tuple[float, float] = (150.0, 500.0)
    low_pass_hz: tuple[float, float] = (5000.0, 9000.0)
    filter_order: tuple[int, int] = (1, 3)
    causal_probability: float = 0.3
    collision_probability: float = 0.2
    collision_lag_ms: tuple[float, float] = (0.15, 2.0)
    collision_gain: tuple[float, float] = (0.3, 1.0)
    gain_jitter: float = 0.05
    bursting_probability: float = 0.15
    bursting_gain: tuple[float, float] = (0.6, 1.0)
    recording_gain: tuple[float, float] = (0.6, 1.6)
    truncation_probability: float = 0.5
    truncation_start_ms: tuple[float, float] = (-1.0, -0.2)
    truncation_end_ms: tuple[float, float] = (0.6, 2.0)
    missing_probability: float = 0.1
    nominal_probability: float = 0.5
    low_rate_probability: float = 0.25
    lowest_rate_hz: float = 10000.0
    quantised_probability: float = 0.3
    step_uv: tuple[float, float] = (0.1, 3.0)
    measured_noise_probability: float = 0.4
    noise_segment_share: float = 0.5
    misalignment_probability: float = 0.2
    negatives: str = "recording"
    same_spike: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, field.name, tuple(value))
            if isinstance(field.default, tuple):
                _check_range(field.name, getattr(self, field.name))
            if field.name.endswith("probability") and not 0 <= value <= 1:
                raise ValueError(f"expected {field.name} between 0 and 1, found {value}: give a probability.")
        if not isinstance(self.views_per_unit, int) or self.views_per_unit < 2:
            raise ValueError(
                f"expected views_per_unit to be a whole number of at least 2, found {self.views_per_unit!r}: the "
                "losses compare spikes of one unit."
            )
        for name in ("num_recordings", "group_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"expected {name} to be a whole number of at least 1, found {value!r}: correct it.")
        if self.negatives not in NEGATIVES:
            raise ValueError(f"expected negatives among {NEGATIVES}, found {self.negatives!r}: choose one of them.")


def _check_range(name: str, value: Any) -> None:
    """Refuse what is no range from a lower to a higher number; some are drawn by their logarithm."""
    is_range = isinstance(value, tuple) and len(value) == 2 and all(isinstance(each, int | float) for each in value)
    is_logarithmic = name in ("noise_uv", "step_uv", "recording_gain")
    if not is_range or not value[0] <= value[1] or (is_logarithmic and value[0] <= 0):
        above = " above 0" * is_logarithmic
        raise ValueError(f"expected {name} as two numbers{above}, the lower one first, found {value!r}: correct it.")


class ViewMaker:
    """Draws batches for :class:`huidurep.HuiduRepForPreTraining`.

    Parameters
    ----------
    libraries : list of TemplateLibrary
        Units on one probe each.
    config : HuiduRepConfig
    recipe : ViewRecipe
    measured_noise : MeasuredNoise, optional
        Noise of some of the recordings.
    noise_segments : list of torch.Tensor (num_samples, num_channels), optional
        Noise cut from recordings between spikes (uV, filtered), for libraries of as many channels.
    noise_settings : NoiseSettings, optional
        Of noise that is drawn.
    """

    def __init__(
        self,
        libraries: Sequence[TemplateLibrary],
        config: HuiduRepConfig,
        recipe: ViewRecipe,
        measured_noise: MeasuredNoise | None = None,
        noise_segments: Sequence[Tensor] = (),
        noise_settings: NoiseSettings = DEFAULT_NOISE,
    ) -> None:
        self.libraries, self.config, self.recipe = libraries, config, recipe
        self.measured_noise, self.noise_segments = measured_noise, tuple(noise_segments)
        self.noise_settings = noise_settings

    def draw(self, num_units: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a batch.

        Parameters
        ----------
        num_units : int
            Different units, unless two of the recordings happen to be of one template library.
        generator : torch.Generator

        Returns
        -------
        dict of torch.Tensor
            ``view_1``, ``view_2``, ``clean`` (of the first view; num_units, num_samples, num_channels) in uV,
            ``channel_mask``, ``sample_mask``, ``labels`` (num_units,), where negatives are of the recording
            ``recordings`` (num_units,), where the model takes them ``channel_positions`` (num_units, num_channels, 2)
            in um and, where there are more than two views, ``further_views`` (num_units, views_per_unit - 2,
            num_samples, num_channels) in uV.

        Raises
        ------
        ValueError
            If the recordings cannot have the same number of units.
        """
        count, rest = divmod(num_units, self.recipe.num_recordings)
        if rest or not count:
            raise ValueError(
                f"expected num_units to be a multiple of num_recordings={self.recipe.num_recordings}, found "
                f"{num_units}: change one of them."
            )
        parts = [self.draw_recording(count, generator) for _ in range(self.recipe.num_recordings)]
        return join_recordings(parts, self.recipe.negatives)

    def draw_recording(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the part of a batch that is of one recording.

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
        number = int(torch.randint(len(self.libraries), (1,), generator=generator))
        library = self.libraries[number]
        units = library.draw_neighbours(count, recipe.group_size, generator)
        conditions = self._draw_conditions(library, generator)
        noise = self._draw_noise(library, conditions, generator)
        # View by view, all units in each: distortions of the same spike share its drift and amplitude.
        num_spikes = 1 if recipe.same_spike else recipe.views_per_unit
        template_views = torch.randint(library.waveforms.shape[1], (num_spikes * count,), generator=generator)
        bursting = torch.rand(count, generator=generator) < recipe.bursting_probability
        gain = self._draw_gains(bursting.repeat(num_spikes), conditions, generator)
        unit_of_spike, template_views, gain = (
            each.repeat(recipe.views_per_unit // (len(each) // count)) for each in (units, template_views, gain)
        )
        noisy, clean = self._draw_spikes(library, unit_of_spike, template_views, gain, conditions, noise, generator)
        exists = conditions.channel_mask[None, None] * conditions.sample_mask[None, :, None]
        noisy, clean = (value[:, :, conditions.channels.clamp(min=0)] * exists for value in (noisy, clean[:count]))
        first, second, *further = noisy.split(count)
        batch = dict(view_1=first, view_2=second, clean=clean)
        if further:
            batch["further_views"] = torch.stack(further, 1)
        batch["channel_mask"] = conditions.channel_mask.expand(count, -1).clone()
        batch["sample_mask"] = conditions.sample_mask.expand(count, -1).clone()
        batch["labels"] = units + LABEL_STRIDE * number
        if self.config.channel_mixing == "position":
            batch["channel_positions"] = conditions.positions.expand(count, -1, -1).clone()
        return batch

    def _draw_conditions(self, library: TemplateLibrary, generator: torch.Generator) -> RecordingConditions:
        """Conditions of one recording."""
        return draw_conditions(library, self.config, self.recipe, generator)

    def _draw_noise(
        self, library: TemplateLibrary, conditions: RecordingConditions, generator: torch.Generator
    ) -> Tensor:
        """Noise segment (num_samples, num_channels) of one recording, in uV."""
        recipe = self.recipe
        chance, choice = torch.rand(2, generator=generator).tolist()
        is_measured = chance < recipe.measured_noise_probability
        if is_measured and choice < recipe.noise_segment_share:
            fitting = [each for each in self.noise_segments if each.shape[1] == len(library.positions)]
            if fitting:
                index = int(choice / recipe.noise_segment_share * len(fitting))
                return fitting[index] * conditions.noise_gain
        segment = draw_noise_segment(
            library.positions,
            conditions.response,
            library.sampling_frequency,
            generator,
            measured=self.measured_noise if is_measured else None,
            settings=self.noise_settings,
        )
        return segment * conditions.noise_uv

    def _draw_gains(self, bursting: Tensor, conditions: RecordingConditions, generator: torch.Generator) -> Tensor:
        """Amplitude of each spike relative to its template (num_spikes,)."""
        recipe, count = self.recipe, len(bursting)
        jitter = 1 + recipe.gain_jitter * torch.randn(count, generator=generator)
        shrink = aug.uniform(*recipe.bursting_gain, (count,), generator)
        return conditions.gain * torch.where(bursting, jitter * shrink, jitter)

    def _draw_spikes(
        self,
        library: TemplateLibrary,
        units: Tensor,
        views: Tensor,
        gain: Tensor,
        conditions: RecordingConditions,
        noise: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Noisy spikes and their clean versions (num_spikes, num_samples, library channels), in uV."""
        recipe, config, count = self.recipe, self.config, len(units)
        clean = self._filter(library, units, views, gain, conditions, generator)
        noisy = clean.clone()
        colliding = (torch.rand(count, generator=generator) < recipe.collision_probability).nonzero()[:, 0]
        if len(colliding):
            others = torch.randint(len(library.waveforms), (len(colliding),), generator=generator)
            sizes = conditions.gain * aug.uniform(*recipe.collision_gain, (len(colliding),), generator)
            added = self._filter(library, others, 0 * others, sizes, conditions, generator)
            low, high = (int(ms * 1e-3 * library.sampling_frequency) for ms in recipe.collision_lag_ms)
            noisy[colliding] = aug.add_at_lags(noisy[colliding], added, lag_range=(low, high), generator=generator)
        start = library.peak_index - config.peak_index - REACH
        length = config.num_samples + 2 * REACH
        noisy, clean = noisy[:, start : start + length], clean[:, start : start + length]
        noisy = noisy + cut_snippets(noise, count, length, generator)
        if conditions.step_uv > 0:
            noisy = torch.round(noisy / conditions.step_uv) * conditions.step_uv
        # As a detector does, the snippet is centred on the trough of the noisy spike.
        rows = aug.crop_at_trough(
            noisy,
            around=config.peak_index + REACH,
            reach=REACH - MAX_MISALIGNMENT,
            before=config.peak_index,
            num_samples=config.num_samples,
        )
        rows = (rows + self._draw_misalignment(count, conditions, generator)[:, None]).clamp(0, length - 1)
        rows = rows[:, :, None].expand(-1, -1, clean.shape[2])
        return torch.gather(noisy, 1, rows), torch.gather(clean, 1, rows)

    def _filter(
        self,
        library: TemplateLibrary,
        units: Tensor,
        views: Tensor,
        gain: Tensor,
        conditions: RecordingConditions,
        generator: torch.Generator,
    ) -> Tensor:
        """Templates (num_spikes, library samples, channels) after the filters and the sampling of the recording."""
        waves = library.waveforms[units, views].float() * gain[:, None, None]
        delay = aug.uniform(-0.5, 0.5, (len(units),), generator)
        spectra = torch.fft.rfft(waves, dim=1) * conditions.response(waves.shape[1])[None, :, None]
        return torch.fft.irfft(aug.shift(spectra, delay), n=waves.shape[1], dim=1)

    def _draw_misalignment(self, count: int, conditions: RecordingConditions, generator: torch.Generator) -> Tensor:
        """Misalignment of each snippet in samples (num_spikes,): larger where the recording's sampling rate is low."""
        off = torch.rand(count, generator=generator) < self.recipe.misalignment_probability
        one = off * (2 * torch.randint(0, 2, (count,), generator=generator) - 1)
        coarse = aug.uniform(-0.5, 0.5, (count,), generator) * (conditions.rate_ratio - 1)
        return (one + coarse.round().long()).clamp(-MAX_MISALIGNMENT, MAX_MISALIGNMENT)


def join_recordings(parts: Sequence[dict[str, Tensor]], negatives: str) -> dict[str, Tensor]:
    """Make one batch of several recordings.

    Parameters
    ----------
    parts : list of dict of torch.Tensor
        From :meth:`ViewMaker.draw_recording`, with the same number of views; the numbers of channels may differ.
    negatives : {"recording", "batch"}
        As in :class:`ViewRecipe`. With "recording" the batch says which recording each unit is of.

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
