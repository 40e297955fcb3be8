"""Pseudo-units: planted groups of spikes are found without labels, and spikes of a low posterior are left out."""

import numpy as np
from toy_spikes import draw_spikes

from huidurep.adaptation import pseudo_units
from huidurep.adaptation.principal_components import join_features, leading_components
from huidurep.clustering.mixture import fit_mixture

ONE_GROUP = np.zeros(200, int)


def find_pseudo_units(snippets, groups, **options):
    """Of spikes whose embeddings are all alike."""
    return pseudo_units.find_pseudo_units(np.zeros((len(snippets), 6)), snippets, groups, **options)


def test_two_planted_units_are_found_pure():
    snippets, truth = draw_spikes(2, 100)
    labels = find_pseudo_units(snippets, ONE_GROUP, seed=0)
    assert labels.dtype == np.int64 and (labels >= 0).mean() > 0.5
    for unit in range(labels.max() + 1):
        assert len(set(truth[labels == unit])) == 1 and (labels == unit).sum() >= 10
    assert set(truth[labels >= 0]) == {0, 1}


def test_same_seed_same_pseudo_units_and_no_global_random_state():
    snippets, _ = draw_spikes(2, 100)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (find_pseudo_units(snippets, ONE_GROUP, seed=5) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_each_group_has_pseudo_units_of_its_own():
    snippets, truth = draw_spikes(2, 100)
    groups = np.repeat([7, 3], 200)
    labels = find_pseudo_units(np.concatenate([snippets, snippets]), groups, seed=0)
    of_group = [set(labels[groups == group]) - {-1} for group in (3, 7)]
    assert not of_group[0] & of_group[1] and min(map(len, of_group)) >= 2
    assert of_group[0] | of_group[1] == set(range(labels.max() + 1))
    # the same spikes are split the same way, whatever group they are in
    assert np.array_equal(labels[groups == 3] >= 0, labels[groups == 7] >= 0)


def test_few_spikes_make_no_pseudo_units():
    snippets, _ = draw_spikes(2, 24)
    assert (find_pseudo_units(snippets, np.zeros(48, int), seed=0) == -1).all()
    assert (find_pseudo_units(snippets, np.arange(48), seed=0) == -1).all()


def test_spikes_that_are_all_the_same_make_no_pseudo_units():
    assert (find_pseudo_units(np.ones((200, 90, 4), "f4"), ONE_GROUP, seed=0) == -1).all()


def test_leading_components_have_mean_variance_1_and_no_more_than_there_are():
    points = np.random.default_rng(0).normal(size=(50, 6)) * (9, 5, 1, 1, 1, 1)
    scores = leading_components(points, 3)
    assert scores.shape == (50, 3) and np.isclose(scores.var(0).mean(), 1)
    assert scores[:, 0].var() > 2 * scores[:, 1].var()
    assert leading_components(points, 12).shape == (50, 6)
    assert not leading_components(np.ones((9, 4)), 2).any()


def test_mixture_finds_planted_means():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(each, 0.1, (40, 2)) for each in (-3, 4)])
    mixture = fit_mixture(points, 2, "tied", 0)
    assert np.allclose(np.sort(mixture.means_[:, 0]), (-3, 4), atol=0.1)
    assert np.array_equal(mixture.means_, fit_mixture(points, 2, "tied", 0).means_)


def test_units_that_only_the_embeddings_separate_are_found():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 150)
    snippets = rng.normal(size=(300, 90, 4)).astype("f4")
    embeddings = rng.normal(size=(300, 6)) + 12.0 * truth[:, None] * np.eye(6)[0]
    labels = pseudo_units.find_pseudo_units(embeddings, snippets, np.zeros(300, int), seed=0)
    assert labels.max() == 1 and np.mean(labels >= 0) > 0.97  # but for spikes far from both
    assert all(len(set(truth[labels == unit])) == 1 for unit in (0, 1))


def test_a_frequent_unit_is_not_cut():
    common, rare = draw_spikes(1, 600, seed=3)[0], draw_spikes(2, 60, seed=8)[0]
    labels = find_pseudo_units(np.concatenate([common, rare]), np.zeros(720, int), seed=0)
    found = labels[:600][labels[:600] >= 0]
    assert len(found) > 400 and np.bincount(found).max() / len(found) > 0.95


def test_spike_times_tell_overlapping_units_apart():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 200)
    # 2.5 standard deviations apart: two units only because both have a refractory period of their own
    embeddings = 0.01 * rng.normal(size=(400, 6)) + rng.normal(size=(400, 1)) * np.eye(6)[0]
    embeddings[:, 0] += 2.5 * truth
    times_s = np.cumsum(0.003 + rng.exponential(0.004, (2, 200)), axis=1).ravel()
    snippets, options = np.zeros((400, 9, 1)), dict(groups=np.zeros(400, int), seed=0)
    assert pseudo_units.find_pseudo_units(embeddings, snippets, **options).max() == -1
    assert pseudo_units.find_pseudo_units(embeddings, snippets, spike_times_s=times_s, **options).max() == 1


def test_joined_parts_have_the_weights_stated():
    rng = np.random.default_rng(0)
    embeddings, waveforms = 7 * rng.normal(size=(100, 5)), 1e3 * rng.normal(size=(100, 40))
    both = join_features(embeddings, waveforms, num_components=24, waveform_weight=0.7, seed=0)
    assert both.shape == (100, 29)
    assert np.isclose(both[:, :5].var(0).sum(), 1) and np.isclose(both[:, 5:].var(0).sum(), 0.7**2)
