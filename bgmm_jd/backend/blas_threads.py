"""One thread for NumPy's and SciPy's linear algebra, while the library computes with it."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import threadpoolctl

_lock = threading.Lock()
_calls = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread of the process until all calls have left.

    The products of a fit in NumPy are small, and gain nothing from several threads; the work on all
    rows is TensorFlow's. Where another program has one of the cores, each product waits for the
    thread there: OpenBLAS then made a fit of 272 rows eighteen times slower. The setting belongs to
    the process, so that calls in several threads share it, and the last one restores it: a result
    does not depend on which of them ends first.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _calls, _limit
    with _lock:
        if _calls == 0:
            _release_control()
            _limit = _libraries().limit(limits=1, user_api="blas")
        _calls += 1


def _leave() -> None:
    global _calls, _limit
    with _lock:
        _calls -= 1
        if _calls == 0:
            _release_control()
            _limit.restore_original_limits()
            _limit = None
            _release_control()


@functools.cache
def _libraries() -> Any:
    """Look for the loaded libraries once, which takes a millisecond: NumPy's and SciPy's are."""
    return threadpoolctl.ThreadpoolController()


def _release_control() -> None:
    """Let any thread set the number: from 3.8 on, only the one that has set it before can."""
    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
