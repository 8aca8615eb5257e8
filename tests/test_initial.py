"""Where the fit starts: the clusters that are there, and nothing that stops it where none are."""

import numpy as np
import pytest

from bgmm_jd import initial

CENTRES = np.array([[-5.0, 0.0], [-2.0, 5.0], [2.0, -5.0], [5.0, 0.0]])
SIZES = [30, 60, 90, 120]


@pytest.fixture(scope="module")
def rows():
    """Four clusters with sd 0.3 in the order of their first features, 18 sds and more apart."""
    return np.repeat(CENTRES, SIZES, axis=0) + 0.3 * np.random.default_rng(0).normal(size=(300, 2))


@pytest.fixture(scope="module")
def truth(rows):
    label = np.repeat(range(4), SIZES)
    parts = [rows[label == k] for k in range(4)]
    return np.array([p.mean(axis=0) for p in parts]), np.array([p.var(axis=0) for p in parts])


def assert_equal_clusters(found, expected_mean, expected_variance, order):
    order = list(order)
    np.testing.assert_array_equal(found.count, np.array(SIZES)[order])
    # Means by a matrix product of 300 rows; E[x^2] - E[x]^2 loses (5 / 0.3)^2 of the digits.
    np.testing.assert_allclose(found.mean, expected_mean[order], rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.variance, expected_variance[order], rtol=1e-11)


@pytest.mark.parametrize("seed", range(20))
def test_separated_clusters_are_found(rows, truth, seed):
    """Each of 20 seeds: of 8 seedings, all miss a cluster with a probability far below 1e-6."""
    found = initial.cluster(rows, 4, np.random.default_rng(seed), trials=8)
    assert_equal_clusters(found, *truth, range(4))  # in the order of the first feature


