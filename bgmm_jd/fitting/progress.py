"""A line of progress on a terminal."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TextIO

_SHORTEST_SECONDS = 0.1  # between two lines: blocks of a small fit take milliseconds
_ECHO = "^C"  # what a terminal adds to the line when the fit is interrupted


class Report(NamedTuple):
    """Where a fit stands.

    Attributes
    ----------
    steps, limit : int
        Steps taken, and the most there can be.
    elbo : float
        Mean over the last block of steps, in nats for the whole data set.
    drift : float
        Posterior sds between the halves of the iterates; infinite while there are too few.
    run, runs : int
        Which of how many restarts, from 1.
    """

    steps: int
    limit: int
    elbo: float
    drift: float
    run: int = 1
    runs: int = 1


@contextmanager
def reporter(progress: bool | None) -> Iterator[Callable[[Report | str], None]]:
    """What to call with each report, or with a few words on what is going on instead.

    The line is cleared at the end, also on an interrupt.

    Parameters
    ----------
    progress : bool, optional
        Whether to write to `sys.stderr`; None asks whether that is a terminal.
    """
    stream = sys.stderr
    if not (_is_terminal(stream) if progress is None else progress and stream is not None):
        yield lambda report: None
        return
    line = ProgressLine(stream)
    line.show("compiling ...")
    try:
        yield lambda report: _show(line, report)
    finally:
        line.clear()


def _show(line: "ProgressLine", report: Report | str) -> None:
    if isinstance(report, str):
        line.show(report)
    else:
        line.show(_describe(report), seldom=True)


class ProgressLine:
    """One line of a terminal, written over and over.

    Only carriage returns and spaces: these also work in notebooks and where escape codes do not.
    A stream that has been closed, or whose reader has gone, is no reason to end a fit.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._longest = 0
        self._next = 0.0

    def show(self, text: str, seldom: bool = False) -> None:
        """Write the text in place of the one before; if `seldom`, unless that has just been."""
        now = time.monotonic()
        if seldom and now < self._next:
            return
        if seldom:
            self._next = now + _SHORTEST_SECONDS
        # A line that wraps could not be written over.
        text = text[: _columns(self._stream) - 1 - len(_ECHO)]
        self._longest = max(self._longest, len(text))
        self._write("\r" + text.ljust(self._longest))

    def clear(self) -> None:
        """Leave an empty line, with the cursor at its start."""
        self._write("\r" + " " * (self._longest + len(_ECHO)) + "\r")
        self._longest = 0

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)
            self._stream.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def _columns(stream: TextIO) -> int:
    try:
        # 0 where the terminal does not say
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def _describe(report: Report) -> str:
    text = f"run {report.run} of {report.runs}, " if report.runs > 1 else ""
    text += f"step {report.steps:,} of at most {report.limit:,}, elbo {report.elbo:,.2f}"
    if report.drift < float("inf"):
        text += f", still moving {report.drift:.2f} sd"
    return text
