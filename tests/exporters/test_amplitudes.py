"""Amplitudes leave in uV, however the recording was stored."""

from datetime import datetime, timezone

import numpy as np
import pytest
import spikeinterface
from spikeinterface.core import NumpyRecording
from stand_in import RATE_HZ, TETRODE_UM, PcaModel, planted

from huidurep import SortingParameters, SortingResult, SpikeSortingPipeline

GAIN_UV = 0.195
# name -> (type, gain to uV, offset in steps)
STORED = {
    "uV": ("float32", 1.0, 0.0),
    "unsigned": ("uint16", GAIN_UV, 32768.0),
    "volts": ("float64", 1e6, 20e-6),
}


def stored(traces_uv, dtype, gain_uv, offset):
    steps = traces_uv / gain_uv + offset
    steps = np.round(steps) if np.dtype(dtype).kind in "iu" else steps
    recording = NumpyRecording([steps.astype(dtype)], RATE_HZ)
    recording.set_channel_gains(gain_uv)
    recording.set_channel_offsets(-offset * gain_uv)
    recording.set_dummy_probe_from_locations(TETRODE_UM)
    return recording


@pytest.fixture(scope="module")
def traces_uv():
    return planted(duration_s=5.0, seed=1)[0]


@pytest.fixture(scope="module", params=STORED)
def sorted_recording(request, traces_uv, tmp_path_factory):
    recording = stored(traces_uv, *STORED[request.param])
    recording = recording.save(folder=tmp_path_factory.mktemp("stored") / "recording", progress_bar=False)
    result = SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0))(recording)
    return recording, result


def depths(templates_uv):
    return np.nanmax(np.abs(templates_uv), axis=(1, 2))


def same(found_uv, expected_uv):
    np.testing.assert_allclose(np.abs(found_uv), np.abs(expected_uv), rtol=0.02)


def test_properties_are_in_uv(sorted_recording):
    _, result = sorted_recording
    # of planted(): the filter takes a part of the peaks of 120, 130 and 140 uV
    assert (result.sorting.get_property("peak_uv") < -60).all() and (
        result.sorting.get_property("peak_uv") > -140
    ).all()
    same(depths(result.measurements.templates_uv), result.sorting.get_property("peak_uv"))


def test_the_analyzer_is_in_uv(sorted_recording, tmp_path):
    recording, result = sorted_recording
    peak_uv = result.sorting.get_property("peak_uv")
    names = ["random_spikes", "templates", "noise_levels"]
    result.to_analyzer(recording, tmp_path / "analyzer", extensions=names)
    analyzer = spikeinterface.load(tmp_path / "analyzer")
    analyzer.compute("spike_amplitudes")  # from traces that are read again
    same(depths(analyzer.get_extension("templates").get_data()), peak_uv)
    amplitudes_uv = analyzer.get_extension("spike_amplitudes").get_data(outputs="by_unit")[0]
    medians = [np.median(amplitudes_uv[unit]) for unit in analyzer.unit_ids]
    np.testing.assert_allclose(medians, peak_uv, rtol=0.1)  # of spikes, not of their mean
    snr = np.abs(peak_uv) / result.sorting.get_property("snr")
    noise_uv = analyzer.get_extension("noise_levels").get_data()
    np.testing.assert_allclose(np.median(noise_uv), np.median(snr), rtol=0.1)


def test_phy_and_nwb_are_in_uv(sorted_recording, tmp_path):
    pynwb = pytest.importorskip("pynwb")
    recording, result = sorted_recording
    peak_uv = result.sorting.get_property("peak_uv")
    phy = result.export_to_phy(recording, tmp_path / "phy")
    same(depths(np.load(phy / "templates.npy")), peak_uv)
    path = result.export_to_nwb(
        recording, tmp_path / "a.nwb", session_start_time=datetime(2026, 1, 1, tzinfo=timezone.utc)
    )
    with pynwb.NWBHDF5IO(path, mode="r") as file:
        units = file.read().units
        waveforms_v = np.stack([np.asarray(each) for each in units["waveform_mean"][:]])
        same(1e6 * depths(waveforms_v), peak_uv)
        assert units.waveform_unit == "volts"


def test_the_report_is_in_uv(sorted_recording, tmp_path):
    recording, result = sorted_recording
    again = SortingResult.load(result.save(tmp_path / "out"))
    same(depths(again.measurements.templates_uv), result.sorting.get_property("peak_uv"))
