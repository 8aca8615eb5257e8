"""Check and convert what the user passes.

Each error says what was expected, what was given and what to try.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from bgmm_jd.data.frames import column_names, column_values, frame_values, is_frame
from bgmm_jd.data.source import Source

MissingOption = Literal["marginalize"]


def as_rows(
    X: Any,
    features: int | None = None,
    missing: bool = False,
    name: str = "X",
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """Return X as a finite real array [N, D], in float32 or float64.

    Parameters
    ----------
    X : array-like of real numbers, or data frame, shape [N, D]
        float32 and float64 are kept. Other types of arrays are converted to float32 if NumPy
        promotes them and float32 to float32, and to float64 otherwise. For data frames see
        `frame_values`.
    features : int, optional
        The number of columns that X must have.
    missing : bool
        Whether NaN, nulls and masked entries are missing values, returned as NaN; otherwise they
        are errors.
    name : str
        The argument's name, for messages.
    names : sequence of str, optional
        The names of the columns, by which those of a data frame are put in order. Of anything else
        they are taken by position.

    Raises
    ------
    TypeError
        If X is sparse or has a type other than real numbers.
    ValueError
        If X is not two-dimensional, is empty, contains infinity (or NaN, unless `missing`), or has
        a number of columns other than `features`; if it is a data frame with other columns than
        `names`, or with two columns of one name.
    """
    labels: Sequence[str] | None = None
    _check_is_in_memory(X, name)
    if is_frame(X):
        labels = column_names(X, name) if names is None else names
        X = frame_values(X, name, names)
    if hasattr(X, "toarray") or type(X).__module__.startswith("scipy.sparse"):
        raise TypeError(
            f"{name} must be a dense array; got the sparse {type(X).__name__}. "
            f"Try {name}.toarray()."
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        if not missing:
            raise ValueError(f"{name} must have no masked entries. {_missing_advice(name)}")
        X = masked_as_nan(X)
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
    check_finite(array, missing, name, labels)
    return array


def masked_as_nan(X: np.ndarray) -> np.ndarray:
    """Return an array of numbers without its mask: NaN, as floats, where an entry is masked."""
    if not isinstance(X, np.ma.MaskedArray):
        return X
    if not np.ma.is_masked(X):
        return X.data
    return np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)


def _check_is_in_memory(X: Any, name: str) -> None:
    """Raise if X is a source of rows, or an iterator, which yields them only once."""
    if isinstance(X, Source):
        raise ValueError(
            f"{name} must be an array or a data frame in memory here; got a source of rows. Pass "
            "some of them: bgmm_jd.sample_rows(source, n)."
        )
    if hasattr(X, "__next__"):
        raise TypeError(
            f"{name} must be rows that can be read more than once; got a {type(X).__name__}, which "
            "yields them once. For fit, pass bgmm_jd.batches(scan), whose function scan makes a "
            "new one each time it is called, or write the rows to a file by numpy.save and pass "
            "bgmm_jd.table(path). For anything else make an array, as with numpy.concatenate."
        )


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


def check_finite(
    array: np.ndarray, missing: bool, name: str, labels: Sequence[str] | None, first: int = 0
) -> None:
    """Raise unless all entries of rows are finite, or NaN where that is a missing entry.

    Parameters
    ----------
    array : [N, D]
    missing : whether NaN is a missing entry.
    name : the argument's name, for messages.
    labels : names of the columns, if they have any.
    first : the number of the first of the rows, for messages.
    """
    finite = ~np.isinf(array) if missing else np.isfinite(array)
    if finite.all():
        return
    column = int(np.flatnonzero(~finite.all(axis=0))[0])
    row = int(np.flatnonzero(~finite[:, column])[0])
    is_nan = np.isnan(array[row, column])
    advice = _missing_advice(name) if is_nan else "Drop or correct such rows."
    raise ValueError(
        f"{name} must be finite; column {column_text(column, labels)} has {array[row, column]} "
        f"(first in row {first + row}). {advice}"
    )


def column_text(column: int, names: Sequence[str] | None) -> str:
    """Return a column's name in quotes, or its number where it has none, for messages."""
    return str(column) if names is None else repr(names[column])


