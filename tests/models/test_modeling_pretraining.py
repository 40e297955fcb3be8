"""The momentum branch, the heads and the losses, of all architectures."""

import numpy as np
import pytest
import torch
from test_modeling import CONFIGS, index, paper, shaken, snippets

from huidurep import HuiduRepConfig, HuiduRepForPreTraining
from huidurep.models.losses import prototype_loss


@pytest.fixture(params=CONFIGS)
def config(request):
    """Every architecture, with both comparisons."""
    return CONFIGS[request.param](prototype_weight=0.5, contrastive_weight=2.0)


def weigh(config, prototype_weight, contrastive_weight):
    config.prototype_weight, config.contrastive_weight = prototype_weight, contrastive_weight


def test_momentum_update_by_hand(config):
    model = HuiduRepForPreTraining(config)
    for old, new in model.momentum_pairs():
        assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
        for parameter in new.parameters():
            torch.nn.init.constant_(parameter, 2.0)
        for parameter in old.parameters():
            torch.nn.init.constant_(parameter, 1.0)
    model.update_momentum(0.75)
    model.update_momentum(0.75)
    # 1 -> 0.75 + 0.25 * 2 = 1.25 -> 0.75 * 1.25 + 0.25 * 2 = 1.4375
    for old, new in model.momentum_pairs():
        assert all((p == 1.4375).all() for p in old.parameters()) and all((p == 2).all() for p in new.parameters())
    model.update_momentum()
    assert model.momentum_reduction.weight[0, 0].item() == pytest.approx(1.4375 * 0.99 + 0.02, abs=1e-6)


def test_pretraining_output(config):
    model = shaken(HuiduRepForPreTraining(config))
    first, second, clean = (snippets(config, seed=seed) for seed in range(3))
    with torch.no_grad():
        output, plain = model(first, second, clean), model(first, second)
        swapped = model(second, first)
    compared = 0.5 * output.prototype_loss + 2 * output.contrastive_loss
    total = compared + config.reconstruction_weight * output.reconstruction_loss
    assert next(iter(output)) == "loss" and torch.allclose(output.loss, total)
    assert plain.reconstruction_loss == 0 and torch.allclose(plain.loss, compared)
    assert torch.allclose(swapped.prototype_loss, plain.prototype_loss, atol=1e-5)
    assert torch.allclose(swapped.contrastive_loss, plain.contrastive_loss, atol=1e-6)
    assert torch.allclose(swapped.query_1, plain.query_2, atol=1e-6)
    for vectors in (output.query_1, output.query_2, output.key_1, output.key_2):
        assert vectors.shape == (5, 6) and torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)
    expected = torch.stack([model.huidurep(view).embeddings for view in (first, second)], 1)
    assert torch.allclose(output.view_embeddings, expected, atol=1e-5)
    assert torch.equal(output.embeddings, output.view_embeddings[:, 0])


def test_losses_without_weight_are_left_out(config):
    model, (first, second) = shaken(HuiduRepForPreTraining(config)), (snippets(config, seed=seed) for seed in range(2))
    found = {}
    with torch.no_grad():
        both = model(first, second)
        for name, weights in dict(prototype_loss=(1.0, 0.0), contrastive_loss=(0.0, 1.0)).items():
            weigh(config, *weights)
            found[name] = model(first, second)
            assert torch.equal(found[name].loss, both[name]) and torch.equal(found[name][name], both[name])
    assert found["prototype_loss"].query_1 is found["prototype_loss"].contrastive_loss is None
    assert found["contrastive_loss"].prototype_loss is None
    assert not {"query_1", "query_2", "key_1", "key_2", "contrastive_loss"} & set(found["prototype_loss"])


def test_further_views_are_spikes_of_the_units(config):
    model, views = shaken(HuiduRepForPreTraining(config)), [snippets(config, seed=seed) for seed in range(5)]
    masks = dict(sample_mask=torch.ones(5, config.num_samples), channel_mask=torch.ones(5, config.num_channels))
    masks["sample_mask"][1:3, -20:] = 0
    masks["channel_mask"][2:, -1] = 0
    if config.channel_mixing == "position":
        places = torch.rand(5, config.num_channels, 2, generator=torch.Generator().manual_seed(0))
        masks["channel_positions"] = 30 * places
    labels = dict(labels=torch.tensor([0, 1, 2, 3, 0]), recordings=torch.tensor([0, 0, 0, 1, 0]))
    with torch.no_grad():
        output = model(*views[:2], views[2], further_views=torch.stack(views[2:], 1), **masks, **labels)
        plain = model(*views[:3], **masks, **labels)
        expected = torch.stack([model.huidurep(view, **masks).embeddings for view in views], 1)
    assert torch.allclose(output.view_embeddings, expected, atol=1e-5)
    loss = prototype_loss(expected, temperature=config.prototype_temperature, **labels)
    assert torch.allclose(output.prototype_loss, loss, rtol=1e-3)
    for name in ("contrastive_loss", "reconstruction_loss", "key_2", "query_1", "reconstruction"):
        assert torch.allclose(output[name], plain[name], rtol=1e-4, atol=1e-4), name
    # the contrast has no use for them
    weigh(config, 0.0, 1.0)
    with torch.no_grad():
        assert model(*views[:2], further_views=torch.stack(views[2:], 1)).view_embeddings.shape[:2] == (5, 2)


