"""What the authors' checkpoint computes, written independently of the huidurep package, to compare outputs with.

Plain torch modules filled straight from the checkpoint's own keys; double precision, evaluation mode. Source: the
description of the layout in the project's method notes (arXiv 2507.17224); no code of the research repository.
"""

import torch
import torch.nn.functional as F
from torch import nn


def reference_outputs(state, view_1, view_2, clean, *, config):
    """Every output of the research model.

    Parameters
    ----------
    state : dict of str to torch.Tensor
        Under the authors' keys.
    view_1, view_2, clean : torch.DoubleTensor (num_spikes, num_samples, num_channels)
    config : HuiduRepConfig
        Read for number of heads, temperature and reconstruction weight, which the checkpoint does not store.

    Returns
    -------
    dict of str to torch.Tensor
        Under the names of the huidurep outputs.
    """
    state = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    heads = config.num_attention_heads
    tokens_1, tokens_2 = (convolve(state, view) for view in (view_1, view_2))
    hidden = encode(state, "q", tokens_1, heads)
    outputs = {"last_hidden_state": hidden, "embeddings": reduce(state, "q", hidden)}
    hidden_2 = encode(state, "q", tokens_2, heads)
    for name, embedding in (("query_1", outputs["embeddings"]), ("query_2", reduce(state, "q", hidden_2))):
        outputs[name] = F.normalize(mlp(state, "prediction.prediction", mlp(state, "proj_q.projection", embedding)))
    for name, tokens in (("key_1", tokens_1), ("key_2", tokens_2)):
        embedding = reduce(state, "k", encode(state, "k", tokens, heads))
        outputs[name] = F.normalize(mlp(state, "proj_k.projection", embedding))
    decoded = transform(state, "spike_decoder.decoder.layers", hidden, heads)
    outputs["reconstruction"] = linear(state, "spike_decoder.proj", decoded)
    outputs |= losses(outputs, clean, config.contrastive_temperature, config.reconstruction_weight)
    if any(key.startswith("feature_decoder.decoder.") for key in state):
        placed = hidden + state["feature_decoder.positional_encoding.pe"][:, : hidden.shape[1]]
        denoised = transform(state, "feature_decoder.decoder.layers", placed, heads)
        joined = encode(state, "q", torch.cat([tokens_1, denoised], 1), heads)
        outputs |= {"denoised_tokens": denoised, "embeddings_with_denoised_tokens": reduce(state, "q", joined)}
    return outputs


def losses(outputs, clean, temperature, reconstruction_weight):
    """Contrastive loss by its formula, mean squared error and their weighted sum, as a dict of scalars."""
    contrast = 0.0
    for query, key in (("query_1", "key_2"), ("query_2", "key_1")):
        log_probabilities = torch.log_softmax(outputs[query] @ outputs[key].T / temperature, dim=1)
        contrast = contrast - 2 * temperature * log_probabilities.diagonal().mean()
    error = ((outputs["reconstruction"] - clean) ** 2).mean()
    return {
        "contrastive_loss": contrast,
        "reconstruction_loss": error,
        "loss": contrast + reconstruction_weight * error,
    }


def convolve(state, waveforms):
    """(num_spikes, num_samples, num_channels) -> tokens (num_spikes, num_samples, hidden_size)."""
    hidden = waveforms.transpose(1, 2)
    for name in ("conv_embedding.block.0", "conv_embedding.block.2"):
        hidden = F.relu(F.conv1d(hidden, state[name + ".weight"], state[name + ".bias"], padding="same"))
    return hidden.transpose(1, 2)


def encode(state, branch, tokens, heads):
    """Tokens of the last encoder layer of branch "q" or "k"."""
    placed = tokens + state[f"encoder_{branch}.positional_encoding.pe"][:, : tokens.shape[1]]
    return transform(state, f"encoder_{branch}.transformer.layers", placed, heads)


def transform(state, stack, hidden, heads):
    """Post-norm ReLU layers of torch itself, as many as the stack has."""
    index = 0
    while f"{stack}.{index}.linear1.weight" in state:
        prefix = f"{stack}.{index}."
        part = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        wide, size = part["linear1.weight"].shape
        layer = nn.TransformerEncoderLayer(size, heads, wide, 0.0, "relu", batch_first=True, norm_first=False)
        layer.double().eval().load_state_dict(part, strict=True)
        hidden = layer(hidden)
        index += 1
    return hidden


def linear(state, name, x):
    """Linear layer."""
    return F.linear(x, state[name + ".weight"], state[name + ".bias"])


def reduce(state, branch, hidden):
    """Representation (num_spikes, embedding_size) of branch "q" or "k"."""
    return linear(state, f"reduce_{branch}.projection.0", hidden.mean(1))


def mlp(state, name, x):
    """Linear layers with BatchNorm (stored statistics) and ReLU between them, numbered as in nn.Sequential."""
    index = 0
    while f"{name}.{index}.weight" in state:
        x = linear(state, f"{name}.{index}", x)
        if f"{name}.{index + 1}.running_mean" in state:
            norm = {
                part: state[f"{name}.{index + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            }
            x = F.relu(F.batch_norm(x, **norm))
        index += 3
    return x
