"""Adapting to a recording: a copy is trained, deterministically, and adopted unless the acceptance test rejects it."""

import importlib
import random
from dataclasses import replace

import numpy as np
import pytest
import sklearn.decomposition  # noqa: F401 - importing it for the first time draws from `random`
import sklearn.mixture  # noqa: F401
import torch
from template_libraries import COLUMN_UM, SMALL, TETRODE_UM
from toy_spikes import draw_spikes

from huidurep import HuiduRep, HuiduRepConfig
from huidurep.adaptation.settings import AdaptationSettings, EvaluationSettings

adapting = importlib.import_module("huidurep.adaptation.adapt")
NUM_STEPS = 8
QUICK = AdaptationSettings(num_steps=NUM_STEPS, min_training_spikes=200, evaluation=EvaluationSettings(num_repeats=1))
PLACED = dict(peak_index=30, channel_positions=TETRODE_UM)
WHERE = dict(PLACED, settings=QUICK)
# The acceptance test accepts every change.
ACCEPTED = EvaluationSettings(num_repeats=1, max_noise_decrease=np.inf, max_halves_decrease=np.inf)
ALWAYS = dict(PLACED, settings=replace(QUICK, evaluation=ACCEPTED))


@pytest.fixture
def model():
    """A small model, for which few steps and one fit of each mixture are enough."""
    torch.manual_seed(0)
    return HuiduRep(HuiduRepConfig(**SMALL, hidden_dropout_prob=0.1))


@pytest.fixture
def spikes():
    return draw_spikes(4, 60)[0]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def global_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def test_model_and_global_random_state_are_left_as_they_were(model, spikes):
    model.train()
    model.decoder.requires_grad_(False)
    flags, before, states = [p.requires_grad for p in model.parameters()], weights(model), global_states()
    with torch.no_grad():
        adapted = model.adapt(spikes, **ALWAYS)
    assert global_states() == states
    assert same(weights(model), before) and model.training
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in [*model.parameters(), *adapted.parameters()])
    assert not hasattr(model, "adaptation") and not adapted.training
    after = {name: tensor for name, tensor in weights(adapted).items() if not name.startswith("adapter.")}
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert (
        len(after) < len(weights(adapted))
        and changed
        and not any(name.startswith(adapting.NOT_TRAINED) for name in changed)
    )


def test_same_seed_same_weights_and_figures(model, spikes):
    first = model.adapt(spikes, **ALWAYS, seed=2)
    torch.manual_seed(99)
    second, other = model.adapt(spikes, **ALWAYS, seed=2), model.adapt(spikes, **ALWAYS, seed=3)
    assert same(weights(first), weights(second)) and not same(weights(first), weights(other))
    assert first.adaptation.after == second.adaptation.after
    assert first.adaptation.adopted and first.adaptation.seconds > 0
    assert 2 <= first.adaptation.num_pseudo_units <= 12 and 100 < first.adaptation.num_spikes <= 180


def test_reloaded_copy_gives_the_same_embeddings(model, spikes, tmp_path):
    adapted = model.adapt(spikes, **ALWAYS)
    adapted.save_pretrained(tmp_path)
    embeddings = adapted.embed(spikes, **PLACED)
    assert np.array_equal(HuiduRep.from_pretrained(tmp_path).embed(spikes, **PLACED), embeddings)
    assert not np.allclose(embeddings, model.embed(spikes, **PLACED))


def test_random_labels_are_refused(monkeypatch):
    model = HuiduRep.from_pretrained("tetrode")
    spikes, _ = draw_spikes(6, 100, noise_uv=20.0)
    labels = np.random.default_rng(0).integers(0, 12, len(spikes))
    monkeypatch.setattr(adapting, "find_pseudo_units", lambda embeddings, *_, **__: labels[: len(embeddings)])
    adapted = model.adapt(spikes, **WHERE)
    assert not adapted.adaptation.adopted and same(weights(adapted), weights(model))
    assert adapted.adaptation.reason.startswith("pretrained weights kept")
    assert adapted.adaptation.num_pseudo_units == 12 and adapted.adaptation.after


