"""The preset "paper": the mixture of the paper, from the pipeline and from run_sorter, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import spikeinterface
import spikeinterface.sorters as sorters
from sklearn.mixture import GaussianMixture

import huidurep
from huidurep.clustering.mixture import cluster_as_in_paper
from huidurep.sorting.parameters import SortingParameters

FIXED = dict(matching=None, motion=None, detection="locally_exclusive")


@pytest.fixture(scope="module")
def sorted_as_paper(tetrode_recording):
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", preset="paper", num_units=6)
    return pipeline(tetrode_recording[0])


def test_is_the_mixture_of_scikit_learn_on_the_same_embeddings(sorted_as_paper):
    embeddings = sorted_as_paper.embeddings.astype("float64")
    mixture = GaussianMixture(6, covariance_type="full", n_init=10, random_state=0)
    expected = mixture.fit_predict(embeddings)
    assert (sorted_as_paper.sorting.to_spike_vector()["unit_index"] == expected).all()
    assert sorted_as_paper.posteriors == pytest.approx(mixture.predict_proba(embeddings).max(axis=1), abs=1e-5)


def test_is_another_rule_than_a_given_number_of_units(sorted_as_paper, tetrode_recording):
    other = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", num_units=6, matching=None)(tetrode_recording[0])
    counts = [sorted(each.sorting.count_num_spikes_per_unit().values()) for each in (sorted_as_paper, other)]
    assert counts[0] != counts[1]


def test_the_result_says_it(sorted_as_paper, tmp_path):
    assert len(sorted_as_paper.sorting.unit_ids) == 6
    sorted_as_paper.save(tmp_path / "out")
    stored = huidurep.SortingResult.load(tmp_path / "out").parameters
    assert stored == sorted_as_paper.parameters
    assert stored.preset == "paper" and {name: getattr(stored, name) for name in FIXED} == FIXED
    assert stored.detect_threshold == 4.0  # of the checkpoint, for the preset does not set it


def test_as_a_sorter_of_spikeinterface(sorted_as_paper, tetrode_folder, tmp_path):
    huidurep.register()
    options = dict(model="tetrode", preset="paper", num_units=6, folder=tmp_path / "out")
    sorting = sorters.run_sorter("huidurep", spikeinterface.load(tetrode_folder), **options)
    assert (sorting.to_spike_vector() == sorted_as_paper.sorting.to_spike_vector()).all()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (dict(preset="paper"), "num_units"),
        (dict(preset="paper", num_units=3, matching="wobble"), "matching=None"),
        (dict(preset="paper", num_units=3, motion="auto"), "motion=None"),
        (dict(preset="vanilla", num_units=3), "preset .*paper"),
        (dict(preset=["paper"], num_units=3), "preset .*paper"),
    ],
)
def test_what_does_not_go_together_is_refused(values, text):
    with pytest.raises(ValueError, match=f"expected {text}.*found"):
        SortingParameters(**values)


def test_values_survive():
    parameters = SortingParameters(preset="paper", num_units=3)
    assert SortingParameters.from_dict(parameters.to_dict()) == parameters
    assert dataclasses.replace(parameters, seed=2).matching is None


def test_a_group_of_more_channels_than_the_model_takes_is_refused_before_sorting():
    recording, _ = huidurep.simulate_recording(probe="linear-32", num_units=2, duration_s=1.0, seed=1)
    stages = []
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained("linear", preset="paper", num_units=2)
    with pytest.raises(ValueError, match=r"preset=.paper.*found 32"):
        pipeline(recording, progress=lambda share, text: stages.append(text))
    assert not any("detection" in text for text in stages)


def test_of_many_spikes_some_fit_and_all_are_assigned():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 400)
    embeddings = rng.normal(0, 0.1, (1200, 3)) + np.eye(3)[truth]
    found = cluster_as_in_paper(embeddings, num_units=3, max_fit_spikes=200, seed=1)
    assert found.num_units == 3 and len(found.labels) == 1200
    assert all(len(np.unique(found.labels[truth == unit])) == 1 for unit in range(3))
    assert len(np.unique(found.labels)) == 3
    assert (found.predict(embeddings)[0] == found.labels).all()


def test_one_spike_is_a_unit_where_one_is_asked_for():
    found = cluster_as_in_paper(np.ones((1, 3)), num_units=1, max_fit_spikes=10, seed=0)
    assert found.labels.tolist() == [0] and found.posteriors.tolist() == [1.0]
