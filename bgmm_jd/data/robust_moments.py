"""Location and scatter of the rows, from the rows that are not far away and with regularisation.

They are the units in which rows are fitted, and those of the default prior. A few sentinels
(-9999, say) or a far cluster would inflate the plain covariance, and then every component would be
judged by a covariance that none of them has. The plain covariance of few rows, or of nearly
collinear columns, has eigenvalues near zero.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bgmm_jd.backend.numerics import blocks
from bgmm_jd.settings import RobustMomentsSettings

_BLOCK_NUMBERS = 2**20  # rows x columns that are in float64 at a time: 8 MiB an array


class RobustMoments(NamedTuple):
    """Location and scatter of rows, in the units of X; arrays are float64.

    location : [D], the mean of the rows that are not far.
    scatter : [D, D], their regularised covariance matrix, positive definite. A constant column has
        the variance 1 and no covariances.
    far : bool [N], the rows with an entry outside a fence.
    far_scatter : [D, D], the far rows' part of the second moment about `location`: the sum of
        (x - m)(x - m)^T over far rows, divided by the number of all rows.
    constant : bool [D], the columns in which all observed entries are equal.
    shrinkage : the delta of `robust_moments`.
    """

    location: np.ndarray
    scatter: np.ndarray
    far: np.ndarray
    far_scatter: np.ndarray
    constant: np.ndarray
    shrinkage: float


def robust_moments(
    X: np.ndarray,
    weight: np.ndarray | None = None,
    settings: RobustMomentsSettings | None = None,
) -> RobustMoments:
    """Return robust location and scatter of rows.

    1. An entry is far if it is outside [q25 - 5 (q75 - q25), q75 + 5 (q75 - q25)] of its column,
       and a row is far if it has such an entry. Where the quartiles are equal, quantiles nearer to
       the ends replace them. If the far rows were more than half of all, or a column did not vary
       without them, no row is far.
    2. C is the covariance matrix of the other rows, and

        scatter = (1 - delta) C + delta diag(C),

       with the delta that maximises the leave-one-out normal likelihood: see `best_shrinkage`.

    The results are equivariant under shifts and under changes of scale of each column. Under other
    affine maps of X, C is equivariant as long as no row is far, and the scatter as long as delta is
    also near zero, which it is for many rows of columns that are not nearly collinear. The fences
    and a larger delta depend on the columns.

    A missing entry counts neither for the fences nor for C, whose elements are then estimated from
    the rows in which both columns are observed. Such a matrix may have negative eigenvalues; they
    are set to zero. If entries are missing, and fewer than D + 1 of the rows that are not far are
    complete, delta is 1.

    Parameters
    ----------
    X : [N, D]
        NaN is a missing entry. Each column has an observed entry in a row of positive weight.
    weight : [N], optional
        How often each row counts, not negative; not all zero.
    settings : RobustMomentsSettings, optional

    Returns
    -------
    RobustMoments

    References
    ----------
    J. P. Hoffbeck, D. A. Landgrebe (1996). Covariance matrix estimation and classification with
        limited training data. IEEE Transactions on Pattern Analysis and Machine Intelligence 18(7).
    """
    settings = settings or RobustMomentsSettings()
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, np.float64)
    columns = column_statistics(X, weight, settings)
    far = _far_rows(X, weight, columns, settings)
    mean, covariance = _mean_and_covariance(X, columns, weight * ~far)
    covariance[columns.constant, columns.constant] = 1.0
    sd = np.sqrt(np.diag(covariance))
    correlation = as_correlation(covariance / np.outer(sd, sd))
    complete = _by_row(X, lambda rows: ~np.isnan(rows).any(axis=1))
    used = np.flatnonzero(complete & ~far & (weight > 0))
    if complete.all() or len(used) > len(sd):
        total = float(weight[used].sum())
        used = used[:: -(-len(used) // settings.shrinkage_rows)]
        z, share = (_relative(X[used], columns) - mean) / sd, weight[used]
        share = share * (total / share.sum())
        shrinkage = best_shrinkage(correlation, z, share, settings, X.dtype)
    else:
        shrinkage = 1.0
    shrunk = (1.0 - shrinkage) * correlation + shrinkage * np.eye(len(sd))
    scale = columns.unit * sd
    return RobustMoments(
        location=columns.centre + columns.unit * mean,
        scatter=scale[:, np.newaxis] * shrunk * scale,
        far=far,
        far_scatter=_far_scatter(X, weight, far, columns, mean),
        constant=columns.constant,
        shrinkage=shrinkage,
    )


class ColumnStatistics(NamedTuple):
    """Order statistics of each column, [D], in the units of X.

    In units of `unit` about `centre`, squares neither overflow nor underflow, and sentinels do not
    take digits from the other entries.

    centre : the median.
    unit : the range between the first quantiles that differ, or else between the extremes.
    low, high : the fences.
    constant : bool.
    """

    centre: np.ndarray
    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    constant: np.ndarray


def column_statistics(
    X: np.ndarray, weight: np.ndarray, settings: RobustMomentsSettings
) -> ColumnStatistics:
    """Return the median, the length of the middle part and the fences of each column."""
    tails = np.asarray(settings.fence_tails)
    levels = np.concatenate([[0.0, 0.5, 1.0], tails, 1.0 - tails])
    found = []
    for column in X.T:
        least, centre, greatest, *others = _weighted_quantiles(column, weight, levels).tolist()
        below, above = others[: len(tails)], others[len(tails) :]
        pairs = [pair for pair in zip(below, above, strict=True) if pair[0] < pair[1]]
        if pairs:
            low, high = pairs[0]
            reach = settings.fence_ranges * (high - low)
            found.append((centre, high - low, low - reach, high + reach, False))
        else:
            constant = least == greatest
            found.append((centre, 1.0 if constant else greatest - least, -np.inf, np.inf, constant))
    return ColumnStatistics(*map(np.array, zip(*found, strict=True)))


def _weighted_quantiles(column: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return quantiles of the observed entries by the inverse of their distribution function.

    A weight of 2 counts as two equal rows.
    """
    counts = (weight > 0) & ~np.isnan(column)
    values, weight = column[counts], weight[counts]
    # Less some roundings of the sum, so that a level that equals a step is reached by that step.
    levels = levels * (1.0 - 1e-12)
    if (weight == weight[0]).all():  # saves a sort, 0.4 s for a column of a million rows
        places = np.maximum(np.ceil(levels * len(values)).astype(int) - 1, 0)
        return np.partition(values, np.unique(places))[places].astype(np.float64)
    order = np.argsort(values, kind="stable")
    ordered, cumulative = values[order], np.cumsum(weight[order])
    reached = levels * cumulative[-1]
    return ordered[np.searchsorted(cumulative, reached)].astype(np.float64)


