"""Checks of what the user passes: each error says what was expected, what came and what to try."""

from typing import Any

import numpy as np


def as_rows(
    X: Any, features: int | None = None, missing: bool = False, name: str = "X"
) -> np.ndarray:
    """Return X as a finite real [N, D] array; float32 and float64 are kept.

    Parameters
    ----------
    X : array-like of real numbers, shape [N, D]
        Integers and booleans are converted to the smallest of float32 and float64 that NumPy
        promotes them to.
    features : int, optional
        The number of columns that X must have.
    missing : bool
        Whether NaN, and a masked entry, means that an entry is missing; otherwise it is an error.
    name : str
        Of the argument, for messages.

    Raises
    ------
    TypeError
        If X is sparse, or holds anything but real numbers.
    ValueError
        If X is not two-dimensional, is empty, holds infinity (or NaN, unless `missing`), or has
        another number of columns than `features`.
    """
    if hasattr(X, "toarray") or type(X).__module__.startswith("scipy.sparse"):
        raise TypeError(
            f"{name} must be a dense array; got the sparse {type(X).__name__}. "
            f"Try {name}.toarray()."
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        if not missing:
            raise ValueError(f"{name} must have no masked entries. {_advice(name)}")
        X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
    array = _as_real(X, name)
    if array.ndim != 2:
        column = f"{name}.reshape(-1, 1) makes a single column"
        hint = column if array.ndim < 2 else "flatten each row"
        raise ValueError(
            f"{name} must be two-dimensional [N, D]; got shape {array.shape}. Try: {hint}."
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must have at least one row and one column; got shape {array.shape}."
        )
    if features is not None and array.shape[1] != features:
        as_which = "as the fit had" if name == "X" else "as X has"
        raise ValueError(f"{name} must have {features} columns, {as_which}; got {array.shape[1]}.")
    _check_finite(array, missing, name)
    return array


def _advice(name: str) -> str:
    """What to do about missing entries."""
    if name != "X":
        return "Fill the values in."
    return (
        "Drop such rows, fill the values in, or pass missing='sum_out' to fit, which sums them out."
    )


def _as_real(X: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of shape [N, D]; its rows differ in length ({error})."
        ) from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers; got dtype {array.dtype}. "
            f"Select the numeric columns, or convert with {name}.astype(float)."
        )
    if array.dtype in (np.float32, np.float64):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    # Not longdouble: TensorFlow has no such type.
    wider = np.result_type(array.dtype, np.float32)
    with np.errstate(over="ignore"):  # what float64 cannot hold is told as infinity
        return array.astype(np.float32 if wider == np.float32 else np.float64)


def _check_finite(array: np.ndarray, missing: bool, name: str) -> None:
    finite = ~np.isinf(array) if missing else np.isfinite(array)
    if finite.all():
        return
    column = int(np.flatnonzero(~finite.all(axis=0))[0])
    row = int(np.flatnonzero(~finite[:, column])[0])
    advice = _advice(name) if np.isnan(array[row, column]) else "Drop such rows, or mend them."
    raise ValueError(
        f"{name} must be finite; column {column} has {array[row, column]} (first in row {row}). "
        f"{advice}"
    )


def check_missing(missing: Any) -> bool:
    """Whether NaN is a missing entry: what the argument `missing` of a fit says, or raise."""
    if missing not in (None, "sum_out"):
        raise ValueError(f"missing must be None or 'sum_out'; got {missing!r}.")
    return missing is not None


def as_weights(sample_weight: Any, rows: int, dtype: np.dtype) -> np.ndarray | None:
    """Return row weights as a float64 array [N], or None for none or all ones.

    Parameters
    ----------
    dtype : of the fit; what is zero in it is zero.

    Raises
    ------
    TypeError, ValueError
        If they are not N finite numbers of zero or more, or are all zero.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight)
    if weight.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight must hold real numbers; got dtype {weight.dtype}.")
    if weight.shape != (rows,):
        raise ValueError(
            f"sample_weight must have one weight for each of the {rows} rows of X; got shape "
            f"{weight.shape}."
        )
    weight = weight.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise ValueError(
            f"sample_weight must be finite and not negative; got {weight[bad[0]]} in row {bad[0]}."
        )
    with np.errstate(over="ignore", under="ignore"):
        weight = np.where(weight.astype(dtype) > 0, weight, 0.0)
    if not weight.any():
        raise ValueError(f"sample_weight must have a positive weight; all are zero in {dtype}.")
    return None if (weight == 1).all() else weight


def check_rows(N: int, K: int, weighted: bool) -> None:
    """Raise if there are fewer rows than components.

    Parameters
    ----------
    N : rows that count.
    weighted : whether those are the ones of positive weight.
    """
    if N < K:
        rows = "rows of positive weight" if weighted else "rows"
        raise ValueError(f"X must have at least K={K} {rows}; got {N}. Use a smaller K.")


def as_columns(columns: Any, D: int, name: str) -> tuple[int, ...]:
    """Return distinct column numbers from 0 to D - 1, at least one, or raise."""
    if isinstance(columns, str) or not hasattr(columns, "__iter__"):
        raise TypeError(f"{name} must be a sequence of column numbers; got {columns!r}.")
    found = tuple(columns)
    for column in found:
        if isinstance(column, bool | np.bool_) or not isinstance(column, int | np.integer):
            raise TypeError(f"{name} must name columns by integers; got {column!r}.")
        if not 0 <= column < D:
            raise ValueError(f"{name} must be columns from 0 to {D - 1}; got {column}.")
    if not found:
        raise ValueError(f"{name} must name at least one column from 0 to {D - 1}; got none.")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must name each column once; got {found}.")
    return tuple(int(column) for column in found)


def as_count(value: Any, name: str, most: int | None = None) -> int:
    """Return a positive integer no greater than `most`, or raise with the argument's name."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 1 or (most is not None and value > most):
        span = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be {span}; got {value}.")
    return int(value)


def as_seed(value: Any) -> int:
    """Return a non-negative integer, or raise."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"seed must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 0:
        raise ValueError(f"seed must not be negative; got {value}.")
    return int(value)
