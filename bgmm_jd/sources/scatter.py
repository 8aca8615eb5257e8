"""The second pass over a source: location and scatter of its rows, as `robust_moments` has them.

The fences beyond which a row is far come from the quantiles of a sample, and everything else from
all rows: sums in units of the sample's middle part, which lose no digits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.robust_moments import (
    ColumnStatistics,
    RobustMoments,
    as_correlation,
    best_shrinkage,
    column_statistics,
)
from bgmm_jd.settings import RobustMomentsSettings
from bgmm_jd.sources.census import Census, as_fit_weights
from bgmm_jd.sources.chunks import Chunk
from bgmm_jd.sources.reader import Reader, Statistic


class PairSums(NamedTuple):
    """Weighted sums over rows z with observed entries o (1, or 0 where one is missing and z is 0).

    pairs, halves, products [D, D] : of o o^T, z o^T and z z^T.
    weight, complete : of all rows, and of those without missing entries.
    least, greatest [D] : of the entries; infinite where there are none.
    """

    pairs: np.ndarray
    halves: np.ndarray
    products: np.ndarray
    weight: float
    complete: float
    least: np.ndarray
    greatest: np.ndarray

    def plus(self, other: PairSums) -> PairSums:
        """Return the sums over the rows of both."""
        return PairSums(
            self.pairs + other.pairs,
            self.halves + other.halves,
            self.products + other.products,
            self.weight + other.weight,
            self.complete + other.complete,
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
        )

    def about(self, mean: np.ndarray) -> np.ndarray:
        """Return the sums [D, D] of the products of deviations from a mean."""
        cross = self.halves * mean
        return self.products - cross - cross.T + self.pairs * np.outer(mean, mean)


class NearAndFar(NamedTuple):
    """The sums over the rows that are not far, and over those that are."""

    near: PairSums
    far: PairSums


def scatter_of_source(
    reader: Reader, census: Census, settings: RobustMomentsSettings
) -> tuple[RobustMoments, bool]:
    """Read all rows once; return their robust moments, and whether some of them are far.

    In the moments, `far` tells of the rows of the sample.

    Raises
    ------
    ValueError
        If rows of the sample are not what they were in the first pass. The workers of an executor
        do not look, because each task would be sent the sample.
    """
    sample = census.sample
    weight = np.ones(len(sample.key)) if sample.weight is None else sample.weight
    columns = _with_exact_extremes(column_statistics(sample.values, weight, settings), census)
    reduce = functools.partial(_sums_of, columns=columns, dtype=reader.source.dtype)
    prepare = _unchanged
    if reader.executor is None:
        prepare = functools.partial(_same_as_before, number=sample.number, values=sample.values)
    found = functools.reduce(_added, reader.results(Statistic(prepare, reduce)))
    near, has_far = found.near, found.far.weight > 0
    if has_far and not _far_rows_are_exceptions(found, columns, settings):
        near, has_far = found.near.plus(found.far), False
    return _moments(near, found.far if has_far else None, columns, census, settings), has_far


def _unchanged(chunk: Chunk) -> Chunk:
    return chunk


def _same_as_before(chunk: Chunk, *, number: np.ndarray, values: np.ndarray) -> Chunk:
    """Return a chunk, or raise if it has other values [n, D] in the rows of those numbers [n]."""
    begin, end = np.searchsorted(number, [chunk.first, chunk.first + len(chunk.values)])
    now, before = chunk.values[number[begin:end] - chunk.first], values[begin:end]
    same = ((now == before) | (np.isnan(now) & np.isnan(before))).all(axis=1)
    if not same.all():
        raise ValueError(
            f"Row {number[begin:end][~same][0]} of the source is another than in the first pass. "
            "scan must yield the same rows in the same order in every pass: do not shuffle them "
            "anew (of a tf.data.Dataset, shuffle with reshuffle_each_iteration=False), and do not "
            "change files during a fit."
        )
    return chunk


def _with_exact_extremes(columns: ColumnStatistics, census: Census) -> ColumnStatistics:
    """Return the statistics with what only all rows can tell: which columns are constant."""
    span = census.extremes.greatest - census.extremes.least
    rare = columns.constant & (span > 0)  # other values are in few rows
    return columns._replace(
        unit=np.where(rare, span, columns.unit), constant=columns.constant & ~rare
    )


def _sums_of(chunks: Iterable[Chunk], *, columns: ColumnStatistics, dtype: np.dtype) -> NearAndFar:
    return functools.reduce(_added, (_sums_of_chunk(chunk, columns, dtype) for chunk in chunks))


def _added(a: NearAndFar, b: NearAndFar) -> NearAndFar:
    return NearAndFar(a.near.plus(b.near), a.far.plus(b.far))


def _sums_of_chunk(chunk: Chunk, columns: ColumnStatistics, dtype: np.dtype) -> NearAndFar:
    X = chunk.values
    weight = np.ones(len(X)) if chunk.weight is None else as_fit_weights(chunk.weight, dtype)
    far = np.any((columns.low > X) | (columns.high < X), axis=1) & (weight > 0)
    relative = (X.astype(np.float64) - columns.centre) / columns.unit
    near = ~far & (weight > 0)
    return NearAndFar(
        _pair_sums(relative[near], weight[near]), _pair_sums(relative[far], weight[far])
    )


def _pair_sums(relative: np.ndarray, weight: np.ndarray) -> PairSums:
    observed = ~np.isnan(relative)
    z, o = np.where(observed, relative, 0.0), observed.astype(np.float64)
    weighted = z * weight[:, np.newaxis]
    return PairSums(
        pairs=(o * weight[:, np.newaxis]).T @ o,
        halves=weighted.T @ o,
        products=weighted.T @ z,
        weight=float(weight.sum()),
        complete=float(weight[observed.all(axis=1)].sum()),
        least=np.where(observed, relative, np.inf).min(axis=0, initial=np.inf),
        greatest=np.where(observed, relative, -np.inf).max(axis=0, initial=-np.inf),
    )


def _far_rows_are_exceptions(
    found: NearAndFar, columns: ColumnStatistics, settings: RobustMomentsSettings
) -> bool:
    """Return whether far rows are few, and all columns vary without them."""
    near, far = found
    if far.weight > settings.most_far * (near.weight + far.weight):
        return False
    readable = (near.greatest > near.least) | (columns.constant & (near.greatest == near.least))
    return bool(readable.all())


def _moments(
    near: PairSums,
    far: PairSums | None,
    columns: ColumnStatistics,
    census: Census,
    settings: RobustMomentsSettings,
) -> RobustMoments:
    mean = np.diag(near.halves) / np.diag(near.pairs)
    # Two columns that are never observed together have no known covariance.
    covariance = near.about(mean) / np.where(near.pairs > 0, near.pairs, 1.0)
    covariance[columns.constant, :] = covariance[:, columns.constant] = 0.0
    covariance[columns.constant, columns.constant] = 1.0
    sd = np.sqrt(np.diag(covariance))
    correlation = as_correlation(covariance / np.outer(sd, sd))
    has_far = far is not None
    is_far, shrinkage = _far_and_shrinkage(
        census, columns, mean, sd, correlation, has_far, near.complete, settings
    )
    shrunk = (1.0 - shrinkage) * correlation + shrinkage * np.eye(len(sd))
    scale = columns.unit * sd
    far_scatter = np.zeros_like(covariance)
    if far is not None:
        units = np.outer(columns.unit, columns.unit)
        far_scatter = far.about(mean) * units / (near.weight + far.weight)
    return RobustMoments(
        location=columns.centre + columns.unit * mean,
        scatter=scale[:, np.newaxis] * shrunk * scale,
        far=is_far,
        far_scatter=far_scatter,
        constant=columns.constant,
        shrinkage=shrinkage,
    )


def _far_and_shrinkage(
    census: Census,
    columns: ColumnStatistics,
    mean: np.ndarray,
    sd: np.ndarray,
    correlation: np.ndarray,
    has_far: bool,
    total: float,
    settings: RobustMomentsSettings,
) -> tuple[np.ndarray, float]:
    """Return which rows of the sample are far, and the regularisation that suits the others.

    Parameters
    ----------
    total : the weight of all complete rows of the source that are not far.
    """
    X = census.sample.values
    far = np.any((columns.low > X) | (columns.high < X), axis=1) & has_far
    used = np.flatnonzero(~np.isnan(X).any(axis=1) & ~far)
    if not census.is_complete and len(used) <= len(sd):
        return far, 1.0
    used = used[:: -(-len(used) // settings.shrinkage_rows)]
    z = ((X[used].astype(np.float64) - columns.centre) / columns.unit - mean) / sd
    weight = census.sample.weight
    share = np.ones(len(used)) if weight is None else weight[used]
    share = share * (total / share.sum())
    return far, best_shrinkage(correlation, z, share, settings, X.dtype)
