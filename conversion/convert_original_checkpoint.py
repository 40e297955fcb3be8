"""Convert a checkpoint of the HuiduRep authors' research code into folders that ``from_pretrained`` opens.

``python conversion/convert_original_checkpoint.py CHECKPOINT.pt OUTPUT_DIR [--num-attention-heads 4]``

OUTPUT_DIR becomes a ``HuiduRep``, OUTPUT_DIR/pretraining a ``HuiduRepForPreTraining`` with momentum branch and heads.
Nothing is saved unless the outputs of the converted model agree with an independent computation from the checkpoint.
"""

import argparse
import copy
import hashlib
import logging
import pickle
import sys
import tempfile
from pathlib import Path

import torch
from key_map import LAYER, MODULES, POSITIONS, PREFIXES, STACKS, UNUSED, WRAPPERS, ZEROS
from reference import reference_outputs

from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining
from huidurep.models.modeling_layers import sinusoidal_positions
from huidurep.models.publishing import short_card

logger = logging.getLogger("huidurep.conversion")

# Largest absolute difference from the independent computation (double precision, where both agree to 1e-12 or so).
TOLERANCE = 1e-5
# The research code uses the middle ones of more channels than its own; the comparison covers that.
EXTRA_CHANNELS = 10
NOTE = """Converted from `{name}`, a checkpoint of the research code, by `conversion/convert_original_checkpoint.py`.

- SHA-256 of the original: `{digest}`
- largest difference from an independent computation on random input: {error:.1e}
- terms of use: those of the original checkpoint"""


def read_state_dict(checkpoint):
    """Tensors of a checkpoint under the authors' own names, without running any code stored in it.

    Parameters
    ----------
    checkpoint : str or Path
        File written by ``torch.save``: a state dict, or a dictionary around one.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    OSError
        If there is no such file, or it is no readable torch file.
    ValueError
        If it holds code, or no state dict.
    """
    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise OSError(f"expected a checkpoint file, found none at {checkpoint}: correct the path.") from error
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):
            raise ValueError(
                f"expected tensors only in {checkpoint}, found a pickle that needs code to be run, which is refused: "
                "save model.state_dict() with torch.save where the checkpoint comes from."
            ) from error
        raise OSError(f"expected a file of torch.save, found {checkpoint} unreadable: copy it again.") from error
    except Exception as error:  # the unpickler answers damaged files with a dozen unrelated classes
        raise OSError(f"expected a file of torch.save, found {checkpoint} unreadable: copy it again.") from error
    while isinstance(loaded, dict) and (inner := [k for k in WRAPPERS if isinstance(loaded.get(k), dict)]):
        loaded = loaded[inner[0]]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise ValueError(
            f"expected a state dict in {checkpoint}, found {type(loaded).__name__} with other contents: save "
            f"model.state_dict(), alone or under one of the keys {', '.join(WRAPPERS)}."
        )
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in loaded)), None):
        loaded = {key.removeprefix(prefix): tensor for key, tensor in loaded.items()}
    return dict(loaded)


def count_layers(state):
    """Depth of every stack.

    Parameters
    ----------
    state : dict of str to torch.Tensor

    Returns
    -------
    dict of str to int
        Authors' name of the stack -> layers, 0 where there is none.
    """
    depths = {}
    for stack in STACKS:
        numbers = [key[len(stack) + 1 :].split(".")[0] for key in state if key.startswith(stack + ".")]
        depths[stack] = 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)
    return depths


def target_names(depths):
    """The key map for given depths.

    Parameters
    ----------
    depths : dict of str to int
        From :func:`count_layers`.

    Returns
    -------
    dict of str to tuple of str
        Authors' key -> our keys.
    """
    names = {f"{theirs}.{part}": tuple(f"{our}.{part}" for our in ours)
             for theirs, (ours, parts) in MODULES.items() for part in parts}  # fmt: skip
    for stack, ours in STACKS.items():
        for index in range(depths[stack]):
            names |= {f"{stack}.{index}.{theirs}": (f"{ours}.{index}.{our}",) for theirs, our in LAYER.items()}
    return names


