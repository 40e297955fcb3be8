import logging

import numpy as np
import pytest

from huidurep.models.waveform_checks import check_waveforms

LINE_UM = np.column_stack([np.zeros(4), 20.0 * np.arange(4)])


def spikes(scale=1.0):
    waveforms = np.random.default_rng(0).normal(0, 8, (20, 90, 4))
    waveforms[:, 30] -= 100
    return scale * waveforms


@pytest.mark.parametrize(("scale", "is_warned"), [(1.0, False), (1e-6, True), (1e-3, True), (1000.0, True)])
def test_other_units_than_microvolts_are_warned_of(scale, is_warned, caplog):
    with caplog.at_level(logging.WARNING, logger="huidurep"):
        check_waveforms(spikes(scale), sampling_frequency=30000.0)
    assert ("expected waveforms in uV" in caplog.text) == is_warned


@pytest.mark.parametrize(("offset", "num_samples", "is_warned"), [(0, 90, False), (200, 90, True), (200, 30, False)])
def test_offsets_of_unfiltered_traces_are_warned_of(offset, num_samples, is_warned, caplog):
    check_waveforms((spikes() + offset * np.array([1, -1, 0.5, 0]))[:, :num_samples], sampling_frequency=30000.0)
    assert ("expected band-passed waveforms" in caplog.text) == is_warned


def test_silent_and_no_waveforms_are_not_warned_of(caplog):
    check_waveforms(np.zeros((3, 90, 4)), sampling_frequency=30000.0)
    check_waveforms(np.zeros((0, 90, 4)), sampling_frequency=30000.0)
    assert not caplog.text


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_positions_in_another_unit_are_refused(scale):
    with pytest.raises(ValueError, match="channel_positions in um.*mm"):
        check_waveforms(spikes(), sampling_frequency=30000.0, channel_positions=scale * LINE_UM)
    check_waveforms(spikes(), sampling_frequency=30000.0, channel_positions=LINE_UM)


def test_contacts_at_one_place_are_refused():
    with pytest.raises(ValueError, match="channel_positions in um.*leave out"):
        check_waveforms(spikes(), sampling_frequency=30000.0, channel_positions=np.zeros((4, 2)))
    check_waveforms(spikes()[:, :, :1], sampling_frequency=30000.0, channel_positions=np.zeros((1, 2)))


@pytest.mark.parametrize(("peak_index", "is_warned"), [(30, False), (36, False), (0, True), (60, True)])
def test_spikes_elsewhere_than_at_the_peak_index_are_warned_of(peak_index, is_warned, caplog):
    check_waveforms(spikes(), sampling_frequency=30000.0, peak_index=peak_index)
    assert ("found them at sample 30" in caplog.text) == is_warned
