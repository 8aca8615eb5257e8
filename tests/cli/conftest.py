"""A fit that tests of several commands share, and a folder with it."""

import numpy as np
import pandas as pd
import pytest

import bgmm_jd

OPTIONS = {"execution": "graph", "restarts": 1, "finish": "none", "progress": False}


@pytest.fixture(scope="session")
def rows():
    rng = np.random.default_rng(5)
    X = 6.0 * (np.arange(40) % 2)[:, np.newaxis] + rng.standard_normal((40, 2))
    return pd.DataFrame(X, columns=["length, mm", "width"])


@pytest.fixture(scope="session")
def posterior(rows):
    found = bgmm_jd.fit(rows, 2, missing="marginalize", **OPTIONS)
    return bgmm_jd.relabel(found, names=["small", "large"])


@pytest.fixture
def folder(rows, posterior, tmp_path, monkeypatch):
    """Work in a folder with a file of rows and a fit."""
    monkeypatch.chdir(tmp_path)
    rows.to_csv("rows.csv", index=False)
    bgmm_jd.save(posterior, "rows.fit.nc")
    return tmp_path