@pytest.mark.parametrize("seed", range(5))
def test_a_single_seeding_finds_a_small_cluster_far_away(seed):
    """By squared distance: 10 rows at 1,000 outweigh 990 rows around 0 by 10^4 to 1."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(size=(990, 1)), 1000 + rng.normal(size=(10, 1))])
    np.testing.assert_array_equal(initial.cluster(rows, 2, rng).count, [990, 10])


def test_the_order_of_rows_does_not_matter(rows, truth):
    shuffled = np.random.default_rng(5).permutation(rows)
    found = initial.cluster(shuffled, 4, np.random.default_rng(0), trials=8)
    assert_equal_clusters(found, *truth, range(4))


def test_given_means_keep_their_order(rows, truth):
    order = [2, 0, 3, 1]
    init = CENTRES[order].astype(np.float32) + 1
    found = initial.cluster(rows, 4, np.random.default_rng(0), init)
    assert_equal_clusters(found, *truth, order)


def test_the_same_seed_gives_the_same_start(rows):
    noise = np.random.default_rng(1).normal(size=(200, 2))  # no clusters to find
    first, second, other = (
        initial.cluster(noise, 4, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.mean, second.mean)
    assert not np.array_equal(first.mean, other.mean)


def test_counts_of_a_subsample_are_scaled_up():
    """40,000 rows, of which 10,000 are looked at."""
    rng = np.random.default_rng(2)
    share = np.array(SIZES) / 300
    label = rng.choice(4, 40_000, p=share)
    found = initial.cluster(CENTRES[label] + 0.3 * rng.normal(size=(40_000, 2)), 4, rng, trials=8)
    assert found.count.sum() == pytest.approx(40_000)
    # 5 standard errors of a share of 10,000 rows, 4 shares: a false alarm of 2e-6.
    p = np.bincount(label) / 40_000
    assert np.all(np.abs(found.count / 40_000 - p) < 5 * np.sqrt(p * (1 - p) / 10_000))


def degenerate(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    return {
        "duplicates": np.repeat(X[:3], 5, axis=0),
        "fewer distinct rows than components": np.repeat(X[:2], 8, axis=0),
        "all rows equal": np.zeros((20, 2)),
        "a constant column": np.stack([X[:, 0], np.zeros(40)], axis=1),
        "as many rows as components": X[:5],
        "one feature": X[:, :1],
        "float32": X.astype(np.float32),
        "an outlier": np.concatenate([X, [[1e6, 1e6]]]),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "duplicates",
        "fewer distinct rows than components",
        "all rows equal",
        "a constant column",
        "as many rows as components",
        "one feature",
        "float32",
        "an outlier",
    ],
)
def test_degenerate_rows_give_a_start(name):
    rows, K = degenerate(name), 5
    found = initial.cluster(rows, K, np.random.default_rng(0))
    D = rows.shape[1]
    assert found.count.shape == (K,)
    assert found.mean.shape == found.variance.shape == (K, D)
    assert found.count.sum() == len(rows)
    moments = initial.moments(found)
    assert set(moments) == {"weights", "means", "precisions", "scales"}
    for variable, (mean, sd) in moments.items():
        assert mean.shape == sd.shape == ((K,) if variable == "weights" else (K, D))
        assert np.all(np.isfinite(mean))
        assert np.all(np.isfinite(sd))
        assert np.all(sd > 0)
        if variable != "means":
            assert np.all(mean > 0)


def test_a_component_for_each_row():
    rows = np.random.default_rng(0).normal(size=(5, 2))
    found = initial.cluster(rows, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(found.count, 1)
    np.testing.assert_allclose(found.mean, rows[np.argsort(rows[:, 0])], rtol=1e-15)
    np.testing.assert_allclose(found.variance, 0, atol=1e-15)


def test_an_empty_cluster_keeps_its_centre(rows):
    init = np.concatenate([CENTRES, [[1000.0, 1000.0]]])
    found = initial.cluster(rows, 5, np.random.default_rng(0), init)
    assert found.count[4] == 0
    np.testing.assert_array_equal(found.mean[4], [1000.0, 1000.0])


def test_moments_are_near_the_exact_posterior_of_separated_clusters(rows):
    """Against the conjugate posterior of each cluster under a flat prior.

    The update puts in a prior worth one row in 30 to 120: its effect is below 1 / 30 of the
    values, 1 / 60 of their sds, and 2 sds of a row / 30 on the variances.
    """
    clusters = initial.cluster(
        rows / 3.6, 4, np.random.default_rng(0), trials=8
    )  # columns of sd near 1
    n, s2 = clusters.count[:, None], clusters.variance
    found = initial.moments(clusters)
    np.testing.assert_allclose(found["weights"][0], clusters.count / 300, rtol=1 / 30)
    np.testing.assert_array_equal(found["means"][0], clusters.mean)
    spread = (n * s2 + 4 ** (-2 / 2)) / (n + 1)  # with a row at the prior's variance
    np.testing.assert_allclose(found["means"][1], np.sqrt(spread / n), rtol=1 / 60)
    np.testing.assert_allclose(found["precisions"][0], 1 / spread, rtol=1e-12)
    # Gamma(n / 2, n s2 / 2): sd / mean = sqrt(2 / n).
    relative = found["precisions"][1] / found["precisions"][0]
    np.testing.assert_allclose(relative, np.broadcast_to(np.sqrt(2 / n), (4, 2)), rtol=1 / 60)
    # tau = scale^-2: d log tau = 2 d log scale.
    half = found["scales"][1] / found["scales"][0]
    np.testing.assert_allclose(half, relative / 2, rtol=1e-12)
    np.testing.assert_allclose(found["scales"][0] ** -2, found["precisions"][0], rtol=1e-12)
    # Dirichlet(count + 1).
    c = clusters.count + 1
    m = c / c.sum()
    np.testing.assert_allclose(
        found["weights"][1], np.sqrt(m * (1 - m) / (c.sum() + 1)), rtol=1e-12
    )
