"""`huidurep.finetune(waveforms=..., labels=...)`: what is trained on, what is held out, and what is refused."""

import copy
import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from template_libraries import COLUMN_UM, SMALL, TETRODE_UM

import huidurep
from huidurep.finetuning import embedding_evaluation as evaluation
from huidurep.finetuning import train as training
from huidurep.finetuning.labelled_spikes import LabelledEvaluation, LabelledSpikeMaker, read_labelled_spikes
from huidurep.finetuning.settings import EmbeddingEvaluationSettings, FinetuningSettings, TrainingSettings
from huidurep.finetuning.template_resampling import MixedViewMaker

QUICK = FinetuningSettings(
    training=TrainingSettings(num_simulated_units=4, batch_size=8, learning_rate=1e-2),
    embedding_evaluation=EmbeddingEvaluationSettings(num_draws=4, num_starts=1),
)
REAL_ONLY = replace(QUICK, training=replace(QUICK.training, simulated_share=0.0))
DESCRIBED = dict(sampling_frequency=20000.0, peak_index=15)
NAMES = ("first", "second", "third")


def make_spikes(num_channels=4, counts=(60, 60, 60), noise_uv=8.0, seed=0):
    """Waveforms (num_spikes, 45, num_channels) of units of slightly different width, shuffled, and their names."""
    rng, time = np.random.default_rng(seed), np.arange(45) - 15
    units = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    shapes = np.stack([np.exp(-((time / (2.5 + 1.2 * unit)) ** 2)) for unit in range(len(counts))])
    spikes = -80.0 * shapes[units][:, :, None] * np.linspace(1, 0.4, num_channels)
    return spikes + rng.normal(0, noise_uv, spikes.shape), np.array(NAMES)[units]


def make_model(**changes):
    torch.manual_seed(0)
    return huidurep.HuiduRep(huidurep.HuiduRepConfig(**SMALL | changes)).eval()


def same_weights(first, second):
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("linear_size", [0, 2])
def test_units_that_differ_in_width_are_learned(linear_size, tmp_path):
    model, (waveforms, labels) = make_model(linear_size=linear_size), make_spikes()
    given = copy.deepcopy(model)
    options = dict(model=model, output_dir=tmp_path / "out", steps=60, settings=REAL_ONLY, **DESCRIBED)
    report = huidurep.finetune(waveforms=waveforms, labels=labels, **options)
    assert report.outcome == "better" and report.weights == "new"
    assert report.after["adjusted_rand_index"] > report.before["adjusted_rand_index"] + 0.1
    trained = huidurep.HuiduRep.from_pretrained(tmp_path / "out")
    assert not same_weights(trained, given) and same_weights(model, given)
    if linear_size:  # the fixed axes stay as they are
        old, new = (each.embed(waveforms, **DESCRIBED)[:, :linear_size] for each in (given, trained))
        np.testing.assert_allclose(new, old, atol=1e-5)
    facts = json.loads((tmp_path / "out" / "finetuning.json").read_text())
    (described,) = facts["recordings"]
    assert described["num_units"] == 3 and described["num_spikes"] == 120 and described["num_held_out_spikes"] == 60
    card = ModelCard.load(tmp_path / "out" / "README.md").text
    for words in (
        "spikes with labels",
        "60 spikes of the same units were held out",
        "| 4 | 20000 | labelled | 3 | 120 |",
    ):
        assert words in card


def test_labels_by_chance_keep_the_old_weights(tmp_path):
    waveforms, labels = make_spikes(num_channels=1)
    labels = np.random.default_rng(1).permutation(labels)
    options = dict(model=make_model(), output_dir=tmp_path / "out", steps=3, settings=QUICK, **DESCRIBED)
    report = huidurep.finetune(waveforms=waveforms, labels=labels, **options)
    assert report.outcome != "better" and report.weights == "old" and "old weights" in str(report)
    assert same_weights(huidurep.HuiduRep.from_pretrained(tmp_path / "out"), options["model"])


