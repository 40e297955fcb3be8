import dataclasses
import json
import pickle

import numpy as np
import pytest
from stand_in import as_recording

from huidurep.sorting.parameters import SortingParameters


def test_unknown_name_names_the_nearest():
    with pytest.raises(TypeError, match="did you mean 'num_units'"):
        SortingParameters(num_unit=3)
    with pytest.raises(TypeError, match="detect_threshold"):
        SortingParameters.from_dict({"detection_threshold": 5})


def test_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SortingParameters().seed = 1
    with pytest.raises(TypeError):
        SortingParameters(300.0)


def test_both_signs_are_called_auto():
    with pytest.raises(ValueError, match='"auto"'):
        SortingParameters(peak_sign="both")
    assert SortingParameters.from_dict({"peak_sign": "both"}).peak_sign == "auto"  # of saved results


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("freq_min_hz", 0),
        ("freq_min_hz", 1.0),
        ("freq_min_hz", 7000.0),
        ("detect_threshold", float("nan")),
        ("peak_sign", "negative"),
        ("matching", "kilosort"),
        ("detection", "by_channel"),
        ("motion", "auto_fast"),
        ("num_units", 0),
        ("num_units", 2.5),
        ("num_units", True),
        ("seed", -1),
        ("merge_bias", float("inf")),
        ("min_unit_spikes", 0),
        ("denoise", 1),
        ("motion", 3),
        ("bad_channel_ids", 2.5),
        ("bad_channel_ids", np.array([False, True, False, False])),
        ("artifact_times_s", np.array([False, True])),
        ("artifact_times_s", [{0: 1.5}]),
        ("artifact_times_s", {0: [1.5]}),
        ("merge_bias", "much"),
        ("seed", "1"),
        ("common_reference", "median"),
    ],
)
def test_values_are_checked(name, value):
    with pytest.raises(ValueError, match=rf"expected {name}.*found") as error:
        SortingParameters(**{name: value})
    assert "\n" not in str(error.value)  # one sentence, unlike pydantic's own


def test_each_is_described_once_for_all_that_show_it():
    described = SortingParameters.describe()
    assert list(described) == [field.name for field in dataclasses.fields(SortingParameters)]
    assert all(len(text) > 20 and "\n" not in text for text in described.values())
    assert "band-pass" in described["freq_max_hz"]


def test_given_values_override_those_of_a_checkpoint():
    shipped = {"detect_threshold": 4.0, "unit_threshold": 4.4, "matching": "tdc-peeler"}
    combined = SortingParameters.combine(shipped, {"detect_threshold": 6.0})
    assert (combined.detect_threshold, combined.unit_threshold, combined.matching) == (6.0, 4.4, "tdc-peeler")
    assert SortingParameters.combine(shipped, {"preset": "paper", "num_units": 3}).matching is None


def test_survives_json_and_pickle():
    parameters = SortingParameters(num_units=np.int64(3), bad_channel_ids=np.array(["a", "b"]), matching=None)
    assert SortingParameters.from_dict(json.loads(json.dumps(parameters.to_dict()))) == parameters
    assert pickle.loads(pickle.dumps(parameters)) == parameters
    assert dataclasses.replace(parameters, seed=4).seed == 4


def test_window_in_samples():
    parameters = SortingParameters(ms_before=1.0, ms_after=2.0)
    assert (parameters.num_samples_before(30000.0), parameters.num_samples(30000.0)) == (30, 90)
    assert (parameters.num_samples_before(15000.0), parameters.num_samples(15000.0)) == (15, 45)


def test_one_bad_channel_may_be_given_bare():
    assert SortingParameters(bad_channel_ids="ch3").bad_channel_ids == ("ch3",)
    assert SortingParameters(bad_channel_ids=3).bad_channel_ids == (3,)


def test_samples_are_checked_to_the_end_of_a_long_recording():
    chunk_bytes = 4 * 4 * 1000
    traces = np.zeros((5003, 4), dtype="float32")
    SortingParameters().check_recording(as_recording(traces), chunk_bytes=chunk_bytes)
    traces[5002, 3] = np.inf
    with pytest.raises(ValueError, match="segment 0 at sample 5002 of channel 3"):
        SortingParameters().check_recording(as_recording(traces), chunk_bytes=chunk_bytes)
    SortingParameters(bad_channel_ids=(3,)).check_recording(as_recording(traces), chunk_bytes=chunk_bytes)
