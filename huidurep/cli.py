"""The command line: ``huidurep sort | embed | finetune | simulate | pretrain | list``.

Everything heavy is imported inside the commands, so that ``huidurep --help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import time
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from huidurep.cli_convert import add_convert
from huidurep.cli_files import attach_probe, check_output, check_writable, load_array, read_recording
from huidurep.cli_finetune import add_finetune
from huidurep.cli_simulate import simulate_app


class _OneSentenceErrors(TyperGroup):
    """An exception becomes one sentence on stderr: exit code 2 for what the user can mend, 1 for the rest."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            is_usage_error = hasattr(error, "exit_code")  # the parser's own: it prints them itself
            if ctx.params.get("debug") or is_usage_error or getattr(error, "errno", None) == errno.EPIPE:
                raise
            is_input = isinstance(error, ValueError | TypeError | OSError)
            sentence = " ".join(str(error).split()) or type(error).__name__
            typer.echo(f"huidurep: {sentence if is_input else f'{type(error).__name__}: {sentence}'}", err=True)
            if not is_input:
                typer.echo("huidurep: `huidurep --debug ...` shows where this came from.", err=True)
            raise typer.Exit(2 if is_input else 1) from error


app = typer.Typer(
    name="huidurep",
    cls=_OneSentenceErrors,
    help="Spike sorting with pretrained spike representations.",
    epilog="Each command has its own help: huidurep sort --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Output = Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.", metavar="OUTPUT")]
