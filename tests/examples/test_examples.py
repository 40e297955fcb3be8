"""The examples run on what they make themselves."""

import functools
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import spikeinterface

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *words):
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "Agg"})


def test_sort_recording(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    finished = run("01_sort_recording.py", "--output", tmp_path, "--duration-s", 15, "--num-units", 4)
    assert finished.returncode == 0, finished.stderr
    assert "accuracy" in finished.stdout and "sorted_as" in finished.stdout
    pictures = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(pictures) == {"templates.png", "raster.png", "embedding.png"}
    assert min(pictures.values()) > 5000


def test_embed_waveforms():
    finished = run("02_embed_waveforms.py")
    assert finished.returncode == 0, finished.stderr
    assert "adjusted Rand index" in finished.stdout


def test_finetune_own_probe(tmp_path, monkeypatch, capsys):
    """In this process, because imported and compiled code is then reused; with small batches and evaluations."""
    pytest.importorskip("accelerate")
    import huidurep
    from huidurep.finetuning.settings import EmbeddingEvaluationSettings, FinetuningSettings, TrainingSettings

    settings = FinetuningSettings(
        training=TrainingSettings(num_simulated_units=4, batch_size=8),
        embedding_evaluation=EmbeddingEvaluationSettings(num_draws=2, spikes_per_unit=20),
    )
    finetune = functools.partial(huidurep.finetune, settings=settings)
    monkeypatch.setitem(vars(huidurep), "finetune", finetune)
    monkeypatch.setattr(logging.getLogger("huidurep.finetuning.finetune"), "level", logging.WARNING)
    words = ("--output", tmp_path / "out", "--duration-s", 24, "--num-units", 5, "--steps", 1)
    monkeypatch.setattr(sys, "argv", ["03_finetune_own_probe.py", *map(str, words)])
    runpy.run_path(str(EXAMPLES / "03_finetune_own_probe.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "gain" in printed and "3. Sorting with the result" in printed
    assert (tmp_path / "out" / "finetuning.json").is_file()


def test_many_recordings(tmp_path):
    """One fails, and the other is there; a second run sorts only what is missing."""
    words = ("05_many_recordings.py", "--output", tmp_path, "--num-recordings", 2, "--duration-s", 4)
    finished = run(*words)
    assert finished.returncode == 0, finished.stderr
    assert "rat0: " in finished.stdout and "rat1: FAILED, " in finished.stdout
    assert "1 sorted, 1 failed" in finished.stdout
    sorting = spikeinterface.load(tmp_path / "sortings" / "rat0" / "sorter_output" / "sorting")
    assert sorting.get_num_units() > 0
    again = run("05_many_recordings.py", "--output", tmp_path, "--num-recordings", 1)
    assert "1 recordings, 0 to sort" in again.stdout and "0 sorted, 0 failed" in again.stdout
