"""A gradient cache gives the gradients of the whole batch."""

import contextlib

import pytest
import torch
from template_libraries import SMALL

from huidurep import HuiduRepConfig, HuiduRepForPreTraining
from huidurep.training.gradient_cache import backward_in_chunks

OBJECTIVES = {
    "prototypes": dict(prototype_weight=0.7, contrastive_weight=0.0),
    "contrast": dict(prototype_weight=0.0, contrastive_weight=1.0),
    "mixture": dict(prototype_weight=0.7, contrastive_weight=0.4),
}


def make_model(**settings):
    torch.manual_seed(0)
    return HuiduRepForPreTraining(HuiduRepConfig(**{**SMALL, **OBJECTIVES["mixture"], **settings})).double()


def freeze_norms(model):
    """BatchNorm with running statistics: nothing then ties the units of a batch together but the loss."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    clean = 60 * torch.randn(14, 90, 4, generator=generator).double()
    lengths = torch.randint(40, 91, (14,), generator=generator)
    return dict(
        view_1=clean + torch.randn(clean.shape, generator=generator),
        view_2=clean + torch.randn(clean.shape, generator=generator),
        further_views=clean[:, None] + torch.randn((14, 2, 90, 4), generator=generator),
        clean=clean,
        channel_mask=(torch.rand(14, 4, generator=generator) < 0.8).double(),
        sample_mask=(torch.arange(90) < lengths[:, None]).double(),
        labels=torch.arange(14) % 12,  # two units stand twice in the batch
        recordings=torch.arange(14) // 7,
        channel_positions=30 * torch.rand(14, 4, 2, generator=generator).double(),
    )


def gradients(model):
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("chunk_size", [3, 5, 14, 100])
@pytest.mark.parametrize(
    "settings", [*OBJECTIVES.values(), {"channel_mixing": "index"}, {"projection_hidden_size": 0}], ids=str
)
def test_gradients_are_those_of_the_whole_batch(batch, chunk_size, settings):
    model = freeze_norms(make_model(**settings))
    output = model(**batch)
    output.loss.backward()
    expected = gradients(model)
    losses = backward_in_chunks(model, batch, chunk_size=chunk_size)
    found = gradients(model)
    assert losses.keys() == {name for name in output if name == "loss" or name.endswith("_loss")}
    assert found.keys() == expected.keys() and "huidurep.reduction.weight" in found
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-10, msg=name)
    for name, value in losses.items():
        torch.testing.assert_close(value, output[name].detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_batch_without_masks_labels_clean_and_further_views(batch, objective):
    model = freeze_norms(make_model(**OBJECTIVES[objective]))
    plain = dict(view_1=batch["view_1"], view_2=batch["view_2"], labels=None)
    model(**plain).loss.backward()
    expected = gradients(model)
    losses = backward_in_chunks(model, plain, chunk_size=4)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected.get(name, torch.zeros_like(gradient)), rtol=1e-7, atol=1e-10)
    assert losses["reconstruction_loss"] == 0


def test_dropout_drops_the_same_in_both_passes(batch):
    # One chunk: the gradients are those of a plain step that begins with the same random numbers.
    model = make_model(hidden_dropout_prob=0.3).train()
    state = torch.get_rng_state()
    model(**batch).loss.backward()
    after, expected = torch.get_rng_state(), gradients(model)
    torch.set_rng_state(state)
    backward_in_chunks(model, batch, chunk_size=14)
    assert torch.equal(torch.get_rng_state(), after)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-10)


def test_running_statistics_move_once_a_chunk(batch):
    model = make_model().train()
    backward_in_chunks(model, batch, chunk_size=5)
    norm = next(module for module in model.projection.modules() if isinstance(module, torch.nn.BatchNorm1d))
    assert int(norm.num_batches_tracked) == 2 * 3  # both views of three chunks


def test_all_chunks_but_the_last_keep_their_gradients_to_themselves(batch):
    entered, scaled = [], []

    @contextlib.contextmanager
    def no_sync():
        entered.append("in")
        yield
        entered.append("out")

    def backward(loss):
        scaled.append(len(entered))
        (loss / 2).backward()

    model = freeze_norms(make_model())
    backward_in_chunks(model, batch, chunk_size=5)
    expected = gradients(model)
    backward_in_chunks(model, batch, chunk_size=5, backward=backward, no_sync=no_sync)
    assert entered == ["in", "out"] * 2 and scaled == [1, 3, 4]
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name] / 2)


def test_chunks_of_one_unit_are_refused(batch):
    with pytest.raises(ValueError, match="chunk_size.*2.*1"):
        backward_in_chunks(make_model(), batch, chunk_size=1)
