"""A line of progress on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Report(NamedTuple):
    """Where a fit stands: steps taken and their limit, the block's elbo (nats), and the drift
    (posterior sds between the halves of the iterates)."""

    steps: int
    limit: int
    elbo: float
    drift: float


@contextmanager
def reporter(progress: bool | None) -> Iterator[Callable[[Report], None]]:
    """What to call with each report; the line is cleared at the end, also on an interrupt."""
    stream = sys.stderr
    show = progress if progress is not None else bool(stream and stream.isatty())
    if not show:
        yield lambda report: None
        return
    stream.write("\rcompiling ...")
    stream.flush()
    try:
        yield lambda report: _write(stream, report)
    finally:
        stream.write("\r\x1b[K")
        stream.flush()


def _write(stream, report: Report) -> None:
    stream.write(
        f"\r\x1b[Kstep {report.steps:,} of at most {report.limit:,}: elbo {report.elbo:,.2f}, "
        f"still moving {report.drift:.2f} posterior sds"
    )
    stream.flush()
