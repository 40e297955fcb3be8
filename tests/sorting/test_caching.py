"""Cached traces: in memory, in a temporary file that is deleted with the recording, or not where the disk is full."""

import errno
import gc
from dataclasses import replace

import numpy as np
import pytest
import spikeinterface.preprocessing as spre
from spikeinterface.core import NumpyRecording

from huidurep.sorting import caching
from huidurep.sorting.run_log import RunLog

TO_DISK = caching.CachingSettings(memory_bytes=1000)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def unfrozen():
    """As in a process without tests/conftest.py."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.fixture
def lazy():
    traces = np.random.default_rng(0).normal(0, 10, (30000, 4)).astype("float32")
    return spre.scale(NumpyRecording([traces, traces[:9000]], 10000.0), gain=2.0, dtype="float32")


def assert_same(found, expected):
    for index in range(2):
        assert np.array_equal(found.get_traces(segment_index=index), expected.get_traces(segment_index=index))


def test_short_traces_stay_in_memory(lazy, folder):
    cached = caching.cache_traces(lazy, "preprocessing", RunLog())
    assert_same(cached, lazy)
    assert "Memory" in type(cached).__name__ and not list(folder.iterdir())


@pytest.mark.parametrize("settings", [caching.CACHING, TO_DISK])
def test_a_start_time_of_one_segment_alone(folder, settings):
    traces = np.random.default_rng(0).normal(0, 10, (9000, 4)).astype("float32")
    raw = NumpyRecording([traces, traces], 10000.0)
    raw.shift_times(500.0, segment_index=1)
    lazy = spre.scale(raw, gain=2.0, dtype="float32")
    assert_same(caching.cache_traces(lazy, "preprocessing", RunLog(), settings=settings), lazy)
    assert raw.get_start_time(1) == 500.0


def test_short_traces_go_to_a_file_where_shared_memory_is_small(lazy, folder, monkeypatch):
    shared = folder / "shm"
    shared.mkdir()
    usage = caching.shutil.disk_usage
    monkeypatch.setattr(caching, "SHARED_MEMORY", shared)
    monkeypatch.setattr(
        caching.shutil, "disk_usage", lambda path: usage(path)._replace(free=1000) if path == shared else usage(path)
    )
    cached = caching.cache_traces(lazy, "preprocessing", RunLog(), noise_uv=20.0)
    assert cached.get_dtype() == "float32" and list(folder.glob("huidurep-*/traces/*.raw"))
    assert_same(cached, lazy)


def test_long_traces_go_to_a_file_that_is_deleted_with_the_recording(lazy, folder, unfrozen):
    cached = caching.cache_traces(lazy, "preprocessing", RunLog(), settings=TO_DISK)
    assert_same(cached, lazy)
    assert len(list(folder.glob("huidurep-*/traces/*.raw"))) == 2
    assert gc.get_freeze_count() == 0
    del cached
    gc.collect()
    assert not list(folder.iterdir())


def test_a_file_holds_int16_where_the_noise_is_known(lazy, folder):
    cached = caching.cache_traces(lazy, "preprocessing", RunLog(), noise_uv=20.0, settings=TO_DISK)
    assert sum(path.stat().st_size for path in folder.glob("huidurep-*/traces/*.raw")) == 2 * 39000 * 4
    for index in range(2):
        found, expected = (each.get_traces(segment_index=index) for each in (cached, lazy))
        assert found.dtype == "float32" and np.allclose(found, expected, atol=0.0501)
    assert cached.get_channel_gains().tolist() == [1.0] * 4
    traces = np.zeros((30000, 4), dtype="float32")
    traces[7] = -1e5
    huge = caching.cache_traces(NumpyRecording([traces], 10000.0), "motion", RunLog(), noise_uv=5.0, settings=TO_DISK)
    assert huge.get_traces()[7] == pytest.approx(-3276.7)  # cut, and not the other sign


def test_small_noise_is_not_rounded(lazy, folder):
    assert_same(caching.cache_traces(lazy, "preprocessing", RunLog(), noise_uv=0.9, settings=TO_DISK), lazy)


def test_another_process_does_not_remove_the_file(tmp_path):
    caching._remove(tmp_path, -1)
    assert tmp_path.is_dir()


def test_a_full_disk_costs_time_not_the_sorting(lazy, folder):
    log = RunLog()
    assert caching.cache_traces(lazy, "motion", log, settings=replace(TO_DISK, spare_disk_bytes=2**60)) is lazy
    assert log.entries[-1]["stage"] == "motion" and "TMPDIR" in log.entries[-1]["message"]
    assert not list(folder.iterdir())


def test_a_disk_that_fills_while_traces_are_written_costs_time_only(lazy, folder, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spikeinterface.core.time_series_tools._write_binary_chunk", full)
    log = RunLog()
    assert caching.cache_traces(lazy, "motion", log, settings=replace(TO_DISK, spare_disk_bytes=0)) is lazy
    assert "TMPDIR" in log.entries[-1]["message"] and not list(folder.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(type(lazy), "save", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "refused")))
    with pytest.raises(PermissionError):
        caching.cache_traces(lazy, "motion", log, settings=replace(TO_DISK, spare_disk_bytes=0))


def test_an_interrupt_leaves_nothing_behind(lazy, folder, monkeypatch):
    def interrupted(*_, **__):
        assert list(folder.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(type(lazy), "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        caching.cache_traces(lazy, "preprocessing", RunLog(), settings=TO_DISK)
    assert not list(folder.iterdir())


def test_temporary_files_of_killed_sortings_are_named(lazy, folder):
    import os
    import subprocess
    import sys

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive, other = (
        folder / f"huidurep-{name}" for name in (f"{ended.pid}-abc", f"{os.getpid()}-abc", "d39yjonz")
    )
    for each in (dead, alive, other):
        each.mkdir()
    log = RunLog()
    caching.cache_traces(lazy, "motion", log, settings=replace(TO_DISK, spare_disk_bytes=0))
    assert str(dead) in log.entries[-1]["message"] and dead.is_dir()
    assert not any(str(each) in log.entries[-1]["message"] for each in (alive, other))
