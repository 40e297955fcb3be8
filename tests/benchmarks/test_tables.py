"""Blocks of README.md and docs/benchmarks.md, filled from results files."""

import hashlib
import json
import runpy
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

from markdown_tables import without_padding
from scripts import run_script

ROOT = Path(__file__).parents[2]
TETRODE = ROOT / "huidurep" / "checkpoints" / "tetrode"
SCRIPT = ROOT / "benchmarks" / "tables.py"


def test_tables_of_readme_and_benchmarks_page_are_up_to_date():
    status, printed = run_script(SCRIPT, "--check")
    assert status == 0, f"{printed}\nrun `python benchmarks/tables.py`"


def test_ablation_goes_between_its_markers(tmp_path):
    row = dict(commit="abc", mean=dict(cells=0.8, axona=0.5), training_seconds=600.0, settings_difference={})
    other = dict(row, label="no momentum", mean=dict(cells=0.7), settings_difference={"model.momentum": [0.99, None]})
    pca = dict(row, label="pca12", mean=dict(cells=0.6, axona=0.6), training_seconds=None)
    rows = [dict(row, label="default"), other, pca]
    results = dict(header=dict(seed=3), default="default", conditions=["cells", "axona"], rows=rows)
    (tmp_path / "ablation.json").write_text(json.dumps(results))
    text = tmp_path / "text.md"
    text.write_text("before\n<!-- benchmark:ablation -->\nNot measured yet.\n<!-- /benchmark:ablation -->\nafter\n")
    command = (SCRIPT, text, "--results", tmp_path)
    assert [run_script(*command, *words)[0] for words in (["--check"], [], ["--check"])] == [1, 0, 0]
    made = without_padding(text.read_text())
    assert "Not measured yet" not in made and made.startswith("before\n") and made.endswith("after\n")
    assert "| default | **0.80** | 0.50 | 10 | - |" in made
    assert "| no momentum | 0.70 | - | 10 | model.momentum None (was 0.99) |" in made
    assert "| pca12 | 0.60 | **0.60** | - | - |" in made


def test_checkpoints_with_what_was_measured_with_their_weights(tmp_path):
    for name in ("base", "linear", "tetrode"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(TETRODE / file, tmp_path / "checkpoints" / name)
    (tmp_path / "checkpoints" / "linear" / "model.safetensors").write_bytes(b"others")
    digest = hashlib.sha256((TETRODE / "model.safetensors").read_bytes()).hexdigest()[:12]
    models = {name: dict(weights=digest) for name in ("huidurep", "base")}
    rows = []
    for probe, base in (("tetrode", 0.5), ("linear", 0.7)):
        mean = dict(huidurep=0.8, base=base, pca12=0.4, pca24=0.6)
        rows.append(dict(source="cells", probe=probe, name="quiet", mean=mean, models=models))
    (tmp_path / "embedding.json").write_text(json.dumps(dict(rows=rows)))
    with patch.object(sys, "path", [*sys.path]):
        make_block = runpy.run_path(str(SCRIPT))["checkpoints_block"]
    block = make_block(json.loads((tmp_path / "embedding.json").read_text()), tmp_path / "checkpoints")
    lines = [line.split(" | ") for line in without_padding(block).splitlines() if line.startswith("| [")]
    assert [line[0].split("`")[1] for line in lines] == ["tetrode", "linear", "base"]
    scores = [line[-2:] for line in lines]
    assert scores == [["0.80", "0.60 |"], ["-", "- |"], ["0.60", "0.60 |"]]


def test_finetuning_as_delivered(tmp_path):
    figures = dict(rand_index=0.5, accuracy=0.7)
    row = dict(kind="ring of six", name="ring", checkpoint="base", method="resampling", pca12=dict(rand_index=0.4))
    row |= dict(before=figures, trained=dict(rand_index=0.45, accuracy=0.75), delivered=figures, outcome="same")
    versions = dict.fromkeys(("huidurep", "spikeinterface", "torch", "numpy", "scikit-learn"), "1")
    header = dict(commit="abc", seed=3, versions=versions, machine=dict(processor="x", cores=2))
    results = dict(header=header, rows=[row | dict(finetune_seconds=61.2)])
    (tmp_path / "finetuning.json").write_text(json.dumps(results))
    text = tmp_path / "text.md"
    text.write_text("<!-- benchmark:finetuning -->\n<!-- /benchmark:finetuning -->\n")
    assert run_script(SCRIPT, text, "--results", tmp_path)[0] == 0
    cells = "`base`, resampling | 0.40 | 0.50 / 0.45 / 0.50 | 0.70 / 0.75 / 0.70 | same | 61 |"
    assert f"| ring of six (ring), {cells}" in without_padding(text.read_text())
