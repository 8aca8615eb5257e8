"""TensorFlow's start-up lines are removed from standard error, and nothing else.

That a new process writes none of them, from its import to the end of a fit, is seen in
`test_commands`.
"""

import io
import os
import sys
import tempfile

import pytest

from bgmm_jd.backend import startup_log

STARTUP_LINES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    "I0000 00:00:1795862423.865716    8670 port.cc:153] oneDNN custom operations are on.\n",
    "E0000 00:00:1795862478.012650    8721 cuda_platform.cc:52] failed call to cuInit\n",
    "2026-01-01 00:00:00.000000: W tensorflow/core/file.cc:1] the older format\n",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.\n",
]


def test_startup_lines_are_removed_and_other_lines_kept_in_order(capfd):
    other = ["first\n", "F0000 00:00:1795862423.865716 8670 port.cc:153] fatal\n", "last"]
    with startup_log.filter_startup_log():
        os.write(2, (other[0] + "".join(STARTUP_LINES) + other[1] + other[2]).encode())
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "".join(other)


def test_descriptor_is_restored_and_output_written_after_an_error(capfd):
    def fails():
        with startup_log.filter_startup_log():
            os.write(2, b"before\n")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    os.write(2, STARTUP_LINES[1].encode())
    assert capfd.readouterr().err == "before\n" + STARTUP_LINES[1]


def test_filters_may_be_nested(capfd):
    with startup_log.filter_startup_log(), startup_log.filter_startup_log():
        os.write(2, b"inner\n")
        os.write(2, STARTUP_LINES[0].encode())
    assert capfd.readouterr().err == "inner\n"


def test_missing_standard_error_is_no_error(monkeypatch):
    def fails(descriptor):
        raise OSError("bad file descriptor")

    ran = []
    monkeypatch.setattr(os, "dup", fails)
    with startup_log.filter_startup_log():
        ran.append(True)
    assert ran == [True]


def test_closed_standard_error_is_no_error(monkeypatch, capfd):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with startup_log.filter_startup_log():
        os.write(2, b"a line\n")
    assert capfd.readouterr().err == "a line\n"


def test_nothing_is_filtered_where_no_folder_can_be_written(monkeypatch, capfd):
    def fails():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", fails)
    with startup_log.filter_startup_log():
        os.write(2, STARTUP_LINES[0].encode())
    assert capfd.readouterr().err == STARTUP_LINES[0]


def test_standard_error_whose_reader_has_gone_is_no_error():
    reader, writer = os.pipe()
    kept = os.dup(2)
    os.dup2(writer, 2)
    os.close(writer)
    os.close(reader)
    try:
        with startup_log.filter_startup_log():
            os.write(2, b"a line\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
