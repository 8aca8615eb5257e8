"""Commands do their work though nobody reads what they print, and say what they cannot write."""

import functools
import io
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from full_disk import no_file_longer_than
from terminal import run

import bgmm_jd
from bgmm_jd.cli.commands import main
from bgmm_jd.cli.messages import say, tell
from bgmm_jd.cli.outputs import write, write_netcdf
from bgmm_jd.cli.table import BadInput


def no_stream():
    return None


def closed_stream():
    stream = io.StringIO()
    stream.close()
    return stream


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full_device():
    return open("/dev/full", "w")


STREAMS = [no_stream, closed_stream, broken_pipe, full_device]


@pytest.fixture
def streams(request, monkeypatch):
    """Replace standard output and error by streams that cannot be written."""
    made = request.param(), request.param()
    monkeypatch.setattr(sys, "stdout", made[0])
    monkeypatch.setattr(sys, "stderr", made[1])
    yield
    for stream in made:
        if stream is not None:
            stream.close()  # raises if anything that cannot be written is left in it


@pytest.mark.parametrize("streams", STREAMS, indirect=True)
def test_command_writes_its_files_whatever_the_streams_are(folder, streams):
    assert main(["predict", "rows.fit.nc", "rows.csv"]) == 0
    assert len(pd.read_csv("rows.predicted.csv")) == 40


@pytest.mark.parametrize("streams", STREAMS, indirect=True)
def test_bad_input_has_its_exit_code_whatever_the_streams_are(folder, streams):
    assert main(["predict", "rows.fit.nc", "absent.csv"]) == 2


@pytest.mark.parametrize("streams", [broken_pipe], indirect=True)
def test_table_whose_reader_has_gone_is_no_error(folder, streams):
    assert main(["predict", "rows.fit.nc", "rows.csv", "-o", "-"]) == 0


@pytest.mark.parametrize("make", [no_stream, closed_stream, full_device])
def test_table_that_cannot_be_printed_is_an_error(folder, monkeypatch, capsys, make):
    stream = make()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["predict", "rows.fit.nc", "rows.csv", "-o", "-"]) == 2
    if stream is not None:
        stream.close()
    assert "standard output" in capsys.readouterr().err


def test_text_that_the_terminal_cannot_show_is_printed_by_its_numbers(monkeypatch):
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding="ascii"))
    tell("\u03b1 = 1")
    assert held.getvalue() == b"\\u03b1 = 1\n"


def test_messages_are_not_printed_among_results(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    say("a message")
    assert capsys.readouterr().out == ""


def test_process_without_streams_home_or_folder_to_write_in_does_its_work(folder):
    """As a service or a container may be started."""
    command = [sys.executable, "-m", "bgmm_jd", "predict", folder / "rows.fit.nc"]
    command += [folder / "rows.csv", "-o", folder / "out.csv"]
    shell = " ".join(f"'{part}'" for part in command)
    root = os.path.dirname(os.path.dirname(bgmm_jd.__file__))
    environment = os.environ | {"HOME": "/nonexistent", "PYTHONPATH": root}
    found = subprocess.run(
        f"cd /proc; exec {shell} <&- >&- 2>&-", shell=True, env=environment, check=False
    )
    assert found.returncode == 0
    table = pd.read_csv(folder / "out.csv")
    assert table["component"].value_counts().to_dict() == {"small": 20, "large": 20}


def written_files(posterior, rows):
    """Yield the name of each kind of file with the function that writes it to a path."""
    idata = bgmm_jd.to_inference_data(posterior, draws=500)
    ax = bgmm_jd.plot_density(posterior, rows)
    table = pd.DataFrame(np.zeros((5_000, 2)))
    yield "draws.nc", lambda path: write_netcdf(idata, path, "draws")
    yield "plot.png", lambda path: write(ax.figure.savefig, path, "figure")
    yield "table.csv", lambda path: write(table.to_csv, path, "table")
    for name, save in {"report.html": bgmm_jd.report, "fit.nc": bgmm_jd.save}.items():
        save = functools.partial(save, posterior)
        yield name, lambda path, save=save: write(lambda target: save(path=target), path, "fit")


def test_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(
    rows, posterior, tmp_path
):
    for name, write_to in written_files(posterior, rows):
        path = tmp_path / name
        path.write_text("old")
        with no_file_longer_than(4096), pytest.raises(BadInput) as raised:
            write_to(path)
        assert str(raised.value).startswith(f"cannot write {path}: ")
        assert "File too large" in str(raised.value)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == [name]
        path.unlink()


def test_full_disk_has_the_exit_code_of_bad_input(folder):
    before = sorted(os.listdir())
    with no_file_longer_than(256):
        outcome = run("predict", "rows.fit.nc", "rows.csv", "-o", "out.csv")
    assert outcome.code == 2
    assert outcome.err == "bgmm_jd: cannot write out.csv: File too large\n"
    assert sorted(os.listdir()) == before
