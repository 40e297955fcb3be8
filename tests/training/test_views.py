from itertools import combinations

import pytest
import torch
from template_libraries import COLUMN_UM, make_library

from huidurep import HuiduRepConfig, HuiduRepForPreTraining
from huidurep.training.noise import SEGMENT_SAMPLES
from huidurep.training.views import MAX_MISALIGNMENT, ViewMaker, ViewRecipe

SILENT = dict(
    num_recordings=1,
    group_size=4,
    noise_uv=(1e-4, 1e-4),
    collision_probability=0.0,
    truncation_probability=0.0,
    missing_probability=0.0,
    misalignment_probability=0.0,
    low_rate_probability=0.0,
    quantised_probability=0.0,
    measured_noise_probability=0.0,
    nominal_probability=0.0,
)
KEYS = {"view_1", "view_2", "further_views", "clean", "channel_mask", "sample_mask", "labels", "recordings"}
FIXED_FILTER = dict(high_pass_hz=(200.0, 200.0), low_pass_hz=(8000.0, 8000.0), causal_probability=0.0)


def draw(num_units=8, seed=0, config=None, libraries=None, noise_segments=(), **recipe):
    libraries = libraries or [make_library(), make_library(seed=1)]
    maker = ViewMaker(libraries, config or HuiduRepConfig(), ViewRecipe(**recipe), noise_segments=noise_segments)
    return maker.draw(num_units, torch.Generator().manual_seed(seed))


def test_shapes():
    batch = draw(num_recordings=4, group_size=2, num_units=16)
    assert batch.keys() == KEYS | {"channel_positions"}
    assert batch["channel_positions"].shape == (16, 4, 2) and batch["channel_positions"].dtype == torch.float32
    for name in ("view_1", "view_2", "clean"):
        assert batch[name].shape == (16, 90, 4) and batch[name].dtype == torch.float32
        assert batch[name].isfinite().all()
    assert batch["channel_mask"].shape == (16, 4) and batch["sample_mask"].shape == (16, 90)
    assert batch["labels"].shape == (16,)
    assert batch["further_views"].shape == (16, 2, 90, 4) and batch["further_views"].isfinite().all()


@pytest.mark.parametrize("views_per_unit", [2, 3, 7])
def test_as_many_views_as_the_recipe_says(views_per_unit):
    batch = draw(views_per_unit=views_per_unit, num_recordings=2, group_size=4)
    assert views_of(batch).shape == (8, views_per_unit, 90, 4)
    assert ("further_views" in batch) == (views_per_unit > 2)


def views_of(batch):
    """All views (num_units, num_views, num_samples, num_channels)."""
    first = torch.stack([batch["view_1"], batch["view_2"]], 1)
    return torch.cat([first, batch["further_views"]], 1) if "further_views" in batch else first


def test_rows_of_one_recording_are_different_units():
    labels = draw(num_recordings=1, num_units=12)["labels"]
    assert len(labels.unique()) == 12


def test_negatives_are_of_the_recording_or_of_the_batch():
    numbers = draw(num_recordings=4, group_size=2, num_units=16, negatives="recording")["recordings"]
    assert numbers.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert "recordings" not in draw(num_recordings=4, group_size=2, num_units=16, negatives="batch")
    with pytest.raises(ValueError, match="negatives.*'recordings'"):
        ViewRecipe(negatives="recordings")


def test_what_is_masked_is_zero():
    batches = [
        draw(
            num_recordings=4,
            group_size=4,
            num_units=16,
            seed=seed,
            truncation_probability=1.0,
            missing_probability=1.0,
            quantised_probability=0.0,
        )
        for seed in range(4)
    ]
    for batch in batches:
        exists = batch["channel_mask"][:, None, :] * batch["sample_mask"][:, :, None]
        for view in (*views_of(batch).unbind(1), batch["clean"]):
            assert view[exists == 0].abs().max() == 0
        assert batch["view_1"][exists == 1].abs().min() > 0
        assert (batch["channel_mask"].sum(1) >= 2).all() and (batch["channel_mask"].sum(1) < 4).all()
        assert (batch["sample_mask"][:, 30] == 1).all()
        assert (batch["sample_mask"].sum(1) < 90).all()


def test_nothing_is_masked_without_truncation():
    batch = draw(**SILENT)
    assert batch["channel_mask"].min() == batch["sample_mask"].min() == 1


def test_the_trough_stands_at_the_peak_index():
    batch = draw(num_units=12, **SILENT)
    for name in ("view_1", "clean"):
        assert (batch[name].amin(2).argmin(1) - 30).abs().max() <= 1


