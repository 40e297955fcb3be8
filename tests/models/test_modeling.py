"""Both architectures: shapes, masks, loading, embedding and training."""

import copy
import json

import numpy as np
import pytest
import torch

from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining

SMALL = dict(hidden_size=16, num_hidden_layers=2, intermediate_size=24, embedding_size=8)
HEADS = dict(projection_hidden_size=12, projection_size=6)


def fast(**settings):
    return HuiduRepConfig(**SMALL, **HEADS, **settings)


def index(**settings):
    return fast(**dict(channel_mixing="index", scaling="log", scale_uv=20.0, reconstruction_weight=0.15) | settings)


def paper(**settings):
    return HuiduRepConfig.paper(**(SMALL | HEADS | dict(decoder_num_hidden_layers=1) | settings))


CONFIGS = {"fast": fast, "index": index, "paper": paper}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]()


def shaken(model, seed=1):
    """Give every tensor, biases and buffers too, its own random values, so that none can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor + 0.1 * torch.rand(tensor.shape, generator=generator))
            else:
                tensor.add_(3)
    return model.eval()


def snippets(config, num_spikes=5, num_samples=None, seed=0):
    shape = (num_spikes, num_samples or config.num_samples, config.num_channels)
    return 30 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cls", [HuiduRep, HuiduRepForPreTraining])
def test_saving_and_loading_is_bit_exact(cls, config, tmp_path):
    model = shaken(cls(config))
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path)
    own, other = model.state_dict(), loaded.state_dict()
    assert own.keys() == other.keys() and not loaded.training
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in loaded.parameters()]


def test_encoder_opens_from_a_pretraining_folder(config, tmp_path):
    model = shaken(HuiduRepForPreTraining(config))
    model.save_pretrained(tmp_path)
    loaded, own = HuiduRep.from_pretrained(tmp_path).state_dict(), model.huidurep.state_dict()
    assert own.keys() == loaded.keys() and all(torch.equal(own[name], loaded[name]) for name in own)


def test_config_round_trip(config, tmp_path):
    HuiduRep(config).save_pretrained(tmp_path)
    other = HuiduRep.from_pretrained(tmp_path).config
    stored = json.loads((tmp_path / "config.json").read_text())
    for name in vars(fast()):
        if not name.startswith("_") and name not in ("architectures", "dtype", "transformers_version"):
            assert getattr(other, name) == getattr(config, name), name
    assert stored["model_type"] == "huidurep" and stored["peak_index"] == config.peak_index
    assert HuiduRepConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_unknown_setting_raises():
    for build in (HuiduRepConfig, HuiduRepConfig.paper):
        with pytest.raises(TypeError, match="embeding_size"):
            build(embeding_size=32)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (dict(num_samples=0), "num_samples.*found 0"),
        (dict(peak_index=90), "peak_index.*90 samples, found 90"),
        (dict(channel_order="random"), "channel_order.*'random'"),
        (dict(sampling_frequency=-1), "sampling_frequency must be positive"),
        (dict(hidden_size=33), "hidden_size.*33"),
        (dict(channel_mixing="name"), "channel_mixing.*'name'"),
        (dict(conv_strides=(1, 2, 3)), "conv_kernel_sizes and conv_strides"),
    ],
)
def test_impossible_setting_raises(settings, match):
    with pytest.raises(ValueError, match=match):
        HuiduRepConfig(**settings)


def test_published_sizes():
    paper_model, fast_model = HuiduRep(HuiduRepConfig.paper()), HuiduRep(HuiduRepConfig())
    unused = paper_model.embeddings.missing_channel.numel()
    parts = (paper_model.embeddings, paper_model.encoder, paper_model.reduction)
    assert sum(p.numel() for part in parts for p in part.parameters()) - unused == 553568
    with torch.no_grad():
        assert fast_model.eval()(snippets(fast_model.config)).last_hidden_state.shape[1] == 10


def test_forward_shapes(config):
    model, waveforms = shaken(HuiduRep(config)), snippets(config)
    with torch.no_grad():
        output = model(waveforms, output_reconstruction=True)
        first = model(waveforms, return_dict=False)[0]
    tokens = config.num_samples // config.patch_size
    assert next(iter(output)) == "embeddings" and output[0] is output.embeddings
    assert output.embeddings.shape == (5, 8) and output.last_hidden_state.shape == (5, tokens, 16)
    assert output.reconstruction.shape == waveforms.shape and output.denoised_tokens is None
    assert torch.equal(first, output.embeddings)


@pytest.mark.parametrize("num_samples", [1, 17, 60, 121, 400])
def test_paper_architecture_takes_any_number_of_samples(num_samples):
    config = paper()
    with torch.no_grad():
        output = shaken(HuiduRep(config))(snippets(config, num_samples=num_samples), output_reconstruction=True)
    assert output.last_hidden_state.shape == (5, num_samples, 16)
    assert output.reconstruction.shape == (5, num_samples, 11) and output.embeddings.isfinite().all()


def test_paper_tokens_are_activated():
    """The paper's convolutions both end with a ReLU (the converter's parity numbers are missed by 0.2 without)."""
    config = paper()
    tokens = shaken(HuiduRep(config)).embeddings(snippets(config))
    assert tokens.min() == 0 and tokens.max() > 0


@pytest.mark.parametrize("norm_first", [False, True])
def test_last_convolution_is_activated_only_where_the_config_says_so(norm_first):
    assert HuiduRepConfig.paper().conv_final_activation and not HuiduRepConfig().conv_final_activation
    plain = shaken(HuiduRep(paper(norm_first=norm_first, conv_final_activation=False)))
    activated = HuiduRep(paper(norm_first=norm_first, conv_final_activation=True)).eval()
    activated.load_state_dict(plain.state_dict())
    tokens = plain.embeddings(snippets(plain.config))
    assert tokens.min() < 0
    assert torch.equal(activated.embeddings(snippets(plain.config)), tokens.relu())


def test_wrong_shapes_are_refused(config):
    model = HuiduRep(config)
    too_few = 0 if config.channel_mixing == "position" else 2  # by position any number of channels will do
    for bad in (snippets(config)[0], snippets(config)[:, :, :too_few]):
        with pytest.raises(ValueError, match=r"model\.embed\(\)"):
            model(bad)


def test_feature_decoder_only_where_there_is_one():
    with pytest.raises(ValueError, match="feature decoder"):
        HuiduRep(paper())(snippets(paper()), output_denoised_tokens=True)


@pytest.mark.parametrize("filling", [1e4, float("nan")])
@pytest.mark.parametrize("mask_type", [torch.float32, torch.bool])
def test_masked_values_change_nothing(config, filling, mask_type):
    model, waveforms = shaken(HuiduRep(config)), snippets(config)
    for name, size, masked, index in (
        ("sample_mask", config.num_samples, slice(config.num_samples - 25, None), (slice(None), slice(-25, None))),
        ("channel_mask", config.num_channels, slice(1, 3), (slice(None), slice(None), slice(1, 3))),
    ):
        mask, other = torch.ones(5, size, dtype=mask_type), waveforms.clone()
        mask[:, masked], other[index] = 0, filling
        with torch.no_grad():
            plain = model(waveforms)
            found = model(waveforms, **{name: mask}, output_reconstruction=True)
            again = model(other, **{name: mask}, output_reconstruction=True)
        assert torch.equal(found.embeddings, again.embeddings) and torch.equal(
            found.reconstruction, again.reconstruction
        )
        assert (plain.embeddings - found.embeddings).abs().max() > 1e-3


def test_masks_of_ones_change_nothing(config):
    model, waveforms = shaken(HuiduRep(config)), snippets(config)
    masks = dict(channel_mask=torch.ones(5, config.num_channels), sample_mask=torch.ones(5, config.num_samples))
    with torch.no_grad():
        assert torch.allclose(model(waveforms).embeddings, model(waveforms, **masks).embeddings, atol=1e-5)


def test_masked_denoised_tokens_change_nothing():
    config = paper(feature_decoder_num_hidden_layers=1)
    model, waveforms = shaken(HuiduRep(config)), snippets(config)
    mask, other = torch.ones(5, 121), waveforms.clone()
    mask[:, 100:], other[:, 100:] = 0, 500.0
    with torch.no_grad():
        found, again = (model(x, sample_mask=mask, output_denoised_tokens=True) for x in (waveforms, other))
        all_kept = model(waveforms, output_denoised_tokens=True)
    assert torch.equal(found.embeddings, again.embeddings)
    # Masked tokens take no part: the same as leaving out whatever they hold.
    assert (found.embeddings - all_kept.embeddings).abs().max() > 1e-4


def test_eager_attention_equals_sdpa(config, tmp_path):
    model, waveforms = shaken(HuiduRep(config)), snippets(config)
    mask = torch.ones(5, config.num_samples)
    mask[:2, -30:] = 0
    model.save_pretrained(tmp_path)
    eager = HuiduRep.from_pretrained(tmp_path, attn_implementation="eager")
    switched = copy.deepcopy(model)
    switched.set_attn_implementation("eager")
    assert eager.config._attn_implementation == switched.config._attn_implementation == "eager"
    with torch.no_grad():
        for masks in ({}, {"sample_mask": mask}):
            expected = model(waveforms, **masks).embeddings
            assert torch.allclose(eager(waveforms, **masks).embeddings, expected, atol=1e-5)
            assert torch.equal(switched(waveforms, **masks).embeddings, eager(waveforms, **masks).embeddings)


def test_embedding_does_not_depend_on_the_batch(config):
    model, waveforms = shaken(HuiduRep(config)), snippets(config, 9).numpy()
    whole = model.embed(waveforms, peak_index=config.peak_index)
    assert whole.shape == (9, 8) and whole.dtype == np.float32
    for batch_size in (1, 2, 9):
        other = model.embed(waveforms, peak_index=config.peak_index, batch_size=batch_size)
        assert np.abs(whole - other).max() < 1e-5
    assert np.abs(model.embed(waveforms[4:5], peak_index=config.peak_index) - whole[4:5]).max() < 1e-5


def test_short_spike_in_a_batch_of_others(config):
    """Spikes whose window ends early carry a mask; their neighbours must not feel it."""
    model = shaken(HuiduRep(config))
    waveforms = 5 * np.random.default_rng(0).normal(size=(4, config.num_samples, config.num_channels))
    for row, peak in enumerate((0, 1, 2, 1)):
        waveforms[row, config.peak_index + 2 * peak, 0] = -300.0
    whole = model.embed(waveforms)
    alone = np.concatenate([model.embed(waveforms[row : row + 1]) for row in range(4)])
    assert np.abs(whole - alone).max() < 1e-5


def test_types_of_input(config):
    model, waveforms = shaken(HuiduRep(config)), snippets(config).round()
    expected = model.embed(waveforms.numpy(), peak_index=config.peak_index)
    for dtype in (np.float64, np.int16, np.int64):
        assert np.array_equal(model.embed(waveforms.numpy().astype(dtype), peak_index=config.peak_index), expected)
    assert np.array_equal(model.embed(waveforms.numpy().tolist(), peak_index=config.peak_index), expected)
    with torch.no_grad():
        for dtype in (torch.float64, torch.int64):
            assert torch.equal(model(waveforms.to(dtype)).embeddings, model(waveforms).embeddings)


def test_embed_leaves_the_model_as_it_was(config):
    model = shaken(HuiduRep(config)).train()
    model.embed(snippets(config).numpy())
    assert model.training and model.encoder.layers[0].training
    with pytest.raises(ValueError, match="batch_size >= 1"):
        model.embed(snippets(config).numpy(), batch_size=0)
    assert model.embed(np.zeros((0, 50, 3))).shape == (0, 8)


def test_embedding_of_denoised_snippets(config):
    model, waveforms = shaken(HuiduRep(config)), snippets(config)
    with torch.no_grad():
        clean = model(waveforms, output_reconstruction=True).reconstruction
        expected = model(clean).embeddings.numpy()
    found = model.embed(waveforms.numpy(), peak_index=config.peak_index, peak_sign="neg", denoise=True)
    assert np.allclose(found, expected, atol=1e-4)


def test_scaling_is_undone(config):
    model, waveforms = HuiduRep(config), snippets(config)
    assert torch.allclose(model.unscale(model.scale(waveforms)), waveforms, atol=1e-3)
    by_hand = 40 / config.scale_uv
    by_hand = np.log1p(by_hand) if config.scaling == "log" else by_hand
    assert model.scale(torch.tensor([-40.0])).item() == pytest.approx(-by_hand)


def test_gradient_checkpointing_gives_the_same_gradients(config):
    model = shaken(HuiduRep(config)).train()
    for layer in model.modules():
        if hasattr(layer, "dropout"):
            layer.dropout = 0.0
    waveforms, gradients = snippets(config), []
    for _ in range(2):
        model.zero_grad()
        model(waveforms).embeddings.square().sum().backward()
        gradients.append(model.encoder.layers[0].qkv.weight.grad.clone())
        model.gradient_checkpointing_enable()
    assert torch.allclose(*gradients, atol=1e-6)


def test_embedding_leaves_the_model_trainable_and_where_it_was():
    model = HuiduRep(HuiduRepConfig())
    waveforms = -np.abs(np.random.default_rng(0).normal(0, 30, (3, 90, 4)))
    with pytest.raises(ValueError, match="meta"):
        model.embed(waveforms, device="meta")
    model.embed(waveforms, device="cpu")
    model(torch.ones(2, 90, 4)).embeddings.sum().backward()
    assert model.reduction.weight.grad is not None and model.training
