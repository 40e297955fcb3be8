"""The examples run on what they make themselves: in this process, because imported and compiled code is reused."""

import functools
import logging
import runpy
import sys
from pathlib import Path

import pytest

import huidurep

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
    from huidurep.finetuning.settings import (
        EmbeddingEvaluationSettings,
        FinetuningSettings,
        SortingEvaluationSettings,
        TrainingSettings,
    )

    settings = FinetuningSettings(
        training=TrainingSettings(num_simulated_units=4, batch_size=8),
        embedding_evaluation=EmbeddingEvaluationSettings(num_draws=2, spikes_per_unit=20),
        sorting_evaluation=SortingEvaluationSettings(num_recordings=2, duration_s=3.0),
    )
    finetune = functools.partial(huidurep.finetune, settings=settings)
    monkeypatch.setitem(vars(huidurep), "finetune", finetune)
    monkeypatch.setattr(logging.getLogger("huidurep.finetuning.finetune"), "level", logging.WARNING)
    words = ("--output", tmp_path / "out", "--duration-s", 16, "--num-units", 4, "--steps", 1)
    printed = run("03_finetune_own_probe.py", *words)
    assert "gain" in printed and "3. Sorting with the result" in printed
    assert (tmp_path / "out" / "finetuning.json").is_file()


@pytest.mark.slow  # each worker compiles for itself what is compiled
def test_many_recordings(run, tmp_path):
    """A worker is killed, a recording has lost its samples; a second run sorts only what is missing."""
    pytest.importorskip("distributed")
    words = ("05_many_recordings.py", "--output", tmp_path, "--duration-s", 4)
    recording, _ = huidurep.simulate_recording(num_units=2, duration_s=1.0)
    for name in ("rat1", "rat2"):
        recording.save(folder=tmp_path / "recordings" / name, progress_bar=False, n_jobs=1)
        for raw in (tmp_path / "recordings" / name).glob("*.raw"):
            raw.unlink()
    printed = run(*words, "--num-recordings", 4)
    assert "a worker was killed" in printed and "rat1: FAILED, " in printed and "rat2: FAILED, " in printed
    assert "2 sorted, 2 failed; speed-up" in printed
    started = (tmp_path / "sortings" / "started.txt").read_text().split()
    assert set(started) == {"rat0", "rat1", "rat2", "rat3"} and len(started) <= 5  # at most the killed one again
    assert huidurep.SortingResult.load(tmp_path / "sortings" / "rat0").model_name == "tetrode"
    again = run(*words, "--num-recordings", 1)
    assert "1 recordings, 0 to sort" in again and "0 sorted, 0 failed" in again