def test_clean_has_no_noise_and_no_collisions():
    silent = draw(num_units=12, **SILENT)
    assert (silent["view_1"] - silent["clean"]).abs().max() < 0.01
    noisy = draw(num_units=12, **(SILENT | dict(noise_uv=(1.0, 1.0))))
    residual = noisy["view_1"] - noisy["clean"]
    assert float(residual.std()) == pytest.approx(1.0, rel=0.25)
    # of the same draws: only where noise moved the trough found by a sample does the clean spike differ
    same = (noisy["clean"] - silent["clean"]).abs().amax((1, 2)) < 0.01
    assert same.float().mean() > 0.5
    hit = draw(num_units=12, **(SILENT | dict(collision_probability=1.0)))
    assert (hit["view_1"] - hit["clean"]).abs().amax((1, 2)).median() > 5


def correlation(a, b):
    a, b = (x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True) for x in (a, b))
    return a @ b.T


def test_views_are_of_one_unit():
    first, *others = views_of(draw(num_units=12, **(SILENT | FIXED_FILTER))).unbind(1)
    assert len(others) == 3
    for other in others:
        likeness = correlation(first, other)
        assert likeness.diagonal().min() > 0.95
        assert (likeness.argmax(1) == torch.arange(12)).float().mean() > 0.8


@pytest.mark.parametrize("same_spike", [False, True])
def test_pairs_of_the_paper_are_one_spike_twice(same_spike):
    recipe = SILENT | FIXED_FILTER | dict(gain_jitter=0.3, bursting_probability=1.0, bursting_gain=(0.3, 1.0))
    batch = draw(num_units=12, same_spike=same_spike, **recipe)
    sizes = views_of(batch).flatten(2).norm(dim=2)
    change = (sizes[:, 1:] / sizes[:, :1]).log().abs()
    # cut at another fraction of a sample, the same spike keeps its size; another one of the unit does not
    assert (change.max() < 0.03) if same_spike else (change.median(0).values.min() > 0.1)


def test_pairs_of_the_paper_have_their_own_noise():
    batch = draw(num_units=12, same_spike=True, **(SILENT | dict(noise_uv=(10.0, 10.0))))
    noise = views_of(batch)[:, :, :12]
    for first, second in combinations(range(noise.shape[1]), 2):
        assert float((noise[:, first] - noise[:, second]).std()) > 8


def test_same_seed_same_batch_and_global_state_untouched():
    state = torch.get_rng_state()
    first, again, other = (draw(num_recordings=2, group_size=4, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["view_1"], other["view_1"])


def test_nearest_channels_come_first_where_the_config_says_so():
    by_index = dict(channel_mixing="index", channel_order="nearest_first")
    batch = draw(config=HuiduRepConfig(num_channels=2, **by_index), **SILENT)
    assert batch.keys() == KEYS
    assert batch["view_1"].shape == (8, 90, 2) and batch["channel_mask"].min() == 1
    # more channels than the probe has: the rest is missing
    batch = draw(config=HuiduRepConfig(num_channels=6, **by_index), **SILENT)
    assert batch["channel_mask"].tolist() == [[1, 1, 1, 1, 0, 0]] * 8
    assert not batch["view_1"][:, :, 4:].any()


def test_recipe_checks_its_values():
    with pytest.raises(ValueError, match="collision_probability.*1.5"):
        ViewRecipe(collision_probability=1.5)
    for views_per_unit in (1, 2.5, True):
        with pytest.raises(ValueError, match=f"views_per_unit.*{views_per_unit}"):
            ViewRecipe(views_per_unit=views_per_unit)
    with pytest.raises(TypeError):
        ViewRecipe(noise=3)
    assert ViewRecipe(noise_uv=[1.0, 2.0]).noise_uv == (1.0, 2.0)


def test_uneven_batch_raises():
    with pytest.raises(ValueError, match="num_recordings=4.*10"):
        draw(num_units=10, num_recordings=4)


def mixed(**recipe):
    """A batch of sixteen recordings, some of a tetrode and some of a column of eight."""
    libraries = [make_library(), make_library(positions=COLUMN_UM, kind="linear", seed=1)]
    return draw(64, libraries=libraries, **(SILENT | dict(num_recordings=16, group_size=4) | recipe))


def test_narrow_probes_are_padded_to_the_widest():
    batch = mixed()
    assert batch["view_1"].shape == (64, 90, 8) and batch["channel_positions"].shape == (64, 8, 2)
    tetrodes = batch["labels"] < 1_000_000
    assert 0 < tetrodes.sum() < 64 and (batch["channel_mask"].sum(1) == torch.where(tetrodes, 4, 8)).all()
    for name in ("view_1", "view_2", "clean"):
        assert not batch[name][tetrodes][:, :, 4:].any()
        assert batch[name].abs().amax(1)[batch["channel_mask"] > 0].min() > 0
    assert batch["further_views"].shape == (64, 2, 90, 8) and not batch["further_views"][tetrodes][..., 4:].any()
    assert not batch["channel_mask"][tetrodes][:, 4:].any()


def test_places_are_those_of_the_channels():
    batch = mixed()
    for row, positions in enumerate(batch["channel_positions"]):
        exists = batch["channel_mask"][row] > 0
        known = make_library().positions if exists.sum() == 4 else torch.tensor(COLUMN_UM).float()
        order = torch.cdist(positions[exists], known).argmin(1)
        assert torch.equal(known[order], positions[exists]) and len(order.unique()) == len(known)
    # all spikes of one recording are seen by one probe
    assert (batch["channel_positions"].reshape(16, 4, 8, 2).diff(dim=1) == 0).all()


def test_a_batch_is_what_the_model_takes():
    sizes = dict(hidden_size=16, num_hidden_layers=1, intermediate_size=16, embedding_size=8, projection_size=8)
    model = HuiduRepForPreTraining(HuiduRepConfig(**sizes))
    batch = mixed(missing_probability=0.5, truncation_probability=0.5)
    output = model(**batch)
    output.loss.backward()
    assert output.loss.isfinite() and output.reconstruction.shape == (64, 90, 8)
    # padding takes no part
    padded = {name: value.clone() for name, value in batch.items()}
    for name in ("view_1", "view_2", "clean"):
        padded[name] += 50 * (1 - batch["channel_mask"])[:, None]
    padded["further_views"] += 50 * (1 - batch["channel_mask"])[:, None, None]
    padded["channel_positions"] += 70 * (1 - batch["channel_mask"])[:, :, None]
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(**batch).loss, model(**padded).loss)


