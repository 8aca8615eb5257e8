"""Rows as sources of several kinds, and their moments by direct computation."""

import numpy as np

from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.reader import Reader


def cut(X, sizes):
    """Return X as batches of the given sizes, and one more with the rest."""
    return batches(lambda: np.split(X, np.cumsum(sizes)))


def reader_of(source, chunk_rows=1_000, chunks_per_part=3, executor=None):
    """Return a reader of small chunks."""
    return Reader(
        source=source,
        chunk_rows=chunk_rows,
        chunks_per_part=chunks_per_part,
        ahead=2,
        executor=executor,
    )


def mixed_rows(N=5_000, missing=False, dtype=np.float64):
    """Return two groups of correlated rows, some of them far from all others: [N, 3]."""
    rng = np.random.default_rng(11)
    X = rng.normal(size=(N, 3)) @ [[1.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 2.0]]
    X[: N // 3] += [5.0, 0.0, -3.0]
    X[::700] = [1e4, -1e4, 0.0]
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    return (X * [1.0, 0.01, 30.0] + [100.0, 0.0, -5.0]).astype(dtype)