@pytest.mark.parametrize("num_spikes", [0, 1, 99])
def test_few_spikes_are_not_adapted_to(model, spikes, num_spikes):
    adapted = model.adapt(spikes[:num_spikes], **WHERE)
    assert not adapted.adaptation.adopted and same(weights(adapted), weights(model))
    assert f"{num_spikes} spikes" in adapted.adaptation.reason
    assert adapted.adaptation.before == adapted.adaptation.after == {}


def test_with_few_spikes_the_adapter_alone_is_fitted(model, spikes, monkeypatch):
    monkeypatch.setattr(adapting, "train_on_pseudo_units", lambda *a, **k: pytest.fail("it trained"))
    adapted = model.adapt(spikes[:180], **ALWAYS)
    after = {name: tensor for name, tensor in weights(adapted).items() if not name.startswith("adapter.")}
    assert same(after, weights(model)) and adapted.config.adapter and not model.config.adapter
    assert adapted.adaptation.num_spikes == 0 and adapted.adaptation.num_pseudo_units >= 2
    assert adapted.adaptation.after != adapted.adaptation.before


def test_an_adapted_model_is_refused(model, spikes):
    adapted = model.adapt(spikes[:180], **ALWAYS)
    with pytest.raises(ValueError, match="adapter"):
        adapted.adapt(spikes, **ALWAYS)


def test_spikes_that_are_all_alike_are_not_adapted_to(model):
    shape = draw_spikes(1, 1)[0]
    adapted = model.adapt(np.repeat(shape, 200, 0), **WHERE)
    assert not adapted.adaptation.adopted and "fewer than two pseudo-units" in adapted.adaptation.reason


NAN = np.where(np.arange(240) == 7, np.nan, 1.0)


@pytest.mark.parametrize(
    "change, told",
    [
        (dict(waveforms=lambda spikes: spikes * NAN[:, None, None]), "finite"),
        (dict(waveforms=lambda spikes: spikes[0]), "num_spikes, num_samples, num_channels"),
        (dict(waveforms=lambda spikes: 3.0), "num_spikes, num_samples, num_channels"),
        (dict(channel_positions=TETRODE_UM[:3]), "channel_positions"),
        (dict(channel_positions=np.zeros((7, 4, 2))), "channel_positions.*240.*7"),
        (dict(channel_positions=np.full((4, 2), np.nan)), "channel_positions"),
        (dict(spike_times=np.arange(239.0)), "spike_times.*240"),
        (dict(spike_times=np.arange(240.0) * NAN), "spike_times.*240"),
        (dict(sampling_frequency=-1.0), "sampling_frequency"),
    ],
)
def test_bad_input_is_refused_before_any_work(model, spikes, monkeypatch, change, told):
    monkeypatch.setattr(adapting, "find_pseudo_units", lambda *a, **k: pytest.fail("it began to work"))
    change = dict(change)
    waveforms = change.pop("waveforms", lambda spikes: spikes)(spikes)
    with pytest.raises(ValueError, match=told):
        model.adapt(waveforms, **WHERE | change)


def test_spike_times_give_short_intervals(model, spikes):
    found = model.adapt(spikes, **WHERE, spike_times=0.0005 * np.arange(len(spikes))).adaptation
    assert found.before["short_isi_fraction"] > 0
    assert "short_isi_fraction" not in model.adapt(spikes, **WHERE).adaptation.before


