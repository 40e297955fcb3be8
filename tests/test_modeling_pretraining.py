"""The momentum branch, the heads and the losses, of all architectures."""

import numpy as np
import pytest
import torch
from test_modeling import CONFIGS, index, paper, shaken, snippets

from huidurep import HuiduRepForPreTraining


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]()


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
    total = output.contrastive_loss + config.reconstruction_weight * output.reconstruction_loss
    assert next(iter(output)) == "loss" and torch.allclose(output.loss, total)
    assert plain.reconstruction_loss == 0 and torch.equal(plain.loss, output.contrastive_loss)
    assert torch.allclose(swapped.contrastive_loss, plain.contrastive_loss, atol=1e-6)
    assert torch.allclose(swapped.query_1, plain.query_2, atol=1e-6)
    for vectors in (output.query_1, output.query_2, output.key_1, output.key_2):
        assert vectors.shape == (5, 6) and torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.equal(output.embeddings, model.huidurep(first).embeddings)


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


def test_training_lowers_the_loss(config):
    torch.manual_seed(0)
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
        losses.append((output.contrastive_loss.item(), output.reconstruction_loss.item()))
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert [name for name in unreached if not name.endswith("missing_channel")] == []
    assert (np.mean(losses[-3:], 0) < 0.95 * np.array(losses[0])).all()
