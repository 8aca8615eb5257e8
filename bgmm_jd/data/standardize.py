"""Standardise and subsample rows, and compute the Jacobian of their change of units."""

from typing import Literal, NamedTuple, NoReturn

import numpy as np

from bgmm_jd.data.missing import separate_missing
from bgmm_jd.data.robust_moments import RobustMoments, robust_moments, row_blocks
from bgmm_jd.data.rows import AbsentRows, DistantRows, Rows
from bgmm_jd.data.units import Standardization, whitening
from bgmm_jd.settings import RobustMomentsSettings

Units = Literal["columns", "common", "upper", "lower"]


class Data(NamedTuple):
    """Rows ready for the fit, in standardised units.

    kept_rows : arrays in the dtype of the fit, or what stands in for them.
    standardization : the change of units.
    sampling_fraction : fraction of all rows that a subsample contains; 1 otherwise.
    far_scatter : [D, D], in standardised units, what far rows add to the scatter of the others, see
        `RobustMoments`; None if no row is far.
    unread : bool [D], columns that count as missing in every row; None if there are none.
    """

    kept_rows: Rows | AbsentRows
    standardization: Standardization
    sampling_fraction: float = 1.0
    far_scatter: np.ndarray | None = None
    unread: np.ndarray | None = None

    @property
    def rows(self) -> Rows:
        """Return the rows, or raise ValueError if they are not in memory."""
        if isinstance(self.kept_rows, AbsentRows):
            raise ValueError(
                "the posterior was updated, fitted to a source, or saved without the rows of the "
                "fit, which are needed here. Fit rows in memory, such as "
                "bgmm_jd.sample_rows(source, n), or save it with bgmm_jd.save(posterior, path, "
                "keep_rows=True)."
            )
        return self.kept_rows

    @property
    def has_rows(self) -> bool:
        """Return whether the rows are in memory."""
        return isinstance(self.kept_rows, Rows)

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of the fit."""
        return self.kept_rows.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and of columns, (N, D)."""
        return self.kept_rows.shape

    @property
    def informative_columns(self) -> int:
        """Return the number of columns that the likelihood reads."""
        return self.shape[1] if self.unread is None else int(np.count_nonzero(~self.unread))

    @property
    def is_complete(self) -> bool:
        """Return whether no entry of the rows is missing."""
        if isinstance(self.kept_rows, DistantRows):
            return self.kept_rows.is_complete
        return self.rows.missing is None

    @property
    def total_weight(self) -> float:
        """Return the sum of the row weights; N without weights."""
        if isinstance(self.kept_rows, DistantRows):
            return self.kept_rows.total_weight
        weight = self.rows.weight
        return float(self.shape[0] if weight is None else weight.sum(dtype=np.float64))

    @property
    def log_det_jacobian(self) -> float:
        """Return log |d x / d z| of all rows x = shift + scale z, in nats.

        The log density of the rows in the units of X is that of the standardised rows less this.
        """
        if isinstance(self.kept_rows, DistantRows):
            return self.kept_rows.log_det_jacobian
        by_row = row_log_det_jacobian(self.rows, self.standardization)
        weight = self.rows.weight
        return float(by_row.sum() if weight is None else by_row @ weight.astype(np.float64))


