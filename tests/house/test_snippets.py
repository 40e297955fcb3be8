"""The Python blocks of the README, the start page and some how-tos run as they are written; how-tos on 8 s."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import spikeinterface.extractors

import huidurep

ROOT = Path(__file__).parents[2]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf8"), re.M | re.S)


def run(code, name, namespace):
    exec(compile(code, str(name), "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", ["after_curation", "outputs", "spikeinterface"])
def test_howtos_run(name, tmp_path, monkeypatch):
    if name == "outputs":
        pytest.importorskip("neuroconv")
    monkeypatch.chdir(tmp_path)
    simulate = huidurep.simulate_recording
    monkeypatch.setitem(vars(huidurep), "simulate_recording", lambda **given: simulate(**given | {"duration_s": 8.0}))
    snippets = blocks(f"docs/howto/{name}.md")
    assert len(snippets) >= (1 if name == "after_curation" else 4)
    run("\n".join(snippets), name, {})
    assert (tmp_path / "recording").is_dir()


def test_encoder_howtos_run():
    assert run(blocks("docs/howto/gpu.md")[0], "gpu", {})["embeddings"].shape[0] == 5


def one_tetrode(duration_s):
    return huidurep.simulate_recording(probe="tetrode", num_units=4, duration_s=duration_s, seed=3)[0]


def test_readme_sorts_and_embeds(tmp_path, monkeypatch):
    """Its reader of files gives a simulated recording; fine-tuning on recordings takes minutes: compiled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spikeinterface.extractors, "read_spikeglx", lambda folder, stream_id: one_tetrode(10.0))
    sort, embed, finetune, learn = blocks("README.md")
    assert len(sort.splitlines()) <= 8
    found = run(sort, "README", {})
    assert found["result"].sorting.get_num_units() > 0
    assert huidurep.SortingResult.load(tmp_path / "sorted").log == found["result"].log
    spikes = {"waveforms": np.random.default_rng(0).normal(0, 20, (3, 72, 4)), "positions_um": np.eye(4, 2) * 20}
    assert len(run(embed, "README", found | spikes)["embeddings"]) == 3
    compile(finetune, "README", "exec")
    spikes |= {"waveforms": np.random.default_rng(0).normal(0, 20, (60, 72, 4)), "labels": ["a", "b"] * 30}
    monkeypatch.setitem(vars(huidurep), "finetune", functools.partial(huidurep.finetune, steps=1))
    assert len(learn.splitlines()) == 5
    assert len(run(learn, "README", {"huidurep": huidurep} | spikes)["embeddings"]) == 60


def test_start_page_finds_what_it_shows(tmp_path, monkeypatch):
    """The six units of its picture."""
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("docs/index.md")
    result = run(block, "index", {})["result"]
    assert f"{result.sorting.get_num_units()} units" in block
