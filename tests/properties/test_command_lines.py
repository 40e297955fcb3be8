"""Whatever words follow `huidurep`: a known exit code, no traceback, and the files that were there stay as they are."""

import os

import numpy as np
import pytest
from command_line import run
from fuzz_cases import cases
from hypothesis import given
from hypothesis import strategies as st

WORDS = (
    *("sort", "embed", "report", "convert", "finetune", "pretrain", "simulate", "download", "push", "list"),
    *(
        "raw.bin",
        "waveforms.npy",
        "result",
        "notes.txt",
        "recording.json",
        "broken.pkl",
        "new",
        "new/deep",
        ".",
        "..",
        "",
    ),
    *("--model", "--seed", "--num-units", "--sampling-frequency", "--num-channels", "--dtype", "--gain-to-uv"),
    *("--overwrite", "--json", "--help", "--version", "--motion", "--matching", "--peak-sign", "--preset", "--to"),
    *("--config", "--output", "--log-file", "--debug", "--", "-v", "--no-such-option", "--n-jobs", "--allow-pickle"),
    *(
        "auto",
        "tetrode",
        "none",
        "paper",
        "30000",
        "4",
        "0",
        "-1",
        "1e400",
        "nan",
        "int16",
        "phy",
        "nwb",
        "é\n\t",
        "pos",
    ),
)
PLAIN = st.lists(st.sampled_from(WORDS), max_size=6)
# most random words end at the first one: these reach the commands
BEGUN = st.tuples(
    st.sampled_from(
        (
            ["sort", "raw.bin", "new", "--sampling-frequency", "30000", "--num-channels", "4", "--dtype", "int16"],
            ["embed", "waveforms.npy", "new.npy", "--model", "tetrode"],
            ["report", "result"],
            ["convert", "result", "new", "--to", "phy", "--recording", "raw.bin"],
            ["simulate", "recording", "new", "--duration-s", "1"],
            ["list"],
        )
    ),
    PLAIN,
).map(lambda parts: [*parts[0], *parts[1]])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    rng.integers(-40, 40, (15000, 4)).astype("int16").tofile(folder / "raw.bin")
    np.save(folder / "waveforms.npy", rng.normal(0, 30, (5, 90, 4)).astype("float32"))
    (folder / "result").mkdir()
    (folder / "result" / "thesis.txt").write_text("weeks of work")
    (folder / "result" / "huidurep.json").write_text("{}")
    (folder / "notes.txt").write_text("x")
    (folder / "recording.json").write_text(
        '{"class": "os.system", "kwargs": {"command": "touch hacked"}, "module": "os"}'
    )
    (folder / "broken.pkl").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    return folder


def snapshot(folder):
    """Bytes of every file by its path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@cases(35)
@given(words=st.one_of(PLAIN, BEGUN))
def test_any_words(words, work):
    before, home = snapshot(work), os.getcwd()
    os.chdir(work)
    try:
        result = run(*words)
    finally:
        os.chdir(home)
    assert result.exit_code in (0, 1, 2, 130), (words, result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
    assert "--debug" in words or "Traceback" not in result.output, (words, result.output)
    if result.exit_code != 0:
        assert result.stderr.strip() or not words, words
    after = snapshot(work)
    for name, content in before.items():
        # --log-file appends to the file that it names
        assert after[name].startswith(content) if "--log-file" in words else after[name] == content, words
    assert not (work / "hacked").exists()
