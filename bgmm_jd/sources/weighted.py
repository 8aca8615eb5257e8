"""Rows of a source with weights that are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bgmm_jd.data.source import Block, Layout, Source


class WeightedRows(Source):
    """A source of N rows without weights, and an array [N] of weights."""

    def __init__(self, source: Source, weight: np.ndarray):
        self._source, self._weight = source, weight

    @property
    def layout(self) -> Layout:
        """Return what is known of the rows."""
        return replace(self._source.layout, is_weighted=True, count=len(self._weight))

    def blocks(self) -> Iterator[Block]:
        """Read the rows in order."""
        first = 0
        for values, _ in self._source.blocks():
            yield Block(values, self._weight[first : first + len(values)])
            first += len(values)

    def part(self, first: int, last: int) -> WeightedRows:
        """Return the source of some of the rows."""
        return WeightedRows(self._source.part(first, last), self._weight[first:last])
