"""Rows so far from all others that they may be codes, such as -9999, and not data."""

import warnings

import numpy as np

from bgmm_jd.data.standardize import Data

_MOST_SHOWN = 5  # row numbers in the warning


class FarRowsWarning(UserWarning):
    """Some rows of X are so far from all others that they may be codes and not data."""


def warn_of_very_far_rows(data: Data, limit: float, stacklevel: int) -> None:
    """Warn if rows are so far from all others that they may be codes and not data.

    Parameters
    ----------
    limit : robust standard deviations of a column beyond which an entry is very far.
    stacklevel : as in `warnings.warn`, seen from the caller.
    """
    if data.far_scatter is None:
        return
    units = data.standardization
    deviation = data.rows.values.astype(np.float64)
    if units.inverse is not None:
        deviation = deviation @ (units.scale / units.column_scale[:, np.newaxis]).T
    rows = np.flatnonzero((np.abs(deviation) > limit).any(axis=1))
    if not len(rows):
        return
    row = rows[0]
    column = int(np.abs(deviation[row]).argmax())
    value = units.shift[column] + deviation[row, column] * units.column_scale[column]
    shown = ", ".join(map(str, rows[:_MOST_SHOWN])) + (", ..." if len(rows) > _MOST_SHOWN else "")
    counted = "" if data.rows.weight is None else " of positive weight"
    warnings.warn(
        f"{len(rows)} of {len(deviation)} rows{counted} are more than {limit:.0f} standard "
        f"deviations from the others: {shown} (row {row} has {value:.6g} in column {column}). They "
        "will take components of their own. If such entries are codes for missing values, drop the "
        "rows, or make the entries NaN and pass missing='marginalize'.",
        FarRowsWarning,
        stacklevel=stacklevel + 1,
    )
