"""The columns of a block that are features, and the one that has the row weights."""

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
