"""The command line: ``huidurep sort | embed | report | convert | finetune | pretrain | simulate | list | ...``.

Everything heavy is imported inside the commands, so that ``huidurep --help`` answers at once.
"""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli.convert import add_convert
from huidurep.cli.errors import OneSentenceErrors
from huidurep.cli.finetune import add_finetune
from huidurep.cli.hub import add_hub
from huidurep.cli.inputs import check_output, check_writable, load_array, read_recording
from huidurep.cli.options import (
    AsJson,
    AutoModel,
    Detection,
    GainToUv,
    NumChannels,
    OffsetToUv,
    Preset,
    ProbeFile,
    Progress,
    SampleType,
    SamplingFrequency,
    complete_matching,
    complete_model,
    complete_motion,
)
from huidurep.cli.output import is_watched, only_results_on_stdout, print_json, stage_bar, start_logging, tell_result
from huidurep.cli.pretrain import add_pretrain
from huidurep.cli.report import add_report
from huidurep.cli.simulate import simulate_app
from huidurep.output_files import new_file

app = typer.Typer(
    name="huidurep",
    cls=OneSentenceErrors,
    help="Spike sorting with pretrained spike representations.",
    epilog="Each command has its own help: huidurep sort --help. --debug, --verbose and --log-file may also stand "
    "after the command. Exit codes: 0 done, 1 something failed, 2 the input or the usage can be mended, 130 "
    "interrupted; OUTPUT is written whole or not at all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Output = Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.", metavar="OUTPUT")]
Model = Annotated[
    str,
    typer.Option(help="Embedded checkpoint, checkpoint folder or Hub repository.", autocompletion=complete_model),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from huidurep import __version__

        typer.echo(f"huidurep {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what each stage does.")] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add the whole log, versions and tracebacks to a file.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # SpikeInterface warns that what is saved does not carry what it was made from: OUTPUT is meant to stand alone.
    warnings.filterwarnings("ignore", message="The extractor is not serializable")
    warnings.filterwarnings("ignore", message="The recording registered to this sorting")
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    ctx.call_on_close(start_logging(level, log_file))


