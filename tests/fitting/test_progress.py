import io
from types import SimpleNamespace

import pytest

from bgmm_jd.fitting import progress
from bgmm_jd.fitting.progress import Report, reporter


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def screen(self):
        """What is left to see: a carriage return starts the line again."""
        line = ""
        for part in self.getvalue().split("\r"):
            line = part + line[len(part) :]
        return line.rstrip()


@pytest.fixture
def stderr(monkeypatch):
    """Put a stream in the place of standard error, for the reporter alone: pytest has its own."""
    return lambda stream: monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))


@pytest.fixture
def terminal(stderr):
    stream = Terminal()
    stderr(stream)
    return stream


def test_says_first_that_it_compiles_and_then_where_it_is(terminal):
    with reporter(None) as report:
        assert terminal.screen == "compiling ..."
        report(Report(1_200, 20_000, -1_234.5, 0.314))
        assert terminal.screen == (
            "step 1,200 of at most 20,000, elbo -1,234.50, still moving 0.31 sd"
        )
    assert terminal.screen == ""


def test_too_few_steps_to_tell_how_far_it_moves(terminal):
    with reporter(None) as report:
        report(Report(20, 100, -1.0, float("inf")))
        assert terminal.screen == "step 20 of at most 100, elbo -1.00"


def test_which_of_several_runs(terminal):
    with reporter(None) as report:
        report(Report(20, 100, -1.0, 0.5, run=2, runs=3))
        assert terminal.screen.startswith("run 2 of 3, step 20 of at most 100")


def test_other_words_are_shown_at_once(terminal):
    with reporter(None) as report:
        report(Report(20, 100, -1.0, 0.5))
        report("calibrating ...")
        assert terminal.screen == "calibrating ..."


def test_a_shorter_line_leaves_nothing_of_the_longer_one(terminal):
    line = progress.ProgressLine(terminal)
    line.show("a long line")
    line.show("short")
    assert terminal.screen == "short"


def test_reports_in_quick_succession_are_not_all_written(terminal):
    with reporter(None) as report:
        for step in range(1_000):
            report(Report(step, 1_000, 0.0, 1.0))
    assert terminal.getvalue().count("step") < 100


def test_the_line_is_never_wider_than_the_terminal(terminal, monkeypatch):
    monkeypatch.setattr(progress, "_columns", lambda stream: 20)
    with reporter(None) as report:
        report(Report(10**9, 10**9, -1e9, 1.0))
        assert 0 < len(terminal.screen) < 20
    assert max(map(len, terminal.getvalue().split("\r"))) < 20


def test_the_terminal_is_clean_after_an_interrupt(terminal):
    context = reporter(None)
    report = context.__enter__()
    report(Report(1, 2, 0.0, 1.0))
    terminal.write("^C")  # the terminal's own echo
    assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert terminal.screen == ""
    assert terminal.getvalue().endswith("\r")


def test_nothing_is_written_where_there_is_no_terminal(stderr):
    stream = io.StringIO()
    stderr(stream)
    with reporter(None) as report:
        report(Report(1, 2, 0.0, 1.0))
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("asked", "written"), [(True, True), (False, False)])
def test_the_user_decides(stderr, asked, written):
    stream = io.StringIO() if asked else Terminal()
    stderr(stream)
    with reporter(asked) as report:
        report(Report(1, 2, 0.0, 1.0))
    assert bool(stream.getvalue()) == written


@pytest.mark.parametrize("asked", [None, True])
def test_no_standard_error_at_all(stderr, asked):
    stderr(None)
    with reporter(asked) as report:
        report(Report(1, 2, 0.0, 1.0))


@pytest.mark.parametrize("asked", [None, True])
def test_a_stream_closed_before_the_fit(terminal, asked):
    terminal.close()
    with reporter(asked) as report:
        report(Report(1, 2, 0.0, 1.0))


def test_a_stream_closed_during_the_fit(terminal):
    with reporter(None) as report:
        terminal.close()
        report(Report(1, 2, 0.0, 1.0))


def test_a_reader_that_has_gone(terminal, monkeypatch):
    def gone(text):
        raise BrokenPipeError

    with reporter(None) as report:
        monkeypatch.setattr(terminal, "write", gone)
        report(Report(1, 2, 0.0, 1.0))