def test_spikes_are_cut_at_most_two_samples_early_or_late():
    away = []
    for seed in range(6):
        batch = draw(12, seed=seed, **(SILENT | FIXED_FILTER | dict(misalignment_probability=1.0)))
        away += (batch["clean"].amin(2).argmin(1) - 30).tolist()
    # one sample early or late, and the trough of the filtered spike is only found to within one
    assert min(away) >= -MAX_MISALIGNMENT and max(away) <= MAX_MISALIGNMENT
    assert 0.3 < sum(each > 0 for each in away) / len(away) < 0.7 and away.count(0) < 0.4 * len(away)


def test_spikes_of_low_rates_are_cut_less_exactly():
    away = []
    for seed in range(6):
        recipe = SILENT | dict(low_rate_probability=1.0, high_pass_hz=(150.0, 200.0), causal_probability=0.0)
        away.append((draw(12, seed=seed, **recipe)["clean"].amin(2).argmin(1) - 30).abs().max())
    assert 1 <= max(away) <= MAX_MISALIGNMENT + 1


def test_coarse_converters_give_whole_steps():
    batch = draw(12, **(SILENT | dict(noise_uv=(5.0, 5.0), quantised_probability=1.0, step_uv=(2.0, 2.0))))
    steps = batch["view_1"] / 2
    assert (steps - steps.round()).abs().max() < 1e-4 and len(steps.unique()) > 10
    clean = batch["clean"] / 2
    assert (clean - clean.round()).abs().max() > 0.1


def test_recorded_noise_is_used_for_libraries_of_as_many_channels():
    segment = torch.zeros(SEGMENT_SAMPLES, 4)
    segment[:, 2] = 1000.0
    recipe = SILENT | dict(measured_noise_probability=1.0)
    found = {
        float((batch["view_1"] - batch["clean"]).amax())
        for batch in (draw(seed=seed, noise_segments=[segment], **recipe) for seed in range(12))
    }
    large = [value for value in found if value > 100]
    assert 0 < len(large) < 12 and min(large) >= 699 and max(large) <= 1401  # half of them, each with its own gain
    other = draw(noise_segments=[torch.full((SEGMENT_SAMPLES, 5), 1000.0)], **recipe)
    assert (other["view_1"] - other["clean"]).abs().max() < 1


def test_bursting_units_shrink():
    options = SILENT | FIXED_FILTER | dict(gain_jitter=0.0, recording_gain=(1.0, 1.0))
    plain = draw(12, **options, bursting_probability=0.0)
    burst = draw(12, **options, bursting_probability=1.0, bursting_gain=(0.5, 0.5))
    ratio = burst["clean"].flatten(1).norm(dim=1) / plain["clean"].flatten(1).norm(dim=1)
    assert ratio.tolist() == pytest.approx([0.5] * 12, rel=0.02)


PLAIN = SILENT | FIXED_FILTER | dict(gain_jitter=0.0, bursting_probability=0.0, recording_gain=(1.0, 1.0), group_size=1)
