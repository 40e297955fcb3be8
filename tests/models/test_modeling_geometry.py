"""Channels by their place: order, origin and number of the contacts do not matter, their places to each other do."""

import copy
import math

import numpy as np
import pytest
import torch
from test_modeling import SMALL, fast, shaken

from huidurep import HuiduRep, HuiduRepForPreTraining
from huidurep.models.input_contract import map_waveforms
from huidurep.models.modeling_geometry import NUM_FEATURES, SCALES_UM, position_features, spatial_components
from huidurep.simulation.probes import contact_layout


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return shaken(HuiduRep(fast(num_channels=16)))


def places(num_channels, seed=0):
    return contact_layout("neuropixels-1.0", num_channels, np.random.default_rng(seed))


def waves(num_channels, num_spikes=5, num_samples=90, seed=0):
    """Noise with a trough at sample 30, deepest on another channel in every spike."""
    waveforms = np.random.default_rng(seed).normal(0, 20, (num_spikes, num_samples, num_channels)).astype(np.float32)
    peaks = np.arange(num_spikes) * (num_channels - 1) // max(num_spikes - 1, 1)
    waveforms[:, 30] -= 100
    waveforms[np.arange(num_spikes), 30, peaks] -= 300
    return waveforms


@pytest.mark.parametrize("num_channels", [3, 10, 24])
def test_embedding_does_not_depend_on_the_order_of_channels(model, num_channels):
    waveforms, at = waves(num_channels), places(num_channels)
    order = np.roll(np.random.default_rng(1).permutation(num_channels), 1)
    found = model.embed(waveforms, channel_positions=at)
    again = model.embed(waveforms[:, :, order], channel_positions=at[order])
    assert np.abs(found - again).max() < 1e-4 * np.abs(found).max()
    # channels in another order on the same contacts are other spikes
    assert np.abs(found - model.embed(waveforms[:, :, order], channel_positions=at)).max() > 0.01


