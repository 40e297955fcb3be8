import dataclasses
import logging

import numpy as np
import pytest
from spikeinterface.core.base import minimum_spike_dtype
from spikeinterface.core.motion import Motion
from stand_in import RATE_HZ, TETRODE_UM, as_recording, planted, waveform

from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.postprocessing import (
    POSTPROCESSING_SETTINGS,
    PostprocessingSettings,
    UnitMeasurements,
    concatenate_measurements,
    main_channels,
    make_sorting,
    measure_again,
    measure_units,
)
from huidurep.sorting.preprocessing import PreparedGroup
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.waveforms import mean_waveforms

MAX_CHANNELS = POSTPROCESSING_SETTINGS.max_template_channels
FOOTPRINTS_UV = ((120, 30, 20, 10), (20, 30, 130, 60), (60, 140, 20, 100))


def vector_of(samples, units, segments=0):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"], vector["unit_index"], vector["segment_index"] = samples, units, segments
    return vector


def measured(*, name=0, motion=None, late=0, **options):
    """Measurements of three planted units, and their spikes, whose times lie `late` samples after the troughs."""
    traces, samples, units = planted(footprints_uv=FOOTPRINTS_UV, rate_hz=4.0, noise_uv=2.0)
    recording = as_recording(traces, positions_um=TETRODE_UM, channel_ids=list("abcd"))
    group = PreparedGroup(name, recording, np.array([0]), np.full(4, 2.0), motion=motion)
    vector, parameters = vector_of(samples + late, units), SortingParameters()
    templates_uv = mean_waveforms(recording, vector, 3, parameters)
    return measure_units(group, vector, templates_uv, parameters, **options), vector


@pytest.mark.parametrize("late", [0, 5])
def test_amplitudes_are_those_of_the_planted_spikes(late):
    measurements, vector = measured(late=late)
    for unit, footprint_uv in enumerate(FOOTPRINTS_UV):
        own = measurements.amplitudes_uv[vector["unit_index"] == unit]
        trough_uv = waveform(width=4.0 + 1.5 * unit).min() * max(footprint_uv)
        assert np.median(own) == pytest.approx(trough_uv, abs=2)
        main = measurements.template_channels[unit, 0]
        assert main == np.argmax(footprint_uv)
        assert measurements.templates_uv[unit, :, 0].min() == pytest.approx(trough_uv, abs=2)
        assert abs(measurements.templates_uv[unit, :, 0].argmin() - (measurements.peak_index - late)) <= 1


def test_spread_and_contact_peaks_are_those_of_the_planted_spikes():
    settings = PostprocessingSettings(num_drawn_spikes=20)
    measurements, vector = measured(settings=settings)
    units = vector["unit_index"][measurements.drawn_spikes]
    assert np.bincount(units).tolist() == [20, 20, 20]
    low_uv, high_uv = measurements.template_quantiles_uv[..., :4]
    # noise of 2 uV: its quantiles are 2.56 standard deviations apart
    assert np.median(high_uv - low_uv) == pytest.approx(2.56 * 2.0, rel=0.2)
    assert (
        np.mean((low_uv < measurements.templates_uv[..., :4]) & (measurements.templates_uv[..., :4] < high_uv)) > 0.98
    )
    assert np.isnan(measurements.template_quantiles_uv[..., 4:]).all()
    for unit, footprint_uv in enumerate(FOOTPRINTS_UV):
        troughs_uv = waveform(width=4.0 + 1.5 * unit).min() * np.array(footprint_uv, dtype="float64")
        own_uv = measurements.contact_peaks_uv[units == unit]
        assert np.median(own_uv[:, :4], axis=0) == pytest.approx(
            troughs_uv[measurements.template_channels[unit, :4]], abs=5
        )
        assert np.isnan(own_uv[:, 4:]).all()


def test_spread_does_not_depend_on_the_batches(monkeypatch):
    settings = PostprocessingSettings(num_drawn_spikes=20)
    whole, _ = measured(settings=settings)
    monkeypatch.setattr("huidurep.sorting.postprocessing.PASS_BYTES", 20 * 4 * 90 * 4)
    parts, _ = measured(settings=settings)
    assert np.array_equal(whole.contact_peaks_uv, parts.contact_peaks_uv, equal_nan=True)
    assert np.array_equal(whole.template_quantiles_uv, parts.template_quantiles_uv, equal_nan=True)


def test_locations_are_near_the_largest_amplitudes():
    measurements, vector = measured()
    x, y = (
        np.array([np.median(measurements.positions_um[vector["unit_index"] == unit, k]) for unit in range(3)])
        for k in (0, 1)
    )
    assert y[1] > y[0] and x[2] > x[0]  # contact c lies above a, contacts b and d on the right of them
    assert ((0 < measurements.positions_um) & (measurements.positions_um < 12.5)).all()
    assert not measurements.motion_um.any()


