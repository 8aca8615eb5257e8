"""New rows that predictions are made for: in memory, or from a source in blocks."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.source import Source
from bgmm_jd.data.validation import as_missing_flag, check_finite
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.sources.chunks import chunks_of, read_ahead

_BLOCK_ROWS = 2**16
_AHEAD = 2


class NewRows(NamedTuple):
    """Consecutive rows [n, D] in the dtype of the fit, and the number of the first in X."""

    values: np.ndarray
    first: int


def blocks_of_source(
    posterior: Posterior, source: Source, *, missing: bool | None = None, size: int = _BLOCK_ROWS
) -> Iterator[NewRows]:
    """Check the columns of a source, and return its rows, some at a time.

    Parameters
    ----------
    missing : bool, optional
        Whether NaN is a missing entry; by default as in the fit.
    size : int
        The number of rows of each block but the last.

    Raises
    ------
    ValueError
        If the source has other columns than the fit, or, when they are read, rows are not finite.
    """
    names = posterior.feature_names
    if source.features != posterior.D or (
        None not in (names, source.names) and source.names != names
    ):
        columns = f"{posterior.D} columns" if names is None else f"the columns {list(names)}"
        found = source.features if source.names is None else list(source.names)
        raise ValueError(
            f"X must have {columns}, in the order of the fit; got a source of {found}. Choose them "
            "by bgmm_jd.table(where, columns=...)."
        )
    if missing is None:
        missing = as_missing_flag(posterior.missing)
    return _checked_blocks(posterior, source, missing, size)


def _checked_blocks(
    posterior: Posterior, source: Source, missing: bool, size: int
) -> Iterator[NewRows]:
    for chunk in read_ahead(chunks_of(source, size), _AHEAD):
        check_finite(chunk.values, missing, "X", source.names, first=chunk.first)
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported as infinity
            values = chunk.values.astype(posterior.dtype, copy=False)
        if values is not chunk.values:
            check_finite(values, missing, "X", source.names, first=chunk.first)
        yield NewRows(values, chunk.first)
