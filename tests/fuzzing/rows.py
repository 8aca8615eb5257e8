"""Rows of all kinds, patterns of missing entries and weights, for `fuzzing.cases`."""

from collections.abc import Callable, Mapping

import numpy as np

Rows = Callable[[np.random.Generator, int, int], np.ndarray]


def normal(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return rng.standard_normal((N, D))


def clusters(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return rng.standard_normal((N, D)) + 8.0 * (np.arange(N)[:, np.newaxis] % 3)


def ties(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return rng.integers(0, 3, (N, D)).astype(float)


def equal_rows(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return np.repeat(rng.standard_normal((1, D)), N, axis=0)


def constant_column(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    rows = clusters(rng, N, D)
    rows[:, -1] = 3.0
    return rows


def duplicate_columns(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return np.repeat(clusters(rng, N, 1), D, axis=1)


def zeros(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return np.zeros((N, D))


def one_far(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    rows = normal(rng, N, D)
    rows[0] = 1e7
    return rows


def heavy_tails(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return rng.standard_cauchy((N, D)) ** 3


def unlike_scales(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return clusters(rng, N, D) * 10.0 ** np.linspace(-6, 6, D)


def repeated_rows(rng: np.random.Generator, N: int, D: int) -> np.ndarray:
    return normal(rng, 2, D)[np.arange(N) % 2]


LAYOUTS: Mapping[str, Rows] = {
    function.__name__.replace("_", " "): function
    for function in (
        clusters,
        normal,
        ties,
        equal_rows,
        constant_column,
        duplicate_columns,
        zeros,
        one_far,
        heavy_tails,
        unlike_scales,
        repeated_rows,
    )
}


def some(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    return np.where(rng.random(rows.shape) < 0.2, np.nan, rows)


def most(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    return np.where(rng.random(rows.shape) < 0.8, np.nan, rows)


def a_row(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[0] = np.nan
    return rows


def a_column(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[:, 0] = np.nan
    return rows


def all_entries(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    return np.full_like(rows, np.nan)


def never_together(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[::2, 0] = np.nan
    rows[1::2, -1] = np.nan
    return rows


def infinite(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[-1, -1] = np.inf
    return rows


MISSING = {
    function.__name__.replace("_", " "): function
    for function in (some, most, a_row, a_column, all_entries, never_together, infinite)
}
WEIGHTS = {
    "ones": lambda rng, N: np.ones(N),
    "counts": lambda rng, N: rng.integers(0, 4, N),
    "fractions": lambda rng, N: rng.random(N),
    "up to 1e9": lambda rng, N: 10.0 ** rng.uniform(-3, 9, N),
    "all 1e9": lambda rng, N: np.full(N, 1e9),
    "tiny": lambda rng, N: np.full(N, 1e-9),
    "one row": lambda rng, N: np.eye(N)[0],
    "zeros": lambda rng, N: np.zeros(N),
    "negative": lambda rng, N: -np.ones(N),
}
ORDERS = ("C", "F", "strided", "reversed", "read-only", "big-endian", "list")


def in_order(rows: np.ndarray, order: str) -> np.ndarray:
    """Return equal rows, which lie in memory in another way."""
    if order == "F":
        return np.asfortranarray(rows)
    if order == "strided":
        return np.repeat(rows, 2, axis=0)[::2]
    if order == "reversed":
        return rows[::-1, ::-1].copy()[::-1, ::-1]
    if order == "big-endian":
        return rows.astype(rows.dtype.newbyteorder(">"))
    if order == "read-only":
        rows = rows.copy()
        rows.flags.writeable = False
    return rows.tolist() if order == "list" else rows