def read(waveforms, labels, model=None, **described):
    return read_labelled_spikes(waveforms, labels, (model or make_model()).config, DESCRIBED | described, seed=0)


def test_held_out_spikes_are_never_drawn():
    waveforms, labels = make_spikes(counts=(90, 30, 40))
    spikes = read(waveforms, labels)
    (group,) = spikes.groups
    assert sorted(len(each.held_out) for each in group) == [10, 13, 30]
    for each in group:
        assert len(set(labels[each.training])) == len(set(labels[each.held_out])) == 1
    rows = np.concatenate([part for each in group for part in (each.training, each.held_out)])
    assert sorted(rows) == list(range(160))
    generator = torch.Generator().manual_seed(0)
    batch = LabelledSpikeMaker(spikes).draw_recording(5, generator)
    for unit, *views in zip(
        batch["labels"].tolist(), batch["view_1"], batch["view_2"], *batch["further_views"].unbind(1), strict=True
    ):
        given = torch.from_numpy(spikes.mapped.snippets[group[unit].training])
        found = {int((given - view).abs().amax((1, 2)).argmin()) for view in views}
        assert len(found) == 4  # different spikes
        assert all((given - view).abs().amax((1, 2)).min() == 0 for view in views)
    draws = LabelledEvaluation(spikes, 0).draws
    held_out = set(np.concatenate([each.held_out for each in group]))
    assert len(draws) == 8 and all(set(rows) <= held_out and len(rows) == 5 + 7 + 15 for rows, _ in draws)


def test_half_of_a_batch_is_simulated_on_the_same_contact():
    model, (waveforms, labels) = make_model(), make_spikes(num_channels=1)
    spikes = read(waveforms, labels, model)
    maker = training.add_simulated(
        LabelledSpikeMaker(spikes), spikes.layouts, model.config, seed=0, settings=QUICK.training
    )
    assert isinstance(maker, MixedViewMaker) and maker.simulated is not None
    batch = maker.draw(8, torch.Generator().manual_seed(1))
    assert batch["view_1"].shape == (8, 90, 1) and batch["further_views"].shape == (8, 2, 90, 1)
    real = torch.from_numpy(spikes.mapped.snippets)
    is_real = [bool(((real - view * 1.0).abs().amax((1, 2)) == 0).any()) for view in batch["view_1"]]
    assert 0 < sum(is_real) < 8


def test_spikes_are_compared_on_the_channels_that_the_encoder_sees():
    """On eight contacts an encoder of four takes those around each spike's peak, in any order of the recording."""
    rng, places = np.random.default_rng(0), 2 * np.array(COLUMN_UM)
    tops = np.repeat([1, 1, 6, 6, 3], 40)  # the last unit is alone on its channels
    widths = np.repeat([2.5, 4.0, 2.5, 4.0, 3.0], 40)
    time = np.arange(45) - 15
    footprints = np.exp(-np.abs(np.arange(8) - tops[:, None]))
    waveforms = -100 * np.exp(-((time / widths[:, None]) ** 2))[:, :, None] * footprints[:, None]
    waveforms = waveforms + rng.normal(0, 2, waveforms.shape)
    spikes = read(waveforms, np.repeat(np.arange(5), 40), make_model(num_channels=4), channel_positions=places)
    assert [[each.unit for each in group] for group in spikes.groups] == [[0, 1], [2, 3]]
    assert [layout[:, 1].tolist() for layout in spikes.layouts] == [[0, 40, 80, 120], [160, 200, 240, 280]]
    assert spikes.description["num_units"] == 4 and spikes.description["num_units_found"] == 5
    turned = read(
        waveforms[:, :, ::-1], np.repeat(np.arange(5), 40), make_model(num_channels=4), channel_positions=places[::-1]
    )
    assert len(turned.groups) == 2