def test_contacts_of_each_spike_make_groups_that_are_compared_within(model, monkeypatch):
    spikes = draw_spikes(4, 160)[0]
    positions = np.repeat(TETRODE_UM[None], len(spikes), 0)
    positions[len(spikes) // 2 :] += (0.0, 300.0)
    calls, loss = [], adapting.prototype_loss

    def record(embeddings, *, temperature, recordings):
        calls.append(recordings.tolist())
        return loss(embeddings, temperature=temperature, recordings=recordings)

    monkeypatch.setattr(adapting, "prototype_loss", record)
    adapted = model.adapt(spikes, peak_index=30, channel_positions=positions, settings=QUICK)
    assert len(calls) == NUM_STEPS and all(call == calls[0] for call in calls)
    assert set(calls[0]) == {0, 1} and min(calls[0].count(group) for group in (0, 1)) >= 2
    assert len(calls[0]) == adapted.adaptation.num_pseudo_units


def test_spikes_stay_in_their_order_whatever_their_contacts(model, spikes):
    positions = np.repeat(TETRODE_UM[None], 240, 0)
    positions[1::2, :, 1] += 300.0
    mapped, groups = adapting._map(model, spikes, positions, dict(sampling_frequency=3e4, peak_index=30))
    plain, one = adapting._map(model, spikes, positions[:1].repeat(240, 0), dict(sampling_frequency=3e4, peak_index=30))
    assert np.array_equal(mapped.snippets, plain.snippets) and np.array_equal(mapped.channels, plain.channels)
    assert groups.tolist() == [0, 1] * 120 and not one.any()


def test_each_spike_may_have_a_sign(model, spikes):
    positions = np.repeat(TETRODE_UM[None], 240, 0)
    positions[1::2, :, 1] += 300.0
    signs = np.where(np.arange(240) % 3, "neg", "pos")
    turned = np.where(signs == "pos", -1, 1)[:, None, None] * spikes
    options = dict(sampling_frequency=3e4, peak_index=30)
    for places in (None, positions):
        found, _ = adapting._map(model, turned, places, options | dict(peak_sign=signs))
        expected, _ = adapting._map(model, spikes, places, options | dict(peak_sign=np.full(240, "neg")))
        assert np.array_equal(found.snippets, expected.snippets)
    with pytest.raises(ValueError, match="peak_sign.*for each of 240 spikes"):
        model.adapt(spikes, peak_sign=["neg", "pos"])


def test_spikes_of_other_channels_of_an_array_are_another_group(model):
    waveforms = np.random.default_rng(0).normal(size=(40, 90, 8)).astype("f4")
    channels = np.arange(40) % 8
    waveforms[np.arange(40), 30, channels] = -100
    mapped, groups = adapting._map(
        model, waveforms, np.broadcast_to(COLUMN_UM, (40, 8, 2)), dict(sampling_frequency=3e4, peak_index=30)
    )
    for group in np.unique(groups):
        assert len(np.unique(mapped.channels[groups == group], axis=0)) == 1
    # four of eight contacts in a row: from the first, second, ... fifth on
    assert groups.max() == 4


def test_a_batch_holds_whole_groups():
    rng, unit_groups = np.random.default_rng(0), np.repeat(np.arange(5), 8)
    for _ in range(5):
        units = adapting._draw_units(rng, unit_groups, 24)
        assert len(units) == 24 and np.bincount(unit_groups[units], minlength=5).tolist().count(8) == 3


def test_collisions_come_from_the_own_group():
    templates = np.arange(1.0, 5.0)[:, None, None] * np.ones((4, 90, 4))
    unit_groups, spike_groups = np.array([0, 0, 1, 1]), np.repeat([0, 1], 200)
    added = adapting._draw_collisions(np.random.default_rng(0), spike_groups, templates, unit_groups, 30000.0)
    assert set(np.unique(added[:200])) == {0, 1, 2} and set(np.unique(added[200:])) == {0, 3, 4}
    assert 0.1 < added.any((1, 2)).mean() < 0.3


def test_noise_for_the_evaluation_is_what_spikes_differ_by_from_their_mean(model, spikes):
    mapped, groups = adapting._map(model, spikes, None, dict(sampling_frequency=3e4, peak_index=30))
    labels = np.where(np.arange(240) % 4 == 3, -1, np.arange(240) % 4)
    wanted = np.flatnonzero(labels < 0)
    residuals = adapting._draw_residuals(np.random.default_rng(0), mapped, groups, labels, wanted)
    means = np.stack([mapped.snippets[labels == unit].mean(0) for unit in range(3)])
    known = mapped.snippets[labels >= 0] - means[labels[labels >= 0]]
    assert residuals.shape == (60, *mapped.snippets.shape[1:])
    assert all((np.abs(known - each).max((1, 2)) < 1e-5).any() for each in residuals)
