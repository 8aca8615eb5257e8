"""Progress on streams of every kind in place of standard error."""

import importlib.util
import io
import re
from contextlib import contextmanager, redirect_stderr

import numpy as np
import pytest

from bgmm_jd.fitting.progress import Progress
from bgmm_jd.fitting.progress_display import Place, display, reporter


@contextmanager
def reporting_to(stream, progress=None):
    """Report to a stream in place of standard error."""
    with redirect_stderr(stream), reporter(progress, None, 3, "diag") as report:
        yield report


def shown_by(terminal, *reports):
    """Return the last screen with bars, and the one after their end."""
    screens = []
    with redirect_stderr(terminal), display(None) as shown:
        for report in reports:
            shown.show(*report)
        shown._bars.refresh()
        screens.append(terminal.screen)
    return screens[0], terminal.screen


def steps(taken, limit, elbo, drift, start=1, starts=1):
    """Return the report of a block of steps."""
    return Progress(
        phase="optimization",
        start=start,
        starts=starts,
        steps=taken,
        max_steps=limit,
        elbo=elbo,
        drift=drift,
    )


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (Progress(phase="starts"), "looking for starts ..."),
        (
            steps(1_200, 20_000, -1_234.5, 0.314),
            "step 1,200 of at most 20,000, elbo -1,234.50, still moving 0.31 sd",
        ),
        (steps(20, 100, -1.0, np.inf), "step 20 of at most 100, elbo -1.00"),
        (steps(20, 100, -1.0, np.inf, 2, 3), "run 2 of 3, step 20 of at most 100, elbo -1.00"),
    ],
)
def test_bar_shows_the_time_and_what_the_fit_is_doing(terminal, report, text):
    during, after = shown_by(terminal, (Progress(phase="starts"),), (report,))
    assert len(during) == 1
    assert re.search(r"0:00:0\d " + re.escape(text) + r"\s*$", during[0])
    assert after == []


def test_sweep_has_a_bar_of_its_own_with_the_time_left(terminal):
    places = (Place("K=1, diag", 0, 3, 0.0), Place("K=2, diag", 1, 3, 30.0))
    during, after = shown_by(terminal, *((Progress(phase="chains"), place) for place in places))
    assert len(during) == 2
    assert during[0].rstrip().endswith("fit 2 of 3: K=2, diag, about 60 s left")
    assert during[1].rstrip().endswith("drawing by Hamiltonian Monte Carlo ...")
    assert after == []


def test_line_is_never_wider_than_the_terminal(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    during, _ = shown_by(terminal, (steps(10**9, 10**9, -1e9, 1.0),))
    assert len(during) == 1
    assert 20 < len(during[0]) <= 40


def test_bar_is_removed_after_an_interrupt(terminal):
    def interrupted():
        with reporting_to(terminal) as report:
            report(steps(1, 2, 0.0, 1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.screen == []
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_nothing_is_written_to_a_stream_that_is_no_terminal():
    stream = io.StringIO()
    with reporting_to(stream) as report:
        report(steps(1, 2, 0.0, 1.0))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("progress", [True, False])
def test_progress_argument_overrides_the_kind_of_stream(terminal, progress):
    stream = io.StringIO() if progress else terminal
    with reporting_to(stream, progress) as report:
        report(steps(1, 2, 0.0, 1.0))
    assert bool(stream.getvalue()) == progress


@pytest.mark.parametrize("progress", [None, True])
def test_missing_standard_error_is_no_error(progress):
    with reporting_to(None, progress) as report:
        report(steps(1, 2, 0.0, 1.0))


@pytest.mark.parametrize("progress", [None, True])
def test_stream_closed_before_the_fit_is_no_error(terminal, progress):
    terminal.close()
    with reporting_to(terminal, progress) as report:
        report(steps(1, 2, 0.0, 1.0))


def test_stream_closed_during_the_fit_is_no_error(terminal):
    with reporting_to(terminal) as report:
        terminal.close()
        report(steps(1, 2, 0.0, 1.0))


def test_stream_without_a_reader_is_no_error(terminal, monkeypatch):
    def write(text):
        raise BrokenPipeError

    with reporting_to(terminal) as report:
        monkeypatch.setattr(terminal, "write", write)
        report(steps(1, 2, 0.0, 1.0))


@pytest.mark.parametrize("kind", ["file", "dumb terminal", "notebook without widgets"])
def test_what_shows_no_bar_has_a_line_for_each_phase(terminal, kind, monkeypatch):
    stream = terminal if kind == "dumb terminal" else io.StringIO()
    monkeypatch.setenv("TERM", "dumb")
    if kind.startswith("notebook"):
        stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with reporting_to(stream, progress=True) as report:
        report(Progress(phase="starts"))
        for start in (1, 2):
            report(steps(0, 100, np.nan, np.inf, start, 2))
            report(steps(20, 100, -1.0, 0.5, start, 2))
        report(Progress(phase="calibration"))
    assert stream.getvalue().splitlines() == [
        "looking for starts ...",
        "run 1 of 2, optimising ...",
        "run 2 of 2, optimising ...",
        "calibrating ...",
    ]
