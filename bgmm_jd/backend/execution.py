"""How a function is run: under XLA, as a graph, or op by op."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from bgmm_jd.backend import compilation_cache
from bgmm_jd.backend.startup_log import filter_startup_log

EXECUTIONS = ("xla", "graph", "eager")
_EAGER_LOCK = threading.RLock()


def compiled(function: Callable[..., Any], execution: str) -> Callable[..., Any]:
    """The function as a compiled one; traced once per shape of its arguments."""
    if execution == "eager":
        return _run_eagerly(function)
    program = tf.function(
        with_own_identity(function), jit_compile=execution == "xla", autograph=False
    )
    return (
        _quiet_at_first_call(program)
        if execution == "xla" and compilation_cache.is_enabled()
        else program
    )


def with_own_identity(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, for TensorFlow to know it from others made by the same lines.

    It counts how often those lines are traced, and warns of careless retracing where there are
    programs for many models.
    """
    return functools.partial(function)


def _quiet_at_first_call(program: Callable[..., Any]) -> Callable[..., Any]:
    """The same without a line on the screen at its first call.

    A program that comes from the disk is read with a warning, an empty one: it was compiled for
    "features", such as a preference for no scatter, that no processor lists.
    """
    called = False

    def run(*arguments: Any) -> Any:
        nonlocal called
        if called:
            return program(*arguments)
        called = True
        with filter_startup_log():
            return program(*arguments)

    return run


def _run_eagerly(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        with _functions_run_eagerly():
            return function(*arguments)

    return run


@contextmanager
def _functions_run_eagerly() -> Iterator[None]:
    """TensorFlow functions inside run as Python too, such as the step in TFP's loop.

    That is told to the whole process, and so by one thread at a time.
    """
    with _EAGER_LOCK:
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(before)


def map_chunks(function: Callable[[Any], Any], points: np.ndarray, size: int) -> np.ndarray:
    """Call on `size` points [size, P] at a time, so that one shape is compiled.

    The last chunk is filled up with points that came before.
    """
    count = len(points)
    chunks = -(-count // size)
    padded = np.resize(points, (chunks * size, points.shape[1]))
    parts = [function(tf.constant(part)).numpy() for part in np.split(padded, chunks)]
    return np.concatenate(parts)[:count]


def cached_per_prior(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Answer once for each prior, or model of one; again where it has variables, which may change.

    Parameters
    ----------
    function : of something hashable that has `variables`.
    """
    known = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def answer(subject: Any) -> Any:
        return function(subject) if _has_variables(subject) else known(subject)

    return answer


@functools.lru_cache(maxsize=64)
def _has_variables(subject: Any) -> bool:
    """Looked for once: TensorFlow searches all attributes."""
    return bool(subject.variables)