def test_forward_does_not_depend_on_the_order_of_channels(model):
    waveforms, at = torch.from_numpy(waves(8)), torch.tensor(places(8), dtype=torch.float32)[None]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(waveforms, channel_positions=at, output_reconstruction=True)
        again = model(waveforms[:, :, order], channel_positions=at[:, order], output_reconstruction=True)
    assert torch.allclose(found.embeddings, again.embeddings, atol=1e-4)
    assert torch.allclose(found.reconstruction[:, :, order], again.reconstruction, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("shift_um", [(0.0, 5000.0), (-5000.0, 5000.0)])
def test_embedding_does_not_depend_on_where_the_window_is(model, shift_um):
    waveforms, at = waves(12), places(12)
    found = model.embed(waveforms, channel_positions=at)
    assert np.abs(found - model.embed(waveforms, channel_positions=at + shift_um)).max() < 1e-3 * np.abs(found).max()


def test_embedding_depends_on_the_places_of_contacts(model):
    waveforms, at = waves(8), places(8)
    found = model.embed(waveforms, channel_positions=at)
    for other in (1.5 * at, at * (1, -1), at + np.eye(8, 2) * 20):
        assert np.abs(found - model.embed(waveforms, channel_positions=other)).max() > 0.01


def test_places_default_to_the_nominal_ones(model):
    square = 12.5 * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
    assert np.array_equal(model.embed(waves(4)), model.embed(waves(4), channel_positions=square))
    column = np.stack([np.zeros(6), 25.0 * np.arange(6)], 1)
    assert np.array_equal(model.embed(waves(6)), model.embed(waves(6), channel_positions=column))
    with torch.no_grad():
        plain = model(torch.from_numpy(waves(6))).embeddings
    assert np.abs(plain.numpy() - model.embed(waves(6), peak_index=30)).max() < 1e-5


@pytest.mark.parametrize("filling", [1e4, float("nan")])
def test_a_masked_channel_is_as_good_as_none(model, filling):
    """Whatever stands in it, and wherever it is said to be."""
    waveforms, at = torch.from_numpy(waves(6)), torch.tensor(places(6), dtype=torch.float32).repeat(5, 1, 1)
    mask = torch.ones(5, 6)
    mask[:, [1, 4]] = 0
    left = mask[0] > 0
    waveforms[:, :, ~left], at[:, ~left] = filling, filling
    with torch.no_grad():
        found = model(waveforms, mask, channel_positions=at, output_reconstruction=True)
        without = model(waveforms[:, :, left], channel_positions=at[:, left], output_reconstruction=True)
    assert torch.allclose(found.embeddings, without.embeddings, atol=1e-4)
    assert torch.allclose(found.reconstruction[:, :, left], without.reconstruction, atol=1e-2, rtol=1e-3)
    assert found.reconstruction.isfinite().all()


def test_every_spike_has_its_own_mask_and_places(model):
    waveforms, mask = torch.from_numpy(waves(6)), torch.ones(5, 6)
    at = torch.stack([torch.tensor(places(6, seed), dtype=torch.float32) for seed in range(5)])
    mask[2, 3:], mask[4, 0] = 0, 0
    with torch.no_grad():
        whole = model(waveforms, mask, channel_positions=at).embeddings
        alone = [model(waveforms[i : i + 1], mask[i : i + 1], channel_positions=at[i : i + 1]) for i in range(5)]
    assert torch.allclose(whole, torch.cat([output.embeddings for output in alone]), atol=1e-4)


@pytest.mark.parametrize("num_channels", range(1, 21))
def test_any_number_of_channels_works(model, num_channels):
    waveforms = waves(num_channels)
    with torch.no_grad():
        output = model(torch.from_numpy(waveforms), output_reconstruction=True)
    assert output.reconstruction.shape == waveforms.shape and output.embeddings.shape == (5, 8)
    found = model.embed(waveforms, channel_positions=places(num_channels))
    assert found.shape == (5, 8) and np.isfinite(found).all()


def test_no_spike_at_all(model):
    assert model.embed(np.zeros((0, 90, 30)), channel_positions=places(30)).shape == (0, 8)
    assert model.denoise(np.zeros((0, 90, 30))).shape == (0, 90, 30)


def test_a_window_smaller_than_the_contract_is_not_padded(model):
    mapped = map_waveforms(waves(4), model.config, channel_positions=places(4))
    assert mapped.channels.shape == mapped.channel_mask.shape == (5, 4) and mapped.snippets.shape == (5, 90, 4)
    assert mapped.channel_mask.all() and mapped.positions_um.shape == (5, 4, 2)


def test_each_spike_is_embedded_at_the_contacts_around_it():
    model, waveforms, at = shaken(HuiduRep(fast())), waves(12), places(12)
    whole = model.embed(waveforms, peak_index=30, channel_positions=at, batch_size=2)
    channels = map_waveforms(waveforms, model.config, peak_index=30, channel_positions=at).channels
    assert channels.shape == (5, 4) and len(np.unique(channels, axis=0)) > 2
    for row, kept in enumerate(channels):
        alone = model.embed(waveforms[row : row + 1][:, :, kept], peak_index=30, channel_positions=at[kept])
        assert np.abs(alone - whole[row]).max() < 1e-4


def test_location_tells_units_of_one_shape_at_two_places_apart():
    """A long array: the contacts around either look alike, so that only the place differs."""
    model, rng, at = shaken(HuiduRep(fast())), np.random.default_rng(0), [[0.0, 20.0 * row] for row in range(24)]
    footprint = -np.exp(-0.5 * ((np.arange(90) - 30) / 4) ** 2)[:, None] * np.array([100.0, 300.0, 150.0, 50.0])
    waveforms = rng.normal(0, 5, (20, 90, 24)).astype(np.float32)
    waveforms[:10, :, 5:9] += footprint
    waveforms[10:, :, 15:19] += footprint
    plain = model.embed(waveforms, channel_positions=at)
    found = model.embed(waveforms, channel_positions=at, location=True)
    assert found.shape == (20, 10) and found.dtype == np.float32 and np.array_equal(found[:, :8], plain)
    gaps = [np.linalg.norm(each[:10].mean(0) - each[10:].mean(0)) for each in (plain, found)]
    spreads = [each[:10].std(0).max() for each in (plain, found)]
    assert gaps[0] < 2 * spreads[0] and gaps[1] > 5 * spreads[1]
    # ten rows apart, in units of twice the distance of neighbours
    np.testing.assert_allclose(found[10:, 8:].mean(0) - found[:10, 8:].mean(0), [0, 5], atol=0.05)
    alone = model.embed(waveforms[12:13], channel_positions=at, location=True)
    np.testing.assert_allclose(alone[0], found[12], atol=1e-5)


def test_location_of_no_spike_a_flat_trace_and_one_contact(model):
    at = places(20)
    assert model.embed(np.zeros((0, 90, 20)), channel_positions=at, location=True).shape == (0, 10)
    assert np.isfinite(model.embed(np.zeros((1, 90, 20)), channel_positions=at, location=True)).all()
    assert not model.embed(waves(1), channel_positions=[[0.0, 0.0]], location=True)[:, 8:].any()


def test_location_needs_the_places_of_contacts(model):
    with pytest.raises(ValueError, match="channel_positions"):
        model.embed(waves(4), location=True)


def test_denoise_gives_the_shape_back():
    model, waveforms, at = shaken(HuiduRep(fast())), waves(12, num_samples=70), places(12)
    denoised = model.denoise(waveforms, sampling_frequency=24000.0, channel_positions=at)
    assert denoised.shape == waveforms.shape and denoised.dtype == np.float32 and np.isfinite(denoised).all()
    channels = map_waveforms(waveforms, model.config, sampling_frequency=24000.0, channel_positions=at).channels
    for row, kept in enumerate(channels):
        changed = (denoised[row] != waveforms[row]).any(0)
        assert sorted(np.flatnonzero(changed)) == sorted(kept)


def test_position_features_of_two_contacts_by_hand():
    found = position_features(torch.tensor([[[10.0, 5.0], [40.0, 5.0]]]))
    assert found.shape == (1, 2, NUM_FEATURES) and NUM_FEATURES == 22
    # 15 um to either side of their centre; two contacts, root mean square distance 15 um
    for offset, row in ((-15.0, found[0, 0]), (15.0, found[0, 1])):
        expected = [math.log(2 / 4), math.log(1 + 15 / 30)]
        for scale in SCALES_UM:
            angle = offset / scale
            expected += [math.sin(angle), 0.0, math.cos(angle), 1.0, math.exp(-15 / scale)]
        assert row.tolist() == pytest.approx(expected, abs=1e-6)


def test_position_features_leave_missing_contacts_out():
    at = torch.tensor([[[10.0, 5.0], [float("nan"), 7.0], [40.0, 5.0], [9e9, 0.0]]])
    found = position_features(at, torch.tensor([[1.0, 0, 1, 0]]))
    assert torch.equal(found[:, [0, 2]], position_features(at[:, [0, 2]])) and found.isfinite().all()
    # one row of places, masks of several spikes; nothing there at all is no reason for infinities either
    several = position_features(at, torch.tensor([[1.0, 0, 1, 0], [0.0, 0, 0, 0]]))
    assert torch.equal(several[0], found[0]) and several.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(model, dtype):
    waveforms, at = waves(12), places(12) + (0, 9000)
    half = copy.deepcopy(model).to(dtype)
    found, expected = half.embed(waveforms, channel_positions=at), model.embed(waveforms, channel_positions=at)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_weights_do_not_depend_on_the_number_of_channels():
    small, large = HuiduRep(fast(num_channels=4)), HuiduRep(fast(num_channels=16))
    sizes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (small, large)]
    assert sizes[0] == sizes[1]
    assert not any("missing_channel" in name for name in sizes[0])


