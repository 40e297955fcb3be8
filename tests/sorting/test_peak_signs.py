"""Spikes that point down, up, or both: found by themselves, counted once, in units of one sign."""

import numpy as np
import pytest
from spikeinterface.core import NumpyRecording
from stand_in import TETRODE_UM, PcaModel, planted, share_found

from huidurep.pipeline import SpikeSortingPipeline
from huidurep.sorting.detection import detect_spikes
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.peak_signs import find_signs, merge_signs, set_apart, sign_offset, unit_signs
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog

DOWN_UV, UP_UV = ((120, 30, 20, 10), (20, 30, 130, 60)), ((60, 140, 20, 100), (30, 20, 60, 130))
GAIN_UV, OFFSET_UV = 0.25, 40.0


def stored(traces_uv):
    """A recording as an amplifier stores it: int16 with gain and offset."""
    recording = NumpyRecording([np.round((traces_uv - OFFSET_UV) / GAIN_UV).astype("int16")], 30000.0)
    recording.set_channel_gains(GAIN_UV)
    recording.set_channel_offsets(OFFSET_UV)
    recording.set_dummy_probe_from_locations(TETRODE_UM)
    return recording


def both_signs(rate_hz=12.0, **options):
    """Traces with two units that point down and two that point up; samples and units, 2 and 3 of them up."""
    down, samples, labels = planted(footprints_uv=DOWN_UV, **options)
    up, more, their = planted(footprints_uv=UP_UV, noise_uv=0.0, seed=1, rate_hz=rate_hz, **options)
    return down - up, np.concatenate([samples, more]), np.concatenate([labels, 2 + their])


def prepare(recording, **parameters):
    parameters = SortingParameters(**parameters)
    (group,) = split_groups(recording, parameters, RunLog())
    return preprocess(group, parameters, RunLog()), parameters


def signs_of(traces, **parameters):
    group, parameters = prepare(stored(traces), **parameters)
    return set(find_signs(group, parameters, RunLog()).sign_channels)


def test_signs_are_those_of_the_spikes_and_not_of_after_waves():
    traces, *_ = planted(duration_s=6.0)
    assert signs_of(traces) == {-1} and signs_of(-traces) == {1}
    assert signs_of(both_signs(duration_s=6.0)[0]) == {-1, 1}
    assert signs_of(both_signs(rate_hz=5.0, duration_s=6.0)[0]) == {-1, 1}
    assert signs_of(np.random.default_rng(0).normal(0, 10, (30000, 4))) == {-1}
    assert signs_of(traces, peak_sign="pos") == {1}


@pytest.mark.parametrize("detection", ["locally_exclusive", "matched_filtering"])
def test_auto_is_neg_where_no_spike_points_up(detection):
    traces, *_ = planted(duration_s=4.0)
    found = [
        detect_spikes(*prepare(stored(traces), peak_sign=sign, detection=detection), RunLog())
        for sign in ("auto", "neg")
    ]
    assert np.array_equal(*found) and len(found[0])


def test_each_spike_of_either_sign_is_detected_once():
    traces, samples, labels = both_signs(duration_s=6.0)
    log = RunLog()
    peaks = detect_spikes(*prepare(stored(traces), detect_threshold=6.0), log)
    assert any("down on 4 of 4 channels and up on 4 of 4" in entry["message"] for entry in log.entries)
    alone = np.array([np.sum(np.abs(samples - sample) < 100) == 1 for sample in samples])
    near = [np.flatnonzero(np.abs(peaks["sample_index"] - sample) < 50) for sample in samples[alone]]
    assert np.mean([len(rows) == 1 for rows in near]) > 0.97
    signs = np.array([np.sign(peaks["amplitude"][rows[0]]) if len(rows) else 0 for rows in near])
    assert np.mean(signs == np.where(labels[alone] < 2, -1, 1)) > 0.97


def test_a_deflection_is_part_of_a_larger_one_of_the_other_sign():
    group, _ = prepare(stored(planted(duration_s=1.0)[0]))
    peaks = np.zeros(
        5, dtype=[("sample_index", "i8"), ("channel_index", "i8"), ("amplitude", "f8"), ("segment_index", "i8")]
    )
    peaks["sample_index"], peaks["amplitude"] = [100, 120, 125, 200, 1000], [-90, 40, -50, 60, -30]
    kept = merge_signs([peaks[[0, 2, 4]], peaks[[1, 3]]], group.recording, radius_um=100.0)
    assert kept["sample_index"].tolist() == [100, 125, 200, 1000]  # the second spike of one sign stays


def sort(traces, **parameters):
    pipeline = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0, **parameters))
    return pipeline(stored(traces))


def test_units_of_both_signs_come_out_and_have_one_each():
    traces, samples, labels = both_signs()
    result = sort(traces)
    sorting = result.sorting
    assert sorting.get_num_units() == 4
    for unit, sign in enumerate(["neg", "neg", "pos", "pos"]):
        shares = [share_found(samples[labels == unit], sorting.get_unit_spike_train(each)) for each in sorting.unit_ids]
        best = int(np.argmax(shares))
        assert shares[best] > 0.9
        assert sorting.get_property("peak_sign")[best] == sign
        assert (sorting.get_property("peak_uv")[best] > 0) == (sign == "pos")
        amplitudes = result.measurements.amplitudes_uv[sorting.to_spike_vector()["unit_index"] == best]
        assert (np.median(amplitudes) > 0) == (sign == "pos")


def test_an_inverted_recording_has_the_same_spikes():
    traces, *_ = planted(duration_s=6.0)
    plain, inverted = (sort(each).sorting for each in (traces, 2 * OFFSET_UV - traces))
    assert np.array_equal(plain.to_spike_vector(), inverted.to_spike_vector())
    assert set(plain.get_property("peak_sign")) == {"neg"} and set(inverted.get_property("peak_sign")) == {"pos"}


def test_a_neuron_whose_deflections_are_equal_is_one_unit():
    time = np.arange(60) - 25
    shape = np.exp(-((time / 4) ** 2)) - np.exp(-(((time - 11) / 4) ** 2))
    traces, samples, _ = planted(footprints_uv=DOWN_UV)
    rng = np.random.default_rng(5)
    own = np.sort(rng.choice(np.arange(200, len(traces) - 200, 400), 150, replace=False))
    for sample in own:
        traces[sample - 25 : sample + 35] += shape[:, None] * np.array([20, 110, 60, 30])
    other, more, _ = planted(footprints_uv=UP_UV[1:], noise_uv=0.0, seed=3)
    sorting = sort(traces - other).sorting
    assert sorting.get_num_units() == 4
    shares = [share_found(own, sorting.get_unit_spike_train(unit), tolerance=20) for unit in sorting.unit_ids]
    assert max(shares) > 0.9


def test_no_cluster_has_spikes_of_both_signs():
    spikes = np.zeros(6, dtype=[("amplitude", "f8")])
    spikes["amplitude"] = [-1, -1, 1, 1, -1, 1]
    embeddings = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    offset = sign_offset(embeddings, spikes)
    moved = set_apart(embeddings, spikes, offset)
    assert np.array_equal(moved[[0, 1, 4]], embeddings[[0, 1, 4]])
    assert (np.linalg.norm(moved - embeddings, axis=1)[[2, 3, 5]] > 4 * embeddings.std()).all()
    assert not sign_offset(embeddings[:2], spikes[:2]).any()
    assert unit_signs(spikes, np.array([0, 0, 1, 1, -1, 2]), 4).tolist() == [-1, 1, 1, 0]