def check_keys(state, names, depths):
    """Refuse a checkpoint with a missing or an unknown tensor.

    Parameters
    ----------
    state : dict of str to torch.Tensor
    names : dict of str to tuple of str
        From :func:`target_names`.
    depths : dict of str to int

    Raises
    ------
    ValueError
        Naming the keys.
    """
    needed = set(names) | {"encoder_q.positional_encoding.pe"}
    missing = sorted(needed - set(state))
    missing += [f"{stack}.0.*" for stack, depth in depths.items() if not depth and not stack.startswith("feature")]
    unexpected = sorted(set(state) - set(names) - set(POSITIONS) - set(UNUSED))
    if missing or unexpected:
        shown = [f"{len(keys)} {word} ({', '.join(keys[:4])})"
                 for word, keys in (("missing", missing), ("unexpected", unexpected)) if keys]  # fmt: skip
        raise ValueError(
            f"expected the tensors of the HuiduRep research code, found {' and '.join(shown)}: pass a full checkpoint "
            "of that code, or extend conversion/key_map.py if its layout has changed."
        )


def read_config(state, depths, num_attention_heads):
    """Configuration that follows from the sizes of the tensors; the number of heads does not.

    Parameters
    ----------
    state : dict of str to torch.Tensor
    depths : dict of str to int
    num_attention_heads : int

    Returns
    -------
    HuiduRepConfig

    Raises
    ------
    ValueError
        If the sizes are impossible.
    """
    first, second = state["conv_embedding.block.0.weight"], state["conv_embedding.block.2.weight"]
    projection = state["proj_q.projection.6.weight"]
    return HuiduRepConfig.paper(
        num_channels=first.shape[1],
        hidden_size=first.shape[0],
        conv_kernel_sizes=(first.shape[2], second.shape[2]),
        num_hidden_layers=depths["encoder_q.transformer.layers"],
        decoder_num_hidden_layers=depths["spike_decoder.decoder.layers"],
        feature_decoder_num_hidden_layers=depths["feature_decoder.decoder.layers"],
        num_attention_heads=num_attention_heads,
        intermediate_size=state["encoder_q.transformer.layers.0.linear1.weight"].shape[0],
        embedding_size=state["reduce_q.projection.0.weight"].shape[0],
        projection_hidden_size=projection.shape[1],
        projection_size=projection.shape[0],
    )


def check_positions(state):
    """Refuse a checkpoint whose position table is not the sinusoidal one.

    Parameters
    ----------
    state : dict of str to torch.Tensor

    Raises
    ------
    ValueError
        Naming the table.
    """
    for key in POSITIONS:
        if key in state:
            table = state[key].float()
            error = (table - sinusoidal_positions(table)).abs().max()
            if not error <= TOLERANCE:
                raise ValueError(
                    f"expected sinusoidal positions in {key}, found a table that differs by {error:.2g}: such a "
                    "checkpoint cannot be expressed by HuiduRepConfig."
                )


def build_model(state, names, config):
    """Our model with the checkpoint's weights, loaded strictly.

    Parameters
    ----------
    state : dict of str to torch.Tensor
    names : dict of str to tuple of str
    config : HuiduRepConfig

    Returns
    -------
    HuiduRepForPreTraining
        In evaluation mode.

    Raises
    ------
    ValueError
        If a tensor has an unexpected shape.
    """
    model = HuiduRepForPreTraining(config).eval()
    own = model.state_dict()
    weights = {our: state[theirs] for theirs, ours in names.items() for our in ours}
    weights |= {name: torch.zeros_like(own[name]) for name in ZEROS}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"expected tensors of matching sizes, found others ({error}): the checkpoint does not fit the layout of "
            "the HuiduRep research code."
        ) from error
    return model


