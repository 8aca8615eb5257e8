"""Results, errors and warnings as lines for the terminal, without Python's own words.

A command does its work and writes its files though nobody reads what it prints: the streams may be
closed, or lead to a program that has ended, as in `bgmm-jd fit rows.csv -k 3 | head -1`.
"""

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from bgmm_jd.cli.table import BadInput


def say(text: str) -> None:
    """Print a line to standard error."""
    _print(f"bgmm_jd: {text}", sys.stderr)


def tell(text: str = "") -> None:
    """Print a line to standard output."""
    _print(text, sys.stdout)


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:  # there is none, and `print` would choose standard output for it
        return
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError):  # ValueError: the stream is closed
        discard_output(stream)


def discard_output(stream: TextIO) -> None:
    """Let a stream that cannot be written lead nowhere, so that Python's exit is quiet too."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_missing_streams() -> None:
    """Open what is missing of the descriptors 0, 1 and 2, as after `>&-` in a shell.

    The next file would otherwise get the number, and with it what TensorFlow writes to standard
    error.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


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
