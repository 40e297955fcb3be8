import pytest
import torch
from banks import make_bank

from huidurep import HuiduRepConfig
from huidurep.training.views import ViewMaker, ViewRecipe

SILENT = dict(
    num_recordings=1,
    group_size=4,
    noise_uv=(1e-4, 1e-4),
    collision_probability=0.0,
    truncation_probability=0.0,
    missing_probability=0.0,
    misalignment_probability=0.0,
)
FIXED_FILTER = dict(high_pass_hz=(200.0, 200.0), low_pass_hz=(8000.0, 8000.0), causal_probability=0.0)


def draw(num_pairs=8, seed=0, config=None, **recipe):
    maker = ViewMaker([make_bank(), make_bank(seed=1)], config or HuiduRepConfig(), ViewRecipe(**recipe))
    return maker.draw(num_pairs, torch.Generator().manual_seed(seed))


def test_shapes():
    batch = draw(num_recordings=4, group_size=2, num_pairs=16)
    for name in ("view_1", "view_2", "clean"):
        assert batch[name].shape == (16, 90, 4) and batch[name].dtype == torch.float32
        assert batch[name].isfinite().all()
    assert batch["channel_mask"].shape == (16, 4) and batch["sample_mask"].shape == (16, 90)
    assert batch["labels"].shape == (16,)


def test_pairs_of_one_recording_are_different_units():
    labels = draw(num_recordings=1, num_pairs=12)["labels"]
    assert len(labels.unique()) == 12


def test_what_is_masked_is_zero():
    batches = [
        draw(
            num_recordings=4, group_size=4, num_pairs=16, seed=seed, truncation_probability=1.0, missing_probability=1.0
        )
        for seed in range(4)
    ]
    for batch in batches:
        exists = batch["channel_mask"][:, None, :] * batch["sample_mask"][:, :, None]
        for name in ("view_1", "view_2", "clean"):
            assert batch[name][exists == 0].abs().max() == 0
        assert batch["view_1"][exists == 1].abs().min() > 0
        assert (batch["channel_mask"].sum(1) >= 2).all() and (batch["channel_mask"].sum(1) < 4).all()
        assert (batch["sample_mask"][:, 30] == 1).all()
        assert (batch["sample_mask"].sum(1) < 90).all()


def test_nothing_is_masked_without_truncation():
    batch = draw(**SILENT)
    assert batch["channel_mask"].min() == batch["sample_mask"].min() == 1


def test_the_trough_stands_at_the_peak_index():
    batch = draw(num_pairs=12, **SILENT)
    for name in ("view_1", "clean"):
        assert (batch[name].amin(2).argmin(1) - 30).abs().max() <= 1


def test_clean_has_no_noise_and_no_collisions():
    silent = draw(num_pairs=12, **SILENT)
    assert (silent["view_1"] - silent["clean"]).abs().max() < 0.01
    noisy = draw(num_pairs=12, **(SILENT | dict(noise_uv=(1.0, 1.0))))
    residual = noisy["view_1"] - noisy["clean"]
    assert float(residual.std()) == pytest.approx(1.0, rel=0.25)
    # of the same draws: only where noise moved the trough found by a sample does the clean spike differ
    same = (noisy["clean"] - silent["clean"]).abs().amax((1, 2)) < 0.01
    assert same.float().mean() > 0.5
    hit = draw(num_pairs=12, **(SILENT | dict(collision_probability=1.0)))
    assert (hit["view_1"] - hit["clean"]).abs().amax((1, 2)).median() > 5


def correlation(a, b):
    a, b = (x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True) for x in (a, b))
    return a @ b.T


def test_positive_pairs_are_of_one_unit():
    batch = draw(num_pairs=12, **(SILENT | FIXED_FILTER))
    likeness = correlation(batch["view_1"], batch["view_2"])
    assert likeness.diagonal().min() > 0.95
    assert (likeness.argmax(1) == torch.arange(12)).float().mean() > 0.8


@pytest.mark.parametrize("same_spike", [False, True])
def test_pairs_of_the_paper_are_one_spike_twice(same_spike):
    recipe = SILENT | FIXED_FILTER | dict(gain_jitter=0.3, bursting_probability=1.0, bursting_gain=(0.3, 1.0))
    batch = draw(num_pairs=12, same_spike=same_spike, **recipe)
    sizes = [batch[name].flatten(1).norm(dim=1) for name in ("view_1", "view_2")]
    change = (sizes[0] / sizes[1]).log().abs()
    # cut at another fraction of a sample, the same spike keeps its size; another one of the unit does not
    assert (change.max() < 0.03) if same_spike else (change.median() > 0.1)


def test_pairs_of_the_paper_have_their_own_noise():
    batch = draw(num_pairs=12, same_spike=True, **(SILENT | dict(noise_uv=(10.0, 10.0))))
    difference = batch["view_1"][:, :12] - batch["view_2"][:, :12]
    assert float(difference.std()) > 8


def test_same_seed_same_batch_and_global_state_untouched():
    state = torch.get_rng_state()
    first, again, other = (draw(num_recordings=2, group_size=4, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["view_1"], other["view_1"])


def test_nearest_channels_come_first_where_the_config_says_so():
    batch = draw(config=HuiduRepConfig(num_channels=2, channel_order="nearest_first"), **SILENT)
    assert batch["view_1"].shape == (8, 90, 2) and batch["channel_mask"].min() == 1
    # more channels than the probe has: the rest is missing
    batch = draw(config=HuiduRepConfig(num_channels=6, channel_order="nearest_first"), **SILENT)
    assert batch["channel_mask"].tolist() == [[1, 1, 1, 1, 0, 0]] * 8


def test_recipe_checks_its_values():
    with pytest.raises(ValueError, match="expected collision_probability between 0 and 1, found 1.5"):
        ViewRecipe(collision_probability=1.5)
    with pytest.raises(TypeError):
        ViewRecipe(noise=3)
    assert ViewRecipe(noise_uv=[1.0, 2.0]).noise_uv == (1.0, 2.0)


def test_uneven_batch_raises():
    with pytest.raises(ValueError, match="multiple of num_recordings=4, found 10"):
        draw(num_pairs=10, num_recordings=4)
