"""What a source of rows is: something that begins a new pass over them whenever it is asked to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """Consecutive rows of a source, in the units of X.

    values [n, D] : in the dtype of the source; NaN where an entry is missing.
    weight [n] : float64; None if the source has no weights.
    """

    values: np.ndarray
    weight: np.ndarray | None


@dataclass(frozen=True)
class Layout:
    """What is known of the rows of a source before they are read.

    features : D, the number of columns.
    dtype : float32 or float64, that of the fit.
    names [D] : of the columns, if they have any.
    is_weighted : whether the rows have weights.
    count : N, the number of rows; None where only a pass can tell.
    """

    features: int
    dtype: np.dtype
    names: tuple[str, ...] | None = None
    is_weighted: bool = False
    count: int | None = None


class Source(ABC):
    """Rows that are read some at a time, as often as needed, always in the same order."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Return what is known of the rows before they are read."""

    @property
    def features(self) -> int:
        """Return D, the number of columns."""
        return self.layout.features

    @property
    def dtype(self) -> np.dtype:
        """Return float32 or float64, the dtype of the fit."""
        return self.layout.dtype

    @property
    def names(self) -> tuple[str, ...] | None:
        """Return the names of the columns; None if they have none."""
        return self.layout.names

    @property
    def is_weighted(self) -> bool:
        """Return whether the rows have weights."""
        return self.layout.is_weighted

    @property
    def count(self) -> int | None:
        """Return N, the number of rows; None where only a pass can tell."""
        return self.layout.count

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Begin a new pass, and yield all rows in order, in blocks of any sizes."""

    @abstractmethod
    def part(self, first: int, last: int) -> Source:
        """Return the source of the rows `first` to `last` (excluded), which may be pickled.

        Raises
        ------
        ValueError
            If the rows can only be read from the first on.
        """

    def __repr__(self) -> str:
        rows = "rows" if self.count is None else f"{self.count:,} rows"
        return f"<{type(self).__name__}: {rows} of {self.features} columns, {self.dtype}>"
