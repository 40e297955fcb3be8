"""Template resampling, the training on it and its evaluation, on made-up spikes."""

import random

import numpy as np
import pytest
import torch
from template_libraries import COLUMN_UM, SMALL, TETRODE_UM

from huidurep import HuiduRep, HuiduRepConfig
from huidurep.finetuning import embedding_evaluation as evaluation
from huidurep.finetuning.settings import EmbeddingEvaluationSettings, FinetuningSettings, TrainingSettings
from huidurep.finetuning.template_resampling import (
    RecordedViewMaker,
    RecordingWindow,
    make_recorded_libraries,
    measure_recipe,
    template_window,
    unit_views,
)
from huidurep.finetuning.train import hold_out_units, make_maker, simulate_libraries, train
from huidurep.training.noise import SEGMENT_SAMPLES

RATE, BEFORE, TOTAL = 20000.0, 60, 160  # a rate other than the contract's
CONFIG = HuiduRepConfig(**SMALL)
QUICK = FinetuningSettings(
    training=TrainingSettings(num_simulated_units=4, batch_size=8, logging_steps=1),
    embedding_evaluation=EmbeddingEvaluationSettings(num_draws=2, spikes_per_unit=20),
)
NUM_VIEWS = QUICK.resampling.num_views


def make_window(num_units=3, num_spikes=60, positions=TETRODE_UM, noise_uv=5.0, seed=0, drift=0.0, recording=0):
    """Units with footprints of their own, which shrink by `drift` over 100 s, in white noise."""
    rng, num_channels = np.random.default_rng(seed), len(positions)
    footprints = rng.dirichlet(np.full(num_channels, 0.5), num_units) * 300
    time = np.arange(TOTAL) - BEFORE
    waveforms, times = [], []
    for unit in range(num_units):
        shape = -np.exp(-((time / (3 + unit)) ** 2))[:, None] * footprints[unit]
        times.append(np.sort(rng.uniform(0, 100, num_spikes)))
        gains = 1 - drift * times[-1] / 100
        noise = rng.normal(0, noise_uv, (num_spikes, TOTAL, num_channels))
        waveforms.append((gains[:, None, None] * shape + noise).astype("float32"))
    noise = rng.normal(0, noise_uv, (2, 30000, num_channels)).astype("float32")
    return RecordingWindow(
        unit_ids=list(range(num_units)),
        waveforms=waveforms,
        times_s=times,
        peak_index=BEFORE,
        sampling_frequency=RATE,
        positions_um=np.asarray(positions, float),
        noise=noise[0],
        held_out_noise=noise[1],
        collision_probability=0.2,
        recording=recording,
    )


def drawn(maker, num_units, seed=0):
    return maker.draw(num_units, torch.Generator().manual_seed(seed))


def test_views_are_means_of_time_bins_and_of_amplitudes():
    window = make_window(num_units=1, num_spikes=300, drift=0.5, noise_uv=0.0)
    views = unit_views(window.waveforms[0], window.times_s[0])
    assert views.shape == (NUM_VIEWS, TOTAL, 4)
    sizes = -views.min((1, 2)) / -window.waveforms[0].mean(0).min()
    assert sizes[0] == pytest.approx(1) and np.all(np.diff(sizes[[2, 4, 6]]) < -0.1)  # smaller from bin to bin
    assert np.all(sizes[[2, 4, 6]] > sizes[[1, 3, 5]])


def test_few_spikes_give_fewer_means_several_times():
    window = make_window(num_units=1, num_spikes=20)
    views = unit_views(window.waveforms[0], window.times_s[0])
    assert views.shape[0] == NUM_VIEWS and np.allclose(views[1:], views[1])


def test_libraries_are_at_the_contracts_rate_with_the_trough_in_place():
    (library,) = make_recorded_libraries([make_window(noise_uv=0.5)], CONFIG)
    before, total = template_window(CONFIG)
    assert library.waveforms.shape == (3, NUM_VIEWS, total, 4) and library.peak_index == before
    troughs = library.waveforms[:, 0].float().amin(2).argmin(1)
    assert torch.all((troughs - before).abs() <= 1)
    assert library.rate_ratio == 1.5 and all(len(segment) > SEGMENT_SAMPLES / 2 for segment in library.noise_segments)
    assert library.waveforms[:, :, [0, -1]].abs().max() < 1e-3


def test_windows_with_the_same_contacts_share_a_library():
    near, far = make_window(seed=0), make_window(seed=1, positions=TETRODE_UM + 300)
    other, later = make_window(positions=COLUMN_UM), make_window(recording=1)
    assert [len(library.waveforms) for library in make_recorded_libraries([near, far, other, later], CONFIG)] == [
        6,
        3,
        3,
    ]
    chosen = {(0, 1), (1, 0), (1, 2)}
    assert [len(library.waveforms) for library in make_recorded_libraries([near, later], CONFIG, units=chosen)] == [
        1,
        2,
    ]


def test_units_come_again_under_the_same_label():
    window = make_window()
    maker = RecordedViewMaker(
        make_recorded_libraries([window], CONFIG),
        CONFIG,
        measure_recipe([window], num_recordings=1),
    )
    batch = drawn(maker, 8)
    labels = batch["labels"]
    assert len(labels) == 8 and torch.unique(labels).tolist() == [0, 1, 2]
    assert batch["view_1"].isfinite().all() and batch["sample_mask"].all() and batch["channel_mask"].all()


