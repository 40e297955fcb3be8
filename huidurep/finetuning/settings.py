"""Settings of fine-tuning, one class a step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """Settings of :func:`huidurep.finetuning.recording_data.read_recording_data`.

    Parameters
    ----------
    held_out_share : float
        Share of the time of every segment, at its end, that is held out.
    min_spikes, min_posterior, min_snr, max_short_isi_fraction : int, float, float, float
        A confident unit has at least `min_spikes` spikes with a posterior of at least `min_posterior`, which are at
        least half of its spikes, a signal-to-noise ratio of at least `min_snr`, and at most `max_short_isi_fraction`
        of its inter-spike intervals below 1.5 ms.
    max_spikes_per_unit, max_units, max_windows, max_held_out_spikes : int
        Maximum numbers of spikes of a unit, units and windows of a channel group, and held-out spikes of a window.
    noise_s : float
        Seconds of noise of a window.
    crossfade_ms : float
        Noise segments are cross-faded over this time.
    min_quiet_ms : float
        Shortest noise segment.
    spike_before_ms, spike_after_ms : float
        Time around the trough of a spike that is no noise.
    search_ms : float
        Maximum distance of the trough of a unit's mean waveform from its spike times.
    collision_ms : float
        Spikes nearer than this collide.
    """

    held_out_share: float = 0.25
    min_spikes: int = 40
    min_posterior: float = 0.8
    min_snr: float = 4.0
    max_short_isi_fraction: float = 0.05
    max_spikes_per_unit: int = 300
    max_units: int = 120
    max_windows: int = 12
    max_held_out_spikes: int = 2500
    noise_s: float = 4.0
    crossfade_ms: float = 0.5
    min_quiet_ms: float = 3.0
    spike_before_ms: float = 1.0
    spike_after_ms: float = 2.0
    search_ms: float = 0.5
    collision_ms: float = 2.0


@dataclass(frozen=True, kw_only=True)
class ResamplingSettings:
    """Settings of template resampling, :mod:`huidurep.finetuning.template_resampling`.

    Parameters
    ----------
    extra_before_ms, extra_after_ms : float
        Length of a template beside the views: for collisions, and for the fade.
    fade_ms : float
        Templates rise from 0 and fall to 0 over this time.
    num_time_bins : int
        Maximum number of time bins, each with mean waveforms of its own (drift).
    spikes_per_view : int
        Minimum number of spikes of a mean waveform.
    gain_jitter, collision_probability : tuple of float
        Range to which the measured values are clipped.
    """

    extra_before_ms: float = 1.3
    extra_after_ms: float = 2.0
    fade_ms: float = 1.0
    num_time_bins: int = 3
    spikes_per_view: int = 25
    gain_jitter: tuple[float, float] = (0.02, 0.2)
    collision_probability: tuple[float, float] = (0.1, 0.5)

    @property
    def num_views(self) -> int:
        """Mean waveforms of a unit: of all spikes, and two for each time bin."""
        return 2 * self.num_time_bins + 1


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of the training, :mod:`huidurep.finetuning.train`.

    Parameters
    ----------
    simulated_share : float
        Share of the recordings of a batch whose units are simulated on the same contacts, so that the encoder does not
        forget what it was pretrained on.
    num_simulated_windows, num_simulated_units : int
        Maximum number of sets of contacts with simulated units, and units on each.
    held_out_share, min_units_to_hold_out : float, int
        Share of the units that is not trained on, if there are at least `min_units_to_hold_out`.
    batch_size : int
        Units in a batch.
    learning_rate, weight_decay, max_grad_norm, lr_scheduler_type, logging_steps
        As in transformers.TrainingArguments.

    Raises
    ------
    ValueError
        If `simulated_share` is negative or not below 1.
    """

    simulated_share: float = 0.5
    num_simulated_windows: int = 3
    num_simulated_units: int = 64
    held_out_share: float = 0.2
    min_units_to_hold_out: int = 8
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    lr_scheduler_type: str = "cosine"
    logging_steps: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.simulated_share < 1:
            raise ValueError(
                f"expected simulated_share from 0 to below 1, found {self.simulated_share!r}; at 1 nothing would be "
                "learned from the recordings"
            )


