"""Settings of the adaptation of an encoder to one recording."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of the label-free evaluation and of the acceptance test.

    Parameters
    ----------
    num_dimensions : int
        Principal components of the embeddings in which mixtures are fitted.
    max_components, spikes_per_component : int
        Maximum number of components of a mixture, and the number of spikes of a half for each of them.
    num_repeats : int
        Fits of each mixture; a single fit depends more on its start than on the embeddings.
    short_isi_ms : float
        Inter-spike intervals below this are short.
    noise_gain : float
        Factor of the recording's own residuals that are added to the spikes.
    max_noise_decrease, max_halves_decrease : float
        Decrease of ``agreement_under_noise`` and of ``agreement_of_halves`` that is still accepted: what chance alone
        causes.
    """

    num_dimensions: int = 12
    max_components: int = 12
    spikes_per_component: int = 20
    num_repeats: int = 5
    short_isi_ms: float = 1.5
    noise_gain: float = 0.5
    max_noise_decrease: float = 0.02
    max_halves_decrease: float = 0.1


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """Settings of :func:`huidurep.adaptation.adapt.adapt`.

    Parameters
    ----------
    min_spikes, min_training_spikes, max_spikes : int
        With fewer spikes than the first nothing is adapted, with fewer than the second only the linear adapter is
        fitted, because pseudo-units are too small to train on; of more than the last, a random sample is used.
    held_out_share : float
        Share of the spikes that is used for the acceptance test only.
    num_steps, warmup_steps : int
        Optimizer steps in all and of the linear warm-up; the learning rate then follows a cosine.
    batch_spikes, max_batch_units, min_views : int
        Spikes of a batch, maximum number of its pseudo-units, and the minimum number of spikes of each.
    learning_rate : float
    collision_probability, max_collision_lag_ms : float
        Share of spikes to which another one is added, and its maximum lag.
    num_components : int
        Principal components of the waveforms that are joined with the embeddings, by the linear adapter and to find
        pseudo-units.
    waveform_weight : float
        Standard deviation of these components, relative to that of the embeddings.
    num_dimensions : int
        Principal components of both together that are kept.
    min_unit_spikes, min_confident_spikes : int
        Minimum number of spikes of a pseudo-unit, and of those with a posterior above `min_posterior`: training on
        fewer learns their noise.
    min_posterior : float
    evaluation : EvaluationSettings
    """

    min_spikes: int = 100
    min_training_spikes: int = 300
    max_spikes: int = 4000
    held_out_share: float = 0.25
    num_steps: int = 60
    warmup_steps: int = 5
    batch_spikes: int = 192
    max_batch_units: int = 24
    min_views: int = 4
    learning_rate: float = 3e-4
    collision_probability: float = 0.2
    max_collision_lag_ms: float = 1.5
    num_components: int = 24
    waveform_weight: float = 0.7
    num_dimensions: int = 12
    min_unit_spikes: int = 25
    min_confident_spikes: int = 10
    min_posterior: float = 0.9
    evaluation: EvaluationSettings = EvaluationSettings()


DEFAULT_SETTINGS = AdaptationSettings()
DEFAULT_EVALUATION = EvaluationSettings()
