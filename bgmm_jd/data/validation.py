"""Check and convert what the user passes.

Each error says what was expected, what was given and what to try.
"""

from typing import Any, Literal, get_args

import numpy as np

MissingOption = Literal["marginalize"]


def as_rows(
    X: Any, features: int | None = None, missing: bool = False, name: str = "X"
) -> np.ndarray:
    """Return X as a finite real array [N, D], in float32 or float64.

    Parameters
    ----------
    X : array-like of real numbers, shape [N, D]
        float32 and float64 are kept. Other types are converted to float32 if NumPy promotes them
        and float32 to float32, and to float64 otherwise.
    features : int, optional
        The number of columns that X must have.
    missing : bool
        Whether NaN and masked entries are missing values, returned as NaN; otherwise they are
        errors.
    name : str
        The argument's name, for messages.

    Raises
    ------
    TypeError
        If X is sparse or has a type other than real numbers.
    ValueError
        If X is not two-dimensional, is empty, contains infinity (or NaN, unless `missing`), or has
        a number of columns other than `features`.
    """
    if hasattr(X, "toarray") or type(X).__module__.startswith("scipy.sparse"):
        raise TypeError(
            f"{name} must be a dense array; got the sparse {type(X).__name__}. "
            f"Try {name}.toarray()."
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        if not missing:
            raise ValueError(f"{name} must have no masked entries. {_missing_advice(name)}")
        X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
    array = _as_real(X, name)
    if array.ndim != 2:
        one_column = f"{name}.reshape(-1, 1) makes a single column"
        hint = one_column if array.ndim < 2 else "flatten each row"
        raise ValueError(
            f"{name} must be two-dimensional [N, D]; got shape {array.shape}. Try: {hint}."
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must have at least one row and one column; got shape {array.shape}."
        )
    if features is not None and array.shape[1] != features:
        reason = "as the fit had" if name == "X" else "as X has"
        raise ValueError(f"{name} must have {features} columns, {reason}; got {array.shape[1]}.")
    _check_finite(array, missing, name)
    return array


def _missing_advice(name: str) -> str:
    """Return what to try where missing values are not accepted."""
    if name != "X":
        return "Fill in the missing values."
    return (
        "Drop such rows, fill in the missing values, or pass missing='marginalize' to fit, which "
        "integrates over them."
    )


def _as_real(X: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of shape [N, D], but its rows differ in length ({error})."
        ) from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold real numbers; got dtype {array.dtype}. "
            f"Select the numeric columns, or convert with {name}.astype(float)."
        )
    if array.dtype in (np.float32, np.float64):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    # TensorFlow has no longdouble: everything wider than float32 becomes float64.
    wider = np.result_type(array.dtype, np.float32)
    with np.errstate(over="ignore"):  # a number too large for float64 is reported as infinity
        return array.astype(np.float32 if wider == np.float32 else np.float64)


def _check_finite(array: np.ndarray, missing: bool, name: str) -> None:
    finite = ~np.isinf(array) if missing else np.isfinite(array)
    if finite.all():
        return
    column = int(np.flatnonzero(~finite.all(axis=0))[0])
    row = int(np.flatnonzero(~finite[:, column])[0])
    is_nan = np.isnan(array[row, column])
    advice = _missing_advice(name) if is_nan else "Drop or correct such rows."
    raise ValueError(
        f"{name} must be finite; column {column} has {array[row, column]} (first in row {row}). "
        f"{advice}"
    )


def as_missing_flag(missing: Any) -> bool:
    """Return whether NaN is a missing entry, as the argument `missing` of a fit says, or raise."""
    if missing not in (None, *get_args(MissingOption)):
        raise ValueError(f"missing must be None or 'marginalize'; got {missing!r}.")
    return missing is not None


def as_weights(sample_weight: Any, N: int, dtype: np.dtype) -> np.ndarray | None:
    """Return row weights as a float64 array [N], or None if there are none or all are 1.

    Parameters
    ----------
    sample_weight : the argument of a fit.
    N : number of rows of X.
    dtype : dtype of the fit. Weights that underflow to zero in it are set to zero.

    Raises
    ------
    TypeError, ValueError
        If the weights are not N finite, non-negative numbers, or all are zero.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight)
    if weight.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight must hold real numbers; got dtype {weight.dtype}.")
    if weight.shape != (N,):
        raise ValueError(
            f"sample_weight must have one weight for each of the {N} rows of X; got shape "
            f"{weight.shape}."
        )
    weight = weight.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise ValueError(
            f"sample_weight must be finite and not negative; got {weight[bad[0]]} in row {bad[0]}. "
            "Use 0 to leave a row out."
        )
    with np.errstate(over="ignore", under="ignore"):
        weight = np.where(weight.astype(dtype) > 0, weight, 0.0)
    if not weight.any():
        raise ValueError(
            f"sample_weight must have at least one positive weight; all are zero in {dtype}. Use "
            "larger weights."
        )
    return None if (weight == 1).all() else weight


def check_rows(N: int, K: int, weighted: bool) -> None:
    """Raise if there are fewer rows than components.

    Parameters
    ----------
    N : number of rows, or of rows with positive weight.
    K : number of components.
    weighted : whether rows have weights, for the message.
    """
    if N < K:
        which = "rows of positive weight" if weighted else "rows"
        raise ValueError(f"X must have at least K={K} {which}; got {N}. Use a smaller K.")


def as_real_array(value: Any, name: str) -> np.ndarray:
    """Return real numbers as a float64 array of any shape, or raise.

    Infinity and NaN are kept.
    """
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries. Fill in the missing values.")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return array.astype(np.float64)


def as_columns(columns: Any, D: int, name: str) -> tuple[int, ...]:
    """Return one or more distinct column numbers from 0 to D - 1, or raise."""
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
    """Return a positive integer of at most `most`, or raise an error with the argument's name."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 1 or (most is not None and value > most):
        allowed = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be {allowed}; got {value}.")
    return int(value)


def as_seed(value: Any) -> int:
    """Return a seed, a non-negative integer, or raise."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"seed must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 0:
        raise ValueError(f"seed must not be negative; got {value}.")
    return int(value)
