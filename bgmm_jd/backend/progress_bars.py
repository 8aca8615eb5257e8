"""Streams that progress is written to, and rich's bars on those that can show them.

A terminal, or a notebook that has ipywidgets, shows bars. Anything else, such as the log of a batch
job, keeps what is written and is better served by lines.
"""

import contextlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def bars_on(stream: TextIO) -> Iterator[Any]:
    """Yield a `rich.progress.Progress`, removed at the end; None where a stream shows no bars."""
    if not (is_terminal(stream) or _has_widgets(stream)):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    tolerant: Any = TolerantStream(stream)
    console = Console(file=tolerant, force_jupyter=not is_terminal(stream))
    if console.is_dumb_terminal:  # it cannot go back on a line
        yield None
        return
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    columns = (BarColumn(bar_width=12), TimeElapsedColumn(), text)
    # Standard output and error stay as they are: fits in other threads may end in any order.
    options: Any = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
    with Progress(*columns, console=console, **options) as bars:
        yield bars


class TolerantStream:
    """A stream without the errors of one that has been closed, or whose reader has gone.

    What is under way must not end because of them.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, as far as that is possible."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, as far as that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is an open terminal."""
        return is_terminal(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is an open terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError, AttributeError):  # some have no such method
        return False


def _has_widgets(stream: TextIO) -> bool:
    """Return whether a stream is that of a Jupyter kernel with what rich shows a bar with."""
    is_notebook = type(stream).__module__.startswith("ipykernel.")
    return is_notebook and importlib.util.find_spec("ipywidgets") is not None