@torch.no_grad()
def compare_outputs(state, model, *, seed=0):
    """Compare every output with an independent computation from the checkpoint, on random input.

    Parameters
    ----------
    state : dict of str to torch.Tensor
    model : HuiduRepForPreTraining
        In evaluation mode.
    seed : int, default 0

    Returns
    -------
    dict of str to float
        Largest absolute difference of each output.

    Raises
    ------
    ValueError
        If one is above ``TOLERANCE``.
    """
    config, model = model.config, copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(seed)
    shape = (8, config.num_samples, config.num_channels + EXTRA_CHANNELS)
    views = torch.randn((3, *shape), generator=generator, dtype=torch.float64)
    middle = views[..., EXTRA_CHANNELS // 2 :][..., : config.num_channels]
    denoised = config.feature_decoder_num_hidden_layers > 0
    found = dict(model(*middle))
    found |= dict(model.huidurep(middle[0], output_reconstruction=True, return_dict=True))
    found["embeddings_more_channels"] = model.huidurep(views[0]).embeddings
    if denoised:
        output = model.huidurep(middle[0], output_denoised_tokens=True)
        found["denoised_tokens"], found["embeddings_with_denoised_tokens"] = output.denoised_tokens, output.embeddings
    expected = reference_outputs(state, *middle, config=config)
    expected["embeddings_more_channels"] = expected["embeddings"]
    errors = {name: (found[name] - value).abs().max().item() for name, value in expected.items()}
    wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE}
    if wrong:
        raise ValueError(
            f"expected the converted model to agree with the checkpoint within {TOLERANCE}, found differences "
            f"{wrong}: nothing was saved; correct conversion/key_map.py."
        )
    return errors


def save(model, output_dir, card):
    """Write both folders, open them again, and only then move them into place.

    Parameters
    ----------
    model : HuiduRepForPreTraining
    output_dir : Path
        Absent or empty.
    card : str
        README.md of the folder.
    """
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=f".{output_dir.name}-") as temporary:
        folder = Path(temporary) / "checkpoint"
        for part, path, cls in ((model.huidurep, folder, HuiduRep), (model, folder / "pretraining", type(model))):
            part.save_pretrained(path)
            opened = cls.from_pretrained(path).state_dict()
            if not all(torch.equal(tensor, opened[name]) for name, tensor in part.state_dict().items()):
                raise ValueError(f"expected {path} to hold the weights saved into it, found others: nothing was saved.")
        (folder / "README.md").write_text(card)
        if output_dir.exists():
            output_dir.rmdir()
        folder.rename(output_dir)


def convert(checkpoint, output_dir, *, num_attention_heads=4):
    """Convert a checkpoint of the research code.

    Parameters
    ----------
    checkpoint : str or Path
        The authors' ``.pt``.
    output_dir : str or Path
        Absent or empty; becomes a ``HuiduRep`` folder with a ``HuiduRepForPreTraining`` one in ``pretraining``.
    num_attention_heads : int, default 4
        Not stored in the checkpoint; 4 in the research code.

    Returns
    -------
    dict of str to float
        Largest absolute difference of each output from the independent computation.

    Raises
    ------
    OSError
        If the checkpoint cannot be read.
    ValueError
        If it holds code, its layout is another, the folder is not empty, or an output differs.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ValueError(f"expected an absent or empty folder, found {output_dir} in use: choose another OUTPUT_DIR.")
    state = read_state_dict(checkpoint)
    depths = count_layers(state)
    names = target_names(depths)
    check_keys(state, names, depths)
    check_positions(state)
    config = read_config(state, depths, num_attention_heads)
    model = build_model(state, names, config)
    errors = compare_outputs(state, model)
    logger.info("%s: %d tensors used, %d left behind", checkpoint, len(names), len(state) - len(names))
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    note = NOTE.format(name=Path(checkpoint).name, digest=digest, error=max(errors.values()))
    save(model, output_dir, short_card(config.to_dict(), output_dir.name, note))
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
    parser.add_argument("checkpoint", metavar="CHECKPOINT.pt", help="file of the research code")
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="folder to make; absent or empty")
    parser.add_argument(
        "--num-attention-heads", type=int, default=4, help="not stored in the file; default %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        errors = convert(options.checkpoint, options.output_dir, num_attention_heads=options.num_attention_heads)
    except (OSError, ValueError) as error:
        print(f"convert_original_checkpoint: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("largest difference from an independent computation on random input:")
    for name, error in errors.items():
        print(f"  {name:32s} {error:.1e}")
    print(f"saved {options.output_dir} (HuiduRep) and {options.output_dir}/pretraining (HuiduRepForPreTraining)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
