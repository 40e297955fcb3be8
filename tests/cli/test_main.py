"""The command line: what it writes, and what it says when it cannot."""

import json
from importlib.metadata import entry_points
from unittest.mock import Mock

import numpy as np
import probeinterface
import pytest
import spikeinterface
from typer.testing import CliRunner

import huidurep
from huidurep.cli.main import app

RAW = ("--sampling-frequency", "30000", "--num-channels", "4", "--dtype", "int16")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def assert_refused(result, *expected, code=2):
    """One line on stderr, no traceback, exit code 2."""
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("huidurep: ")]
    assert len(lines) == 1 and "Traceback" not in result.output
    for words in expected:
        assert words in lines[0]


@pytest.fixture
def raw_file(tmp_path):
    """One second of int16 noise on four channels."""
    samples = np.random.default_rng(0).normal(0, 20, (30000, 4)).astype("int16")
    path = tmp_path / "raw.bin"
    samples.tofile(path)
    return path


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for command in ("sort", "embed", "report", "simulate", "pretrain", "list"):
        assert command in result.output


def test_version():
    assert run("--version").output.strip() == f"huidurep {huidurep.__version__}"


def test_list_is_a_table_with_a_line_a_checkpoint():
    result = run("list")
    assert result.exit_code == 0
    header, *lines = result.output.splitlines()
    assert header.split()[:3] == ["NAME", "PROBE", "CHANNELS"] and len(lines) == len(huidurep.list_checkpoints())
    (line,) = [line for line in lines if line.startswith("tetrode ")]
    assert line.split()[-4:-1] == ["4", "30000", "3"] and "bundles of up to 4 contacts" in line
    assert {len(line) for line in (header, *lines)} == {len(header)}


def test_list_as_json():
    found = {each["name"]: each for each in json.loads(run("list", "--json").output)["checkpoints"]}
    assert found.keys() == huidurep.list_checkpoints().keys()
    tetrode = found["tetrode"]
    assert (tetrode["num_channels"], tetrode["sampling_frequency"], tetrode["window_ms"]) == (4, 30000.0, 3.0)
    assert tetrode["license"] == "apache-2.0" and 0 < tetrode["size_mb"] < 4
    assert tetrode["folder"] == str(huidurep.list_checkpoints()["tetrode"])


def test_the_installed_command_is_this_app():
    (entry,) = entry_points(group="console_scripts", name="huidurep")
    assert entry.load() is app


def test_unknown_option_is_bad_usage(tmp_path):
    assert run("sort", tmp_path, tmp_path / "out", "--no-such-option").exit_code == 2


def test_sort_writes_a_folder_that_can_be_moved(tetrode_folder, tmp_path):
    result = run("sort", tetrode_folder, tmp_path / "out", "--model", "tetrode", "--seed", 1, "--no-progress")
    assert result.exit_code == 0, result.output
    assert "units" in result.stdout
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


def test_sort_passes_on_what_is_given_and_nothing_else(tetrode_folder, tmp_path, monkeypatch):
    load = Mock(side_effect=ValueError("far enough"))
    monkeypatch.setattr(huidurep.SpikeSortingPipeline, "from_pretrained", load)
    for words, given in (
        ((), {}),
        (("--adapt",), {"adapt": True}),
        (("--motion", "rigid_fast", "--unit-threshold", 0), {"motion": "rigid_fast", "unit_threshold": 0.0}),
        (("--motion", "none", "--matching", "none"), {"motion": None, "matching": None}),
        (("--preset", "paper", "--num-units", 3), {"preset": "paper", "num_units": 3}),
        (("--detection", "matched_filtering"), {"detection": "matched_filtering"}),
    ):
        assert_refused(run("sort", tetrode_folder, tmp_path / "out", *words), "far enough")
        assert load.call_args.kwargs == {"seed": 0} | given


def test_sort_raw_binary_as_the_same_recording(tetrode_recording, tetrode_folder, tmp_path):
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


def test_sort_of_an_empty_file_is_an_empty_result(tmp_path):
    (tmp_path / "raw.bin").touch()
    result = run("sort", tmp_path / "raw.bin", tmp_path / "out", *RAW, "--gain-to-uv", 1, "--probe", "tetrode")
    assert result.exit_code == 0, result.output
    assert len(spikeinterface.load(tmp_path / "out").unit_ids) == 0


