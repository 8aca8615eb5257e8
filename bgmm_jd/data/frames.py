"""Data frames: the values of their columns, in the order that names ask for.

Frames and columns of pandas, polars and pyarrow are read through narwhals, which is imported only
where one of them comes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

_MOST_SHOWN = 10  # names in a message


def is_frame(X: Any) -> bool:
    """Return whether X is a data frame or table, whose columns have names."""
    # Asked of the class, because reading the columns of a lazy frame would compute them.
    return hasattr(type(X), "columns") or hasattr(type(X), "column_names")


def column_names(X: Any, name: str = "X") -> tuple[str, ...] | None:
    """Return the names of the columns of a data frame, as strings; None if X is something else.

    Raises
    ------
    TypeError
        If the frame is lazy, or of a library that narwhals does not read.
    ValueError
        If two columns have the same name.
    """
    return _open(X, name)[1] if is_frame(X) else None


def frame_values(X: Any, name: str, expected: Sequence[str] | None = None) -> np.ndarray:
    """Return the columns of a data frame of numbers as an array [N, D].

    Parameters
    ----------
    X : data frame
        Columns of booleans, integers or real numbers of any width.
    name : str
        The argument's name, for messages.
    expected : sequence of str, optional
        The names of all columns, in the order of the result; by default that of X.

    Returns
    -------
    array [N, D], float32 if all columns are and float64 otherwise; NaN where a value is missing.

    Raises
    ------
    TypeError
        If a column does not hold real numbers, or as `column_names` does.
    ValueError
        If X lacks an expected column or has another, or as `column_names` does.
    """
    frame, names = _open(X, name)
    if expected is None:
        expected = names
    _check_same_names(names, expected, name)
    columns = dict(zip(names, frame.iter_columns(), strict=True))
    arrays = {label: _as_floats(column) for label, column in columns.items()}
    bad = [
        f"{label!r} of dtype {_dtype(columns[label])}" for label in names if arrays[label] is None
    ]
    if bad:
        raise TypeError(
            f"{name} must have columns of real numbers; got {_listed(bad)}. Leave such columns "
            "out, or convert them: text with astype(float), a date to the time since another."
        )
    chosen = [array for label in expected if (array := arrays[label]) is not None]
    all_float32 = all(array.dtype == np.float32 for array in chosen)
    values = np.empty((len(frame), len(chosen)), np.float32 if all_float32 else np.float64)
    for number, array in enumerate(chosen):
        values[:, number] = array
    return values


def column_values(value: Any, name: str) -> Any:
    """Return a data frame's column as an array, NaN where missing, and anything else as it is.

    Raises
    ------
    TypeError
        If the column does not hold real numbers.
    """
    if not hasattr(type(value), "to_numpy"):  # as the columns of every library have
        return value
    import narwhals.stable.v2 as nw

    column = nw.from_native(value, series_only=True, pass_through=True)
    if not isinstance(column, nw.Series):
        return value
    array = _as_floats(column)
    if array is None:
        raise TypeError(f"{name} must hold real numbers; got dtype {_dtype(column)}.")
    return array


def _open(X: Any, name: str) -> tuple["nw.DataFrame[Any]", tuple[str, ...]]:
    """Return X as narwhals reads it and the names of its columns, or raise."""
    import narwhals.stable.v2 as nw
    from narwhals.exceptions import DuplicateError

    try:
        frame = nw.from_native(X, eager_only=True, pass_through=True)
    except DuplicateError:
        raise ValueError(_repeated_names(X, name)) from None
    if not isinstance(frame, nw.DataFrame):
        library = type(X).__module__.partition(".")[0]
        raise TypeError(
            f"{name} must be an array or a data frame of pandas, polars or pyarrow in memory; got "
            f"{library}.{type(X).__name__}. Collect it, or convert it to one of these."
        )
    names = tuple(str(label) for label in frame.columns)
    if len(set(names)) < len(names):  # as strings only: 1 and "1"
        raise ValueError(_repeated_names(X, name))
    return frame, names


def _repeated_names(X: Any, name: str) -> str:
    """Return the message for a data frame of which several columns have the same name."""
    found = X.column_names if hasattr(type(X), "column_names") else X.columns
    counts = Counter(str(label) for label in found)
    repeated = _listed(repr(label) for label, count in counts.items() if count > 1)
    return (
        f"{name} must have columns of distinct names; got {repeated} more than once. Rename or "
        "drop such columns."
    )


def _check_same_names(names: Sequence[str], expected: Sequence[str], name: str) -> None:
    """Raise unless a data frame has the expected columns and no others, in any order."""
    missing = [repr(label) for label in expected if label not in names]
    additional = [repr(label) for label in names if label not in expected]
    if not missing and not additional:
        return
    found = [f"lacks {_listed(missing)}"] if missing else []
    found += [f"also has {_listed(additional)}"] if additional else []
    columns = _listed(repr(label) for label in expected)
    advice = f"Select them with {name}[[{columns}]]."
    if missing:
        advice = "Rename or add columns, or pass an array, which is taken by position."
    raise ValueError(
        f"{name} must have the columns {columns} and no others, in any order; it "
        f"{' and '.join(found)}. {advice}"
    )


def _listed(texts: Iterable[str]) -> str:
    """Return some texts in one line, of which only the first ten are shown."""
    texts = list(texts)
    shown = ", ".join(texts[:_MOST_SHOWN])
    return shown if len(texts) <= _MOST_SHOWN else f"{shown}, ... ({len(texts)} in all)"


def _as_floats(column: "nw.Series[Any]") -> np.ndarray | None:
    """Return a column as float32 if it is, else as float64; None if it does not hold numbers."""
    import narwhals.stable.v2 as nw

    dtype, missing = column.dtype, column.is_null().to_numpy()
    if dtype.is_numeric() or dtype == nw.Boolean:
        # pandas 2.1 makes objects of its booleans and decimals, even without nulls.
        numbers = column.cast(nw.Float64) if dtype in (nw.Decimal, nw.Boolean) else column
        # A column with nulls becomes floats, objects or an error, depending on the library.
        values = numbers.fill_null(0).to_numpy()
    elif missing.all():  # of any type, such as None in every row
        values = np.full(len(column), np.nan)
    elif dtype == nw.Unknown:  # pandas' sparse columns, long doubles, another byte order
        values = np.asarray(column.to_native())
    else:
        return None
    if values.dtype.kind not in "fiub":
        return None
    with np.errstate(over="ignore"):  # a number too large for float64 is reported as infinity
        floats = values.astype(np.float32 if values.dtype == np.float32 else np.float64)
    floats[missing] = np.nan
    return floats


def _dtype(column: "nw.Series[Any]") -> str:
    """Return the dtype of a column as its own library writes it."""
    native = column.to_native()
    return str(native.type if hasattr(native, "type") else native.dtype)
