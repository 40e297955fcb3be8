"""`huidurep sort`."""

import json
import multiprocessing
import os
import signal
from typing import get_args
from unittest.mock import Mock

import numpy as np
import probeinterface
import pytest
import spikeinterface
from command_line import assert_refused, raise_interrupt, run

import huidurep
from huidurep.cli.options import DetectionMethod, MatchingMethod, PeakSign
from huidurep.sorting.saved_stages import SavedStages

RAW = ("--sampling-frequency", "30000", "--num-channels", "4", "--dtype", "int16")


@pytest.fixture
def raw_file(tmp_path):
    """One second of int16 noise on four channels."""
    samples = np.random.default_rng(0).normal(0, 20, (30000, 4)).astype("int16")
    path = tmp_path / "raw.bin"
    samples.tofile(path)
    return path


def test_result_folder_can_be_moved_and_replaced(tetrode_folder, tmp_path):
    result = run("sort", tetrode_folder, tmp_path / "out", "--model", "tetrode", "--seed", 1, "--no-progress")
    assert result.exit_code == 0, result.output
    assert "units" in result.stdout and result.stdout.endswith(f"huidurep report {tmp_path / 'out'}\n")
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere" / "moved")
    sorting = spikeinterface.load(moved)
    assert isinstance(sorting, spikeinterface.BaseSorting)
    assert len(sorting.unit_ids) > 0
    assert "main_channel_id" in sorting.get_property_keys()
    stored = huidurep.SortingResult.load(moved)
    assert stored.parameters.seed == 1
    assert stored.embeddings.shape[0] == len(sorting.to_spike_vector()) == len(stored.posteriors)

    assert_refused(run("sort", tetrode_folder, moved, "--no-progress"), str(moved))
    again = run("sort", tetrode_folder, moved, "--model", "tetrode", "--seed", 1, "--no-progress", "--overwrite")
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(spikeinterface.load(moved).to_spike_vector(), sorting.to_spike_vector())


def test_sort_and_report_as_json(tetrode_folder, tmp_path):
    result = run("sort", tetrode_folder, tmp_path / "out", "--model", "tetrode", "--json")
    assert result.exit_code == 0, result.output
    printed, sorting = json.loads(result.stdout), spikeinterface.load(tmp_path / "out")
    assert printed["output"] == str(tmp_path / "out") and printed["model"] == "tetrode" and printed["seconds"] > 0
    assert printed["num_units"] == len(sorting.unit_ids) >= printed["num_good_units"] > 0
    assert printed["num_spikes"] == len(sorting.to_spike_vector())
    assert (printed["duration_s"], printed["num_channels"]) == (pytest.approx(10.0), 4)
    assert not result.stderr  # no progress bars: not a terminal
    printed = json.loads(run("report", tmp_path / "out", "--json").stdout)
    page = tmp_path / "out" / "report.html"
    assert printed == {
        "page": str(page),
        "num_units": len(sorting.unit_ids),
        "size_mb": round(page.stat().st_size / 1e6, 1),
    }


def sort_until_killed(*words):
    """Sort in this process, which is killed as soon as the embeddings are kept."""
    write = SavedStages._write

    def write_and_die(self, file_name, *args):
        write(self, file_name, *args)
        if file_name.endswith("-embedding.npz"):
            os.kill(os.getpid(), signal.SIGKILL)

    SavedStages._write = write_and_die
    run("sort", *words)


