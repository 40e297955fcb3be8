"""Arrays that may not fit into memory: the same numbers as in memory, and only a part of the file held there."""

import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from spikeinterface.core import NumpyRecording

import huidurep
from huidurep.clustering import disk_arrays
from huidurep.clustering.disk_arrays import iterate_blocks, place_rows, release, take, zeros_on_disk
from huidurep.sorting.stored_arrays import write_embeddings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of temporary files: every array lies in one, and is read in many blocks."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(disk_arrays, "MEMORY_BYTES", 0)
    monkeypatch.setattr(disk_arrays, "BLOCK_BYTES", 3000)
    return tmp_path


def is_on_disk(array):
    return disk_arrays._mapping(array) is not None


@pytest.fixture
def stored(folder):
    array = zeros_on_disk((1000, 5))
    array[:] = np.random.default_rng(0).normal(0, 1, array.shape)
    assert is_on_disk(array) and not list(folder.iterdir())
    return array


def test_values_survive_their_release(stored):
    expected = stored.copy()
    release(stored)
    assert np.array_equal(stored, expected)
    rows = np.random.default_rng(1).permutation(1000)[:300]
    assert np.array_equal(take(stored, rows), expected[rows])
    blocks = list(iterate_blocks(stored))
    assert len(blocks) > 3 and np.array_equal(np.concatenate([block for _, block in blocks]), expected)
    assert np.array_equal(np.concatenate([expected[rows] for rows, _ in blocks]), expected)


def test_rows_of_several_arrays_are_put_together(stored):
    other = np.ones((2, 5), "float32")
    order = np.random.default_rng(2).permutation(1002)
    expected = np.concatenate([stored, other])[order]
    placed = place_rows([stored, other], np.split(np.argsort(order), [1000]))
    assert is_on_disk(placed) and np.array_equal(placed, expected)
    is_kept = np.arange(1000) % 3 > 0
    kept = place_rows([stored], [np.where(is_kept, np.cumsum(is_kept) - 1, -1)])
    assert np.array_equal(kept, stored[is_kept])
    assert place_rows([other[:0], stored], [np.arange(0), np.arange(1000)]) is stored


def test_saved_as_numpy_does(stored, tmp_path):
    write_embeddings(tmp_path / "blocks.npy", stored)
    np.save(tmp_path / "whole.npy", stored)
    assert (tmp_path / "blocks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_disk_that_is_full_or_missing(folder, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(disk_arrays.SPARE_DISK_BYTES + 10))
    assert not is_on_disk(zeros_on_disk((1000, 5)))
    monkeypatch.undo()
    assert not is_on_disk(zeros_on_disk((10, 5)))  # small
    monkeypatch.setattr(disk_arrays, "MEMORY_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "missing"))
    assert not is_on_disk(zeros_on_disk((10, 5)))


HELD = """
import resource
from huidurep.clustering.disk_arrays import iterate_blocks, place_rows, release, take, zeros_on_disk
import numpy as np
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
array = zeros_on_disk((2**21, 48))  # 384 MiB
for rows, block in iterate_blocks(array):
    block += 1.0
moved = place_rows([array], [np.arange(len(array))[::-1]])
take(moved, np.arange(0, len(array), 100))
assert moved[5, 3] == 1.0
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB on Linux")
def test_little_of_it_is_held_in_memory():
    answer = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 150  # MiB, of two arrays of 384


def test_a_sorting_is_the_same(folder, monkeypatch):
    """Two tetrodes, one with spikes of both signs; in memory and from files."""
    parts = [huidurep.simulate_recording(probe="tetrode", num_units=2, duration_s=12.0, seed=seed) for seed in (3, 4)]
    traces = np.concatenate([recording.get_traces() for recording, _ in parts], axis=1)
    flipped = huidurep.simulate_recording(probe="tetrode", num_units=1, duration_s=12.0, seed=5)[0].get_traces()
    traces[:, :4] -= flipped
    recording = NumpyRecording([traces], parts[0][0].get_sampling_frequency())
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    locations = parts[0][0].get_channel_locations()
    recording.set_dummy_probe_from_locations(np.concatenate([locations, locations + [500.0, 0.0]]))
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained("tetrode")
    from_files = pipeline(recording, stages_folder=folder / "stages")
    assert is_on_disk(from_files.embeddings)
    monkeypatch.undo()
    in_memory = pipeline(recording)
    assert set(in_memory.sorting.get_property("peak_sign")) == {"neg", "pos"}
    assert np.array_equal(in_memory.sorting.to_spike_vector(), from_files.sorting.to_spike_vector())
    assert np.array_equal(in_memory.embeddings, from_files.embeddings)
    assert np.array_equal(in_memory.posteriors, from_files.posteriors)
    from_files.save(folder / "result")
    assert np.array_equal(huidurep.SortingResult.load(folder / "result").embeddings, in_memory.embeddings)
    assert not list(folder.glob("tmp*"))
