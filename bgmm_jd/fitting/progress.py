"""A line of progress on a terminal."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TextIO

_SHORTEST_SECONDS = 0.1  # between two reports: blocks of a small fit take milliseconds
_ECHO = "^C"  # what a terminal adds to the line when the fit is interrupted


class Report(NamedTuple):
    """The progress of a fit after a block of steps.

    Attributes
    ----------
    steps, limit : int
        Number of steps taken, and its limit.
    elbo : float
        Mean over the last block of steps, in nats for the whole data set.
    drift : float
        Distance between the averages of the two halves of the iterates, in posterior sds; infinite
        while there are too few iterates.
    run, runs : int
        Number of the present start, from 1, and of all starts.
    """

    steps: int
    limit: int
    elbo: float
    drift: float
    run: int = 1
    runs: int = 1


@contextmanager
def reporter(progress: bool | None) -> Iterator[Callable[[Report | str], None]]:
    """Yield the function to call with each report, or with a text to show instead.

    The line is cleared at the end, also on an interrupt.

    Parameters
    ----------
    progress : bool, optional
        Whether to write to `sys.stderr`; by default only if that is a terminal.
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
        line.show(_describe(report), limit_rate=True)


class ProgressLine:
    """One line of a terminal that is overwritten again and again.

    It is overwritten by carriage returns and spaces, which also work in notebooks and where escape
    codes do not. Errors of a stream that has been closed, or whose reader has gone, are ignored: a
    fit must not end because of them.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._longest = 0
        self._next_time = 0.0

    def show(self, text: str, limit_rate: bool = False) -> None:
        """Replace the present text.

        Parameters
        ----------
        text : str
        limit_rate : bool
            Whether to skip the text if the last rate-limited one was shown a moment ago.
        """
        now = time.monotonic()
        if limit_rate and now < self._next_time:
            return
        if limit_rate:
            self._next_time = now + _SHORTEST_SECONDS
        # A line that wraps could not be overwritten.
        text = text[: _columns(self._stream) - 1 - len(_ECHO)]
        self._longest = max(self._longest, len(text))
        self._write("\r" + text.ljust(self._longest))

    def clear(self) -> None:
        """Clear the line, and leave the cursor at its start."""
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
        # 0 where the terminal does not report its width
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def _describe(report: Report) -> str:
    text = f"run {report.run} of {report.runs}, " if report.runs > 1 else ""
    text += f"step {report.steps:,} of at most {report.limit:,}, elbo {report.elbo:,.2f}"
    if report.drift < float("inf"):
        text += f", still moving {report.drift:.2f} sd"
    return text
