"""Layout of the authors' checkpoint as data: which tensors are converted, only checked, or not used.

Names on the left are the authors', names on the right those of ``HuiduRepForPreTraining``. Facts of the layout only;
nothing here is taken from the research code, which has no licence.
"""

# Dictionaries that training scripts put around a state dict, and prefixes that wrappers put before its keys.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
PREFIXES = ("module.", "_orig_mod.", "model.")

# One entry a stack of torch.nn.TransformerEncoderLayer; depths are counted in the checkpoint.
STACKS = {
    "encoder_q.transformer.layers": "huidurep.encoder.layers",
    "encoder_k.transformer.layers": "momentum_encoder.layers",
    "spike_decoder.decoder.layers": "huidurep.decoder.layers",
    "feature_decoder.decoder.layers": "huidurep.feature_decoder.layers",
}

# Inside a layer.
LAYER = {
    "self_attn.in_proj_weight": "qkv.weight",
    "self_attn.in_proj_bias": "qkv.bias",
    "self_attn.out_proj.weight": "output.weight",
    "self_attn.out_proj.bias": "output.bias",
    "linear1.weight": "feed_in.weight",
    "linear1.bias": "feed_in.bias",
    "linear2.weight": "feed_out.weight",
    "linear2.bias": "feed_out.bias",
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "norm2.weight": "feed_norm.weight",
    "norm2.bias": "feed_norm.bias",
}

AFFINE = ("weight", "bias")
NORM = (*AFFINE, "running_mean", "running_var", "num_batches_tracked")

# Single modules: theirs -> (ours, parts). Both branches share the convolutions there, so each of ours has a copy.
MODULES = {
    "conv_embedding.block.0": (("huidurep.embeddings.convolutions.0", "momentum_embeddings.convolutions.0"), AFFINE),
    "conv_embedding.block.2": (("huidurep.embeddings.convolutions.1", "momentum_embeddings.convolutions.1"), AFFINE),
    "reduce_q.projection.0": (("huidurep.reduction",), AFFINE),
    "reduce_k.projection.0": (("momentum_reduction",), AFFINE),
    "spike_decoder.proj": (("huidurep.decoder_projection",), AFFINE),
    "proj_q.projection.0": (("projection.0",), AFFINE),
    "proj_q.projection.1": (("projection.1",), NORM),
    "proj_q.projection.3": (("projection.3",), AFFINE),
    "proj_q.projection.4": (("projection.4",), NORM),
    "proj_q.projection.6": (("projection.6",), AFFINE),
    "proj_k.projection.0": (("momentum_projection.0",), AFFINE),
    "proj_k.projection.1": (("momentum_projection.1",), NORM),
    "proj_k.projection.3": (("momentum_projection.3",), AFFINE),
    "proj_k.projection.4": (("momentum_projection.4",), NORM),
    "proj_k.projection.6": (("momentum_projection.6",), AFFINE),
    "prediction.prediction.0": (("predictor.0",), AFFINE),
    "prediction.prediction.1": (("predictor.1",), NORM),
    "prediction.prediction.3": (("predictor.3",), AFFINE),
}

# Only in our models: added to tokens for missing channels, which the research code does not have.
ZEROS = ("huidurep.embeddings.missing_channel", "momentum_embeddings.missing_channel")

# Sinusoidal tables: ours are computed, theirs are compared with them.
POSITIONS = (
    "encoder_q.positional_encoding.pe",
    "encoder_k.positional_encoding.pe",
    "spike_decoder.positional_encoding.pe",
    "feature_decoder.positional_encoding.pe",
)

# Stored, but not used by any output: left behind.
UNUSED = (
    *(f"conv_embedding.{part}.{kind}" for part in ("fc.1", "fc.3", "shortcut") for kind in AFFINE),
    *(f"encoder_{branch}.embedding.{kind}" for branch in "qk" for kind in AFFINE),
    *(f"encoder_{branch}.encoder_layer.{part}" for branch in "qk" for part in LAYER),
    *(f"{name}_decoder.decoder_layer.{part}" for name in ("spike", "feature") for part in LAYER),
    "spike_decoder.cls_token",
)