def test_killed_then_resumed(tetrode_folder, tmp_path):
    options = ("--model", "tetrode", "--no-progress", "--matching", "none", "--num-units", 4)
    words = (tetrode_folder, tmp_path / "out", *options)
    killed = multiprocessing.get_context("fork").Process(target=sort_until_killed, args=words)
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    stages = tmp_path / "out.stages"
    assert [path.name for path in tmp_path.iterdir()] == [stages.name]
    files = {path.name: path.read_bytes() for path in stages.iterdir()}
    assert set(files) == {"stages.json", "0-detection.npz", "0-embedding.npz"}

    assert_refused(run("sort", *words, "--resume", "--seed", 5), "parameters.seed (0, now 5)", str(stages))
    assert {path.name: path.read_bytes() for path in stages.iterdir()} == files
    resumed = run("sort", *words, "--resume", "--verbose")
    assert resumed.exit_code == 0 and "embedding was read from" in resumed.stderr, resumed.output
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    found = huidurep.SortingResult.load(tmp_path / "out")
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", seed=0, matching=None, num_units=4)
    expected = pipeline(spikeinterface.load(tetrode_folder))
    np.testing.assert_array_equal(found.sorting.to_spike_vector(), expected.sorting.to_spike_vector())
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)
    np.testing.assert_array_equal(found.posteriors, expected.posteriors)


def test_interrupted_while_saving_then_started_over(tetrode_folder, tmp_path, monkeypatch):
    words = ("sort", tetrode_folder, tmp_path / "out", "--model", "tetrode", "--no-progress", "--detect-threshold", 15)
    with monkeypatch.context() as patch:
        patch.setattr(huidurep.SortingResult, "save", raise_interrupt)
        interrupted = run(*words)
    assert interrupted.exit_code == 130 and "--resume" in interrupted.stderr
    assert [path.name for path in (tmp_path / "out.stages").glob("*.npz")] == ["0-units.npz"]
    again = run(*words)
    assert again.exit_code == 0 and "--resume would go on" in again.stderr, again.output
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_given_options_reach_the_pipeline(tetrode_folder, tmp_path, monkeypatch):
    load = Mock(side_effect=ValueError("stop"))
    monkeypatch.setattr(huidurep.SpikeSortingPipeline, "from_pretrained", load)
    for words, given in (
        ((), {}),
        (("--device", "cuda:1"), {"device": "cuda:1"}),
        (("--motion", "rigid_fast", "--unit-threshold", 0), {"motion": "rigid_fast", "unit_threshold": 0.0}),
        (("--motion", "none", "--matching", "none"), {"motion": None, "matching": None}),
        (("--preset", "paper", "--num-units", 3), {"preset": "paper", "num_units": 3}),
        (
            ("--detection", "matched_filtering", "--peak-sign", "pos"),
            {"detection": "matched_filtering", "peak_sign": "pos"},
        ),
    ):
        assert_refused(run("sort", tetrode_folder, tmp_path / "out", *words), "stop")
        assert load.call_args.kwargs == {"seed": 0, "device": "auto"} | given


def test_raw_binary_gives_the_units_of_the_saved_recording(tetrode_recording, tetrode_folder, tmp_path):
    recording, _ = tetrode_recording
    path, gain = tmp_path / "raw.bin", 0.05
    np.round(recording.get_traces(return_in_uV=True) / gain).astype("int16").tofile(path)
    words = ("--gain-to-uv", gain, "--probe", "tetrode", "--model", "tetrode", "--no-progress")
    result = run("sort", path, tmp_path / "raw", *RAW, *words)
    assert result.exit_code == 0, result.output
    saved = run("sort", tetrode_folder, tmp_path / "saved", "--model", "tetrode", "--no-progress")
    assert saved.exit_code == 0, saved.output
    counts = [len(spikeinterface.load(tmp_path / name).to_spike_vector()) for name in ("raw", "saved")]
    assert counts[0] == pytest.approx(counts[1], rel=0.1)


def test_empty_file_gives_no_units(tmp_path):
    (tmp_path / "raw.bin").touch()
    result = run("sort", tmp_path / "raw.bin", tmp_path / "out", *RAW, "--gain-to-uv", 1, "--probe", "tetrode")
    assert result.exit_code == 0, result.output
    assert len(spikeinterface.load(tmp_path / "out").unit_ids) == 0