Model = Annotated[str, typer.Option(help="Embedded checkpoint, checkpoint folder or Hub repository.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from huidurep import __version__

        typer.echo(f"huidurep {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what each stage does.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # SpikeInterface warns that what is saved does not carry what it was made from: OUTPUT is meant to stand alone.
    warnings.filterwarnings("ignore", message="The extractor is not serializable")
    warnings.filterwarnings("ignore", message="The recording registered to this sorting")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("huidurep").setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)


@app.command()
def sort(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT", help="What spikeinterface.load reads, or raw binary.")],
    output: Output,
    model: Annotated[str, typer.Option(help="'auto' (by the probe), embedded name, folder or Hub name.")] = "auto",
    seed: Seed = 0,
    num_units: Annotated[int | None, typer.Option(min=1, help="Units a channel group; default: found.")] = None,
    detect_threshold: Annotated[float | None, typer.Option(help="Smallest trough, in noise levels.")] = None,
    unit_threshold: Annotated[float | None, typer.Option(help="Smallest median trough of a unit.")] = None,
    merge_bias: Annotated[float | None, typer.Option(help="Above 0 merges more, below 0 splits more.")] = None,
    matching: Annotated[str | None, typer.Option(help="wobble, tdc-peeler, circus-omp or none.")] = None,
    motion: Annotated[str | None, typer.Option(help="auto, none or SpikeInterface's preset.")] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Train on the recording's spikes, if that helps.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")] = False,
    n_jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Progress bars.")] = True,
    sampling_frequency: Annotated[float | None, typer.Option(help="Raw binary: Hz.")] = None,
    num_channels: Annotated[int | None, typer.Option(min=1, help="Raw binary: channels.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Raw binary: sample type, such as int16.")] = None,
    gain_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV of one step.")] = None,
    offset_to_uv: Annotated[float | None, typer.Option(help="Raw binary: uV of the value 0.")] = None,
    probe: Annotated[str | None, typer.Option(help="'tetrode' or a probeinterface JSON file.")] = None,
) -> None:
    """Sort a recording into a folder of units.

    INPUT is a folder or file that spikeinterface.load reads, or a file of raw samples (time x channel), which needs
    --sampling-frequency, --num-channels and --dtype. spikeinterface.load opens OUTPUT, wherever it is moved.
    """
    raw = dict(sampling_frequency=sampling_frequency, num_channels=num_channels, dtype=dtype)
    check_output(output, overwrite=overwrite, input_path=input_path)
    check_writable(output.absolute().parent)  # an earlier result is replaced, not written into
    recording = read_recording(input_path, raw, gain_to_uv, offset_to_uv)
    recording = recording if probe is None else attach_probe(recording, probe)
    given = dict(num_units=num_units, detect_threshold=detect_threshold, merge_bias=merge_bias, matching=matching)
    given |= dict(unit_threshold=unit_threshold, motion=motion, seed=seed, adapt=adapt or None)
    given = {name: value for name, value in given.items() if value is not None}
    given |= {name: None for name in ("matching", "motion") if given.get(name) == "none"}

    import spikeinterface

    from huidurep import SpikeSortingPipeline

    _hide_loading_bars()
    spikeinterface.set_global_job_kwargs(n_jobs=n_jobs, progress_bar=progress)
    started = time.perf_counter()
    result = SpikeSortingPipeline.from_pretrained(model, **given)(recording)
    result.save(output, overwrite=overwrite)
    sorting = result.sorting
    typer.echo(
        f"{len(sorting.unit_ids)} units, {len(sorting.to_spike_vector())} spikes from "
        f"{recording.get_total_duration():.1f} s of {recording.get_num_channels()} channels with model "
        f"{result.model_name} in {time.perf_counter() - started:.1f} s -> {output}"
    )


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

    from huidurep import HuiduRep

    _hide_loading_bars()
    embeddings = HuiduRep.from_pretrained(model).embed(
        waveforms,
        sampling_frequency=sampling_frequency,
        peak_index=peak_index,
        channel_positions=positions,
        denoise=denoise or None,
        batch_size=batch_size,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    np.save(output, embeddings)
    typer.echo(f"{embeddings.shape[0]} spikes x {embeddings.shape[1]} numbers -> {output}")


add_finetune(app)
add_convert(app)
app.add_typer(simulate_app, name="simulate")


@app.command()
def pretrain(
    config: Annotated[Path, typer.Option(metavar="FILE", help="JSON or YAML file of the training's settings.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; a run that stopped there goes on.")],
) -> None:
    """Train a model on simulated units.

    FILE has the sections model, templates, views, training, ...; what it leaves out has a default. `accelerate launch
    -m huidurep pretrain ...` trains on several GPUs.
    """
    if not (output / "run" / "settings.json").is_file():  # a run that stopped goes on
        check_output(output)
        check_writable(output)
    settings = _load_settings(config)
    from huidurep.training.pretrain import pretrain as run

    typer.echo(f"checkpoint -> {run(settings, output)}{_describe_training(output)}")


def _load_settings(path: Path) -> dict:
    """Names and values from a JSON or YAML file."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a JSON or YAML file, found none at {path}: correct the path.")
    import yaml

    text = path.read_text(encoding="utf8")
    try:
        try:
            settings = json.loads(text)  # not left to yaml, for which 1e-05 is no number
        except ValueError:
            settings = yaml.load(text, _yaml_loader())
    except yaml.YAMLError as error:
        raise ValueError(f"expected JSON or YAML in {path}, found {error}: correct the file.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"expected names and values in {path}, found {type(settings).__name__}: write one a line.")
    return settings


def _yaml_loader():
    """PyYAML's safe loader, with numbers such as 1e-3, which YAML 1.1 takes for words."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def _describe_training(output: Path) -> str:
    """How long it was, from the last entry of its log; nothing where this process had nothing left to do."""
    state = output / "run" / "trainer_state.json"
    history = json.loads(state.read_text())["log_history"] if state.is_file() else []
    if not history or "data_wait_share" not in history[-1]:
        return ""
    last = history[-1]
    waited = f"{100 * last['data_wait_share']:.0f} % of it waiting for data"
    return f" (step {last['step']}, {last['train_runtime']:.0f} s, {waited})"


@app.command(name="list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """List the embedded checkpoints."""
    from huidurep.hub import describe_checkpoints

    found = describe_checkpoints()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    line = "{:16} {:60} {:>8} {:>9} {:>11} {:>9}".format
    typer.echo(line("NAME", "PROBE", "CHANNELS", "RATE (HZ)", "WINDOW (MS)", "SIZE (MB)"))
    for each in found:
        size = "-" if each["size_mb"] is None else f"{each['size_mb']:.1f}"
        rate, window = f"{each['sampling_frequency']:g}", f"{each['window_ms']:g}"
        typer.echo(line(each["name"], each["probe_type"], each["num_channels"], rate, window, size))


def _hide_loading_bars() -> None:
    """Without transformers' bar for the loading of weights, which takes milliseconds here."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
