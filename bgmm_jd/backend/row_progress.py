"""How many rows of a source have been dealt with, on standard error: a bar, or lines."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from bgmm_jd.backend.progress_bars import TolerantStream, bars_on

Item = TypeVar("Item")

SECONDS_BETWEEN = 10.0  # lines of a stream that keeps what is written


def with_progress(
    items: Iterable[tuple[int, Item]], total: int | None, *, is_shown: bool
) -> Iterator[Item]:
    """Yield items, and show of how many rows they are.

    Parameters
    ----------
    items : pairs of a number of rows and what is made of them.
    total : number of rows of all; None where it is not known.
    is_shown : whether anything is written.
    """
    rows = 0
    with _display(total, is_shown) as show:
        for more, item in items:
            rows += more
            show(rows)
            yield item


@contextmanager
def _display(total: int | None, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield the function to call with the number of rows that have been dealt with."""
    stream = sys.stderr
    if stream is None or not is_shown:
        yield lambda rows: None
        return
    with bars_on(stream) as bars:
        if bars is not None:
            yield _Bar(bars, total).show
            return
    lines = _Lines(stream, total)
    yield lines.show
    lines.write()


class _Bar:
    """A bar whose length is the share of the rows, where their number is known."""

    def __init__(self, bars: Any, total: int | None):
        self._bars, self._total = bars, total
        self._task = bars.add_task("", total=total)

    def show(self, rows: int) -> None:
        self._bars.update(self._task, completed=rows, description=_text(rows, self._total))


class _Lines:
    """A line every few seconds, and one at the end."""

    def __init__(self, stream: TextIO, total: int | None):
        self._stream, self._total, self._rows = TolerantStream(stream), total, 0
        self._begun = self._shown = time.perf_counter()

    def show(self, rows: int) -> None:
        self._rows = rows
        if time.perf_counter() - self._shown >= SECONDS_BETWEEN:
            self.write()

    def write(self) -> None:
        self._shown = time.perf_counter()
        seconds = self._shown - self._begun
        self._stream.write(f"{_text(self._rows, self._total)}, {seconds:,.0f} s\n")
        self._stream.flush()


def _text(rows: int, total: int | None) -> str:
    return f"{rows:,} rows" if total is None else f"{rows:,} of {total:,} rows"
