"""Whatever recording and parameters are given: a valid sorting, or one sentence."""

import numpy as np
from fuzz_cases import assert_documented, assert_valid, cases, parameters, recordings
from hypothesis import given
from stand_in import PcaModel

from huidurep import SortingParameters, SortingResult, SpikeSortingPipeline


@cases(60)
@given(recording=recordings(), given_parameters=parameters)
def test_any_recording(recording, given_parameters, tmp_path_factory):
    first = [recording.get_traces(segment_index=index) for index in range(recording.get_num_segments())]
    before = [traces.copy() for traces in first]
    try:
        result = SpikeSortingPipeline(PcaModel(), SortingParameters(**given_parameters))(recording)
    except Exception as error:
        assert_documented(error)
        return
    assert_valid(result, recording)
    for traces, copy in zip(first, before, strict=True):  # the user's recording stays as it is
        np.testing.assert_array_equal(traces, copy)
    folder = result.save(tmp_path_factory.mktemp("result") / "out")
    loaded = SortingResult.load(folder)
    assert_valid(loaded, recording)
    np.testing.assert_array_equal(loaded.sorting.to_spike_vector(), result.sorting.to_spike_vector())
