import re

import numpy as np
import pytest
from spikeinterface import load
from spikeinterface.core import NumpySorting
from stand_in import RATE_HZ, as_recording

from huidurep import SortingParameters, SortingResult
from huidurep.sorting.recorded_times import RecordedTimes, choose_times, doubtful_times, has_times

NUM_SAMPLES = 9000


def timed(kind):
    """A recording and a sorting of it, without any computation."""
    recording = as_recording(*[np.zeros((NUM_SAMPLES, 2), dtype="float32")] * 2)
    if kind == "starts":
        recording.shift_times(1000.5, segment_index=0)
        recording.shift_times(2000.25, segment_index=1)
    if kind == "gaps":
        times_s = 7.25 + np.arange(NUM_SAMPLES) / RATE_HZ
        times_s[4000:] += 12.5
        recording.set_times(times_s + np.random.default_rng(0).normal(0, 1e-8, NUM_SAMPLES).cumsum(), segment_index=1)
    units = [{0: np.array([3, 3999, 4000, 8999]), 1: np.array([100, 5000])}, {0: np.array([20]), 1: np.array([6000])}]
    sorting = NumpySorting.from_unit_dict(units, RATE_HZ)
    sorting.register_recording(recording)
    return recording, sorting


def trains(sorting):
    places = [(unit, segment) for unit in sorting.unit_ids for segment in range(sorting.get_num_segments())]
    return [sorting.get_unit_spike_train(unit, segment, return_times=True) for unit, segment in places]


def saved(sorting, folder):
    size = len(sorting.to_spike_vector())
    return SortingResult(sorting, np.zeros((size, 3)), np.zeros(size), SortingParameters()).save(folder)


@pytest.mark.parametrize("kind", ["starts", "gaps"])
@pytest.mark.filterwarnings("error:The recording registered")
def test_times_survive_in_a_result(kind, tmp_path):
    _, sorting = timed(kind)
    saved(sorting, tmp_path / "out").rename(tmp_path / "moved")
    loaded = SortingResult.load(tmp_path / "moved")
    loaded.save(tmp_path / "again")
    for each in (loaded.sorting, SortingResult.load(tmp_path / "again").sorting, load(tmp_path / "moved")):
        for found, expected in zip(trains(each), trains(sorting), strict=True):
            np.testing.assert_array_equal(found, expected)
        for segment in range(2):
            assert each.get_start_time(segment) == sorting.get_start_time(segment)
            assert each.get_end_time(segment) == sorting.get_end_time(segment)
            samples = [10, 3999, 4000, 8000]
            times_s = sorting.sample_index_to_time(np.array(samples), segment)
            np.testing.assert_allclose(each.sample_index_to_time(np.array(samples), segment), times_s, atol=1e-5)
            assert [int(each.time_to_sample_index(t, segment)) for t in times_s[1:3]] == samples[1:3]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda times_s: times_s, None),
        (lambda times_s: times_s * 1.0003, None),
        (lambda times_s: times_s * 1000, "steps of 1e.03 samples"),
        (lambda times_s: times_s - 0.1 * (np.arange(NUM_SAMPLES) >= 6000), "1 times .* the first at sample 6000"),
        (lambda times_s: np.where(np.arange(NUM_SAMPLES) == 8000, np.nan, times_s), "2 times .* at sample 8000"),
    ],
)
def test_doubtful_times_are_described(change, found):
    recording, _ = timed("gaps")
    recording.set_times(change(recording.get_times(1)), segment_index=1)
    doubts = doubtful_times(recording)
    assert len(doubts) == (found is not None)
    assert found is None or re.search(f"^segment 1: .*{found}", doubts[0])
    assert doubtful_times(timed("starts")[0]) == []


def test_a_result_without_times_has_no_file_of_them(tmp_path):
    _, sorting = timed("none")
    assert not has_times(sorting)
    assert not (saved(sorting, tmp_path / "out") / "times.npz").exists()
    assert not SortingResult.load(tmp_path / "out").sorting.has_recording()


def test_a_shift_of_the_units_is_kept(tmp_path):
    _, sorting = timed("none")
    sorting.shift_times(3.0)
    saved(sorting, tmp_path / "out")
    assert trains(SortingResult.load(tmp_path / "out").sorting)[0][0] == 3 / RATE_HZ + 3.0


def test_exports_prefer_the_recording(tmp_path):
    recording, sorting = timed("starts")
    untimed, _ = timed("none")
    assert choose_times(sorting, recording) is recording
    assert choose_times(sorting, untimed).get_start_time(1) == 2000.25
    assert RecordedTimes.of(sorting).get_times(0, 10, 12) == pytest.approx(recording.get_times(0, 10, 12))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken", None])
def test_damaged_times_are_named(content, tmp_path):
    _, sorting = timed("gaps")
    path = saved(sorting, tmp_path / "out") / "times.npz"
    if content is None:
        np.savez(
            path, num_samples=np.array([1]), starts_s=np.array([0.0]), samples_0=np.zeros(0), times_s_0=np.zeros(0)
        )
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="times.npz"):
        SortingResult.load(tmp_path / "out")


def test_times_have_no_traces():
    with pytest.raises(ValueError, match="traces"):
        RecordedTimes.of(timed("starts")[1]).get_traces(0)