def test_spikes_have_the_noise_and_the_size_of_the_recording():
    window = make_window(noise_uv=7.0)
    recipe = measure_recipe([window], num_recordings=1, collision_probability=0.0, recording_gain=(1.0, 1.0))
    batch = drawn(RecordedViewMaker(make_recorded_libraries([window], CONFIG), CONFIG, recipe), 30)
    noise = (batch["view_1"] - batch["clean"]).std().item()
    assert 0.6 * 7 < noise < 1.5 * 7  # less what resampling to a higher rate leaves, times the gain of the draw
    largest = -batch["clean"].min().item()
    assert largest == pytest.approx(max(-each.mean(0).min() for each in window.waveforms), rel=0.2)


def test_amplitudes_are_measured_without_the_noise():
    assert measure_recipe([make_window(noise_uv=10.0)]).gain_jitter < 0.04
    assert measure_recipe([make_window(num_spikes=300, noise_uv=1.0, drift=0.6)]).gain_jitter > 0.1


def test_without_noise_between_spikes_it_is_drawn():
    window = make_window()
    empty = RecordingWindow(**{**vars(window), "noise": window.noise[:0]})
    (library,) = make_recorded_libraries([empty], CONFIG)
    assert not library.noise_segments
    assert drawn(RecordedViewMaker([library], CONFIG, measure_recipe([empty])), 8)["view_1"].isfinite().all()


def test_hold_out():
    few, many = make_window(num_units=7), make_window(num_units=12)
    assert hold_out_units([few], 0) == ({(0, unit) for unit in range(7)}, set())
    trained, held_out = hold_out_units([many], 0)
    assert len(held_out) == 2 and len(trained) == 10 and not trained & held_out
    assert hold_out_units([many, make_window(num_units=12, positions=COLUMN_UM)], 0) == (trained, held_out)


def test_training_is_repeatable_and_changes_nothing_else(tmp_path):
    window = make_window(num_units=4, positions=COLUMN_UM)
    model = HuiduRep(CONFIG).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = dict(units={(0, 0), (0, 1), (0, 2)}, seed=1, settings=QUICK)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002

    def run(name):
        maker = make_maker([window], CONFIG, **options)
        return train(model, maker, tmp_path / name, steps=2, seed=3, settings=QUICK.training)

    (first, losses), (second, _) = run("a"), run("b")
    assert states[0] == random.getstate() and states[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(states[2], torch.get_rng_state())
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in first.state_dict().items())
    assert np.isfinite([each["loss"] for each in losses if "loss" in each]).all()


def test_simulated_libraries_are_on_the_same_contacts_and_alike_once():
    libraries = simulate_libraries([COLUMN_UM, COLUMN_UM + 100], CONFIG, 0, QUICK.training)
    assert len(libraries) == 1 and libraries[0].waveforms.shape[0] == 4 and libraries[0].waveforms.shape[2] % 2 == 0
    assert np.allclose(libraries[0].positions, COLUMN_UM)


def test_evaluation_is_the_same_for_every_model():
    window, model = make_window(num_units=8), HuiduRep(CONFIG).eval()
    real = evaluation.HeldOutSpikes(
        waveforms=np.concatenate(window.waveforms)[:, 40:100],
        noise=np.zeros((480, 60, 4), "float32"),
        times_s=np.concatenate(window.times_s),
        peak_index=20,
        sampling_frequency=RATE,
        positions_um=TETRODE_UM,
    )
    trained, held_out = hold_out_units([window], 0)
    options = dict(real_spikes=[real], seed=0, settings=QUICK)
    evaluated = evaluation.EmbeddingEvaluation([window], CONFIG, trained, held_out, **options)
    scores = evaluated.score(model)
    assert scores == evaluated.score(model)
    assert scores.keys() == {"adjusted_rand_index", "draws", *evaluation.SIGNS} and len(scores["draws"]) == 2
    assert scores["agreement_under_noise"] == pytest.approx(1)  # no noise was added
    assert evaluation.decide_outcome(scores, scores)[0] == "same"


def test_outcome():
    before = dict(draws=[0.5, 0.6, 0.7], agreement_of_halves=0.8, posterior_entropy=0.2)

    def outcome(draws, **figures):
        return evaluation.decide_outcome(before, before | dict(draws=draws) | figures)

    assert outcome([0.6, 0.7, 0.8]) == ("better", pytest.approx(0.05), pytest.approx(0.005))
    assert outcome([0.4, 0.5, 0.6])[0] == "worse"
    assert outcome([0.3, 0.6, 1.0])[0] == "same"  # draws disagree
    assert outcome([0.5, 0.6, 0.7], posterior_entropy=0.4)[0] == "worse"
    assert outcome([0.5, 0.6, 0.7], agreement_of_halves=0.9, posterior_entropy=0.3)[0] == "same"


@pytest.mark.parametrize(
    "sortings, expected",
    [
        ([0.8, 0.7], "better"),  # as before
        ([0.79, 0.695], "better"),  # within the tolerance
        ([0.9, 0.55], "better"),  # lower in the mean, but recordings disagree
        ([0.7, 0.6], "worse"),
        ([0.9, 0.9], "better"),
    ],
)
def test_a_lower_sorting_accuracy_is_worse(sortings, expected):
    before = dict(draws=[0.5, 0.6], sortings=[0.8, 0.7])
    assert evaluation.decide_outcome(before, dict(draws=[0.7, 0.8], sortings=sortings))[0] == expected
    assert evaluation.decide_outcome(before, before | dict(sortings=[0.9, 0.8]))[0] == "same"
