"""The start of a fit: clusters that exist are found, and degenerate rows give a start too."""

import numpy as np
import pytest
from scipy import stats

from bgmm_jd.data.rows import Rows
from bgmm_jd.data.standardize import as_standardized_rows
from bgmm_jd.data.units import identity_standardization
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS, scale_shape
from bgmm_jd.optimization.clustering import (
    cluster_as_needed,
    cluster_rows,
    moments_from_clusters,
)
from bgmm_jd.settings import OptimizationSettings

SETTINGS = OptimizationSettings()
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
    return (
        np.array([p.mean(axis=0) for p in parts]),
        np.array([np.cov(p, rowvar=False, bias=True) for p in parts]),
    )


def variances(clusters):
    """[K, D]"""
    return np.diagonal(clusters.covariance, axis1=1, axis2=2)


def assert_equal_clusters(found, expected_mean, expected_covariance, order):
    order = list(order)
    np.testing.assert_array_equal(found.count, np.array(SIZES)[order])
    # Means by a matrix product of 300 rows; E[x^2] - E[x]^2 loses (5 / 0.3)^2 of the digits.
    np.testing.assert_allclose(found.mean, expected_mean[order], rtol=0, atol=1e-13)
    # Covariances near 0 are as good as the variances, which are near 0.1.
    expected = expected_covariance[order]
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        variances(found), np.diagonal(expected, axis1=1, axis2=2), rtol=1e-11
    )


@pytest.mark.parametrize("seed", range(20))
def test_separated_clusters_are_found(rows, truth, seed):
    """For each of 20 seeds: 8 seedings all miss a cluster with a probability far below 1e-6."""
    found = cluster_rows(Rows(rows), 4, np.random.default_rng(seed), SETTINGS, seedings=8)
    assert_equal_clusters(found, *truth, range(4))  # in the order of the first feature


