"""SpikeInterface's run_sorter_jobs: no engine needs a word about registration, for workers do that themselves."""

import inspect
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import spikeinterface
import spikeinterface.sorters as sorters
from group_sortings import group_of
from spikeinterface.core import NumpySorting
from spikeinterface.sorters import launcher

import huidurep
from huidurep.sorting.aggregation import assemble, empty_group

# The test's own process knows the sorter: a worker that is forked from it would know it without our doing.
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module", autouse=True)
def _registered():
    huidurep.register()


@pytest.fixture(scope="module")
def recording(tetrode_folder):
    return spikeinterface.load(tetrode_folder)


def make_refused_job(recording, folder):
    """A job that our sorter alone refuses, before anything is computed: the worker must know the sorter."""
    return dict(sorter_name="huidurep", recording=recording, folder=folder, merge_bias="much")


@pytest.mark.parametrize(
    ("engine", "engine_kwargs"),
    [
        ("loop", {}),
        ("joblib", dict(n_jobs=2, backend="loky")),
        ("processpoolexecutor", dict(max_workers=1, mp_context=SPAWN)),
    ],
)
def test_workers_know_the_sorter(recording, tmp_path, engine, engine_kwargs):
    with pytest.raises(ValueError, match="merge_bias"):
        sorters.run_sorter_jobs([make_refused_job(recording, tmp_path / "out")], engine, engine_kwargs)


def test_workers_of_dask_know_the_sorter(recording, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = dict(n_workers=1, threads_per_worker=1, dashboard_address=None)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        with pytest.raises(ValueError, match="merge_bias"):
            sorters.run_sorter_jobs([make_refused_job(recording, tmp_path / "out")], "dask", dict(client=client))


@pytest.mark.skipif(os.name == "nt", reason="the script that stands for sbatch is one of a Unix shell")
def test_scripts_for_slurm_know_the_sorter(recording, tmp_path, monkeypatch):
    write_sbatch(tmp_path / "bin", monkeypatch)
    options = dict(tmp_script_folder=tmp_path / "scripts", sbatch_args={"mem": "4G"})
    with pytest.warns(UserWarning, match="merge_bias"):  # SpikeInterface's launcher warns of what sbatch prints
        sorters.run_sorter_jobs([make_refused_job(recording, tmp_path / "out")], "slurm", options)
    assert (tmp_path / "bin" / "words").read_text().split()[:2] == ["--mem", "4G"]


@pytest.mark.slow  # the script compiles what this process has compiled already
@pytest.mark.skipif(os.name == "nt", reason="the script that stands for sbatch is one of a Unix shell")
def test_slurm_sorts(recording, tmp_path, monkeypatch):
    write_sbatch(tmp_path / "bin", monkeypatch)
    quick = dict(model="tetrode", num_units=3, matching="none", verbose=False)
    jobs = [dict(sorter_name="huidurep", recording=recording, folder=tmp_path / "out", **quick)]
    sorters.run_sorter_jobs(jobs, "slurm", dict(tmp_script_folder=tmp_path / "scripts"))
    expected = huidurep.sort(recording, model="tetrode", num_units=3, matching=None)
    found = sorters.read_sorter_folder(tmp_path / "out")
    np.testing.assert_array_equal(found.to_spike_vector(), expected.to_spike_vector())


def write_sbatch(folder, monkeypatch):
    """A program `sbatch`, the first on PATH, that notes its words and runs the script at once."""
    folder.mkdir()
    program = folder / "sbatch"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/words\nfor script; do :; done\nexec "$script"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(huidurep.__file__).parents[1]))


def test_groups_that_were_sorted_one_by_one_name_units_by_their_new_ids(recording):
    changed = dict(neighbour_share=[0.0, 0.4], overlapping_unit=[-1, 0], snr=[3.0, 9.0])
    group = group_of([10, 30], [0, 1], [0, 0], 0, [0, 1], **changed)
    sortings = [assemble([each], recording, 2)[0] for each in (group, empty_group(2), group)]
    combined = launcher.aggregate_units(sortings)
    assert combined.unit_ids.tolist() == [0, 1, 2, 3]
    assert combined.get_property("overlapping_unit").tolist() == [-1, 0, -1, 2]
    reasons = ["SNR 3.0", "overlaps with unit 0", "SNR 3.0", "overlaps with unit 2"]
    assert combined.get_property("quality_reason").tolist() == reasons
    bare = NumpySorting.from_unit_dict([{0: np.array([5])}], 30000.0)  # of another sorter
    assert launcher.aggregate_units([bare, bare]).get_property_keys() == []


def test_jobs_of_other_sorters_do_not_load_ours():
    program = """
import sys
from unittest import mock
from huidurep.integrations import sorter_jobs
with mock.patch.object(sorter_jobs, "run_sorter") as run:
    sorter_jobs.run_registered("tridesclous2", "recording", folder="out")
run.assert_called_once_with("tridesclous2", "recording", folder="out")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_launcher_still_has_what_is_replaced():
    """Another SpikeInterface may name these otherwise: then this fails, not a user's job."""
    assert launcher.run_sorter.__module__ == "huidurep.integrations.sorter_jobs"
    assert launcher.aggregate_units.__module__ == "huidurep.integrations.sorter_jobs"
    assert "aggregate_units(sorting_list)" in inspect.getsource(launcher.run_sorter_by_property)
    assert launcher._slurm_script.count("huidurep") == 1
