"""Results files: one line for each row."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MAX_LINES = 500


@pytest.fixture
def results_files(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results_files

    yield results_files
    sys.modules.pop("results_files")


def test_each_row_is_a_line(results_files, tmp_path):
    results = dict(header=dict(seed=0, settings=dict(only=None)), runs={}, methods=["a", "b"], default="é")
    results["rows"] = [dict(name="first", units=[dict(snr=0.1 + 0.2)]), dict(name="second", units=[])]
    path = tmp_path / "new" / "results.json"
    assert results_files.read_results(path) == {}
    results_files.write_results(path, results)
    assert results_files.read_results(path) == json.loads(path.read_text()) == results
    lines = path.read_text().splitlines()
    assert [json.loads(line.rstrip(",")) for line in lines if '"units"' in line] == results["rows"]
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_committed_files_are_compact(results_files, path, tmp_path):
    results_files.write_results(tmp_path / path.name, results_files.read_results(path))
    assert path.read_text() == (tmp_path / path.name).read_text()
    assert len(path.read_text().splitlines()) < MAX_LINES


def test_header_has_versions_commit_and_machine(results_files):
    header = results_files.run_header(seed=3, draws=2)
    assert header["seed"] == 3 and header["settings"] == dict(draws=2)
    assert {"huidurep", "torch", "kilosort", "python"} <= set(header["versions"])
    assert header["commit"] and header["machine"]["cores"] >= 1
