"""`huidurep.finetune`: recordings of the user's own probe -> a checkpoint for them, if an acceptance test passes."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settings import DEFAULT_SETTINGS, FinetuningSettings

if TYPE_CHECKING:
    from spikeinterface import BaseRecording, BaseSorting

    from ..models.modeling_huidurep import HuiduRep
    from ..pipeline import SpikeSortingPipeline
    from .embedding_evaluation import HeldOutSpikes
    from .template_resampling import RecordingWindow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneReport:
    """Result of a fine-tuning and of its acceptance test.

    Attributes
    ----------
    folder : Path
        The checkpoint, complete whatever the outcome; `huidurep.sort(recording, model=folder)` uses it.
    outcome : str
        "better", "same" or "worse", as `huidurep.finetuning.embedding_evaluation.decide_outcome` decides.
    weights : str
        "new" if the outcome is "better"; otherwise "old": the folder then has the weights of `source`.
    before, after : dict of str to float
        Figures on held-out spikes and time: adjusted_rand_index, agreement_of_halves, agreement_under_noise,
        posterior_entropy, short_isi_fraction, and sorting_accuracy of recordings resampled from the units.
    gain, tolerance : float
        Improvement of the figures, and the largest change that counts as none.
    source : str
        The checkpoint that was fine-tuned.
    recordings : list of dict
        Numbers of units and spikes of each recording.
    settings : dict
    seconds : float
    """

    folder: Path
    outcome: str
    weights: str
    before: dict[str, Any]
    after: dict[str, Any]
    gain: float
    tolerance: float
    source: str
    recordings: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON.

        Returns
        -------
        dict
        """
        return {**asdict(self), "folder": str(self.folder)}

    def __str__(self) -> str:
        from .embedding_evaluation import DETAILS

        lines = [
            f"{self.outcome} than {self.source}" if self.outcome != "same" else f"the same as {self.source}",
            *[
                f"  {name}: {self.before[name]:.3f} -> {self.after[name]:.3f}"
                for name in self.before
                if name not in DETAILS
            ],
            f"  gain {self.gain:+.3f}, tolerance {self.tolerance:.3f}; {self.seconds:.0f} s",
        ]
        if self.weights == "old":
            lines.append("  the folder has the old weights: the new ones are not better on held-out spikes")
        return "\n".join(lines)


def finetune(
    recordings: BaseRecording | Sequence[BaseRecording],
    *,
    output_dir: str | Path,
    model: str | Path | HuiduRep = "auto",
    sortings: BaseSorting | Sequence[BaseSorting | None] | None = None,
    steps: int = 200,
    seed: int = 0,
    job_kwargs: dict[str, Any] | None = None,
    settings: FinetuningSettings = DEFAULT_SETTINGS,
) -> FinetuneReport:
    """Fine-tune a checkpoint on the user's own recordings, without labels, and test whether it improved.

    The last quarter of every recording is held out. The rest is sorted with the checkpoint; confident units give
    templates, and the time between spikes gives noise. The encoder is trained, as in the pretraining, on new spikes of
    these units and on units that are simulated on the same contacts. A fifth of 8 or more units is not trained on.

    Parameters
    ----------
    recordings : BaseRecording or list of BaseRecording
        Raw, of one kind of probe; a minute or more in all.
    output_dir : str or Path
        New or empty folder for weights, configuration, sorting parameters, finetuning.json and a model card.
    model : str, Path or HuiduRep, default "auto"
        As in `huidurep.sort`.
    sortings : BaseSorting or list of BaseSorting or None, optional
        Curated units of each recording, used instead of sorting it.
    steps : int, default 200
        Of the optimizer.
    seed : int, default 0
        Same seed, same weights.
    job_kwargs : dict, optional
        As in `huidurep.sort`.
    settings : FinetuningSettings, optional

    Returns
    -------
    FinetuneReport
        The folder has the new weights only if they are better, otherwise the old ones.

    Raises
    ------
    TypeError, ValueError
        Unsuitable recordings, recordings of different kinds, or too few spikes or units.
    FileExistsError
        The folder is not empty.
    ImportError
        The packages of the extra `train` are missing.
    OSError
        The disk is full, or there is no such checkpoint.
    """
    from ..output_files import check_output_folder, new_folder

    _check_options(steps=steps, seed=seed)
    check_output_folder(output_dir)
    recordings, sortings = _check_recordings(recordings, sortings, settings)
    with new_folder(output_dir) as folder:
        pipeline, name = _open(model, recordings, seed)
        finetuning = _Finetuning(pipeline, name, steps, seed, job_kwargs, settings)
        return finetuning.run(recordings, sortings, folder=folder, output_dir=Path(output_dir))


