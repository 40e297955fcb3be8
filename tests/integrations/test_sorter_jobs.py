"""SpikeInterface's run_sorter_jobs: no engine needs a word about registration, for workers do that themselves."""

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
from spikeinterface.sorters import launcher

import huidurep

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
    assert launcher._slurm_script.count("huidurep") == 1
