import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import spikeinterface
from spikeinterface.core.base import minimum_spike_dtype
from stand_in import RATE_HZ, as_recording

from huidurep import provenance
from huidurep.provenance import check_same_recording, current_commit, describe_recording, describe_run, package_versions
from huidurep.sorting.postprocessing import make_sorting

TRACES = np.random.default_rng(0).integers(-99, 99, (70000, 4)).astype("int16")


@pytest.fixture
def recording(tmp_path):
    made = as_recording(TRACES, TRACES[:600])
    return made.save(folder=tmp_path / "stored", progress_bar=False)


def result_of(recording):
    """One spike at the end of the first segment, none in the second."""
    vector = np.zeros(1, dtype=minimum_spike_dtype)
    vector["sample_index"] = 69999
    sorting = make_sorting(vector, recording.get_sampling_frequency(), np.arange(1), 2)
    sorting.set_property("main_channel_id", recording.channel_ids[:1])
    # as huidurep.json stores it
    return SimpleNamespace(sorting=sorting, provenance=json.loads(json.dumps(describe_run(recording))))


def test_run_is_described(recording, tmp_path):
    described = describe_run(recording)
    assert {"python", "huidurep", "spikeinterface", "torch"} <= described["versions"].keys()
    assert described["commit"] == current_commit()
    known = described["recording"]
    assert known["num_samples"] == [70000, 600] and known["num_channels"] == 4 and known["dtype"] == "int16"
    assert known["duration_s"] == pytest.approx(70600 / RATE_HZ)
    assert known["kind"] == type(recording).__name__ and known["files"] == [str(tmp_path / "stored")]
    assert known["sha256"] == hashlib.sha256(TRACES[:60000].tobytes()).hexdigest()
    sliced = describe_recording(recording.select_channels([0, 1]))
    assert sliced["files"] == [str(tmp_path / "stored")] and sliced["kind"] == "ChannelSliceRecording"
    assert describe_recording(as_recording(TRACES))["files"] == []


def test_the_recording_that_was_sorted_is_recognised_wherever_it_lies(recording, tmp_path):
    result = result_of(recording)
    check_same_recording(result, recording)
    check_same_recording(result, as_recording(TRACES, TRACES[:600]))
    check_same_recording(result, recording.save(folder=tmp_path / "copy", progress_bar=False))


def test_other_gains_are_refused(recording):
    result = result_of(recording)
    without = as_recording(TRACES, TRACES[:600], has_gains=False)
    other = as_recording(TRACES, TRACES[:600])
    other.set_channel_gains([1.0, 1.0, 0.195, 1.0])
    for changed, found in ((without, "found None"), (other, r"found \[0.195, 1.0\]")):
        with pytest.raises(ValueError, match=rf"gains to uV \[1.0\], {found}.*sort again"):
            check_same_recording(result, changed)
    swapped = as_recording(TRACES, TRACES[:600])
    swapped.set_channel_gains([0.195, 1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"gains to uV 1 of channel number 0, found 0.195 of channel number 0"):
        check_same_recording(result_of(other), swapped)
    with pytest.raises(ValueError, match=r"gains to uV None, found \[1.0\]"):
        check_same_recording(result_of(without), recording)
    check_same_recording(result_of(without), without)
    del result.provenance["recording"]["gains_to_uv"]  # an earlier version
    check_same_recording(result, other)


def test_other_recordings_are_refused(recording):
    result = result_of(recording)
    changed = TRACES.copy()
    changed[59999, 3] += 1
    later = TRACES.copy()
    later[62000:66000] = 0
    last = TRACES[:600].copy()
    last[599] += 1
    renamed = recording.rename_channels(["a", "b", "c", "d"])
    for other, found in (
        (as_recording(TRACES), "num_segments 2, found 1"),
        (as_recording(TRACES, TRACES[:600], rate_hz=25000.0), "sampling_frequency .* found 25000.0"),
        (renamed, r"channels \[0\], found \['a'"),
        (as_recording(TRACES[:60000], TRACES[:600]), "more than 69999 samples in segment 0, found 60000"),
        (as_recording(TRACES, TRACES[:700]), r"num_samples \[70000, 600\], found \[70000, 700\]"),
        (recording.select_channels([0, 1]), "num_channels 4, found 2"),
        (as_recording(changed, TRACES[:600]), "SHA-256"),
        (as_recording(later, TRACES[:600]), "other samples later"),
        (as_recording(TRACES, last), "other samples later"),
        (as_recording(TRACES.astype("float32"), TRACES[:600].astype("float32")), "int16.* float32"),
    ):
        with pytest.raises(ValueError, match=found):
            check_same_recording(result, other)
    with pytest.raises(TypeError, match="ndarray"):
        check_same_recording(result, TRACES)


def test_results_without_a_hash_are_compared_by_shape(recording):
    changed = as_recording(TRACES + 1, TRACES[:600])
    result = result_of(recording)
    del result.provenance["recording"]["sha256"], result.provenance["recording"]["sha256_chunks"]
    check_same_recording(result, changed)
    result.provenance = {}
    check_same_recording(result, changed)
    with pytest.raises(ValueError, match="found 60000"):
        check_same_recording(result, as_recording(TRACES[:60000], TRACES[:600]))


def test_empty_recordings_are_described():
    empty = spikeinterface.NumpyRecording([np.zeros((0, 4), "int16")], RATE_HZ)
    assert describe_recording(empty)["sha256"] == hashlib.sha256().hexdigest()


def test_missing_packages_and_clones_are_reported(tmp_path, monkeypatch):
    assert package_versions(["numpy", "no-such-package"])["no-such-package"] == "not installed"
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert current_commit() is None
