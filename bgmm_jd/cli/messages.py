"""Errors and warnings as lines for the terminal, without Python's own words."""

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bgmm_jd.cli.table import BadInput


def say(text: str) -> None:
    """Print a line to standard error."""
    print(f"bgmm_jd: {text}", file=sys.stderr, flush=True)


@contextmanager
def errors_of_input() -> Iterator[None]:
    """Take an error that this library raises for one of the input; any other is a defect."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if not _was_raised_by_library(error):
            raise
        raise BadInput(str(error)) from None


def _was_raised_by_library(error: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("bgmm_jd.")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings by their text alone, and nothing of where in the code they are issued."""

    def show(message: Any, *arguments: Any, **options: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
