"""The progress of a fit: reported to a callback, shown on a terminal and written to a log.

A line of a terminal is overwritten from block to block of steps. Anything else that is written to,
such as the log of a batch job, has a line for each phase.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TextIO

from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.variational.approximation import Problem

Phase = Literal[
    "starts", "optimization", "passes", "elbo", "calibration", "whole posterior", "chains"
]

_SHORTEST_SECONDS = 0.1  # between two reports: blocks of a small fit take milliseconds
_ECHO = "^C"  # what a terminal adds to the line when the fit is interrupted
_DESCRIPTIONS: dict[Phase, str] = {
    "starts": "looking for starts",
    "optimization": "optimising",
    "passes": "all rows",
    "elbo": "estimating the elbo",
    "calibration": "calibrating",
    "whole posterior": "drawing from all modes",
    "chains": "drawing by Hamiltonian Monte Carlo",
}

logger = logging.getLogger("bgmm_jd")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fit has come: the argument of `callback` of `fit` and `select`.

    Attributes
    ----------
    phase : str
        "starts" looks for starts; "optimization" takes steps from each; "passes" go on with all of
        many rows; "elbo" estimates it anew; "calibration", "whole posterior" and "chains" make the
        draws.
    K, covariance : int, str
        Number of components and form of the fit.
    seconds : float
        Since the fit began, which is after its input was checked.
    start, starts : int
        Number of the present start, from 1, and of all starts.
    steps, max_steps : int
        Number of steps taken from it, passes included, and the limit of steps; 0 outside of
        "optimization" and "passes".
    elbo : float
        Mean over the last block of steps, or of the last pass, in nats for the whole data set and
        the units of X; NaN before the first, and in other phases.
    drift : float
        Distance that the parameters still move, in posterior sds: between the averages of the two
        halves of the iterates, or the estimated rest of the way. Infinite while it is not known.
    """

    phase: Phase
    K: int = 0
    covariance: str = ""
    seconds: float = 0.0
    start: int = 1
    starts: int = 1
    steps: int = 0
    max_steps: int = 0
    elbo: float = float("nan")
    drift: float = float("inf")


Reporter = Callable[[Progress], None]


def as_callback(callback: Any) -> Reporter | None:
    """Return `callback`, or raise unless it can be called."""
    if callback is not None and not callable(callback):
        raise TypeError(
            "callback must be a function of one argument, a bgmm_jd.Progress; got "
            f"{type(callback).__name__}. Try callback=print."
        )
    return callback


class Display(Protocol):
    """Something that shows progress."""

    def show(self, progress: Progress, before: str = "") -> None:
        """Show the progress, after a text that says what it belongs to."""


@contextmanager
def reporter(
    progress: bool | None, callback: Reporter | None, K: int, covariance: str
) -> Iterator[Reporter]:
    """Yield the function to call with each report of a fit.

    Parameters
    ----------
    progress : see `display`.
    callback : called with each report too; what it raises is not caught.
    K, covariance : of the fit, which reports need not have.
    """
    begun, log = time.perf_counter(), _PhaseLog()
    with display(progress) as shown:

        def report(value: Progress) -> None:
            seconds = time.perf_counter() - begun
            value = replace(value, K=K, covariance=covariance, seconds=seconds)
            log.show(value)
            shown.show(value)
            if callback is not None:
                callback(value)

        yield report


@contextmanager
def display(progress: bool | None) -> Iterator[Display]:
    """Yield what shows progress on `sys.stderr`; a line of a terminal is cleared at the end.

    Parameters
    ----------
    progress : bool, optional
        Whether to write; by default only to a terminal.
    """
    stream = sys.stderr
    can_overwrite = _is_terminal(stream)
    if stream is None or not (can_overwrite if progress is None else progress):
        yield _Nothing()
    elif can_overwrite or _is_notebook(stream):
        line = ProgressLine(stream)
        try:
            yield line
        finally:
            line.clear()
    else:
        yield PhaseLines(stream)


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
        self._phases = _Phases()

    def show(self, progress: Progress, before: str = "") -> None:
        """Replace the present text, unless one of the same phase was shown a moment ago."""
        now = time.monotonic()
        if not self._phases.is_new(progress) and now < self._next_time:
            return
        self._next_time = now + _SHORTEST_SECONDS
        # A line that wraps could not be overwritten.
        text = (before + describe(progress))[: _columns(self._stream) - 1 - len(_ECHO)]
        self._longest = max(self._longest, len(text))
        _write(self._stream, "\r" + text.ljust(self._longest))

    def clear(self) -> None:
        """Clear the line, and leave the cursor at its start."""
        _write(self._stream, "\r" + " " * (self._longest + len(_ECHO)) + "\r")
        self._longest = 0


class PhaseLines:
    """A line for each phase, for streams that keep what is written."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._phases = _Phases()

    def show(self, progress: Progress, before: str = "") -> None:
        """Write a line if the phase or the start is another than before."""
        if self._phases.is_new(progress):
            _write(self._stream, before + describe(progress) + "\n")


class _PhaseLog:
    """A record of the log at the level INFO for each phase."""

    def __init__(self) -> None:
        self._phases = _Phases()

    def show(self, progress: Progress) -> None:
        if self._phases.is_new(progress):
            logger.info(
                "K=%d, %s: %s", progress.K, progress.covariance, _DESCRIPTIONS[progress.phase]
            )


class _Nothing:
    """Show nothing."""

    def show(self, progress: Progress, before: str = "") -> None:
        pass


class _Phases:
    """Recall the phase that was seen last."""

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ()

    def is_new(self, progress: Progress) -> bool:
        """Return whether the phase, or its start, is another than that of the last call."""
        key = (progress.K, progress.covariance, progress.phase, progress.start)
        found = key != self._last
        self._last = key
        return found


def log_run(problem: Problem, start: int, starts: int, run: RunResult) -> None:
    """Write how a run ended to the log, with its elbo in the units of X."""
    logger.info(
        "K=%d, %s: run %d of %d, %s after %s steps, elbo %s",
        problem.model.K,
        problem.model.covariance,
        start,
        starts,
        run.status.name,
        f"{len(run.elbos):,}",
        f"{run.elbo - problem.data.log_det_jacobian:,.2f}",
    )


def describe(progress: Progress) -> str:
    """Return the text of a line."""
    text = f"run {progress.start} of {progress.starts}, " if progress.starts > 1 else ""
    if not progress.steps:
        return f"{text}{_DESCRIPTIONS[progress.phase]} ..."
    if progress.phase == "passes":
        text += "all rows, "
    text += f"step {progress.steps:,} of at most {progress.max_steps:,}, elbo {progress.elbo:,.2f}"
    if progress.drift < float("inf"):
        text += f", still moving {progress.drift:.2f} sd"
    return text


def _write(stream: TextIO, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
        stream.write(text)
        stream.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def _is_notebook(stream: TextIO) -> bool:
    """Return whether a stream is that of a Jupyter kernel, which obeys carriage returns."""
    return type(stream).__module__.startswith("ipykernel.")


def _columns(stream: TextIO) -> int:
    try:
        # 0 where the terminal does not report its width
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80
