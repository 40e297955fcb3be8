"""The command ``huidurep embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..output_files import check_output_file, new_file
from .inputs import check_writable, load_array
from .options import AsJson, Device, Progress, complete_checkpoint
from .output import is_terminal, only_results_on_stdout, print_result


def embed(
    input_path: Annotated[Path, typer.Argument(metavar="INPUT", help=".npy, or .npz with an array 'waveforms'.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="File .npy to write.")],
    model: Annotated[
        str,
        typer.Option(
            help="Embedded checkpoint, checkpoint folder or Hub repository.", autocompletion=complete_checkpoint
        ),
    ] = "tetrode",
    sampling_frequency: Annotated[float, typer.Option(help="Hz.")] = 30000.0,
    peak_index: Annotated[int | None, typer.Option(help="Sample of the peak; default: found for each spike.")] = None,
    channel_positions: Annotated[Path | None, typer.Option(help=".npy (num_channels, 2), um.")] = None,
    denoise: Annotated[bool, typer.Option("--denoise", help="Denoise the waveforms with the model's decoder.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Waveforms in a batch.")] = 1024,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT.")] = False,
    progress: Progress = True,
    as_json: AsJson = False,
) -> None:
    """Embed spike waveforms.

    INPUT holds waveforms (num_spikes, num_samples, num_channels) in uV; OUTPUT receives a float32 array (num_spikes,
    embedding_size).
    """
    if output.suffix != ".npy":
        raise ValueError(f"expected an OUTPUT ending in .npy, found {output.name!r}: rename it.")
    check_output_file(output, overwrite=overwrite)
    if output.exists() and any(
        each is not None and each.exists() and output.samefile(each) for each in (input_path, channel_positions)
    ):
        raise ValueError(f"expected OUTPUT apart from what is read, found {output} for both: name another OUTPUT.")
    check_writable(output.absolute().parent)
    import numpy as np
    from tqdm import tqdm

    from huidurep import HuiduRep
    from huidurep.models.devices import place_model

    waveforms = load_array(input_path, "waveforms")
    positions_um = None if channel_positions is None else load_array(channel_positions, "channel_positions")
    num_batches = -(-len(waveforms) // batch_size) * (2 if denoise else 1)
    is_hidden = not (progress and is_terminal())
    with only_results_on_stdout(), tqdm(total=num_batches, desc="embedding", disable=is_hidden, leave=False) as bar:
        encoder = place_model(HuiduRep.from_pretrained(model), device)
        encoder.register_forward_hook(lambda *_: bar.update())
        embeddings = encoder.embed(
            waveforms,
            sampling_frequency=sampling_frequency,
            peak_index=peak_index,
            channel_positions=positions_um,
            denoise=denoise or None,
            batch_size=batch_size,
        )
    with new_file(output, overwrite=overwrite) as partial, partial.open("wb") as file:
        np.save(file, embeddings)
    num_spikes, size = embeddings.shape
    facts = {"output": output, "num_spikes": num_spikes, "embedding_size": size, "model": model}
    print_result(f"{num_spikes} spikes x {size} numbers -> {output}", facts, as_json=as_json)