def test_positions_are_described_once_a_batch(config, monkeypatch):
    model, views = shaken(HuiduRepForPreTraining(config)), [snippets(config, seed=seed) for seed in range(3)]
    found, describe = [], model.huidurep._describe_positions
    monkeypatch.setattr(model.huidurep, "_describe_positions", lambda *args: found.append(describe(*args)) or found[-1])
    with torch.no_grad():
        output = model(*views[:2], further_views=views[2][:, None])
        single = model(*(view[:1] for view in views[:2]), further_views=views[2][:1, None])
    assert len(found) == 2 and output.view_embeddings.shape[1] == 3
    assert torch.allclose(single.view_embeddings, output.view_embeddings[:1], atol=1e-5)


@pytest.mark.parametrize("make", [index, paper])
def test_pretraining_takes_the_middle_channels(make):
    config = make()
    model = shaken(HuiduRepForPreTraining(config))
    wide = [torch.nn.functional.pad(snippets(config, seed=seed), (3, 3), value=50.0) for seed in range(3)]
    with torch.no_grad():
        narrow = model(*(view[:, :, 3:-3] for view in wide))
        assert torch.equal(model(*wide).loss, narrow.loss)


def test_pairs_of_other_recordings_are_no_negatives(config):
    model, views = shaken(HuiduRepForPreTraining(config)), [snippets(config, seed=seed) for seed in range(2)]
    with torch.no_grad():
        apart = model(*views, recordings=torch.arange(5)).contrastive_loss
        together = model(*views, recordings=torch.zeros(5)).contrastive_loss
        assert model(*views, recordings=torch.arange(5)).prototype_loss == 0
        whole = model(*views).contrastive_loss
        some = model(*views, recordings=torch.tensor([0, 0, 0, 1, 1])).contrastive_loss
    assert abs(apart) < 1e-6 and torch.equal(together, whole) and 0 < some < whole


def test_without_heads_the_representation_is_contrasted(config, tmp_path):
    config.projection_hidden_size = 0
    model = shaken(HuiduRepForPreTraining(config))
    with torch.no_grad():
        output = model(snippets(config), snippets(config, seed=1))
    assert torch.allclose(output.query_1, torch.nn.functional.normalize(output.embeddings, dim=-1))
    model.save_pretrained(tmp_path)
    loaded = HuiduRepForPreTraining.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert not any("projection.0" in name or "predictor" in name for name in loaded.state_dict())


def test_masked_values_change_no_loss(config):
    model = shaken(HuiduRepForPreTraining(config))
    views = [snippets(config, seed=seed) for seed in range(3)]
    mask, other = torch.ones(5, config.num_samples), [view.clone() for view in views]
    mask[:, -20:] = 0
    for view in other:
        view[:, -20:] = float("nan")
    with torch.no_grad():
        found, again = model(*views, sample_mask=mask), model(*other, sample_mask=mask)
    assert torch.equal(found.loss, again.loss) and torch.equal(found.key_2, again.key_2)


@pytest.mark.parametrize("weights", [(-1.0, 1.0), (1.0, -0.1), (0.0, 0.0), (1.0, float("nan"))])
def test_weights_that_teach_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="prototype_weight|contrastive_weight"):
        HuiduRepConfig(prototype_weight=weights[0], contrastive_weight=weights[1])


def test_objectives_by_default_and_of_the_paper():
    default, published = HuiduRepConfig(), HuiduRepConfig.paper()
    assert (default.prototype_weight, default.contrastive_weight, default.prototype_temperature) == (1.0, 0.0, 0.0625)
    assert (published.prototype_weight, published.contrastive_weight) == (0.0, 1.0)
    with pytest.raises(ValueError, match="prototype_temperature.*found 0"):
        HuiduRepConfig(prototype_temperature=0)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0)])
def test_training_lowers_the_loss(config, weights):
    torch.manual_seed(0)
    weigh(config, *weights)
    compared = "prototype_loss" if weights[0] else "contrastive_loss"
    model = HuiduRepForPreTraining(config).train()
    clean = snippets(config, 32 if config.scaling == "log" else 16)
    scale = 1.0 if config.scaling == "log" else 0.03
    clean = clean * scale
    noise = [clean + 5 * scale * torch.randn(clean.shape, generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = {id(p) for old, _ in model.momentum_pairs() for p in old.parameters()}
    assert not frozen & {id(p) for p in trained} and len(trained) + len(frozen) == len(list(model.parameters()))
    optimiser, losses = torch.optim.AdamW(trained, lr=3e-3), []
    for _ in range(30 if config.channel_mixing == "position" else 20):
        output = model(*noise, clean)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        model.update_momentum()
        losses.append((output[compared].item(), output.reconstruction_loss.item()))
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    heads = ("projection.", "predictor.") if compared == "prototype_loss" else ()
    assert [name for name in unreached if not name.endswith("missing_channel") and not name.startswith(heads)] == []
    assert (np.mean(losses[-3:], 0) < 0.95 * np.array(losses[0])).all()
