"""Progress on streams of every kind in place of standard error, in callbacks and in the log."""

import io
import logging
import os
from contextlib import contextmanager, redirect_stderr

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.fitting.progress import Progress, ProgressLine, reporter


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
    with redirect_stderr(stream), reporter(progress, None, 3, "diag") as report:
        yield report


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


def test_line_shows_the_phase_and_then_the_steps(terminal):
    with reporting_to(terminal) as report:
        report(Progress(phase="starts"))
        assert terminal.screen == "looking for starts ..."
        report(steps(1_200, 20_000, -1_234.5, 0.314))
        assert terminal.screen == (
            "step 1,200 of at most 20,000, elbo -1,234.50, still moving 0.31 sd"
        )
    assert terminal.screen == ""


def test_line_leaves_out_an_unknown_drift(terminal):
    """After a few steps the drift is infinite."""
    with reporting_to(terminal) as report:
        report(steps(20, 100, -1.0, float("inf")))
        assert terminal.screen == "step 20 of at most 100, elbo -1.00"


def test_line_names_the_run_if_there_are_several(terminal):
    with reporting_to(terminal) as report:
        report(steps(20, 100, -1.0, 0.5, start=2, starts=3))
        assert terminal.screen.startswith("run 2 of 3, step 20 of at most 100")


def test_next_phase_is_shown_at_once(terminal):
    with reporting_to(terminal) as report:
        report(steps(20, 100, -1.0, 0.5))
        report(Progress(phase="calibration"))
        assert terminal.screen == "calibrating ..."


def test_shorter_line_overwrites_all_of_a_longer_one(terminal):
    line = ProgressLine(terminal)
    line.show(Progress(phase="chains"))
    line.show(Progress(phase="calibration"))
    assert terminal.screen == "calibrating ..."


def test_reports_in_quick_succession_are_not_all_written(terminal):
    with reporting_to(terminal) as report:
        for step in range(1, 1_001):
            report(steps(step, 1_000, 0.0, 1.0))
    assert terminal.getvalue().count("step") < 100


def test_line_is_never_wider_than_the_terminal(terminal, monkeypatch):
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda fileno: os.terminal_size((20, 24)))
    with reporting_to(terminal) as report:
        report(steps(10**9, 10**9, -1e9, 1.0))
        assert 0 < len(terminal.screen) < 20
    assert max(map(len, terminal.getvalue().split("\r"))) < 20


def test_line_is_cleared_after_an_interrupt(terminal):
    def interrupted():
        with reporting_to(terminal) as report:
            report(steps(1, 2, 0.0, 1.0))
            terminal.write("^C")  # the terminal's own echo
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.screen == ""
    assert terminal.getvalue().endswith("\r")


def test_nothing_is_written_to_a_stream_that_is_no_terminal():
    stream = io.StringIO()
    with reporting_to(stream) as report:
        report(steps(1, 2, 0.0, 1.0))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("progress", [True, False])
def test_progress_argument_overrides_the_kind_of_stream(progress):
    stream = io.StringIO() if progress else Terminal()
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


def test_stream_that_is_no_terminal_has_a_line_for_each_phase_if_asked():
    stream = io.StringIO()
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


def test_stream_of_a_notebook_has_one_line_that_is_overwritten():
    """It is no terminal, but obeys carriage returns."""
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    with reporting_to(kernel, progress=True) as report:
        report(Progress(phase="starts"))
    assert kernel.getvalue().startswith("\rlooking for starts ...")
    assert "\n" not in kernel.getvalue()


# --- Callbacks and the log ------------------------------------------------------------------------

OPTIONS = {"progress": False, "execution": "graph", "seed": 2}


def test_callback_receives_every_phase_of_a_fit_in_order(two_clusters, caplog):
    found = []
    with caplog.at_level(logging.INFO, "bgmm_jd"):
        posterior = bgmm_jd.fit(two_clusters, 2, callback=found.append, **OPTIONS)
    phases = list(dict.fromkeys(progress.phase for progress in found))
    assert phases == ["starts", "optimization", "elbo", "calibration", "whole posterior"]
    assert {(progress.K, progress.covariance) for progress in found} == {(2, "diag")}
    seconds = [progress.seconds for progress in found]
    assert seconds == sorted(seconds)
    blocks = [progress for progress in found if progress.steps]
    assert blocks[-1].steps == posterior.restarts[-1].steps
    assert blocks[-1].max_steps == 20_000
    # The noisy elbo of a block: within ten standard deviations of a step's.
    assert abs(blocks[-1].elbo - posterior.elbo) < 10.0 * posterior.elbo_trace[-50:].std()
    with pytest.raises(AttributeError):
        found[0].steps = 1

    messages = [record.getMessage() for record in caplog.records]
    assert messages[:2] == ["K=2, diag: looking for starts", "K=2, diag: optimising"]
    runs = [message for message in messages if "run" in message]
    assert len(runs) == len(posterior.restarts)
    assert runs[0].startswith(f"K=2, diag: run 1 of {len(runs)}, CONVERGED after ")


def test_log_is_silent_unless_it_is_configured(two_clusters, capfd):
    bgmm_jd.fit(two_clusters, 2, finish="none", **OPTIONS)
    assert capfd.readouterr().err == ""


def test_exception_in_a_callback_goes_through(two_clusters):
    def failing(progress):
        if progress.steps:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bgmm_jd.fit(two_clusters, 2, callback=failing, **OPTIONS)


@pytest.mark.parametrize(
    ("phase", "is_calibrated"),
    [("elbo", False), ("calibration", False), ("whole posterior", True), ("optimization", True)],
)
def test_interrupt_in_a_callback_ends_the_phase_and_keeps_what_the_fit_has(
    two_clusters, phase, is_calibrated
):
    """An optimisation that is cut short is calibrated where it has come to."""

    def interrupting(progress):
        if progress.phase == phase and (phase != "optimization" or progress.steps):
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(two_clusters, 2, callback=interrupting, **OPTIONS)
    assert posterior.status is bgmm_jd.Status.INTERRUPTED
    assert posterior.calibrated == is_calibrated
    assert np.isfinite(posterior.sample(5)["means"]).all()


def test_interrupt_in_a_callback_while_there_is_nothing_to_keep_is_raised(two_clusters):
    def interrupting(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bgmm_jd.fit(two_clusters, 2, callback=interrupting, **OPTIONS)


def test_callback_that_is_no_function_is_refused(two_clusters):
    with pytest.raises(TypeError, match=r"callback must be a function.*got int"):
        bgmm_jd.fit(two_clusters, 2, callback=1, **OPTIONS)
