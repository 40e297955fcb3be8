"""SpikeEmbedder: scikit-learn's own checks, and equality with HuiduRep.embed."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from stand_in import planted

from huidurep import HuiduRep, SpikeEmbedder

# Checks of scikit-learn that do not fit waveforms.
NOT_APPLICABLE = {
    "check_n_features_in_after_fitting": "our error names samples and channels",
    "check_complex_data": "TypeError, not ValueError",
    "check_dtype_object": "numbers inside objects are not converted",
    "check_estimators_empty_data_messages": "no spikes give an empty array",
    "check_estimator_sparse_tag": "our error asks for numbers, whatever the container",
    "check_estimator_sparse_array": "our error asks for numbers, whatever the container",
    "check_estimator_sparse_matrix": "our error asks for numbers, whatever the container",
    "check_fit2d_1feature": "our error asks for two samples",
    "check_fit2d_predict1d": "our error names the three axes",
}


class FlatEmbedder(SpikeEmbedder):
    """Takes the arrays (num_spikes, num_samples) of scikit-learn's checks as waveforms of one channel."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags

    def fit(self, X, y=None):
        return super().fit(self._with_channel(X))

    def transform(self, X):
        return super().transform(self._with_channel(X))

    @staticmethod
    def _with_channel(X):
        X = np.asarray(X)
        return X[:, :, None] if X.ndim == 2 else X


@pytest.fixture(scope="module")
def model():
    return HuiduRep.from_pretrained("tetrode")


@pytest.fixture(scope="module")
def spikes():
    """Waveforms (num_spikes, 60, 4) of three units, and their labels."""
    traces, samples, labels = planted()
    return np.stack([traces[sample - 20 : sample + 40] for sample in samples]), labels


def test_scikit_learns_own_checks(model, monkeypatch):
    monkeypatch.setattr(
        "huidurep.integrations.scikit_learn.load_encoder", lambda chosen: model
    )  # loaded once, not sixty times
    done = check_estimator(FlatEmbedder("tetrode", sampling_frequency=5000.0), on_fail=None, on_skip=None)
    failed = {each["check_name"] for each in done if each["status"] == "failed"}
    assert failed == set(NOT_APPLICABLE)
    assert sum(each["status"] == "passed" for each in done) > 30


def test_three_axes_are_declared():
    tags = SpikeEmbedder().__sklearn_tags__()
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array


def test_embeddings_equal_those_of_the_model(model, spikes):
    waveforms, _ = spikes
    positions_um = 20.0 * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
    options = dict(sampling_frequency=24000.0, peak_index=20, channel_positions=positions_um)
    embedder = SpikeEmbedder("tetrode", **options)
    found = embedder.fit_transform(waveforms)
    np.testing.assert_array_equal(found, model.embed(waveforms, **options))
    assert embedder.waveform_shape_ == (60, 4) and embedder.n_features_in_ == 60
    assert len(embedder.get_feature_names_out()) == found.shape[1]
    assert embedder.transform(waveforms[:0]).shape == (0, found.shape[1])
    cleaned = SpikeEmbedder("tetrode", denoise=True, **options).fit_transform(waveforms)
    np.testing.assert_array_equal(cleaned, model.embed(waveforms, denoise=True, **options))


def test_auto_chooses_by_the_positions(spikes):
    waveforms, _ = spikes
    assert SpikeEmbedder().fit(waveforms).model_.config.num_channels == 4
    column = np.repeat(waveforms, 4, axis=2)
    positions_um = [(0.0, 20.0 * index) for index in range(16)]
    chosen = SpikeEmbedder(channel_positions=positions_um).fit(column)
    assert chosen.model_.config.num_channels > 4


def test_pipeline_clusters_the_units(spikes):
    waveforms, labels = spikes
    pipeline = make_pipeline(SpikeEmbedder(peak_index=20), StandardScaler(), GaussianMixture(3, random_state=0))
    found = pipeline.fit_predict(waveforms)
    agreement = max(
        np.mean(np.array(order)[found] == labels)
        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    )
    assert agreement > 0.9
    assert pipeline.set_params(spikeembedder__batch_size=7).named_steps["spikeembedder"].batch_size == 7


def test_clone_and_pickle(model, spikes):
    waveforms, _ = spikes
    fitted = SpikeEmbedder("tetrode", peak_index=20).fit(waveforms)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(waveforms)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(waveforms[:5]), fitted.transform(waveforms[:5]))


def test_errors_name_what_is_wrong(model, spikes):
    waveforms, _ = spikes
    embedder = SpikeEmbedder(model).fit(waveforms)
    with pytest.raises(ValueError, match=r"\(60, 4\).*\(59, 4\)"):
        embedder.transform(waveforms[:, 1:])
    with pytest.raises(ValueError, match=r"num_channels.*60"):
        embedder.fit(waveforms[:, :, 0])
    with pytest.raises(TypeError, match="model.* 5"):
        SpikeEmbedder(5).fit(waveforms)
    with pytest.raises(ValueError, match="sampling_frequency"):
        SpikeEmbedder(model, sampling_frequency=-1).fit(waveforms)
