"""`huidurep.finetune`: recordings of a lab's own probe -> a checkpoint for them, which has to prove itself."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)
MIN_UNITS, MIN_TOTAL_SPIKES = 3, 200
RECOMMENDED_S = 60.0
DEFAULT_STEPS = 200


@dataclass(frozen=True)
class FinetuneReport:
    """What fine-tuning did and whether it helped.

    Attributes
    ----------
    folder : Path
        The checkpoint, whole whatever the verdict; `huidurep.sort(recording, model=folder)` uses it.
    verdict : str
        "better", "same" or "worse", by the rule of `huidurep.finetuning.embedding_evaluation.judge`.
    weights : str
        "new" where the verdict is "better"; else "old": weights that have not proved themselves are not handed out.
    before, after : dict of str to float
        Figures on held-out spikes and time: adjusted_rand_index, agreement_of_halves, agreement_under_noise,
        posterior_entropy, refractory_violations, and sorting_accuracy of recordings resampled from the units.
    gain, tolerance : float
        What the verdict compares.
    source : str
        The checkpoint that was fine-tuned.
    recordings : list of dict
        What each recording gave.
    settings : dict
    seconds : float
    """

    folder: Path
    verdict: str
    weights: str
    before: dict
    after: dict
    gain: float
    tolerance: float
    source: str
    recordings: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict:
        """The report as plain values, ready for JSON.

        Returns
        -------
        dict
        """
        return {**asdict(self), "folder": str(self.folder)}

    def __str__(self):
        """A few lines for people."""
        from .embedding_evaluation import DETAILS

        lines = [
            f"{self.verdict} than {self.source}" if self.verdict != "same" else f"the same as {self.source}",
            *[
                f"  {name}: {self.before[name]:.3f} -> {self.after[name]:.3f}"
                for name in self.before
                if name not in DETAILS
            ],
            f"  gain {self.gain:+.3f}, tolerance {self.tolerance:.3f}; {self.seconds:.0f} s",
        ]
        if self.weights == "old":
            lines.append("  the folder has the old weights: the new ones were not better on what was held out")
        return "\n".join(lines)


def finetune(
    recordings,
    *,
    output_dir,
    model="auto",
    sortings=None,
    steps=DEFAULT_STEPS,
    seed=0,
    method="resampling",
    simulated_share=0.5,
):
    """Fine-tune a checkpoint on a lab's own recordings, without labels, and find out whether it helped.

    The last quarter of every recording is held out. The rest is sorted with the checkpoint; confident units give
    templates (at several times and amplitudes) and the time between spikes gives noise. New spikes of these units, with
    collisions, train the encoder as in the pretraining, mixed with units simulated on the same contacts. A fifth of the
    units is not trained on, where there are 8 or more.

    Parameters
    ----------
    recordings : BaseRecording or list of BaseRecording
        Raw, of one kind of probe; a minute or more in all.
    output_dir : str or Path
        New or empty. Gets weights, configuration, sorting parameters, finetuning.json and a card when all is done.
    model : str, Path or HuiduRep, default "auto"
        As in `huidurep.sort`.
    sortings : BaseSorting or list of BaseSorting or None, optional
        Curated units of each recording, instead of those that are found.
    steps : int, default 200
    seed : int, default 0
        Same seed, same weights.
    method : {"resampling", "self-supervised"}
        The second, for comparison, takes distortions of the recording's spikes and knows no units.
    simulated_share : float, default 0.5
        Share of the batches that is simulated, so that nothing is forgotten.

    Returns
    -------
    FinetuneReport
        Also written to finetuning.json. Only where the new weights are better does the folder have them; else it has
        the old ones.

    Raises
    ------
    TypeError, ValueError
        Recordings that cannot be used or differ in kind, too few spikes or units; the sentence says what to change.
    FileExistsError
        The folder is in use.
    OSError
        The disk is full, or no such checkpoint; nothing is written.
    """
    from ..output_files import check_output_folder, new_folder

    settings = _check_settings(steps=steps, seed=seed, method=method, simulated_share=simulated_share)
    check_output_folder(output_dir)
    recordings, sortings = _check_recordings(recordings, sortings)
    with new_folder(output_dir) as folder:
        pipeline, name = _open(model, recordings, seed)
        return _finetune(pipeline, name, recordings, sortings, settings, folder=folder, output_dir=Path(output_dir))


def _finetune(pipeline, name, recordings, sortings, settings, *, folder, output_dir):
    """Train, prove, and write everything into `folder`."""
    from ..sorting.job_kwargs import resolve_job_kwargs
    from .checkpoint_folder import source_of, write_checkpoint
    from .embedding_evaluation import BETTER, Proof, judge
    from .sorting_evaluation import SortingExamination
    from .train import hold_out_units, make_maker, train

    started, seed, config = time.perf_counter(), settings["seed"], pipeline.model.config
    source = source_of(name, pipeline.model)
    windows, real_spikes, described = _read(recordings, sortings, pipeline, seed)
    trained_units, held_out = hold_out_units(windows, seed)
    options = {key: settings[key] for key in ("method", "simulated_share", "seed")}
    maker = make_maker(windows, config, units=trained_units, **options)
    proof = Proof(windows, config, trained_units, held_out, real_spikes=real_spikes, seed=seed)
    sortings = SortingExamination(windows, pipeline.parameters, seed)
    before = proof.score(pipeline.model) | sortings.score(pipeline.model)
    options = dict(steps=settings["steps"], seed=seed, disable_tqdm=not resolve_job_kwargs(None)["progress_bar"])
    trained, losses = train(pipeline.model, maker, folder / "run", **options)
    shutil.rmtree(folder / "run", ignore_errors=True)  # the Trainer wrote nothing of use there
    after = proof.score(trained) | sortings.score(trained)
    verdict, gain, tolerance = judge(before, after)
    report = FinetuneReport(
        folder=output_dir,
        verdict=verdict,
        weights="new" if verdict == BETTER else "old",
        before=before,
        after=after,
        gain=gain,
        tolerance=tolerance,
        source=source["name"],
        recordings=described,
        settings={**settings, "held_out_units": len(held_out), "trained_units": len(trained_units)},
        seconds=round(time.perf_counter() - started, 1),
    )
    logger.info("%s", report)
    kept = pipeline.model if report.weights == "old" else trained
    write_checkpoint(folder, kept, _facts(report, losses), source)
    return report


def _check_settings(*, steps, seed, method, simulated_share):
    from .train import METHODS

    for package in ("accelerate", "pandas"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f'expected the package {package}, found none; pip install "huidurep[train]"')
    for name, value, lowest in (("steps", steps, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise ValueError(f"expected {name} to be a whole number from {lowest} on, found {value!r}; change it")
    if method not in METHODS:
        raise ValueError(f"expected method to be one of {METHODS}, found {method!r}; choose one of them")
    if not 0 <= simulated_share < 1:
        raise ValueError(
            f"expected simulated_share from 0 to below 1, found {simulated_share!r}; at 1 nothing would be learned "
            "from the recordings"
        )
    return dict(steps=steps, seed=seed, method=method, simulated_share=float(simulated_share))


def _check_recordings(recordings, sortings):
    """Lists of recordings and sortings (or None) that belong together."""
    from ..sorting.parameters import SortingParameters
    from .recording_data import check_parameters

    recordings = list(recordings) if isinstance(recordings, list | tuple) else [recordings]
    if not recordings:
        raise ValueError("expected at least one recording, found none; give one")
    for recording in recordings:
        check_parameters(SortingParameters(), recording)
    kinds = sorted({_largest_group(recording) for recording in recordings})
    if len(kinds) > 1:
        raise ValueError(
            f"expected recordings of one kind of probe, found channel groups of {kinds} contacts; fine-tune a "
            "checkpoint for each kind"
        )
    seconds = sum(recording.get_total_duration() for recording in recordings)
    if seconds < RECOMMENDED_S:
        logger.warning("%.0f s of recording: a minute or more is recommended", seconds)
    if sortings is None:
        return recordings, [None] * len(recordings)
    sortings = list(sortings) if isinstance(sortings, list | tuple) else [sortings]
    if len(sortings) != len(recordings):
        raise ValueError(
            f"expected one sorting a recording ({len(recordings)}), found {len(sortings)}; give None for a recording "
            "that has none"
        )
    for recording, sorting in zip(recordings, sortings, strict=True):
        _check_sorting(recording, sorting)
    return recordings, sortings


def _check_sorting(recording, sorting):
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


def _largest_group(recording):
    """Contacts of the largest channel group."""
    groups = _groups(recording)
    return max((group.recording.get_num_channels() for group in groups), default=0)


def _groups(recording):
    from ..sorting.parameters import SortingParameters
    from ..sorting.preprocessing import split_groups
    from ..sorting.run_log import RunLog

    return split_groups(recording, SortingParameters(), RunLog())


def _open(model, recordings, seed):
    """The pipeline that sorts, and the name of its checkpoint.

    It does not adapt: what sorts is what is fine-tuned, and takes no more seconds than it has to.
    """
    from ..hub.select import choose_checkpoint
    from ..pipeline import SpikeSortingPipeline
    from ..sorting.parameters import SortingParameters

    if isinstance(model, str | Path):
        name = str(model)
        if name == "auto":
            groups = _groups(recordings[0])
            largest = max((each.recording for each in groups), key=lambda each: each.get_num_channels(), default=None)
            name, reason = choose_checkpoint(None if largest is None else largest.get_channel_locations())
            logger.info("auto: checkpoint %s, %s", name, reason)
        pipeline = SpikeSortingPipeline.from_pretrained(name, seed=seed, adapt=False)
    else:
        pipeline = SpikeSortingPipeline(model, SortingParameters(seed=seed, adapt=False))
        name = pipeline.model_name or ""
    config = pipeline.model.config
    if config.adapter:
        raise ValueError(
            f"expected a checkpoint that is adapted to no recording, found {name or 'a model'!r}, which HuiduRep.adapt "
            "gave; fine-tune the checkpoint it came from"
        )
    contacts = _largest_group(recordings[0])
    if config.channel_mixing != "position" and contacts > config.num_channels:
        raise ValueError(
            f"expected a probe of at most {config.num_channels} contacts a group, found {contacts}: the model {name!r} "
            "tells its channels apart by their number; fine-tune 'base', which takes any probe"
        )
    return pipeline, name


def _read(recordings, sortings, pipeline, seed):
    """Windows, held-out spikes and descriptions of all recordings."""
    from .recording_data import MIN_SPIKES, read_lab_data

    windows, real_spikes, described = [], [], []
    for number, (recording, sorting) in enumerate(zip(recordings, sortings, strict=True)):
        data = read_lab_data(recording, sorting, pipeline, number=number, seed=seed + number)
        windows += data.windows
        real_spikes += data.held_out
        described.append(data.description)
        logger.info("recording %d of %d: %s", number + 1, len(recordings), data.description)
    most = max((len(window.unit_ids) for window in windows), default=0)
    num_units, num_found, num_spikes = (
        sum(each[name] for each in described) for name in ("num_units", "num_units_found", "num_spikes")
    )
    if num_units < MIN_UNITS or num_spikes < MIN_TOTAL_SPIKES or most < 2:
        raise ValueError(
            f"expected at least {MIN_UNITS} confident units with {MIN_TOTAL_SPIKES} spikes in all, {MIN_SPIKES} or "
            f"more each, found {num_units} of {num_found} units with {num_spikes} spikes; give more or longer "
            "recordings, or curated sortings"
        )
    return windows, real_spikes, described


def _facts(report, losses):
    """For finetuning.json."""
    from ..provenance import current_commit, versions

    curve = [{name: each[name] for name in ("step", "loss") if name in each} for each in losses if "loss" in each]
    facts = report.to_dict() | dict(commit=current_commit(), versions=versions(), losses=curve)
    facts.pop("folder")  # it may be moved
    return facts
