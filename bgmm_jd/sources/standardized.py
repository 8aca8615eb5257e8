"""Rows of a source in standardised units: the data of a fit, and chunks as its passes read them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from bgmm_jd.data.far_rows import FarRowsWarning
from bgmm_jd.data.missing import Missing
from bgmm_jd.data.rows import DistantRows, Rows
from bgmm_jd.data.standardize import (
    Data,
    Units,
    as_dtype_weights,
    as_standardized_rows,
    far_scatter_in_units,
    raise_too_far,
    standardization_of,
)
from bgmm_jd.data.units import Standardization
from bgmm_jd.data.validation import column_text
from bgmm_jd.settings import RobustMomentsSettings
from bgmm_jd.sources.census import Census, as_fit_weights
from bgmm_jd.sources.chunks import Chunk
from bgmm_jd.sources.reader import Reader
from bgmm_jd.sources.scatter import scatter_of_source


def standardize_source(
    reader: Reader,
    census: Census,
    units: Units,
    *,
    read_constant_columns: bool,
    settings: RobustMomentsSettings,
) -> Data:
    """Return the data of a fit to a source: as `standardize` does, by one more pass over the rows.

    Parameters
    ----------
    reader, census : of the source.
    units, read_constant_columns, settings : as in `standardize`.

    Raises
    ------
    ValueError
        If a column has no value, or a standard deviation or an entry out of the range of the dtype.
    """
    dtype, sample = reader.source.dtype, census.sample
    empty = np.flatnonzero(np.isnan(sample.values).all(axis=0))
    if len(empty):
        raise ValueError(
            f"X's column {column_text(int(empty[0]), reader.source.names)} has no value in a "
            f"sample of {len(sample.key)} rows, only NaN. Drop the column."
        )
    reader = replace(reader, count=census.rows)
    with np.errstate(all="ignore"):
        moments, has_far = scatter_of_source(reader, census, settings)
        standardization = standardization_of(moments, units, dtype)
    _check_extremes(census, standardization, dtype)
    unread = None
    if not read_constant_columns and moments.constant.any() and not moments.constant.all():
        unread = moments.constant
    weight = sample.weight
    rows = as_standardized_rows(sample.values, standardization, unread)
    observed = census.observed if unread is None else np.where(unread, 0.0, census.observed)
    kept = DistantRows(
        N=census.counted,
        D=reader.source.features,
        type=dtype.name,
        reader=reader,
        sample=rows._replace(
            weight=None if weight is None else as_dtype_weights(weight, dtype, census.weight)
        ),
        total_weight=census.weight,
        log_det_jacobian=float(observed @ standardization.log_jacobian_by_column),
        is_complete=census.is_complete and unread is None,
    )
    far_scatter = far_scatter_in_units(moments, standardization) if has_far else None
    return Data(kept, standardization, far_scatter=far_scatter, unread=unread)


def _check_extremes(census: Census, standardization: Standardization, dtype: np.dtype) -> None:
    """Raise if an entry is so far from the others that its square leaves the dtype's range."""
    low, high, low_row, high_row = census.extremes
    for value, row in ((low, low_row), (high, high_row)):
        distance = np.abs(value - standardization.shift) / standardization.column_scale
        column = int(np.nanargmax(distance))
        if not distance[column] < np.sqrt(np.finfo(dtype).max / 1e6):
            raise_too_far(column, value[column], int(row[column]), dtype)


def warn_of_very_far_entries(
    data: Data, census: Census, limit: float, names: tuple[str, ...] | None, *, stacklevel: int
) -> None:
    """Warn if the least or the greatest entry of a column may be a code and not data.

    Parameters
    ----------
    limit : scales of a column beyond which an entry is very far.
    names : of the columns, if they have any.
    stacklevel : as in `warnings.warn`, seen from the caller.
    """
    if data.far_scatter is None:
        return
    units = data.standardization
    ends = np.stack([census.extremes.least, census.extremes.greatest])
    distance = np.abs(ends - units.shift) / units.column_scale
    end, column = np.unravel_index(np.nanargmax(distance), distance.shape)
    if not distance[end, column] > limit:
        return
    row = (census.extremes.least_row, census.extremes.greatest_row)[end][column]
    warnings.warn(
        f"Some of {census.counted} rows are more than {limit:.0f} standard deviations from the "
        f"others: row {row} has {ends[end, column]:.6g} in column "
        f"{column_text(int(column), names)}. They will take components of their own. If such "
        "entries are codes for missing values, drop the rows, or make the entries NaN and pass "
        "missing='marginalize'.",
        FarRowsWarning,
        stacklevel=stacklevel + 1,
    )


def standardized_chunk(
    chunk: Chunk,
    standardization: Standardization,
    unread: np.ndarray | None,
    is_complete: bool,
) -> Rows:
    """Return the rows of a chunk in standardised units, with weights.

    Parameters
    ----------
    unread : bool [D], columns that count as missing in every row.
    is_complete : whether no row of the source has a missing entry; otherwise all chunks have
        patterns, in a number that is a power of two, so that few programs are compiled.
    """
    dtype = chunk.values.dtype
    rows = as_standardized_rows(chunk.values, standardization, unread)
    weight = np.ones(len(chunk.values), dtype)
    values = rows.values
    if chunk.weight is not None:
        weight = as_fit_weights(chunk.weight, dtype).astype(dtype)
        values = np.where(weight[:, np.newaxis] > 0, values, dtype.type(0))  # whatever they hold
    return Rows(values, weight, None if is_complete else padded_patterns(rows))


def padded_patterns(rows: Rows) -> Missing:
    """Return the patterns of rows, with complete ones up to a power of two."""
    N, D = rows.values.shape
    if rows.missing is None:
        return Missing(np.ones((1, D), rows.values.dtype), np.zeros(N, np.int32))
    observed, pattern = rows.missing
    count = 1 << (len(observed) - 1).bit_length()
    padding = np.ones((count - len(observed), D), observed.dtype)
    return Missing(np.concatenate([observed, padding]), pattern)
