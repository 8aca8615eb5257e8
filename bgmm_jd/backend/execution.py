"""Ways to run a function: compiled by XLA, as a graph, or eagerly."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from bgmm_jd.backend import compilation_cache
from bgmm_jd.backend.interrupts import interrupts_after
from bgmm_jd.backend.startup_log import filter_startup_log

Execution = Literal["xla", "graph", "eager"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
_EAGER_LOCK = threading.RLock()


def compiled(
    function: Callable[..., Any], execution: str, any_shape: bool = False
) -> Callable[..., Any]:
    """Return the function compiled for a mode of execution, one of `EXECUTIONS`.

    Under XLA and as a graph, it is traced once per shape and dtype of its arguments; with
    `any_shape`, for the graph mode only, at most twice for all shapes. Ctrl-C in a call of it is
    raised when the call ends.
    """
    if execution == "eager":
        return interrupts_after()(_run_eagerly(function))
    program = unrecorded(
        tf.function(
            with_own_identity(function),
            jit_compile=execution == "xla",
            autograph=False,
            reduce_retracing=any_shape,
        )
    )
    if execution == "xla" and compilation_cache.is_enabled():
        program = _quiet_at_first_call(program)
    return interrupts_after()(program)


def unrecorded(program: Any) -> Callable[..., Any]:
    """Hide a `tf.function` from the gradient tapes around its calls.

    A tape of the caller's would record the program because it reads variables. TensorFlow would
    then build its gradient too, which takes long, and which XLA cannot compile. The program is
    traced beforehand, because no tape records while others are stopped, not even its own.
    """

    def run(*arguments: Any) -> Any:
        # Whether there is a tape is told by no public function.
        if not record.could_possibly_record() or tf.config.functions_run_eagerly():
            return program(*arguments)
        program.get_concrete_function(*arguments)
        with tf.init_scope():
            return program(*arguments)

    run.get_concrete_function = program.get_concrete_function  # type: ignore[attr-defined]
    return run


def with_own_identity(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that TensorFlow treats it as different from others of the same source.

    TensorFlow counts traces per code object, and would warn of retracing when programs for many
    models are made by the same lines. A fresh partial has no code object.
    """
    return functools.partial(function)


def _quiet_at_first_call(program: Callable[..., Any]) -> Callable[..., Any]:
    """Suppress the log lines of a program's first call.

    XLA logs a harmless warning when it loads a program from disk: the program was compiled for
    pseudo-features, such as a preference for no scatter instructions, that no processor lists.
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
    """Run inner `tf.function`s eagerly too, such as the step in TFP's loop.

    `run_functions_eagerly` is process-wide, hence the lock.
    """
    with _EAGER_LOCK:
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(before)


def map_chunks(function: Callable[[Any], Any], points: np.ndarray, size: int) -> np.ndarray:
    """Apply a function to points [S, P] in chunks [size, P], and join the results [N, ...].

    All chunks have one shape, so that the function is compiled once: the last one is padded with
    the first points, whose results are dropped.
    """
    count = len(points)
    chunks = -(-count // size)
    padded = np.resize(points, (chunks * size, points.shape[1]))
    parts = [function(tf.constant(part)).numpy() for part in np.split(padded, chunks)]
    return np.concatenate(parts)[:count]
