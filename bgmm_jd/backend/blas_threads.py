"""One thread for NumPy's and SciPy's linear algebra, while the library computes with it."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_calls = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread of the process until all calls have left.

    The products of a fit in NumPy are small, and gain nothing from several threads; the work on all
    rows is TensorFlow's. Where another program has one of the cores, each product waits for the
    thread there: OpenBLAS then made a fit of 272 rows eighteen times slower. The setting belongs to
    the process, so that calls in several threads share it, and the last one restores it.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


@functools.cache
def _libraries() -> ThreadpoolController:
    """Look for the loaded libraries once, which takes a millisecond: NumPy's and SciPy's are."""
    return ThreadpoolController()


def _enter() -> None:
    global _calls, _limit
    with _lock:
        if _calls == 0:
            _limit = _libraries().limit(limits=1, user_api="blas")
        _calls += 1


def _leave() -> None:
    global _calls, _limit
    with _lock:
        _calls -= 1
        if _calls == 0:
            _limit.restore_original_limits()
            _limit = None
