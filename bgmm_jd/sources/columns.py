"""The columns of a block that are features, and the one that has the row weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bgmm_jd.data.source import Block
from bgmm_jd.data.validation import masked_as_nan


def dtype_of_rows(stored: np.dtype) -> np.dtype:
    """Return the dtype of a fit to numbers of a type: float32 or float64, as of an array.

    Raises
    ------
    TypeError
        If they are no real numbers.
    """
    if stored.kind not in "fiub":
        raise TypeError(
            f"X must hold real numbers; got dtype {stored}. Leave such columns out, or convert "
            "them."
        )
    return np.dtype(np.float32 if np.result_type(stored, np.float32) == np.float32 else np.float64)


def as_numbers(
    width: int, columns: Sequence[Any] | None, weight: Any
) -> tuple[tuple[int, ...], int | None]:
    """Return the numbers of the features among the columns of an array, and that of the weights.

    Parameters
    ----------
    width : number of columns.
    columns, weight : as in `table`.
    """
    given = () if columns is None else tuple(columns)
    read = given if weight is None else (*given, weight)
    for column in read:
        if isinstance(column, bool) or not isinstance(column, int | np.integer):
            raise TypeError(f"columns of an array have numbers; got {column!r}.")
        if not 0 <= column < width:
            raise ValueError(f"columns must be from 0 to {width - 1}; got {column}.")
    if columns is None:
        given = tuple(column for column in range(width) if column != weight)
    if not given:
        raise ValueError(
            f"columns must be at least one; none of {width} is left beside the weights, got "
            f"columns={columns} and weight={weight}."
        )
    if len(set(given)) < len(given) or weight in given:
        raise ValueError(
            f"columns and weight must be distinct; got columns {given} and weight {weight}."
        )
    return tuple(int(column) for column in given), None if weight is None else int(weight)


def columns_of_block(
    block: np.ndarray, columns: tuple[int, ...], weight: int | None, dtype: np.dtype
) -> Block:
    """Return the features of a block [n, width] in the dtype of the fit, and its weights.

    Masked entries become NaN, which is an error later where it is a weight.
    """
    block = masked_as_nan(block)
    features = block if columns == tuple(range(block.shape[1])) else block[:, list(columns)]
    with np.errstate(over="ignore"):  # a number too large for the dtype is reported as infinity
        values = np.asarray(features).astype(dtype, copy=False)
    return Block(values, None if weight is None else block[:, weight].astype(np.float64))