def standardize(
    X: np.ndarray,
    weight: np.ndarray | None = None,
    units: Units = "columns",
    *,
    read_constant_columns: bool = True,
    settings: RobustMomentsSettings | None = None,
    places: np.ndarray | None = None,
) -> Data:
    """Centre the rows and bring them to unit scale, so that float32 suffices.

    A sum over a million float32 rows loses the digits that matter if the data lie far from zero or
    are badly scaled; the moments are therefore computed in float64, without the few rows that are
    far from all others. A constant column is only centred. Rows of weight 0 are left out.

    Parameters
    ----------
    X : [N, D]
        NaN is a missing entry, and does not count.
    weight : [N], optional
        The weight of each row in the moments, and the power of its likelihood.
    units : {"columns", "common", "upper", "lower"}
        Whether each column is divided by its own standard deviation; all of them by one number, the
        root mean square of these, as spherical covariances require; or the rows are whitened by an
        upper or a lower triangular matrix (see `Standardization`), for which X must be complete.
    read_constant_columns : bool
        Whether the likelihood reads columns in which all entries are equal. Otherwise they count as
        missing, unless there is no other column.
    settings : RobustMomentsSettings, optional
    places : int [N], optional
        The numbers of the rows, for messages; by default 0, 1, 2, ...

    Raises
    ------
    ValueError
        If a column has only NaN, or a standard deviation whose square is outside the range of the
        dtype.
    """
    places = np.arange(len(X)) if places is None else places
    if weight is not None:
        counted = np.flatnonzero(weight > 0)
        X, weight, places = X[counted], weight[counted], places[counted]
    empty = np.isnan(X).all(axis=0)
    if empty.any():
        column = int(np.flatnonzero(empty)[0])
        raise ValueError(f"X's column {column} has no value at all, only NaN. Drop the column.")
    with np.errstate(all="ignore"):
        moments = robust_moments(X, weight, settings)
        standardization = standardization_of(moments, units, X.dtype)
    unread = None
    if not read_constant_columns and moments.constant.any() and not moments.constant.all():
        unread = moments.constant
    rows = as_standardized_rows(X, standardization, unread)
    _check_range_of_rows(X, rows, standardization, places)
    return Data(
        rows if weight is None else rows._replace(weight=as_dtype_weights(weight, X.dtype)),
        standardization,
        far_scatter=far_scatter_in_units(moments, standardization) if moments.far.any() else None,
        unread=unread,
    )


def standardization_of(moments: RobustMoments, units: Units, dtype: np.dtype) -> Standardization:
    """Return the change of units that moments call for, or raise if its scales leave the dtype."""
    scale, varies = np.sqrt(np.diag(moments.scatter)), ~moments.constant
    if units == "common" and varies.any():
        largest = scale[varies].max()
        square = np.mean((scale[varies] / largest) ** 2)
        scale = np.full_like(scale, largest * np.sqrt(square))
    _check_range(scale, 1.0 / (scale * scale), dtype)
    if units in ("columns", "common"):
        return Standardization(moments.location, scale)
    factor = _triangular_factor(moments.scatter / np.outer(scale, scale), units)
    return whitening(moments.location, scale[:, np.newaxis] * factor)


def far_scatter_in_units(moments: RobustMoments, standardization: Standardization) -> np.ndarray:
    """Return the far rows' part of the scatter in standardised units."""
    if standardization.inverse is None:
        return moments.far_scatter / np.outer(standardization.scale, standardization.scale)
    return standardization.inverse @ moments.far_scatter @ standardization.inverse.T


def _triangular_factor(matrix: np.ndarray, units: Units) -> np.ndarray:
    """Return the lower or the upper triangular F with F F^T = matrix."""
    if units == "lower":
        return np.linalg.cholesky(matrix)
    return np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]


def as_dtype_weights(weight: np.ndarray, dtype: np.dtype, total: float | None = None) -> np.ndarray:
    """Return row weights in the dtype of the fit, or raise if the sum of all overflows in it."""
    total = float(weight.sum()) if total is None else total
    if not total < float(np.finfo(dtype).max):
        raise ValueError(
            f"sample_weight has the sum {total:.3g}, outside the range of {dtype}. Use "
            "smaller weights."
        )
    return weight.astype(dtype)


def subsample(data: Data, most: int, rng: np.random.Generator) -> Data:
    """Draw at most `most` rows without replacement, and raise their weights to the same total."""
    data = rows_in_memory(data)
    N = data.shape[0]
    chosen = np.sort(rng.choice(N, min(most, N), replace=False))
    rows, missing = data.rows, data.rows.missing
    weight = np.ones(len(chosen)) if rows.weight is None else rows.weight[chosen]
    weight = (weight * (data.total_weight / weight.sum(dtype=np.float64))).astype(data.dtype)
    if missing is not None:
        missing = missing._replace(pattern=missing.pattern[chosen])
    return data._replace(
        kept_rows=Rows(rows.values[chosen], weight, missing),
        sampling_fraction=data.sampling_fraction * len(chosen) / N,
    )


