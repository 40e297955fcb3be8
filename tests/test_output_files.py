import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from huidurep.output_files import (
    FILES_LIST,
    INFO_FILE,
    check_free_space,
    check_output_file,
    check_output_folder,
    new_file,
    new_folder,
)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def fill(folder, text):
    (folder / INFO_FILE).write_text(text)


def test_complete_outputs_have_the_permissions_of_the_umask(tmp_path, umask):
    with new_folder(tmp_path / "made" / "out") as folder:
        assert folder.parent == tmp_path / "made"  # relative paths in it stay valid
        fill(folder, "new")
    with new_file(tmp_path / "made" / "page.html") as partial:
        assert partial.suffix == ".html"
        partial.write_text("new")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["out", "page.html"]
    assert (tmp_path / "made" / "out").stat().st_mode & 0o777 == 0o755
    for path in (tmp_path / "made" / "out" / INFO_FILE, tmp_path / "made" / "page.html"):
        assert path.stat().st_mode & 0o777 == 0o644


def test_interrupted_outputs_leave_earlier_ones_unchanged(tmp_path):
    with new_folder(tmp_path / "out", mark=INFO_FILE) as folder:
        fill(folder, "earlier")
    (tmp_path / "file").write_text("earlier")
    with pytest.raises(KeyboardInterrupt):
        with new_folder(tmp_path / "out", overwrite=True, mark=INFO_FILE) as folder:
            fill(folder, "new")
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        with new_file(tmp_path / "file", overwrite=True) as partial:
            partial.write_text("new")
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]
    assert (tmp_path / "out" / INFO_FILE).read_text() == (tmp_path / "file").read_text() == "earlier"


def write(folder, text, **options):
    with new_folder(folder, mark=INFO_FILE, **options) as partial:
        fill(partial, text)
        (partial / "inner").mkdir()
        (partial / "inner" / f"{text}.npy").write_text(text)


def names(folder):
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())


def test_only_files_of_an_earlier_output_are_replaced(tmp_path):
    out = tmp_path / "out"
    write(out, "earlier")
    (out / "notes.txt").write_text("weeks of work")
    (out / "inner" / "cluster_group.tsv").write_text("good")
    (tmp_path / "link").symlink_to(out, target_is_directory=True)
    write(tmp_path / "link", "new", overwrite=True)
    assert (tmp_path / "link").is_symlink() and (out / INFO_FILE).read_text() == "new"
    assert names(out) == sorted([FILES_LIST, INFO_FILE, "inner/cluster_group.tsv", "inner/new.npy", "notes.txt"])
    assert (out / "notes.txt").read_text() == "weeks of work"
    write(out, "third", overwrite=True)  # files that were carried over are still not ours
    assert (out / "inner" / "cluster_group.tsv").exists() and not (out / "inner" / "new.npy").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "out"]


def test_changed_and_added_files_are_refused_where_they_would_not_fit(tmp_path):
    out = tmp_path / "out"
    write(out, "earlier")
    write(out, "again", overwrite=True, others="refuse")
    (out / "inner" / "again.npy").write_text("edited")
    with pytest.raises(FileExistsError, match="inner/again.npy"):
        write(out, "new", overwrite=True, others="refuse")
    (out / "inner" / "again.npy").write_text("again")
    (out / "added.txt").write_text("x")
    with pytest.raises(FileExistsError, match="added.txt"):
        write(out, "new", overwrite=True, others="refuse")
    assert (out / INFO_FILE).read_text() == "again"


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"format": "other"}', "[]"])
def test_a_folder_with_a_file_of_the_same_name_is_no_earlier_output(tmp_path, text):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", text)
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="remove it yourself"):
        write(tmp_path / "out", "new", overwrite=True)
    assert names(tmp_path / "out") == [INFO_FILE, "thesis.tex"]


def test_results_of_earlier_versions_are_replaced(tmp_path):
    out = tmp_path / "out"
    (out / "sorting").mkdir(parents=True)
    fill(out, '{"format": "huidurep-sorting"}')
    for name in ("embeddings.npy", "sorting/spikes.npy", "notes.txt"):
        (out / name).write_text("earlier")
    write(out, "new", overwrite=True)
    assert names(out) == sorted([FILES_LIST, INFO_FILE, "inner/new.npy", "notes.txt"])


