"""Rows of `tests/real`, and how well labels agree with known classes."""

from pathlib import Path

import numpy as np
from scipy.special import comb

REAL = Path(__file__).parent / "real"


def crabs():
    """Return the crabs of Campbell and Mahon (1974) [200, 5], and their species and sex."""
    table = np.loadtxt(REAL / "crabs.csv", delimiter=",", skiprows=1, dtype=str)
    return table[:, :-1].astype(float), np.unique(table[:, -1], return_inverse=True)[1]


def adjusted_rand_index(a, b):
    """Return the index of Hubert and Arabie (1985): 1 for equal partitions, 0 by chance."""
    counts = np.array([[np.sum((a == i) & (b == j)) for j in np.unique(b)] for i in np.unique(a)])
    together = comb(counts, 2).sum()
    rows, columns = comb(counts.sum(axis=1), 2).sum(), comb(counts.sum(axis=0), 2).sum()
    expected = rows * columns / comb(len(a), 2)
    return (together - expected) / (0.5 * (rows + columns) - expected)
