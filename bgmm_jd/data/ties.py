"""Columns of few distinct values, on which the density of a normal component means little."""

import warnings
from collections.abc import Sequence

import numpy as np

from bgmm_jd.data.validation import column_text

# Covers answers on a scale from 0 to 10. The coarsest column of the iris data, rounded to 0.1, has
# 22 distinct values.
_FEW_VALUES = 12
_ROWS_PER_VALUE = 10  # with fewer on average, a component on equal rows has little to gain
_ROWS_TO_TRY = 1_000  # enough to see that a column has more values, without sorting all of it


class FewValuesWarning(UserWarning):
    """A column of X has so few distinct values that components may sit on equal rows."""


def columns_of_few_values(X: np.ndarray) -> dict[int, int]:
    """Return the number of distinct values of each column that has 2 to 12, and 10 rows for each.

    Parameters
    ----------
    X : [N, D]
        NaN is a missing entry, and does not count.
    """
    found = {}
    for number, column in enumerate(X.T):
        if _distinct(column[:: max(1, len(column) // _ROWS_TO_TRY)]) > _FEW_VALUES:
            continue
        values, rows = _distinct(column), np.count_nonzero(~np.isnan(column))
        if 1 < values <= _FEW_VALUES and rows >= _ROWS_PER_VALUE * values:
            found[number] = values
    return found


def _distinct(column: np.ndarray) -> int:
    return len(np.unique(column[~np.isnan(column)]))


def warn_of_ties(X: np.ndarray, names: Sequence[str] | None = None, *, stacklevel: int) -> None:
    """Warn if a column has so few distinct values that components may sit on equal rows.

    The density of a normal component that sits on equal values grows with its precision, which only
    the prior then limits: the elbo prefers components that are no clusters.

    Parameters
    ----------
    X : [N, D], NaN where an entry is missing.
    names : of the columns, if they have any.
    stacklevel : as in `warnings.warn`, seen from the caller.
    """
    found = columns_of_few_values(X)
    if not found:
        return
    column, values = next(iter(found.items()))
    others = f" ({len(found)} columns are of this kind)" if len(found) > 1 else ""
    warnings.warn(
        f"X's column {column_text(column, names)} has only {values} distinct values in "
        f"{len(X)} rows{others}. A normal component can sit on equal values with a density that "
        "only the prior limits, so that the elbo prefers components that are no clusters. If the "
        "values are rounded, add uniform noise of the width of the rounding and compare fits with "
        "other noise; if they are categories, leave the column out.",
        FewValuesWarning,
        stacklevel=stacklevel + 1,
    )
