"""The linear adapter of one recording: principal components of representation and snippet together."""

import numpy as np
import pytest
import torch
from template_libraries import SMALL, TETRODE_UM
from toy_spikes import draw_spikes

from huidurep import HuiduRep, HuiduRepConfig
from huidurep.adaptation.linear_adapter import fit_adapter
from huidurep.adaptation.settings import DEFAULT_SETTINGS
from huidurep.models.inference import embed_mapped
from huidurep.models.input_contract import map_waveforms

WHERE = dict(peak_index=30, channel_positions=TETRODE_UM)
ONE_GROUP = np.zeros(200, int)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HuiduRep(HuiduRepConfig(**SMALL)).eval()


def spikes_for(model, num_channels=4):
    waveforms, truth = draw_spikes(4, 50)
    where = dict(WHERE, channel_positions=TETRODE_UM[:num_channels])
    return map_waveforms(waveforms[:, :, :num_channels], model.config, **where), waveforms, truth


def test_embeddings_are_the_principal_components_of_both(model):
    mapped, _, _ = spikes_for(model)
    adapted = fit_adapter(model, mapped, ONE_GROUP)
    found = embed_mapped(adapted, mapped)
    inner = embed_mapped(model, mapped).astype(float)
    outer = mapped.snippets.reshape(200, -1).astype(float) / model.config.scale_uv
    inner, outer = inner - inner.mean(0), outer - outer.mean(0)
    u, sizes, _ = np.linalg.svd(outer, full_matrices=False)
    scores = u[:, :24] * sizes[:24]
    ratio = DEFAULT_SETTINGS.waveform_weight * np.sqrt(inner.var(0).sum() / scores.var(0).sum())
    expected = np.linalg.svd(np.hstack([inner, ratio * scores]), full_matrices=False)[1]
    count = min(DEFAULT_SETTINGS.num_dimensions, model.config.embedding_size)
    assert found.shape == (200, model.config.embedding_size) and not found[:, count:].any()
    assert np.allclose(np.linalg.norm(found, axis=0)[:count], expected[:count], rtol=1e-2)
    assert np.abs(found.mean(0)).max() < 1e-2 * found.std()


def test_what_the_encoder_does_not_represent_is_added(model):
    with torch.no_grad():
        model.reduction.weight.zero_()
    mapped, _, truth = spikes_for(model)
    assert not np.ptp(embed_mapped(model, mapped), axis=0).any()
    found = embed_mapped(fit_adapter(model, mapped, ONE_GROUP), mapped)
    means = np.stack([found[truth == unit].mean(0) for unit in range(4)])
    nearest = np.linalg.norm(found[:, None] - means[None], axis=2).argmin(1)
    assert (nearest == truth).mean() > 0.95


def test_model_and_random_numbers_are_left_alone(model):
    mapped, _, _ = spikes_for(model)
    before, state = {name: each.clone() for name, each in model.state_dict().items()}, torch.get_rng_state()
    adapted = fit_adapter(model, mapped, ONE_GROUP)
    assert torch.equal(state, torch.get_rng_state())
    assert not model.config.adapter and adapted.config.adapter
    assert all(torch.equal(each, model.state_dict()[name]) for name, each in before.items())
    again = fit_adapter(model, mapped, ONE_GROUP)
    assert all(torch.equal(a, b) for a, b in zip(adapted.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("num_channels", [4, 3])
def test_saved_and_loaded_it_gives_the_same(model, num_channels, tmp_path):
    mapped, waveforms, _ = spikes_for(model, num_channels)
    adapted = fit_adapter(model, mapped, ONE_GROUP)
    adapted.save_pretrained(tmp_path)
    where = dict(WHERE, channel_positions=TETRODE_UM[:num_channels])
    found = adapted.embed(waveforms[:, :, :num_channels], **where)
    assert np.array_equal(found, HuiduRep.from_pretrained(tmp_path).embed(waveforms[:, :, :num_channels], **where))
    assert np.abs(found).max() > 0


def test_groups_are_compared_within(model):
    mapped, _, _ = spikes_for(model)
    groups = np.arange(200) % 2
    shifted = np.where(groups[:, None, None] == 1, mapped.snippets + 300.0, mapped.snippets)
    apart = fit_adapter(model, type(mapped)(**{**vars(mapped), "snippets": shifted}), groups)
    together = fit_adapter(model, type(mapped)(**{**vars(mapped), "snippets": shifted}), ONE_GROUP)
    constant = torch.ones(model.config.num_samples * model.config.num_channels)
    constant /= constant.norm()
    weights = [each.adapter.snippet.weight.detach() for each in (apart, together)]
    # the direction between the groups leads where they count as one, and is as good as absent where they do not
    shares = [float((each @ constant).norm() / each.norm()) for each in weights]
    assert shares[0] < 0.5 * shares[1]


def test_another_window_is_refused(model):
    mapped, _, _ = spikes_for(model)
    adapted = fit_adapter(model, mapped, ONE_GROUP)
    with pytest.raises(ValueError, match="90.*4.*60, 4"):
        adapted(torch.zeros(2, 60, 4))
