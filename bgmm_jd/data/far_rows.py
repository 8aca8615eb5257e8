"""Rows so far from all others that they may be codes, such as -9999, and not data."""

import warnings
from collections.abc import Sequence

import numpy as np

from bgmm_jd.data.standardize import Data, deviations
from bgmm_jd.data.validation import column_text

_MOST_SHOWN = 5  # row numbers in the warning


class FarRowsWarning(UserWarning):
    """Some rows of X are so far from all others that they may be codes and not data."""


def warn_of_very_far_rows(
    data: Data,
    places: np.ndarray,
    limit: float,
    names: Sequence[str] | None = None,
    *,
    stacklevel: int,
) -> None:
    """Warn if rows are so far from all others that they may be codes and not data.

    Parameters
    ----------
    places : the number of each of the rows in X.
    limit : scales of a column (see `Standardization`) beyond which an entry is very far.
    names : of the columns of X, if they have any.
    stacklevel : as in `warnings.warn`, seen from the caller.
    """
    if data.far_scatter is None:
        return
    units = data.standardization
    deviation = deviations(data.rows, units)
    rows = np.flatnonzero((np.abs(deviation) > limit).any(axis=1))
    if not len(rows):
        return
    row = rows[0]
    column = int(np.abs(deviation[row]).argmax())
    value = units.shift[column] + deviation[row, column] * units.column_scale[column]
    shown = ", ".join(map(str, places[rows[:_MOST_SHOWN]]))
    shown += ", ..." if len(rows) > _MOST_SHOWN else ""
    warnings.warn(
        f"{len(rows)} of {len(deviation)} rows are more than {limit:.0f} standard deviations from "
        f"the others: {shown} (row {places[row]} has {value:.6g} in column "
        f"{column_text(column, names)}). They will take components of their own. If such entries "
        "are codes for missing values, drop the rows, or make the entries NaN and pass "
        "missing='marginalize'.",
        FarRowsWarning,
        stacklevel=stacklevel + 1,
    )
