"""Template resampling: spikes cut from a recording -> libraries of its templates and noise -> batches of new spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..models.input_contract import resampling_matrix
from ..training.dataset import TemplateLibrary
from ..training.noise import SEGMENT_SAMPLES
from ..training.recording_conditions import RecordingConditions
from ..training.views import REACH, ViewMaker, ViewRecipe, join_recordings
from .settings import DEFAULT_SETTINGS, ResamplingSettings

if TYPE_CHECKING:
    from ..models.configuration_huidurep import HuiduRepConfig
    from .labelled_spikes import LabelledSpikeMaker

RESAMPLING = DEFAULT_SETTINGS.resampling
UnitKey = tuple[int, Any]  # (number of the recording, unit id)


@dataclass(frozen=True)
class RecordingWindow:
    """Spikes of known units and the noise between them, on the contacts of one snippet.

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
        Between spikes of the time that is trained on, and of the held-out time. uV.
    collision_probability : float
        Share of spikes with another spike in their snippet.
    recording : int, default 0
        Number of the recording.
    rates_hz : list of float, optional
        Firing rate of each unit, because `waveforms` has only a sample of the spikes of frequent units.
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


class RecordedLibrary(TemplateLibrary):
    """Templates and noise of the user's own recording, filtered and sampled as it is.

    Parameters
    ----------
    waveforms, positions, peak_index, sampling_frequency
        As in TemplateLibrary.
    noise_segments : list of ndarray (num_samples, num_channels)
        Noise, uV.
    rate_ratio : float
        Sampling rate of the library against that of the recording.
    """

    def __init__(
        self,
        waveforms: Any,
        positions: np.ndarray,
        peak_index: int,
        sampling_frequency: float,
        *,
        noise_segments: Sequence[np.ndarray],
        rate_ratio: float,
    ) -> None:
        super().__init__(waveforms, positions, peak_index, sampling_frequency, kind="recorded")
        self.noise_segments = [torch.as_tensor(each, dtype=torch.float32) for each in noise_segments]
        self.rate_ratio = max(1.0, rate_ratio)

    def draw_neighbours(self, count: int, group_size: int, generator: torch.Generator) -> Tensor:
        """Draw units as TemplateLibrary does; if there are fewer, some are drawn several times, with the same label.

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


class RecordedViewMaker(ViewMaker):
    """Draws spikes of RecordedLibraries, which are filtered already, in the noise of their own recording."""

    libraries: Sequence[RecordedLibrary]

    def _draw_conditions(self, library: TemplateLibrary, generator: torch.Generator) -> RecordingConditions:
        conditions = super()._draw_conditions(library, generator)
        assert isinstance(library, RecordedLibrary)
        return replace(conditions, response=_unfiltered, rate_ratio=library.rate_ratio)

    def _draw_noise(
        self, library: TemplateLibrary, conditions: RecordingConditions, generator: torch.Generator
    ) -> Tensor:
        assert isinstance(library, RecordedLibrary)
        if not library.noise_segments:  # spikes so dense that there is no noise between them
            return super()._draw_noise(library, conditions, generator)
        index = int(torch.randint(len(library.noise_segments), (1,), generator=generator))
        return library.noise_segments[index] * conditions.noise_gain


class MixedViewMaker:
    """Draws batches of which some recordings are the user's and the others simulated.

    Parameters
    ----------
    recorded, simulated : ViewMaker or LabelledSpikeMaker, ViewMaker
        With the same number of views of a unit. `simulated` None: all recordings are the user's.
    simulated_share : float
        Share of the recordings.
    """

    def __init__(
        self, recorded: ViewMaker | LabelledSpikeMaker, simulated: ViewMaker | None, simulated_share: float
    ) -> None:
        self.recorded, self.simulated, self.simulated_share = recorded, simulated, simulated_share

    def draw(self, num_units: int, generator: torch.Generator) -> dict[str, Tensor]:
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
        recipe, simulated = self.recorded.recipe, self.simulated
        chances = torch.rand(recipe.num_recordings, generator=generator).tolist()
        count = num_units // recipe.num_recordings
        parts = []
        for chance in chances:
            maker = simulated if simulated is not None and chance < self.simulated_share else self.recorded
            parts.append(maker.draw_recording(count, generator))
        return join_recordings(parts, recipe.negatives)


def template_window(config: HuiduRepConfig, settings: ResamplingSettings = RESAMPLING) -> tuple[int, int]:
    """Length of the templates of a recorded library.

    Parameters
    ----------
    config : HuiduRepConfig
    settings : ResamplingSettings, optional

    Returns
    -------
    num_before, num_samples : int
        Before the trough and in all, at the contract's rate.
    """
    before, after = (
        round(ms * 1e-3 * config.sampling_frequency) for ms in (settings.extra_before_ms, settings.extra_after_ms)
    )
    num_before = config.peak_index + REACH + before
    num_samples = num_before + config.num_samples - config.peak_index + REACH + after
    return num_before, num_samples + num_samples % 2


def make_recorded_libraries(
    windows: Sequence[RecordingWindow],
    config: HuiduRepConfig,
    *,
    units: set[UnitKey] | None = None,
    held_out: bool = False,
    settings: ResamplingSettings = RESAMPLING,
) -> list[RecordedLibrary]:
    """Make one template library of all windows of a recording that have the same contacts.

    Parameters
    ----------
    windows : list of RecordingWindow
    config : HuiduRepConfig
    units : set of (int, object), optional
        (recording, unit id) of the units to use; all by default.
    held_out : bool, default False
        Use the noise of the held-out time.
    settings : ResamplingSettings, optional

    Returns
    -------
    list of RecordedLibrary
        Without those that have no unit.
    """
    libraries = []
    alike: dict[tuple[int, bytes], list[RecordingWindow]] = {}
    for window in windows:
        places = window.positions_um - window.positions_um[:1]
        alike.setdefault((window.recording, np.round(places, 1).tobytes()), []).append(window)
    for group in alike.values():
        waveforms = [views for window in group for views in _templates(window, config, units, settings)]
        if not waveforms:
            continue
        rate, ratio = config.sampling_frequency, config.sampling_frequency / group[0].sampling_frequency
        noises = [window.held_out_noise if held_out else window.noise for window in group]
        segments = [segment for noise in noises for segment in _noise_segments(noise, ratio)]
        positions, num_before = group[0].positions_um - group[0].positions_um[:1], template_window(config, settings)[0]
        libraries.append(
            RecordedLibrary(waveforms, positions, num_before, rate, noise_segments=segments, rate_ratio=ratio)
        )
    return libraries


def measure_recipe(
    windows: Sequence[RecordingWindow], settings: ResamplingSettings = RESAMPLING, **changes: Any
) -> ViewRecipe:
    """Recipe of spikes under the conditions of these recordings: their collisions, noise and amplitudes.

    Parameters
    ----------
    windows : list of RecordingWindow
    settings : ResamplingSettings, optional
    **changes
        Fields of ViewRecipe.

    Returns
    -------
    ViewRecipe
    """
    jitters = [gain_jitter(window, spikes) for window in windows for spikes in window.waveforms]
    collisions = np.mean([each.collision_probability for each in windows])
    # 10 uV where spikes are so dense that there is no noise between them
    noise_uv = max(1e-3, float(np.median([each.noise.std() if len(each.noise) else 10.0 for each in windows])))
    measured = dict(
        gain_jitter=float(np.clip(np.median(jitters), *settings.gain_jitter)),
        collision_probability=float(np.clip(collisions, *settings.collision_probability)),
        noise_uv=(noise_uv, noise_uv),
        recording_gain=(0.9, 1.1),
    )
    # The recording itself has its bursts, channels, window, positions, rate and converter.
    names = ("bursting", "truncation", "missing", "nominal", "low_rate", "quantised")
    none = {f"{name}_probability": 0.0 for name in names}
    return ViewRecipe(**{**measured, **none, **changes})


def _unfiltered(num_samples: int) -> Tensor:
    return torch.ones(num_samples // 2 + 1)


def _templates(
    window: RecordingWindow, config: HuiduRepConfig, units: set[UnitKey] | None, settings: ResamplingSettings
) -> Iterator[np.ndarray]:
    """Views (num_views, num_samples, num_channels) of each unit, at the contract's rate and faded at their ends."""
    num_before, num_samples = template_window(config, settings)
    wanted: Any = SimpleNamespace(
        num_samples=num_samples, peak_index=num_before, sampling_frequency=config.sampling_frequency
    )
    weights = fade(num_samples, config.sampling_frequency, settings.fade_ms)[:, None]
    for unit_id, spikes, times_s in zip(window.unit_ids, window.waveforms, window.times_s, strict=True):
        if units is not None and (window.recording, unit_id) not in units:
            continue
        matrix, _ = resampling_matrix(spikes.shape[1], window.peak_index, window.sampling_frequency, wanted)
        yield np.matmul(matrix, unit_views(spikes, times_s, settings)) * weights


