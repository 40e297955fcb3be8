"""`huidurep doctor`: what it finds, and what it calls a problem."""

import json
import shutil
from types import SimpleNamespace

import pytest
from command_line import run

import huidurep
from huidurep.cli import doctor


def examine(*words):
    result = run("doctor", *words, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_a_sound_installation(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "neuroconv" else name)
    code, facts = examine(tmp_path / "not" / "yet")
    assert (code, facts["problems"]) == (0, [])
    assert facts["versions"]["huidurep"] == huidurep.__version__ and facts["versions"]["torch"][0].isdigit()
    assert facts["folders"]["output"] == str(tmp_path) and facts["free_disk_gib"]["temporary"] > 0
    assert 0 < facts["memory_gib"]["available"] <= facts["memory_gib"]["total"]
    assert facts["threads"]["OMP_NUM_THREADS"] == "1" and "8 checkpoints" in facts["encoder"]
    assert facts["missing"] == {"neuroconv": doctor.OPTIONAL["neuroconv"][1]}
    text = run("doctor").stdout
    assert text.endswith("ready to sort\n") and "neuroconv: huidurep convert --to nwb" in text and "GiB free" in text


def test_problems(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**28))
    monkeypatch.setattr(doctor, "requires", lambda name: ["torch>=99", "nothing-of-this-name", "pandas; extra == 'x'"])
    monkeypatch.setattr(doctor, "_memory_gib", lambda: {"total": 1.0, "available": 0.2})
    (tmp_path / "file").touch()
    code, facts = examine(tmp_path / "file")
    assert code == 1
    found = "\n".join(facts["problems"])
    for words in ("torch>=99", "nothing-of-this-name, found not installed", "0.2 GiB", "TMPDIR", "found a file"):
        assert words in found.replace("found 0.2;", "0.2 GiB"), words
    assert len(facts["problems"]) == 6 and "problem: " in run("doctor", tmp_path).stdout


@pytest.mark.parametrize("module", ["torch", "huidurep.models.modeling_huidurep"])
def test_a_broken_package_is_named(module, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    problems = []
    assert doctor._device(problems) and doctor._encoder(problems)
    assert problems and "import" in problems[0]