def test_fingerprint_of_a_position_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = HuiduRep.from_pretrained(tmp_path)
    assert loaded.config.channel_mixing == "position" and SMALL["embedding_size"] == loaded.config.embedding_size
    waveforms, at = waves(12), places(12)
    assert np.array_equal(loaded.embed(waveforms, channel_positions=at), model.embed(waveforms, channel_positions=at))


def test_masked_values_and_places_change_no_loss():
    model, mask = shaken(HuiduRepForPreTraining(fast(contrastive_weight=1.0))), torch.ones(5, 6)
    mask[:2, 3:] = 0
    at = torch.tensor(places(6), dtype=torch.float32).repeat(5, 1, 1)
    views = [torch.from_numpy(waves(6, seed=seed)) for seed in range(3)]
    filled, moved = [view.clone() for view in views], at.clone()
    for part in filled:
        part[:2, :, 3:] = float("nan")
    moved[:2, 3:] = float("nan")
    with torch.no_grad():
        found = model(*views, channel_mask=mask, channel_positions=at)
        again = model(*filled, channel_mask=mask, channel_positions=moved)
        whole = model(*views, channel_positions=at)
    for name in ("loss", "prototype_loss", "reconstruction_loss", "key_1", "query_2"):
        assert torch.equal(found[name], again[name]), name
    assert not torch.equal(found.loss, whole.loss)


def test_momentum_branch_is_told_the_places():
    model = shaken(HuiduRepForPreTraining(fast(contrastive_weight=1.0)))
    views = [torch.from_numpy(waves(6, seed=seed)) for seed in range(2)]
    with torch.no_grad():
        model.update_momentum(0.0)
        near, far = (
            model(*views, channel_positions=scale * torch.tensor(places(6), dtype=torch.float32)[None])
            for scale in (1, 3)
        )
    assert (near.key_1 - far.key_1).abs().max() > 1e-3 and (near.query_1 - far.query_1).abs().max() > 1e-3


def test_spatial_components_keep_distances_in_any_order_of_channels():
    at = torch.tensor(places(5), dtype=torch.float32)[None]
    snippets = torch.randn(6, 20, 5, generator=torch.Generator().manual_seed(0))
    found = spatial_components(snippets, at)
    torch.testing.assert_close(torch.cdist(found.flatten(1), found.flatten(1)), torch.cdist(*2 * [snippets.flatten(1)]))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(spatial_components(snippets[:, :, order], at[:, order]), found)


def test_spatial_components_of_missing_channels_are_those_of_fewer_channels():
    at = torch.tensor(places(4), dtype=torch.float32)[None]
    snippets = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1.0, 0, 1, 0]]).expand(3, -1)
    found = spatial_components(snippets * mask[:, None], at.expand(3, -1, -1), mask)
    torch.testing.assert_close(found[:, :, :2], spatial_components(snippets[:, :, ::2], at[:, ::2]))
    assert (found[:, :, 2:] == 0).all()


def test_linear_axes_refuse_more_channels_than_they_were_fitted_to():
    model = HuiduRep(fast(num_channels=2, linear_size=4))
    with pytest.raises(ValueError, match="at most 2 channels"):
        model(torch.zeros(1, 90, 3))
    with pytest.raises(ValueError, match="linear_size"):
        fast(linear_size=1000)
