"""huidurep.track on sessions with known neurons, and input that it refuses."""

import numpy as np
import pytest
from tracked_sessions import column, draw_neurons, make_result

import huidurep

SHIFTS_UM = (0.0, 35.0, -20.0)
KEPT = ([0, 1, 2, 3, 4, 5, 6], [7, 6, 5, 4, 3, 1, 0], [0, 2, 4, 6, 8, 7, 9])  # neurons of each session


@pytest.fixture(scope="module")
def results():
    templates = draw_neurons(10, SHIFTS_UM)
    gains = np.random.default_rng(1).uniform(0.8, 1.25, (3, 10))[:, :, None, None]
    return [make_result((gains * templates)[session][kept], seed=session) for session, kept in enumerate(KEPT)]


@pytest.fixture(scope="module")
def tracks(results):
    return huidurep.track(results)


def test_neurons_are_found_again(tracks):
    table = tracks.neurons
    assert list(table.columns) == ["neuron", "session", "unit"]
    assert len(table) == sum(map(len, KEPT))
    truth = np.concatenate(KEPT)
    found = table["neuron"].to_numpy()
    one_found, one_true = found[:, None] == found[None], truth[:, None] == truth[None]
    between = np.triu(table["session"].to_numpy()[:, None] != table["session"].to_numpy()[None])
    assert (one_found & ~one_true & between).sum() == 0
    assert (one_found & one_true & between).sum() >= 0.8 * (one_true & between).sum()
    assert not table.duplicated(["neuron", "session"]).any()
    # neuron 2 is absent in the session between
    assert found[2] == found[15] and not (found[7:14] == found[2]).any()


def test_displacement_and_probabilities(tracks):
    assert tracks.displacement_um["0"] == pytest.approx(SHIFTS_UM, abs=6)
    pairs = tracks.pairs
    assert list(pairs.columns) == ["session_1", "unit_1", "session_2", "unit_2", "probability"]
    assert pairs["probability"].is_monotonic_decreasing and pairs["probability"].between(0, 1.0001).all()
    assert pairs.groupby(["session_1", "unit_1", "session_2"])["probability"].sum().max() < 1.01
    assert (pairs["session_1"] < pairs["session_2"]).all()


def test_spike_times_count_only_if_asked(results, tracks):
    other = [make_result(_dense(each), seed=10 + number) for number, each in enumerate(results)]
    assert huidurep.track(other).pairs.equals(tracks.pairs)
    asked = huidurep.track(other, use_isi=True)
    assert asked.info["use_isi"] and not asked.pairs.equals(tracks.pairs)


def _dense(result):
    return huidurep.tracking.sessions.read_session(result).templates_uv


def test_ids_become_a_property(results, tracks, tmp_path):
    tracks.set_neurons(results)
    own = tracks.neurons[tracks.neurons["session"] == 1]["neuron"].to_numpy()
    np.testing.assert_array_equal(results[1].sorting.get_property("neuron"), own)
    results[1].save(tmp_path / "sorted")
    loaded = huidurep.SortingResult.load(tmp_path / "sorted")
    np.testing.assert_array_equal(loaded.sorting.get_property("neuron"), own)
    with pytest.raises(ValueError, match="3 sessions"):
        tracks.set_neurons(results[:2])


def test_results_in_another_order_are_refused(tmp_path):
    templates = draw_neurons(3, (0.0, 0.0), seed=2)
    days = [make_result(each, name=f"day {number}") for number, each in enumerate(templates)]
    huidurep.track(days).save(tmp_path / "tracks")
    tracks = huidurep.UnitTracks.load(tmp_path / "tracks")
    with pytest.raises(ValueError, match="result of session 0, found that of session 1"):
        tracks.set_neurons(days[::-1])
    tracks.set_neurons(days)
    assert days[0].sorting.get_property("neuron") is not None


