import json
from dataclasses import dataclass

import numpy as np
import pytest
from spikeinterface.core.base import base_peak_dtype

from huidurep.clustering.drift import Drift
from huidurep.clustering.unit_mixture import UnitMixture
from huidurep.sorting.clustering import Assignment, UnitModel
from huidurep.sorting.run_log import RunLog
from huidurep.sorting.saved_stages import MANIFEST, SavedStages, digest_of, remove_stages

IDENTITY = {"parameters": {"seed": 0, "times": (1.0, 2.0)}, "versions": {"numpy": "2"}}


def mixture(num_units=2):
    rng = np.random.default_rng(0)
    return UnitMixture(
        num_units=num_units,
        mean=rng.normal(size=3),
        axes=np.asfortranarray(rng.normal(size=(3, 2))),
        weights=np.ones(num_units),
        means=rng.normal(size=(num_units, 1, 2)),
        cholesky_factors=np.ones((num_units, 2, 2), "float32"),
        component_units=np.arange(num_units),
        drift=Drift(np.arange(3.0), np.ones(3), 0.1),
    )


def fail(*_):
    raise AssertionError("the stage was run again")


def find_stages(folder):
    return sorted(path.name for path in folder.glob("*.npz"))


def resumed(folder, identity=IDENTITY):
    log = RunLog()
    return SavedStages(folder, identity, log), log


def test_values_come_back_as_they_were(tmp_path):
    peaks = np.zeros(4, dtype=base_peak_dtype)
    peaks["amplitude"] = -1 / 3, 0, np.inf, np.nan
    shared = mixture()
    units = UnitModel(np.arange(2), ((shared, np.array([0])), (shared, np.array([1]))))
    assignment = Assignment(np.arange(4), np.full(4, 0.1, "float32"), is_one_mixture=True)
    properties = {
        "snr": list(np.array([0.1, np.nan])),
        "id": list(np.array(["a", "ch10"])),
        "group": [0.1, 0.1],
        3: None,
    }
    value = (peaks, units, assignment, properties, (np.float32(1 / 3), True, "text", [], ()))
    resumed(tmp_path / "s")[0].run("all", lambda: value)
    found = resumed(tmp_path / "s")[0].run("all", fail)
    assert found[0].dtype == base_peak_dtype and found[0].tobytes() == peaks.tobytes()
    assert found[1].is_one_mixture and found[1].components[0][0] is found[1].components[1][0]
    axes = found[1].components[0][0].axes
    assert np.array_equal(axes, shared.axes) and axes.flags.f_contiguous
    assert found[1].components[0][0].drift.gain == 0.1
    assert found[2].is_one_mixture is True and found[2].posteriors.dtype == np.float32
    assert repr(found[3]) == repr(properties) and found[4] == value[4] and type(found[4][0]) is np.float32


def test_nested_stages_are_removed_and_their_log_is_kept(tmp_path):
    folder = tmp_path / "s"
    stages, log = resumed(folder)

    def outer():
        inner = stages.run("inner", lambda: (log("detection", "found"), np.arange(3))[1])
        assert find_stages(folder) == ["0-inner.npz"]
        log.warning("clustering", "odd")
        return inner + 1

    assert stages.run("outer", outer).tolist() == [1, 2, 3]
    assert find_stages(folder) == ["0-outer.npz"] and not (folder / "0-inner.npz").exists()
    again, log_again = resumed(folder)
    assert again.run("outer", fail).tolist() == [1, 2, 3]
    assert log_again.entries[:2] == log.entries and log_again.entries[1]["is_warning"]
    assert "outer was read" in log_again.entries[-1]["message"]
    remove_stages(folder)
    assert not folder.exists()


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages, log = resumed(None)
    assert stages.run("one", object) is not None
    stages.check_same("noise", np.ones(2))
    assert list(tmp_path.iterdir()) == [] == log.entries


