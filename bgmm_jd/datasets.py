"""The two data sets of the demonstration: `three_clusters` and `old_faithful`."""

from importlib import resources
from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """A data set and what is known about it.

    Attributes
    ----------
    title : str
    X : array [N, D]
    columns : tuple of str [D]
        Names of the columns, with units.
    K : int
        Number of clusters that the data set is known to have.
    """

    title: str
    X: np.ndarray
    columns: tuple[str, ...]
    K: int


def three_clusters() -> Example:
    """Return three well separated round clusters of 1,000 points each: [3000, 2], float32.

    They are exactly the points of the published example from which this library grew.
    """
    # The published example uses NumPy's legacy generator. A separate instance leaves the global
    # random state unchanged.
    rng = np.random.RandomState(12345)
    X = rng.randn(3000, 2).astype(np.float32)
    X[:1000] += [2, 0]
    X[1000:2000] -= [2, 4]
    X[2000:] += [-2, 4]
    return Example("Three clusters", X, ("x", "y"), K=3)


def old_faithful() -> Example:
    """Return eruptions of the Old Faithful geyser in Yellowstone, August 1985: [272, 2], float64.

    The columns are the duration of each eruption and the waiting time to the next, in minutes.

    References
    ----------
    A. Azzalini and A. W. Bowman (1990), A look at some data on the Old Faithful geyser, *Applied
    Statistics* 39, 357-365; as shipped with R (`faithful`).
    """
    with resources.files("bgmm_jd").joinpath("old_faithful.csv").open() as lines:
        X = np.loadtxt(lines, delimiter=",", skiprows=1)
    return Example("Old Faithful", X, ("eruption (min)", "waiting (min)"), K=2)
