"""The command ``huidurep sort``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..provenance import peak_memory_mb
from .inputs import check_output, read_recording
from .options import (
    AsJson,
    AutoModel,
    DetectionMethod,
    Device,
    MatchingMethod,
    NumJobs,
    PeakSign,
    Progress,
    RecordingOptions,
    Seed,
    SortingPreset,
    complete_motion,
    with_recording_options,
)
from .output import is_terminal, only_results_on_stdout, print_result, stage_bar

Input = Annotated[Path, typer.Argument(metavar="INPUT", help="What spikeinterface.load reads, or raw binary.")]
Output = Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write, new or empty.")]
NumUnits = Annotated[int | None, typer.Option(min=1, help="Number of units in each channel group; default: estimated.")]
Detection = Annotated[DetectionMethod | None, typer.Option(help="Spike detection method.")]
DetectThreshold = Annotated[
    float | None, typer.Option(help="Detection threshold, in noise levels (median absolute deviation / 0.6745).")
]
DetectedSign = Annotated[PeakSign | None, typer.Option(help="Sign of the peaks that are detected.")]
UnitThreshold = Annotated[
    float | None, typer.Option(help="Smallest median amplitude of a unit's detected spikes, in noise levels.")
]
MergeBias = Annotated[float | None, typer.Option(help="Above 0: more units are merged; below 0: more are split.")]
Matching = Annotated[MatchingMethod | None, typer.Option(help="Template matching method; none: no template matching.")]
Motion = Annotated[
    str | None,
    typer.Option(
        help="Motion correction: auto, none, a preset of SpikeInterface, or the folder of a saved Motion.",
        autocompletion=complete_motion,
    ),
]
Preset = Annotated[SortingPreset | None, typer.Option(help="paper: the clustering of the paper; needs --num-units.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the stages that an interrupted run left in OUTPUT.stages.")
]
logger = logging.getLogger(__name__)


@with_recording_options
def sort(
    input_path: Input,
    output: Output,
    recording_options: RecordingOptions,
    model: AutoModel = "auto",
    seed: Seed = 0,
    num_units: NumUnits = None,
    detection: Detection = None,
    detect_threshold: DetectThreshold = None,
    peak_sign: DetectedSign = None,
    unit_threshold: UnitThreshold = None,
    merge_bias: MergeBias = None,
    matching: Matching = None,
    motion: Motion = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    n_jobs: NumJobs = 1,
    device: Device = "auto",
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Sort a recording into a folder of units.

    INPUT is a folder or file that spikeinterface.load reads, or a file of raw samples (time x channel), which needs
    --sampling-frequency, --num-channels and --dtype. spikeinterface.load opens OUTPUT, also after it is moved.
    """
    parameters: dict[str, Any] = dict(
        seed=seed, num_units=num_units, detection=detection, detect_threshold=detect_threshold
    )
    parameters |= dict(peak_sign=peak_sign, unit_threshold=unit_threshold, merge_bias=merge_bias, matching=matching)
    parameters |= dict(motion=motion, preset=preset)
    # an option that is not given leaves the parameter to the checkpoint
    parameters = {name: value for name, value in parameters.items() if value is not None}
    parameters |= {name: None for name in ("matching", "motion") if parameters.get(name) == "none"}
    check_output(output, overwrite=overwrite, input_path=input_path)
    stages_folder = output.absolute().with_name(f"{output.absolute().name}.stages")
    recording = read_recording(input_path, recording_options)

    from huidurep import SpikeSortingPipeline
    from huidurep.sorting.saved_stages import remove_stages

    job_kwargs: dict[str, Any] = dict(n_jobs=n_jobs, progress_bar=progress and is_terminal())
    started = time.perf_counter()
    bar = stage_bar(is_shown=job_kwargs["progress_bar"])
    with only_results_on_stdout(), _name_stages_left(stages_folder), bar as show_stage:
        pipeline = SpikeSortingPipeline.from_pretrained(model, device=device, **parameters)
        kept: dict[str, Any] = dict(stages_folder=stages_folder, resume=resume)
        result = pipeline(recording, job_kwargs=job_kwargs, progress=show_stage, **kept)
        result.save(output, overwrite=overwrite)
    remove_stages(stages_folder)
    seconds = round(time.perf_counter() - started, 1)
    facts: dict[str, Any] = {"output": output, **_summarize(result, recording), "seconds": seconds}
    facts |= {"peak_memory_mb": round(peak_memory_mb(workers=n_jobs > 1))}
    text = (
        "{num_units} units, {num_good_units} good{names}, {num_spikes} spikes from {duration_s:.1f} s of "
        "{num_channels} channels with model {model} in {seconds} s, peak memory {peak_memory_mb} MiB -> {output}\n"
        "next: huidurep report {output}"
    )
    print_result(text.format(**facts, names=_name_some(facts["good_units"])), facts, as_json=as_json)


@contextmanager
def _name_stages_left(folder: Path) -> Iterator[None]:
    """Say after Ctrl-C and after an error of the system, such as a full disk, what --resume can go on from."""
    try:
        yield
    except (KeyboardInterrupt, OSError, MemoryError):
        if folder.exists():
            logger.warning("finished stages are in %s: the same command with --resume goes on from them", folder)
        raise


def _summarize(result, recording) -> dict:
    good = result.sorting.unit_ids[result.sorting.get_property("quality") == "good"].tolist()
    return {
        "num_units": len(result.sorting.unit_ids),
        "num_good_units": len(good),
        "good_units": good,
        "num_spikes": len(result.posteriors),
        "duration_s": recording.get_total_duration(),
        "num_channels": recording.get_num_channels(),
        "model": result.model_name,
    }


def _name_some(units: list, most: int = 20) -> str:
    """Names of units in brackets, for a line of text: the first ones where there are many."""
    shown = [str(unit) for unit in units[:most]] + [f"{len(units) - most} more"] * (len(units) > most)
    return f" ({', '.join(shown)})" if units else ""
