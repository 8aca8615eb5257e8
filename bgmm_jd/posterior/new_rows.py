"""New rows that predictions are made for: in memory, or from a source in blocks."""

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from bgmm_jd.backend.row_progress import with_progress
from bgmm_jd.data.source import Source
from bgmm_jd.data.validation import as_missing_flag, check_finite
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.sources.chunks import Chunk
from bgmm_jd.sources.executors import check_executor
from bgmm_jd.sources.reader import Reader, Statistic

_BLOCK_ROWS = 2**16
_AHEAD = 2
# Of results that wait for those before them, where an executor makes them: 256 MiB of float32.
_WAITING_NUMBERS = 2**26
_FEWEST_WAITING, _MOST_WAITING = 4, 256  # tasks


class NewRows(NamedTuple):
    """Consecutive rows [n, D] in the dtype of the fit, and the number of the first in X."""

    values: np.ndarray
    first: int


RowFunction = Callable[[NewRows], np.ndarray]


def results_of_source(
    posterior: Posterior,
    source: Source,
    of_rows: RowFunction,
    *,
    numbers_per_row: int,
    missing: bool | None = None,
    size: int = _BLOCK_ROWS,
    executor: Executor | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]:
    """Return what a function makes of the rows of a source, block by block.

    The source has passed `check_source`.

    Parameters
    ----------
    of_rows : of the rows of a block. It is pickled where an executor calls it.
    numbers_per_row : of its result, by which as many tasks are under way as their results may be
        in memory.
    missing : bool, optional
        Whether NaN is a missing entry; by default as in the fit.
    size : int
        The number of rows of each block but the last.
    executor : computes the blocks; None for the present process.
    progress : whether to show how many rows have been dealt with.

    Raises
    ------
    ValueError
        If rows are not finite, when they are read.
    TimeoutError
        If the executor has no result within `SourceSettings.patience`.
    """
    if missing is None:
        missing = as_missing_flag(posterior.missing)
    prepare = functools.partial(
        _as_checked_rows, missing=missing, names=source.names, dtype=posterior.dtype
    )
    waiting = _WAITING_NUMBERS // (size * numbers_per_row)
    reader = Reader(
        source=source,
        chunk_rows=size,
        chunks_per_part=1,
        ahead=_AHEAD,
        executor=executor,
        waiting=min(max(waiting, _FEWEST_WAITING), _MOST_WAITING),
        patience=posterior.problem.settings.sources.patience,
    )
    found = reader.results(Statistic(prepare, functools.partial(_result_of_block, of_rows=of_rows)))
    return with_progress(found, source.count, is_shown=progress)


def check_source(posterior: Posterior, source: Source, executor: Executor | None) -> None:
    """Raise if a source has other columns than the fit, or the executor cannot read it."""
    names = posterior.feature_names
    if source.features != posterior.D or (
        None not in (names, source.names) and source.names != names
    ):
        columns = f"{posterior.D} columns" if names is None else f"the columns {list(names)}"
        found = source.features if source.names is None else list(source.names)
        raise ValueError(
            f"X must have {columns}, in the order of the fit; got a source of {found}. Choose them "
            "by bgmm_jd.table(where, columns=...)."
        )
    check_executor(executor, source)


def _as_checked_rows(
    chunk: Chunk, *, missing: bool, names: tuple[str, ...] | None, dtype: np.dtype
) -> NewRows:
    """Return the rows of a chunk in the dtype of the fit, or raise if they are not finite."""
    check_finite(chunk.values, missing, "X", names, first=chunk.first)
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported as infinity
        values = chunk.values.astype(dtype, copy=False)
    if values is not chunk.values:
        check_finite(values, missing, "X", names, first=chunk.first)
    return NewRows(values, chunk.first)


def _result_of_block(blocks: Iterable[NewRows], *, of_rows: RowFunction) -> tuple[int, np.ndarray]:
    """Return the number of rows of the only block of a part, and what the function makes of it."""
    rows = next(iter(blocks))  # and no further, which would wait for the block after it
    return len(rows.values), of_rows(rows)