def rows_in_memory(data: Data) -> Data:
    """Return the data themselves, or of a source the sample that is in memory.

    The weights of the sample are raised to the same total.
    """
    kept = data.kept_rows
    if not isinstance(kept, DistantRows):
        return data
    sample = kept.sample
    weight = np.ones(len(sample.values)) if sample.weight is None else sample.weight
    weight = (weight * (kept.total_weight / weight.sum(dtype=np.float64))).astype(data.dtype)
    return data._replace(
        kept_rows=sample._replace(weight=weight), sampling_fraction=len(weight) / kept.N
    )


def _check_range(scale: np.ndarray, precision: np.ndarray, dtype: np.dtype) -> None:
    limits = np.finfo(dtype)
    # A margin of 1e6 for components whose sd is a thousandth of the whole column's.
    bad = ~((precision < limits.max / 1e6) & (precision > limits.tiny * 1e6))
    if bad.any():
        column = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"X's column {column} has standard deviation {scale[column]:.3g}, whose square is "
            f"outside the range of {dtype}. Rescale the column, or pass float64."
        )


def deviations(rows: Rows, standardization: Standardization) -> np.ndarray:
    """Return how far each entry is from its column's location, in the column's scale: [N, D]."""
    mixing = standardization.to_scaled_columns
    values = rows.values.astype(np.float64)
    return values if mixing is None else values @ mixing.T


def _check_range_of_rows(
    X: np.ndarray, rows: Rows, standardization: Standardization, places: np.ndarray
) -> None:
    """Raise if a row is so far from the others that its squared distance leaves the dtype's range.

    With the margin of `_check_range`.
    """
    most = np.sqrt(np.finfo(X.dtype).max / 1e6)
    for part in row_blocks(X):
        too_far = np.flatnonzero(~(np.abs(rows.values[part]) < most).all(axis=1))
        if len(too_far):
            row = part.start + int(too_far[0])
            distance = np.abs(X[row].astype(np.float64) - standardization.shift)
            column = int(np.nanargmax(distance / standardization.column_scale))
            raise_too_far(column, X[row, column], int(places[row]), X.dtype)


def raise_too_far(column: int, value: float, row: int, dtype: np.dtype) -> NoReturn:
    """Raise the error of an entry whose squared distance from the others leaves the dtype."""
    raise ValueError(
        f"X's column {column} has {value:.3g} in row {row}, so far from the other rows that its "
        f"squared distance is outside the range of {dtype}. Rescale the column, or drop or correct "
        "such rows."
    )


def standardize_values(X: np.ndarray, standardization: Standardization) -> np.ndarray:
    """Centre and scale rows by the shift and scale of a fit, and keep the dtype of X.

    Numbers too large for the dtype become infinite.
    """
    result = np.empty(np.shape(X), X.dtype)
    with np.errstate(over="ignore"):
        for part in row_blocks(X):
            centred = np.asarray(X[part], np.float64) - standardization.shift
            if standardization.inverse is None:
                result[part] = centred / standardization.scale
            else:
                result[part] = centred @ standardization.inverse.T
    return result


def as_standardized_rows(
    X: np.ndarray, standardization: Standardization, unread: np.ndarray | None = None
) -> Rows:
    """Return X as standardised `Rows`, with NaN as missing entries.

    Parameters
    ----------
    unread : bool [D], optional
        Columns that count as missing in every row.
    """
    if unread is None:
        values = standardize_values(X, standardization)
    else:  # whatever they hold: such a column is not mixed with others
        readable = np.where(unread, standardization.shift.astype(X.dtype), X)
        values = standardize_values(readable, standardization)
        values = np.where(unread, values.dtype.type(np.nan), values)
    values, missing = separate_missing(values)
    return Rows(values, missing=missing)


def standardize_new_rows(X: np.ndarray, data: Data) -> Rows:
    """Return other rows X in the units of the rows of a fit."""
    return as_standardized_rows(X, data.standardization, data.unread)


def row_log_det_jacobian(rows: Rows, standardization: Standardization) -> np.ndarray:
    """Return log |d x / d z| of each row's observed entries, in nats: float64 [N].

    x is in the units of X, z in standardised units.
    """
    logs = standardization.log_jacobian_by_column
    if rows.missing is None:
        return np.full(len(rows.values), logs.sum())
    return (rows.missing.observed.astype(np.float64) @ logs)[rows.missing.pattern]
