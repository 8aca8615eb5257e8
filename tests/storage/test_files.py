"""Files are written whole or not at all, and paths are checked."""

import os
import stat
from pathlib import Path

import pytest

from bgmm_jd.storage.files import as_path, write_whole


@pytest.mark.parametrize(
    "name", ["plain.nc", "no suffix", "a 'b' \"c\" \\ \u03b1\u4e2d\n%s.nc", "-"]
)
def test_any_name_of_a_file_is_written(name, tmp_path):
    write_whole(as_path(str(tmp_path / name)), b"data")
    assert (tmp_path / name).read_bytes() == b"data"
    assert os.listdir(tmp_path) == [name]


def test_file_that_exists_is_replaced_and_keeps_its_permissions(tmp_path):
    path = tmp_path / "file.nc"
    path.write_bytes(b"before")
    path.chmod(0o640)
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file.nc"]


def test_link_stays_a_link_to_the_new_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.nc").symlink_to("folder/file.nc")
    write_whole(tmp_path / "link.nc", b"data")
    assert (tmp_path / "link.nc").is_symlink()
    assert (tmp_path / "folder" / "file.nc").read_bytes() == b"data"


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, function, error):
    def fail(*args):
        raise error

    path = tmp_path / "file.nc"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file.nc"]


def test_error_names_the_target_and_the_reason(tmp_path, monkeypatch):
    def fail(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError, match=r"file\.nc cannot be written: Permission denied"):
        write_whole(tmp_path / "file.nc", b"data")


def test_folders_and_devices_are_no_targets(tmp_path):
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        write_whole(tmp_path, b"data")
    with pytest.raises(FileNotFoundError, match=r"folder .*absent does not exist; make it first"):
        write_whole(tmp_path / "absent" / "file.nc", b"data")
    with pytest.raises(OSError, match="not a regular file"):
        write_whole(Path(os.devnull), b"data")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        write_whole(tmp_path / "file.nc", b"data")


@pytest.mark.parametrize("path", [b"file.nc", 3, None])
def test_path_of_another_type_is_an_error(path):
    with pytest.raises(TypeError, match="path must be a str"):
        as_path(path)
