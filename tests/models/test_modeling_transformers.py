"""What transformers asks of every model; its own tests of that run with `make test-common` (common_model_tests.py)."""

import copy
import inspect
import pickle

import pytest
import torch

from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining

SMALL = dict(hidden_size=16, num_hidden_layers=2, intermediate_size=24, embedding_size=8)
CONFIGS = {
    "position": lambda: HuiduRepConfig(**SMALL),
    "index": lambda: HuiduRepConfig.paper(**SMALL, decoder_num_hidden_layers=1, num_samples=30, peak_index=10),
}


@pytest.fixture(params=CONFIGS)
def model(request):
    torch.manual_seed(0)
    return HuiduRep(CONFIGS[request.param]()).eval()


def snippets(config, num_spikes=5):
    shape = (num_spikes, config.num_samples, config.num_channels)
    return 20 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_hidden_states_output(model):
    config = model.config
    with torch.no_grad():
        output = model(snippets(config), output_hidden_states=True)
        plain = model(snippets(config))
    assert len(output.hidden_states) == config.num_hidden_layers + 1
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert {tuple(state.shape) for state in output.hidden_states} == {tuple(output.last_hidden_state.shape)}
    assert not torch.equal(output.hidden_states[0], output.hidden_states[1])
    assert plain.hidden_states is None and plain.attentions is None
    assert torch.equal(plain.embeddings, output.embeddings)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_outputs(model, implementation):
    config = model.config
    model.set_attn_implementation(implementation)
    mask = torch.ones(5, config.num_samples)
    mask[:, config.num_samples // 2 :] = 0
    with torch.no_grad():
        output = model(snippets(config), sample_mask=mask, output_attentions=True)
        plain = model(snippets(config), sample_mask=mask)
    tokens = output.last_hidden_state.shape[1]
    assert len(output.attentions) == config.num_hidden_layers
    for attention in output.attentions:
        assert attention.shape == (5, config.num_attention_heads, tokens, tokens)
        assert torch.allclose(attention.sum(-1), torch.ones(5, config.num_attention_heads, tokens))
        assert attention[..., -1].max() == 0  # of a token that holds no sample
    assert torch.allclose(plain.embeddings, output.embeddings, atol=1e-5)


def test_outputs_asked_for_in_the_configuration(model):
    model.set_attn_implementation("eager")  # transformers refuses the setting with any other
    model.config.output_hidden_states = model.config.output_attentions = True
    with torch.no_grad():
        output = model(snippets(model.config))
        assert len(output.hidden_states) == 3 and len(output.attentions) == 2
        assert model(snippets(model.config), output_attentions=False).attentions is None
        model.config.return_dict = False
        assert isinstance(model(snippets(model.config)), tuple)


def test_retain_grad_hidden_states_attentions(model):
    model.set_attn_implementation("eager")
    output = model(snippets(model.config), output_hidden_states=True, output_attentions=True)
    kept = (*output.hidden_states, *output.attentions)
    for tensor in kept:
        tensor.retain_grad()
    output.embeddings.square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in kept)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_loading(model, dtype, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = HuiduRep.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    with torch.no_grad():
        found, expected = loaded(snippets(model.config)).embeddings, model(snippets(model.config)).embeddings
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()
    loaded.save_pretrained(tmp_path / "again")
    assert HuiduRep.from_pretrained(tmp_path / "again", dtype="auto").dtype == dtype


def test_torch_export_with_any_number_of_spikes(model):
    config, axis = model.config, {0: torch.export.Dim("num_spikes")}
    program = torch.export.export(
        model,
        (snippets(config), torch.ones(5, config.num_channels), torch.ones(5, config.num_samples)),
        kwargs=dict(output_reconstruction=True),
        dynamic_shapes=dict(waveforms=axis, channel_mask=axis, sample_mask=axis, output_reconstruction=None),
    )
    for num_spikes in (1, 2, 33):
        masks = torch.ones(num_spikes, config.num_channels), torch.ones(num_spikes, config.num_samples)
        masks[1][0, -8:] = 0
        inputs = (snippets(config, num_spikes), *masks)
        with torch.no_grad():
            found = program.module()(*inputs, output_reconstruction=True)
            expected = model(*inputs, output_reconstruction=True)
        assert torch.allclose(found.embeddings, expected.embeddings, atol=1e-5)
        assert torch.allclose(found.reconstruction, expected.reconstruction, atol=1e-3)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_whole_and_apart(model, copied):
    other = copied(model)
    with torch.no_grad():
        expected = model(snippets(model.config)).embeddings
        assert torch.equal(other(snippets(model.config)).embeddings, expected)
        other.reduction.bias += 1
        assert torch.equal(model(snippets(model.config)).embeddings, expected)
    assert other.config is not model.config and other.config.to_dict() == model.config.to_dict()


def test_initialisation_is_what_the_seed_makes_it(model):
    torch.manual_seed(0)
    again = HuiduRep(copy.deepcopy(model.config)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    with torch.device("meta"):
        blank = HuiduRep(copy.deepcopy(model.config))
    blank.to_empty(device="cpu")
    for tensor in blank.state_dict().values():
        tensor.fill_(7)
    torch.manual_seed(0)
    blank.init_weights()
    left = [name for name, tensor in blank.state_dict().items() if (tensor == 7).any()]
    assert not left


def test_weights_from_memory(model):
    loaded = HuiduRep.from_pretrained(None, config=model.config, state_dict=model.state_dict())
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_attributes_without_resizing(model):
    assert model.get_input_embeddings() is model.embeddings and model.get_output_embeddings() is None
    for cls in (HuiduRep, HuiduRepForPreTraining):
        assert cls.main_input_name == list(inspect.signature(cls.forward).parameters)[1]
        assert not cls.can_generate()
