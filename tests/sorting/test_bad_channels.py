"""Channels that spoil others are left out, doubtful ones are named, and good ones stay."""

import numpy as np
import pytest
from stand_in import TETRODE_UM, as_recording

from huidurep.sorting.bad_channels import BAD_CHANNELS, BadChannelSettings
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.preprocessing import preprocess, split_groups
from huidurep.sorting.run_log import RunLog

RATE_HZ = 30000.0
SHORT = BadChannelSettings(min_coherence_s=3.0, num_coherence_chunks=8)
COLUMN_UM = np.column_stack([np.zeros(32), 20.0 * np.arange(32)])


def kept_and_said(recording, settings=BAD_CHANNELS):
    log = RunLog()
    (group,) = split_groups(recording, SortingParameters(), log)
    kept = preprocess(group, SortingParameters(), log, bad_channel_settings=settings).recording.channel_ids.tolist()
    return kept, " | ".join(entry["message"] for entry in log.entries)


def column():
    """Three seconds of a column of 32 channels in the brain: neighbours share most of their slow background."""
    rng = np.random.default_rng(0)
    num_samples = int(3 * RATE_HZ)
    background = np.cumsum(rng.normal(0, 1.0, (num_samples, 1)), axis=0)
    background = 30.0 * (background - background.mean()) / background.std()
    shared = rng.normal(0, 6.0, (num_samples, 1))
    return (background + shared + rng.normal(0, 3.0, (num_samples, 32))).astype("float32")


def test_a_noisy_channel_of_a_tetrode_is_left_out():
    traces = np.random.default_rng(0).normal(0, 8.0, (60000, 4)).astype("float32")
    traces[:, 1] *= 7.0
    kept, said = kept_and_said(as_recording(traces, positions_um=TETRODE_UM, channel_ids=["a", "b", "c", "d"]))
    assert kept == ["a", "c", "d"]
    assert "noisy channels removed: b" in said


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_channel_that_is_quieter_or_louder_than_others_stays(factor):
    traces = np.random.default_rng(0).normal(0, 8.0, (60000, 4)).astype("float32")
    traces[:, 1] *= factor
    kept, said = kept_and_said(as_recording(traces, positions_um=TETRODE_UM))
    assert len(kept) == 4 and "removed" not in said


def test_large_spikes_are_no_noise():
    traces = np.random.default_rng(0).normal(0, 8.0, (60000, 4)).astype("float32")
    traces[::300, 1] -= 2000.0  # 100 Hz: the standard deviation is ten times that of the others
    kept, _ = kept_and_said(as_recording(traces, positions_um=TETRODE_UM))
    assert len(kept) == 4


def test_of_two_channels_none_is_the_usual_one():
    traces = np.random.default_rng(0).normal(0, 8.0, (60000, 2)).astype("float32")
    traces[:, 1] *= 20.0
    assert len(kept_and_said(as_recording(traces, positions_um=TETRODE_UM[:2]))[0]) == 2


def test_good_channels_of_a_column_raise_no_doubt():
    kept, said = kept_and_said(as_recording(column(), positions_um=COLUMN_UM), SHORT)
    assert len(kept) == 32
    assert "look" not in said and "removed" not in said


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16", "uint32"])
def test_a_channel_that_looks_dead_is_named_and_stays(dtype):
    traces = column()
    traces[:, 12] = np.random.default_rng(5).normal(0, 3.0, len(traces))  # the amplifier's own noise
    offset = 2**15 if dtype[0] == "u" else 0
    recording = as_recording((traces + offset).astype(dtype), positions_um=COLUMN_UM)
    recording.set_channel_offsets(-offset)
    kept, said = kept_and_said(recording, SHORT)
    assert len(kept) == 32
    assert "look dead (unlike their neighbours): 12" in said and "bad_channel_ids" in said


def test_a_channel_with_noise_at_high_frequencies_is_left_out():
    traces = column()
    # half as large again as what the median rule lets pass, but all of it above what spikes need
    hum = np.sin(2 * np.pi * 13500.0 / RATE_HZ * np.arange(len(traces)))
    traces += 2.0 * hum[:, None]
    traces[:, 20] += 60.0 * hum
    kept, said = kept_and_said(as_recording(traces, positions_um=COLUMN_UM), SHORT)
    assert 20 not in kept and len(kept) == 31
    assert "noisy channels removed: 20" in said