@pytest.mark.parametrize("damage", ["cut", "changed", "lost"])
def test_a_damaged_stage_is_computed_again(tmp_path, damage):
    folder = tmp_path / "s"
    resumed(folder)[0].run("one", lambda: np.arange(1000))
    path = folder / "0-one.npz"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(content if damage == "changed" else content[:700])
    stages, log = resumed(folder)
    assert stages.run("one", lambda: 5) == 5
    assert "0-one.npz is missing or damaged" in log.entries[0]["message"]
    assert resumed(folder)[0].run("one", fail) == 5


def test_stages_of_another_sorting_are_refused_and_kept(tmp_path):
    folder = tmp_path / "s"
    stages, _ = resumed(folder)
    stages.check_same("noise levels", np.ones(2))
    stages.run("one", lambda: 1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = {"parameters": {"seed": 7, "times": (1.0, 2.0)}, "versions": {"numpy": "2"}}
    with pytest.raises(ValueError, match=r"another parameters.seed \(0, now 7\)"):
        resumed(folder, other)
    with pytest.raises(ValueError, match="expected the noise levels"):
        resumed(folder)[0].check_same("noise levels", np.array([1, np.nextafter(1, 2)]))
    resumed(folder)[0].check_same("noise levels", np.ones(2))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_resume_stages_are_replaced_by_the_first_new_one(tmp_path):
    folder = tmp_path / "s"
    for name in ("one", "two"):
        resumed(folder)[0].run(name, lambda: 1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log = RunLog()
    stages = SavedStages(folder, IDENTITY | {"parameters": {"seed": 7}}, log, resume=False)
    assert str(folder) in log.entries[0]["message"] and log.entries[0]["is_warning"]

    def interrupted():
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("one", interrupted)
    assert stages.run("two", lambda: 2) == 2
    assert find_stages(folder) == ["0-two.npz"]


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"format": "huidurep-stages-0", "identity": {}}'])
def test_a_folder_of_others_is_refused_and_kept(tmp_path, content):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / ("notes.txt" if content is None else MANIFEST)).write_text(content or "mine")
    for use in (resumed, remove_stages):
        with pytest.raises(ValueError, match=MANIFEST):
            use(folder)
    assert len(list(folder.iterdir())) == 1


def test_removal_leaves_the_files_of_others(tmp_path):
    folder = tmp_path / "s"
    resumed(folder)[0].run("one", lambda: 1)
    (folder / "notes.txt").write_text("mine")
    remove_stages(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    remove_stages(tmp_path / "none")


def test_a_full_disk_stops_no_work(tmp_path, monkeypatch):
    folder = tmp_path / "s"
    stages, log = resumed(folder)
    stages.run("one", lambda: 1)

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", refuse)
        assert stages.run("two", lambda: 2) == 2
    assert "No space left" in log.entries[-1]["message"] and log.entries[-1]["is_warning"]
    assert stages.run("three", lambda: 3) == 3
    assert find_stages(folder) == ["0-one.npz", "0-three.npz"] and not list(folder.glob(".*"))


def test_nothing_is_unpickled(tmp_path):
    @dataclass
    class Foreign:
        value: int = 0

    stages, _ = resumed(tmp_path / "s")
    for value in (Foreign(), {1}, np.array([object()])):
        with pytest.raises(TypeError, match="expected"):
            stages.run("one", lambda value=value: value)
    stages.run("one", lambda: mixture())
    manifest = json.loads((tmp_path / "s" / MANIFEST).read_text())
    path = tmp_path / "s" / "0-one.npz"
    np.savez(path, json=np.array([{"value": 1}], dtype=object))
    import hashlib

    manifest["files"]["0-one.npz"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "s" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="allow_pickle"):
        resumed(tmp_path / "s")[0].run("one", fail)


def test_digest_is_of_types_shapes_and_values():
    arrays = (np.zeros(2), np.zeros(2, "float32"), np.zeros((1, 2)), np.array([0, -0.0]), np.array(["a"]))
    assert len({digest_of(array) for array in arrays}) == len(arrays)
    assert digest_of(np.arange(4)[::2]) == digest_of(np.array([0, 2]))
