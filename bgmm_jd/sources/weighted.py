"""Rows of a source with weights that are in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bgmm_jd.data.source import Block, Source


class WeightedRows(Source):
    """A source of N rows without weights, and an array [N] of weights."""

    is_weighted = True

    def __init__(self, source: Source, weight: np.ndarray):
        self._source, self._weight = source, weight
        self.features, self.dtype, self.names = source.features, source.dtype, source.names
        self.count = len(weight)

    def blocks(self) -> Iterator[Block]:
        """Read the rows in order."""
        first = 0
        for values, _ in self._source.blocks():
            yield Block(values, self._weight[first : first + len(values)])
            first += len(values)

    def part(self, first: int, last: int) -> WeightedRows:
        """Return the source of some of the rows."""
        return WeightedRows(self._source.part(first, last), self._weight[first:last])
