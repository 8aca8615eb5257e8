"""A sample of rows that does not depend on how they are read: those with the smallest hashes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class RowSample(NamedTuple):
    """Some rows of a source.

    key, number [n] : uint64 hash, and int64 number of each row.
    values [n, D], weight [n] or None : as in `Block`.
    """

    key: np.ndarray
    number: np.ndarray
    values: np.ndarray
    weight: np.ndarray | None

    def take(self, chosen: np.ndarray) -> RowSample:
        """Return some of these rows."""
        weight = None if self.weight is None else self.weight[chosen]
        return RowSample(self.key[chosen], self.number[chosen], self.values[chosen], weight)

    def smallest(self, most: int) -> RowSample:
        """Return the `most` rows with the smallest hashes, in any order; all if there are fewer."""
        if len(self.key) <= most:
            return self
        return self.take(np.argpartition(self.key, most - 1)[:most])

    def in_order(self) -> RowSample:
        """Return the rows in the order of the source."""
        return self.take(np.argsort(self.number))


def join(samples: list[RowSample]) -> RowSample:
    """Return the rows of several samples of different rows."""
    if len(samples) == 1:
        return samples[0]
    weights = [one.weight for one in samples if one.weight is not None]
    return RowSample(
        np.concatenate([one.key for one in samples]),
        np.concatenate([one.number for one in samples]),
        np.concatenate([one.values for one in samples]),
        np.concatenate(weights) if weights else None,
    )


def row_keys(number: np.ndarray, seed: int) -> np.ndarray:
    """Return a hash of each row number: distinct uint64 that look like random ones.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection, of seed and number.
    """
    with np.errstate(over="ignore"):
        start = _mixed(np.array([seed % 2**64], np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        return _mixed(start + number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