@dataclass(frozen=True)
class _Finetuning:
    """One fine-tuning: the pipeline and the options that all its steps share."""

    pipeline: SpikeSortingPipeline
    name: str
    steps: int
    seed: int
    job_kwargs: dict[str, Any] | None
    settings: FinetuningSettings

    def run(
        self,
        recordings: Sequence[BaseRecording],
        sortings: Sequence[BaseSorting | None],
        *,
        folder: Path,
        output_dir: Path,
    ) -> FinetuneReport:
        """Train, evaluate, and write the checkpoint into `folder`, which becomes `output_dir`."""
        from ..sorting.job_kwargs import resolve_job_kwargs
        from .checkpoint_folder import source_of, write_checkpoint
        from .embedding_evaluation import BETTER, EmbeddingEvaluation, decide_outcome
        from .sorting_evaluation import SortingEvaluation
        from .train import hold_out_units, make_maker, train

        started, seed, settings, model = time.perf_counter(), self.seed, self.settings, self.pipeline.model
        source = source_of(self.name, model)
        windows, real_spikes, described = self._read(recordings, sortings)
        trained_units, held_out = hold_out_units(windows, seed, settings.training)
        maker = make_maker(windows, model.config, units=trained_units, seed=seed, settings=settings)
        embeddings = EmbeddingEvaluation(
            windows, model.config, trained_units, held_out, real_spikes=real_spikes, seed=seed, settings=settings
        )
        sorting = SortingEvaluation(windows, self.pipeline.parameters, seed, settings, self.job_kwargs)
        before = embeddings.score(model) | sorting.score(model)
        trained, losses = train(
            model,
            maker,
            folder / "run",
            steps=self.steps,
            seed=seed,
            progress=resolve_job_kwargs(self.job_kwargs)["progress_bar"],
            settings=settings.training,
        )
        shutil.rmtree(folder / "run", ignore_errors=True)  # no file of the Trainer belongs to the checkpoint
        after = embeddings.score(trained) | sorting.score(trained)
        outcome, gain, tolerance = decide_outcome(before, after, settings.embedding_evaluation)
        is_kept = outcome == BETTER or settings.keep_trained_weights
        report = FinetuneReport(
            folder=output_dir,
            outcome=outcome,
            weights="new" if is_kept else "old",
            before=before,
            after=after,
            gain=gain,
            tolerance=tolerance,
            source=source["name"],
            recordings=described,
            settings=dict(
                steps=self.steps,
                seed=seed,
                simulated_share=settings.training.simulated_share,
                held_out_units=len(held_out),
                trained_units=len(trained_units),
            ),
            seconds=round(time.perf_counter() - started, 1),
        )
        logger.info("%s", report)
        write_checkpoint(folder, trained if is_kept else model, _facts(report, losses), source)
        return report

    def _read(
        self, recordings: Sequence[BaseRecording], sortings: Sequence[BaseSorting | None]
    ) -> tuple[list[RecordingWindow], list[HeldOutSpikes], list[dict[str, Any]]]:
        """Windows, held-out spikes and descriptions of all recordings."""
        from .recording_data import read_recording_data

        settings = self.settings
        windows: list[RecordingWindow] = []
        real_spikes: list[HeldOutSpikes] = []
        described: list[dict[str, Any]] = []
        for number, (recording, sorting) in enumerate(zip(recordings, sortings, strict=True)):
            data = read_recording_data(
                recording,
                sorting,
                self.pipeline,
                number=number,
                seed=self.seed + number,
                settings=settings,
                job_kwargs=self.job_kwargs,
            )
            windows += data.windows
            real_spikes += data.held_out
            described.append(data.description)
            logger.info("recording %d of %d: %s", number + 1, len(recordings), data.description)
        most = max((len(window.unit_ids) for window in windows), default=0)
        num_units, num_found, num_spikes = (
            sum(each[name] for each in described) for name in ("num_units", "num_units_found", "num_spikes")
        )
        if num_units < settings.min_units or num_spikes < settings.min_total_spikes or most < 2:
            raise ValueError(
                f"expected at least {settings.min_units} confident units with {settings.min_total_spikes} spikes in "
                f"all, {settings.reading.min_spikes} or more each, found {num_units} of {num_found} units with "
                f"{num_spikes} spikes; give more or longer recordings, or curated sortings"
            )
        return windows, real_spikes, described


