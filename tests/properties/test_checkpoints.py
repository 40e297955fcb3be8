"""Whatever happened to the files of a checkpoint or of a result: it opens as it was, or one sentence names a file."""

import json
import shutil
import time

import numpy as np
import pytest
from fuzz_cases import assert_documented, cases
from hypothesis import given
from hypothesis import strategies as st
from synthetic_result import synthetic

import huidurep

LIMIT_S = 20  # no few bytes may cost minutes
ODD_VALUES = (None, -1, 0, 10**5, 10**9, 1e30, "x", [], {}, True, "../../etc/passwd", [[[[]]]], "\0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    config = huidurep.HuiduRepConfig(hidden_size=32, num_hidden_layers=1, intermediate_size=32, embedding_size=16)
    huidurep.HuiduRep(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def result_folder(tmp_path_factory):
    return synthetic(3, 20).save(tmp_path_factory.mktemp("result") / "out")


@st.composite
def damages(draw):
    """What is done to one file: (which of the files, kind, where, value)."""
    kinds = ("cut", "bytes", "empty", "missing", "value", "value", "value", "pointer", "nested", "folder")
    return (
        draw(st.integers(0, 30)),
        draw(st.sampled_from(kinds)),
        draw(st.floats(0, 1)),
        draw(st.sampled_from(ODD_VALUES)),
    )


def damage(folder, which, kind, where, value):
    """Damage one file of a folder; returns the file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if kind in ("value", "nested"):
        files = [path for path in files if path.suffix == ".json"]
    path = files[which % len(files)]
    content = path.read_bytes()
    place = int(where * len(content))
    if kind == "value":
        values = json.loads(content)
        target = values
        while isinstance(target, dict) and target:
            name = sorted(target)[int(where * (len(target) - 1))]
            if not isinstance(target[name], dict) or not target[name] or where < 0.3:
                target[name] = value
                break
            target = target[name]
        path.write_text(json.dumps(values))
    elif kind == "nested":
        path.write_text("[" * 10**5 + "]" * 10**5)
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    elif kind in ("missing", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    else:
        flipped = content[:place] + bytes(byte ^ 0x55 for byte in content[place : place + 4]) + content[place + 4 :]
        path.write_bytes({"cut": content[:place], "bytes": flipped, "empty": b""}[kind])
    return path


@cases(35)
@given(given_damage=damages())
def test_any_checkpoint(given_damage, checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "tiny"
    shutil.copytree(checkpoint, folder)
    damage(folder, *given_damage)
    spikes = np.random.default_rng(0).normal(0, 30, (3, 90, 4)).astype("float32")
    started = time.monotonic()
    try:
        embeddings = huidurep.HuiduRep.from_pretrained(folder).embed(spikes)
    except Exception as error:
        assert_documented(error)
    else:
        assert np.isfinite(embeddings).all()
    assert time.monotonic() - started < LIMIT_S


@cases(20)
@given(given_damage=damages())
def test_any_result(given_damage, result_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "out"
    shutil.copytree(result_folder, folder)
    damage(folder, *given_damage)
    try:
        result = huidurep.SortingResult.load(folder)
    except Exception as error:
        assert_documented(error)
    else:
        assert len(result.sorting.to_spike_vector()) == len(result.embeddings)
