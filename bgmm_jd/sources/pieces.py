"""Rows of a data set that comes in pieces, such as the row groups of parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from bgmm_jd.data.frames import frame_values
from bgmm_jd.data.source import Block, Layout, Source
from bgmm_jd.sources.columns import columns_of_block

_BATCH_ROWS, _BATCH_NUMBERS = 2**17, 2**24


class Piece(Protocol):
    """Some consecutive rows of a data set, which may be pickled."""

    count: int

    def frames(self, columns: tuple[str, ...]) -> Iterator[Any]:
        """Yield the rows in order, as data frames or arrays of these columns."""


@dataclass(frozen=True)
class Fragment:
    """A piece of a `pyarrow.dataset.Dataset`: one row group of a parquet file, or a whole file."""

    fragment: Any
    schema: Any
    count: int

    def frames(self, columns: tuple[str, ...]) -> Iterator[Any]:
        """Yield the rows in order, as tables."""
        import pyarrow as pa

        size = max(1, min(_BATCH_ROWS, _BATCH_NUMBERS // len(columns)))
        found = self.fragment.to_batches(
            schema=self.schema, columns=list(columns), batch_size=size, batch_readahead=1
        )
        for batch in found:
            yield pa.Table.from_batches([batch])


@dataclass(frozen=True)
class Partition:
    """A piece of a Dask collection: what computes a partition of a data frame, or some of an array.

    It is computed where it is read, in one thread.
    """

    delayed: Any
    count: int

    def frames(self, columns: tuple[str, ...]) -> Iterator[Any]:
        """Yield the rows at once."""
        found = self.delayed.compute(scheduler="synchronous")
        yield found if isinstance(found, np.ndarray) else found[list(columns)]


@dataclass(frozen=True, kw_only=True, repr=False)
class PieceRows(Source):
    """Rows of pieces, one after the other.

    Attributes
    ----------
    pieces : tuple of Piece
    columns : tuple of str
        The names of the features in the pieces; for arrays, their numbers as strings.
    weight : str or None
        The name of the column of row weights.
    type : str
        The dtype of the fit.
    first, last : int
        The rows that are read, counted from the first of the pieces; the last is excluded.
    has_names : bool
        Whether columns have names, or are those of an array.
    """

    pieces: tuple[Piece, ...]
    columns: tuple[str, ...]
    weight: str | None
    type: str
    first: int
    last: int
    has_names: bool = True

    @property
    def layout(self) -> Layout:
        """Return what the pieces say of the rows."""
        return Layout(
            features=len(self.columns),
            dtype=np.dtype(self.type),
            names=self.columns if self.has_names else None,
            is_weighted=self.weight is not None,
            count=self.last - self.first,
        )

    def blocks(self) -> Iterator[Block]:
        """Read the rows in order."""
        position = 0
        for piece in self.pieces:
            if position >= self.last:
                return
            if position + piece.count > self.first:
                yield from self._blocks_of(piece, position)
            position += piece.count

    def _blocks_of(self, piece: Piece, position: int) -> Iterator[Block]:
        """Read the rows of a piece, whose first is row `position`, that are asked for."""
        for frame in piece.frames(self._read):
            first, last = max(self.first - position, 0), min(self.last - position, len(frame))
            position += len(frame)
            if first < last:
                values, weight = self._as_block(frame)
                yield Block(values[first:last], None if weight is None else weight[first:last])

    @property
    def _read(self) -> tuple[str, ...]:
        """Return all columns that are read."""
        return self.columns if self.weight is None else (*self.columns, self.weight)

    def _as_block(self, frame: Any) -> Block:
        read = self._read
        values = frame if isinstance(frame, np.ndarray) else frame_values(frame, "X", read)
        if self.has_names:
            numbers = tuple(range(self.features))
            weight = None if self.weight is None else read.index(self.weight)
        else:
            numbers = tuple(map(int, self.columns))
            weight = None if self.weight is None else int(self.weight)
        return columns_of_block(values, numbers, weight, self.dtype)

    def part(self, first: int, last: int) -> PieceRows:
        """Return the source of some of the rows, with the pieces that have them."""
        ends = np.cumsum([piece.count for piece in self.pieces])
        first, last = self.first + first, min(self.first + last, self.last)
        begin = int(np.searchsorted(ends, first, side="right"))
        stop = int(np.searchsorted(ends, last, side="left")) + 1
        before = int(ends[begin - 1]) if begin else 0
        return replace(
            self, pieces=self.pieces[begin:stop], first=first - before, last=last - before
        )
