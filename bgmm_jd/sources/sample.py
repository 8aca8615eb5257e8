"""A random sample of the rows of a source, in memory."""

import numpy as np

from bgmm_jd.data.source import Source
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.sources.census import Census, take_census
from bgmm_jd.sources.reader import Reader

_CHUNK_ROWS, _CHUNK_NUMBERS = 2**17, 2**24


def sample_rows(source: Source, n: int, *, seed: int = 0) -> np.ndarray:
    """Return a random sample of the rows of a source, in memory and in their order.

    For what needs rows in memory, such as `select`, `compare` and plots; and a sample of some
    millions tells as much as all rows of all but very small components.

    Parameters
    ----------
    source : Source
        From `table` or `batches`. It is read once.
    n : int
        Number of rows; all if there are fewer. Rows of weight 0 do not count, and other weights
        play no part.
    seed : int
        Equal seeds give equal samples, however the rows are cut into files.

    Returns
    -------
    array [n, D], in the dtype of the source; NaN where an entry is missing.

    Raises
    ------
    TypeError, ValueError
        If `source` is none, `n` not a positive integer or `seed` negative.
    """
    if not isinstance(source, Source):
        raise TypeError(
            f"source must come from bgmm_jd.table or bgmm_jd.batches; got {type(source).__name__}."
        )
    found = census_with_sample(source, as_count(n, "n"), as_seed(seed))
    return found.sample.values


def census_with_sample(source: Source, n: int, seed: int) -> Census:
    """Read a source once, whatever its rows hold, and return the sample beside the counts."""
    rows = max(1, min(_CHUNK_ROWS, _CHUNK_NUMBERS // source.features))
    reader = Reader(source=source, chunk_rows=rows, chunks_per_part=8, ahead=2)
    return take_census(reader, sample_rows=n, seed=seed, missing=True, check=False)
