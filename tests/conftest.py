"""Shared by all tests: reference posteriors, small data sets, and fits made once a session."""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest
from quick_compilation import compile_quickly
from screen import Terminal

import bgmm_jd
from bgmm_jd.optimization import svi

FOLDER = pathlib.Path(__file__).parent
REFERENCE = FOLDER / "reference"
# The files that take longest, which begin first: one at the end would have a core to itself.
LONGEST = [
    "integration/test_readme.py",
    "fitting/test_fit.py",
    "variational/test_padding.py",
    "sklearn/test_estimator.py",
    "variational/test_surrogate.py",
    "test_settings.py",
    "storage/test_saving.py",
    "fitting/test_initial_values.py",
    "fitting/test_selection_sweep.py",
    "fitting/test_update.py",
    "fitting/test_source_fits.py",
    "fitting/test_checkpoint.py",
]

compile_quickly()


def pytest_collection_modifyitems(items):
    """Put the longest files first, and leave the order of the others as it is."""
    rank = {FOLDER / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


class Reference(NamedTuple):
    """A posterior by NUTS; `reference/README.md` says how it was made.

    X : [N, D], in the dtype of the fit that is compared with it; NaN where a value is missing.
    row_weights : [N], or None.
    mean, sd : by the prior's names, with components in the order of the reference.
    """

    X: np.ndarray
    K: int
    covariance: str
    row_weights: np.ndarray | None
    mean: Mapping[str, np.ndarray]
    sd: Mapping[str, np.ndarray]


@functools.cache
def load_reference(name: str) -> Reference:
    """Load `reference/NAME.json` and its rows."""
    found = json.loads((REFERENCE / f"{name}.json").read_text())
    X = np.loadtxt(REFERENCE / found["data"], delimiter=",", ndmin=2, dtype=found["dtype"])
    moments = {
        kind: {name: np.array(value[kind]) for name, value in found["posterior"].items()}
        for kind in ("mean", "sd")
    }
    weights = found.get("row_weights")
    weights = None if weights is None else np.loadtxt(REFERENCE / weights)
    settings = found["settings"]
    return Reference(
        X, settings["K"], settings["covariance"], weights, moments["mean"], moments["sd"]
    )


@pytest.fixture(scope="session")
def reference():
    """Return the function that loads a reference posterior by name."""
    return load_reference


@pytest.fixture(scope="session")
def three_clusters():
    """Return the published data and the reference posterior."""
    return load_reference("three_clusters")


@pytest.fixture(scope="session")
def three_clusters_posterior(three_clusters):
    """Return the fit of the published data under the published prior, with default settings."""
    return bgmm_jd.fit(three_clusters.X, 3, prior=bgmm_jd.mixture_prior(3, 2), progress=False)


@pytest.fixture(scope="session")
def two_clusters():
    """Return two clusters of 20 rows, 8 sds apart, in float64: [40, 2]."""
    rng = np.random.default_rng(1)
    return np.repeat([[-4.0, 0.0], [4.0, 0.0]], 20, axis=0) + rng.standard_normal((40, 2))


@pytest.fixture(scope="session")
def two_clusters_posterior(two_clusters):
    """Return the fit of `two_clusters` under the default prior."""
    return bgmm_jd.fit(two_clusters, 2, progress=False)


@pytest.fixture
def interrupt_in_third_block(monkeypatch):
    """Press Ctrl-C in the third block of steps."""
    calls = []
    run = svi.Program.run

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(self, *arguments)

    monkeypatch.setattr(svi.Program, "run", interrupted)


@pytest.fixture
def terminal(monkeypatch):
    """Return a terminal in memory, 100 characters wide."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("JUPYTER_COLUMNS", raising=False)
    return Terminal()
