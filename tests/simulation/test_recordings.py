import numpy as np
import probeinterface
import pytest
from scipy.signal import butter, sosfiltfilt

from huidurep import simulate_recording

SILENCE_UV = 1e-3


def band_passed(traces, rate=30000.0):
    return sosfiltfilt(butter(3, (300.0, 6000.0), "bandpass", fs=rate, output="sos"), traces, axis=0)


def test_recording_and_truth_are_spikeinterface_objects():
    recording, sorting = simulate_recording(num_units=3, duration_s=2.0, seed=1)
    assert recording.get_traces().shape == (60000, 4)
    assert recording.get_dtype() == np.float32
    assert recording.get_sampling_frequency() == sorting.get_sampling_frequency() == 30000.0
    assert np.array_equal(recording.get_traces(return_in_uV=True), recording.get_traces())
    assert recording.get_channel_locations().shape == (4, 2)
    peak_uv = sorting.get_property("peak_uv")
    assert len(peak_uv) == 3 and ((peak_uv > 40) & (peak_uv < 300)).all()


@pytest.mark.parametrize("noise_uv", [5.0, 20.0])
def test_noise_in_the_band_is_what_was_asked(noise_uv):
    # one unit: its few spikes hardly touch the median
    recording, _ = simulate_recording(num_units=1, duration_s=6.0, noise_uv=noise_uv, seed=2)
    heard = band_passed(recording.get_traces())
    level = np.median(abs(heard), axis=0) / 0.6745
    assert level.mean() == pytest.approx(noise_uv, rel=0.1)


def test_neighbours_share_noise():
    recording, _ = simulate_recording(num_units=1, duration_s=3.0, noise_uv=50.0, amplitude_range_uv=(40, 60), seed=2)
    correlation = np.corrcoef(recording.get_traces().T)
    assert 0.1 < correlation[0, 1] < 0.9
    assert correlation[0, 3] < correlation[0, 1]


def test_spikes_are_where_the_truth_says():
    recording, sorting = simulate_recording(num_units=3, duration_s=10.0, noise_uv=SILENCE_UV, seed=3)
    traces = recording.get_traces()
    everything = sorting.to_spike_vector()["sample_index"]
    for unit, peak_uv in zip(sorting.unit_ids, sorting.get_property("peak_uv"), strict=True):
        train = sorting.get_unit_spike_train(unit)
        train = train[(train > 200) & (train < len(traces) - 200)]
        gaps = np.array([np.sort(abs(everything - sample))[1] for sample in train])
        alone = train[gaps > 300]
        assert len(alone) > 5
        windows = np.stack([traces[sample - 30 : sample + 31].min(1) for sample in alone])
        assert (abs(windows.argmin(1) - 30) <= 1).all()
        assert -windows.min(1).mean() == pytest.approx(peak_uv, rel=0.05)
        assert windows.min(1).std() < 0.1 * peak_uv
        assert np.diff(train).min() >= 90


def test_nothing_is_elsewhere():
    recording, sorting = simulate_recording(num_units=1, duration_s=5.0, noise_uv=SILENCE_UV, seed=3)
    near = np.zeros(recording.get_num_samples(), bool)
    for sample in sorting.to_spike_vector()["sample_index"]:
        near[max(0, sample - 100) : sample + 180] = True
    assert abs(recording.get_traces()[~near]).max() < 10 * SILENCE_UV


def test_drift_moves_the_amplitude():
    options = dict(probe="linear-8", num_units=2, duration_s=12.0, noise_uv=SILENCE_UV, seed=4)
    spreads = []
    for drift_um in (0.0, 40.0):
        recording, sorting = simulate_recording(drift_um=drift_um, **options)
        traces = recording.get_traces()
        spread = []
        for unit in sorting.unit_ids:
            train = sorting.get_unit_spike_train(unit)
            train = train[(train > 50) & (train < len(traces) - 50)]
            at = np.stack([-traces[sample - 2 : sample + 3].min(0) for sample in train])
            main = at[:, at.mean(0).argmax()]
            spread.append(main.std() / main.mean())
        spreads.append(np.mean(spread))
    assert spreads[1] > 2 * spreads[0]


def test_same_seed_same_recording_and_global_state_untouched():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    made = [simulate_recording(num_units=2, duration_s=1.5, seed=seed) for seed in (7, 7, 8)]
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    traces = [recording.get_traces() for recording, _ in made]
    assert np.array_equal(traces[0], traces[1]) and not np.array_equal(traces[0], traces[2])
    assert np.array_equal(made[0][1].to_spike_vector(), made[1][1].to_spike_vector())


def test_probes():
    assert simulate_recording(probe="linear-5", num_units=1, duration_s=1.0)[0].get_num_channels() == 5
    probe = probeinterface.generate_linear_probe(3, ypitch=30.0)
    probe.set_device_channel_indices(np.arange(3))
    recording, _ = simulate_recording(probe=probe, num_units=1, duration_s=1.0, sampling_frequency=20000.0)
    assert recording.get_num_channels() == 3 and recording.get_num_samples() == 20000
    assert recording.get_channel_locations()[:, 1].tolist() == [0, 30, 60]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(num_units=0), "num_units >= 1"),
        (dict(duration_s=float("nan")), "finite ones"),
        (dict(duration_s=float("inf")), "finite ones"),
        (dict(noise_uv=float("nan")), "finite ones"),
        (dict(duration_s=1e-6), "one sample or more"),
        (dict(sampling_frequency=0.0), "sampling_frequency of at least 1200 Hz"),
        (dict(duration_s=0.0), "duration_s > 0"),
        (dict(noise_uv=-1.0), "noise_uv >= 0"),
        (dict(drift_um=-5.0), "drift_um >= 0"),
        (dict(probe="octrode"), "found 'octrode'"),
        (dict(probe="linear-0"), "found 'linear-0'"),
        (dict(probe="linear-x"), "found 'linear-x'"),
    ],
)
def test_impossible_values_raise(options, match):
    with pytest.raises(ValueError, match=match):
        simulate_recording(**options)


def test_a_probe_in_millimetres_is_the_same_probe():
    options = dict(num_units=2, duration_s=1.0, seed=0)
    probe = probeinterface.generate_linear_probe(4, ypitch=20.0)
    probe.set_device_channel_indices(np.arange(4))
    small = probeinterface.Probe(ndim=2, si_units="mm")
    small.set_contacts(1e-3 * probe.contact_positions)
    small.set_device_channel_indices(np.arange(4))
    recording, _ = simulate_recording(probe=small, **options)
    expected, _ = simulate_recording(probe=probe, **options)
    np.testing.assert_allclose(recording.get_channel_locations(), probe.contact_positions)
    np.testing.assert_allclose(recording.get_traces(), expected.get_traces(), atol=1e-3)
