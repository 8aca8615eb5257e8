"""The line of progress, on streams of every kind in place of standard error."""

import io
import os
from contextlib import contextmanager, redirect_stderr

import pytest

from bgmm_jd.fitting.progress import ProgressLine, Report, reporter


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def screen(self):
        """What is visible at the end: a carriage return goes back to the start of the line."""
        line = ""
        for part in self.getvalue().split("\r"):
            line = part + line[len(part) :]
        return line.rstrip()


@pytest.fixture
def terminal():
    return Terminal()


@contextmanager
def reporting_to(stream, progress=None):
    """Report to a stream in place of standard error."""
    with redirect_stderr(stream), reporter(progress) as report:
        yield report


def test_line_shows_that_programs_are_compiled_and_then_the_steps(terminal):
    with reporting_to(terminal) as report:
        assert terminal.screen == "compiling ..."
        report(Report(1_200, 20_000, -1_234.5, 0.314))
        assert terminal.screen == (
            "step 1,200 of at most 20,000, elbo -1,234.50, still moving 0.31 sd"
        )
    assert terminal.screen == ""


def test_line_leaves_out_an_unknown_drift(terminal):
    """After a few steps the drift is infinite."""
    with reporting_to(terminal) as report:
        report(Report(20, 100, -1.0, float("inf")))
        assert terminal.screen == "step 20 of at most 100, elbo -1.00"


def test_line_names_the_run_if_there_are_several(terminal):
    with reporting_to(terminal) as report:
        report(Report(20, 100, -1.0, 0.5, run=2, runs=3))
        assert terminal.screen.startswith("run 2 of 3, step 20 of at most 100")


def test_text_is_shown_at_once_after_a_report(terminal):
    with reporting_to(terminal) as report:
        report(Report(20, 100, -1.0, 0.5))
        report("calibrating ...")
        assert terminal.screen == "calibrating ..."


def test_shorter_line_overwrites_all_of_a_longer_one(terminal):
    line = ProgressLine(terminal)
    line.show("a long line")
    line.show("short")
    assert terminal.screen == "short"


def test_reports_in_quick_succession_are_not_all_written(terminal):
    with reporting_to(terminal) as report:
        for step in range(1_000):
            report(Report(step, 1_000, 0.0, 1.0))
    assert terminal.getvalue().count("step") < 100


def test_line_is_never_wider_than_the_terminal(terminal, monkeypatch):
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda fileno: os.terminal_size((20, 24)))
    with reporting_to(terminal) as report:
        report(Report(10**9, 10**9, -1e9, 1.0))
        assert 0 < len(terminal.screen) < 20
    assert max(map(len, terminal.getvalue().split("\r"))) < 20


def test_line_is_cleared_after_an_interrupt(terminal):
    def interrupted():
        with reporting_to(terminal) as report:
            report(Report(1, 2, 0.0, 1.0))
            terminal.write("^C")  # the terminal's own echo
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.screen == ""
    assert terminal.getvalue().endswith("\r")


def test_nothing_is_written_to_a_stream_that_is_no_terminal():
    stream = io.StringIO()
    with reporting_to(stream) as report:
        report(Report(1, 2, 0.0, 1.0))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("progress", [True, False])
def test_progress_argument_overrides_the_kind_of_stream(progress):
    stream = io.StringIO() if progress else Terminal()
    with reporting_to(stream, progress) as report:
        report(Report(1, 2, 0.0, 1.0))
    assert bool(stream.getvalue()) == progress


@pytest.mark.parametrize("progress", [None, True])
def test_missing_standard_error_is_no_error(progress):
    with reporting_to(None, progress) as report:
        report(Report(1, 2, 0.0, 1.0))


@pytest.mark.parametrize("progress", [None, True])
def test_stream_closed_before_the_fit_is_no_error(terminal, progress):
    terminal.close()
    with reporting_to(terminal, progress) as report:
        report(Report(1, 2, 0.0, 1.0))


def test_stream_closed_during_the_fit_is_no_error(terminal):
    with reporting_to(terminal) as report:
        terminal.close()
        report(Report(1, 2, 0.0, 1.0))


def test_stream_without_a_reader_is_no_error(terminal, monkeypatch):
    def write(text):
        raise BrokenPipeError

    with reporting_to(terminal) as report:
        monkeypatch.setattr(terminal, "write", write)
        report(Report(1, 2, 0.0, 1.0))
