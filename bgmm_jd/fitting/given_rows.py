"""The rows that a fit is given: in memory, or read from a source."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bgmm_jd.data.far_rows import warn_of_very_far_rows
from bgmm_jd.data.frames import column_names
from bgmm_jd.data.rows import AbsentRows
from bgmm_jd.data.source import Source
from bgmm_jd.data.standardize import Data, Units, standardize
from bgmm_jd.data.validation import as_weights
from bgmm_jd.fitting.search import subsample_size
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.settings import FullDataSettings, RobustMomentsSettings, Settings
from bgmm_jd.sources.census import Census, take_census
from bgmm_jd.sources.chunks import rows_of_chunk
from bgmm_jd.sources.reader import Reader
from bgmm_jd.sources.row_file import rows_of_memmap
from bgmm_jd.sources.standardized import standardize_source, warn_of_very_far_entries
from bgmm_jd.sources.weighted import WeightedRows


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenRows:
    """Rows in the units of X, of positive weight.

    values : [n, D], all of them, or the sample of a source.
    weight : float64 [n], or None if all are 1.
    places : [n], their numbers in X.
    shape : (rows, D) of all of X, those of weight 0 too.
    count : N, the number of rows of positive weight.
    reader, census : of a source whose rows are not all in memory; otherwise None.
    """

    values: np.ndarray
    weight: np.ndarray | None
    places: np.ndarray
    shape: tuple[int, int]
    count: int
    reader: Reader | None = None
    census: Census | None = None

    @property
    def are_in_memory(self) -> bool:
        """Return whether `values` are all rows."""
        return self.census is None


def as_source(X: Any, settings: Settings) -> Source | None:
    """Return the source of rows that X is; None if its rows are, or shall be, in memory."""
    if isinstance(X, Source):
        return X
    is_large = isinstance(X, np.memmap) and settings.sources.numbers_in_memory < X.size
    return rows_of_memmap(X) if is_large and X.ndim == 2 else None


def names_of(X: Any, source: Source | None) -> tuple[str, ...] | None:
    """Return the names of the columns of X, if they have any."""
    return column_names(X) if source is None else source.names


def rows_of_array(X: np.ndarray, sample_weight: Any) -> GivenRows:
    """Return rows in memory, which `as_rows` has checked, and check their weights."""
    weight, places = as_weights(sample_weight, len(X), X.dtype), np.arange(len(X))
    values = X
    if weight is not None:
        places = np.flatnonzero(weight)
        values, weight = X[places], weight[places]
    return GivenRows(values=values, weight=weight, places=places, shape=X.shape, count=len(values))


def with_enough_digits(rows: GivenRows, settings: FullDataSettings) -> GivenRows:
    """Return rows of large weights in float64: float32 cannot add up their log likelihoods.

    Only of rows that are in memory and are few: passes over many rows have their draws in float64.
    """
    if rows.weight is None or not rows.are_in_memory or rows.values.size > settings.widened_numbers:
        return rows
    if rows.weight.sum() <= settings.float32_weight:
        return rows
    return replace(rows, values=rows.values.astype(np.float64, copy=False))


def reader_of(
    source: Source, sample_weight: Any, settings: Settings, executor: Executor | None
) -> Reader:
    """Return how the passes of a fit read a source.

    Parameters
    ----------
    sample_weight : of a source without weights of its own.
    executor : whose workers read the rows; None for the present process.
    """
    sizes = settings.sources
    return Reader(
        source=_with_weights(source, sample_weight),
        chunk_rows=rows_of_chunk(source.features, settings.full_data.slices, sizes),
        chunks_per_part=sizes.chunks_per_part,
        ahead=sizes.chunks_ahead,
        executor=executor,
        patience=sizes.patience,
    )


def _with_weights(source: Source, sample_weight: Any) -> Source:
    if sample_weight is None:
        return source
    if source.is_weighted or source.count is None:
        raise ValueError(
            "sample_weight must be None for a source that has weights, or whose number of rows is "
            "not known. Of batches, yield pairs of rows and weights; of a table, name the column: "
            "bgmm_jd.table(where, weight=...)."
        )
    weight = as_weights(sample_weight, source.count, source.dtype)
    return source if weight is None else WeightedRows(source, weight)


def rows_of_source(
    reader: Reader, K: int, missing: bool, seed: int, settings: Settings
) -> GivenRows:
    """Read all rows of a source once, check them, and return them or a sample of them.

    Parameters
    ----------
    K : number of components, of which the first phase needs rows each.
    missing : whether NaN is a missing entry.
    seed : of the sample.
    """
    features = reader.source.features
    least = subsample_size(K, features, settings)
    most = max(settings.sources.numbers_in_memory // features, least)
    census = take_census(reader, sample_rows=most, seed=seed, missing=missing)
    sample, is_large = census.sample, census.counted > most
    weight = sample.weight
    return GivenRows(
        values=sample.values,
        weight=None if weight is None or ((weight == 1).all() and not is_large) else weight,
        places=sample.number,
        shape=(census.rows, features),
        count=census.counted,
        reader=reader if is_large else None,
        census=census if is_large else None,
    )


def standardize_rows(
    rows: GivenRows,
    units: Units,
    names: tuple[str, ...] | None,
    *,
    read_constant_columns: bool,
    settings: RobustMomentsSettings,
    stacklevel: int,
) -> Data:
    """Return the rows in standardised units, and warn of those that are far from all others.

    Parameters
    ----------
    units, read_constant_columns, settings : as in `standardize`.
    names : of the columns.
    stacklevel : as in `warnings.warn`, seen from the caller.
    """
    if rows.reader is None or rows.census is None:
        data = standardize(
            rows.values,
            rows.weight,
            units,
            read_constant_columns=read_constant_columns,
            settings=settings,
            places=rows.places,
        )
        warn_of_very_far_rows(
            data, rows.places, settings.very_far, names, stacklevel=stacklevel + 1
        )
        return data
    data = standardize_source(
        rows.reader,
        rows.census,
        units,
        read_constant_columns=read_constant_columns,
        settings=settings,
    )
    warn_of_very_far_entries(data, rows.census, settings.very_far, names, stacklevel=stacklevel + 1)
    return data


def without_source(posterior: Posterior) -> Posterior:
    """Return a posterior of rows that were read from a source without its sample and its reader."""
    data, approximation = posterior.problem.data, posterior.approximation
    if data.has_rows:
        return posterior
    (N, D), dtype = data.shape, data.dtype
    absent = data._replace(kept_rows=AbsentRows(N=N, D=D, type=dtype.name))
    problem = posterior.problem.on(absent)
    return replace(posterior, approximation=replace(approximation, problem=problem))
