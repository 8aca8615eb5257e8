"""The state of the process around a call: what is refused, and what a call is shielded from."""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from bgmm_jd.backend.blas_threads import one_blas_thread
from bgmm_jd.backend.compilation_cache import tensorflow_has_started

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Item = TypeVar("Item")

# The `stacklevel` by which a function that is decorated here warns its caller: 1 is the function
# itself, and 2 the decorator.
CALLER = 3

_forked_from_tensorflow = threading.Event()


def runs_tensorflow(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a public function that runs TensorFlow.

    Each call first checks the process, by `check_process`, and runs as by `with_numpy_defaults`.
    """
    return _guarded(function, check_process)


def with_numpy_defaults(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a function with NumPy's default error state and one BLAS thread.

    So is the iterator that it returns, if it does. A caller's `np.seterr(all="raise")` would take
    an intended underflow for an error; `one_blas_thread` says why BLAS has one.
    """
    return _guarded(function, lambda: None)


def _guarded(
    function: Callable[Parameters, Result], check: Callable[[], None]
) -> Callable[Parameters, Result]:
    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        check()
        with one_blas_thread(), _numpy_defaults():
            return _shielded(function(*args, **kwargs))

    return call


def _numpy_defaults() -> np.errstate:
    # Densities far from a component underflow to zero, as they should.
    return np.errstate(divide="warn", over="warn", invalid="warn", under="ignore")


def _shielded(found: Result) -> Result:
    return _each_with_numpy_defaults(found) if isinstance(found, Iterator) else found  # type: ignore[return-value]


def _each_with_numpy_defaults(items: Iterator[Item]) -> Iterator[Item]:
    while True:
        with one_blas_thread(), _numpy_defaults():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def check_process() -> None:
    """Raise where TensorFlow would wait for ever, or fail deep inside.

    Raises
    ------
    RuntimeError
        In a process that was forked from one in which TensorFlow runs; while a `tf.function` is
        traced; or where TensorFlow calls back for each operation.
    """
    if _forked_from_tensorflow.is_set():
        raise RuntimeError(
            "this process was forked from one in which TensorFlow runs, without TensorFlow's "
            "threads, for which it would wait for ever. Start processes by "
            "multiprocessing.get_context('spawn') or 'forkserver', or by joblib's default backend; "
            "or fork before the first prior or fit is made."
        )
    if not tf.executing_eagerly():
        raise RuntimeError(
            "bgmm_jd runs compiled programs of its own and cannot be traced; it was called inside "
            "of a tf.function, of Dataset.map or of a tf.Graph. Call it outside, and pass on what "
            "it returns."
        )
    if context.context().op_callbacks:  # in no public function
        raise RuntimeError(
            "XLA cannot compile programs in which TensorFlow looks at each operation, as after "
            "tf.debugging.enable_check_numerics(). Call tf.debugging.disable_check_numerics() "
            "first. A fit finds numerical trouble by itself, and reports it as its status."
        )


def _note_fork() -> None:
    if tensorflow_has_started():
        _forked_from_tensorflow.set()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_note_fork)
