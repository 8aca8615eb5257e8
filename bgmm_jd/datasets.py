"""The two data sets of the demonstration."""

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
        What the columns hold, with units.
    K : int
        How many clusters it is known for.
    """

    title: str
    X: np.ndarray
    columns: tuple[str, ...]
    K: int


def three_clusters() -> Example:
    """Three well separated round clusters of 1,000 points in the plane, float32.

    The points of the published example this library grew from, number by number.
    """
    # The legacy generator is the published one; an instance of it, so that NumPy's global state
    # stays as the user has it.
    rng = np.random.RandomState(12345)
    X = rng.randn(3000, 2).astype(np.float32)
    X[:1000] += [2, 0]
    X[1000:2000] -= [2, 4]
    X[2000:] += [-2, 4]
    return Example("Three clusters", X, ("x", "y"), K=3)


def old_faithful() -> Example:
    """Eruptions of the Old Faithful geyser in Yellowstone, August 1985: [272, 2], float64.

    How long each eruption took, and how long it was to the next, both in minutes.

    References
    ----------
    A. Azzalini and A. W. Bowman (1990), A look at some data on the Old Faithful geyser, *Applied
    Statistics* 39, 357-365; as shipped with R (`faithful`).
    """
    with resources.files("bgmm_jd").joinpath("old_faithful.csv").open() as lines:
        X = np.loadtxt(lines, delimiter=",", skiprows=1)
    return Example("Old Faithful", X, ("eruption (min)", "waiting (min)"), K=2)
