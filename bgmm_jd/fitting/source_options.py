"""Options of a fit that its rows do not allow, because they are not in memory, or are."""

from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from bgmm_jd.data.source import Source
from bgmm_jd.fitting.given_rows import GivenRows
from bgmm_jd.fitting.initial_values import Init, Memberships


def check_executor(executor: Any, source: Source | None) -> None:
    """Raise unless there is no executor, or one that can read the rows of a source."""
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


def check_options_of_source(batch_size: Any, finish: str) -> None:
    """Raise for options that need all rows in memory."""
    if batch_size != "auto":
        raise ValueError(
            f"batch_size must be 'auto' for rows that are read from a source; got {batch_size!r}. "
            "Leave it out, or fit an array in memory, such as bgmm_jd.sample_rows(source, n)."
        )
    if finish == "hmc":
        raise ValueError(
            "finish='hmc' needs all rows in memory, and X is a source. Leave it out, or fit an "
            "array, such as bgmm_jd.sample_rows(source, n)."
        )


def check_init_of_source(init: Init | None, rows: GivenRows) -> None:
    """Raise for labels or probabilities of rows that are not all in memory."""
    if isinstance(init, Memberships) and not rows.are_in_memory:
        raise ValueError(
            "init must be means [K, D] or a posterior for rows that are read from a source; got a "
            "label or probabilities for each row."
        )
