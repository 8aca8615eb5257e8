"""The first pass over a source: are its rows valid, how many are there, and a sample of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.validation import check_finite
from bgmm_jd.sources.chunks import Chunk
from bgmm_jd.sources.reader import Reader, Statistic
from bgmm_jd.sources.row_sample import RowSample, join, row_keys


class Extremes(NamedTuple):
    """The least and the greatest entry of each column [D], and the rows that have them.

    NaN and -1 where a column has no entry.
    """

    least: np.ndarray
    greatest: np.ndarray
    least_row: np.ndarray
    greatest_row: np.ndarray


class Census(NamedTuple):
    """What the first pass has found; only rows of positive weight count, except in `rows`.

    rows : number of rows.
    counted : number of those of positive weight.
    weight : sum of their weights.
    observed [D] : the weight of the rows in which each column is observed.
    is_complete : whether no entry of any row is missing.
    extremes : Extremes
    sample : RowSample
    """

    rows: int
    counted: int
    weight: float
    observed: np.ndarray
    is_complete: bool
    extremes: Extremes
    sample: RowSample


def take_census(
    reader: Reader, *, sample_rows: int, seed: int, missing: bool, check: bool = True
) -> Census:
    """Read all rows once.

    Parameters
    ----------
    sample_rows : number of rows of the sample.
    seed : of the sample.
    missing : whether NaN is a missing entry, or an error.
    check : whether rows must be finite.

    Raises
    ------
    ValueError
        If rows or weights are not finite, weights are negative, or all of them are zero.
    """
    source = reader.source
    prepare = functools.partial(
        _checked, missing=missing, names=source.names, dtype=source.dtype, check=check
    )
    reduce = functools.partial(_census_of, sample_rows=sample_rows, seed=seed)
    parts = reader.results(Statistic(prepare, reduce))
    first = next(parts, None)
    if first is None:
        raise ValueError("X must have at least one row; the source has none.")
    found = functools.reduce(functools.partial(_merged, sample_rows=sample_rows), parts, first)
    if not found.counted:
        raise ValueError(
            "The weights must have at least one that is positive; all are zero in "
            f"{source.dtype}. Use larger weights."
        )
    return found._replace(sample=found.sample.in_order())


def _checked(
    chunk: Chunk, *, missing: bool, names: tuple[str, ...] | None, dtype: np.dtype, check: bool
) -> Chunk:
    """Return a chunk with valid weights, those that underflow set to zero, or raise."""
    if check:
        check_finite(chunk.values, missing, "X", names, first=chunk.first)
    if chunk.weight is None:
        return chunk
    bad = np.flatnonzero(~(np.isfinite(chunk.weight) & (chunk.weight >= 0)))
    if len(bad):
        raise ValueError(
            f"The weights must be finite and not negative; got {chunk.weight[bad[0]]} in row "
            f"{chunk.first + bad[0]}. Use 0 to leave a row out."
        )
    return chunk._replace(weight=as_fit_weights(chunk.weight, dtype))


def as_fit_weights(weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return weights as float64, those that underflow in the dtype of the fit set to zero."""
    with np.errstate(over="ignore", under="ignore"):
        return np.where(weight.astype(dtype) > 0, weight, 0.0)


def _census_of(chunks: Iterable[Chunk], *, sample_rows: int, seed: int) -> Census:
    merge = functools.partial(_merged, sample_rows=sample_rows)
    return functools.reduce(merge, (_census_of_chunk(chunk, sample_rows, seed) for chunk in chunks))


def _census_of_chunk(chunk: Chunk, sample_rows: int, seed: int) -> Census:
    rows = len(chunk.values)
    number, values, weight = np.arange(chunk.first, chunk.first + rows), chunk.values, chunk.weight
    if weight is not None:
        counted = weight > 0
        number, values, weight = number[counted], values[counted], weight[counted]
    observed = ~np.isnan(values)
    sample = RowSample(row_keys(number, seed), number, values, weight).smallest(sample_rows)
    return Census(
        rows=rows,
        counted=len(values),
        weight=float(len(values) if weight is None else weight.sum()),
        observed=observed.sum(axis=0) * 1.0 if weight is None else weight @ observed,
        is_complete=not np.isnan(chunk.values).any(),
        extremes=_extremes(values, number),
        sample=sample,
    )


def _extremes(values: np.ndarray, number: np.ndarray) -> Extremes:
    D = values.shape[1]
    if not len(values):
        return Extremes(np.full(D, np.nan), np.full(D, np.nan), np.full(D, -1), np.full(D, -1))
    low = np.where(np.isnan(values), np.inf, values).argmin(axis=0)
    high = np.where(np.isnan(values), -np.inf, values).argmax(axis=0)
    columns = np.arange(D)
    least = values[low, columns].astype(np.float64)
    greatest = values[high, columns].astype(np.float64)
    return Extremes(least, greatest, number[low], number[high])


def _merged(a: Census, b: Census, sample_rows: int) -> Census:
    return Census(
        rows=a.rows + b.rows,
        counted=a.counted + b.counted,
        weight=a.weight + b.weight,
        observed=a.observed + b.observed,
        is_complete=a.is_complete and b.is_complete,
        extremes=_merged_extremes(a.extremes, b.extremes),
        sample=_merged_sample(a.sample, b.sample, sample_rows),
    )


def _merged_extremes(a: Extremes, b: Extremes) -> Extremes:
    lower = np.isnan(a.least) | (b.least < a.least)
    higher = np.isnan(a.greatest) | (b.greatest > a.greatest)
    return Extremes(
        np.where(lower, b.least, a.least),
        np.where(higher, b.greatest, a.greatest),
        np.where(lower, b.least_row, a.least_row),
        np.where(higher, b.greatest_row, a.greatest_row),
    )


def _merged_sample(a: RowSample, b: RowSample, sample_rows: int) -> RowSample:
    """Return the smallest of both; those of `b` that cannot be among them are not copied."""
    if len(a.key) == sample_rows:
        b = b.take(b.key < a.key.max())
    return join([a, b]).smallest(sample_rows) if len(b.key) else a
