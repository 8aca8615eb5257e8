"""Rows for fits in processes of every state."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def X():
    """Return two groups of 15 rows, 8 sds apart: [30, 1]."""
    rng = np.random.default_rng(0)
    return np.repeat([[-4.0], [4.0]], 15, axis=0) + rng.standard_normal((30, 1))
