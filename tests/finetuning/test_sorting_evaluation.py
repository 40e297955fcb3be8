"""Recordings resampled from known units: spikes are where the truth says, and a worse encoder has a lower accuracy."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from stand_in import TETRODE_UM

from huidurep import HuiduRep, SortingParameters
from huidurep.finetuning import sorting_evaluation as recordings
from huidurep.finetuning.settings import FinetuningSettings, SortingEvaluationSettings
from huidurep.finetuning.template_resampling import RecordingWindow

RATE, BEFORE, LENGTH = 24000.0, 48, 144


def lasting(duration_s, **options):
    return FinetuningSettings(sorting_evaluation=SortingEvaluationSettings(duration_s=duration_s, **options))


def make_window(num_units=3, num_spikes=90, noise_uv=6.0, drift=0.0, **changes):
    """Units of their own footprints and widths, which shrink by `drift` over 100 s."""
    rng, time = np.random.default_rng(0), np.arange(LENGTH) - BEFORE
    footprints = 60.0 + 140.0 * np.eye(4)[:num_units]
    waveforms, times = [], []
    for unit in range(num_units):
        shape = -np.exp(-((time / (4 + 2 * unit)) ** 2))[:, None] * footprints[unit]
        times.append(np.sort(rng.uniform(0, 100, num_spikes)))
        gains = (1 - drift * times[-1] / 100)[:, None, None]
        waveforms.append((gains * shape + rng.normal(0, noise_uv, (num_spikes, LENGTH, 4))).astype("float32"))
    fields = dict(
        unit_ids=[f"unit {unit}" for unit in range(num_units)],
        waveforms=waveforms,
        times_s=times,
        peak_index=BEFORE,
        sampling_frequency=RATE,
        positions_um=np.array(TETRODE_UM),
        noise=rng.normal(0, noise_uv, (9000, 4)).astype("float32"),
        held_out_noise=rng.normal(0, noise_uv, (9000, 4)).astype("float32"),
        collision_probability=0.2,
        rates_hz=[5.0, 10.0, 20.0, 5.0][:num_units],
    )
    return RecordingWindow(**{**fields, **changes})


def test_units_stand_where_the_truth_says():
    recording, truth = recordings.resample_recording(make_window(), seed=1, settings=lasting(20.0))
    traces = recording.get_traces()
    assert traces.shape == (20 * RATE, 4) and recording.get_sampling_frequency() == RATE
    assert np.allclose(recording.get_channel_locations(), TETRODE_UM)
    for unit, unit_id in enumerate(truth.unit_ids):
        train = truth.get_unit_spike_train(unit_id)
        assert len(train) == pytest.approx(20 * (5, 10, 20)[unit], rel=0.3)
        assert np.diff(train).min() >= 0.002 * RATE - 1
        mean = np.mean([traces[sample - 10 : sample + 11] for sample in train], axis=0)
        assert mean[:, unit].argmin() == 10 and mean[10, unit] == pytest.approx(-200, rel=0.1)


def test_noise_is_that_of_the_time_held_out():
    quiet = make_window(noise_uv=0.0, held_out_noise=np.random.default_rng(3).normal(0, 9, (9000, 4)).astype("float32"))
    traces = recordings.resample_recording(quiet, seed=1, settings=lasting(20.0))[0].get_traces()
    assert 1.4826 * np.median(np.abs(traces)) == pytest.approx(9, rel=0.1)
    assert traces[:, 0].std() > 9


def test_drift_is_continuous():
    window = make_window(noise_uv=0.0, drift=0.6)
    recording, truth = recordings.resample_recording(window, seed=1, settings=lasting(40.0))
    train = truth.get_unit_spike_train("unit 2").astype(int)
    depths = -np.array([recording.get_traces(start_frame=s, end_frame=s + 1)[0, 2] for s in train])
    early, middle, late = (np.median(part) for part in np.array_split(depths, 3))
    assert early > 1.1 * middle and middle > 1.1 * late


def test_same_seed_same_recording():
    first, second, other = (
        recordings.resample_recording(make_window(), seed=s, settings=lasting(5.0)) for s in (1, 1, 2)
    )
    assert np.array_equal(first[0].get_traces(), second[0].get_traces())
    assert not np.array_equal(first[0].get_traces(), other[0].get_traces())


def test_frequent_units_leave_time_between_their_spikes():
    _, truth = recordings.resample_recording(
        make_window(rates_hz=[400.0, 200.0, 200.0]), seed=1, settings=lasting(10.0)
    )
    counts = [len(truth.get_unit_spike_train(unit_id)) for unit_id in truth.unit_ids]
    assert sum(counts) == pytest.approx(1000, rel=0.2) and counts[0] > 1.4 * counts[1]


def test_a_model_that_separates_units_sorts_better_than_one_that_does_not():
    model = HuiduRep.from_pretrained("tetrode")
    parameters, settings = SortingParameters(max_dimensions=12), lasting(15.0, num_recordings=2)
    evaluation = recordings.SortingEvaluation([make_window()], parameters, 0, settings)
    assert len(evaluation.recordings) == 2
    good = evaluation.score(model)
    assert good == evaluation.score(model) and len(good["sortings"]) == 2
    assert good["sorting_accuracy"] == pytest.approx(np.mean(good["sortings"])) and good["sorting_accuracy"] > 0.9
    blind = Mock(config=model.config, embed=lambda waveforms, **_: np.zeros((len(waveforms), 48), "float32"))
    assert evaluation.score(blind)["sorting_accuracy"] < 0.5


def test_without_two_units_or_noise_there_is_no_recording():
    windows = [make_window(num_units=1), make_window(held_out_noise=np.zeros((0, 4), "float32"))]
    evaluation = recordings.SortingEvaluation(windows, SortingParameters(), seed=0)
    assert evaluation.recordings == [] and evaluation.score(None) == {}
    windows.append(replace(make_window(num_units=2)))
    assert len(recordings.SortingEvaluation(windows, SortingParameters(), seed=0).recordings) == 4
