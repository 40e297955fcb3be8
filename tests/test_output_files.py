import errno
import os

import pytest

from huidurep.output_files import INFO_FILE, check_output_file, check_output_folder, new_file, new_folder


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
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "earlier")
    (tmp_path / "file").write_text("earlier")
    with pytest.raises(KeyboardInterrupt):
        with new_folder(tmp_path / "out", overwrite=True) as folder:
            fill(folder, "new")
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        with new_file(tmp_path / "file", overwrite=True) as partial:
            partial.write_text("new")
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]
    assert (tmp_path / "out" / INFO_FILE).read_text() == (tmp_path / "file").read_text() == "earlier"


def test_only_outputs_of_the_same_kind_are_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "earlier")
    (tmp_path / "out" / "old.npy").write_text("earlier")
    for check in (check_output_folder, lambda path: new_folder(path).__enter__()):
        with pytest.raises(FileExistsError, match="2 entries.*overwrite"):
            check(tmp_path / "out")
    with pytest.raises(FileExistsError, match="remove it yourself"):
        check_output_folder(tmp_path / "out", overwrite=True, mark="params.py")
    with new_folder(tmp_path / "out", overwrite=True) as folder:
        fill(folder, "new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [INFO_FILE]
    with pytest.raises(FileExistsError, match="a folder"):
        check_output_file(tmp_path / "out", overwrite=True)
    with pytest.raises(FileExistsError, match="overwrite"):
        new_file(tmp_path / "out" / INFO_FILE).__enter__()
    with pytest.raises(FileExistsError, match="a file"):
        check_output_folder(tmp_path / "out" / INFO_FILE, overwrite=True)
    (tmp_path / "empty").mkdir()
    check_output_folder(tmp_path / "empty")
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
@pytest.mark.parametrize("write", [new_folder, new_file])
def test_system_errors_name_the_output(tmp_path, write, error):
    with pytest.raises(OSError, match="out.*No space left.*free some space") as caught:
        with write(tmp_path / "out"):
            raise error
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file.*out"):
        write(tmp_path / "file" / "out").__enter__()
