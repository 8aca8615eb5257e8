"""One pass over a source: a function of the chunks of each part, whoever computes it.

A part has a fixed number of chunks, and results come in the order of the parts. They are therefore
the same, bit for bit, for every cut of the rows into files and for any number of workers, which may
die and have their parts done again.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from bgmm_jd.backend.blas_threads import one_blas_thread
from bgmm_jd.backend.free_memory import return_free_memory
from bgmm_jd.data.source import Source
from bgmm_jd.sources.chunks import Chunk, chunks_of, read_ahead


class Statistic(NamedTuple):
    """What is computed of a part: pure functions that can be pickled.

    prepare : of a chunk; called by the thread that reads ahead.
    reduce : of what `prepare` has made of the chunks of a part, in order.
    """

    prepare: Callable[[Chunk], Any]
    reduce: Callable[[Iterable[Any]], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """How a source is read.

    Attributes
    ----------
    source : Source
    chunk_rows : int
        Rows of a chunk.
    chunks_per_part : int
    ahead : int
        Chunks that wait for the arithmetic.
    executor : concurrent.futures.Executor, optional
        Computes the parts; without it, the present process does.
    count : int, optional
        The number of rows that a pass must have; None where it is not known yet.
    waiting : int, optional
        Tasks of the executor that are under way at a time, beside the one whose result is next;
        None for all of a pass.
    patience : float
        Seconds to wait for the next result of the executor.
    """

    source: Source
    chunk_rows: int
    chunks_per_part: int
    ahead: int
    executor: Executor | None = None
    count: int | None = None
    waiting: int | None = None
    patience: float = math.inf

    def results(self, statistic: Statistic) -> Iterator[Any]:
        """Yield the statistic of each part, in order.

        Raises
        ------
        ValueError
            If the source has another number of rows than before.
        TimeoutError
            If the executor has no result within `patience`.
        """
        if self.executor is not None:
            yield from self._from_executor(self.executor, statistic)
            return
        chunks = _counted(chunks_of(self.source, self.chunk_rows), "source", self.count)
        prepared = (
            (number // self.chunks_per_part, statistic.prepare(chunk))
            for number, chunk in enumerate(chunks)
        )
        by_part = itertools.groupby(read_ahead(prepared, self.ahead), key=lambda pair: pair[0])
        for _, pairs in by_part:
            yield _reduced(statistic, (item for _, item in pairs))

    def _from_executor(self, executor: Executor, statistic: Statistic) -> Iterator[Any]:
        """Yield the results of tasks, of which `waiting` are submitted beforehand."""
        count = self.source.count
        if count is None:
            self.source.part(0, 1)  # raises: its parts cannot be read
            raise ValueError("executor needs a source whose number of rows is known.")
        _check_count(count, "source", self.count)
        size = self.chunk_rows * self.chunks_per_part

        def submitted(first: int) -> Future:
            part = self.source.part(first, min(first + size, count))
            arguments = statistic, part, first, self.chunk_rows, self.ahead
            return executor.submit(statistic_of_part, *arguments)

        tasks = map(submitted, range(0, count, size))
        futures: deque[Future] = deque()
        try:
            futures.extend(itertools.islice(tasks, self.waiting))
            while futures:
                futures.extend(itertools.islice(tasks, 1))
                yield self._waited_for(futures.popleft())  # and let go of the result
        finally:
            for future in futures:
                future.cancel()

    def _waited_for(self, future: Future) -> Any:
        try:
            return future.result(self.patience if math.isfinite(self.patience) else None)
        except TimeoutError:
            if future.done():  # an error of the task itself
                raise
            future.cancel()
        raise TimeoutError(
            f"The executor has had no result for {self.patience:.0f} s. Look whether its workers "
            "are alive and can read the rows; where a part of them does take so long, wait longer: "
            "fit(..., settings=Settings(sources=SourceSettings(patience=...)))."
        )


@one_blas_thread()
def statistic_of_part(
    statistic: Statistic, part: Source, first: int, chunk_rows: int, ahead: int
) -> Any:
    """Return the statistic of one part: the task of an executor, which may run it twice.

    With one BLAS thread, as in the process of the fit: sums of products differ in the last bits by
    the number of threads.

    Parameters
    ----------
    part : the source of its rows.
    first : the number of its first row.

    Raises
    ------
    ValueError
        If the part has another number of rows than it says.
    """
    what = f"part of the source from row {first} on"
    chunks = _counted(chunks_of(part, chunk_rows, first), what, part.count)
    return _reduced(statistic, read_ahead(map(statistic.prepare, chunks), ahead))


def _reduced(statistic: Statistic, prepared: Iterable[Any]) -> Any:
    found = statistic.reduce(prepared)
    return_free_memory()  # chunks are allocated by one thread and freed by another
    return found


def _counted(chunks: Iterable[Chunk], what: str, expected: int | None) -> Iterator[Chunk]:
    """Yield chunks, and raise after the last unless they have the expected number of rows."""
    rows = 0
    for chunk in chunks:
        rows += len(chunk.values)
        yield chunk
    _check_count(rows, what, expected)


def _check_count(rows: int, what: str, expected: int | None) -> None:
    if expected is not None and rows != expected:
        raise ValueError(
            f"The {what} had {expected} rows in the first pass, and {rows} in a later one. Every "
            "pass must have the same rows: do not change files during a fit."
        )
