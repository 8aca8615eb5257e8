"""Rows that a function of the user's yields in batches, from the first on in each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from bgmm_jd.data.source import Block, Layout, Source
from bgmm_jd.data.validation import masked_as_nan
from bgmm_jd.sources.columns import dtype_of_rows


class BatchRows(Source):
    """The rows of batches, which come in one order and cannot be divided among workers."""

    def __init__(self, scan: Callable[[], Iterable[Any]]):
        self._scan = scan
        values, weight = _as_arrays(next(self._batches(), None))
        dtype = dtype_of_rows(values.dtype)
        self._layout = Layout(values.shape[1], dtype, is_weighted=weight is not None)

    @property
    def layout(self) -> Layout:
        """Return what the first batch says of the rows."""
        return self._layout

    def blocks(self) -> Iterator[Block]:
        """Begin a new pass."""
        for batch in self._batches():
            values, weight = _as_arrays(batch)
            if values.shape[1] != self.features or (weight is not None) != self.is_weighted:
                raise ValueError(
                    f"All batches must have {self.features} columns, as the first has, and weights "
                    f"if it has them; got one of shape {values.shape} "
                    f"{'without' if weight is None else 'with'} weights."
                )
            # Copies, because `scan` may fill the same array with the next batch.
            with np.errstate(over="ignore"):  # too large for the dtype: reported as infinity
                values = values.astype(self.dtype)
            yield Block(values, None if weight is None else weight.copy())

    def part(self, first: int, last: int) -> Source:
        """Raise, because a pass can only begin at the first row."""
        raise ValueError(
            "executor needs rows of which each worker can read its own; batches come one after "
            "the other. Write them to .npy or parquet files and use bgmm_jd.table, or leave "
            "executor out."
        )

    def _batches(self) -> Iterator[Any]:
        found = self._scan()
        if not isinstance(found, Iterable):
            raise TypeError(
                "scan must return an iterable of NumPy batches [n, D] each time it is called; got "
                f"{type(found).__name__}."
            )
        return iter(found)


def batches(scan: Callable[[], Iterable[Any]]) -> Source:
    """Return rows that a function yields in batches as a source for `fit`.

    ::

        source = bgmm_jd.batches(lambda: (np.load(path) for path in paths))
        source = bgmm_jd.batches(dataset.as_numpy_iterator)      # of a tf.data.Dataset

    Parameters
    ----------
    scan : callable
        `scan()` begins a new pass over the rows: it returns an iterable of batches [n, D], NaN or
        masked where an entry is missing, or of pairs of a batch and its row weights [n]. Batches
        are copied, so that one array may be filled again and again. A fit makes some 20 passes,
        and reads each of them in a thread of its own: open files and connections inside of `scan`.
        The sizes of the batches do not change the result.

        Every pass must yield the same rows in the same order. Of a `tf.data.Dataset` that is
        shuffled, this needs `shuffle(..., reshuffle_each_iteration=False)`.

    Returns
    -------
    Source

    Raises
    ------
    TypeError
        If `scan` cannot be called, as a generator, which yields its rows only once; or if batches
        do not hold real numbers.
    ValueError
        If a second call goes on with the first pass, or a batch is not two-dimensional.
    """
    if not callable(scan):
        raise TypeError(
            "scan must be a function that begins a new pass over the rows each time it is called; "
            f"got {type(scan).__name__}. For a generator function g that takes no arguments pass g "
            "and not g(); rows that can be read only once must be written to a .npy file first, by "
            "numpy.lib.format.open_memmap."
        )
    first, second = scan(), scan()
    if first is second and hasattr(first, "__next__"):
        raise ValueError(
            "scan must begin a new pass each time it is called; it returned the same iterator "
            "twice. Make the iterator inside of the function."
        )
    return BatchRows(scan)


def _as_arrays(batch: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows and the weights of a batch, or raise."""
    if batch is None:
        raise ValueError("scan must yield at least one batch of rows; got none.")
    values, weight = batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)
    values = np.asanyarray(values)
    dtype_of_rows(values.dtype)
    values = np.asarray(masked_as_nan(values))
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(
            f"Batches must be two-dimensional [n, D]; got one of shape {values.shape}."
        )
    if weight is None:
        return values, None
    weight = np.asarray(masked_as_nan(np.asanyarray(weight, np.float64)))  # NaN is an error later
    if weight.shape != (len(values),):
        raise ValueError(
            f"A batch of {len(values)} rows must have as many weights; got shape {weight.shape}."
        )
    return values, weight
