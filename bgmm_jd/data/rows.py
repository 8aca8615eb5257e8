"""Rows as the likelihood reads them: values, the power of each row, and what is missing."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Missing(NamedTuple):
    """Which entries are there, by pattern: many rows share one.

    observed [M, D] : 1 where an entry is observed and 0 where it is missing, for each pattern.
    pattern [N] : int32, the pattern of each row.
    """

    observed: Any
    pattern: Any


class Rows(NamedTuple):
    """Rows in centred and scaled units: arrays outside a compiled function, tensors inside.

    values [N, D] : 0 where an entry is missing.
    weight [N] : the power of each row's likelihood; None for one each.
    missing : None where nothing is.
    """

    values: Any
    weight: Any = None
    missing: Missing | None = None


def as_row_tensors(rows: Rows) -> Rows:
    """The same as tensors."""
    return tf.nest.map_structure(lambda v: None if v is None else tf.convert_to_tensor(v), rows)


def gather_rows(rows: Rows, indices: Any) -> Rows:
    """Some of the rows, which share the patterns of all."""
    missing = rows.missing
    return Rows(
        tf.gather(rows.values, indices),
        None if rows.weight is None else tf.gather(rows.weight, indices),
        None if missing is None else missing._replace(pattern=tf.gather(missing.pattern, indices)),
    )


def row_weights(rows: Rows) -> np.ndarray:
    """The power of each row's likelihood, of rows as arrays: [N], float64."""
    if rows.weight is None:
        return np.ones(len(rows.values))
    return rows.weight.astype(np.float64)


def pad_to_slices(rows: Rows, slices: int, size: int) -> Rows:
    """Arrays of all rows as [slices, size, ...], filled up with rows of weight 0."""
    filling = slices * size - len(rows.values)
    weight = rows.weight
    if weight is None:
        weight = np.ones(len(rows.values), np.asarray(rows.values).dtype)

    def cut(array: Any) -> np.ndarray:
        array = np.asarray(array)
        filled = np.concatenate([array, np.zeros((filling, *array.shape[1:]), array.dtype)])
        return filled.reshape(slices, size, *array.shape[1:])

    missing = rows.missing
    if missing is not None:
        missing = missing._replace(pattern=cut(missing.pattern))
    return Rows(cut(rows.values), cut(weight), missing)


def observed_mask(rows: Rows) -> Any:
    """1 where an entry is observed, 0 where it is missing: [N, D]; None where nothing is."""
    if rows.missing is None:
        return None
    return tf.gather(rows.missing.observed, rows.missing.pattern)
