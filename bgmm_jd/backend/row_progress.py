"""How many rows of a source have been dealt with, on standard error."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_SECONDS_BETWEEN = 10.0  # two lines of a stream that keeps what is written; a terminal has one line


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
    begun = shown = time.perf_counter()
    rows = 0
    for more, item in items:
        rows += more
        now = time.perf_counter()
        if is_shown and (_is_terminal() or now - shown >= _SECONDS_BETWEEN):
            _write(_text(rows, total, now - begun))
            shown = now
        yield item
    if is_shown:
        _write(_text(rows, total, time.perf_counter() - begun), is_last=True)


def _text(rows: int, total: int | None, seconds: float) -> str:
    of_all = "" if total is None else f" of {total:,}"
    return f"{rows:,}{of_all} rows, {seconds:,.0f} s"


def _write(text: str, is_last: bool = False) -> None:
    """Write a line, on a terminal over the one before."""
    over = _is_terminal()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
        sys.stderr.write(f"\r{text}" if over else f"{text}\n")
        if over and is_last:
            sys.stderr.write("\n")
        sys.stderr.flush()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (OSError, ValueError, AttributeError):
        return False
