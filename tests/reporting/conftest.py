"""Two distant clusters and their fits, for comparison and leave-one-out."""

import functools
import warnings

import numpy as np
import pytest
from matplotlib import pyplot

import bgmm_jd

# Graphs compile in a fraction of XLA's time; both follow the same path.
OPTIONS = {"execution": "graph", "restarts": 1, "progress": False, "seed": 3}
CENTRES = np.array([[150.0, -0.02], [210.0, 0.01]])
SDS = np.array([[10.0, 0.004], [5.0, 0.009]])


@pytest.fixture(autouse=True)
def _closed_figures():
    """Close the figures of each test: pyplot keeps them, and warns of more than 20."""
    yield
    pyplot.close("all")


def fits_of(X, **options):
    """Return a function of K that makes each fit once."""

    @functools.cache
    def fit(K):
        with warnings.catch_warnings():  # the status does not matter here
            warnings.simplefilter("ignore", RuntimeWarning)
            return bgmm_jd.fit(X, K, **OPTIONS, **options)

    return fit


@pytest.fixture(scope="session")
def clustered_rows():
    """Rows of columns far from zero and of very different scale: float64 [120, 2]."""
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1], [50, 70])
    return CENTRES[label] + SDS[label] * rng.standard_normal((120, 2))


@pytest.fixture(scope="session")
def calibrated(clustered_rows):
    """`calibrated(K)` is the fit of K components."""
    return fits_of(clustered_rows)


@pytest.fixture(scope="session")
def uncalibrated(clustered_rows):
    """`uncalibrated(K)` is the fit of K components without calibration."""
    return fits_of(clustered_rows, calibrate=False)
