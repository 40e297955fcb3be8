"""Tables and picture of whole sortings."""

import json
from pathlib import Path

from markdown_tables import without_padding
from scripts import run_script

ROOT = Path(__file__).parents[2]
VERSIONS = dict.fromkeys(("huidurep", "spikeinterface", "torch", "numpy", "scikit-learn"), "1.0")
COUNTS = dict(units_found=2, units_true=2, well_detected=1, false_positive_units=1, redundant_units=0)


def make_row(recording, sorter, accuracy, **more):
    units = [dict(snr=snr, accuracy=accuracy) for snr in range(3, 23)]
    row = dict(recording=recording, sorter=sorter, model="auto" if sorter == "huidurep" else None, accuracy=accuracy)
    row |= dict(precision=accuracy, recall=accuracy, overmerged_units=0, seconds=10.0, peak_memory_mb=900.0)
    return row | COUNTS | dict(units=units, version="1.0", commit="abc") | more


def make_results():
    rows = [make_row(f"tet_s{seed}", "huidurep", 0.5 + 0.1 * seed) for seed in (1, 2)]
    rows += [make_row("tet_s1", "lupin", 0.2, retried_with=dict(fast=True)), make_row("tet_s2", "lupin", 0.7)]
    rows += [make_row("np1_s1", "huidurep", 0.8), make_row("opto_linear_s3", "huidurep", 0.4)]
    failed = dict(recording="np1_s1", sorter="lupin", model=None, error="broke", version="1.0", commit="abd")
    rows.append(failed | dict(seconds=1.0))
    header = dict(seed=0, commit="abc", versions=VERSIONS, machine=dict(processor="CPU", cores=2))
    return dict(header=header | dict(settings=dict(threads=1, sorters=["huidurep", "lupin"])), rows=rows)


def make_tables(results, tmp_path, name="sorting", source=None):
    (tmp_path / f"{source or name}.json").write_text(json.dumps(results))
    text = tmp_path / "text.md"
    text.write_text(f"<!-- benchmark:{name} -->\n<!-- /benchmark:{name} -->\n")
    assert run_script(ROOT / "benchmarks/tables.py", text, "--results", tmp_path)[0] == 0
    return without_padding(text.read_text())


def test_accuracy_is_the_mean_over_recordings_of_a_kind(tmp_path):
    made = make_tables(make_results(), tmp_path)
    assert "| mean accuracy | np1 | tet | mean |" in made
    assert "| HuiduRep (auto) | **0.80** | **0.65** | **0.72** |" in made
    # a run that failed leaves its kind, and the mean over kinds, without a number
    assert "| lupin | - | 0.45 | - |" in made
    # real units stand by themselves
    assert "| mean accuracy | opto_linear | mean |" in made and "| HuiduRep (auto) | **0.40** | **0.40** |" in made


def test_counts_are_means_of_the_runs_there_are(tmp_path):
    made = make_tables(make_results(), tmp_path)
    assert "| HuiduRep (auto) | 3 of 3 | 0.70 | 0.70 | 2.0 | 2.0 | 1.0 | 1.0 | 0.0 | 0.0 | 10 | 900 | 1.0 |" in made
    assert "| lupin | 2 of 3 |" in made and "| 1.0 (fast=True): 1; 1.0: 1 |" in made
    assert "Rows measured at commit abc, abd." in made


def test_runs_of_part_of_a_kind_stand_beside_huidurep_on_the_same_recording(tmp_path):
    results = make_results()
    assert "run of part of a kind" not in make_tables(results, tmp_path)
    results["rows"].append(make_row("tet_s2", "kilosort4", 0.9, seconds=600.0))
    made = make_tables(results, tmp_path)
    assert "| kilosort4 on tet_s2 | **0.90** | 0.70 | 600 | 1.0 |" in made and made.count("kilosort4 on") == 1
    assert "| kilosort4 | - | - | - |" in made


def test_parts_have_a_table_of_their_own(tmp_path):
    results = make_results()
    results["rows"] = [dict(row, sorter="huidurep-pca") for row in results["rows"] if row["sorter"] == "huidurep"]
    made = make_tables(results, tmp_path, "sorting_parts")
    assert "| huidurep-pca | **0.80** | **0.65** | **0.72** |" in made


def test_summary_has_the_best_sorter_that_has_all_recordings(tmp_path):
    kinds = ("tet_drift", "tet_lowsnr", "tet_static", "column_drift", "patch_drift", "patch_static", "array_static")
    rows = [make_row(f"{kind}_s1", "huidurep", 0.9 if kind == "tet_drift" else 0.6) for kind in kinds]
    rows += [make_row(f"{kind}_s1", "lupin", 0.5) for kind in kinds]
    rows += [make_row("column_drift_s1", "kilosort4", 0.8), make_row("tet_drift_s1", "kilosort4", 1.0)]
    made = make_tables(make_results() | dict(rows=rows), tmp_path, "summary", "sorting")
    assert "| tetrodes | **0.70** | 0.50 (lupin) | 3 |" in made
    assert "| one column of 32 contacts | 0.60 | **0.80** (kilosort4) | 1 |" in made
    assert "| Neuropixels 1.0, 64 contacts | **0.60** | 0.50 (lupin) | 2 |" in made and "commit abc." in made


def test_the_picture_is_drawn(tmp_path):
    (tmp_path / "sorting.json").write_text(json.dumps(make_results()))
    words = ("--results", tmp_path / "sorting.json", "--output", tmp_path / "picture.png")
    assert run_script(ROOT / "benchmarks/sorting_picture.py", *words)[0] == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_locust_table_counts_units_without_short_intervals(tmp_path):
    units = [dict(num_spikes=90, violations=0.0, snr=9.0), dict(num_spikes=50, violations=0.034, snr=4.2)]
    rows = [
        dict(recording="trial", sorter="huidurep", version="1.0", units=units, seconds=3.0),
        dict(recording="trial", sorter="lupin", version="2.0", error="broke"),
    ]
    text = make_tables(make_results() | dict(rows=rows), tmp_path, "locust")
    assert "| trial | HuiduRep 1.0 | 2 | 1 | 90 | 3.4 | 4.2 |" in text
    assert "| trial | lupin 2.0 | - | - | - | - | - |" in text


def test_stability_has_a_mean_for_each_commit(tmp_path):
    rows = [
        dict(
            recording=f"tet_s{seed}", commit=commit, num_units=[8, 9], num_units_true=8, accuracy=[0.5 + seed / 10, 0.6]
        )
        | dict(agreement=dict(two_segments=agreement + seed / 10))
        for commit, agreement in (("abc", 0.5), ("abd", 0.8))
        for seed in (0, 1)
    ]
    header = make_results()["header"] | dict(settings=dict(changes=["two_segments"]))
    made = make_tables(dict(header=header, rows=rows), tmp_path, name="stability")
    assert "| recording, commit | units (true) | accuracy | two segments |" in made
    assert "| tet_s1, abc | 8 to 9 (8) | 0.600 | 0.600 |" in made
    assert "| **mean**, abc | - | 0.575 | 0.550 |" in made and "| **mean**, abd | - | 0.575 | 0.850 |" in made
