"""The README.md of a converted checkpoint."""

import hashlib
from pathlib import Path

CARD = """# HuiduRep, converted from `{name}`

Converted by `conversion/convert_original_checkpoint.py` from the authors' research code (arXiv 2507.17224).

- SHA-256 of the original: `{digest}`
- input: {config.num_samples} samples at {config.sampling_frequency:g} Hz, trough at {config.peak_index}, \
{config.num_channels} channels around the peak channel
- encoder {config.num_hidden_layers} layers, decoder {config.decoder_num_hidden_layers} layers, \
{config.num_attention_heads} attention heads, embedding of {config.embedding_size}
- largest difference from an independent computation on random input: {error:.1e}
- terms of use: those of the original checkpoint
"""


def render_card(checkpoint, config, error):
    """Text of the card.

    Parameters
    ----------
    checkpoint : str or Path
        The original file.
    config : HuiduRepConfig
    error : float
        Largest absolute difference found by the proof.

    Returns
    -------
    str
    """
    path = Path(checkpoint)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return CARD.format(name=path.name, digest=digest, config=config, error=error)