def test_units_of_opposite_sign_are_two_neurons():
    templates = draw_neurons(4, (0.0, 0.0), seed=2)
    found = huidurep.track([make_result(templates[0]), make_result(-templates[1])])
    assert found.neurons["neuron"].nunique() == 8


def test_one_unit_in_each_session():
    tetrode = np.array([(0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5)])
    templates = draw_neurons(1, (0.0, 5.0), positions_um=tetrode)
    found = huidurep.track([make_result(each, tetrode) for each in templates])
    assert found.neurons["neuron"].tolist() == [0, 0]
    assert found.displacement_um == {"0": [0.0, None]}  # a tetrode does not tell depths apart


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda results: results[:1], ValueError, "at least two sessions, found 1"),
        (lambda results: results[0], TypeError, "list of results"),
        (lambda results: [results[0], 5], TypeError, "found int"),
        (lambda results: [results[0], results[0]], ValueError, "session 0 again as session 1"),
        (lambda results: [results[0], "nowhere"], FileNotFoundError, "nowhere"),
        (lambda results: [results[0], _empty()], ValueError, "none in session 1"),
        (lambda results: [results[0], _moved(results[1])], ValueError, "one probe"),
        (lambda results: [results[0], make_result(_dense(results[1]), rate_hz=20000.0)], ValueError, "20000 Hz"),
        (lambda results: [results[0], _grouped(results[1])], ValueError, r"same groups: here 1 \(0\) and 2 \(a, b\)"),
    ],
)
def test_what_cannot_be_tracked_is_refused(results, change, error, words):
    with pytest.raises(error, match=words):
        huidurep.track(change(results))


def test_sampling_frequencies_of_calibrated_clocks_are_tracked(results):
    calibrated = make_result(_dense(results[1]), rate_hz=30000.39)
    assert huidurep.track([results[0], calibrated]).neurons["neuron"].is_unique is False


def test_a_recording_given_twice_is_refused(results):
    twice = [make_result(_dense(results[0]), name="abc") for _ in range(2)]
    with pytest.raises(ValueError, match="again"):
        huidurep.track(twice)


def _empty():
    return make_result(np.zeros((0, 90, 16)))


def _grouped(result):
    return make_result(_dense(result), groups=np.repeat(["a", "b"], 8))


def _moved(result):
    return make_result(_dense(result), column() + [0.0, 7.0])


def test_channel_groups_are_apart(results):
    """Two tetrodes in one recording; the second one has no units on day 1, and no good channels on day 2."""
    tetrode = np.array([(0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5)])
    contacts = np.concatenate([tetrode, tetrode])
    days = []
    for templates, units, channels in zip(draw_neurons(4, (0.0,) * 3, positions_um=tetrode), *DAYS, strict=True):
        both = np.zeros((4, 90, 8), "float32")
        both[:2, :, :4], both[2:, :, 4:] = templates[:2], templates[2:]
        days.append(make_result(both[units][:, :, channels], contacts[channels], groups=np.arange(8)[channels] // 4))
    found = huidurep.track(days)
    assert found.neurons["neuron"].tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3]
    assert found.displacement_um == {"0": [0.0, None, None], "1": [0.0, None, None]}


DAYS = ([[0, 1, 2, 3], [0, 1], [0, 1, 2, 3]], [slice(8), slice(4), slice(8)])


def test_units_that_a_curator_called_noise_are_no_neurons(results):
    curated = [make_result(_dense(each), seed=20 + day) for day, each in enumerate(results[:2])]
    labels = np.full(curated[1].sorting.get_num_units(), "good", dtype="U5")
    labels[1] = "Noise"
    curated[1].sorting.set_property("quality", labels)
    tracks = huidurep.track(curated)
    of_noise = tracks.neurons.query("session == 1 and unit == 1")
    assert len(of_noise) == 0 and not (tracks.pairs["unit_2"] == 1).any()
    tracks.set_neurons(curated)
    neurons = curated[1].sorting.get_property("neuron")
    assert neurons[1] == -1 and (np.delete(neurons, 1) >= 0).all()
