"""Rows of a .npy file or of a `np.memmap`, which are read and not mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bgmm_jd.data.source import Block, Layout, Source
from bgmm_jd.sources.columns import as_numbers, columns_of_block, dtype_of_rows

_BLOCK_NUMBERS = 2**20  # read at a time: 4 MiB of float32


@dataclass(frozen=True, kw_only=True, repr=False)
class RowFile(Source):
    """Consecutive rows of numbers in a file, row after row.

    Attributes
    ----------
    path : str
    offset : int
        Bytes before the first of all rows.
    stored : str
        The dtype of the numbers in the file.
    width : int
        Numbers of a row in the file.
    columns : tuple of int
        Those that are read, in order.
    weight : int or None
        The column of the row weights.
    first, last : int
        The rows that are read; the last is excluded.
    """

    path: str
    offset: int
    stored: str
    width: int
    columns: tuple[int, ...]
    weight: int | None
    first: int
    last: int

    @property
    def layout(self) -> Layout:
        """Return what the numbers in the file say of the rows."""
        return Layout(
            features=len(self.columns),
            dtype=dtype_of_rows(np.dtype(self.stored)),
            is_weighted=self.weight is not None,
            count=self.last - self.first,
        )

    def blocks(self) -> Iterator[Block]:
        """Read the rows in order.

        `read` into new arrays: the pages of a mapped file would count as memory of the process.
        """
        stored = np.dtype(self.stored)
        size = max(1, _BLOCK_NUMBERS // self.width)
        with open(self.path, "rb") as file:
            file.seek(self.offset + self.first * self.width * stored.itemsize)
            for start in range(self.first, self.last, size):
                rows = min(size, self.last - start)
                numbers = np.fromfile(file, stored, rows * self.width)
                if len(numbers) < rows * self.width:
                    raise ValueError(
                        f"{self.path} ends before its row {self.last - 1}. It was changed after "
                        "it was opened; open it again."
                    )
                block = numbers.reshape(rows, self.width)
                yield columns_of_block(block, self.columns, self.weight, self.dtype)

    def part(self, first: int, last: int) -> RowFile:
        """Return the source of some of the rows."""
        return replace(self, first=self.first + first, last=min(self.first + last, self.last))


@dataclass(frozen=True, kw_only=True, repr=False)
class ArrayRows(Source):
    """Rows of a mapped array that is no run of a file, such as some of its columns: views of it."""

    array: np.ndarray

    @property
    def layout(self) -> Layout:
        """Return what the array says of the rows."""
        count, features = self.array.shape
        return Layout(features=features, dtype=dtype_of_rows(self.array.dtype), count=count)

    def blocks(self) -> Iterator[Block]:
        """Read the rows in order."""
        size = max(1, _BLOCK_NUMBERS // self.features)
        everything = tuple(range(self.features))
        for start in range(0, len(self.array), size):
            block = self.array[start : start + size]
            yield columns_of_block(block, everything, None, self.dtype)

    def part(self, first: int, last: int) -> ArrayRows:
        """Return the source of some of the rows."""
        return ArrayRows(array=self.array[first:last])


def rows_of_npy(path: str | os.PathLike, columns: Sequence[Any] | None, weight: Any) -> Source:
    """Return the source of the rows of a .npy file [N, D].

    Parameters
    ----------
    columns, weight : as in `table`.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a whole .npy file of numbers ({error}). Write it again with "
            "numpy.save."
        ) from error
    if mapped.ndim != 2 or 0 in mapped.shape:
        raise ValueError(
            f"{os.fspath(path)} must hold rows [N, D]; got an array of shape {mapped.shape}."
        )
    dtype_of_rows(mapped.dtype)
    numbers, number = as_numbers(mapped.shape[1], columns, weight)
    if not mapped.flags.c_contiguous:
        if numbers == tuple(range(mapped.shape[1])):
            return ArrayRows(array=mapped)
        raise ValueError(
            f"{os.fspath(path)} is stored column after column (Fortran order), of which `table` "
            "takes all columns only. Save numpy.ascontiguousarray of it."
        )
    return _file_of(mapped, numbers, number)


def rows_of_memmap(array: np.memmap) -> Source:
    """Return the source of the rows of a mapped array [N, D], which is not copied."""
    dtype_of_rows(array.dtype)
    on_disk = array.filename is not None and array.mode != "c"  # "c": changes are in memory
    if on_disk and array.flags.c_contiguous:
        array.flush()
        return _file_of(array, tuple(range(array.shape[1])), None)
    return ArrayRows(array=array)


def _file_of(array: np.memmap, columns: tuple[int, ...], weight: int | None) -> RowFile:
    """Return where in its file a mapped array has its rows.

    The attribute `offset` of a view is that of the array it was made from.
    """
    whole = array
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    start = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return RowFile(
        path=str(Path(str(whole.filename)).resolve()),
        offset=whole.offset + start,
        stored=array.dtype.str,
        width=array.shape[1],
        columns=columns,
        weight=weight,
        first=0,
        last=len(array),
    )
