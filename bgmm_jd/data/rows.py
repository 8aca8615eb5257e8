"""Rows as the likelihood reads them: values, weights and missing entries."""

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


def as_row_tensors(rows: Rows) -> Rows:
    """Return the rows as tensors."""
    return tf.nest.map_structure(lambda v: None if v is None else tf.convert_to_tensor(v), rows)


def gather_rows(rows: Rows, indices: Any) -> Rows:
    """Return some of the rows, as tensors; the list of patterns remains that of all rows."""
    missing = rows.missing
    return Rows(
        tf.gather(rows.values, indices),
        None if rows.weight is None else tf.gather(rows.weight, indices),
        None if missing is None else missing._replace(pattern=tf.gather(missing.pattern, indices)),
    )


def row_weights(rows: Rows) -> np.ndarray:
    """Return the weight of each of the rows, given as arrays: float64 [N]."""
    if rows.weight is None:
        return np.ones(len(rows.values))
    return rows.weight.astype(np.float64)


def pad_to_slices(rows: Rows, slices: int, size: int) -> Rows:
    """Cut rows, given as arrays, into slices [slices, size, ...], padded with rows of weight 0."""
    padding = slices * size - len(rows.values)
    weight = rows.weight
    if weight is None:
        weight = np.ones(len(rows.values), np.asarray(rows.values).dtype)

    def cut(array: Any) -> np.ndarray:
        array = np.asarray(array)
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return padded.reshape(slices, size, *array.shape[1:])

    missing = rows.missing
    if missing is not None:
        missing = missing._replace(pattern=cut(missing.pattern))
    return Rows(cut(rows.values), cut(weight), missing)


def observed_mask(rows: Rows) -> Any:
    """Return 1 for observed and 0 for missing entries [N, D]; None if no entry is missing."""
    if rows.missing is None:
        return None
    return tf.gather(rows.missing.observed, rows.missing.pattern)
