import numpy as np
import pytest
from spikeinterface.core import estimate_templates_with_accumulator
from spikeinterface.core.base import base_peak_dtype
from stand_in import as_recording

from huidurep.sorting import waveforms
from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.waveforms import (
    WaveformBatch,
    align_to_trough,
    iterate_waveforms,
    mean_waveforms,
    nearest_channels,
    robust_waveforms,
    to_spike_vector,
)

PARAMETERS = SortingParameters()


def recording_of(num_channels, num_segments=1):
    """Traces that tell where they come from: sample + 0.01 * channel, and 100000 more in the second segment."""
    columns = np.arange(3000.0)[:, None] + 0.01 * np.arange(num_channels)
    segments = [(columns + 100000 * index).astype("float32") for index in range(num_segments)]
    return as_recording(
        *segments, positions_um=np.column_stack([np.zeros(num_channels), 20.0 * np.arange(num_channels)])
    )


def test_mean_waveforms_do_not_depend_on_the_number_of_threads(monkeypatch):
    """They are those of one worker of SpikeInterface to the last bit, at the ends of segments and on channels too."""
    monkeypatch.setattr(waveforms, "READ_BYTES", 50_000)  # several parts
    rng = np.random.default_rng(2)
    recording = as_recording(*(rng.normal(0, 30, (40000, 3)).astype("float32") for _ in range(2)))
    spikes = spikes_at(np.concatenate([np.sort(rng.integers(0, 40000, 3000)) for _ in range(2)]), 0)
    spikes["segment_index"] = np.repeat([0, 1], 3000)
    vector, mask = to_spike_vector(spikes, rng.integers(0, 5, 6000)), rng.random((5, 3)) < 0.6
    mask[:, 1] = True
    for shown in (None, mask):
        expected = estimate_templates_with_accumulator(
            recording, vector, np.arange(5), 30, 60, return_in_uV=False, sparsity_mask=shown, n_jobs=1
        )
        for num_jobs in (1, 2, 3):
            found = mean_waveforms(recording, vector, 5, PARAMETERS, mask=shown, job_kwargs={"n_jobs": num_jobs})
            assert (found == expected).all()


def spikes_at(samples, channels, segments=0):
    spikes = np.zeros(len(samples), dtype=base_peak_dtype)
    spikes["sample_index"], spikes["channel_index"], spikes["segment_index"] = samples, channels, segments
    return spikes


@pytest.mark.parametrize("batch_bytes", [1, 4 * 90 * 4 * 3, 2**27])
def test_small_group_gives_all_channels_whatever_the_batch(batch_bytes):
    recording = recording_of(4, num_segments=2)
    spikes = spikes_at([100, 500, 2000, 100, 2500], [0, 3, 1, 2, 2], [0, 0, 0, 1, 1])
    batches = list(iterate_waveforms(recording, spikes, PARAMETERS, num_channels=4, batch_bytes=batch_bytes))
    assert np.concatenate([batch.spike_indices for batch in batches]).tolist() == [0, 1, 2, 3, 4]
    cut = np.concatenate([batch.waveforms for batch in batches])
    assert cut.shape == (5, 90, 4)
    assert {batch.peak_index for batch in batches} == {30}
    assert cut[:, 30, 0].tolist() == [100, 500, 2000, 100100, 102500]
    assert cut[3, 0, 0] == 100070


def test_large_group_gives_the_channels_around_each_peak():
    recording = recording_of(10)
    spikes = spikes_at([100, 500, 900, 2000], [0, 5, 5, 9])
    seen = {}
    for batch in iterate_waveforms(recording, spikes, PARAMETERS, num_channels=3):
        assert batch.waveforms.shape[1:] == (90, 3)
        for row, waveform in zip(batch.spike_indices, batch.waveforms, strict=True):
            channels = np.round((waveform[30] - spikes["sample_index"][row]) / 0.01).astype(int)
            assert batch.channel_positions_um[:, 1].tolist() == (20.0 * (channels - channels[0])).tolist()
            seen[int(row)] = channels.tolist()
    assert seen == {0: [0, 1, 2], 1: [4, 5, 6], 2: [4, 5, 6], 3: [7, 8, 9]}


def test_snippets_of_channels_that_lie_alike_are_one_batch():
    recording = recording_of(10)
    spikes = spikes_at(np.arange(200, 2200, 200), np.arange(10))
    batches = list(iterate_waveforms(recording, spikes, PARAMETERS, num_channels=3))
    assert len(batches) == 1  # at the ends of a column too, three contacts are 20 um apart
    recording.set_dummy_probe_from_locations(np.column_stack([np.zeros(10), np.arange(10) ** 2]))
    # channels 0 to 2 have the same three contacts, and so have 8 and 9
    assert len(list(iterate_waveforms(recording, spikes, PARAMETERS, num_channels=3))) == 7


def test_no_spikes_no_batches():
    assert list(iterate_waveforms(recording_of(4), spikes_at([], []), PARAMETERS, num_channels=4)) == []


def test_nearest_channels_count_even_where_places_coincide():
    recording = as_recording(np.zeros((100, 6)), positions_um=[(0, 0), (0, 20), (20, 0), (20, 20), (0, 40), (20, 40)])
    mask = nearest_channels(recording, 4)
    assert mask.sum(axis=1).tolist() == [4] * 6
    assert mask.diagonal().all()


def test_mean_waveforms():
    vector = to_spike_vector(spikes_at([100, 200, 300], [0, 0, 0]), np.array([0, 1, 1]))
    templates = mean_waveforms(recording_of(4), vector, 3, PARAMETERS)
    assert templates.shape == (3, 90, 4)
    assert templates[:, 30, 0].tolist() == [100, 250, 0]


def test_robust_waveforms_bear_one_transient():
    traces = np.zeros((3000, 2), dtype="float32")
    samples = np.arange(100, 2900, 100)
    traces[samples] = (-80.0, -20.0)
    traces[samples[10]] -= 20000.0
    vector = to_spike_vector(spikes_at(samples, samples * 0), np.where(samples == 2800, 1, 0))
    recording = as_recording(traces)
    templates = robust_waveforms(recording, vector, 3, PARAMETERS, num_means=5)
    assert templates.shape == (3, 90, 2)
    assert templates[:, 30].tolist() == [[-80.0, -20.0], [-80.0, -20.0], [0.0, 0.0]]
    assert mean_waveforms(recording, vector, 3, PARAMETERS)[0, 30, 0] < -700


def test_trough_between_two_samples_is_moved_to_the_peak_index():
    time = np.arange(45) - 15.0
    delays = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
    late = time - delays[:, None]
    one = np.exp(-0.5 * (late / 1.2) ** 2) - 0.4 * np.exp(-0.5 * ((late - 6) / 3) ** 2)
    for sign in (-1.0, 1.0):
        waveforms = (sign * one[:, :, None] * np.array([100.0, 40.0])).astype("float32")
        batch = WaveformBatch(np.arange(5), waveforms, np.zeros((2, 2)), 15)
        moved = align_to_trough(batch).waveforms
        assert np.abs(waveforms - waveforms[2]).max() > 20 and np.abs(moved - moved[2]).max() < 3
        # no row depends on the others
        alone = WaveformBatch(np.arange(1), waveforms[:1], np.zeros((2, 2)), 15)
        np.testing.assert_allclose(align_to_trough(alone).waveforms[0], moved[0], rtol=1e-5, atol=1e-4)
