"""Standardise and subsample rows, and compute the Jacobian of their change of units."""

from typing import Literal, NamedTuple

import numpy as np

from bgmm_jd.data.missing import separate_missing
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.units import Standardization, whitening

Units = Literal["columns", "common", "upper", "lower"]


class Data(NamedTuple):
    """Rows ready for the fit, in standardised units.

    rows : arrays in the dtype of the fit.
    standardization : the change of units.
    sampling_fraction : fraction of all rows that a subsample contains; 1 otherwise.
    """

    rows: Rows
    standardization: Standardization
    sampling_fraction: float = 1.0

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of the fit."""
        return self.rows.values.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of rows and of columns, (N, D)."""
        return self.rows.values.shape

    @property
    def total_weight(self) -> float:
        """Return the sum of the row weights; N without weights."""
        weight = self.rows.weight
        return float(self.shape[0] if weight is None else weight.sum(dtype=np.float64))

    @property
    def log_det_jacobian(self) -> float:
        """Return log |d x / d z| of all rows x = shift + scale z, in nats.

        The log density of the rows in the units of X is that of the standardised rows less this.
        """
        by_row = row_log_det_jacobian(self.rows, self.standardization)
        weight = self.rows.weight
        return float(by_row.sum() if weight is None else by_row @ weight.astype(np.float64))


def standardize(X: np.ndarray, weight: np.ndarray | None = None, units: Units = "columns") -> Data:
    """Centre the rows and bring them to unit scale, so that float32 suffices.

    A sum over a million float32 rows loses the digits that matter if the data lie far from zero or
    are badly scaled; the moments are therefore computed in float64. A constant column is only
    centred. Rows of weight 0 are left out.

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

    Raises
    ------
    ValueError
        If a column has only NaN, or a standard deviation whose square is outside the range of the
        dtype.
    """
    if weight is not None:
        X, weight = X[weight > 0], weight[weight > 0]
    standardization = _standardization(X, weight, units)
    rows = as_standardized_rows(X, standardization)
    return Data(
        rows if weight is None else rows._replace(weight=_as_dtype_weights(weight, X.dtype)),
        standardization,
    )


def _standardization(X: np.ndarray, weight: np.ndarray | None, units: Units) -> Standardization:
    empty = np.isnan(X).all(axis=0)
    if empty.any():
        column = int(np.flatnonzero(empty)[0])
        raise ValueError(f"X's column {column} has no value at all, only NaN. Drop the column.")
    low, high = (np.asarray(f(X, axis=0), np.float64) for f in (np.nanmin, np.nanmax))
    with np.errstate(all="ignore"):
        span = high - low
        step = np.where(span > 0, span, 1.0)
        relative = (np.asarray(X, np.float64) - low) / step  # in [0, 1]: no square overflows
        mean, sd = _mean_and_sd(relative, weight)
        scale = np.where(span > 0, step * sd, 1.0)
        shift = np.where(span > 0, low + step * mean, low)
        if units == "common" and (span > 0).any():
            largest = scale[span > 0].max()
            square = np.mean((scale[span > 0] / largest) ** 2)
            scale = np.full_like(scale, largest * np.sqrt(square))
        precision = 1.0 / (scale * scale)
    _check_range(scale, precision, X.dtype)
    if units in ("columns", "common"):
        return Standardization(shift, scale)
    deviation = (relative - mean) / np.where(span > 0, sd, 1.0)
    correlation = np.cov(deviation.T, bias=True, aweights=weight).reshape(len(sd), -1)
    correlation += np.diag(np.where(span > 0, 1e-6, 1.0))
    return whitening(shift, scale[:, np.newaxis] * _triangular_factor(correlation, units))


def _triangular_factor(matrix: np.ndarray, units: Units) -> np.ndarray:
    """Return the lower or the upper triangular F with F F^T = matrix."""
    if units == "lower":
        return np.linalg.cholesky(matrix)
    return np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]


def _as_dtype_weights(weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return row weights in the dtype of the fit, or raise if their sum overflows in it."""
    if not weight.sum() < np.finfo(dtype).max:
        raise ValueError(
            f"sample_weight has the sum {weight.sum():.3g}, outside the range of {dtype}. Use "
            "smaller weights."
        )
    return weight.astype(dtype)


def subsample(data: Data, most: int, rng: np.random.Generator) -> Data:
    """Draw at most `most` rows without replacement, and raise their weights to the same total."""
    N = data.shape[0]
    chosen = np.sort(rng.choice(N, min(most, N), replace=False))
    rows, missing = data.rows, data.rows.missing
    weight = np.ones(len(chosen)) if rows.weight is None else rows.weight[chosen]
    weight = (weight * (data.total_weight / weight.sum(dtype=np.float64))).astype(data.dtype)
    if missing is not None:
        missing = missing._replace(pattern=missing.pattern[chosen])
    return data._replace(
        rows=Rows(rows.values[chosen], weight, missing),
        sampling_fraction=data.sampling_fraction * len(chosen) / N,
    )


def _mean_and_sd(relative: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and sd of the observed entries of each column."""
    if weight is None and not np.isnan(relative).any():
        return relative.mean(axis=0), relative.std(axis=0)
    there = ~np.isnan(relative)
    share = there if weight is None else there * weight[:, np.newaxis]
    count = share.sum(axis=0)
    filled = np.where(there, relative, 0.0)
    mean = (share * filled).sum(axis=0) / count
    return mean, np.sqrt((share * np.where(there, filled - mean, 0.0) ** 2).sum(axis=0) / count)


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


def standardize_values(X: np.ndarray, standardization: Standardization) -> np.ndarray:
    """Centre and scale rows by the shift and scale of a fit, and keep the dtype of X.

    Numbers too large for the dtype become infinite.
    """
    with np.errstate(over="ignore"):
        centred = np.asarray(X, np.float64) - standardization.shift
        if standardization.inverse is None:
            return (centred / standardization.scale).astype(X.dtype)
        return (centred @ standardization.inverse.T).astype(X.dtype)


def as_standardized_rows(X: np.ndarray, standardization: Standardization) -> Rows:
    """Return X as standardised `Rows`, with NaN as missing entries."""
    values, missing = separate_missing(standardize_values(X, standardization))
    return Rows(values, missing=missing)


def row_log_det_jacobian(rows: Rows, standardization: Standardization) -> np.ndarray:
    """Return log |d x / d z| of each row's observed entries, in nats: float64 [N].

    x is in the units of X, z in standardised units.
    """
    logs = standardization.log_column_scale
    if rows.missing is None:
        return np.full(len(rows.values), logs.sum())
    return (rows.missing.observed.astype(np.float64) @ logs)[rows.missing.pattern]