def test_missing_channels_are_marked():
    measurements, _ = measured()
    assert measurements.templates_uv.shape == (3, 90, MAX_CHANNELS)
    assert np.isnan(measurements.templates_uv[:, :, 4:]).all()
    assert np.isfinite(measurements.templates_uv[:, :, :4]).all()
    assert (measurements.template_channels[:, 4:] == -1).all()
    assert [sorted(row) for row in measurements.template_channels[:, :4].tolist()] == [[0, 1, 2, 3]] * 3
    fewer, _ = measured(settings=PostprocessingSettings(max_template_channels=2))
    assert np.array_equal(fewer.templates_uv, measurements.templates_uv[:, :, :2])


def test_motion_is_that_of_the_time_of_the_spike():
    motion = Motion([np.array([[0.0], [20.0]])], [np.array([0.0, 10.0])], np.array([0.0]))
    measurements, vector = measured(motion=motion)
    assert measurements.motion_um == pytest.approx(2.0 * vector["sample_index"] / RATE_HZ, abs=1e-3)


def test_groups_are_joined_and_survive_a_file(tmp_path):
    first, vector = measured(name="left")
    second, _ = measured(name="right")
    order = np.random.default_rng(0).permutation(2 * len(vector))
    joined = concatenate_measurements([first, second], order)
    assert joined.channel_groups.tolist() == ["left"] * 4 + ["right"] * 4
    assert (joined.template_channels[3:, :4] == first.template_channels[:, :4] + 4).all()
    assert (joined.template_channels[3:, 4:] == -1).all()
    assert np.array_equal(joined.amplitudes_uv, np.tile(first.amplitudes_uv, 2)[order])
    joined.save(tmp_path / "measures.npz")
    loaded = UnitMeasurements.load(tmp_path / "measures.npz")
    for field in dataclasses.fields(joined):
        has_nan = field.name in ("templates_uv", "template_quantiles_uv", "contact_peaks_uv")
        assert np.array_equal(getattr(joined, field.name), getattr(loaded, field.name), equal_nan=has_nan), field.name
    # a drawn spike keeps its peak wherever its row goes
    both = np.concatenate([first.amplitudes_uv, second.amplitudes_uv])
    rows = np.concatenate([first.drawn_spikes, second.drawn_spikes + len(vector)])
    assert np.array_equal(joined.amplitudes_uv[joined.drawn_spikes], both[rows])
    old = dataclasses.replace(first, template_quantiles_uv=None, drawn_spikes=None, contact_peaks_uv=None)
    old.save(tmp_path / "old.npz")  # as an earlier version saved it
    assert UnitMeasurements.load(tmp_path / "old.npz").drawn_spikes is None
    assert concatenate_measurements([old, first], order).drawn_spikes is None
    assert UnitMeasurements.load(tmp_path / "none.npz") is None and concatenate_measurements([], order) is None
    np.savez(tmp_path / "short.npz", channel_ids=joined.channel_ids)
    with pytest.raises(ValueError, match="templates_uv"):
        UnitMeasurements.load(tmp_path / "short.npz")


def test_sorting_has_segments_without_spikes():
    sorting = make_sorting(vector_of([5, 9], [0, 1]), RATE_HZ, np.array(["x", "y"]), 3)
    assert sorting.get_num_segments() == 3 and sorting.get_unit_spike_train("x", segment_index=2).size == 0


@pytest.mark.parametrize("sign", ["neg", "pos", "auto"])
def test_main_channel_is_where_the_peak_of_the_sign_is(sign):
    templates = np.zeros((1, 90, 3))
    templates[0, 32, 1], templates[0, 28, 2], templates[0, 80, 0] = -50, 70, -500  # the last one is no spike's peak
    channels, samples, peaks_uv = main_channels(templates, RATE_HZ, SortingParameters(peak_sign=sign))
    expected = {"neg": (1, 32, -50), "pos": (2, 28, 70), "auto": (2, 28, 70)}[sign]
    assert (channels[0], samples[0], peaks_uv[0]) == expected
    given = main_channels(templates, RATE_HZ, SortingParameters(), signs=np.array([-1]))
    assert [each[0] for each in given] == [1, 32, -50]


def test_a_recording_without_the_groups_of_the_sorting_is_refused():
    traces, samples, units = planted(duration_s=2.0)
    sorting = make_sorting(vector_of(samples, units), RATE_HZ, np.arange(3), 1)
    sorting.set_property("group", np.array([0, 0, 7]))
    with pytest.raises(ValueError, match="2 of 3 units"):
        measure_again(sorting, as_recording(traces, positions_um=TETRODE_UM), SortingParameters())


def test_warnings_are_marked_in_the_log():
    log = RunLog()
    log("a", "fine")
    log.warning("b", "look")
    log("c", "fine", level=logging.DEBUG)
    assert [entry.get("is_warning", False) for entry in log.entries] == [False, True, False]
