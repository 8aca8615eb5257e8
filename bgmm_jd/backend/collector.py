"""Python's garbage collector, at rest while much is made and nothing thrown away."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Switch the garbage collector off, and on again if it was on.

    The import of TensorFlow and TensorFlow Probability makes very many objects, all of which stay,
    and the collector looks through them again and again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