@dataclass(frozen=True, kw_only=True)
class LabelledSpikesSettings:
    """Settings of :func:`huidurep.finetuning.labelled_spikes.read_labelled_spikes`.

    Parameters
    ----------
    held_out_share : float
        Share of the spikes of each unit that is held out.
    min_spikes : int
        Units with fewer spikes on the same channels are left out.
    """

    held_out_share: float = 1 / 3
    min_spikes: int = 30


@dataclass(frozen=True, kw_only=True)
class UnsupervisedEvaluationSettings:
    """Settings of :func:`huidurep.finetuning.unsupervised_evaluation.score_embeddings`.

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
        Factor of the recording's own noise that is added to the spikes.
    """

    num_dimensions: int = 12
    max_components: int = 12
    spikes_per_component: int = 20
    num_repeats: int = 5
    short_isi_ms: float = 1.5
    noise_gain: float = 0.5


@dataclass(frozen=True, kw_only=True)
class EmbeddingEvaluationSettings:
    """Settings of :class:`huidurep.finetuning.embedding_evaluation.EmbeddingEvaluation`.

    Parameters
    ----------
    num_draws, units_per_draw, spikes_per_unit : int
        Sets of resampled spikes, and the size of each.
    num_starts : int
        Fits of each mixture, of which the best is used.
    unsupervised : UnsupervisedEvaluationSettings
        Of the label-free figures.
    min_gain : float
        Smaller changes of the embeddings count as none.
    max_accuracy_decrease : float
        Smaller decreases of the sorting accuracy count as none.
    """

    num_draws: int = 8
    units_per_draw: int = 10
    spikes_per_unit: int = 100
    num_starts: int = 3
    unsupervised: UnsupervisedEvaluationSettings = UnsupervisedEvaluationSettings()
    min_gain: float = 0.005
    max_accuracy_decrease: float = 0.01


@dataclass(frozen=True, kw_only=True)
class SortingEvaluationSettings:
    """Settings of :class:`huidurep.finetuning.sorting_evaluation.SortingEvaluation`.

    Parameters
    ----------
    num_recordings, duration_s : int, float
        Resampled recordings, and the length of each.
    min_rate_hz : float
        Lowest firing rate of a unit: with fewer spikes it would be missed whatever the encoder.
    max_total_rate_hz : float
        Maximum firing rate of all units together.
    refractory_ms : float
        Of the spike trains that are drawn.
    delta_time_ms : float
        Maximum distance of a sorted from a true spike.
    """

    num_recordings: int = 4
    duration_s: float = 45.0
    min_rate_hz: float = 1.0
    max_total_rate_hz: float = 100.0
    refractory_ms: float = 2.0
    delta_time_ms: float = 0.4


@dataclass(frozen=True, kw_only=True)
class FinetuningSettings:
    """Settings of :func:`huidurep.finetune`.

    Parameters
    ----------
    reading, resampling, labelled_spikes, training, embedding_evaluation, sorting_evaluation
        Of the steps.
    min_units, min_total_spikes : int
        Minimum numbers of confident units and of their spikes.
    recommended_s : float
        Shorter recordings cause a warning.
    keep_trained_weights : bool
        Write the trained weights even if they are not better, as benchmarks do.
    """

    reading: ReadingSettings = ReadingSettings()
    resampling: ResamplingSettings = ResamplingSettings()
    labelled_spikes: LabelledSpikesSettings = LabelledSpikesSettings()
    training: TrainingSettings = TrainingSettings()
    embedding_evaluation: EmbeddingEvaluationSettings = EmbeddingEvaluationSettings()
    sorting_evaluation: SortingEvaluationSettings = SortingEvaluationSettings()
    min_units: int = 3
    min_total_spikes: int = 200
    recommended_s: float = 60.0
    keep_trained_weights: bool = False


DEFAULT_SETTINGS = FinetuningSettings()