def row_blocks(X: np.ndarray) -> Iterator[slice]:
    """Cut rows [N, D] into blocks, so that float64 copies take little memory beside X."""
    return blocks(len(X), X.shape[1], _BLOCK_NUMBERS)


def _by_row(X: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what a function says of each row, a bool [N]."""
    return np.concatenate([function(X[part]) for part in row_blocks(X)])


def _relative(X: np.ndarray, columns: ColumnStatistics) -> np.ndarray:
    """Return rows in units of the columns' middle parts: float64."""
    return (np.asarray(X, np.float64) - columns.centre) / columns.unit


def _far_rows(
    X: np.ndarray, weight: np.ndarray, columns: ColumnStatistics, settings: RobustMomentsSettings
) -> np.ndarray:
    """Return which rows [N] have an entry outside the fences, or none where that takes too much."""
    far = _by_row(X, lambda rows: np.any((columns.low > rows) | (columns.high < rows), axis=1))
    if weight[far].sum() > settings.most_far * weight.sum():
        return np.zeros_like(far)
    greatest, least = np.full((2, X.shape[1]), np.nan, X.dtype)
    for part in row_blocks(X):
        near = X[part][(weight[part] > 0) & ~far[part]]
        greatest = np.fmax.reduce(np.vstack([greatest, near]), axis=0)
        least = np.fmin.reduce(np.vstack([least, near]), axis=0)
    # A column without an observed entry in these rows has NaN, which is not equal to itself.
    readable = (greatest > least) | (columns.constant & (greatest == least))
    return far if readable.all() else np.zeros_like(far)


def _mean_and_covariance(
    X: np.ndarray, columns: ColumnStatistics, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and covariance, each element from the rows in which it is observed.

    In the units of `_relative`.
    """
    D = X.shape[1]
    shares, sums = np.zeros((2, D))
    for part in row_blocks(X):
        relative, share = _relative_and_share(X[part], columns, weight[part])
        shares += share.sum(axis=0)
        sums += np.where(share > 0, share * relative, 0.0).sum(axis=0)
    mean = sums / shares
    pairs, products = np.zeros((2, D, D))
    for part in row_blocks(X):
        relative, share = _relative_and_share(X[part], columns, weight[part])
        deviation = np.where(share > 0, relative - mean, 0.0)
        pairs += share.T @ (share > 0).astype(np.float64)
        products += (deviation * weight[part, np.newaxis]).T @ deviation
    # Two columns that are never observed together have no known covariance.
    return mean, products / np.where(pairs > 0, pairs, 1.0)


def _relative_and_share(
    X: np.ndarray, columns: ColumnStatistics, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `_relative` rows, and the weight [n, D] of each entry, 0 where it is missing."""
    relative = _relative(X, columns)
    return relative, ~np.isnan(relative) * weight[:, np.newaxis]


def _far_scatter(
    X: np.ndarray,
    weight: np.ndarray,
    far: np.ndarray,
    columns: ColumnStatistics,
    mean: np.ndarray,
) -> np.ndarray:
    """Return the far rows' part of the second moment about the location."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for part in row_blocks(X):
        rows, own = X[part][far[part]], weight[part][far[part]]
        deviation = np.nan_to_num(_relative(rows, columns) - mean, nan=0.0) * columns.unit
        total += (own * deviation.T) @ deviation
    return total / weight.sum()


def as_correlation(matrix: np.ndarray) -> np.ndarray:
    """Return a correlation matrix: negative eigenvalues are set to zero, then the diagonal to 1."""
    values, vectors = np.linalg.eigh(matrix)
    repaired = (vectors * np.maximum(values, 0.0)) @ vectors.T if values[0] < 0 else matrix
    sd = np.sqrt(np.diag(repaired))
    return repaired / np.outer(sd, sd)


def best_shrinkage(
    correlation: np.ndarray,
    z: np.ndarray,
    weight: np.ndarray,
    settings: RobustMomentsSettings,
    dtype: np.dtype,
) -> float:
    """Return the delta with the best leave-one-out normal likelihood of complete rows.

    With R the correlation matrix of n rows, S = (1 - delta) R + delta I and q = z^T S^-1 z, leaving
    the row z out of mean and covariance, but not out of the unit of each column, makes of z and S

        n / (n - 1) z    and    n / (n - 1) (S - (1 - delta) / (n - 1) z z^T)

    (Hoffbeck and Landgrebe 1996, section 3). Determinant and quadratic form follow from q, and one
    eigendecomposition of R gives q for every delta.

    Parameters
    ----------
    correlation : [D, D]
    z : [n, D], deviations from the mean in units of the columns' standard deviations.
    weight : [n]
    dtype : of the rows as they were given.
    """
    eigenvalues, vectors = np.linalg.eigh(correlation)
    squares = (z @ vectors) ** 2
    n = max(float(weight.sum()), 2.0)  # weights may sum to less than the two rows that it takes

    def loss(delta: float) -> float:
        spectrum = (1.0 - delta) * np.maximum(eigenvalues, 0.0) + delta
        q = squares @ (1.0 / spectrum)
        left = 1.0 - (1.0 - delta) / (n - 1.0) * q
        if (left <= 0).any():  # without one of the rows, the matrix is singular
            return np.inf
        by_row = np.log(left) + n / (n - 1.0) * q / left
        return float(weight.sum() * np.log(spectrum).sum() + weight @ by_row)

    least = settings.least_of_float32 if dtype == np.float32 else 0.0
    return min((max(delta, least) for delta in settings.shrinkages), key=loss)