@app.command()
def sort(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT", help="What spikeinterface.load reads, or raw binary.")],
    output: Output,
    model: AutoModel = "auto",
    seed: Seed = 0,
    num_units: Annotated[int | None, typer.Option(min=1, help="Units a channel group; default: found.")] = None,
    detect_threshold: Annotated[float | None, typer.Option(help="Smallest trough, in noise levels.")] = None,
    unit_threshold: Annotated[float | None, typer.Option(help="Smallest median trough of a unit.")] = None,
    merge_bias: Annotated[float | None, typer.Option(help="Above 0 merges more, below 0 splits more.")] = None,
    matching: Annotated[
        str | None, typer.Option(help="wobble, tdc-peeler, circus-omp or none.", autocompletion=complete_matching)
    ] = None,
    motion: Annotated[
        str | None, typer.Option(help="auto, none, a preset or a Motion's folder.", autocompletion=complete_motion)
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Train on the recording's spikes, if that helps.")] = False,
    detection: Detection = None,
    preset: Preset = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")] = False,
    n_jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    progress: Progress = True,
    as_json: AsJson = False,
    sampling_frequency: SamplingFrequency = None,
    num_channels: NumChannels = None,
    dtype: SampleType = None,
    gain_to_uv: GainToUv = None,
    offset_to_uv: OffsetToUv = None,
    probe: ProbeFile = None,
) -> None:
    """Sort a recording into a folder of units.

    INPUT is a folder or file that spikeinterface.load reads, or a file of raw samples (time x channel), which needs
    --sampling-frequency, --num-channels and --dtype. spikeinterface.load opens OUTPUT, wherever it is moved.
    """
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    check_output(output, overwrite=overwrite, input_path=input_path)
    check_writable(output.absolute().parent)  # an earlier result is replaced, not written into
    recording = read_recording(input_path, raw, gain_to_uv, offset_to_uv, probe)
    given = dict(num_units=num_units, detect_threshold=detect_threshold, merge_bias=merge_bias, matching=matching)
    given |= dict(unit_threshold=unit_threshold, motion=motion, seed=seed, adapt=adapt or None)
    given |= dict(detection=detection, preset=preset)
    given = {name: value for name, value in given.items() if value is not None}
    given |= {name: None for name in ("matching", "motion") if given.get(name) == "none"}

    import spikeinterface

    from huidurep import SpikeSortingPipeline

    is_shown = progress and is_watched()
    spikeinterface.set_global_job_kwargs(n_jobs=n_jobs, progress_bar=is_shown)
    started = time.perf_counter()
    with only_results_on_stdout(), stage_bar(is_shown=is_shown) as show:
        result = SpikeSortingPipeline.from_pretrained(model, **given)(recording, progress=show)
        result.save(output, overwrite=overwrite)
    facts = {"output": output, **_describe(result, recording), "seconds": round(time.perf_counter() - started, 1)}
    sentence = (
        "{num_units} units, {num_spikes} spikes from {duration_s:.1f} s of {num_channels} channels with model {model} "
        "in {seconds} s -> {output}"
    )
    tell_result(sentence.format(**facts), facts, as_json=as_json)


def _describe(result, recording) -> dict:
    """A sorting in a few numbers."""
    return {
        "num_units": len(result.sorting.unit_ids),
        "num_good_units": int((result.sorting.get_property("quality") == "good").sum()),
        "num_spikes": len(result.posteriors),
        "duration_s": recording.get_total_duration(),
        "num_channels": recording.get_num_channels(),
        "model": result.model_name,
    }


@app.command()
def embed(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT", help=".npy, or .npz with an array 'waveforms'.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="File .npy to write.")],
    model: Model = "tetrode",
    sampling_frequency: Annotated[float, typer.Option(help="Hz.")] = 30000.0,
    peak_index: Annotated[int | None, typer.Option(help="Sample of the peak; default: found.")] = None,
    channel_positions: Annotated[Path | None, typer.Option(help=".npy (num_channels, 2), um.")] = None,
    denoise: Annotated[bool, typer.Option("--denoise", help="Clean each snippet with the decoder first.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Snippets at a time.")] = 1024,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT.")] = False,
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Embed spike waveforms.

    INPUT holds waveforms (num_spikes, num_samples, num_channels) in uV; OUTPUT gets one float32 row a spike.
    """
    if output.suffix != ".npy":
        raise ValueError(f"expected an OUTPUT ending in .npy, found {output.name!r}: rename it.")
    if output.exists() and not overwrite:
        raise FileExistsError(f"expected a new file, found {output}: name another OUTPUT or pass --overwrite.")
    check_writable(output.absolute().parent)
    import numpy as np

    waveforms = load_array(input_path, "waveforms")
    positions = None if channel_positions is None else load_array(channel_positions, "channel_positions")

    from tqdm import tqdm

    from huidurep import HuiduRep

    num_batches = -(-len(waveforms) // batch_size) * (2 if denoise else 1)
    is_hidden = not (progress and is_watched())
    with only_results_on_stdout(), tqdm(total=num_batches, desc="embedding", disable=is_hidden, leave=False) as bar:
        encoder = HuiduRep.from_pretrained(model)
        encoder.register_forward_hook(lambda *_: bar.update())
        embeddings = encoder.embed(
            waveforms,
            sampling_frequency=sampling_frequency,
            peak_index=peak_index,
            channel_positions=positions,
            denoise=denoise or None,
            batch_size=batch_size,
        )
    with new_file(output) as partial, partial.open("wb") as file:
        np.save(file, embeddings)
    num_spikes, size = embeddings.shape
    facts = {"output": output, "num_spikes": num_spikes, "embedding_size": size, "model": model}
    tell_result(f"{num_spikes} spikes x {size} numbers -> {output}", facts, as_json=as_json)


add_report(app)
add_finetune(app)
add_convert(app)
add_hub(app)
add_pretrain(app)
app.add_typer(simulate_app, name="simulate")


@app.command(name="list")
def list_models(as_json: AsJson = False) -> None:
    """List the embedded checkpoints."""
    from huidurep.hub.embedded import describe_checkpoints

    found = describe_checkpoints()
    if as_json:
        print_json({"checkpoints": found})
        return
    line = "{:16} {:60} {:>8} {:>9} {:>11} {:>9}".format
    typer.echo(line("NAME", "PROBE", "CHANNELS", "RATE (HZ)", "WINDOW (MS)", "SIZE (MB)"))
    for each in found:
        size = "-" if each["size_mb"] is None else f"{each['size_mb']:.1f}"
        rate, window = f"{each['sampling_frequency']:g}", f"{each['window_ms']:g}"
        typer.echo(line(each["name"], each["probe_type"], each["num_channels"], rate, window, size))