def unit_views(spikes: np.ndarray, times_s: np.ndarray, settings: ResamplingSettings = RESAMPLING) -> np.ndarray:
    """Mean waveforms of a unit: of all spikes, then of time bins (drift), each in halves by amplitude.

    Amplitudes are projections of the whole waveform on the unit's mean, which vary less with noise than a peak does.

    Parameters
    ----------
    spikes : ndarray (num_spikes, num_samples, num_channels)
    times_s : ndarray (num_spikes,)
    settings : ResamplingSettings, optional

    Returns
    -------
    ndarray (num_views, num_samples, num_channels) float32
        With few spikes there are fewer means, which are repeated.
    """
    gains, minimum = _gains(spikes), 2 * settings.spikes_per_view
    num_bins = int(np.clip(len(spikes) // minimum, 1, settings.num_time_bins))
    views = [spikes.mean(0)]
    for rows in np.array_split(np.argsort(times_s, kind="stable"), num_bins):
        by_gain = rows[np.argsort(gains[rows], kind="stable")]
        halves = np.array_split(by_gain, 2) if len(rows) >= minimum else [rows]
        views += [spikes[half].mean(0) for half in halves]
    further = [views[1 + index % (len(views) - 1)] for index in range(settings.num_views - 1)]
    return np.array(views[:1] + further, np.float32)


def _gains(spikes: np.ndarray) -> np.ndarray:
    """Amplitude of each spike relative to the unit's mean (num_spikes,)."""
    template = spikes.mean(0)
    return np.tensordot(spikes, template, 2) / max(float((template**2).sum()), 1e-12)


def gain_jitter(window: RecordingWindow, spikes: np.ndarray) -> float:
    """Standard deviation of a unit's amplitude, without the contribution of the noise.

    Parameters
    ----------
    window : RecordingWindow
        Of whose noise the contribution is measured.
    spikes : ndarray (num_spikes, num_samples, num_channels)

    Returns
    -------
    float
        Relative to the unit's mean.
    """
    template, num_samples = spikes.mean(0), spikes.shape[1]
    count = len(window.noise) // num_samples
    noise = window.noise[: count * num_samples].reshape(count, num_samples, window.noise.shape[1])
    of_noise = np.tensordot(noise, template, 2) / max(float((template**2).sum()), 1e-12)
    gains = _gains(spikes)
    # A robust variance (median absolute deviation): collisions change amplitudes, too.
    variance = (1.4826 * np.median(np.abs(gains - np.median(gains)))) ** 2
    return np.sqrt(max(variance - (of_noise.var() if count > 1 else 0.0), 0.0))


def fade(num_samples: int, rate: float, fade_ms: float = RESAMPLING.fade_ms) -> np.ndarray:
    """Weights that rise from 0 and fall to 0 again, so that a template that is added to traces causes no step.

    Parameters
    ----------
    num_samples : int
    rate : float
        Hz.
    fade_ms : float, optional

    Returns
    -------
    ndarray (num_samples,) float32
    """
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, max(2, int(fade_ms * 1e-3 * rate))))
    weights = np.ones(num_samples, np.float32)
    weights[: len(ramp)] = ramp
    weights[-len(ramp) :] = ramp[::-1]
    return weights


def _noise_segments(noise: np.ndarray, ratio: float) -> list[np.ndarray]:
    """Segments of about SEGMENT_SAMPLES of noise (num_samples, num_channels), at a rate `ratio` times as high."""
    from scipy.signal import resample

    if len(noise) * ratio < SEGMENT_SAMPLES / 8:
        return []
    noise = noise if ratio == 1 else resample(noise, int(len(noise) * ratio), axis=0)
    return np.array_split(noise.astype(np.float32), max(1, len(noise) // SEGMENT_SAMPLES))
