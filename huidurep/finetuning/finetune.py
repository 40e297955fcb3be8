"""`huidurep.finetune`: own recordings, or spikes with labels -> a checkpoint for them, if an acceptance test passes."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..output_files import check_output_folder, new_folder
from .settings import DEFAULT_SETTINGS, FinetuningSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike
    from spikeinterface import BaseRecording, BaseSorting

    from ..models.modeling_huidurep import HuiduRep
    from ..pipeline import SpikeSortingPipeline
    from ..training.dataset import BatchMaker
    from .embedding_evaluation import HeldOutSpikes
    from .template_resampling import RecordingWindow

logger = logging.getLogger(__name__)
DESCRIPTION = ("sampling_frequency", "peak_index", "peak_sign", "channel_positions")  # as HuiduRep.embed takes them


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
        posterior_entropy, short_isi_fraction, and sorting_accuracy of recordings resampled from the units. Of labelled
        spikes only the first.
    gain, tolerance : float
        Improvement of the figures, and the largest change that counts as none.
    source : str
        The checkpoint that was fine-tuned.
    recordings : list of dict
        Numbers of units and spikes of each recording, or of the labelled spikes.
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


def finetune(  # noqa: PLR0913 - the data, where they go, and how it is done
    recordings: BaseRecording | Sequence[BaseRecording] | None = None,
    *,
    output_dir: str | Path,
    waveforms: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    model: str | Path | HuiduRep = "auto",
    sortings: BaseSorting | Sequence[BaseSorting | None] | None = None,
    steps: int = 200,
    seed: int = 0,
    job_kwargs: dict[str, Any] | None = None,
    settings: FinetuningSettings | None = None,
    **described: Any,
) -> FinetuneReport:
    """Fine-tune a checkpoint on the user's recordings, or on spikes with labels, and test whether it improved.

    Of recordings the last quarter is held out; the rest is sorted, new spikes of its confident units are trained on.
    Of labelled spikes a third of each unit is held out. Half of each batch is simulated on the same contacts.

    Parameters
    ----------
    recordings : BaseRecording or list of BaseRecording, optional
        Raw, of one kind of probe; a minute or more in all.
    output_dir : str or Path
        New or empty folder for weights, configuration, sorting parameters, finetuning.json and a model card.
    waveforms : array_like (num_spikes, num_samples, num_channels), optional
        Instead of recordings: spikes in uV, band-passed.
    labels : array_like (num_spikes,), optional
        Their units, numbers or words; spikes labelled -1, None, NaN or "" are left out.
    model : str, Path or HuiduRep, default "auto"
        As in `huidurep.sort`.
    sortings : BaseSorting or list of BaseSorting or None, optional
        Curated units of each recording, used instead of sorting it; those with the quality "noise" are left out.
    steps, seed : int
        Steps of the optimizer; same seed, same weights.
    job_kwargs, settings : dict, FinetuningSettings, optional
        As in `huidurep.sort`; tuned numbers of all steps, for benchmarks.
    **described
        Of the waveforms, as in `HuiduRep.embed`: sampling_frequency, peak_index, peak_sign, channel_positions.

    Returns
    -------
    FinetuneReport
        The folder has the new weights only if they are better, otherwise the old ones.

    Raises
    ------
    TypeError, ValueError
        Unsuitable recordings or waveforms, or too few spikes or units.
    FileExistsError, OSError, ImportError
        The folder is not empty; no such checkpoint, or the disk is full; the packages of the extra `train` are missing.
    """
    options = _Options(Path(output_dir), steps, seed, job_kwargs, settings or DEFAULT_SETTINGS)
    _check_choice(recordings, waveforms, labels, sortings, described)
    with new_folder(output_dir) as folder:
        if recordings is not None:
            material = _from_recordings(recordings, sortings, model, options)
        else:
            material = _from_spikes(waveforms, labels, model, described, options)
        return _train_and_test(material, options, folder)


@dataclass(frozen=True)
class _Options:
    """What recordings and spikes have in common."""

    output_dir: Path
    steps: int
    seed: int
    job_kwargs: dict[str, Any] | None
    settings: FinetuningSettings
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Refuse options that are impossible, a folder in use, and missing packages."""
        for package in ("accelerate", "pandas"):
            if importlib.util.find_spec(package) is None:
                raise ImportError(f'expected the package {package}, found none; pip install "huidurep[train]"')
        for name, value, lowest in (("steps", self.steps, 1), ("seed", self.seed, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"expected {name} to be a whole number from {lowest} on, found {value!r}; change it")
        check_output_folder(self.output_dir)


@dataclass(frozen=True)
class _Material:
    """A model, what draws its training examples, and what evaluates it on held-out data."""

    model: HuiduRep
    source: dict[str, Any]
    maker: BatchMaker
    score: Callable[[HuiduRep], dict[str, Any]]
    described: list[dict[str, Any]]
    num_units: dict[str, int]
    draws_overlap: bool = False


def _train_and_test(material: _Material, options: _Options, folder: Path) -> FinetuneReport:
    """Train, evaluate, and write the checkpoint into `folder`, which becomes the output folder."""
    from ..sorting.job_kwargs import resolve_job_kwargs
    from .checkpoint_folder import write_checkpoint
    from .embedding_evaluation import BETTER, decide_outcome
    from .train import train

    settings, model = options.settings, material.model
    before = material.score(model)
    trained, losses = train(
        model,
        material.maker,
        folder / "run",
        steps=options.steps,
        seed=options.seed,
        progress=resolve_job_kwargs(options.job_kwargs)["progress_bar"],
        settings=settings.training,
    )
    shutil.rmtree(folder / "run", ignore_errors=True)  # no file of the Trainer belongs to the checkpoint
    after = material.score(trained)
    outcome, gain, tolerance = decide_outcome(
        before, after, settings.embedding_evaluation, draws_overlap=material.draws_overlap
    )
    is_kept = outcome == BETTER or settings.keep_trained_weights
    share = settings.training.simulated_share
    report = FinetuneReport(
        folder=options.output_dir,
        outcome=outcome,
        weights="new" if is_kept else "old",
        before=before,
        after=after,
        gain=gain,
        tolerance=tolerance,
        source=material.source["name"],
        recordings=material.described,
        settings=dict(steps=options.steps, seed=options.seed, simulated_share=share, **material.num_units),
        seconds=round(time.perf_counter() - options.started, 1),
    )
    write_checkpoint(folder, trained if is_kept else model, _facts(report, losses), material.source)
    return report


def _from_recordings(
    recordings: BaseRecording | Sequence[BaseRecording],
    sortings: BaseSorting | Sequence[BaseSorting | None] | None,
    model: str | Path | HuiduRep,
    options: _Options,
) -> _Material:
    """Sort the recordings, unless there are sortings, and resample their units."""
    from .checkpoint_folder import source_of
    from .embedding_evaluation import EmbeddingEvaluation
    from .sorting_evaluation import SortingEvaluation
    from .train import hold_out_units, make_maker

    seed, settings = options.seed, options.settings
    recordings, sortings = _check_recordings(recordings, sortings, settings)
    pipeline, name = _open(model, recordings, seed)
    config, source = pipeline.model.config, source_of(name, pipeline.model)
    windows, real_spikes, described = _read(pipeline, recordings, sortings, options)
    trained, held_out = hold_out_units(windows, seed, settings.training)
    maker = make_maker(windows, config, units=trained, seed=seed, settings=settings)
    embeddings = EmbeddingEvaluation(
        windows, config, trained, held_out, real_spikes=real_spikes, seed=seed, settings=settings
    )
    sorting = SortingEvaluation(windows, pipeline.parameters, seed, settings, options.job_kwargs)
    return _Material(
        pipeline.model,
        source,
        maker,
        score=lambda encoder: embeddings.score(encoder) | sorting.score(encoder),
        described=described,
        num_units=dict(held_out_units=len(held_out), trained_units=len(trained)),
    )


def _from_spikes(
    waveforms: Any,
    labels: Any,
    model: str | Path | HuiduRep,
    described: dict[str, Any],
    options: _Options,
) -> _Material:
    """Hold out spikes of each unit; the others are trained on as they are."""
    from .checkpoint_folder import source_of
    from .labelled_spikes import LabelledEvaluation, LabelledSpikeMaker, contacts_of, read_labelled_spikes
    from .train import add_simulated

    encoder, name = _open_encoder(model, contacts_of(waveforms, described))
    config, seed, settings = encoder.config, options.seed, options.settings
    spikes = read_labelled_spikes(waveforms, labels, config, described, seed=seed, settings=settings.labelled_spikes)
    logger.info("%s", spikes.description)
    return _Material(
        encoder,
        source_of(name, encoder),
        add_simulated(LabelledSpikeMaker(spikes), spikes.layouts, config, seed=seed, settings=settings.training),
        score=LabelledEvaluation(spikes, seed, settings).score,
        described=[spikes.description],
        num_units=dict(held_out_units=0, trained_units=spikes.description["num_units"]),
        draws_overlap=True,
    )


def _check_choice(recordings: Any, waveforms: Any, labels: Any, sortings: Any, described: dict[str, Any]) -> None:
    """Refuse recordings and waveforms together, neither, and what does not fit the one that was given."""
    from_spikes = waveforms is not None and labels is not None
    given = dict(recordings=recordings, sortings=sortings, waveforms=waveforms, labels=labels)
    names = [name for name, value in given.items() if value is not None]
    expected = (["waveforms", "labels"],) if from_spikes else (["recordings"], ["recordings", "sortings"])
    if names not in expected:
        raise ValueError(
            f"expected recordings (and sortings), or waveforms with labels, found {' and '.join(names) or 'neither'}; "
            "give one or the other"
        )
    unknown = described.keys() - (DESCRIPTION if from_spikes else ())
    if unknown:
        fits = f"among {', '.join(DESCRIPTION)}" if from_spikes else "none: a recording has them"
        raise TypeError(f"expected options of the waveforms {fits}, found {', '.join(sorted(unknown))}; correct it")


def _read(
    pipeline: SpikeSortingPipeline,
    recordings: Sequence[BaseRecording],
    sortings: Sequence[BaseSorting | None],
    options: _Options,
) -> tuple[list[RecordingWindow], list[HeldOutSpikes], list[dict[str, Any]]]:
    """Windows, held-out spikes and descriptions of all recordings."""
    from .recording_data import read_recording_data

    settings = options.settings
    windows: list[RecordingWindow] = []
    real_spikes: list[HeldOutSpikes] = []
    described: list[dict[str, Any]] = []
    for number, (recording, sorting) in enumerate(zip(recordings, sortings, strict=True)):
        data = read_recording_data(
            recording,
            sorting,
            pipeline,
            number=number,
            seed=options.seed + number,
            settings=settings,
            job_kwargs=options.job_kwargs,
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
    num_late = sum(
        (sorting.get_unit_spike_train(unit, segment_index=segment) >= recording.get_num_samples(segment)).sum()
        for unit in sorting.unit_ids
        for segment in range(sorting.get_num_segments())
    )
    if num_late:  # a few are usual: sorters pad the end of the recording
        logger.warning("%d spikes are after the end of their recording: is the sorting one of it?", num_late)


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
    """The pipeline that sorts, and the name of its checkpoint."""
    from ..hub.select import resolve_auto
    from ..pipeline import SpikeSortingPipeline
    from ..sorting.parameters import SortingParameters

    positions = _group_positions(recordings[0])
    if isinstance(model, str | Path):
        name = str(model)
        if name == "auto":
            name, reason = resolve_auto(positions)
            logger.info("auto: checkpoint %s, %s", name, reason)
        pipeline = SpikeSortingPipeline.from_pretrained(name, seed=seed, device="cpu")
    else:
        pipeline = SpikeSortingPipeline(model, SortingParameters(seed=seed))
        name = pipeline.model_name or ""
    config = pipeline.model.config
    num_contacts = max(map(len, positions), default=0)
    if config.channel_mixing != "position" and num_contacts > config.num_channels:
        raise ValueError(
            f"expected a probe of at most {config.num_channels} contacts a group, found {num_contacts}: the model "
            f"{name!r} identifies channels by their number; fine-tune 'base', which accepts any probe"
        )
    return pipeline, name


def _open_encoder(model: str | Path | HuiduRep, positions_um: np.ndarray) -> tuple[HuiduRep, str]:
    """The encoder of waveforms on these contacts (num_channels, 2), and the name of its checkpoint."""
    from ..hub.select import resolve_auto
    from ..models.modeling_huidurep import HuiduRep

    if isinstance(model, str | Path):
        name = str(model)
        if name == "auto":
            name, reason = resolve_auto([positions_um])
            logger.info("auto: checkpoint %s, %s", name, reason)
        encoder = HuiduRep.from_pretrained(name)
    else:
        encoder, name = model, str(model.name_or_path or "")
    return encoder, name


def _facts(report: FinetuneReport, losses: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of finetuning.json."""
    from ..provenance import current_commit, versions

    curve = [{name: each[name] for name in ("step", "loss") if name in each} for each in losses if "loss" in each]
    facts = report.to_dict() | dict(commit=current_commit(), versions=versions(), losses=curve)
    facts.pop("folder")  # it may be moved
    return facts
