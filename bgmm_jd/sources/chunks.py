"""Rows in chunks of one size, however the source has cut them, and a thread that reads ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.data.source import Block, Source
from bgmm_jd.settings import SourceSettings
from bgmm_jd.sources.reading_threads import run_in_thread


class Chunk(NamedTuple):
    """Consecutive rows, all chunks but the last with the same number of them.

    first : the number of the first row in its source.
    values [n, D], weight [n] or None : as in `Block`.
    """

    first: int
    values: np.ndarray
    weight: np.ndarray | None


def rows_of_chunk(features: int, slices: int, sizes: SourceSettings) -> int:
    """Return the number of rows of a chunk: whole rounds of the slices.

    The slice of a row then does not depend on its chunk.
    """
    affordable = sizes.numbers_per_chunk // (slices * features)
    return slices * max(1, min(sizes.rows_per_slice, affordable))


def chunks_of(source: Source, size: int, first: int = 0) -> Iterator[Chunk]:
    """Begin a pass over a source, and yield its rows in chunks of `size`, in order.

    Parameters
    ----------
    first : the number that the first row is given.
    """
    held: list[Block] = []
    rows = 0
    for block in source.blocks():
        start = 0
        while rows + len(block.values) - start >= size:
            stop = start + size - rows
            held.append(_rows_of(block, start, stop))
            yield _joined(held, first)
            first, start, rows, held = first + size, stop, 0, []
        if start < len(block.values):
            held.append(_rows_of(block, start, len(block.values)))
            rows += len(block.values) - start
    if rows:
        yield _joined(held, first)


def _rows_of(block: Block, start: int, stop: int) -> Block:
    weight = None if block.weight is None else block.weight[start:stop]
    return Block(block.values[start:stop], weight)


def _joined(blocks: list[Block], first: int) -> Chunk:
    if len(blocks) == 1:
        return Chunk(first, *blocks[0])
    weights = [block.weight for block in blocks if block.weight is not None]
    values = np.concatenate([block.values for block in blocks])
    return Chunk(first, values, np.concatenate(weights) if weights else None)


def read_ahead(items: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Yield the items, which a thread makes beforehand: at most `ahead` of them wait.

    An exception of the thread is raised here. It reads no further when the reader has ended.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(entry: tuple[str, Any]) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for item in items:
                put(("item", item))
                if stopped.is_set():
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    ended = run_in_thread(read)
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        ended.wait()
