"""Export encoders to ONNX, for programs that embed spikes without torch.

``python conversion/export_onnx.py CHECKPOINT OUTPUT.onnx`` or ``python conversion/export_onnx.py --all OUTPUT_DIR``

CHECKPOINT is an embedded name, a folder or a Hub repository. The graph takes any number of spikes, and any number of
channels if they are mixed by position and no axes are linear. The file's metadata describe the input. Nothing is saved
unless the outputs of onnxruntime agree with those of torch.
"""

import argparse
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import huidurep

logger = logging.getLogger("huidurep.conversion")

# Opset of the graph; tested with onnxruntime 1.20 to 1.32.
OPSET = 18
# Largest difference from torch, as a share of the largest value of the output where that is above 1.
TOLERANCE = 1e-4
OUTPUTS = ("embeddings", "reconstruction")
# Fields of the configuration that describe the input; scaling is part of the graph.
CONTRACT = (
    "sampling_frequency",
    "num_samples",
    "peak_index",
    "num_channels",
    "channel_mixing",
    "channel_order",
    "spike_polarity",
    "embedding_size",
)
METADATA_KEY = "huidurep"


class Encoder(torch.nn.Module):
    """The encoder and the decoder with tensors in and tensors out.

    Parameters
    ----------
    model : HuiduRep
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, waveforms, channel_mask, sample_mask, channel_positions=None):
        """Inputs of :meth:`huidurep.HuiduRep.forward` -> embeddings and denoised snippets (uV)."""
        output = self.model(
            waveforms,
            channel_mask=channel_mask,
            sample_mask=sample_mask,
            channel_positions=channel_positions,
            output_reconstruction=True,
            return_dict=True,
        )
        return tuple(output[name] for name in OUTPUTS)


def takes_any_channels(config):
    """Whether the graph takes any number of channels; linear axes have weights for each, and others are masked."""
    return config.channel_mixing == "position" and not config.linear_size


def example_inputs(config, num_spikes, num_channels, *, generator):
    """Random snippets, with channels and samples missing from some.

    Parameters
    ----------
    config : HuiduRepConfig
    num_spikes, num_channels : int
    generator : torch.Generator

    Returns
    -------
    dict of str to torch.FloatTensor
        Arguments of :meth:`Encoder.forward`.
    """
    shape = (num_spikes, config.num_samples, num_channels)
    channel_mask, sample_mask = torch.ones(num_spikes, num_channels), torch.ones(num_spikes, config.num_samples)
    channel_mask[1::2, 1:] = torch.randint(2, channel_mask[1::2, 1:].shape, generator=generator).float()
    sample_mask[1::3, -config.num_samples // 4 :] = 0
    inputs = dict(
        waveforms=30 * torch.randn(shape, generator=generator), channel_mask=channel_mask, sample_mask=sample_mask
    )
    if config.channel_mixing == "position":
        inputs["channel_positions"] = 40 * torch.randn(num_spikes, num_channels, 2, generator=generator)
    return inputs


def build(model):
    """Graph of a model, with its contract in the metadata.

    Parameters
    ----------
    model : HuiduRep
        In evaluation mode.

    Returns
    -------
    torch.onnx.ONNXProgram
    """
    config = model.config
    inputs = example_inputs(config, 5, config.num_channels, generator=torch.Generator().manual_seed(0))
    spikes, channels = torch.export.Dim("num_spikes", min=1), torch.export.Dim("num_channels", min=1)
    if not takes_any_channels(config):
        channels = torch.export.Dim.STATIC
    axes = dict(
        waveforms={0: spikes, 2: channels},
        channel_mask={0: spikes, 1: channels},
        sample_mask={0: spikes},
        channel_positions={0: spikes, 1: channels},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            Encoder(model).eval(),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=OUTPUTS,
            dynamic_shapes={name: axes[name] for name in inputs},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props[METADATA_KEY] = json.dumps(contract(config))
    return program


def contract(config):
    """Description of the input for the metadata, for readers without the package.

    Parameters
    ----------
    config : HuiduRepConfig

    Returns
    -------
    dict
        Fields of the configuration; units in ``units``.
    """
    units = {"waveforms": "uV", "reconstruction": "uV", "sampling_frequency": "Hz", "channel_positions": "um"}
    axes = "(num_spikes, num_samples, num_channels)"
    about = dict(units=units, waveform_axes=axes, huidurep_version=huidurep.__version__)
    return {name: getattr(config, name) for name in CONTRACT} | about


@torch.no_grad()
def compare_outputs(model, path):
    """Compare a graph under onnxruntime with the model, for several numbers of spikes and channels.

    Parameters
    ----------
    model : HuiduRep
        In evaluation mode.
    path : str or Path
        The graph.

    Returns
    -------
    dict of str to float
        Largest difference of each output, as a share of its largest value where that is above 1.

    Raises
    ------
    ValueError
        If one is above ``TOLERANCE``.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    encoder, config, generator = Encoder(model).eval(), model.config, torch.Generator().manual_seed(1)
    any_channels = takes_any_channels(config)
    errors = dict.fromkeys(OUTPUTS, 0.0)
    for num_spikes, num_channels in ((1, 1), (2, 3), (64, config.num_channels)):
        num_channels = num_channels if any_channels else config.num_channels
        inputs = example_inputs(config, num_spikes, num_channels, generator=generator)
        found = session.run(OUTPUTS, {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, ours, theirs in zip(OUTPUTS, encoder(**inputs), found, strict=True):
            error = np.abs(ours.numpy() - theirs).max() / max(1.0, float(ours.abs().max()))
            errors[name] = max(errors[name], float(error))
    wrong = {name: error for name, error in errors.items() if not error < TOLERANCE}
    if wrong:
        raise ValueError(
            f"expected the exported graph to agree with torch within {TOLERANCE}, found differences {wrong}: nothing "
            "was saved; report it with the versions of torch and onnxruntime."
        )
    return errors


def export(checkpoint, output):
    """Export a checkpoint.

    Parameters
    ----------
    checkpoint : str or Path
        As in :meth:`huidurep.HuiduRep.from_pretrained`.
    output : str or Path
        File to write; its folder is created if it does not exist.

    Returns
    -------
    dict of str to float
        From :func:`compare_outputs`.

    Raises
    ------
    OSError
        If there is no such checkpoint, or it cannot be read or written.
    ValueError
        If weights do not fit, or an output differs.
    """
    model, output = huidurep.HuiduRep.from_pretrained(checkpoint), Path(output)
    program = build(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        path = Path(folder) / output.name
        program.save(path, external_data=False)
        errors = compare_outputs(model, path)
        path.replace(output)
    return errors


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of the process.

    Returns
    -------
    int
        Exit status: 0, or 2 with one sentence on stderr.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", help="embedded name, folder or Hub repository")
    parser.add_argument("output", help="file to write; with --all the folder of the files")
    parser.add_argument("--all", action="store_true", help="export every embedded checkpoint")
    options = parser.parse_args(arguments)
    if options.all == bool(options.checkpoint):
        parser.error("give a CHECKPOINT or --all")
    names = list(huidurep.list_checkpoints()) if options.all else [options.checkpoint]
    try:
        for name in names:
            output = Path(options.output) / f"{name}.onnx" if options.all else Path(options.output)
            errors = export(name, output)
            shown = ", ".join(f"{output} {error:.1e}" for output, error in errors.items())
            print(f"saved {output} (opset {OPSET}); largest differences from torch: {shown}")
    except (OSError, ValueError) as error:
        print(f"export_onnx: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # The exporter logs operators of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    sys.exit(main())