@pytest.mark.parametrize(
    "labels, found",
    [
        (np.repeat([3, 7, -1], 40), 2),
        (np.repeat(["a", "", "b"], 40), 2),
        (np.repeat([-1, 3, 7], 40).astype(str), 2),
        (np.repeat(np.array([None, 3, 7]), 40).astype(str), 2),
        (pd.array(np.repeat([None, 3, 7], 40).tolist(), dtype="Int64"), 2),
        ([None] * 40 + ["a"] * 40 + [5] * 40, 2),
        (torch.arange(120) // 40, 3),
        (np.repeat([1.0, 2.0, np.nan], 40), 2),
        (pd.array([1] * 40 + [None] * 40 + [2] * 40, dtype="Int64"), 2),
    ],
)
def test_labels(labels, found):
    waveforms, _ = make_spikes(counts=(40, 40, 40))
    assert read(torch.from_numpy(waveforms), labels).description["num_units"] == found


def test_units_with_few_spikes_are_left_out_with_a_word(caplog):
    waveforms, labels = make_spikes(counts=(40, 29, 40))
    with caplog.at_level(logging.WARNING):
        assert read(waveforms, labels).description["num_units"] == 2
    assert "left out 1 of 3 units" in caplog.text and "'second' (29)" in caplog.text


@pytest.mark.parametrize(
    "changes, error, words",
    [
        (dict(labels=["a"] * 89), ValueError, "one label for each of 90 waveforms, found 89"),
        (dict(labels=["a"] * 90), ValueError, "two units with 30 spikes.*found 1 units: 'a' .90."),
        (dict(labels=list(range(90))), ValueError, "found 90 units: 0 .1., .* and 82 more; give more spikes"),
        (dict(labels=[-1] * 90), ValueError, "found no labels other than -1"),
        (dict(labels=[[1]] * 90), TypeError, "one number or word for each spike, found ndarray in row 0"),
        (dict(labels=None), ValueError, "found waveforms; give one or the other"),
        (dict(recordings="tetrode"), ValueError, "found recordings and waveforms and labels"),
        (dict(waveforms=None, labels=None), ValueError, "found neither"),
        (dict(waveforms=np.zeros((90, 45))), ValueError, "num_spikes, num_samples, num_channels"),
        (dict(peak_indices=3), TypeError, "channel_positions, found peak_indices"),
    ],
)
def test_bad_input(changes, error, words, tmp_path):
    waveforms, labels = make_spikes(counts=(30, 30, 30))
    options = dict(waveforms=waveforms, labels=labels, model=make_model(), output_dir=tmp_path / "out", **DESCRIBED)
    with pytest.raises(error, match=words):
        huidurep.finetune(**options | changes)
    assert list(tmp_path.iterdir()) == []


def test_descriptions_of_waveforms_do_not_fit_recordings(tmp_path):
    with pytest.raises(TypeError, match="none: a recording has them, found peak_index"):
        huidurep.finetune(object(), output_dir=tmp_path / "out", peak_index=3)


def test_halves_of_the_same_spikes_have_a_larger_error():
    before, after = dict(draws=[0.5] * 4), dict(draws=[0.5, 0.6, 0.5, 0.6])
    apart, overlapping = (evaluation.decide_outcome(before, after, draws_overlap=each) for each in (False, True))
    assert overlapping[2] == pytest.approx(2 * np.std(after["draws"], ddof=1)) == pytest.approx(2 * apart[2])
    assert (apart[0], overlapping[0]) == ("same", "same")
    assert evaluation.decide_outcome(before, dict(draws=[0.62, 0.7, 0.62, 0.7]), draws_overlap=True)[0] == "better"


def test_auto_goes_by_the_contacts(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(
        huidurep.HuiduRep, "from_pretrained", lambda name: chosen.append(name) or make_model(num_channels=4)
    )
    monkeypatch.setattr(training, "train", lambda model, *_, **__: (copy.deepcopy(model), []))
    waveforms, labels = make_spikes()
    options = dict(labels=labels, output_dir=tmp_path / "out", channel_positions=TETRODE_UM, settings=QUICK)
    report = huidurep.finetune(waveforms=waveforms, **options, **DESCRIBED)
    assert chosen == ["tetrode"] == [report.source] and report.outcome == "same"
