"""What shows the progress of a fit on standard error: bars, or a line for each phase."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TextIO

from bgmm_jd.backend.progress_bars import TolerantStream, bars_on, is_terminal
from bgmm_jd.fitting.progress import DESCRIPTIONS, Phases, Progress, Reporter, logger


@dataclass(frozen=True)
class Place:
    """Which fit of a sweep is under way.

    name : what the fit is called.
    done, total : numbers of complete fits and of all.
    seconds : that the complete ones took.
    """

    name: str
    done: int
    total: int
    seconds: float

    def __str__(self) -> str:
        """Name the fit, and how long the rest takes if it is as fast as those before."""
        text = f"fit {self.done + 1} of {self.total}: {self.name}"
        if not self.done:
            return text
        left = self.seconds / self.done * (self.total - self.done)
        return f"{text}, about {left:,.0f} s left"


class Display(Protocol):
    """Something that shows progress."""

    def show(self, progress: Progress, place: Place | None = None) -> None:
        """Show the progress of a fit, which may be one of a sweep."""


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
    """Yield what shows progress on `sys.stderr`; bars are removed at the end.

    Parameters
    ----------
    progress : bool, optional
        Whether to show it; by default only on a terminal.
    """
    stream = sys.stderr
    if stream is None or not (is_terminal(stream) if progress is None else progress):
        yield _Nothing()
        return
    with bars_on(stream) as bars:
        yield PhaseLines(stream) if bars is None else BarDisplay(bars)


class BarDisplay:
    """A bar of rich's for the fit, below one for the sweep if there is one.

    That of the fit moves to and fro: when it will have converged is not known.
    """

    def __init__(self, bars: Any):
        self._bars = bars
        self._sweep: Any = None
        self._fit: Any = None
        self._place: Place | None = None

    def show(self, progress: Progress, place: Place | None = None) -> None:
        """Show the progress of a fit, and its place in the sweep."""
        if place is not None:
            self._show_place(place)
        if self._fit is None:
            self._fit = self._bars.add_task("", total=None)
        self._bars.update(self._fit, description=describe(progress))

    def _show_place(self, place: Place) -> None:
        if self._sweep is None:
            self._sweep = self._bars.add_task("", total=place.total)
        if place != self._place and self._fit is not None:
            self._bars.remove_task(self._fit)  # the next fit has a time of its own
            self._fit = None
        self._place = place
        self._bars.update(self._sweep, completed=place.done, description=str(place))


class PhaseLines:
    """A line for each phase, for streams that keep what is written."""

    def __init__(self, stream: TextIO):
        self._stream = TolerantStream(stream)
        self._phases = Phases()

    def show(self, progress: Progress, place: Place | None = None) -> None:
        """Write a line if the phase or the start is another than before."""
        if self._phases.is_new(progress):
            before = "" if place is None else f"{place}; "
            self._stream.write(before + describe(progress) + "\n")
            self._stream.flush()


class _Nothing:
    """Show nothing."""

    def show(self, progress: Progress, place: Place | None = None) -> None:
        pass


class _PhaseLog:
    """A record of the log at the level INFO for each phase."""

    def __init__(self) -> None:
        self._phases = Phases()

    def show(self, progress: Progress) -> None:
        if self._phases.is_new(progress):
            logger.info(
                "K=%d, %s: %s", progress.K, progress.covariance, DESCRIPTIONS[progress.phase]
            )


def describe(progress: Progress) -> str:
    """Return what a fit is doing, as a line."""
    text = f"run {progress.start} of {progress.starts}, " if progress.starts > 1 else ""
    if not progress.steps:
        return f"{text}{DESCRIPTIONS[progress.phase]} ..."
    if progress.phase == "passes":
        text += "all rows, "
    text += f"step {progress.steps:,} of at most {progress.max_steps:,}, elbo {progress.elbo:,.2f}"
    if progress.drift < float("inf"):
        text += f", still moving {progress.drift:.2f} sd"
    return text