def as_missing_flag(missing: Any) -> bool:
    """Return whether NaN is a missing entry, as the argument `missing` of a fit says, or raise."""
    if missing not in (None, *get_args(MissingOption)):
        raise ValueError(f"missing must be None or 'marginalize'; got {missing!r}.")
    return missing is not None


def as_weights(sample_weight: Any, N: int, dtype: np.dtype) -> np.ndarray | None:
    """Return row weights as a float64 array [N], or None if there are none or all are 1.

    Parameters
    ----------
    sample_weight : the argument of a fit: an array, or a column of a data frame.
    N : number of rows of X.
    dtype : dtype of the fit. Weights that underflow to zero in it are set to zero.

    Raises
    ------
    TypeError, ValueError
        If the weights are not N finite, non-negative numbers, or all are zero.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(column_values(sample_weight, "sample_weight"))
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


def as_real_array(value: Any, name: str, names: Sequence[str] | None = None) -> np.ndarray:
    """Return real numbers as a float64 array of any shape, or raise.

    Infinity and NaN are kept. The columns of a data frame are put in the order of `names`.
    """
    if is_frame(value):
        return frame_values(value, name, names).astype(np.float64)
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries. Fill in the missing values.")
    array = np.asarray(column_values(value, name))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return array.astype(np.float64)


def as_columns(
    columns: Any, D: int, name: str, names: Sequence[str] | None = None
) -> tuple[int, ...]:
    """Return one or more distinct column numbers from 0 to D - 1, or raise.

    Parameters
    ----------
    columns : iterable of int and str
        Numbers of columns, or names where the columns have `names`.
    D : int
        The number of columns.
    name : str
        The argument's name, for messages.
    names : sequence of str [D], optional
    """
    if isinstance(columns, str) or not hasattr(columns, "__iter__"):
        known = "numbers" if names is None else "names or numbers"
        raise TypeError(f"{name} must be a sequence of column {known}; got {columns!r}.")
    chosen = tuple(columns)
    found = tuple(_as_column(column, D, name, names) for column in chosen)
    if not found:
        raise ValueError(f"{name} must name at least one column from 0 to {D - 1}; got none.")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must name each column once; got {chosen}.")
    return found


def _as_column(column: Any, D: int, name: str, names: Sequence[str] | None) -> int:
    if isinstance(column, str) and names is not None:
        if column not in names:
            raise ValueError(f"{name} must be columns of the fit, {tuple(names)}; got {column!r}.")
        return list(names).index(column)
    if isinstance(column, bool | np.bool_) or not isinstance(column, int | np.integer):
        known = "integers" if names is None else "their names or by integers"
        raise TypeError(f"{name} must name columns by {known}; got {column!r}.")
    if not 0 <= column < D:
        raise ValueError(f"{name} must be columns from 0 to {D - 1}; got {column}.")
    return int(column)


def as_names(names: Any, count: int, name: str) -> tuple[str, ...]:
    """Return `count` distinct names as a tuple of strings, or raise."""
    is_sequence = hasattr(names, "__getitem__") and not isinstance(names, str)  # a set has no order
    found = tuple(names) if is_sequence else ()
    if not is_sequence or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{name} must be a sequence of strings; got {names!r}.")
    if len(found) != count or len(set(found)) < len(found):
        raise ValueError(f"{name} must be {count} distinct strings; got {found}.")
    return tuple(str(one) for one in found)


def as_count(value: Any, name: str, most: int | None = None) -> int:
    """Return a positive integer of at most `most`, or raise an error with the argument's name."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 1 or (most is not None and value > most):
        allowed = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be {allowed}; got {value}.")
    return int(value)


def as_probability(value: Any, name: str) -> float:
    """Return a number between 0 and 1, both excluded, or raise."""
    found = as_real_array(value, name)
    if found.ndim != 0 or not 0.0 < found < 1.0:
        raise ValueError(
            f"{name} must be one number between 0 and 1, both excluded, such as 0.9; got {value!r}."
        )
    return float(found)


def as_seed(value: Any) -> int:
    """Return a seed, a non-negative integer, or raise."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"seed must be an integer; got {value!r} ({type(value).__name__}).")
    if value < 0:
        raise ValueError(f"seed must not be negative; got {value}.")
    return int(value)