def test_folder_in_use_is_refused_before_input_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert_refused(run("sort", tmp_path / "nothing-here", tmp_path / "out"), "empty", str(tmp_path / "out"))
    assert_refused(run("sort", tmp_path / "nothing-here", tmp_path / "out", "--overwrite"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_output_that_contains_input_is_refused(tetrode_folder):
    assert_refused(run("sort", tetrode_folder, tetrode_folder.parent, "--overwrite"), "INPUT", "OUTPUT")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--sampling-frequency"),
        (RAW[:2], "--num-channels, --dtype"),
        ((*RAW[:4], "--dtype", "int15"), "int15"),
        ((*RAW[:2], "--num-channels", "7", "--dtype", "int16"), "240000"),
        ((*RAW, "--offset-to-uv", "3"), "--gain-to-uv"),
        ((*RAW, "--probe", "octrode"), "octrode"),
        ((*RAW, "--motion", "sideways"), "sideways"),
    ],
)
def test_sort_refuses_wrong_options(raw_file, tmp_path, words, expected):
    assert_refused(run("sort", raw_file, tmp_path / "out", *words), expected)
    assert not (tmp_path / "out").exists()


def test_sort_refuses_probes_that_do_not_fit(raw_file, tmp_path):
    probe = probeinterface.generate_linear_probe(8)
    probe.set_device_channel_indices(np.arange(8))
    probeinterface.write_probeinterface(tmp_path / "linear.json", probe)
    result = run("sort", raw_file, tmp_path / "out", *RAW, "--probe", tmp_path / "linear.json")
    assert_refused(result, "4 wired contacts", "found 8")
    (tmp_path / "other.json").write_text("{}")
    assert_refused(run("sort", raw_file, tmp_path / "out", *RAW, "--probe", tmp_path / "other.json"), "other.json")


def test_sort_refuses_input_that_is_no_recording(tmp_path):
    assert_refused(run("sort", tmp_path / "nothing", tmp_path / "out"), "nothing")
    (tmp_path / "folder").mkdir()
    assert_refused(run("sort", tmp_path / "folder", tmp_path / "out"), "spikeinterface.load")


def test_sort_refuses_an_unknown_model(raw_file, tmp_path):
    words = ("--gain-to-uv", "1", "--probe", "tetrode", "--model", "octrode")
    assert_refused(run("sort", raw_file, tmp_path / "out", *RAW, *words), "octrode")


@pytest.mark.parametrize(
    ("name", "literal", "num_values"),
    [("detection", DetectionMethod, 2), ("matching", MatchingMethod, 4), ("peak_sign", PeakSign, 3)],
)
def test_choices_are_those_of_the_parameters(name, literal, num_values, tmp_path):
    values = get_args(literal)
    assert len(values) == num_values
    for value in values:
        huidurep.SortingParameters(**{name: None if value == "none" else value})
    refused = run("sort", tmp_path, tmp_path / "out", f"--{name.replace('_', '-')}", "wobbly")
    assert refused.exit_code == 2 and "wobbly" in refused.stderr and values[0] in refused.stderr


def test_report_and_convert_of_curated_units(tetrode_folder, tmp_path):
    out, curated = tmp_path / "out", tmp_path / "curated"
    assert run("sort", tetrode_folder, out, "--model", "tetrode", "--matching", "none").exit_code == 0
    sorting = spikeinterface.load(out)
    merged = sorting.remove_units(sorting.unit_ids[1:])
    merged.set_property("quality", np.array(["mua"]))
    merged.save(folder=curated)
    printed = json.loads(run("report", out, "--curated", curated, "--json").stdout)
    assert printed["num_units"] == 1
    assert "label of the curator" in (out / "report.html").read_text(encoding="utf8")
    to = ("--to", "analyzer", "--recording", tetrode_folder)
    converted = run("convert", out, tmp_path / "analyzer", *to, "--curated", curated, "--json")
    assert json.loads(converted.stdout)["num_units"] == 1, converted.output
    # the units of the analyzer are read alone
    again = run("report", out, "--curated", tmp_path / "analyzer", "--to", tmp_path / "again.html", "--json")
    assert json.loads(again.stdout)["num_units"] == 1, again.output
    assert_refused(run("report", out, "--curated", tmp_path / "none", "--to", tmp_path / "b.html"), "none")
