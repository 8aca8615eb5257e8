"""Files that commands write, and what they leave behind where that fails."""

import os

import pytest

from bgmm_jd.cli.outputs import write, write_figure
from bgmm_jd.cli.table import BadInput


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_old_file_stays_as_it_was_where_the_new_one_cannot_be_written(tmp_path, error):
    path = tmp_path / "draws.nc"
    path.write_text("old")

    def save(target):
        assert target.suffix == ".nc"
        target.write_text("ne")
        raise error

    with pytest.raises((BadInput, KeyboardInterrupt)) as raised:
        write(save, path, "draws")
    if isinstance(error, OSError):
        assert str(raised.value) == f"cannot write {path}: No space left"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_new_file_takes_the_mode_of_the_old_one_and_links_stay(tmp_path, capsys):
    path, link = tmp_path / "table.csv", tmp_path / "link.csv"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write(lambda target: target.write_text("new"), link, "the table")
    assert capsys.readouterr().out == f"Wrote {link} (the table)\n"
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(list(tmp_path.iterdir())) == 2


def test_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(lambda target: target.write_text("rows"), pipe, "rows")
    assert os.read(reader, 9) == b"rows"
    os.close(reader)
    assert pipe.is_fifo()


def test_error_in_drawing_that_is_no_matter_of_input_is_raised(tmp_path):
    with pytest.raises(ValueError, match="defect"):
        write_figure(lambda: int("defect"), tmp_path / "plot.png", "plot")