def test_sort_refuses_a_folder_that_is_not_empty_before_reading(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert_refused(run("sort", tmp_path / "nothing-here", tmp_path / "out"), "empty", str(tmp_path / "out"))
    assert_refused(run("sort", tmp_path / "nothing-here", tmp_path / "out", "--overwrite"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_found_before_any_work(tmp_path, monkeypatch):
    """INPUT and FILE do not exist: they were not looked at yet."""
    (tmp_path / "file").touch()
    commands = {
        "sort": ("nothing-here", "{}"),
        "embed": ("nothing-here.npy", "{}.npy"),
        "pretrain": ("--config", "none.json", "--output", "{}"),
        "simulate": ("recording", "{}"),
    }
    for name, words in commands.items():
        refused = run(name, *[word.format(tmp_path / "file" / "out") for word in words])
        assert_refused(refused, "expected a folder at", str(tmp_path / "file"), "name another OUTPUT")
    monkeypatch.setattr("tempfile.TemporaryDirectory", Mock(side_effect=OSError(30, "Read-only file system")))
    for name, words in commands.items():
        refused = run(name, *[word.format(tmp_path / "new" / "out") for word in words])
        assert_refused(refused, f"allowed to write in {tmp_path}", "Read-only file system")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_sort_refuses_to_write_over_its_input(tetrode_folder):
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
        ((*RAW, "--matching", "wobbly"), "wobbly"),
        ((*RAW, "--motion", "sideways"), "sideways"),
    ],
)
def test_sort_refuses_raw_binary_it_cannot_read(raw_file, tmp_path, words, expected):
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


def test_sort_refuses_what_is_no_recording(tmp_path):
    assert_refused(run("sort", tmp_path / "nothing", tmp_path / "out"), "nothing")
    (tmp_path / "folder").mkdir()
    assert_refused(run("sort", tmp_path / "folder", tmp_path / "out"), "spikeinterface.load")


def test_sort_refuses_an_unknown_model(raw_file, tmp_path):
    words = ("--gain-to-uv", "1", "--probe", "tetrode", "--model", "octrode")
    assert_refused(run("sort", raw_file, tmp_path / "out", *RAW, *words), "octrode")


def test_debug_shows_the_traceback(tmp_path):
    words = ("sort", tmp_path / "nothing", tmp_path / "out")
    for result in (run("--debug", *words), run(*words, "--debug")):
        assert result.exit_code == 2
        assert "Traceback" in result.stderr and "FileNotFoundError" in result.stderr


def test_embed_writes_one_row_a_waveform(tmp_path):
    waveforms = np.random.default_rng(0).normal(0, 30, (6, 90, 4)).astype("float32")
    np.savez(tmp_path / "in.npz", waveforms=waveforms)
    result = run("embed", tmp_path / "in.npz", tmp_path / "out.npy", "--peak-index", 30)
    assert result.exit_code == 0, result.output
    expected = huidurep.HuiduRep.from_pretrained("tetrode").embed(waveforms, peak_index=30)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert_refused(run("embed", tmp_path / "in.npz", tmp_path / "out.npy"), "out.npy")


def test_embed_refuses_foreign_files(tmp_path):
    assert_refused(run("embed", tmp_path / "none.npy", tmp_path / "out.npy"), "none.npy")
    (tmp_path / "text.npy").write_text("hello")
    assert_refused(run("embed", tmp_path / "text.npy", tmp_path / "out.npy"), "text.npy")
    np.savez(tmp_path / "in.npz", other=np.zeros(3))
    assert_refused(run("embed", tmp_path / "in.npz", tmp_path / "out.npy"), "waveforms", "other")
    assert_refused(run("embed", tmp_path / "in.npz", tmp_path / "out.txt"), ".npy")


def test_simulate_recording_writes_recording_and_truth(tmp_path):
    words = ("--num-units", 3, "--duration-s", 2, "--seed", 5)
    result = run("simulate", "recording", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    recording = spikeinterface.load(tmp_path / "out" / "recording")
    truth = spikeinterface.load(tmp_path / "out" / "sorting")
    assert recording.get_total_duration() == pytest.approx(2.0)
    assert len(truth.unit_ids) == 3
    assert json.loads((tmp_path / "out" / "simulation.json").read_text())["seed"] == 5
    assert_refused(run("simulate", "recording", tmp_path / "out", *words), "empty")


def test_simulate_recording_refuses_before_it_works(tmp_path, monkeypatch):
    def work(**settings):
        raise AssertionError("the simulation began")

    monkeypatch.setattr(huidurep, "simulate_recording", work)
    result = run("simulate", "recording", tmp_path / "out", "--num-units", 0)
    assert result.exit_code == 2 and "--num-units" in result.stderr
    (tmp_path / "file").touch()
    assert_refused(run("simulate", "recording", tmp_path / "file" / "out"), "folder", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.mkdtemp", Mock(side_effect=PermissionError(13, "Permission denied")))
    assert_refused(run("simulate", "recording", tmp_path / "new" / "out"), str(tmp_path), "Permission denied")
    assert not (tmp_path / "new").exists()


def test_simulate_without_its_command_says_which_there_are(tmp_path):
    result = run("simulate", tmp_path / "out")
    assert result.exit_code == 2
    assert f"simulate recording {tmp_path / 'out'}" in result.stderr and "recording, cells" in result.stderr


def test_simulate_cells_refuses_what_it_cannot_use(tmp_path):
    assert_refused(run("simulate", "cells", tmp_path / "out", "--python", tmp_path / "none"), "Python", "none")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert_refused(run("simulate", "cells", tmp_path / "out"), "thesis.tex")


def test_simulate_cells_writes_a_bank_and_names_its_licence(tmp_path, monkeypatch):
    def rebuild(folder, *, python):
        names = [f"L5_{kind}PC_made_1" for kind in "AB"]
        for name in names:
            folder.mkdir(exist_ok=True)
            segments = np.cumsum(np.ones((2, 2, 3), "f4"), 0)
            currents = np.array([[np.hanning(20), -np.hanning(20)]], "f4")
            np.savez(folder / f"{name}.npz", seg=segments, diam=np.ones(2, "f4"), imem=currents)
        return [folder / f"{name}.npz" for name in names]

    monkeypatch.setattr("huidurep.simulation.rebuild_cells.rebuild_cell_bank", rebuild)
    result = run("simulate", "cells", tmp_path / "bank")
    assert result.exit_code == 0, result.output
    assert "2 of 2 cells, CC BY-NC-SA 4.0" in result.stdout
    assert "creativecommons.org/licenses/by-nc-sa" in result.stderr


def test_pretrain_refuses_configurations_it_cannot_read(tmp_path):
    def pretrain(config):
        return run("pretrain", "--config", tmp_path / config, "--output", tmp_path / "out")

    assert_refused(pretrain("none.json"), "none.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    assert_refused(pretrain("list.json"), "list.json", "found list")
    (tmp_path / "broken.yaml").write_text("seed: [")
    assert_refused(pretrain("broken.yaml"), "broken.yaml")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert_refused(pretrain("broken.yaml"), "empty")


def test_pretrain_reads_yaml_and_says_how_long_was_waited(tmp_path, monkeypatch):
    def train(settings, output):
        (output / "run").mkdir(parents=True)
        history = [{"loss": 1.0, "step": 7}, {"train_runtime": 12.3, "data_wait_share": 0.25, "step": 8}]
        (output / "run" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
        (output / "seen.json").write_text(json.dumps(settings))
        return output

    pytest.importorskip("torch")
    monkeypatch.setattr("huidurep.training.pretrain.pretrain", train)
    (tmp_path / "settings.yaml").write_text("seed: 3\ntraining:\n  max_steps: 8\n  learning_rate: 1e-3\n")
    result = run("pretrain", "--config", tmp_path / "settings.yaml", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    seen = json.loads((tmp_path / "out" / "seen.json").read_text())
    assert seen == {"seed": 3, "training": {"max_steps": 8, "learning_rate": 0.001}}
    assert "(step 8, 12 s, 25 % of it waiting for data)" in result.stdout
