"""Every bad input gives an empty but valid result where that is the truth, otherwise one sentence."""

import numpy as np
import pytest
from stand_in import RATE_HZ, TETRODE_UM, PcaModel, as_recording, planted

import huidurep
from huidurep import SortingParameters
from huidurep.pipeline import SpikeSortingPipeline


def run(recording, **parameters):
    return SpikeSortingPipeline(PcaModel(), SortingParameters(**parameters))(recording)


def noise(num_samples=60000, num_channels=4, sd=8.0):
    return np.random.default_rng(0).normal(0, sd, (num_samples, num_channels)).astype("float32")


def assert_empty(result, num_segments=1):
    assert result.sorting.get_num_units() == 0
    assert result.sorting.get_num_segments() == num_segments
    assert result.sorting.get_sampling_frequency() == RATE_HZ
    assert len(result.sorting.to_spike_vector()) == 0
    assert result.embeddings.shape == (0, 6)
    assert result.posteriors.shape == (0,)
    assert result.log


@pytest.mark.parametrize("lengths", [(0,), (0, 0)])
def test_empty_recording(lengths):
    recording = as_recording(*[noise(length) for length in lengths], positions_um=TETRODE_UM)
    assert_empty(run(recording), len(lengths))


def test_shorter_than_a_snippet():
    with pytest.raises(ValueError, match=r"\b90 samples.*\b60 samples"):
        run(as_recording(noise(60), positions_um=TETRODE_UM))


@pytest.mark.parametrize("num_samples", [90, 91, 150, 400])
def test_hardly_longer_than_a_snippet(num_samples):
    assert_empty(run(as_recording(noise(num_samples), positions_um=TETRODE_UM), detect_threshold=20.0))


@pytest.mark.parametrize("matching", ["wobble", None])
def test_no_spikes_above_threshold(matching):
    assert_empty(run(as_recording(noise(), positions_um=TETRODE_UM), detect_threshold=50.0, matching=matching))


def test_too_few_spikes_for_a_unit():
    traces, *_ = planted(duration_s=1.0, rate_hz=2.0)
    assert_empty(run(as_recording(traces, positions_um=TETRODE_UM), detect_threshold=7.0))


@pytest.mark.parametrize("threshold", [7.0, 500.0])
def test_fewer_spikes_than_units(threshold):
    traces, *_ = planted(duration_s=1.0, rate_hz=2.0)
    with pytest.raises(ValueError, match=r"num_units=200.*found \d+ in group 0"):
        run(as_recording(traces, positions_um=TETRODE_UM), num_units=200, detect_threshold=threshold)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(value):
    traces = noise(5000)
    traces[1234, 2] = value
    recording = as_recording(noise(5000), traces, positions_um=TETRODE_UM)
    with pytest.raises(ValueError, match="(nan|inf|-inf) in segment 1 at sample 1234 of channel 2"):
        run(recording)
    run(recording, bad_channel_ids=(2,))


def test_dead_and_duplicated_channels():
    traces, *_ = planted()
    traces = np.concatenate([traces, np.full((len(traces), 1), 3, "float32"), traces[:, :1]], axis=1)
    result = run(as_recording(traces, positions_um=20 * np.array([(i % 2, i // 2) for i in range(6)])), num_units=3)
    messages = " ".join(entry["message"] for entry in result.log)
    assert "flat channels removed: 4" in messages
    assert "channel 5 removed, a duplicate of 0" in messages
    assert set(result.sorting.get_property("main_channel_id")) <= {0, 1, 2, 3}


def test_all_channels_dead():
    assert_empty(run(as_recording(np.full((60000, 4), 2.0, dtype="float32"), positions_um=TETRODE_UM)))


def test_no_probe():
    traces, *_ = planted()
    result = run(as_recording(traces), num_units=3)
    assert result.sorting.get_num_units() == 3
    assert any("probe" in entry["message"] and entry.get("is_warning") for entry in result.log)


def test_one_channel():
    traces, *_ = planted(footprints_uv=((120,),), num_channels=1)
    result = run(as_recording(traces), detect_threshold=7.0)
    assert result.sorting.get_num_units() >= 1


def test_no_channels():
    with pytest.raises(ValueError, match="4 channels of which 4 are in bad_channel_ids"):
        run(as_recording(noise(), positions_um=TETRODE_UM), bad_channel_ids=(0, 1, 2, 3))


def test_unknown_bad_channel():
    with pytest.raises(ValueError, match=r"bad_channel_ids .*\[0, 1, 2, 3\].*\['a'\]"):
        run(as_recording(noise(), positions_um=TETRODE_UM), bad_channel_ids=("a",))


@pytest.mark.parametrize("rate_hz", [30.0, 1000.0])
def test_rate_too_low(rate_hz):
    with pytest.raises(ValueError, match=f"5000 Hz.*{rate_hz:g} Hz"):
        run(as_recording(noise(), rate_hz=rate_hz, positions_um=TETRODE_UM))


def test_not_a_recording():
    with pytest.raises(TypeError, match="ndarray"):
        run(noise())


@pytest.mark.parametrize("gain", [0.0, np.nan])
def test_gains_that_are_none_are_refused(gain):
    recording, _ = huidurep.simulate_recording(num_units=2, duration_s=2, seed=0)
    recording.set_channel_gains(gain)
    with pytest.raises(ValueError, match="gains"):
        huidurep.sort(recording, model=PcaModel())


def test_a_model_that_is_none_is_refused_before_any_work():
    recording, _ = huidurep.simulate_recording(num_units=2, duration_s=2, seed=0)
    with pytest.raises(TypeError, match="HuiduRep"):
        huidurep.sort(recording, model=3)


@pytest.mark.parametrize("rate_hz", [1e12, np.inf, -30000.0, np.nan])
def test_absurd_rates(rate_hz):
    with pytest.raises(ValueError, match="sampling frequency.*1e\\+06 Hz"):
        SortingParameters().check_recording(as_recording(noise(100), rate_hz=rate_hz))


def test_complex_samples():
    with pytest.raises(ValueError, match="real numbers.*complex64"):
        SortingParameters().check_recording(as_recording(noise(100).astype("complex64")))


@pytest.mark.parametrize(("value", "dtype"), [(1e30, "float32"), (-3e38, "float32"), (1e300, "float64")])
def test_samples_that_are_absurdly_large(value, dtype):
    traces = noise(5000).astype(dtype)
    traces[1234, 2] = value
    with pytest.raises(ValueError, match="segment 0 at sample 1234 of channel 2"):
        SortingParameters().check_recording(as_recording(traces))


@pytest.mark.parametrize("gain", [1e30, 1e-300])
def test_gains_that_cannot_be_are_refused(gain):
    recording = as_recording(noise(), positions_um=TETRODE_UM)
    recording.set_channel_gains(gain)
    with pytest.raises(ValueError, match="gains"):
        run(recording)


@pytest.mark.parametrize("job_kwargs", [{"n_jobs": 0}, {"num_jobs": 2}])
def test_job_kwargs_that_are_none_are_one_sentence(job_kwargs):
    recording = as_recording(noise(), positions_um=TETRODE_UM)
    with pytest.raises(ValueError, match="^expected job_kwargs of SpikeInterface, found .*; correct it$"):
        huidurep.sort(recording, model=PcaModel(), job_kwargs=job_kwargs)
