import dataclasses
import logging

import numpy as np
import pytest
from spikeinterface.core.base import minimum_spike_dtype
from spikeinterface.core.motion import Motion
from stand_in import RATE_HZ, TETRODE_UM, as_recording, planted, waveform

from huidurep.provenance import describe_run
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.postprocessing import (
    TEMPLATE_CHANNELS,
    Measures,
    join_measures,
    main_channels,
    make_sorting,
    measure_again,
    measure_units,
)
from huidurep.sorting.preprocessing import PreparedGroup
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.waveforms import mean_waveforms

FOOTPRINTS_UV = ((120, 30, 20, 10), (20, 30, 130, 60), (60, 140, 20, 100))


def vector_of(samples, units, segments=0):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"], vector["unit_index"], vector["segment_index"] = samples, units, segments
    return vector


def measured(*, name=0, motion=None, late=0):
    """Measures of three planted units whose spikes are given `late` samples after their troughs; and their spikes."""
    traces, samples, units = planted(footprints_uv=FOOTPRINTS_UV, rate_hz=4.0, noise_uv=2.0)
    recording = as_recording(traces, positions_um=TETRODE_UM, channel_ids=list("abcd"))
    group = PreparedGroup(name, recording, np.array([0]), np.full(4, 2.0), motion=motion)
    vector, parameters = vector_of(samples + late, units), SortingParameters()
    templates_uv = mean_waveforms(recording, vector, 3, parameters)
    return measure_units(group, vector, templates_uv, parameters), vector


@pytest.mark.parametrize("late", [0, 5])
def test_amplitudes_are_those_planted(late):
    measures, vector = measured(late=late)
    for unit, footprint_uv in enumerate(FOOTPRINTS_UV):
        own = measures.amplitudes_uv[vector["unit_index"] == unit]
        trough_uv = waveform(width=4.0 + 1.5 * unit).min() * max(footprint_uv)
        assert np.median(own) == pytest.approx(trough_uv, abs=2)
        main = measures.template_channels[unit, 0]
        assert main == np.argmax(footprint_uv)
        assert measures.templates_uv[unit, :, 0].min() == pytest.approx(trough_uv, abs=2)
        assert abs(measures.templates_uv[unit, :, 0].argmin() - (measures.peak_index - late)) <= 1


def test_places_lie_on_the_side_of_the_large_contacts():
    measures, vector = measured()
    x, y = (
        np.array([np.median(measures.positions_um[vector["unit_index"] == unit, k]) for unit in range(3)])
        for k in (0, 1)
    )
    assert y[1] > y[0] and x[2] > x[0]  # contact c lies above a, contacts b and d on the right of them
    assert ((0 < measures.positions_um) & (measures.positions_um < 12.5)).all()
    assert not measures.motion_um.any()


def test_contacts_that_are_not_there_are_marked():
    measures, _ = measured()
    assert measures.templates_uv.shape == (3, 90, TEMPLATE_CHANNELS)
    assert np.isnan(measures.templates_uv[:, :, 4:]).all() and np.isfinite(measures.templates_uv[:, :, :4]).all()
    assert (measures.template_channels[:, 4:] == -1).all()
    assert [sorted(row) for row in measures.template_channels[:, :4].tolist()] == [[0, 1, 2, 3]] * 3


def test_motion_is_that_of_the_time_of_the_spike():
    motion = Motion([np.array([[0.0], [20.0]])], [np.array([0.0, 10.0])], np.array([0.0]))
    measures, vector = measured(motion=motion)
    assert measures.motion_um == pytest.approx(2.0 * vector["sample_index"] / RATE_HZ, abs=1e-3)


def test_groups_are_joined_and_survive_a_file(tmp_path):
    first, vector = measured(name="left")
    second, _ = measured(name="right")
    order = np.random.default_rng(0).permutation(2 * len(vector))
    joined = join_measures([first, second], order)
    assert joined.channel_groups.tolist() == ["left"] * 4 + ["right"] * 4
    assert (joined.template_channels[3:, :4] == first.template_channels[:, :4] + 4).all()
    assert (joined.template_channels[3:, 4:] == -1).all()
    assert np.array_equal(joined.amplitudes_uv, np.tile(first.amplitudes_uv, 2)[order])
    joined.save(tmp_path / "measures.npz")
    loaded = Measures.load(tmp_path / "measures.npz")
    for field in dataclasses.fields(joined):
        assert np.array_equal(
            getattr(joined, field.name), getattr(loaded, field.name), equal_nan=field.name == "templates_uv"
        )
    assert Measures.load(tmp_path / "none.npz") is None and join_measures([], order) is None
    np.savez(tmp_path / "short.npz", channel_ids=joined.channel_ids)
    with pytest.raises(ValueError, match="templates_uv"):
        Measures.load(tmp_path / "short.npz")


def test_sorting_has_segments_without_spikes():
    sorting = make_sorting(vector_of([5, 9], [0, 1]), RATE_HZ, np.array(["x", "y"]), 3)
    assert sorting.get_num_segments() == 3 and sorting.get_unit_spike_train("x", segment_index=2).size == 0


@pytest.mark.parametrize("sign", ["neg", "pos", "both"])
def test_main_channel_is_where_the_peak_of_the_sign_is(sign):
    templates = np.zeros((1, 90, 3))
    templates[0, 32, 1], templates[0, 28, 2], templates[0, 80, 0] = -50, 70, -500  # the last one is no spike's peak
    channels, samples, peaks_uv = main_channels(templates, RATE_HZ, SortingParameters(peak_sign=sign))
    expected = {"neg": (1, 32, -50), "pos": (2, 28, 70), "both": (2, 28, 70)}[sign]
    assert (channels[0], samples[0], peaks_uv[0]) == expected


def test_recording_that_was_not_sorted_is_refused():
    traces, samples, units = planted(duration_s=2.0)
    sorting = make_sorting(vector_of(samples, units), RATE_HZ, np.arange(3), 1)
    sorting.set_property("group", np.array([0, 0, 7]))
    recording = as_recording(traces, positions_um=TETRODE_UM)
    for other, found in (
        (as_recording(traces, traces, positions_um=TETRODE_UM), "found 2 at"),
        (as_recording(traces[:30000], positions_um=TETRODE_UM), "found later ones"),
        (recording, "2 of 3 units"),
    ):
        with pytest.raises(ValueError, match=found):
            measure_again(sorting, other, SortingParameters())


def test_run_is_described_and_warnings_are_marked():
    described = describe_run(as_recording(np.zeros((900, 4), "float32"), np.zeros((600, 4), "float32")))
    assert described["num_samples"] == [900, 600] and described["num_channels"] == 4
    assert {"python", "huidurep", "spikeinterface", "torch"} <= described["versions"].keys()
    log = RunLog()
    log("a", "fine")
    log.warning("b", "look")
    log("c", "fine", level=logging.DEBUG)
    assert [entry.get("is_warning", False) for entry in log.entries] == [False, True, False]
