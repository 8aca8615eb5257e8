"""What the tests share: the reference posteriors, small data, and fits made once a session."""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest

import bgmm_jd

REFERENCE = pathlib.Path(__file__).parent / "reference"


class Reference(NamedTuple):
    """A posterior by NUTS: see reference/README.md.

    X : [N, D], in the dtype that the reference was made for; NaN where a value is missing.
    row_weights : [N], or None.
    mean, sd : by the prior's names, components in the reference's order.
    """

    X: np.ndarray
    K: int
    covariance: str
    row_weights: np.ndarray | None
    mean: Mapping[str, np.ndarray]
    sd: Mapping[str, np.ndarray]


@functools.cache
def load_reference(name: str) -> Reference:
    found = json.loads((REFERENCE / f"{name}.json").read_text())
    X = np.loadtxt(REFERENCE / found["data"], delimiter=",", ndmin=2, dtype=found["dtype"])
    of = {
        kind: {name: np.array(value[kind]) for name, value in found["posterior"].items()}
        for kind in ("mean", "sd")
    }
    weights = found.get("row_weights")
    weights = None if weights is None else np.loadtxt(REFERENCE / weights)
    settings = found["settings"]
    return Reference(X, settings["K"], settings["covariance"], weights, of["mean"], of["sd"])


@pytest.fixture(scope="session")
def reference():
    """`reference(NAME)` loads tests/reference/NAME.json and the rows it is of."""
    return load_reference


@pytest.fixture(scope="session")
def three_clusters():
    return load_reference("three_clusters")


@pytest.fixture(scope="session")
def three_clusters_posterior(three_clusters):
    """The published data under the published prior, default settings, seed 0."""
    return bgmm_jd.fit(three_clusters.X, 3, prior=bgmm_jd.mixture_prior(3, 2), progress=False)


@pytest.fixture(scope="session")
def two_clusters():
    """Two clusters of 20 rows, 8 sds apart, in float64: [40, 2]."""
    rng = np.random.default_rng(1)
    return np.repeat([[-4.0, 0.0], [4.0, 0.0]], 20, axis=0) + rng.standard_normal((40, 2))


@pytest.fixture(scope="session")
def two_clusters_posterior(two_clusters):
    """The small data under the default prior."""
    return bgmm_jd.fit(two_clusters, 2, progress=False)
