"""Rows as the likelihood reads them: values, weights and missing entries."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.data.missing import Missing


class Rows(NamedTuple):
    """Rows in standardised units: arrays outside a compiled function, tensors inside.

    values [N, D] : 0 where an entry is missing.
    weight [N] : the power of each row's likelihood; None if all are 1.
    missing : None if no entry is missing.
    """

    values: Any
    weight: Any = None
    missing: Missing | None = None

    @property
    def dtype(self) -> Any:
        """Return the dtype of the values."""
        return self.values.dtype

    @property
    def shape(self) -> Any:
        """Return the numbers of rows and of columns, (N, D)."""
        return self.values.shape


@dataclass(frozen=True, kw_only=True)
class AbsentRows:
    """What is known of rows that are not in memory: a file or an update has left them
    out, or a source has them.

    N, D : int
        Their shape.
    type : str
        The name of their dtype.
    """

    N: int
    D: int
    type: str

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype that the values had."""
        return np.dtype(self.type)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and of columns, (N, D)."""
        return self.N, self.D


@dataclass(frozen=True, kw_only=True, eq=False)
class DistantRows(AbsentRows):
    """Rows of a fit that are read from a source in each pass. N counts those of positive weight.

    reader : what reads them; see `sources.reader`.
    sample : some of them, in memory and in standardised units.
    total_weight : of all rows.
    log_det_jacobian : log |d x / d z| of all rows, in nats.
    is_complete : whether no entry is missing.
    """

    reader: Any
    sample: Rows
    total_weight: float
    log_det_jacobian: float
    is_complete: bool


def as_row_tensors(rows: Rows) -> Rows:
    """Return the rows as tensors."""
    return tf.nest.map_structure(lambda v: None if v is None else tf.convert_to_tensor(v), rows)


def as_shared_tensors(rows: Rows) -> Rows:
    """Return dealt rows as tensors that read the arrays where they are.

    The arrays must not be changed, and have come from `aligned_zeros`: others are copied.
    """
    share = tf.experimental.dlpack.from_dlpack
    return tf.nest.map_structure(
        lambda v: None if v is None else share(v.__dlpack__()),
        rows._replace(missing=None),
    )._replace(missing=None if rows.missing is None else Missing(*map(tf.constant, rows.missing)))


def gather_rows(rows: Rows, indices: Any) -> Rows:
    """Return some of the rows, as tensors; the list of patterns remains that of all rows."""
    missing = rows.missing
    return Rows(
        tf.gather(rows.values, indices),
        None if rows.weight is None else tf.gather(rows.weight, indices),
        None if missing is None else missing._replace(pattern=tf.gather(missing.pattern, indices)),
    )


def take_rows(rows: Rows, part: slice) -> Rows:
    """Return a part of rows that have weights, given as arrays."""
    return _map_rows(lambda array: array[part], rows)


def row_weights(rows: Rows) -> np.ndarray:
    """Return the weight of each of the rows, given as arrays: float64 [N]."""
    if rows.weight is None:
        return np.ones(len(rows.values))
    return rows.weight.astype(np.float64)


def pad_to_slices(rows: Rows, slices: int, size: int) -> Rows:
    """Cut rows, given as arrays, into slices [slices, size, ...], padded with rows of weight 0."""

    def cut(padded: np.ndarray) -> np.ndarray:
        return padded.reshape(slices, size, *padded.shape[1:])

    return _map_rows(cut, padded_rows(rows, slices * size))


def deal_to_slices(
    rows: Rows, slices: int, parts: int, size: int, *, transposed: bool = False
) -> Rows:
    """Deal rows, given as arrays, to slices in turn: row n goes to slice n mod `slices`.

    Each slice is a systematic sample of the rows, even where these are sorted.

    Parameters
    ----------
    rows : Rows
        At most slices * parts * size. Rows of weight 0 fill the places that are left.
    slices : int
        Number of slices.
    parts : int
        Number of parts that each slice is cut into.
    size : int
        Number of rows of a part.
    transposed : bool
        Whether the values have the columns before the rows of a part.

    Returns
    -------
    Rows [parts * slices, size, ...], or [parts * slices, D, size] where transposed
        The first part of each slice, then the second part of each, and so on: entry i is a part of
        slice i mod `slices`.
    """
    weight = rows.weight
    if weight is None:
        weight = np.broadcast_to(np.ones((), rows.values.dtype), len(rows.values))

    def deal(array: Any, transposed: bool = False) -> np.ndarray:
        array = np.asarray(array)
        inner = (*array.shape[1:], size) if transposed else (size, *array.shape[1:])
        dealt = aligned_zeros((parts * slices, *inner), array.dtype)
        for part in range(parts):
            places = dealt[part * slices : (part + 1) * slices]  # [slices, size, ...]
            turns = np.moveaxis(places, -1 if transposed else 1, 0)  # [size, slices, ...]
            own = array[part * slices * size : (part + 1) * slices * size]
            rounds = len(own) // slices
            turns[:rounds] = own[: rounds * slices].reshape(rounds, slices, *array.shape[1:])
            if len(own) % slices:
                turns[rounds, : len(own) % slices] = own[rounds * slices :]
        return dealt

    missing = rows.missing
    if missing is not None:
        missing = missing._replace(pattern=deal(missing.pattern))
    return Rows(deal(rows.values, transposed), deal(weight), missing)


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of zeros at a multiple of 64 bytes, which TensorFlow can read in place."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def padded_rows(rows: Rows, length: int) -> Rows:
    """Return that many rows, with weights: rows of weight 0 follow those given."""
    weight = rows.weight
    if weight is None:
        weight = np.ones(len(rows.values), np.asarray(rows.values).dtype)

    def pad(array: Any) -> np.ndarray:
        array = np.asarray(array)
        padding = np.zeros((length - len(array), *array.shape[1:]), array.dtype)
        return np.concatenate([array, padding])

    return _map_rows(pad, rows._replace(weight=weight))


def _map_rows(function: Callable[[Any], Any], rows: Rows) -> Rows:
    """Apply a function to every array that has an entry for each row."""
    missing = rows.missing
    if missing is not None:
        missing = missing._replace(pattern=function(missing.pattern))
    return Rows(function(rows.values), function(rows.weight), missing)


def observed_mask(rows: Rows) -> Any:
    """Return 1 for observed and 0 for missing entries [N, D]; None if no entry is missing."""
    if rows.missing is None:
        return None
    return tf.gather(rows.missing.observed, rows.missing.pattern)
