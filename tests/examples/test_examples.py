"""The examples run on what they make themselves: in this process, because imported and compiled code is reused."""

import functools
import logging
import runpy
import sys
from pathlib import Path

import pytest
import spikeinterface

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs an example and returns what it prints."""

    def run_example(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    logger = logging.getLogger("huidurep")
    level = logger.level
    yield run_example
    logger.setLevel(level)


def test_sort_recording(run, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    printed = run("01_sort_recording.py", "--output", tmp_path, "--duration-s", 15, "--num-units", 4)
    assert "accuracy" in printed and "sorted_as" in printed
    pictures = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(pictures) == {"templates.png", "raster.png", "embedding.png"}
    assert min(pictures.values()) > 5000


def test_embed_waveforms(run):
    assert "adjusted Rand index" in run("02_embed_waveforms.py")


def test_finetune_own_probe(run, tmp_path, monkeypatch):
    """With small batches and evaluations."""
    pytest.importorskip("accelerate")
    import huidurep
    from huidurep.finetuning.settings import (
        EmbeddingEvaluationSettings,
        FinetuningSettings,
        SortingEvaluationSettings,
        TrainingSettings,
    )

    settings = FinetuningSettings(
        training=TrainingSettings(num_simulated_units=4, batch_size=8),
        embedding_evaluation=EmbeddingEvaluationSettings(num_draws=2, spikes_per_unit=20),
        sorting_evaluation=SortingEvaluationSettings(num_recordings=2, duration_s=6.0),
    )
    finetune = functools.partial(huidurep.finetune, settings=settings)
    monkeypatch.setitem(vars(huidurep), "finetune", finetune)
    monkeypatch.setattr(logging.getLogger("huidurep.finetuning.finetune"), "level", logging.WARNING)
    words = ("--output", tmp_path / "out", "--duration-s", 24, "--num-units", 5, "--steps", 1)
    printed = run("03_finetune_own_probe.py", *words)
    assert "gain" in printed and "3. Sorting with the result" in printed
    assert (tmp_path / "out" / "finetuning.json").is_file()


def test_many_recordings(run, tmp_path):
    """One fails, and the other is there; a second run sorts only what is missing."""
    words = ("05_many_recordings.py", "--output", tmp_path, "--num-recordings", 2, "--duration-s", 4)
    printed = run(*words, "--num-workers", 1)
    assert "rat0: " in printed and "rat1: FAILED, " in printed
    assert "1 sorted, 1 failed" in printed
    sorting = spikeinterface.load(tmp_path / "sortings" / "rat0" / "sorter_output" / "sorting")
    assert sorting.get_num_units() > 0
    again = run("05_many_recordings.py", "--output", tmp_path, "--num-recordings", 1)
    assert "1 recordings, 0 to sort" in again and "0 sorted, 0 failed" in again