def _check_options(*, steps: int, seed: int) -> None:
    """Refuse options that are impossible, and missing packages."""
    for package in ("accelerate", "pandas"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f'expected the package {package}, found none; pip install "huidurep[train]"')
    for name, value, lowest in (("steps", steps, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise ValueError(f"expected {name} to be a whole number from {lowest} on, found {value!r}; change it")


def _check_recordings(
    recordings: BaseRecording | Sequence[BaseRecording],
    sortings: BaseSorting | Sequence[BaseSorting | None] | None,
    settings: FinetuningSettings,
) -> tuple[list[BaseRecording], list[BaseSorting | None]]:
    """Lists of recordings and of their sortings (or None)."""
    from ..sorting.parameters import SortingParameters
    from .recording_data import check_parameters

    recordings = list(recordings) if isinstance(recordings, list | tuple) else [recordings]
    if not recordings:
        raise ValueError("expected at least one recording, found none; give one")
    for recording in recordings:
        check_parameters(SortingParameters(), recording)
    kinds = sorted({max(map(len, _group_positions(recording)), default=0) for recording in recordings})
    if len(kinds) > 1:
        raise ValueError(
            f"expected recordings of one kind of probe, found channel groups of {kinds} contacts; fine-tune a "
            "checkpoint for each kind"
        )
    seconds = sum(recording.get_total_duration() for recording in recordings)
    if seconds < settings.recommended_s:
        logger.warning("%.0f s of recording: %.0f s or more are recommended", seconds, settings.recommended_s)
    if sortings is None:
        return recordings, [None] * len(recordings)
    sortings = list(sortings) if isinstance(sortings, list | tuple) else [sortings]
    if len(sortings) != len(recordings):
        raise ValueError(
            f"expected one sorting for each of {len(recordings)} recordings, found {len(sortings)}; give None for a "
            "recording without a sorting"
        )
    for recording, sorting in zip(recordings, sortings, strict=True):
        _check_sorting(recording, sorting)
    return recordings, sortings


def _check_sorting(recording: BaseRecording, sorting: BaseSorting | None) -> None:
    if sorting is None:
        return
    if not hasattr(sorting, "to_spike_vector"):
        raise TypeError(f"expected a SpikeInterface sorting, found {type(sorting).__name__}; spikeinterface.load it")
    ours, theirs = recording.get_sampling_frequency(), sorting.get_sampling_frequency()
    if abs(ours - theirs) > 1e-3 * ours or sorting.get_num_segments() > recording.get_num_segments():
        raise ValueError(
            f"expected a sorting of this recording ({ours:g} Hz, {recording.get_num_segments()} segments), found one "
            f"of {theirs:g} Hz and {sorting.get_num_segments()} segments; give each recording its own"
        )


def _group_positions(recording: BaseRecording) -> list[Any]:
    """Contact positions (num_channels, 2) in um of each channel group."""
    from ..sorting.parameters import SortingParameters
    from ..sorting.preprocessing import split_groups
    from ..sorting.run_log import RunLog

    groups = split_groups(recording, SortingParameters(), RunLog())
    return [group.recording.get_channel_locations() for group in groups]


def _open(
    model: str | Path | HuiduRep, recordings: Sequence[BaseRecording], seed: int
) -> tuple[SpikeSortingPipeline, str]:
    """The pipeline that sorts, and the name of its checkpoint.

    It does not adapt the encoder to each recording, because the encoder that sorts is the one that is fine-tuned.
    """
    from ..hub.select import resolve_auto
    from ..pipeline import SpikeSortingPipeline
    from ..sorting.parameters import SortingParameters

    positions = _group_positions(recordings[0])
    if isinstance(model, str | Path):
        name = str(model)
        if name == "auto":
            name, reason = resolve_auto(positions)
            logger.info("auto: checkpoint %s, %s", name, reason)
        pipeline = SpikeSortingPipeline.from_pretrained(name, seed=seed, adapt=False)
    else:
        pipeline = SpikeSortingPipeline(model, SortingParameters(seed=seed, adapt=False))
        name = pipeline.model_name or ""
    config = pipeline.model.config
    if config.adapter:
        raise ValueError(
            f"expected a checkpoint without an adapter, found {name or 'a model'!r}, which HuiduRep.adapt made; "
            "fine-tune the checkpoint it came from"
        )
    num_contacts = max(map(len, positions), default=0)
    if config.channel_mixing != "position" and num_contacts > config.num_channels:
        raise ValueError(
            f"expected a probe of at most {config.num_channels} contacts a group, found {num_contacts}: the model "
            f"{name!r} identifies channels by their number; fine-tune 'base', which accepts any probe"
        )
    return pipeline, name


def _facts(report: FinetuneReport, losses: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of finetuning.json."""
    from ..provenance import current_commit, versions

    curve = [{name: each[name] for name in ("step", "loss") if name in each} for each in losses if "loss" in each]
    facts = report.to_dict() | dict(commit=current_commit(), versions=versions(), losses=curve)
    facts.pop("folder")  # it may be moved
    return facts
