"""Products in slices are those of whole arrays."""

import numpy as np
import pytest

from bgmm_jd.sampling.sliced_products import squared_lengths, weighted_scatter

# Members of four coordinates: 10,001 points are several slices, and the last one is short.
S, M, P = 10_001, 5, 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_lengths_are_those_of_each_map(dtype):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(S, P)).astype(dtype)
    maps, offset = rng.normal(size=(M, 3, P)), rng.normal(size=(M, 3))
    found = squared_lengths(points, maps, offset)
    assert found.dtype == dtype
    rounding = 1e3 * np.finfo(dtype).eps  # of sums of terms up to some tens
    expected = ((np.einsum("mqp,sp->smq", maps, points.astype(float)) - offset) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding)


def test_weighted_scatter_is_that_about_each_mean_far_from_zero():
    """The points lie a thousand sds from zero, where sums of squares lose six digits."""
    rng = np.random.default_rng(1)
    points = 1e3 + rng.normal(size=(S, P))
    weights = rng.random((S, M))
    means = weights.T @ points / weights.sum(axis=0)[:, np.newaxis]
    centred = points[:, np.newaxis] - means
    expected = np.einsum("sm,smp,smq->mpq", weights, centred, centred)
    np.testing.assert_allclose(
        weighted_scatter(points, weights, means), expected, rtol=1e-9, atol=1e-6
    )
