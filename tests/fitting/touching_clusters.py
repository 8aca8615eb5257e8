"""Three clusters that touch, in so many rows that small settings read them from a source."""

import numpy as np

N, K = 30_000, 3
MEANS = np.array([[-4.0, 0.0], [0.0, 3.0], [4.0, 0.0]])


def labelled_rows():
    """Return the rows [N, 2] in float32, and the cluster of each."""
    rng = np.random.default_rng(0)
    label = rng.choice(K, N, p=[0.5, 0.3, 0.2])
    X = MEANS[label] + rng.normal(size=(N, 2)) * [1.0, 0.6]
    return X.astype(np.float32), label


def assert_same_bits(found, expected):
    """Assert that two fits have taken the same way and ended with the same draws."""
    assert found.elbo == expected.elbo
    np.testing.assert_array_equal(found.elbo_trace, expected.elbo_trace)
    np.testing.assert_array_equal(found.sample(9)["means"], expected.sample(9)["means"])
