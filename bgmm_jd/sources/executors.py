"""Executors whose workers read the rows of a source."""

from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from bgmm_jd.data.source import Source


def check_executor(executor: Any, source: Source | None) -> None:
    """Raise unless there is no executor, or one that can read the rows of a source.

    Parameters
    ----------
    executor : the argument of a public function.
    source : what it shall read; None if the rows are in memory.

    Raises
    ------
    TypeError, ValueError
        If it is no executor or forks its processes, or if the source cannot be read in parts.
    """
    if executor is None:
        return
    if not isinstance(executor, Executor):
        raise TypeError(
            "executor must be a concurrent.futures.Executor, such as client.get_executor() of a "
            f"Dask client; got {type(executor).__name__}."
        )
    if source is None:
        raise ValueError(
            "executor reads the rows of a source, and X is in memory. Leave executor out, or pass "
            "bgmm_jd.table(path)."
        )
    if _forks(executor):
        raise ValueError(
            "executor must start its processes anew: one that is forked from a process in which "
            "TensorFlow runs may wait for ever. Make it by ProcessPoolExecutor(..., "
            "mp_context=multiprocessing.get_context('spawn'))."
        )
    source.part(0, 1)  # raises where workers cannot read parts of their own


def _forks(executor: Executor) -> bool:
    """Return whether an executor forks its processes, as process pools may by default."""
    if not isinstance(executor, ProcessPoolExecutor):
        return False
    context = getattr(executor, "_mp_context", None)  # in no public attribute
    return context is not None and context.get_start_method() == "fork"