@pytest.mark.parametrize("seed", range(5))
def test_single_seeding_finds_a_small_distant_cluster(seed):
    """By squared distance: 10 rows at 1,000 outweigh 990 rows around 0 by 10^4 to 1."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(size=(990, 1)), 1000 + rng.normal(size=(10, 1))])
    np.testing.assert_array_equal(cluster_rows(Rows(rows), 2, rng, SETTINGS).count, [990, 10])


def test_clusters_do_not_depend_on_the_order_of_rows(rows, truth):
    shuffled = np.random.default_rng(5).permutation(rows)
    found = cluster_rows(Rows(shuffled), 4, np.random.default_rng(0), SETTINGS, seedings=8)
    assert_equal_clusters(found, *truth, range(4))


def test_clusters_keep_the_order_of_init(rows, truth):
    order = [2, 0, 3, 1]
    init = CENTRES[order].astype(np.float32) + 1
    found = cluster_rows(Rows(rows), 4, np.random.default_rng(0), SETTINGS, init)
    assert_equal_clusters(found, *truth, order)


def test_equal_seeds_give_equal_clusters_and_others_do_not(rows):
    noise = np.random.default_rng(1).normal(size=(200, 2))  # no clusters to find
    first, second, other = (
        cluster_rows(Rows(noise), 4, np.random.default_rng(seed), SETTINGS) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.mean, second.mean)
    assert not np.array_equal(first.mean, other.mean)


def test_counts_of_a_subsample_are_scaled_up():
    """40,000 rows, of which 10,000 are read."""
    rng = np.random.default_rng(2)
    share = np.array(SIZES) / 300
    label = rng.choice(4, 40_000, p=share)
    many = Rows(CENTRES[label] + 0.3 * rng.normal(size=(40_000, 2)))
    found = cluster_rows(many, 4, rng, SETTINGS, seedings=8)
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
@pytest.mark.parametrize("form", FORMS)
def test_degenerate_rows_give_possible_moments(name, form):
    rows, K = degenerate(name), 5
    found = cluster_rows(Rows(rows), K, np.random.default_rng(0), SETTINGS)
    D = rows.shape[1]
    assert found.count.shape == (K,)
    assert found.mean.shape == (K, D)
    assert found.covariance.shape == (K, D, D)
    assert found.count.sum() == len(rows)
    assert_sound(moments_from_clusters(found, form), form, K, D)


def assert_sound(moments, form, K, D):
    """Check that moments have the right shapes, are finite and in the support of each variable."""
    assert set(moments) == {"weights", "means", "precisions", "scales"}
    of_scale = scale_shape(form, K, D)
    shapes = {"weights": (K,), "means": (K, D), "precisions": of_scale, "scales": of_scale}
    for variable, (mean, sd) in with_sds(moments, form).items():
        assert mean.shape == sd.shape == shapes[variable]
        assert np.all(np.isfinite(mean))
        assert np.all(np.isfinite(sd))
        assert np.all(sd > 0)
        if variable == "weights" or (variable != "means" and form not in MATRIX_FORMS):
            assert np.all(mean > 0)
    if form in MATRIX_FORMS:
        precisions, scales = (moments[name][0] for name in ("precisions", "scales"))
        np.testing.assert_array_equal(scales, np.tril(scales))
        assert np.all(np.diagonal(scales, axis1=-2, axis2=-1) > 0)
        assert np.all(np.linalg.eigvalsh(precisions) > 0)


def with_sds(moments, form):
    """Return moments with sds of the means in place of Cholesky factors of their covariance."""
    mean, spread = moments["means"]
    if form in MATRIX_FORMS:
        np.testing.assert_array_equal(spread, np.tril(spread))
        spread = np.linalg.norm(spread, axis=-1)
    return {**moments, "means": (mean, spread)}


def test_as_many_clusters_as_rows_are_the_rows():
    rows = np.random.default_rng(0).normal(size=(5, 2))
    found = cluster_rows(Rows(rows), 5, np.random.default_rng(0), SETTINGS)
    np.testing.assert_array_equal(found.count, 1)
    np.testing.assert_allclose(found.mean, rows[np.argsort(rows[:, 0])], rtol=1e-15)
    np.testing.assert_allclose(found.covariance, 0, atol=1e-15)


def test_empty_cluster_keeps_its_centre(rows):
    init = np.concatenate([CENTRES, [[1000.0, 1000.0]]])
    found = cluster_rows(Rows(rows), 5, np.random.default_rng(0), SETTINGS, init)
    assert found.count[4] == 0
    np.testing.assert_array_equal(found.mean[4], [1000.0, 1000.0])


@pytest.fixture(scope="module")
def scaled(rows):
    """The four clusters in columns of sd near 1."""
    return cluster_rows(Rows(rows / 3.6), 4, np.random.default_rng(0), SETTINGS, seedings=8)


@pytest.mark.parametrize("form", FORMS)
def test_moments_are_near_the_exact_posterior_of_separated_clusters(scaled, form):
    """Against the conjugate posterior of each cluster under a flat prior.

    The update adds a prior that counts as one row to 30 to 120 rows: its effect is below 1 / 30 of
    the values, 1 / 60 of their sds, and 2 sds of a row / 30 on the variances.
    """
    n, s2 = scaled.count[:, None], variances(scaled)
    found = with_sds(moments_from_clusters(scaled, form), form)
    np.testing.assert_allclose(found["weights"][0], scaled.count / 300, rtol=1 / 30)
    np.testing.assert_array_equal(found["means"][0], scaled.mean)
    variance = (n * s2 + 4 ** (-2 / 2)) / (n + 1)  # with a row at the prior's variance
    np.testing.assert_allclose(found["means"][1], np.sqrt(variance / n), rtol=1 / 60)
    # Dirichlet(count + 1).
    c = scaled.count + 1
    m = c / c.sum()
    np.testing.assert_allclose(
        found["weights"][1], np.sqrt(m * (1 - m) / (c.sum() + 1)), rtol=1e-12
    )


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_means_are_as_correlated_as_their_rows(correlated, form):
    """Each has the covariance of its own rows over their number, whatever the form shares."""
    spread = moments_from_clusters(correlated, form)["means"][1]
    n = correlated.count[:, None, None]
    prior = 4 ** (-2 / 2) * np.eye(2)
    expected = (n * correlated.covariance + prior) / (n + 1) ** 2
    np.testing.assert_allclose(spread @ spread.swapaxes(1, 2), expected, rtol=1e-10)


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_moments_of_variances_are_near_the_conjugate_posterior(scaled, form):
    """Of D n numbers where one variance serves all features."""
    n, s2 = scaled.count[:, None], variances(scaled)
    found = moments_from_clusters(scaled, form)
    variance = (n * s2 + 4 ** (-2 / 2)) / (n + 1)
    if form == "spherical":
        variance, n = variance.mean(axis=1, keepdims=True), 2 * n
    np.testing.assert_allclose(found["precisions"][0], 1 / variance, rtol=1e-12)
    # Gamma(n / 2, n s2 / 2): sd / mean = sqrt(2 / n).
    relative = found["precisions"][1] / found["precisions"][0]
    expected = np.broadcast_to(np.sqrt(2 / n), variance.shape)
    np.testing.assert_allclose(relative, expected, rtol=1 / 60)
    # tau = scale^-2: d log tau = 2 d log scale.
    half = found["scales"][1] / found["scales"][0]
    np.testing.assert_allclose(half, relative / 2, rtol=1e-12)
    np.testing.assert_allclose(found["scales"][0] ** -2, found["precisions"][0], rtol=1e-12)


@pytest.fixture(scope="module")
def correlated():
    """One cluster of 400 rows with correlation 0.5, and three of 200 with other covariances."""
    rng = np.random.default_rng(4)
    factors = [
        [[1.0, 0.0], [0.58, 1.0]],
        [[1.0, 0.0], [-0.3, 0.5]],
        [[0.4, 0.0], [0.1, 0.8]],
        np.eye(2),
    ]
    label = np.repeat(range(4), [400, 200, 200, 200])
    z = rng.normal(size=(1000, 2))
    rows = 20 * CENTRES[label] + np.einsum("nij,nj->ni", np.array(factors)[label], z)
    return cluster_rows(Rows(rows), 4, np.random.default_rng(0), SETTINGS, seedings=8)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_moments_of_matrices_are_near_the_conjugate_posterior(correlated, form):
    """Under a flat prior it is Wishart(n, S^-1 / n), by scipy."""
    n, covariance = correlated.count, correlated.covariance
    if form == "tied":
        n, covariance = n.sum()[None], (n[:, None, None] * covariance).sum(axis=0)[None] / n.sum()
    prior = 4 ** (-2 / 2) * np.eye(2)
    expected = (n[:, None, None] * covariance + prior) / (n + 1)[:, None, None]
    found = {
        name: [v.reshape(-1, 2, 2) for v in pair]
        for name, pair in moments_from_clusters(correlated, form).items()
        if name in ("precisions", "scales")
    }
    precisions, sds = found["precisions"]
    np.testing.assert_allclose(
        precisions @ expected, np.tile(np.eye(2), (len(n), 1, 1)), atol=1e-12
    )
    for k, rows in enumerate(n):
        exact = stats.wishart(rows, precisions[k] / rows)
        # n rows or n + 1, at least 200.
        np.testing.assert_allclose(sds[k], np.sqrt(exact.var()), rtol=1 / 400)
    scales, sds = found["scales"]
    np.testing.assert_allclose(scales @ scales.swapaxes(1, 2), expected, rtol=1e-12)
    np.testing.assert_array_equal(scales, np.tril(scales))
    for k, rows in enumerate(n):
        draws = stats.wishart(rows, precisions[k] / rows).rvs(2000, np.random.default_rng(5))
        sampled = np.linalg.cholesky(np.linalg.inv(draws)).std(axis=0)
        # The length of a row stands for each of its entries: with correlations of at most 0.6 the
        # diagonal is 0.8 of it or more, and an entry below varies by sqrt(2) as much.
        triangle = np.tri(2, dtype=bool)
        ratio = sds[k][triangle] / sampled[triangle]
        assert np.all((ratio > 0.5) & (ratio < 2))


# --- Weights ----------------------------------------------------------------------------------

WEIGHT = np.random.default_rng(6).integers(0, 4, 300).astype(np.float64)


def noise():
    return np.random.default_rng(1).normal(size=(300, 2))  # no clusters to find


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("given", [False, True])
def test_integer_weights_are_repeated_rows(seed, given):
    """Seeds are drawn by inversion, so that they are the same rows too."""
    init = noise()[:4] if given else None
    found, expected = (
        cluster_rows(rows, 4, np.random.default_rng(seed), SETTINGS, init, seedings=3)
        for rows in (Rows(noise(), WEIGHT), Rows(np.repeat(noise(), WEIGHT.astype(int), axis=0)))
    )
    # Sums of some hundred numbers.
    np.testing.assert_allclose(found.count, expected.count, rtol=1e-12)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0, atol=1e-12)


def test_scale_of_weights_changes_only_the_counts():
    found, expected = (
        cluster_rows(Rows(noise(), weight), 4, np.random.default_rng(0), SETTINGS, seedings=3)
        for weight in (1e-3 * WEIGHT, WEIGHT)
    )
    np.testing.assert_allclose(found.count, 1e-3 * expected.count, rtol=1e-12)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0, atol=1e-12)


def test_counts_of_a_weighted_subsample_are_scaled_up():
    rng = np.random.default_rng(2)
    label = rng.choice(4, 40_000)
    weight = np.array([1.0, 2.0, 3.0, 4.0])[label]
    many = Rows(CENTRES[label] + 0.3 * rng.normal(size=(40_000, 2)), weight)
    found = cluster_rows(many, 4, rng, SETTINGS, seedings=8)
    assert found.count.sum() == pytest.approx(weight.sum())
    # A cluster's share of the weight is a ratio of means over 10,000 rows, whose weights of at most
    # 4 have a mean of 2.5: its standard error is below 4 / 2.5 of that of a share of rows. 5 of
    # these, 4 shares: a false alarm of 2e-6.
    p = np.bincount(label, weight) / weight.sum()
    error = 4 / 2.5 * np.sqrt(p * (1 - p) / 10_000)
    assert np.all(np.abs(found.count / weight.sum() - p) < 5 * error)


# --- Missing entries --------------------------------------------------------------------------


def with_missing(rows, share, seed=0):
    """Return rows whose entries are NaN with that probability, but not all entries of a row."""
    rng = np.random.default_rng(seed)
    absent = rng.random(rows.shape) < share
    absent[np.arange(len(rows)), rng.integers(0, rows.shape[1], len(rows))] = False
    return np.where(absent, np.nan, rows)


def as_rows(X):
    """Return rows with missing entries as a fit has them, but neither centred nor scaled."""
    return as_standardized_rows(X, identity_standardization(X.shape[1]))


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_found_from_observed_entries(share, seed):
    """Each feature alone separates them: 10 sds between neighbours."""
    rng = np.random.default_rng(3)
    centres = 3.0 * np.stack([range(4), [2, 0, 3, 1], [1, 3, 0, 2]], axis=1) - 4.5
    label = np.repeat(range(4), SIZES)
    X = with_missing(centres[label] + 0.3 * rng.normal(size=(300, 3)), share)
    found = cluster_rows(as_rows(X), 4, np.random.default_rng(seed), SETTINGS, seedings=8)
    np.testing.assert_array_equal(found.count, SIZES)
    parts = [X[label == k] for k in range(4)]
    np.testing.assert_allclose(found.mean, [np.nanmean(p, axis=0) for p in parts], atol=1e-12)
    np.testing.assert_allclose(variances(found), [np.nanvar(p, axis=0) for p in parts], rtol=1e-10)


def test_complete_rows_with_a_pattern_of_missing_entries_give_the_same_clusters(rows):
    given = as_rows(np.where(np.arange(600).reshape(300, 2) == 0, np.nan, rows))
    missing = given.missing._replace(observed=np.ones_like(given.missing.observed))
    found, expected = (
        cluster_rows(r, 4, np.random.default_rng(0), SETTINGS, seedings=8)
        for r in (Rows(rows, missing=missing), Rows(rows))
    )
    np.testing.assert_array_equal(found.count, expected.count)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_covariances_of_incomplete_rows_are_positive_semidefinite(form, share):
    """Features are nearly equal, where pairwise sums need not have positive eigenvalues."""
    rng = np.random.default_rng(7)
    X = with_missing(rng.normal(size=(60, 1)) + 0.05 * rng.normal(size=(60, 5)), share)
    found = cluster_rows(as_rows(X), 2, np.random.default_rng(0), SETTINGS, seedings=8)
    assert np.all(np.linalg.eigvalsh(found.covariance) > -1e-12)
    assert_sound(moments_from_clusters(found, form), form, 2, 5)


def test_feature_without_observations_in_a_cluster_keeps_its_centre():
    """Its variance is that of the prior, which counts as one row."""
    X = np.repeat(CENTRES, 10, axis=0) + 0.3 * np.random.default_rng(0).normal(size=(40, 2))
    X[:10, 1] = np.nan
    found = cluster_rows(as_rows(X), 4, np.random.default_rng(0), SETTINGS, CENTRES + 0.5)
    np.testing.assert_array_equal(found.count, 10)
    assert found.mean[0, 1] == CENTRES[0, 1] + 0.5
    for form in FORMS:
        assert_sound(moments_from_clusters(found, form), form, 4, 2)


def test_row_without_observed_entries_has_no_weight():
    X = np.repeat(CENTRES, 10, axis=0) + 0.3 * np.random.default_rng(0).normal(size=(40, 2))
    X[7] = np.nan
    for seed in range(20):
        found = cluster_rows(as_rows(X), 4, np.random.default_rng(seed), SETTINGS, seedings=8)
        assert found.count.sum() == pytest.approx(39)
        for k in range(4):
            assert np.abs(found.mean - CENTRES[k]).max(axis=1).min() < 1


# --- As many clusters as needed ---------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_bic_selects_the_clusters_that_exist_and_leaves_the_rest_empty(rows, form):
    """The largest first."""
    found = cluster_as_needed(Rows(rows / 3.6), 9, form, np.random.default_rng(0), SETTINGS)
    np.testing.assert_allclose(found.count, [*SIZES[::-1], 0, 0, 0, 0, 0], rtol=1e-14)
    np.testing.assert_allclose(found.mean[:4], CENTRES[::-1] / 3.6, atol=0.1)
    np.testing.assert_array_equal(found.mean[4:], 0)
    assert found.covariance.shape == (9, 2, 2)
    assert_sound(moments_from_clusters(found, form), form, 9, 2)


@pytest.mark.parametrize(("extra", "occupied"), [(0, 4), (1, 5), (9, 6)])
def test_extra_clusters_are_added_up_to_k(rows, extra, occupied):
    rng = np.random.default_rng(0)
    found = cluster_as_needed(Rows(rows / 3.6), 6, "diag", rng, SETTINGS, extra)
    assert np.count_nonzero(found.count) == occupied
    assert (np.diff(found.count) <= 0).all()
    np.testing.assert_allclose(found.count.sum(), sum(SIZES))


@pytest.mark.parametrize("form", FORMS)
def test_one_normal_cluster_is_not_divided(form):
    """Halves of a normal cost log 2 nats a row; their smaller variance, 1 - 2 / pi, gains 0.51."""
    one = Rows(np.random.default_rng(0).normal(size=(500, 2)))
    found = cluster_as_needed(one, 4, form, np.random.default_rng(0), SETTINGS)
    np.testing.assert_array_equal(found.count, [500, 0, 0, 0])