def test_folders_are_exchanged_where_the_system_has_no_call_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huidurep.output_files.ctypes.CDLL", lambda *_, **__: SimpleNamespace())
    out, rename, targets = tmp_path / "out", Path.rename, []
    write(out, "earlier")

    def rename_interrupted_once(old, new):
        targets.append(new)
        if targets.count(out) == 1:
            raise KeyboardInterrupt
        return rename(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", rename_interrupted_once)
        write(out, "new", overwrite=True)
    assert (out / INFO_FILE).read_text() == "earlier"
    write(out, "new", overwrite=True)
    assert (out / INFO_FILE).read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_other_folders_and_files_are_refused(tmp_path):
    write(tmp_path / "out", "earlier")
    for check in (check_output_folder, lambda path: new_folder(path).__enter__()):
        with pytest.raises(FileExistsError, match="3 entries"):
            check(tmp_path / "out")
    with pytest.raises(FileExistsError, match="remove it yourself"):
        check_output_folder(tmp_path / "out", overwrite=True, mark="params.py")
    with pytest.raises(FileExistsError, match="a folder"):
        check_output_file(tmp_path / "out", overwrite=True)
    with pytest.raises(FileExistsError, match="overwrite"):
        new_file(tmp_path / "out" / INFO_FILE).__enter__()
    with pytest.raises(FileExistsError, match="a file"):
        check_output_folder(tmp_path / "out" / INFO_FILE, overwrite=True)
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        fill(folder, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out"]


def test_a_folder_that_was_filled_in_the_meantime_is_kept(tmp_path):
    with pytest.raises(FileExistsError, match="1 entries"):
        with new_folder(tmp_path / "out") as folder:
            fill(folder, "new")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "thesis.tex").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "thesis.tex").exists()


class SafetensorError(Exception):
    """As safetensors raises it where the disk is full."""


FULL = 'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }'


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError(FULL)])
@pytest.mark.parametrize("open_output", [new_folder, new_file])
def test_system_errors_name_the_output(tmp_path, open_output, error):
    with pytest.raises(OSError, match="out.*No space left.*free some space") as caught:
        with open_output(tmp_path / "out"):
            raise error
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file.*out"):
        open_output(tmp_path / "file" / "out").__enter__()


def test_hidden_files_of_killed_runs_are_named_and_kept(tmp_path, caplog):
    leftover, earlier = tmp_path / ".out.0123abcd.partial", tmp_path / ".out.0123abcd.replaced"
    other, of_file = tmp_path / ".out2.0123abcd.partial", tmp_path / ".page.html.0123abcd.partial.html"
    for folder in (leftover, earlier, other):
        folder.mkdir()
    of_file.touch()
    with new_folder(tmp_path / "out"):
        pass
    assert "remove it" in caplog.text and str(leftover) in caplog.text and str(earlier) in caplog.text
    assert str(other) not in caplog.text and str(of_file) not in caplog.text
    with new_file(tmp_path / "page.html") as partial:
        partial.touch()
    assert str(of_file) in caplog.text
    assert all(each.exists() for each in (leftover, earlier, other, of_file))


def test_a_disk_that_is_too_small_is_refused(tmp_path):
    check_free_space(tmp_path / "new" / "out", 1000)
    with pytest.raises(OSError, match="MB of free disk space for .*out"):
        check_free_space(tmp_path / "new" / "out", 1e18)
    assert not (tmp_path / "new").exists()


def test_a_limit_of_file_sizes_is_reported_like_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="free disk space.*File too large.*removed"), new_folder(tmp_path / "out"):
        raise OSError(errno.EFBIG, "File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_file_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "shared").mkdir()
    target, link = tmp_path / "shared" / "report.html", tmp_path / "report.html"
    link.symlink_to(target)
    for text in ("first", "second"):  # the first one is written where the link points to nothing yet
        with new_file(link, overwrite=True) as partial:
            partial.write_text(text)
        assert link.is_symlink() and target.read_text() == text and not target.is_symlink()


def test_an_array_that_was_not_written_to_its_end_is_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="enough free disk space"), new_file(tmp_path / "array.npy"):
        raise OSError("2520 requested and 736 written")  # of numpy, without errno


@pytest.mark.parametrize("name", [".", "absolute"])
def test_the_current_folder_is_filled_and_stays(name, tmp_path, monkeypatch):
    current = tmp_path / "out"
    current.mkdir()
    monkeypatch.chdir(current)
    path = "." if name == "." else current
    for number in range(2):
        with new_folder(path, overwrite=True, mark=INFO_FILE) as partial:
            (partial / "inner").mkdir()
            (partial / "inner" / f"array{number}").write_text("x")
            (partial / INFO_FILE).write_text(str(number))
        (current / "notes.txt").write_text("mine")
        assert Path.cwd() == current and Path(INFO_FILE).read_text() == str(number)
    assert [each.name for each in Path("inner").iterdir()] == ["array1"] and Path("notes.txt").read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_mounted_folder_is_filled(tmp_path, monkeypatch):
    """A volume of a container cannot be renamed, and its parent is another disk."""
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == volume)
    for number in range(2):
        with new_folder(volume, overwrite=True, mark=INFO_FILE) as partial:
            assert partial.parent == volume
            (partial / INFO_FILE).write_text(str(number))
            (partial / f"array{number}").write_text("x")
        assert sorted(each.name for each in volume.iterdir()) == sorted([INFO_FILE, FILES_LIST, f"array{number}"])
    assert (volume / INFO_FILE).read_text() == "1"
